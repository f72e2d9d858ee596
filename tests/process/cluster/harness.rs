//! A cluster of real nodes, and ways to ask and to hurt it. Each node has a loopback address of its own, so that no
//! connection of this machine takes its ports while it is down.

use crate::node::{Answer, Launch, RunningNode, ask, wait_until, waited_for};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const HTTP_PORT: u16 = 8098;
const CLUSTER_PORT: u16 = 8099;
/// Lines of each node's log that a failed test shows.
const LOG_LINES_SHOWN: usize = 25;

/// Clusters load the machine, and side by side they would only measure each other: one after the other.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loopback address on which nobody listens, distinct between tests that run at the same time.
fn own_loopback() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let [_, high, middle, low] = number.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(127, 100 + high % 100, middle, low % 250 + 2));
        let is_free = |port| TcpListener::bind((address, port)).is_ok();
        if is_free(HTTP_PORT) && is_free(CLUSTER_PORT) {
            return address;
        }
    }
}

/// Several nodes that are one cluster, named n1, n2, … and counted from 0.
pub(super) struct Cluster {
    nodes: Vec<Option<RunningNode>>,
    pub(super) launches: Vec<Launch>,
    // Dropped last, in this order.
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// That many nodes, started but for the first with a seed, each still by itself.
    pub(super) fn apart(count: usize, settings: &[&str]) -> Self {
        let turn = take_turn();
        let directory = tempfile::tempdir().unwrap();
        let mut launches: Vec<Launch> = Vec::new();
        for number in 1..=count {
            let name = format!("n{number}");
            let address = own_loopback();
            let (http, cluster) =
                (SocketAddr::new(address, HTTP_PORT), SocketAddr::new(address, CLUSTER_PORT));
            let mut launch =
                Launch::new(&directory.path().join(&name)).named(&name).at(http, cluster).set(settings);
            if let Some(first) = launches.first() {
                launch = launch.join(first.cluster);
            }
            launches.push(launch);
        }
        Self::of(launches, directory, turn)
    }

    /// Nodes that start as said.
    pub(super) fn of(launches: Vec<Launch>, directory: TempDir, turn: MutexGuard<'static, ()>) -> Self {
        let nodes = launches.iter().map(|launch| Some(launch.spawn())).collect();
        let mut cluster = Self { nodes, launches, directory, _turn: turn };
        for node in cluster.nodes.iter_mut().flatten() {
            assert_eq!(node.wait_until_answers("/health/live"), None, "{}", node.log());
        }
        cluster
    }

    /// That many nodes as one settled cluster.
    pub(super) fn start(count: usize, settings: &[&str]) -> Self {
        let cluster = Self::apart(count, settings);
        cluster.form();
        cluster
    }

    /// Makes them one cluster through the first; the time from the commit until all are settled.
    pub(super) fn form(&self) -> Duration {
        let joins = self.launches.len() - 1;
        wait_until("all joins are staged", || {
            self.members(0)["staged"].as_array().is_some_and(|s| s.len() == joins)
        });
        // What the seed staged may reach the claimant, which is any of them by its id, a moment later.
        wait_until("the joins are committed", || {
            let planned = self.ask(0, "POST", "/admin/cluster/plan", "");
            let whole = planned.status == 200 && planned.json()["changes"].as_array().unwrap().len() == joins;
            whole && self.ask(0, "POST", "/admin/cluster/commit", "").status == 200
        });
        let committed = Instant::now();
        self.wait_settled();
        committed.elapsed()
    }

    /// Starts one node more, with the first as its seed, and waits until its join is staged. Its number.
    pub(super) fn add(&mut self, settings: &[&str]) -> usize {
        let (number, address) = (self.launches.len(), own_loopback());
        let name = format!("n{}", number + 1);
        let (http, cluster) = (SocketAddr::new(address, HTTP_PORT), SocketAddr::new(address, CLUSTER_PORT));
        let launch = Launch::new(&self.directory.path().join(&name)).named(&name).at(http, cluster);
        self.launches.push(launch.set(settings).join(self.launches[0].cluster));
        self.nodes.push(None);
        self.spawn_again(number);
        wait_until("its join is staged, for all to see", || {
            self.running().iter().filter(|by| **by != number).all(|by| {
                let members = self.members(*by);
                let staged = members["staged"].as_array().unwrap();
                staged.iter().any(|change| change["kind"] == "join" && change["node"] == name.as_str())
            })
        });
        number
    }

    pub(super) fn node(&self, number: usize) -> &RunningNode {
        self.nodes[number].as_ref().expect("that node does not run")
    }

    pub(super) fn node_mut(&mut self, number: usize) -> &mut RunningNode {
        self.nodes[number].as_mut().expect("that node does not run")
    }

