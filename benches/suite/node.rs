//! Processes that are measured: a node, a cluster of them, the echo. It decides where they listen, how they are started
//! and ended, and what is read of them in `/proc`; not what they are asked.

use crate::Outcome;
use crate::memory::Memory;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What is measured, and how fast the machine is meanwhile.
pub struct Programs {
    /// The node, and the load generator.
    pub ringwork: PathBuf,
    /// The reference.
    pub echo: PathBuf,
    /// The bench of one transfer.
    pub transfer: PathBuf,
    /// This machine's.
    pub memory: Memory,
}

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Within this a node serves, a cluster settles, data is home; a suite that waits longer has found out enough.
const EVENTUALLY: Duration = Duration::from_secs(120);
/// Loopback addresses 127.0.77.1, …: no connection of this machine has its own end there.
const NETWORK: [u8; 3] = [127, 0, 77];
const HTTP_PORT: u16 = 8098;
const CLUSTER_PORT: u16 = 8099;
const ECHO_HOST: u8 = 200;
const FIRST_HOST: u8 = 1;

fn address(host: u8, port: u16) -> SocketAddr {
    let [a, b, c] = NETWORK;
    SocketAddr::from((Ipv4Addr::new(a, b, c, host), port))
}

/// Lets time pass: what is measured does its own work meanwhile.
#[allow(clippy::disallowed_methods)] // nobody else uses this thread
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Since some fixed moment.
pub fn now() -> Duration {
    thread_local! {
        static CLOCK: ringwork::runtime::time::Clock = ringwork::runtime::time::Clock::system();
    }
    CLOCK.with(|clock| clock.moment())
}

/// CPU time of the calling thread, to the nanosecond.
pub fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// Waits until it is so, and says for how long.
pub fn until(what: &str, every: Duration, mut is_so: impl FnMut() -> bool) -> Outcome<Duration> {
    let begun = now();
    while !is_so() {
        if now() - begun > EVENTUALLY {
            return Err(format!("after {} s it is not so that {what}", EVENTUALLY.as_secs()).into());
        }
        pause(every);
    }
    Ok(now() - begun)
}

/// Asks over a connection of its own: status and body.
pub fn ask(at: SocketAddr, method: &str, path: &str) -> Outcome<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or("an answer without a status")?, body.to_owned()))
}

/// One process of the node, or the echo. Killed when it is dropped.
pub struct Process {
    child: Child,
    /// Where it answers.
    pub http: SocketAddr,
}

impl Process {
    /// The reference, ready.
    pub fn echo(programs: &Programs) -> Outcome<Self> {
        let http = address(ECHO_HOST, HTTP_PORT);
        let mut command = Command::new(&programs.echo);
        let child = command.args(["--address", &http.to_string()]).stdout(Stdio::null()).spawn()?;
        let mut echo = Self { child, http };
        until("the echo answers", Duration::from_millis(5), || ask(http, "GET", "/admin/status").is_ok())?;
        // One that an earlier run has left would answer, too.
        let pid = serde_json::json!(echo.child.id());
        if echo.child.try_wait()?.is_some() || echo.get("/admin/status")?["pid"] != pid {
            return Err(
                format!("another process than the echo that was started answers at {http}; end it").into()
            );
        }
        Ok(echo)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// CPU time that it has used, in nanoseconds of the kernel's scheduler, all threads that live.
    pub fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of_task = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
        };
        Duration::from_nanos(tasks.into_iter().flatten().flatten().map(of_task).sum())
    }

    /// Resident memory, in MB.
    pub fn resident_mb(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() / 1000.0
    }

    /// Whether it serves.
    pub fn is_ready(&self) -> bool {
        ask(self.http, "GET", "/health/ready").is_ok_and(|(status, _)| status == 200)
    }

    /// What it says there.
    pub fn get(&self, path: &str) -> Outcome<Value> {
        let (status, body) = ask(self.http, "GET", path)?;
        if status != 200 {
            return Err(format!("{path} of {} answers {status}: {body}", self.http).into());
        }
        Ok(serde_json::from_str(&body)?)
    }

    /// kill -9.
    pub fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it in peace: its standard input is what it lives by.
    pub fn stop(mut self) -> Outcome {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nodes n1, n2, … with their data below one directory.
pub struct Cluster<'a> {
    programs: &'a Programs,
    directory: PathBuf,
    settings: Vec<String>,
    /// Of the addresses of this network: the first node's.
    first_host: u8,
    /// None: does not run.
    pub nodes: Vec<Option<Process>>,
}

impl<'a> Cluster<'a> {
    /// One node, ready, on that host, in a directory that may have its data already.
    pub fn alone_at(host: u8, programs: &'a Programs, directory: &Path, settings: &[&str]) -> Outcome<Self> {
        let cluster = Self::apart(host, programs, directory, 1, settings)?;
        cluster.wait_ready(0)?;
        Ok(cluster)
    }

