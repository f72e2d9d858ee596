//! The first cluster by the command line alone, as docs/operations.md says, with every wrong step on the way: each is
//! refused in one line that says what to do, and changes nothing.

use super::harness::take_turn;
use crate::node::{Launch, RunningNode, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

/// Below the ports that the system gives to connections.
const PORTS: std::ops::Range<u32> = 30_000..32_000;

/// Two neighbouring ports, for HTTP and for the cluster, that are free on six loopback addresses; others in each
/// process.
fn two_free_ports() -> u16 {
    let is_free = |host, port| TcpListener::bind((Ipv4Addr::new(127, 0, 0, host), port)).is_ok();
    let places = PORTS.len() as u32 / 2;
    (0..places)
        .map(|step| PORTS.start + 2 * ((std::process::id() * 7 + step) % places))
        .map(|port| u16::try_from(port).unwrap())
        .find(|port| (1..=6).all(|host| is_free(host, *port) && is_free(host, *port + 1)))
        .expect("no free ports")
}

/// The addresses of three nodes and of some that do everything wrong.
struct Places {
    port: u16,
}

impl Places {
    fn http(&self, host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], self.port))
    }

    fn cluster(&self, host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], self.port + 1))
    }

    fn launch(&self, directory: &Path, host: u8) -> Launch {
        let name = format!("n{host}");
        Launch::new(&directory.join(&name)).named(&name).at(self.http(host), self.cluster(host))
    }
}

/// Runs a command that is to succeed: what it says.
fn run(node: &RunningNode, arguments: &[&str]) -> String {
    let output = node.run(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn run_json(node: &RunningNode, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&run(node, &arguments)).unwrap()
}

fn status(node: &RunningNode) -> Value {
    run_json(node, &["cluster", "status"])
}

/// The cluster as a node tells it, without what nobody decides: who is seen by whom, and who has heard what.
fn decided(node: &RunningNode) -> Value {
    let mut status = status(node);
    let whole = status.as_object_mut().unwrap();
    whole.retain(|name, _| !["ring_ready", "waiting_for", "settled", "features"].contains(&name.as_str()));
    for member in whole["members"].as_array_mut().unwrap() {
        member
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !["available", "services", "protocols", "features"].contains(&name.as_str()));
    }
    status
}

/// Runs a command that is to be refused, with words of the reason and of the way out, and looks that nobody's state
/// has changed by it.
fn refused(asked: &RunningNode, arguments: &[&str], words: &[&str], watched: &[&RunningNode]) {
    let all: Vec<&RunningNode> = watched.iter().copied().chain([asked]).collect();
    let before: Vec<Value> = all.iter().map(|node| decided(node)).collect();
    let output = asked.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(said.trim_end().lines().count(), 1, "{arguments:?}: one line: {said}");
    println!("{arguments:?}\n  {}", said.trim_end());
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
    }
    let after: Vec<Value> = all.iter().map(|node| decided(node)).collect();
    assert_eq!(before, after, "{arguments:?} changed something");
}

/// A node that must not come up with these seeds: it ends by itself with code 1 and a word why.
fn does_not_start(launch: &Launch, words: &[&str], watched: &RunningNode) {
    let before = decided(watched);
    let mut node = launch.spawn();
    let code = node.wait().and_then(|status| status.code());
    let log = node.log();
    assert_eq!(code, Some(1), "{log}");
    let last = log.trim_end().lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "no {word:?}: {last}");
    }
    assert_eq!(decided(watched), before);
}

/// Waits until all have heard of everything: what is decided travels by gossip.
fn wait_alike(nodes: &[&RunningNode]) {
    wait_until("all members know the same", || {
        let views = nodes.iter().map(|node| {
            let mut view = decided(node);
            view.as_object_mut().unwrap().remove("node");
            view.to_string()
        });
        views.collect::<BTreeSet<String>>().len() == 1
    });
}

fn start(launch: &Launch) -> RunningNode {
    let [node] = start_all([launch]);
    node
}

fn start_all<const COUNT: usize>(launches: [&Launch; COUNT]) -> [RunningNode; COUNT] {
    let mut nodes = launches.map(Launch::spawn);
    for node in &mut nodes {
        assert_eq!(node.wait_until_answers("/health/live"), None, "{}", node.log());
    }
    nodes
}

