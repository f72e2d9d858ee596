//! Load on nodes and on the echo, in turn or alone, by `ringwork bench`, and what came of it. It decides how long
//! rounds are.

use crate::Outcome;
use crate::node::{Process, Programs};
use crate::table::median;
use serde_json::Value;
use std::process::Command;

/// How long a server is loaded before it is measured, and then measured for CPU time, which comes in hundredths of a
/// second; in each round. What a send costs differs by half from one second to another, of the same program doing the
/// same: many short rounds say more than few long ones.
const FOR_CPU_TIME: Spans = Spans { warm_up: "300ms", measured: "1s" };
/// The same for a tail. What is measured last before it is the same servers, so that only connections are new in each.
pub const FOR_TAIL: Spans = Spans { warm_up: "100ms", measured: "4s" };
/// And for how much can be asked.
pub const FOR_THE_MOST: Spans = Spans { warm_up: "100ms", measured: "500ms" };

/// How long a round is.
#[derive(Clone, Copy)]
pub struct Spans {
    warm_up: &'static str,
    measured: &'static str,
}

/// The workload of an echo server alone.
pub const ECHO: &str = "echo";

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// `chat`, `kv` or [`ECHO`].
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
    /// How often: nodes and echo in turn, or who is loaded alone.
    pub rounds: u32,
    /// How long in each round.
    pub spans: Spans,
}

/// What servers answered with nobody beside them.
pub struct Alone {
    /// Answers per second, median of the rounds.
    pub per_second: f64,
    /// How long the slowest waited in each round of an open loop.
    pub tails: Vec<Tail>,
}

/// The 99th percentiles of the tenths of a second of a round, in milliseconds.
#[derive(Clone, Copy)]
pub struct Tail {
    pub mean_ms: f64,
    pub median_ms: f64,
}

impl Alone {
    fn of(report: &Value) -> Outcome<Self> {
        let rounds = report["node"]["rounds"].as_array().into_iter().flatten();
        let tails = rounds.filter_map(|round| {
            let ms = |of_tenths| Some(round["p99_of_tenths"][of_tenths].as_f64()? / 1e3);
            Some(Tail { mean_ms: ms("mean_us")?, median_ms: ms("median_us")? })
        });
        match report["node"]["answered_per_second"].as_f64() {
            Some(per_second) => Ok(Self { per_second, tails: tails.collect() }),
            None => Err(format!("a figure is missing in {report}").into()),
        }
    }
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
    ratios: Vec<f64>,
}

impl Found {
    /// What reports of one load say together.
    fn of(reports: &[Value]) -> Outcome<Self> {
        let middle = |path: &str| {
            let figures = reports.iter().filter_map(|report| report.pointer(path)?.as_f64()).collect();
            median(figures).ok_or_else(|| format!("{path} is missing in {reports:?}"))
        };
        let rounds = |report: &Value| report["cpu_ratio"]["rounds"].as_array().cloned().unwrap_or_default();
        let ratios: Vec<f64> = reports.iter().flat_map(rounds).filter_map(|ratio| ratio.as_f64()).collect();
        Ok(Self {
            ratio: median(ratios.clone()).ok_or_else(|| format!("no ratio is in {reports:?}"))?,
            cpu_us: middle("/node/cpu_us_per_operation")?,
            echo_cpu_us: middle("/reference/cpu_us_per_operation")?,
            per_second: middle("/node/answered_per_second")?,
            ratios,
        })
    }

    /// For beside a ratio.
    pub fn remark(&self) -> String {
        let (least, most) = self
            .ratios
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
        let (cpu, echo, rate) = (self.cpu_us, self.echo_cpu_us, self.per_second);
        format!("rounds {least:.1}–{most:.1}; {cpu:.1} µs against {echo:.1} µs; {rate:.0}/s")
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
            spans: FOR_CPU_TIME,
        }
    }

    /// The same with that share of reads, of twenty messages or an object.
    pub fn reading(self, read_share: f64) -> Self {
        Self { read_share, ..self }
    }

    /// Loads nodes and echo in turn.
    pub fn run(&self, programs: &Programs, nodes: &[String], echo: &Process) -> Outcome<Found> {
        Found::of(&[self.report(programs, nodes, Some(echo))?])
    }

    /// Puts several loads on clusters, each with the echo beside it, in turn, round by round: what is compared is then
    /// of the same minutes, and each is of more of them than if one came after the other. As many rounds as the first
    /// has.
    pub fn run_in_turn(
        loads: &[(Self, Vec<String>)],
        programs: &Programs,
        echo: &Process,
    ) -> Outcome<Vec<Found>> {
        let mut reports: Vec<Vec<Value>> = loads.iter().map(|_| Vec::new()).collect();
        for round in 0..loads.first().map_or(0, |(load, _)| load.rounds) {
            for ((load, urls), reports) in loads.iter().zip(&mut reports) {
                let load = Self { prefilled: load.prefilled || round > 0, rounds: 1, ..*load };
                reports.push(load.report(programs, urls, Some(echo))?);
            }
        }
        reports.iter().map(|reports| Found::of(reports)).collect()
    }

    /// Loads servers with nobody beside them.
    pub fn run_alone(&self, programs: &Programs, servers: &[String]) -> Outcome<Alone> {
        let report = self.report(programs, servers, None)?;
        let alone = Alone::of(&report)?;
        if self.rate.is_some() && alone.tails.len() != self.rounds as usize {
            return Err(format!("a round has no tail in {report}").into());
        }
        Ok(alone)
    }

    fn report(&self, programs: &Programs, servers: &[String], echo: Option<&Process>) -> Outcome<Value> {
        programs.memory.look();
        let mut command = Command::new(&programs.ringwork);
        let Spans { warm_up, measured } = self.spans;
        command.args(["bench", self.workload, "--json", "--warmup", warm_up, "--duration", measured]);
        command.args(["--node", &servers.join(","), "--rounds", &self.rounds.to_string()]);
        command.args(["--connections", &self.connections.to_string()]);
        if let Some(echo) = echo {
            command.args(["--reference", &echo.url()]);
        }
        if let Some(rate) = self.rate {
            command.args(["--rate", &format!("{rate:.0}")]);
        }
        if self.workload != ECHO {
            command.args(["--read-share", &self.read_share.to_string()]);
        }
        if let Some(users) = self.users {
            command.args([if self.workload == "kv" { "--keys" } else { "--users" }, &users.to_string()]);
        }
        // The objects of `kv` are few, and put once by each run that reads.
        if self.prefilled && self.workload != "kv" {
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
        Ok(report)
    }
}
