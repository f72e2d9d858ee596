//! Far more requests than there is room for. The excess is told so at once, memory keeps its bounds, nothing that
//! was acknowledged is lost, and nothing that was refused is there.

use crate::client::{Answer, Connection, send};
use crate::rows::keyed;
use crate::server::{DEADLINE, SlowStore, TestServer, Turn, open_files_max, run, settings, within};
use ringwork::settings::Span;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::task::JoinSet;

const CLIENTS: usize = 10_000;
const CLIENTS_MIN: usize = 2_000;
const USERS: usize = 50;
const INSIDE_MAX: u64 = 256;
const QUEUE_WRITES_MAX: u64 = 512;
/// The queue's bound is asked before a turn and may be exceeded by one turn of each shard; a send writes one row.
const QUEUE_WRITES_OVER_MAX: u64 = 8;
/// What a client that waits may cost the node: buffers of 8 KiB for each direction and the connection's own state.
const CLIENT_BYTES_MAX: usize = 32 * 1024;
/// What the work may cost beyond that, however many ask: 256 requests inside with bodies of up to 64 KiB and three
/// copies of a text of up to 16 KiB make 28 MiB, and as much again for answers and the allocator's own pages. If
/// each request was taken in, this would be ten times as much.
const WORK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Says to this very program that it is to be the node.
const NODE_VARIABLE: &str = "RINGWORK_TEST_OVERLOADED_NODE";
const NODE_TEST: &str = "overload::the_node_that_is_overloaded";
const ADDRESS_WORD: &str = "the node listens on ";

/// Each client is a socket here, and one at the node; some files more are open anyway.
fn clients() -> usize {
    let files = open_files_max();
    let clients = CLIENTS.min(files.saturating_sub(600) as usize);
    assert!(clients >= CLIENTS_MIN, "{files} open files are too few: raise the limit (ulimit -n)");
    if clients < CLIENTS {
        // Past the test harness, which would keep it for itself.
        let note =
            format!("overload: ONLY {clients} CLIENTS INSTEAD OF {CLIENTS}: {files} files may be open");
        let _ = writeln!(std::io::stderr(), "{note}");
    }
    clients
}

/// The node in a process of its own: ten thousand sockets for each side, and memory that is the node's alone.
struct NodeProcess {
    child: Child,
    address: SocketAddr,
    _turn: Turn,
}

impl NodeProcess {
    fn start() -> Self {
        let turn = Turn::alone();
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", NODE_TEST, "--nocapture"])
            .env(NODE_VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs once more");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut said = lines.map_while(Result::ok);
        let address = said.find_map(|line| line.split_once(ADDRESS_WORD)?.1.parse().ok());
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, address: address.expect("the node listens"), _turn: turn }
    }

    fn make_the_store_fast(&mut self) {
        writeln!(self.child.stdin.as_mut().expect("its input"), "fast").expect("the node is there");
    }

