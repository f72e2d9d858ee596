//! A node as a child process, and a way to ask it.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test, with nothing of this process's environment that could change its settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwork"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGWORK") {
            command.env_remove(name);
        }
    }
    command
}

/// A node that runs; killed when dropped.
pub(crate) struct RunningNode {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// How a node is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    data: PathBuf,
    pub(crate) http: SocketAddr,
    /// Several nodes run on one machine, so each listens for others where it finds room unless told otherwise.
    pub(crate) cluster: SocketAddr,
    name: Option<String>,
    seeds: Vec<SocketAddr>,
    settings: Vec<String>,
    namespace: Option<String>,
    rebuild: bool,
}

impl Launch {
    /// Over `data`, on any free ports of this machine.
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            http: free_address(),
            cluster: SocketAddr::from(([127, 0, 0, 1], 0)),
            name: None,
            seeds: Vec::new(),
            settings: Vec::new(),
            namespace: None,
            rebuild: false,
        }
    }

    pub(crate) fn at(self, http: SocketAddr, cluster: SocketAddr) -> Self {
        Self { http, cluster, ..self }
    }

    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    pub(crate) fn join(mut self, seed: SocketAddr) -> Self {
        self.seeds.push(seed);
        self
    }

    pub(crate) fn set(mut self, settings: &[&str]) -> Self {
        self.settings.extend(settings.iter().map(ToString::to_string));
        self
    }

    /// With an empty store in place of one that is lost.
    pub(crate) fn rebuilding(self) -> Self {
        Self { rebuild: true, ..self }
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// In a network namespace of that name.
    pub(crate) fn inside(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    fn command(&self) -> Command {
        let mut command = program();
        if let Some(namespace) = &self.namespace {
            let program = command.get_program().to_owned();
            command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(program);
        }
        command.arg("start");
        if let Some(name) = &self.name {
            command.args(["--name", name]);
        }
        command.arg("--data-dir").arg(&self.data).args(["--http", &self.http.to_string()]);
        command.args(["--cluster", &self.cluster.to_string()]);
        for seed in &self.seeds {
            command.args(["--join", &seed.to_string()]);
        }
        if self.rebuild {
            command.arg("--rebuild");
        }
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Starts it and waits for nothing. What it logs goes behind what it has logged before.
    pub(crate) fn spawn(&self) -> RunningNode {
        let log = self.data.with_extension(format!("{}.log", self.http.port()));
        let errors = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = self.command().stderr(errors).stdin(Stdio::null()).spawn().unwrap();
        RunningNode { child, address: self.http, log }
    }

    /// A node that serves, or the exit code and last words of one that did not come up.
    pub(crate) fn attempt(&self) -> Result<RunningNode, (Option<i32>, String)> {
        let mut node = self.spawn();
        match node.wait_until_answers("/health/ready") {
            Some(code) => Err((code, node.log())),
            None => Ok(node),
        }
    }
}

impl RunningNode {
    /// Starts a node over `data` with `--set` for each of `settings`, and waits until it serves.
    pub(crate) fn start(data: &Path, settings: &[&str]) -> Self {
        match Launch::new(data).set(settings).attempt() {
            Ok(node) => node,
            Err((code, said)) => panic!("no start: {code:?}\n{said}"),
        }
    }

    /// Waits until 200 is answered there; the exit code of a node that ends instead.
    pub(crate) fn wait_until_answers(&mut self, path: &str) -> Option<Option<i32>> {
        let begun = Instant::now();
        while ask(self.address, "GET", path, &[], "").is_none_or(|answer| answer.status != 200) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status.code());
            }
            assert!(begun.elapsed() < PATIENCE, "neither up nor down: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Tries to start a node that must not start: its exit code and what it said.
    pub(crate) fn refused(data: &Path, settings: &[&str]) -> (Option<i32>, String) {
        match Launch::new(data).set(settings).attempt() {
            Ok(node) => panic!("a node that must not start has started: {}", node.log()),
            Err(end) => end,
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has in memory, as the system counts it.
    pub(crate) fn resident_mib(&self) -> u64 {
        self.memory_mib("VmRSS:")
    }

    /// The most that it ever had in memory.
    pub(crate) fn most_resident_mib(&self) -> u64 {
        self.memory_mib("VmHWM:")
    }

    /// From now on the most that it has is asked for.
    pub(crate) fn forget_most_resident(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    fn memory_mib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0 kB");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib / 1024
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> Option<ExitStatus> {
        self.wait_within(PATIENCE)
    }

    /// Waits for the end that long at most.
    pub(crate) fn wait_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait_for_end(&mut self.child, patience)
    }

    /// Ends it in peace.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait().expect("the node does not stop");
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.address, method, path, &[], body).expect("the node does not answer")
    }

    /// Every message of a user: (id, text), by pages.
    pub(crate) fn log_of(&self, user: &str) -> Vec<(String, String)> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let answer = self.ask("GET", &format!("/chat/users/{user}/messages?limit=1000{after}"), "");
            assert_eq!(answer.status, 200, "{}", answer.body);
            let page = answer.json();
            for message in page["messages"].as_array().unwrap() {
                all.push((text(&message["id"]), text(&message["text"])));
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return all,
            }
        }
    }

    /// Runs a client command against this node.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        program().args(arguments).args(["--node", &self.url()]).output().unwrap()
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// Waits for a condition, and says how long that took.
pub(crate) fn wait_until(what: &str, holds: impl FnMut() -> bool) -> Duration {
    waited_for(holds).unwrap_or_else(|patience| panic!("not within {patience:?}: {what}"))
}

/// Waits for a condition, and says how long that took; an error is how long it was waited for in vain.
pub(crate) fn waited_for(holds: impl FnMut() -> bool) -> Result<Duration, Duration> {
    waited_for_within(PATIENCE, holds)
}

/// As [`waited_for`], with a patience of one's own.
pub(crate) fn waited_for_within(
    patience: Duration,
    holds: impl FnMut() -> bool,
) -> Result<Duration, Duration> {
    waited_for_at(Duration::from_millis(20), patience, holds)
}

/// As [`waited_for_within`], looking so often.
pub(crate) fn waited_for_at(
    every: Duration,
    patience: Duration,
    mut holds: impl FnMut() -> bool,
) -> Result<Duration, Duration> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() >= patience {
            return Err(patience);
        }
        std::thread::sleep(every);
    }
    Ok(begun.elapsed())
}

/// One request over a connection of its own; none when there was no whole answer.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: application/json\r\n{more}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body =
        if head.to_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.into() };
    Some(Answer { status, head: head.to_lowercase(), body })
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
