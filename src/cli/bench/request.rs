//! The bytes of each request: to whom, what, and whether it reads or writes. It decides what is sent at
//! random, so that every message is new and none compresses to nothing. It does not know where the bytes go.

use std::cell::Cell;
use std::rc::Rc;

/// Every text begins with this many digits that no other text has.
pub(super) const UNIQUE_BYTES: usize = 16;
/// Digits of a user's number; a fixed count keeps every request of a kind the same length.
const USER_DIGITS: usize = 7;
/// Most users that the digits can name.
pub(super) const USERS_MAX: u64 = 10_000_000;
/// What texts are cut from, at a random place each: copying is cheaper than drawing each character.
const POOL_BYTES: usize = 64 * 1024;

/// SplitMix64 (Steele, Lea and Flood, 2014): enough to choose users with, and reproducible.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        // The upper half of the product is below `end`; it fits because `end` does.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Whether something of probability `share` happens.
    fn happens(&mut self, share: f64) -> bool {
        // 53 bits are what an f64 holds exactly.
        ((self.next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

/// A permutation of the 64-bit numbers: different ones stay different.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mixture {
    /// Sends and gets to random users, of which this share are gets.
    Chat { read_share: f64 },
    /// Sends to one user after another, the same number to each.
    Fill,
    /// Puts and gets of random keys, of which this share are gets.
    Kv { read_share: f64 },
    /// Puts of one key after another.
    KvFill,
    /// The bodies of sends to `/echo`.
    Echo,
}

impl Mixture {
    /// What fills a server before this is measured.
    pub(super) fn filling(self) -> Self {
        match self {
            Self::Kv { .. } => Self::KvFill,
            _ => Self::Fill,
        }
    }

    fn read_share(self) -> f64 {
        match self {
            Self::Chat { read_share } | Self::Kv { read_share } => read_share,
            Self::Fill | Self::KvFill | Self::Echo => 0.0,
        }
    }

    fn is_kv(self) -> bool {
        matches!(self, Self::Kv { .. } | Self::KvFill)
    }
}

/// What one request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Writes: sends a message, or puts an object.
    Send,
    /// Reads.
    Get,
}

/// The sizes of a workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Bytes of a text or a value.
    pub(super) value: usize,
    /// How many users or keys there are.
    pub(super) users: u64,
    /// Most messages of a page.
    pub(super) limit: u32,
}

/// What the makers of all connections share.
#[derive(Debug)]
pub(super) struct Texts {
    pool: Vec<u8>,
    counter: Cell<u64>,
    nonce: u64,
}

impl Texts {
    /// Texts of `value_bytes`; another `nonce` gives other texts.
    pub(super) fn new(nonce: u64, value_bytes: usize) -> Rc<Self> {
        const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random = Random::new(nonce);
        let pool = (0..POOL_BYTES + value_bytes).map(|_| CHARACTERS[(random.next() % 64) as usize]).collect();
        Rc::new(Self { pool, counter: Cell::new(0), nonce: mix(nonce) })
    }

    fn next_number(&self) -> u64 {
        let number = self.counter.get();
        self.counter.set(number + 1);
        number
    }
}

/// Makes the requests of one connection.
pub(super) struct RequestMaker {
    mixture: Mixture,
    sizes: Sizes,
    texts: Rc<Texts>,
    random: Random,
    /// `Host` and what follows it, up to the body's text.
    send_tail: Vec<u8>,
    get_tail: Vec<u8>,
    /// What follows the text.
    body_end: &'static [u8],
    request: Vec<u8>,
}

impl RequestMaker {
    pub(super) fn new(mixture: Mixture, sizes: Sizes, authority: &str, texts: Rc<Texts>, seed: u64) -> Self {
        let (body_begin, body_end, media_type) = if mixture.is_kv() {
            ("", "", "text/plain")
        } else {
            ("{\"text\":\"", "\"}", "application/json")
        };
        let length = sizes.value.max(UNIQUE_BYTES) + body_begin.len() + body_end.len();
        let send_tail = format!(
            "HTTP/1.1\r\nhost: {authority}\r\ncontent-type: {media_type}\r\n\
             content-length: {length}\r\n\r\n{body_begin}"
        );
        let page = if mixture.is_kv() { String::new() } else { format!("/messages?limit={}", sizes.limit) };
        let get_tail = format!("{page} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
        let (send_tail, get_tail) = (send_tail.into_bytes(), get_tail.into_bytes());
        let (random, body_end) = (Random::new(seed), body_end.as_bytes());
        Self { mixture, sizes, texts, random, send_tail, get_tail, body_end, request: Vec::new() }
    }

    /// Makes the next request; [`RequestMaker::bytes`] has it.
    pub(super) fn next(&mut self) -> Operation {
        self.request.clear();
        let read_share = self.mixture.read_share();
        if read_share > 0.0 && self.random.happens(read_share) {
            let path: &[u8] = if self.mixture.is_kv() {
                b"GET /buckets/bench/keys/bench-"
            } else {
                b"GET /chat/users/bench-"
            };
            self.request.extend_from_slice(path);
            let user = self.random.below(self.sizes.users);
            self.push_user(user);
            self.request.extend_from_slice(&self.get_tail);
            return Operation::Get;
        }
        let number = self.texts.next_number();
        match self.mixture {
            Mixture::Echo => self.request.extend_from_slice(b"POST /echo "),
            Mixture::Fill => self.push_send(number % self.sizes.users.max(1)),
            Mixture::KvFill => self.push_put(number % self.sizes.users.max(1)),
            Mixture::Chat { .. } => {
                let user = self.random.below(self.sizes.users);
                self.push_send(user);
            }
            Mixture::Kv { .. } => {
                let key = self.random.below(self.sizes.users);
                self.push_put(key);
            }
        }
        self.request.extend_from_slice(&self.send_tail);
        self.push_text(number);
        self.request.extend_from_slice(self.body_end);
        Operation::Send
    }

    /// The request made last, to be written at once.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.request
    }

