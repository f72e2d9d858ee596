//! Who has messages, over the whole cluster: by page, as a stream, and while nodes die under it. A list is whole or
//! says that it is not.

use super::fill::{Connection, scaled, send_to_all};
use super::harness::Cluster;
use crate::node::{ask, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a node may take for all users beyond what it takes for a tenth of them: its memtables grow by what is sent
/// meanwhile, a list keeps 4 MiB waiting at most, and both are taken from the system in larger pieces.
const RESIDENT_MIB_MORE_MAX: u64 = 24;
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Long names, so that a stream of them does not fit into what lies between the node and a client that does not read.
fn name(number: usize) -> String {
    format!("user-{number:08}-{}", "x".repeat(100))
}

/// Goes on sending until told to stop; how many were confirmed.
fn send_on(node: SocketAddr, stop: &AtomicBool) -> usize {
    let mut connection = Connection::to(node);
    let mut confirmed = 0;
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/chat/users/{}/messages", name(confirmed % 100));
        match connection.ask("POST", &path, r#"{"text": "more"}"#) {
            Some((201, _)) => confirmed += 1,
            _ => connection = Connection::to(node),
        }
    }
    confirmed
}

/// What all nodes that run have in memory, in MiB, by number.
fn resident(cluster: &Cluster) -> Vec<u64> {
    cluster.running().into_iter().map(|number| cluster.node(number).resident_mib()).collect()
}

