//! Many messages, quickly: over few connections that stay open, and what became of each.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CONNECTIONS: usize = 16;
const MESSAGES_PER_USER: usize = 50;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Answers other than 201 that a fill may meet before the test gives up.
const FAILURES_MAX: usize = 100;

/// Texts that were confirmed, by user.
pub(super) type Filled = BTreeMap<String, Vec<String>>;

/// How many messages a test works with: `few` in the suite, `many` where `RINGWORK_TEST_SCALE=full` asks for what the
/// bars are about.
pub(super) fn scaled(few: usize, many: usize) -> usize {
    if is_full_scale() { many } else { few }
}

/// Whether as much is asked for as the bars are about.
pub(super) fn is_full_scale() -> bool {
    std::env::var("RINGWORK_TEST_SCALE").is_ok_and(|scale| scale == "full")
}

/// Sends that many messages to the nodes in turn.
pub(super) fn fill(nodes: &[SocketAddr], prefix: &str, count: usize) -> Filled {
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let filled: Mutex<Filled> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..CONNECTIONS {
            let (next, failures, filled) = (&next, &failures, &filled);
            let node = nodes[thread % nodes.len()];
            scope.spawn(move || {
                let mut connection = Connection::to(node);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let user = format!("{prefix}-{}", number / MESSAGES_PER_USER);
                    let text =
                        format!("message {number} of {prefix}, which is some seventy bytes long as a rule");
                    let path = format!("/chat/users/{user}/messages");
                    let answer = connection.ask("POST", &path, &format!(r#"{{"text": "{text}"}}"#));
                    match answer {
                        Some((201, _)) => filled.lock().unwrap().entry(user).or_default().push(text),
                        other => {
                            let failed = failures.fetch_add(1, Ordering::Relaxed);
                            assert!(failed < FAILURES_MAX, "sends fail: {other:?}");
                            connection = Connection::to(node);
                        }
                    }
                }
            });
        }
    });
    filled.into_inner().unwrap()
}

/// Sends each of so many users a message, confirmed by all replicas: whichever of them is asked has it.
pub(super) fn send_to_all(nodes: &[SocketAddr], users: usize, name: fn(usize) -> String) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..CONNECTIONS {
            let (next, node) = (&next, nodes[thread % nodes.len()]);
            scope.spawn(move || {
                let mut connection = Connection::to(node);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= users {
                        return;
                    }
                    let path = format!("/chat/users/{}/messages?w=3", name(number));
                    let confirmed = (0..20).any(|_| {
                        let answer = connection.ask("POST", &path, r#"{"text": "hello"}"#);
                        matches!(answer, Some((201, _))) || {
                            std::thread::sleep(Duration::from_millis(100));
                            connection = Connection::to(node);
                            false
                        }
                    });
                    assert!(confirmed, "user {number}");
                }
            });
        }
    });
}

/// Asks one node for every log, with r = 3: each confirmed message is there once. What a replica lacks is mended by
/// that.
pub(super) fn check_filled(node: SocketAddr, filled: &Filled) {
    let users: Vec<(&String, &Vec<String>)> = filled.iter().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::to(node);
                while let Some((user, texts)) = users.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = format!("/chat/users/{user}/messages?limit=1000&r=3");
                    let (status, body) = connection.ask("GET", &path, "").expect("an answer");
                    assert_eq!(status, 200, "{user} at {node}: {body}");
                    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
                    let mut shown: Vec<&str> = page["messages"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|m| m["text"].as_str().unwrap())
                        .collect();
                    shown.sort_unstable();
                    let all = shown.len();
                    shown.dedup();
                    assert_eq!(shown.len(), all, "{user} at {node}: something is there twice");
                    let missing: Vec<_> =
                        texts.iter().filter(|text| shown.binary_search(&text.as_str()).is_err()).collect();
                    assert!(
                        missing.is_empty(),
                        "{user} at {node}: {} are missing: {missing:?}",
                        missing.len()
                    );
                }
            });
        }
    });
}

pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(super) fn to(node: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&node, ANSWER_WITHIN).unwrap();
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n\
             {body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).ok()?;
            let header = line.trim().to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((status, String::from_utf8(body).ok()?))
    }
}