    fn push_send(&mut self, user: u64) {
        self.request.extend_from_slice(b"POST /chat/users/bench-");
        self.push_user(user);
        self.request.extend_from_slice(b"/messages ");
    }

    fn push_put(&mut self, key: u64) {
        self.request.extend_from_slice(b"PUT /buckets/bench/keys/bench-");
        self.push_user(key);
        self.request.push(b' ');
    }

    fn push_user(&mut self, mut user: u64) {
        let mut digits = [b'0'; USER_DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (user % 10) as u8;
            user /= 10;
        }
        self.request.extend_from_slice(&digits);
    }

    fn push_text(&mut self, number: u64) {
        const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";
        // Mixed, so that texts made after one another do not begin alike: that too would compress.
        let unique = mix(self.texts.nonce.wrapping_add(number));
        self.request
            .extend((0..UNIQUE_BYTES).map(|place| HEXADECIMAL[(unique >> (4 * place)) as usize & 15]));
        let rest = self.sizes.value.saturating_sub(UNIQUE_BYTES);
        let from = (unique % POOL_BYTES as u64) as usize;
        self.request.extend_from_slice(self.texts.pool.get(from..from + rest).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SIZES: Sizes = Sizes { value: 100, users: 50, limit: 20 };

    fn maker(mixture: Mixture) -> RequestMaker {
        RequestMaker::new(mixture, SIZES, "127.0.0.1:8098", Texts::new(7, SIZES.value), 1)
    }

    fn body(request: &[u8]) -> (String, serde_json::Value) {
        let request = String::from_utf8(request.to_vec()).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), body.len());
        (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn no_two_texts_are_the_same_and_all_have_the_size_asked_for() {
        let mut maker = maker(Mixture::Chat { read_share: 0.0 });
        let mut texts = BTreeSet::new();
        for _ in 0..1000 {
            assert_eq!(maker.next(), Operation::Send);
            let (_, body) = body(maker.bytes());
            let text = body["text"].as_str().unwrap();
            assert_eq!(text.len(), 100);
            assert!(texts.insert(text[..UNIQUE_BYTES].to_owned()));
        }
    }

    #[test]
    fn reads_take_their_share_and_users_their_turn() {
        let mut maker = maker(Mixture::Chat { read_share: 0.25 });
        let mut users: BTreeMap<String, u32> = BTreeMap::new();
        let gets = (0..10_000).filter(|_| maker.next() == Operation::Get).count();
        assert!((2300..2700).contains(&gets), "{gets}");
        for _ in 0..10_000 {
            maker.next();
            let line = String::from_utf8(maker.bytes().to_vec()).unwrap();
            *users.entry(line.split('/').nth(3).unwrap().to_owned()).or_default() += 1;
        }
        assert_eq!(users.len(), 50);
        assert!(users.contains_key("bench-0000049") && users.values().all(|count| *count > 100));
    }

    #[test]
    fn a_get_asks_for_a_page_and_an_echo_for_nothing_else() {
        let mut reader = maker(Mixture::Chat { read_share: 1.0 });
        reader.next();
        let get = String::from_utf8(reader.bytes().to_vec()).unwrap();
        assert!(
            get.starts_with("GET /chat/users/bench-00000") && get.contains("/messages?limit=20 HTTP/1.1\r\n"),
            "{get}"
        );
        assert!(get.ends_with("host: 127.0.0.1:8098\r\n\r\n"));
        let mut echo = maker(Mixture::Echo);
        echo.next();
        assert_eq!(body(echo.bytes()).0, "POST /echo HTTP/1.1");
    }

    #[test]
    fn filling_serves_one_user_after_another() {
        let mut maker = maker(Mixture::Fill);
        for number in 0..120_u64 {
            maker.next();
            let line = format!("POST /chat/users/bench-{:07}/messages HTTP/1.1", number % 50);
            assert_eq!(body(maker.bytes()).0, line);
        }
    }

    #[test]
    fn objects_are_put_as_they_are_and_read_whole() {
        let mut writer = maker(Mixture::Kv { read_share: 0.0 });
        assert_eq!(writer.next(), Operation::Send);
        let put = String::from_utf8(writer.bytes().to_vec()).unwrap();
        let (head, value) = put.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("PUT /buckets/bench/keys/bench-00000"), "{head}");
        assert!(head.contains("content-length: 100") && head.contains("content-type: text/plain"), "{head}");
        assert_eq!(value.len(), 100);
        let mut reader = maker(Mixture::Kv { read_share: 1.0 });
        assert_eq!(reader.next(), Operation::Get);
        let get = String::from_utf8(reader.bytes().to_vec()).unwrap();
        assert!(
            get.starts_with("GET /buckets/bench/keys/bench-00000") && get.contains(" HTTP/1.1\r\n"),
            "{get}"
        );
        let mut filler = maker(Mixture::Kv { read_share: 0.5 }.filling());
        for key in 0..60_u64 {
            assert_eq!(filler.next(), Operation::Send);
            let put = String::from_utf8(filler.bytes().to_vec()).unwrap();
            assert!(
                put.starts_with(&format!("PUT /buckets/bench/keys/bench-{:07} HTTP/1.1", key % 50)),
                "{put}"
            );
        }
    }
}