    /// Ends it; it looks itself whether it has come to harm.
    fn end(mut self) {
        drop(self.child.stdin.take());
        let begun = std::time::Instant::now();
        while begun.elapsed() < DEADLINE {
            if let Some(status) = self.child.try_wait().expect("the node's end") {
                return assert!(status.success(), "the node came to harm: {status}");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the node does not end");
    }

    fn resident_bytes(&self) -> usize {
        resident_bytes(self.child.id())
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other half of the test below, in a process of its own; by itself it only shows that such a node stops.
#[test]
fn the_node_that_is_overloaded() {
    let store = SlowStore::new(20);
    let mut settings = settings();
    settings.http.requests_in_flight_max = INSIDE_MAX as usize;
    settings.store.queue_writes_max = QUEUE_WRITES_MAX as usize;
    settings.http.workers = 2;
    // All connect before anybody sends.
    settings.http.head_timeout = Span::from_secs(60);
    let server = TestServer::start_alone_over(settings, Arc::new(store.clone()));
    if std::env::var_os(NODE_VARIABLE).is_some() {
        let _ = writeln!(std::io::stdout(), "{ADDRESS_WORD}{}", server.address);
        for line in std::io::stdin().lines().map_while(Result::ok) {
            assert_eq!(line, "fast");
            store.take_from_now_on(0);
        }
    }
    run(server.assert_unharmed());
}

fn resident_bytes(pid: u32) -> usize {
    let path = format!("/proc/{pid}/statm");
    let statm = std::fs::read_to_string(path).expect("Linux says how much memory is in use");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// The largest values seen while the load was on.
#[derive(Default, Debug)]
struct Peaks {
    inside: u64,
    queue: u64,
    resident: usize,
    looks: usize,
}

impl Peaks {
    async fn look(&mut self, watcher: &mut Connection, node: &NodeProcess) {
        let status = watcher.get("/admin/status").await.json();
        let number = |name: &str| status[name].as_u64().expect("a number");
        self.inside = self.inside.max(number("http_requests_inside"));
        self.queue = self.queue.max(number("storage_queue_writes"));
        self.resident = self.resident.max(node.resident_bytes());
        self.looks += 1;
    }
}

async fn connect_all(address: SocketAddr, clients: usize) -> Vec<Connection> {
    let mut connected = Vec::with_capacity(clients);
    let mut connecting = JoinSet::new();
    for _ in 0..clients {
        if connecting.len() >= 500 {
            connected.extend(connecting.join_next().await.expect("somebody connects"));
        }
        connecting.spawn(Connection::open(address));
    }
    connected.extend(connecting.join_all().await);
    connected
}

fn check_answer(text: &str, answer: &Answer) {
    let code = answer.text("code");
    match answer.status {
        201 => {}
        503 => {
            assert_eq!((code.as_str(), answer.header("retry-after")), ("overloaded", Some("1")), "{text}");
        }
        504 => {
            assert_eq!(code, "unknown", "{text}");
            assert!(!answer.text("id").is_empty() && !answer.text("idempotency_key").is_empty(), "{text}");
        }
        other => panic!("{text}: {other} {code}"),
    }
}

/// To whom a text is sent.
fn user_of(text: &str) -> String {
    format!("user{}", text.parse::<usize>().expect("a number") % USERS)
}

/// How often each text is in the logs.
async fn log(client: &mut Connection) -> BTreeMap<String, usize> {
    let mut log = BTreeMap::new();
    for user in 0..USERS {
        let mut after = String::new();
        loop {
            let page = client.get(&format!("/chat/users/user{user}/messages?limit=1000{after}")).await;
            assert_eq!(page.status, 200);
            for text in page.texts() {
                *log.entry(text).or_default() += 1;
            }
            match page.text("next") {
                next if next.is_empty() => break,
                next => after = format!("&after={next}"),
            }
        }
    }
    log
}

#[test]
fn an_excess_is_refused_and_what_was_acknowledged_is_there_once() {
    let clients = clients();
    run(async {
        let mut node = NodeProcess::start();
        let mut watcher = Connection::open(node.address).await;
        for user in 0..USERS {
            assert_eq!(watcher.send(&format!("user{user}"), "first").await.status, 201);
        }
        let idle = node.resident_bytes();
        let connections = within("all connect", connect_all(node.address, clients)).await;
        let connected = node.resident_bytes();

        let mut sends = JoinSet::new();
        for (number, mut connection) in connections.into_iter().enumerate() {
            sends.spawn(async move {
                let text = number.to_string();
                let answer = connection.exchange(&send(&user_of(&text), &text), false).await;
                let answer = answer.expect("nobody is just dropped");
                check_answer(&text, &answer);
                (text, answer)
            });
        }
        let mut peaks = Peaks::default();
        let mut outcomes = BTreeMap::<u16, Vec<(String, Answer)>>::new();
        within("everybody is answered", async {
            while !sends.is_empty() {
                peaks.look(&mut watcher, &node).await;
                while let Some(sent) = sends.try_join_next() {
                    let (text, answer) = sent.expect("the answer is one of those allowed");
                    outcomes.entry(answer.status).or_default().push((text, answer));
                }
            }
        })
        .await;
        let count = |status: u16| outcomes.get(&status).map_or(0, Vec::len);
        let seen = format!("{peaks:?}, 201: {}, 503: {}, 504: {}", count(201), count(503), count(504));
        assert!(count(201) > 0 && count(503) > 0 && peaks.looks > 5, "this was no overload: {seen}");
        assert!(peaks.inside <= INSIDE_MAX, "{seen}");
        assert!(peaks.queue <= QUEUE_WRITES_MAX + QUEUE_WRITES_OVER_MAX, "{seen}");
        let (per_client, work) = ((connected - idle) / clients, peaks.resident.saturating_sub(connected));
        assert!(per_client <= CLIENT_BYTES_MAX, "{per_client} bytes for each client, {seen}");
        assert!(work <= WORK_BYTES_MAX, "{work} bytes beyond the {connected} of the connections, {seen}");

        node.make_the_store_fast();
        assert_eq!(watcher.send("user0", "afterwards").await.status, 201, "all is well again");
        let of = |status: u16| outcomes.get(&status).into_iter().flatten();
        let before = log(&mut watcher).await;
        for (text, _) in of(503) {
            assert!(!before.contains_key(text), "{text} was refused, which says that nothing was written");
        }
        for (text, unknown) in of(504) {
            assert!(before.get(text).is_none_or(|times| *times == 1), "{text} may be there, but once");
            let again = keyed(&user_of(text), &unknown.text("idempotency_key"), text);
            let again = watcher.exchange(&again, false).await.unwrap();
            assert_eq!((again.status, again.text("id")), (201, unknown.text("id")), "{text} is sent again");
        }
        let log = log(&mut watcher).await;
        let times = |text: &str| log.get(text).copied().unwrap_or_default();
        for (text, _) in of(201).chain(of(504)) {
            assert_eq!(times(text), 1, "{text} was acknowledged");
        }
        assert_eq!((times("afterwards"), times("first")), (1, USERS));
        assert_eq!(watcher.get("/admin/status").await.json()["http_requests_inside"], 1);
        drop(watcher);
        node.end();
    });
}
