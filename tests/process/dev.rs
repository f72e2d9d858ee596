//! `ringwork dev`: nodes that start, stop and end with the program that holds them. Where it does not matter how many
//! they are there is one, which is a cluster by itself.

use crate::node::{ask, program, wait_until};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// A `dev` that runs; killed when dropped.
struct Dev {
    child: Child,
    output: BufReader<ChildStdout>,
    errors: ChildStderr,
    node: SocketAddr,
}

/// Below the ports that the system hands out by itself, which other tests and their connections take.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// Ports that one test may use.
const PORTS_EACH: u16 = 40;

/// A base port for that many nodes, up to three, whose ports were free a moment ago; another one for each test.
fn free_base_port(nodes: u16) -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let places = PORTS.len() as u32 / u32::from(PORTS_EACH);
    loop {
        // Tests in other processes begin elsewhere.
        let place = (std::process::id() * 8 + u32::from(GIVEN.fetch_add(1, Ordering::Relaxed))) % places;
        let base = PORTS.start + u16::try_from(place).unwrap() * PORTS_EACH;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (1..=nodes).all(|node| free(base + 10 * node) && free(base + 10 * node + 1)) {
            return base;
        }
    }
}

fn command(data: &Path, base_port: u16) -> Command {
    command_for(1, data, base_port)
}

fn command_for(nodes: u16, data: &Path, base_port: u16) -> Command {
    let mut command = program();
    command.args(["dev", "--nodes", &nodes.to_string(), "--base-port", &base_port.to_string(), "--data-dir"]);
    command.arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Dev {
    /// Starts one and waits until it says that its node serves.
    fn start(data: &Path) -> Self {
        Self::start_nodes(1, data, free_base_port(1), "one node serves:\n")
    }

    fn start_nodes(nodes: u16, data: &Path, base_port: u16, greeting: &str) -> Self {
        let mut child = command_for(nodes, data, base_port).spawn().unwrap();
        let (output, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        if line != greeting {
            let mut said = String::new();
            errors.read_to_string(&mut said).unwrap();
            panic!("{line}{said}");
        }
        let node = SocketAddr::from(([127, 0, 0, 1], base_port + 10));
        Self { child, output, errors, node }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    fn node_process(&self) -> u32 {
        let status = ask(self.node, "GET", "/admin/status", &[], "").unwrap().json();
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
    }

    /// Waits for the end: exit code, and what was said.
    fn end(mut self) -> (Option<i32>, String) {
        let (mut output, mut errors) = (String::new(), String::new());
        self.output.read_to_string(&mut output).unwrap();
        self.errors.read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), output + &errors)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(process: u32, name: &str) {
    assert!(
        Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success()
    );
}

#[test]
fn an_interrupted_cluster_stops_in_peace_and_has_everything_when_it_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("dev");
    let dev = Dev::start(&data);
    let sent = ask(dev.node, "POST", "/chat/users/ann/messages", &[], r#"{"text": "hello"}"#).unwrap();
    assert_eq!(sent.status, 201, "{}", sent.body);
    dev.signal("INT");
    let (code, said) = dev.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("try in another terminal") && said.contains("the data stays in"), "{said}");
    assert!(std::fs::read_to_string(data.join("n1.log")).unwrap().trim_end().ends_with("stopped"));

    let dev = Dev::start(&data);
    let page = ask(dev.node, "GET", "/chat/users/ann/messages", &[], "").unwrap();
    assert_eq!(page.json()["messages"][0]["text"], "hello");
    // As when the terminal's Ctrl-C reached the node as well, and first.
    signal(dev.node_process(), "INT");
    dev.signal("INT");
    let (code, said) = dev.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn three_nodes_become_one_cluster_by_themselves_and_have_everything_when_they_are_started_again() {
    let _turn = crate::cluster::take_turn();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("dev");
    let mut base_port = free_base_port(3);
    for run in 0..3 {
        if run == 2 {
            base_port = free_base_port(3); // all are elsewhere at once, so none knows where any other is
        }
        let begun = std::time::Instant::now();
        let mut dev = Dev::start_nodes(3, &data, base_port, "three nodes serve:\n");
        println!("run {run}: three nodes serve after {:.1?}", begun.elapsed());
        let nodes: Vec<SocketAddr> = (1..=3)
            .map(|number| {
                let mut line = String::new();
                dev.output.read_line(&mut line).unwrap();
                let words: Vec<&str> = line.split_whitespace().collect();
                assert_eq!(words[0], format!("n{number}"), "{line}");
                words[1].strip_prefix("http://").unwrap().parse().unwrap()
            })
            .collect();
        let settled = program().args(["wait", "settled", "--node", &format!("http://{}", nodes[2])]).output();
        assert_eq!(settled.unwrap().status.code(), Some(0));
        for (sender, node) in nodes.iter().enumerate() {
            let body = format!(r#"{{"text": "run {run} from {sender}"}}"#);
            let sent = ask(*node, "POST", "/chat/users/ann/messages", &[], &body).unwrap();
            assert_eq!(sent.status, 201, "{}", sent.body);
        }
        for node in &nodes {
            let page = ask(*node, "GET", "/chat/users/ann/messages", &[], "").unwrap().json();
            assert_eq!(page["messages"].as_array().unwrap().len(), 3 * (run + 1), "{page}");
        }
        dev.signal("INT");
        let (code, said) = dev.end();
        assert_eq!(code, Some(0), "{said}");
        for number in 1..=3 {
            let log = std::fs::read_to_string(data.join(format!("n{number}.log"))).unwrap();
            assert!(log.trim_end().ends_with("stopped"), "{log}");
        }
    }
}

#[test]
fn nodes_end_with_the_program_that_started_them_however_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(&directory.path().join("dev"));
    dev.signal("KILL");
    dev.end();
    let log = || std::fs::read_to_string(directory.path().join("dev/n1.log")).unwrap();
    wait_until("the node stops in peace", || log().trim_end().ends_with("stopped"));
}

#[test]
fn a_second_interrupt_ends_a_node_that_does_not_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&directory.path().join("dev"));
    let node = dev.node_process();
    signal(node, "STOP");
    dev.signal("INT");
    let mut said = [0; 4096];
    let mut heard = String::new();
    while !heard.contains("Ctrl-C again") {
        let count = dev.errors.read(&mut said).unwrap();
        assert!(count > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&said[..count]));
    }
    dev.signal("INT");
    let (code, said) = dev.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ended at once"), "{said}");
    assert!(!Path::new(&format!("/proc/{node}")).exists(), "the node goes on");
}

