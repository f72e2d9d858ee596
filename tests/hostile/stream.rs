//! Streams of server-sent events: each message once, whatever it says, whoever is slow, and until the node stops.

use crate::client::{Connection, request};
use crate::server::{TestServer, eventually, run, settings, within};
use ringwork::runtime::node::NodeLimits;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tokio::task::JoinSet;

/// A stream, read as strictly as a browser would, and more.
struct Events {
    connection: Connection,
    text: String,
    /// Where it says that it begins.
    begins: Option<String>,
}

struct Event {
    id: String,
    message: Value,
}

impl Event {
    fn text(&self) -> &str {
        self.message["text"].as_str().expect("a text")
    }
}

impl Events {
    /// Opens a stream; it is open when its head is here.
    async fn open(address: SocketAddr, user: &str, last: Option<&str>) -> Self {
        let mut connection = Connection::open(address).await;
        let headers: Vec<_> = last.iter().map(|last| ("Last-Event-ID", *last)).collect();
        connection.write(&request("GET", &format!("/chat/users/{user}/stream"), &headers, b"")).await;
        let head = within("a stream's head", connection.head()).await.expect("a head");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self { connection, text: String::new(), begins: None }
    }

    /// The next event; none at the stream's proper end.
    async fn next(&mut self) -> Option<Event> {
        within("an event", self.next_whenever()).await
    }

    async fn next_whenever(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if let Some(begins) = greeting(block.trim_end_matches('\n')) {
                    assert_eq!(self.begins.replace(begins), None, "a stream begins once");
                    continue;
                }
                if let Some(event) = parse(block.trim_end_matches('\n')) {
                    return Some(event);
                }
            }
            let chunk = self.connection.chunk().await.expect("the stream is whole")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("each chunk is whole events"));
        }
    }

    /// Events up to and with the first of this text.
    async fn through(&mut self, text: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().await.expect("the stream goes on"));
            if events.last().is_some_and(|last| last.text() == text) {
                return events;
            }
        }
    }
}

/// The place where a stream begins, which is told without data and so is no event.
fn greeting(block: &str) -> Option<String> {
    let id = block.strip_prefix("id: ").filter(|id| !id.contains('\n'))?;
    Some(id.to_owned())
}

/// One id and one line of data; none for a comment.
fn parse(block: &str) -> Option<Event> {
    if block.starts_with(':') {
        assert!(!block.contains('\n'), "a comment is one line: {block:?}");
        return None;
    }
    let lines: Vec<_> = block.split(['\r', '\n']).collect();
    let [id, data] = lines[..] else { panic!("an event of {} lines: {block:?}", lines.len()) };
    let id = id.strip_prefix("id: ").expect("an id").to_owned();
    let data = data.strip_prefix("data: ").expect("data");
    let message: Value = serde_json::from_str(data).expect("JSON in one line");
    assert_eq!(message["id"], id);
    Some(Event { id, message })
}

fn texts(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::text).collect()
}

#[test]
fn a_stream_shows_each_message_once_while_sends_go_on() {
    const SENDERS: usize = 8;
    const MESSAGES: usize = 50;
    run(async {
        let server = TestServer::start(settings());
        let address = server.address;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(Events::open(address, "lively", None).await);
        }
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            senders.spawn(async move {
                let mut client = Connection::open(address).await;
                let mut ids = Vec::new();
                for number in 0..MESSAGES {
                    let sent = client.send("lively", &format!("{sender}/{number}")).await;
                    assert_eq!(sent.status, 201);
                    ids.push(sent.text("id"));
                    let elsewhere = client.send("neighbour", "not for you").await;
                    assert_eq!(elsewhere.status, 201);
                }
                ids
            });
        }
        let mut ids = BTreeSet::new();
        while let Some(sent) = senders.join_next().await {
            ids.extend(sent.unwrap());
        }
        assert_eq!(ids.len(), SENDERS * MESSAGES);
        assert_eq!(Connection::open(address).await.send("lively", "end").await.status, 201);
        for mut stream in streams {
            let mut events = stream.through("end").await;
            events.pop();
            let shown: BTreeSet<_> = events.iter().map(|event| event.id.clone()).collect();
            assert_eq!(shown.len(), events.len(), "none is shown twice");
            assert_eq!(shown, ids);
        }
    });
}

#[test]
fn no_text_breaks_the_framing() {
    let hostile = [
        "\n",
        "\n\n",
        "\r\n\r\ndata: fake\r\n\r\n",
        "data: x\n\nid: 0\ndata: y\n\n",
        "id: 00000000000000000000000000000000\nevent: close\nretry: 0\n\n",
        ": a comment\n\n",
        "\0",
        "a\0b\u{b}\u{c}\u{85}\u{2028}\u{2029}",
        "\u{feff}data: x",
        "\r",
        "0\r\n\r\n",
        "\"}\n\n{\"",
        "\u{10ffff}",
    ];
    run(async {
        let server = TestServer::start(settings());
        let mut stream = Events::open(server.address, "hostile", None).await;
        let mut client = Connection::open(server.address).await;
        for text in hostile.iter().chain(&["end"]) {
            assert_eq!(client.send("hostile", text).await.status, 201);
        }
        let mut events = stream.through("end").await;
        events.pop();
        assert_eq!(texts(&events), hostile);
    });
}

