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

/// What a node may take beyond what it had before a list: its memtables and the cache of what it
/// reads (64 MiB) fill meanwhile.
const RESIDENT_MIB_MORE_MAX: u64 = 128;
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
    fn open(node: SocketAddr) -> Self {
        let mut stream = TcpStream::connect_timeout(&node, ANSWER_WITHIN).unwrap();
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        let request = "GET /chat/users HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
                       accept: application/x-ndjson\r\n\r\n";
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

    /// The users, and the line that says how it ended.
    fn read_to_end(mut self, mut text: String) -> (Vec<String>, Value) {
        while let Some(chunk) = self.chunk() {
            text.push_str(&chunk);
        }
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.pop().unwrap_or_default();
        (lines.iter().map(|line| line["user"].as_str().unwrap().to_owned()).collect(), last)
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

/// With a million users their names alone are 116 MB.
#[test]
fn a_list_takes_no_memory_of_its_own_while_sends_go_on() {
    let users = scaled(20_000, 1_000_000);
    let cluster = Cluster::start(3, &[]);
    let nodes: Vec<SocketAddr> = (0..3).map(|number| cluster.address(number)).collect();
    let begun = Instant::now();
    send_to_all(&nodes, users, name);
    println!("{users} users after {:.1?}", begun.elapsed());
    let before = resident(&cluster);
    let (stop, numbers) = (AtomicBool::new(false), [0, 1, 2]);
    let begun = Instant::now();
    let (listed, last, sent, most) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_on(nodes[1], &stop));
        let looker = scope.spawn(|| most_resident(&cluster, &numbers, &stop));
        let mut stream = Stream::open(nodes[0]);
        let (mut listed, mut last) = (0, String::new());
        while let Some(chunk) = stream.chunk() {
            last.push_str(&chunk);
            let end = last.trim_end().rfind('\n').map_or(0, |at| at + 1);
            listed += last.drain(..end).filter(|letter| *letter == '\n').count();
        }
        stop.store(true, Ordering::Relaxed);
        (listed, last, sender.join().unwrap(), looker.join().unwrap())
    });
    let took = begun.elapsed();
    println!("listed within {took:.1?} while {sent} messages were sent; resident, in MiB of each node:");
    println!("before {before:?}, at most {most:?}, after {:?}", resident(&cluster));
    assert!(last.contains(r#""complete":true"#) && sent > 0, "{last}, {sent} sent");
    assert_eq!(listed, users);
    for (before, most) in before.iter().zip(&most) {
        assert!(*most <= before + RESIDENT_MIB_MORE_MAX, "{before} MiB before, {most} meanwhile");
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

    let stop = AtomicBool::new(false);
    let (shown, last) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_on(nodes[1], &stop));
        let mut stream = Stream::open(nodes[0]);
        let first = stream.chunk().unwrap();
        assert!(first.lines().count() < users / 2, "the whole list at once");
        cluster.kill(3);
        let read = stream.read_to_end(first);
        stop.store(true, Ordering::Relaxed);
        assert!(sender.join().unwrap() > 0, "nothing was sent meanwhile");
        read
    });
    assert_eq!(last, serde_json::json!({"complete": true, "users": users}), "of {}", shown.len());
    assert!(shown == expected, "each of them once, in order");
    assert!(metric(nodes[0], "listing_parts_replaced") > 0, "nobody had to take anybody's place");

    // What it has missed it does not know yet, so others answer for it, or it says so.
    cluster.start_again(3);
    let (shown, last) = Stream::open(nodes[3]).read_to_end(String::new());
    assert!(last["complete"] == false || shown == expected, "{last}");

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