#[test]
fn a_node_that_dies_is_told_with_the_end_of_its_log_and_the_others_are_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("dev");
    let dev = Dev::start(&data);
    signal(dev.node_process(), "KILL");
    let (code, said) = dev.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: n1 has ended (signal: 9 (SIGKILL)); the end of its log"), "{said}");
    assert!(said.contains("ready at http://"), "{said}");

    std::fs::write(data.join("n1/identity"), "nonsense").unwrap();
    let ended = command(&data, free_base_port(1)).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("n1 has ended (exit status: 1)") && said.contains("identity is damaged"), "{said}");
}

#[test]
fn a_taken_port_and_a_wrong_number_of_nodes_start_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("dev");
    let base_port = free_base_port(1);
    let _taken = TcpListener::bind(("127.0.0.1", base_port + 11)).unwrap();
    let ended = command(&data, base_port).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("port {}, for the cluster of n1", base_port + 11)), "{said}");
    assert!(said.contains("--base-port") && !data.exists(), "{said}");
    for nodes in ["0", "17", "many"] {
        assert_eq!(program().args(["dev", "--nodes", nodes]).output().unwrap().status.code(), Some(2));
    }
}

#[test]
fn a_lifeline_must_be_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let started = program()
        .args([
            "start",
            "--until-stdin-closes",
            "--http",
            "127.0.0.1:0",
            "--cluster",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(directory.path().join("data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(2), "{said}");
    assert!(said.contains("needs a pipe"), "{said}");
}