    /// The numbers of the nodes that run.
    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].is_some()).collect()
    }

    pub(super) fn address(&self, number: usize) -> SocketAddr {
        self.launches[number].http
    }

    pub(super) fn ask(&self, number: usize, method: &str, path: &str, body: &str) -> Answer {
        ask(self.address(number), method, path, &[], body)
            .unwrap_or_else(|| panic!("n{} does not answer {method} {path}", number + 1))
    }

    /// Ends all that run in peace; where each has its data.
    pub(super) fn stop_all(&mut self) -> Vec<(usize, PathBuf)> {
        let running = self.running();
        for number in &running {
            self.nodes[*number].take().unwrap().stop();
        }
        running.into_iter().map(|number| (number, self.launches[number].data().to_owned())).collect()
    }

    /// Ends one in peace.
    pub(super) fn stop(&mut self, number: usize) {
        self.nodes[number].take().expect("that node does not run").stop();
    }

    /// kill -9 of one.
    pub(super) fn kill(&mut self, number: usize) {
        self.nodes[number].take().expect("that node does not run").kill();
    }

    /// Of one that has ended by itself.
    pub(super) fn forget(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    /// Starts one again as before, and waits until it serves.
    pub(super) fn start_again(&mut self, number: usize) {
        self.spawn_again(number);
        let node = self.node_mut(number);
        assert_eq!(node.wait_until_answers("/health/ready"), None, "{}", node.log());
    }

    pub(super) fn spawn_again(&mut self, number: usize) {
        assert!(self.nodes[number].is_none());
        self.nodes[number] = Some(self.launches[number].spawn());
    }

    /// What a node says about the members.
    pub(super) fn members(&self, number: usize) -> Value {
        let answer = self.ask(number, "GET", "/admin/members", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// A field of one member as node `by` sees it.
    pub(super) fn seen(&self, by: usize, number: usize, field: &str) -> String {
        let (members, name) = (self.members(by), format!("n{}", number + 1));
        let members = members["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["name"] == name.as_str());
        member.and_then(|member| member[field].as_str()).unwrap_or("absent").to_owned()
    }

    /// Waits until every node that runs sees that node so.
    pub(super) fn wait_seen(&self, number: usize, available: &str) -> Duration {
        let what = format!("n{} is seen as {available} by all", number + 1);
        wait_until(&what, || self.running().iter().all(|by| self.seen(*by, number, "available") == available))
    }

    /// Waits until every node sees every other as up, as members of one ring that all know.
    pub(super) fn wait_whole(&self) -> Duration {
        let mut views: Vec<Value> = Vec::new();
        let whole = waited_for(|| {
            views = self.running().iter().map(|number| self.members(*number)).collect();
            views.iter().all(|view| {
                let members = view["members"].as_array().unwrap();
                view["ring_ready"] == true
                    && view["epoch"] == views[0]["epoch"]
                    && view["cluster"] == views[0]["cluster"]
                    && members.len() == views.len()
                    && members.iter().all(|member| member["available"] == "up" && member["status"] == "valid")
            })
        });
        whole.unwrap_or_else(|patience| {
            panic!("not within {patience:?}: all nodes see one whole cluster: {views:#?}")
        })
    }

    /// Waits until the cluster is whole and every partition where it is to be.
    pub(super) fn wait_settled(&self) -> Duration {
        let whole = self.wait_whole();
        whole
            + wait_until("all nodes are settled", || {
                self.running().iter().all(|number| self.members(*number)["settled"] == true)
            })
    }

    /// Who answers for a user as a node sees it: (node's number, role), in ring order.
    pub(super) fn preflist(&self, by: usize, user: &str) -> Vec<(usize, String)> {
        let answer = self.ask(by, "GET", &format!("/admin/ring/preflist?service=chat&key={user}"), "");
        let places = answer.json()["places"].as_array().unwrap().clone();
        let number = |name: &str| name.trim_start_matches('n').parse::<usize>().unwrap() - 1;
        places
            .iter()
            .map(|place| (number(place["node"].as_str().unwrap()), crate::node::text(&place["role"])))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for number in self.running() {
            let log = self.node(number).log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("--- n{} at the end:\n{shown}", number + 1);
        }
    }
}

/// A send, and what came of it.
pub(super) fn send(address: SocketAddr, user: &str, text: &str, query: &str) -> Option<Answer> {
    let path = format!("/chat/users/{user}/messages{query}");
    ask(address, "POST", &path, &[], &format!(r#"{{"text": "{text}"}}"#))
}

/// The texts of a user's first page at a node, for up to a thousand messages; none without a 200.
pub(super) fn texts(address: SocketAddr, user: &str, query: &str) -> Option<Vec<String>> {
    let path = format!("/chat/users/{user}/messages?limit=1000{query}");
    let answer = ask(address, "GET", &path, &[], "").filter(|answer| answer.status == 200)?;
    let page = answer.json();
    Some(page["messages"].as_array().unwrap().iter().map(|m| crate::node::text(&m["text"])).collect())
}
