//! HTTP/1.1 as the load generator needs it: requests are bytes made beforehand, answers are read for status,
//! length and, of a refusal, its code. It does not know what is asked, over what, nor when.
//!
//! It is written by hand and does not use `awc`, which the other commands do: that client spends about as
//! much CPU on a request as a node does, and on a machine of two cores the node would be measured with half
//! of its machine gone.

use serde_json::Value;

/// Most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most bytes that an answer may announce. They are counted and thrown away, so this bounds time and not
/// memory.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a refusal's body that are kept for its code.
const KEPT_BYTES_MAX: usize = 4096;

/// Why an answer cannot be followed; the connection is useless after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("its first line is not HTTP/1.1's")]
    StatusLine,
    #[error("its head has a line that is no header")]
    Header,
    #[error("its head is too long")]
    HeadTooLong,
    #[error("its length is missing or contradictory")]
    Length,
    #[error("it is chunked, which the load generator does not read")]
    Chunked,
    #[error("it is too long")]
    BodyTooLong,
    #[error("more bytes came than it announced")]
    Excess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body { remaining: u64 },
    Done,
}

/// Reads one answer after another of one connection, in whatever pieces they come.
#[derive(Debug)]
pub(super) struct ResponseParser {
    state: State,
    head: Vec<u8>,
    kept: Vec<u8>,
    status: u16,
    closes: bool,
    bytes: u64,
}

impl ResponseParser {
    pub(super) fn new() -> Self {
        Self { state: State::Head, head: Vec::new(), kept: Vec::new(), status: 0, closes: false, bytes: 0 }
    }

    /// Forgets the last answer. Its buffers stay, so the next one allocates nothing.
    pub(super) fn begin(&mut self) {
        self.state = State::Head;
        self.head.clear();
        self.kept.clear();
        self.status = 0;
        self.closes = false;
        self.bytes = 0;
    }

    /// Takes the next bytes; true when the answer is complete with them.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<bool, Malformed> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            match self.state {
                State::Head => bytes = self.feed_head(bytes)?,
                State::Body { remaining } => {
                    let here = bytes.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
                    let (body, rest) = bytes.split_at(here);
                    if !self.is_success() {
                        let room = KEPT_BYTES_MAX.saturating_sub(self.kept.len());
                        self.kept.extend(body.iter().take(room));
                    }
                    let remaining = remaining.saturating_sub(here as u64);
                    self.state = if remaining == 0 { State::Done } else { State::Body { remaining } };
                    bytes = rest;
                }
                State::Done => return Err(Malformed::Excess),
            }
        }
        Ok(self.state == State::Done)
    }

    /// Collects the head and returns what comes after it.
    fn feed_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        const END: &[u8] = b"\r\n\r\n";
        // Bytes of an end that may already be there.
        let before = self.head.len();
        let room = HEAD_BYTES_MAX - before;
        let (taken, _) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(taken);
        let from = before.saturating_sub(END.len() - 1);
        let found =
            self.head.get(from..).unwrap_or_default().windows(END.len()).position(|window| window == END);
        let Some(position) = found else {
            return if self.head.len() == HEAD_BYTES_MAX { Err(Malformed::HeadTooLong) } else { Ok(&[]) };
        };
        let end = from + position + END.len();
        self.head.truncate(end);
        let rest = bytes.get(end - before..).unwrap_or_default();
        self.read_head()?;
        Ok(rest)
    }

    fn read_head(&mut self) -> Result<(), Malformed> {
        let mut lines =
            self.head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let (status, is_persistent) = read_status_line(lines.next().unwrap_or_default())?;
        let mut length: Option<u64> = None;
        let mut closes = !is_persistent;
        for line in lines {
            if line.is_empty() {
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed::Header)?;
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
                return Err(Malformed::Header);
            }
            if name.eq_ignore_ascii_case(b"content-length") {
                let announced = read_number(value).ok_or(Malformed::Length)?;
                // Two lengths are how requests are smuggled past proxies; an honest node sends one.
                if length.is_some_and(|earlier| earlier != announced) {
                    return Err(Malformed::Length);
                }
                length = Some(announced);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                return Err(Malformed::Chunked);
            } else if name.eq_ignore_ascii_case(b"connection") {
                closes |= value.eq_ignore_ascii_case(b"close");
            }
        }
        if status < 200 {
            // Interim; the answer itself follows.
            self.head.clear();
            return Ok(());
        }
        let length = match (status, length) {
            (204 | 304, _) => 0,
            (_, None) => return Err(Malformed::Length),
            (_, Some(length)) if length > BODY_BYTES_MAX => return Err(Malformed::BodyTooLong),
            (_, Some(length)) => length,
        };
        self.status = status;
        self.closes = closes;
        self.state = if length == 0 { State::Done } else { State::Body { remaining: length } };
        Ok(())
    }

    /// Whether the answer says that it was done.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the connection ends with this answer.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// Bytes of the answer, head and body.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether anything of the answer has come.
    #[cfg(test)]
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// What kind of refusal this is: the status and, from a problem document, its code.
    pub(super) fn refusal(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.kept).unwrap_or_default();
        let code = problem.get("code").and_then(Value::as_str).unwrap_or_default();
        if code.is_empty() { self.status.to_string() } else { format!("{} {code}", self.status) }
    }
}