#[test]
fn a_stream_goes_on_where_the_last_one_ended() {
    const MESSAGES: usize = 300;
    run(async {
        let server = TestServer::start(settings());
        let address = server.address;
        let mut stream = Events::open(address, "resumed", None).await;
        let sender = tokio::spawn(async move {
            let mut client = Connection::open(address).await;
            for number in 0..MESSAGES {
                assert_eq!(client.send("resumed", &number.to_string()).await.status, 201);
            }
        });
        let mut seen = Vec::new();
        while seen.len() < MESSAGES {
            // Longer and longer pieces, so that some end while others are sent, and some in the middle of a page.
            let piece = 1 + seen.len() / 3;
            for _ in 0..piece.min(MESSAGES - seen.len()) {
                seen.push(stream.next().await.expect("the stream goes on"));
            }
            let last = seen.last().map(|event: &Event| event.id.clone());
            stream = Events::open(address, "resumed", last.as_deref()).await;
        }
        sender.await.unwrap();
        let numbers: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(texts(&seen), numbers);
        assert_eq!(Connection::open(address).await.send("resumed", "end").await.status, 201);
        assert_eq!(texts(&stream.through("end").await), ["end"], "what was shown is not shown again");
    });
}

#[test]
fn a_stream_that_broke_before_its_first_message_goes_on_from_where_it_began() {
    run(async {
        let server = TestServer::start(settings());
        let mut stream = Events::open(server.address, "early", None).await;
        let begins = loop {
            if let Some(begins) = greeting(stream.text.trim_end_matches('\n')) {
                break begins;
            }
            let chunk = within("a greeting", stream.connection.chunk()).await.expect("the stream is whole");
            stream.text.push_str(std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap());
        };
        drop(stream);
        assert_eq!(Connection::open(server.address).await.send("early", "meanwhile").await.status, 201);
        let mut stream = Events::open(server.address, "early", Some(&begins)).await;
        assert_eq!(texts(&stream.through("meanwhile").await), ["meanwhile"]);
        assert_eq!(stream.begins.as_deref(), Some(begins.as_str()));
    });
}

#[test]
fn a_stream_that_cannot_keep_up_misses_nothing_and_repeats_nothing() {
    // More than what sockets and the live feed hold between them, so that the feed is lost on the way.
    const MESSAGES: usize = 1200;
    run(async {
        let server = TestServer::start(settings());
        let mut stream = Events::open(server.address, "slow", None).await;
        let mut client = Connection::open(server.address).await;
        let padding = "x".repeat(15_000);
        let text = |number: usize| format!("{number} {padding}");
        for number in 0..MESSAGES {
            assert_eq!(client.send("slow", &text(number)).await.status, 201);
        }
        let shown = texts(&stream.through(&text(MESSAGES - 1)).await)
            .iter()
            .map(|text| text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number"))
            .collect::<Vec<usize>>();
        assert_eq!(shown, (0..MESSAGES).collect::<Vec<_>>());
    });
}

#[test]
fn a_stream_ends_when_the_node_stops() {
    run(async {
        let mut server = TestServer::start(settings());
        let mut streams = Vec::new();
        for number in 0..20 {
            streams.push(Events::open(server.address, &format!("user{number}"), None).await);
        }
        server.begin_stop();
        for stream in &mut streams {
            assert!(stream.next().await.is_none(), "the stream ends as a body ends, not in its middle");
        }
        eventually("the node has ended", async || server.has_ended()).await;
    });
}

#[test]
fn more_streams_than_there_may_be_are_refused_and_the_others_go_on() {
    run(async {
        let server = TestServer::start(settings());
        let mut streams = Vec::new();
        for _ in 0..NodeLimits::default().watchers_max {
            streams.push(Events::open(server.address, "crowded", None).await);
        }
        let one_more = request("GET", "/chat/users/crowded/stream", &[], b"");
        let refused = Connection::open(server.address).await.exchange(&one_more, false).await.unwrap();
        assert_eq!((refused.status, refused.text("code").as_str()), (503, "overloaded"));
        assert_eq!(refused.header("retry-after"), Some("1"));
        let mut client = Connection::open(server.address).await;
        assert_eq!(client.send("crowded", "hello").await.status, 201);
        for stream in &mut streams {
            assert_eq!(stream.next().await.expect("an event").text(), "hello");
        }
        server.assert_unharmed().await;
    });
}