    /// That many nodes, started, of which all but the first ask that to take them in.
    fn apart(
        first_host: u8,
        programs: &'a Programs,
        directory: &Path,
        count: usize,
        settings: &[&str],
    ) -> Outcome<Self> {
        std::fs::create_dir_all(directory)?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let directory = directory.to_owned();
        let mut cluster = Self { programs, directory, settings, first_host, nodes: Vec::new() };
        for number in 0..count {
            let node = cluster.spawn(number)?;
            cluster.nodes.push(Some(node));
        }
        Ok(cluster)
    }

    /// The same, as one settled cluster; and the time from the commit until it was.
    pub fn start(
        programs: &'a Programs,
        directory: &Path,
        count: usize,
        settings: &[&str],
    ) -> Outcome<(Self, Duration)> {
        Self::start_at(FIRST_HOST, programs, directory, count, settings)
    }

    /// The same on other hosts than other clusters have.
    pub fn start_at(
        first_host: u8,
        programs: &'a Programs,
        directory: &Path,
        count: usize,
        settings: &[&str],
    ) -> Outcome<(Self, Duration)> {
        let cluster = Self::apart(first_host, programs, directory, count, settings)?;
        cluster.wait_ready(0)?;
        let staged = || {
            let members = cluster.node(0)?.get("/admin/members")?;
            Ok::<_, Box<dyn std::error::Error>>(members["staged"].as_array().map_or(0, Vec::len))
        };
        until("all joins are staged", Duration::from_millis(50), || staged().is_ok_and(|n| n + 1 == count))?;
        // What the seed staged may reach the claimant, which is any of them by its id, a moment later.
        until("the joins are committed", Duration::from_millis(50), || {
            let first = address(first_host, HTTP_PORT);
            let planned = ask(first, "POST", "/admin/cluster/plan").is_ok_and(|(status, body)| {
                let plan: Value = serde_json::from_str(&body).unwrap_or_default();
                status == 200 && plan["changes"].as_array().map_or(0, Vec::len) + 1 == count
            });
            planned && ask(first, "POST", "/admin/cluster/commit").is_ok_and(|(status, _)| status == 200)
        })?;
        let took = until("the cluster is settled", Duration::from_millis(10), || {
            (0..count).all(|number| {
                let members = cluster.node(number).and_then(|node| node.get("/admin/members"));
                members.is_ok_and(|members| {
                    let up = |member: &&Value| member["available"] == "up";
                    let all = members["members"].as_array().map_or(0, |m| m.iter().filter(up).count());
                    members["settled"] == true && members["ring_ready"] == true && all == count
                })
            })
        })?;
        for number in 0..count {
            cluster.wait_ready(number)?;
        }
        Ok((cluster, took))
    }

    fn name(&self, number: usize) -> String {
        format!("n{}", self.first_host + number as u8)
    }

    /// Where a node's data are.
    pub fn data_directory(&self, number: usize) -> PathBuf {
        self.directory.join(self.name(number))
    }

    /// Starts a node's process, and waits for nothing.
    pub fn spawn(&self, number: usize) -> Outcome<Process> {
        let host = self.first_host + number as u8;
        let (http, peers) = (address(host, HTTP_PORT), address(host, CLUSTER_PORT));
        let name = self.name(number);
        let log =
            File::options().create(true).append(true).open(self.directory.join(format!("{name}.log")))?;
        let mut command = Command::new(&self.programs.ringwork);
        command.args(["start", "--until-stdin-closes", "--name", &name, "--data-dir"]);
        command.arg(self.data_directory(number));
        command.args(["--http", &http.to_string(), "--cluster", &peers.to_string()]);
        if number > 0 {
            command.args(["--join", &address(self.first_host, CLUSTER_PORT).to_string()]);
        }
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let child = command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Process { child, http })
    }

    /// One that runs.
    pub fn node(&self, number: usize) -> Outcome<&Process> {
        let node = self.nodes.get(number).and_then(Option::as_ref);
        node.ok_or_else(|| format!("n{} does not run", number + 1).into())
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter().flatten()
    }

    fn wait_ready(&self, number: usize) -> Outcome<Duration> {
        let node = self.node(number)?;
        until("a node serves", Duration::from_millis(5), || node.is_ready())
    }

    /// Reads what the first so many users and keys have at all their replicas: a vnode that is asked for the first time
    /// is opened, and on a new ring its keyspace created, which takes a disk's time and is no request's cost.
    pub fn open(&self, users: u64) -> Outcome {
        let first = self.node(0)?;
        for user in 0..users {
            for path in ["/chat/users/bench-{}/messages?r=3&limit=1", "/buckets/bench/keys/bench-{}?r=3"] {
                let path = path.replace("{}", &format!("{user:07}"));
                let (status, body) = ask(first.http, "GET", &format!("{path}&timeout=60000"))?;
                if ![200, 404].contains(&status) {
                    return Err(format!("{path} is answered with {status}: {body}").into());
                }
            }
        }
        Ok(())
    }

    /// Where they are asked.
    pub fn urls(&self) -> Vec<String> {
        self.running().map(Process::url).collect()
    }

    /// Ends all in peace.
    pub fn stop(mut self) -> Outcome {
        self.nodes.drain(..).flatten().try_for_each(Process::stop)
    }
}