#[test]
fn three_nodes_by_hand_become_one_cluster_and_wrong_steps_change_nothing() {
    let _turn = take_turn();
    let directory = tempfile::tempdir().unwrap();
    let places = Places { port: two_free_ports() };
    let launch = |host| places.launch(directory.path(), host);
    let seed = places.cluster(1);
    let wrong = [
        (launch(4), &["holds data", "empty data directory"][..]),
        (launch(5).set(&["cluster.ring_size=128"]), &["64", "128", "cluster.ring_size=64"]),
        (launch(6).named("n1"), &["is named n1", "--name"]),
    ];
    let [n1, alone, size, name] = start_all([&launch(1), &wrong[0].0, &wrong[1].0, &wrong[2].0]);

    refused(&n1, &["cluster", "leave"], &["only member"], &[]);
    refused(&n1, &["cluster", "plan"], &["nothing is staged", "ringwork cluster"], &[]);
    refused(&n1, &["cluster", "commit"], &["ringwork cluster"], &[]);
    refused(&n1, &["cluster", "leave", "n9"], &["n9", "n1"], &[]);
    wrong_seeds(&places, &alone, &n1);
    run(&alone, &["chat", "send", "ann", "a message of another cluster"]);
    for ((launch, words), node) in wrong.into_iter().zip([alone, size, name]) {
        refused(&node, &["cluster", "join", &seed.to_string()], words, &[&n1]);
        node.stop();
        does_not_start(&launch.join(seed), words, &n1);
    }

    let [n2, n3] = start_all([&launch(2).join(seed), &launch(3).join(seed)]);
    let staged = |node: &RunningNode| status(node)["staged"].as_array().unwrap().len();
    wait_until("both have staged their joins", || [&n1, &n2, &n3].iter().all(|node| staged(node) == 2));
    wait_alike(&[&n1, &n2, &n3]);
    let shown = run(&n1, &["cluster", "status"]);
    assert!(shown.contains("n2 joins") && shown.contains("n3 joins"), "{shown}");

    refused(&n1, &["cluster", "commit"], &["ringwork cluster plan"], &[&n2, &n3]);
    let plan = run(&n1, &["cluster", "plan"]);
    assert!(plan.contains("42 partitions move (at least 42 must)"), "{plan}");
    run(&n1, &["cluster", "location", "rack 1", "--of", "n1"]);
    wait_alike(&[&n1, &n2, &n3]);
    refused(&n1, &["cluster", "commit"], &["ringwork cluster plan"], &[&n2, &n3]);
    run(&n1, &["cluster", "plan"]);
    let committed = run(&n1, &["cluster", "commit"]);
    assert!(committed.contains("42 partitions are now on the way"), "{committed}");
    for node in [&n1, &n2, &n3] {
        wait_until("the commit is known", || status(node)["epoch"] == status(&n1)["epoch"]);
        run(node, &["wait", "settled", "--timeout", "60s"]);
    }
    wait_alike(&[&n1, &n2, &n3]);

    refused(&n2, &["cluster", "join", &seed.to_string()], &["already", "member"], &[&n1, &n3]);
    refused(&n1, &["cluster", "down", "n3"], &["n3", "ringwork cluster leave n3"], &[&n2, &n3]);
    refused(&n1, &["cluster", "commit"], &["ringwork cluster"], &[&n2, &n3]);
    everyone_serves_everything(&[&n1, &n2, &n3]);
    for node in [n1, n2, n3] {
        node.stop();
    }
}

/// A node that is by itself and asks at wrong places.
fn wrong_seeds(places: &Places, alone: &RunningNode, n1: &RunningNode) {
    let nothing = places.cluster(3).to_string();
    refused(alone, &["cluster", "join", &nothing], &[&nothing, "its cluster address"], &[n1]);
    let http = places.http(1).to_string();
    refused(alone, &["cluster", "join", &http], &[&http, "cluster"], &[n1]);
    let itself = places.cluster(4).to_string();
    refused(alone, &["cluster", "join", &itself], &["itself", "another"], &[n1]);
}

fn everyone_serves_everything(nodes: &[&RunningNode]) {
    for (number, sender) in nodes.iter().enumerate() {
        run(sender, &["chat", "send", "ann", &format!("from node {number}")]);
        for reader in nodes {
            let read = run(reader, &["chat", "get", "ann"]);
            assert!(read.contains(&format!("from node {number}")), "{read}");
        }
    }
    for node in nodes {
        let preflist = run_json(node, &["ring", "preflist", "chat", "ann"]);
        let owners: BTreeSet<String> = preflist["places"]
            .as_array()
            .unwrap()
            .iter()
            .inspect(|place| {
                assert_eq!((&place["role"], &place["available"]), (&"primary".into(), &"up".into()))
            })
            .map(|place| crate::node::text(&place["node"]))
            .collect();
        assert_eq!(owners.len(), 3, "three distinct nodes: {preflist}");
    }
}

/// Wrong seeds of a node that is started with them: it goes on asking, serves nobody meanwhile, and says why.
#[test]
fn a_node_whose_seed_does_not_answer_says_so_and_joins_when_it_does() {
    let _turn = take_turn();
    let directory = tempfile::tempdir().unwrap();
    let launch = |name: &str| Launch::new(&directory.path().join(name)).named(name);
    let places = Places { port: two_free_ports() };
    let seed = launch("first").at(places.http(1), places.cluster(1));
    let second = start(&launch("second").at(places.http(2), places.cluster(2)).join(places.cluster(1)));
    wait_until("it says whom it cannot reach", || second.log().contains(&places.cluster(1).to_string()));
    let refused = second.ask("GET", "/health/ready", "");
    assert_eq!(refused.status, 503, "{}", refused.body);
    let first = start(&seed);
    wait_until("it joins", || status(&first)["staged"].as_array().is_some_and(|staged| staged.len() == 1));
    let waited = second.run(&["wait", "ready", "--timeout", "60s"]);
    assert_eq!(waited.status.code(), Some(0), "{}", String::from_utf8_lossy(&waited.stderr));
    second.stop();
    first.stop();
}