/// Status, and whether the connection stays open unless a header says otherwise.
fn read_status_line(line: &[u8]) -> Result<(u16, bool), Malformed> {
    let (version, rest) = line.split_at_checked(b"HTTP/1.1 ".len()).ok_or(Malformed::StatusLine)?;
    let is_persistent = match version {
        b"HTTP/1.1 " => true,
        b"HTTP/1.0 " => false,
        _ => return Err(Malformed::StatusLine),
    };
    let (digits, reason) = rest.split_at_checked(3).ok_or(Malformed::StatusLine)?;
    let status =
        read_number(digits).and_then(|status| u16::try_from(status).ok()).ok_or(Malformed::StatusLine)?;
    if !(100..600).contains(&status) || !(reason.is_empty() || reason.starts_with(b" ")) {
        return Err(Malformed::StatusLine);
    }
    Ok((status, is_persistent))
}

/// A number of nothing but digits: no sign, no blank, as RFC 9110 has it.
fn read_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Outcome = Result<(u16, bool, u64, String), Malformed>;

    fn read(pieces: &[&[u8]]) -> Outcome {
        let mut parser = ResponseParser::new();
        let mut done = false;
        for piece in pieces {
            done = parser.feed(piece)?;
        }
        assert_eq!(
            done || pieces.concat().is_empty(),
            parser.state == State::Done || pieces.concat().is_empty()
        );
        Ok((parser.status(), done, parser.bytes(), parser.refusal()))
    }

    #[test]
    fn a_plain_answer_is_read() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(read(&[answer]), Ok((201, true, answer.len() as u64, "201".to_owned())));
        assert_eq!(read(&[b"HTTP/1.1 204\r\n\r\n"]).map(|read| read.1), Ok(true));
        assert_eq!(
            read(&[b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhell"]).map(|read| read.1),
            Ok(false)
        );
        let interim = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n";
        assert_eq!(read(&[interim]).map(|read| (read.0, read.1)), Ok((200, true)));
    }

    #[test]
    fn a_refusal_is_named_by_status_and_code() {
        let body = r#"{"code":"overload","status":503}"#;
        let answer = format!("HTTP/1.1 503 Busy\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(read(&[answer.as_bytes()]).map(|read| read.3), Ok("503 overload".to_owned()));
    }

    #[test]
    fn the_connection_ends_when_the_answer_says_so() {
        let closes = |answer: &[u8]| {
            let mut parser = ResponseParser::new();
            assert_eq!(parser.feed(answer), Ok(true));
            let closes = parser.closes();
            parser.begin();
            assert!(!parser.closes());
            closes
        };
        assert!(closes(b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n"));
        assert!(closes(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!closes(b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"));
    }

    #[test]
    fn hostile_heads_are_refused() {
        let cases: [(&[u8], Malformed); 14] = [
            (b"HTTP/2.0 200 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 2x0 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 2000 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 999 OK\r\n\r\n", Malformed::StatusLine),
            (b"\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Malformed::Header),
            (b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\n", Malformed::Header),
            (b"HTTP/1.1 200 OK\r\n: 5\r\n\r\n", Malformed::Header),
            (b"HTTP/1.1 200 OK\r\n\r\n", Malformed::Length),
            (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Malformed::Length),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", Malformed::Length),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n", Malformed::Length),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999999\r\n\r\n", Malformed::BodyTooLong),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Malformed::Chunked),
        ];
        for (head, malformed) in cases {
            assert_eq!(read(&[head]), Err(malformed), "{}", String::from_utf8_lossy(head));
        }
        assert_eq!(read(&[&[b'x'; HEAD_BYTES_MAX]]), Err(Malformed::HeadTooLong));
        assert_eq!(read(&[b"HTTP/1.1 204 No\r\n\r\nsmuggled"]), Err(Malformed::Excess));
        let endless = [b"HTTP/1.1 103 Early\r\n\r\n".as_slice(); 4].concat();
        assert_eq!(read(&[&endless]).map(|read| read.1), Ok(false));
    }

    #[test]
    fn of_a_long_refusal_only_the_beginning_is_kept() {
        let mut parser = ResponseParser::new();
        assert_eq!(parser.feed(b"HTTP/1.1 500 Oh\r\ncontent-length: 1000000\r\n\r\n"), Ok(false));
        assert_eq!(parser.feed(&vec![b'x'; 999_999]), Ok(false));
        assert_eq!(parser.feed(b"x"), Ok(true));
        assert_eq!((parser.kept.len(), parser.refusal()), (KEPT_BYTES_MAX, "500".to_owned()));
    }

    proptest! {
        #[test]
        fn any_cuts_of_an_answer_give_the_same_result(
            status in prop::sample::select(vec!["200 OK", "201", "204 No", "503 Busy", "103 Early", "9"]),
            headers in prop::collection::vec(prop::sample::select(vec![
                "content-length: 17", "Content-Length:17", "connection: close", "x: y", "broken",
                "content-length: 3"]), 0..4),
            body in prop::sample::select(vec![r#"{"code":"a bcde"}"#, "abc", "", "HTTP/1.1 200 OK\r\n\r\n"]),
            cuts in prop::collection::vec(0usize..120, 0..4),
        ) {
            let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
            headers.iter().for_each(|header| bytes.extend(format!("{header}\r\n").into_bytes()));
            bytes.extend(format!("\r\n{body}").into_bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&bytes]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]).is_ok(), read(&[&bytes]).is_ok());
        }
    }
}
