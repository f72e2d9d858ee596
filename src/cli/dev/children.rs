//! The processes of a cluster on this machine: started each in a group of its own, so that a Ctrl-C at the
//! terminal is ours to pass on, and held by a pipe that they end with. It knows no HTTP.

use super::{DevNode, LIFELINE_FLAG};
use crate::cli::client::{CliError, explanation};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How often it is looked whether a process has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What is read of a log to tell why its node ended, and how much of that is told.
const LOG_TAIL_BYTES: u64 = 8 * 1024;
const LOG_TAIL_LINES: usize = 12;

/// Processes that are killed when this is dropped.
pub(super) struct Children(Vec<Running>);

struct Running {
    node: DevNode,
    child: Child,
    /// Where this run's part of the log begins.
    log_start: u64,
    status: Option<ExitStatus>,
}

/// A node that ended by itself.
pub(super) struct Ended {
    name: String,
    status: ExitStatus,
    log: PathBuf,
    last_lines: Vec<String>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, status, log) = (&self.name, self.status, self.log.display());
        match self.last_lines.as_slice() {
            [] => write!(f, "{name} has ended ({status}) and said nothing; its log is {log}"),
            lines => {
                write!(f, "{name} has ended ({status}); the end of its log {log}:\n  {}", lines.join("\n  "))
            }
        }
    }
}

impl Children {
    /// Starts all; if one cannot be started, those before it are killed.
    pub(super) fn start(program: &Path, nodes: &[DevNode], settings: &[String]) -> Result<Self, CliError> {
        let mut children = Self(Vec::new());
        let seed = nodes.first().map(|node| node.cluster.to_string()).unwrap_or_default();
        for (position, node) in nodes.iter().enumerate() {
            let cannot = |error| {
                CliError::Failed(format!(
                    "{} cannot be started with its log {}: {error}",
                    node.name,
                    node.log.display()
                ))
            };
            let log = OpenOptions::new().create(true).append(true).open(&node.log).map_err(cannot)?;
            let log_start = log.metadata().map_err(cannot)?.len();
            let mut command = Command::new(program);
            command.args(["start", "--name", &node.name, "--data-dir"]).arg(&node.directory);
            command.args(["--http", &node.http.to_string(), "--cluster", &node.cluster.to_string()]);
            command.arg(format!("--{LIFELINE_FLAG}"));
            // Who is a member already finds the others by it when all have moved to other ports.
            if position > 0 {
                command.args(["--join", &seed]);
            }
            command.args([
                "--set",
                "log.format=pretty",
                "--set",
                &format!("http.workers={}", workers(nodes.len())),
            ]);
            for setting in settings {
                command.args(["--set", setting]);
            }
            // What would be right for one node and wrong for all of them together.
            for variable in
                ["RINGWORK__CLUSTER__ADVERTISE", "RINGWORK__CLUSTER__SEEDS", "RINGWORK__NODE__LOCATION"]
            {
                command.env_remove(variable);
            }
            command
                .stdin(Stdio::piped())
                .stdout(log.try_clone().map_err(cannot)?)
                .stderr(log)
                .process_group(0);
            let child = command.spawn().map_err(cannot)?;
            children.0.push(Running { node: node.clone(), child, log_start, status: None });
        }
        Ok(children)
    }

    /// Waits until one ends that was not asked to.
    pub(super) async fn first_end(&mut self) -> Ended {
        loop {
            for running in &mut self.0 {
                if running.has_ended() {
                    return running.told();
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Closes every lifeline.
    pub(super) fn ask_to_stop(&mut self) {
        self.0.iter_mut().for_each(|running| drop(running.child.stdin.take()));
    }

    /// Waits until all have ended.
    pub(super) async fn all_ended(&mut self) {
        while !self.0.iter_mut().all(Running::has_ended) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for running in &mut self.0 {
            if !running.has_ended() {
                // Crash-only: what was acknowledged is there at the next start.
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
        }
    }
}

impl Running {
    fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            // That it cannot be looked at means that it is no child of ours any more.
            self.status = self.child.try_wait().unwrap_or_else(|_| Some(ExitStatus::default()));
        }
        self.status.is_some()
    }

    fn told(&self) -> Ended {
        Ended {
            name: self.node.name.clone(),
            status: self.status.unwrap_or_default(),
            log: self.node.log.clone(),
            last_lines: last_lines(&self.node.log, self.log_start),
        }
    }
}

/// Threads for HTTP of each of so many nodes, which share this machine's cores.
fn workers(nodes: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / nodes.max(1)).max(1)
}

/// The last lines of what a run wrote into its log. What cannot be read is not told: the log's place is.
fn last_lines(log: &Path, start: u64) -> Vec<String> {
    let read = || {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(LOG_TAIL_LINES)).map(|line| explanation(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn of_a_log_the_end_of_this_run_is_told() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        writeln!(log, "an earlier run").unwrap();
        let start = log.as_file().metadata().unwrap().len();
        assert_eq!(last_lines(log.path(), start), [""; 0]);
        writeln!(log, "one\n\ntwo\u{1b}[2J").unwrap();
        assert_eq!(last_lines(log.path(), start), ["one", "two\\u{1b}[2J"]);
        (0..10_000).for_each(|i| writeln!(log, "line {i}").unwrap());
        let lines = last_lines(log.path(), start);
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (LOG_TAIL_LINES, "line 9999"));
        assert_eq!(last_lines(Path::new("/nowhere"), 0), [""; 0]);
    }
}
