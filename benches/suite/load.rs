//! Load on nodes and on the echo in turn, by `ringwork bench`, and what came of it. It decides how long rounds are.

use crate::Outcome;
use crate::node::{Process, Programs};
use serde_json::Value;
use std::process::Command;

/// How long a server is loaded before it is measured, in each round.
const WARM_UP: &str = "500ms";
/// How long a round is measured for CPU time, which comes in hundredths of a second and in lumps.
const MEASURED: &str = "2s";
/// How long it is for a tail, of which the median of many rounds is steadier than that of long ones.
pub const MEASURED_FOR_TAIL: &str = "1s";

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// `chat` or `kv`.
    pub workload: &'a str,
    /// Share of reads.
    pub read_share: f64,
    /// Operations per second; none: as many as come back.
    pub rate: Option<f64>,
    /// Users or keys; none: a thousand.
    pub users: Option<u64>,
    /// How many connections, spread over the nodes.
    pub connections: usize,
    /// Whether users have messages before anything is read.
    pub prefilled: bool,
    /// How often nodes and echo are loaded in turn.
    pub rounds: u32,
    /// How long in each round.
    pub measured: &'a str,
}

/// Figures of nodes and echo.
pub struct Found {
    /// CPU time of an answer of the nodes as a multiple of the echo's, median of the rounds.
    pub ratio: f64,
    /// CPU time of an answer, all nodes together.
    pub cpu_us: f64,
    /// The echo's.
    pub echo_cpu_us: f64,
    /// Answers per second.
    pub per_second: f64,
    /// 99th percentiles, median of the rounds: of whichever operation is slower, and of the echo.
    p99_us: f64,
    /// See `p99_us`.
    echo_p99_us: f64,
    ratios: Vec<f64>,
}

impl Found {
    /// For beside a ratio.
    pub fn remark(&self) -> String {
        let (least, most) = self
            .ratios
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
        let (cpu, echo, rate) = (self.cpu_us, self.echo_cpu_us, self.per_second);
        format!("rounds {least:.1}–{most:.1}; {cpu:.1} µs against {echo:.1} µs; {rate:.0}/s")
    }

    /// The 99th percentile of latencies as a multiple of the echo's. Of the two medians: a tail has little to do with
    /// the echo's in the same round, so the median of their ratios is the less steady one.
    pub fn p99_ratio(&self) -> f64 {
        self.p99_us / self.echo_p99_us.max(1.0)
    }

    /// For beside it.
    pub fn p99_remark(&self) -> String {
        let (p99, echo, rate) = (self.p99_us / 1e3, self.echo_p99_us / 1e3, self.per_second);
        format!("medians of {}: {p99:.2} ms against {echo:.2} ms; {rate:.0}/s", self.ratios.len())
    }
}

impl<'a> Load<'a> {
    /// Chat messages, so many rounds.
    pub fn sends(rounds: u32) -> Self {
        Self {
            workload: "chat",
            read_share: 0.0,
            rate: None,
            users: None,
            connections: 64,
            prefilled: false,
            rounds,
            measured: MEASURED,
        }
    }

    /// The same with that share of reads, of twenty messages or an object.
    pub fn reading(self, read_share: f64) -> Self {
        Self { read_share, ..self }
    }

    /// Carries it out.
    pub fn run(&self, programs: &Programs, nodes: &[String], echo: &Process) -> Outcome<Found> {
        let mut command = Command::new(&programs.ringwork);
        command.args(["bench", self.workload, "--json", "--warmup", WARM_UP, "--duration", self.measured]);
        command.args(["--node", &nodes.join(","), "--reference", &echo.url()]);
        command.args(["--rounds", &self.rounds.to_string(), "--read-share", &self.read_share.to_string()]);
        command.args(["--connections", &self.connections.to_string()]);
        if let Some(rate) = self.rate {
            command.args(["--rate", &format!("{rate:.0}")]);
        }
        if let Some(users) = self.users {
            command.args([if self.workload == "kv" { "--keys" } else { "--users" }, &users.to_string()]);
        }
        if self.prefilled {
            command.args(["--prefill", "0"]);
        }
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("ringwork bench: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let failures = &report["node"]["failures"];
        if failures.as_object().is_some_and(|failures| !failures.is_empty()) {
            // Refusals are cheap: with them in it a ratio says nothing.
            return Err(format!("some operations failed: {failures}").into());
        }
        let number = |value: &Value| value.as_f64().ok_or_else(|| format!("a figure is missing in {report}"));
        let (node, reference) = (&report["node"], &report["reference"]);
        let ratios = report["cpu_ratio"]["rounds"].as_array();
        Ok(Found {
            ratio: number(&report["cpu_ratio"]["median"])?,
            cpu_us: number(&node["cpu_us_per_operation"])?,
            echo_cpu_us: number(&reference["cpu_us_per_operation"])?,
            per_second: number(&node["answered_per_second"])?,
            p99_us: number(&node["p99_us"])?,
            echo_p99_us: number(&reference["p99_us"])?,
            ratios: ratios.into_iter().flatten().filter_map(Value::as_f64).collect(),
        })
    }
}