/// Looks until told to stop: the most that each of these had in memory.
fn most_resident(cluster: &Cluster, numbers: &[usize], stop: &AtomicBool) -> Vec<u64> {
    let mut most = vec![0; numbers.len()];
    while !stop.load(Ordering::Relaxed) {
        for (most, number) in most.iter_mut().zip(numbers) {
            *most = cluster.node(*number).resident_mib().max(*most);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    most
}

/// A stream of users that is read as slowly as a test wants.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(node: SocketAddr, prefix: &str) -> Self {
        let mut stream = TcpStream::connect_timeout(&node, ANSWER_WITHIN).unwrap();
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        let request = format!(
            "GET /chat/users?prefix={prefix} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
             accept: application/x-ndjson\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Self(reader)
    }

    /// The next chunk of the body; none at its end, or where the connection broke.
    fn chunk(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok().filter(|size| *size > 0)?;
        let mut bytes = vec![0; size + 2];
        self.0.read_exact(&mut bytes).ok()?;
        bytes.truncate(size);
        String::from_utf8(bytes).ok()
    }
}

/// A list of all users while it is read: each of them once, in order, none left out; and how it ended.
struct Reading {
    stream: Stream,
    listed: usize,
    rest: String,
    last: Option<Value>,
}

impl Reading {
    fn open(node: SocketAddr) -> Self {
        Self { stream: Stream::open(node, ""), listed: 0, rest: String::new(), last: None }
    }

    /// Reads on until so many are listed, or to the end, which is none of them where the connection broke.
    fn on(&mut self, until: usize) {
        while self.listed < until
            && let Some(chunk) = self.stream.chunk()
        {
            self.rest.push_str(&chunk);
            let end = self.rest.rfind('\n').map_or(0, |at| at + 1);
            for line in self.rest[..end].lines() {
                assert!(self.last.is_none(), "{line} behind the last line");
                let line: Value = serde_json::from_str(line).unwrap();
                match line["user"].as_str() {
                    Some(user) => {
                        assert_eq!(user, name(self.listed));
                        self.listed += 1;
                    }
                    None => self.last = Some(line),
                }
            }
            self.rest.drain(..end);
        }
    }

    /// Reads to the end: how many were listed, and the line that says how it ended, where there is one.
    fn finish(mut self) -> (usize, Option<Value>) {
        self.on(usize::MAX);
        (self.listed, self.last)
    }
}

/// All users, by page.
fn by_page(cluster: &Cluster, node: usize) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = cluster.ask(node, "GET", &format!("/chat/users?limit=1000{after}"), "");
        assert_eq!(page.status, 200, "{}", page.body);
        let page = page.json();
        all.extend(page["users"].as_array().unwrap().iter().map(|user| user.as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

fn metric(node: SocketAddr, name: &str) -> u64 {
    let metrics = ask(node, "GET", "/metrics", &[], "").unwrap().body;
    let line = metrics.lines().find(|line| line.starts_with(&format!("ringwork_{name}_total ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// What the nodes had in memory around something that was done, in MiB of each.
#[derive(Debug)]
struct Taken {
    before: Vec<u64>,
    most: Vec<u64>,
    after: Vec<u64>,
}

impl Taken {
    /// Does it while somebody looks.
    fn by<T>(cluster: &Cluster, what: &str, deed: impl FnOnce() -> T) -> (T, Self) {
        let (stop, numbers) = (AtomicBool::new(false), cluster.running());
        let before = resident(cluster);
        let begun = Instant::now();
        let (done, most) = std::thread::scope(|scope| {
            let looker = scope.spawn(|| most_resident(cluster, &numbers, &stop));
            let done = deed();
            stop.store(true, Ordering::Relaxed);
            (done, looker.join().unwrap())
        });
        let taken = Self { before, most, after: resident(cluster) };
        let Self { before, most, after } = &taken;
        println!("{what}, {:.1?}: before {before:?}, at most {most:?}, after {after:?}", begun.elapsed());
        (done, taken)
    }
}

/// Reads a stream to its end and keeps none of it but the last line: how many lines came before that.
fn count_listed(node: SocketAddr, prefix: &str) -> (usize, String) {
    let mut stream = Stream::open(node, prefix);
    let (mut listed, mut last) = (0, String::new());
    while let Some(chunk) = stream.chunk() {
        last.push_str(&chunk);
        let end = last.trim_end().rfind('\n').map_or(0, |at| at + 1);
        listed += last.drain(..end).filter(|letter| *letter == '\n').count();
    }
    (listed, last)
}

/// With a million users their names alone are 116 MB. The cache of the store is as small as it may be, nearly: what it
/// takes, and keeps, is a setting and not the list's. What sends take is shown first, without any list; then a small
/// list, for what each thread keeps to work with; and then it is as much for all users as for a tenth of them.
#[test]
fn a_list_takes_no_memory_of_its_own_while_sends_go_on() {
    let users = scaled(20_000, 1_000_000);
    let (few, prefix) = (scaled(1000, 100_000), &name(0)[..scaled(10, 8)]);
    let cluster = Cluster::start(3, &["store.cache_bytes=4MiB"]);
    let nodes: Vec<SocketAddr> = (0..3).map(|number| cluster.address(number)).collect();
    send_to_all(&nodes, users, name);
    let sends = scaled(200, 20_000);
    Taken::by(&cluster, &format!("{sends} sends and no list"), || {
        let mut connection = Connection::to(nodes[1]);
        for number in 0..sends {
            let path = format!("/chat/users/{}/messages", name(number % 100));
            assert!(matches!(connection.ask("POST", &path, r#"{"text": "more"}"#), Some((201, _))));
        }
    });
    let list = |what: &str, prefix: &str, expected: usize| {
        let stop = AtomicBool::new(false);
        let ((sent, (listed, last)), taken) = Taken::by(&cluster, what, || {
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| send_on(nodes[1], &stop));
                let counted = count_listed(nodes[0], prefix);
                stop.store(true, Ordering::Relaxed);
                (sender.join().unwrap(), counted)
            })
        });
        println!("meanwhile {sent} messages were sent");
        assert!(last.contains(r#""complete":true"#) && sent > 0, "{last}, {sent} sent");
        assert_eq!(listed, expected);
        taken
    };
    let few = list(&format!("a list of {few}"), prefix, few);
    for what in ["a list of all", "another of all"] {
        let all = list(what, "", users);
        for (few, all) in few.most.iter().zip(&all.most) {
            assert!(*all <= few + RESIDENT_MIB_MORE_MAX, "{few} MiB with few users, {all} with all");
        }
    }
}

#[test]
fn a_list_is_whole_while_a_node_dies_under_it_or_says_that_it_is_not() {
    let users = scaled(20_000, 1_000_000);
    let mut cluster = Cluster::start(4, &[]);
    let nodes: Vec<SocketAddr> = (0..4).map(|number| cluster.address(number)).collect();
    send_to_all(&nodes, users, name);
    let expected: Vec<String> = (0..users).map(name).collect();
    assert!(by_page(&cluster, 1) == expected, "by page");
    let prefix = cluster.ask(2, "GET", "/chat/users?prefix=user-0000001&limit=1000", "").json();
    assert_eq!(prefix["users"].as_array().unwrap().len(), 10);
    let output = cluster.node(3).run(&["chat", "users", "--prefix", "user-000001"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.lines().eq(&expected[100..200]), "{shown}");

    let whole = Some(serde_json::json!({"complete": true, "users": users}));
    // After each of them there is more to come than lies between the node and its client.
    let moments = scaled(1, 4);
    for (moment, dead) in [3, 2, 3, 2].into_iter().enumerate().take(moments) {
        let replaced = metric(nodes[0], "listing_parts_replaced");
        let stop = AtomicBool::new(false);
        let (before, listed, last) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| send_on(nodes[1], &stop));
            let mut read = Reading::open(nodes[0]);
            read.on(users * moment / moments + 1);
            let before = read.listed;
            assert!(before < users * (moment + 1) / (moments + 1), "the whole list at once");
            cluster.kill(dead);
            let (listed, last) = read.finish();
            stop.store(true, Ordering::Relaxed);
            assert!(sender.join().unwrap() > 0, "nothing was sent meanwhile");
            (before, listed, last)
        });
        println!("killed after {before} of {users}: {listed} listed, {last:?}");
        assert_eq!((listed, &last), (users, &whole));
        assert!(metric(nodes[0], "listing_parts_replaced") > replaced, "nobody had to take anybody's place");

        // What it has missed it does not know yet, so others answer for it, or it says so.
        cluster.start_again(dead);
        let (listed, last) = Reading::open(nodes[dead]).finish();
        assert!(last == whole || last.as_ref().unwrap()["complete"] == false, "{listed} listed, {last:?}");
        cluster.wait_settled();
    }

    // Whoever reads from a node that is killed is not told that the list is whole.
    let mut read = Reading::open(nodes[2]);
    read.on(1);
    cluster.kill(2);
    let (listed, last) = read.finish();
    assert!(listed < users && last.is_none(), "{listed} listed, {last:?}");
    cluster.start_again(2);
    cluster.wait_settled();

    for dead in [1, 2, 3] {
        cluster.kill(dead);
    }
    let refused = cluster.ask(0, "GET", "/chat/users", "");
    assert!([503, 504].contains(&refused.status), "{}", refused.body);
    wait_until("it is known that nobody can be asked", || {
        let answer = cluster.ask(0, "GET", "/chat/users", "");
        answer.status == 503 && answer.json()["code"] == "uncovered"
    });
    let output = cluster.node(0).run(&["chat", "users"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("no complete replica"), "{said}");
}
