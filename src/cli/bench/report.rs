//! What is shown of the figures: a table for people, JSON for scripts. It decides the medians and the ratio,
//! and says beside a figure what makes it doubtful. It does not know how the figures came about.

use super::load::Phase;
use super::tally::Tally;
use super::tenths::{OfTenths, Tenths};
use crate::cli::client::{CliError, write_line};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// Above this share of a core the generator is what limits the run.
const GENERATOR_SHARE_MAX: f64 = 0.9;

/// Latencies of one kind of operation, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Latency {
    count: u64,
    mean_us: f64,
    p50_us: u64,
    p99_us: u64,
    p99_9_us: u64,
    max_us: u64,
}

impl Latency {
    /// None of an operation that did not occur.
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean_us: histogram.mean(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p99_9_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        })
    }
}

/// The figures of one round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Round {
    pub(super) answered: u64,
    seconds: f64,
    pub(super) answered_per_second: f64,
    pub(super) cpu_us_per_operation: Option<f64>,
    /// Of whichever kind of operation is slower.
    p99_us: Option<u64>,
    /// Of each tenth of a second, whichever kind of operation; of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_of_tenths: Option<OfTenths>,
    generator_cpu_us_per_operation: Option<f64>,
    generator_cpu_share: Option<f64>,
    not_started: u64,
}

impl Round {
    fn of(phase: &mut Phase) -> (Self, Option<String>) {
        let seconds = phase.elapsed.as_secs_f64();
        let per_operation =
            |time: Duration| (phase.answered > 0).then(|| time.as_secs_f64() * 1e6 / phase.answered as f64);
        let (cpu, doubt) = match &phase.server_time {
            // A thousand answers cannot cost nothing: the number is that of another process, say outside of
            // the container that the node runs in.
            Ok(time) if time.is_zero() && phase.answered > 1000 => {
                (None, Some("the process that it names used none; is it in a container?".to_owned()))
            }
            Ok(time) => (per_operation(*time), None),
            Err(reason) => (None, Some(reason.clone())),
        };
        let round = Self {
            answered: phase.answered,
            seconds,
            answered_per_second: if seconds > 0.0 { phase.answered as f64 / seconds } else { 0.0 },
            cpu_us_per_operation: cpu,
            p99_us: [&phase.tally.sends, &phase.tally.gets]
                .into_iter()
                .filter(|latencies| !latencies.is_empty())
                .map(|latencies| latencies.value_at_quantile(0.99))
                .max(),
            p99_of_tenths: phase.tally.tenths.take().and_then(Tenths::finish),
            generator_cpu_us_per_operation: phase.own_time.and_then(per_operation),
            generator_cpu_share: phase.own_time.map(|time| time.as_secs_f64() / seconds.max(f64::EPSILON)),
            not_started: phase.not_started,
        };
        (round, doubt)
    }
}

/// All rounds against the same servers.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    urls: Vec<String>,
    /// Medians over the rounds.
    answered_per_second: f64,
    cpu_us_per_operation: Option<f64>,
    /// Of the slower kind of operation in each round.
    p99_us: Option<f64>,
    generator_cpu_us_per_operation: Option<f64>,
    /// Why there is no CPU time.
    cpu_unavailable: Option<String>,
    /// Over all rounds together. Of kv: of puts.
    send: Option<Latency>,
    get: Option<Latency>,
    generator_lateness: Option<Latency>,
    answer_bytes_mean: Option<f64>,
    failures: BTreeMap<String, u64>,
    not_started: u64,
    reconnects: u64,
    rounds: Vec<Round>,
}

/// Gathers the rounds of a series.
pub(super) struct Gatherer {
    urls: Vec<String>,
    tally: Tally,
    rounds: Vec<Round>,
    cpu_unavailable: Option<String>,
}

impl Gatherer {
    pub(super) fn new(urls: Vec<String>) -> Result<Self, CliError> {
        Ok(Self { urls, tally: Tally::new()?, rounds: Vec::new(), cpu_unavailable: None })
    }

    /// Adds a round and returns its figures.
    pub(super) fn add(&mut self, phase: &mut Phase) -> Result<Round, CliError> {
        let (round, doubt) = Round::of(phase);
        self.tally.add(&phase.tally)?;
        self.cpu_unavailable = self.cpu_unavailable.take().or(doubt);
        self.rounds.push(round.clone());
        Ok(round)
    }

    pub(super) fn finish(self) -> Series {
        let median_of =
            |figure: fn(&Round) -> Option<f64>| median(self.rounds.iter().filter_map(figure).collect());
        let answered = self.tally.answered();
        Series {
            answered_per_second: median_of(|round| Some(round.answered_per_second)).unwrap_or_default(),
            cpu_us_per_operation: median_of(|round| round.cpu_us_per_operation),
            p99_us: median_of(|round| round.p99_us.map(|p99| p99 as f64)),
            generator_cpu_us_per_operation: median_of(|round| round.generator_cpu_us_per_operation),
            cpu_unavailable: self.cpu_unavailable,
            send: Latency::of(&self.tally.sends),
            get: Latency::of(&self.tally.gets),
            generator_lateness: Latency::of(&self.tally.lateness),
            answer_bytes_mean: (answered > 0).then(|| self.tally.answered_bytes as f64 / answered as f64),
            not_started: self.rounds.iter().map(|round| round.not_started).sum(),
            reconnects: self.tally.reconnects,
            failures: self.tally.failures,
            urls: self.urls,
            rounds: self.rounds,
        }
    }
}

/// The node's CPU time per operation as a multiple of the reference's, of the same round each.
#[derive(Debug, Serialize)]
pub(super) struct Ratio {
    median: f64,
    rounds: Vec<f64>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `chat`, `kv` or `echo`.
    pub(super) workload: &'static str,
    /// `closed` or `open`.
    pub(super) r#loop: &'static str,
    pub(super) connections: usize,
    pub(super) rate_per_second: Option<f64>,
    pub(super) seconds: f64,
    pub(super) warm_up_seconds: f64,
    pub(super) value_bytes: usize,
    /// Of chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) users: Option<u64>,
    /// Of kv.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<u64>,
    pub(super) read_share: f64,
    /// Of chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<u32>,
    pub(super) node: Series,
    pub(super) reference: Option<Series>,
    pub(super) cpu_ratio: Option<Ratio>,
    pub(super) p99_ratio: Option<f64>,
}

/// None when not every round has both.
pub(super) fn cpu_ratio(node: &Series, reference: &Series) -> Option<Ratio> {
    let pairs = node.rounds.iter().zip(&reference.rounds);
    let rounds: Option<Vec<f64>> = pairs
        .map(|(node, reference)| {
            let (node, reference) = (node.cpu_us_per_operation?, reference.cpu_us_per_operation?);
            (reference > 0.0).then(|| node / reference)
        })
        .collect();
    let rounds = rounds?;
    Some(Ratio { median: median(rounds.clone())?, rounds })
}

/// The node's median 99th percentile as a multiple of the reference's. Not round by round as CPU time: a tail has
/// little to do with another server's in the same round, so the median of their ratios would be the less steady one.
pub(super) fn p99_ratio(node: &Series, reference: &Series) -> Option<f64> {
    let reference = reference.p99_us.filter(|p99| *p99 > 0.0)?;
    Some(node.p99_us? / reference)
}

pub(super) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// What is loaded, for people; in JSON it is `node` whatever it is.
pub(super) fn loaded(workload: &str) -> &'static str {
    if workload == "echo" { "echo" } else { "node" }
}

impl Report {
    /// The table.
    pub(super) fn write(&self, output: &mut dyn Write) -> Result<(), CliError> {
        let mut line = |text: &str| write_line(output, text);
        line(&format!(
            "{:<12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>14}{:>17}",
            "", "answers/s", "p50", "p99", "p99.9", "max", "CPU/answer", "generator's CPU"
        ))?;
        let loaded = loaded(self.workload);
        let named: Vec<(&str, &Series)> =
            self.reference.iter().map(|series| ("reference", series)).chain([(loaded, &self.node)]).collect();
        for (name, series) in &named {
            for row in series.rows(name, if self.workload == "kv" { "put" } else { "send" }) {
                line(row.trim_end())?;
            }
        }
        if let Some(ratio) = &self.cpu_ratio {
            let rounds: Vec<String> = ratio.rounds.iter().map(|ratio| format!("{ratio:.2}")).collect();
            line(&format!(
                "CPU per answer, {loaded} / reference: {:.2} (median of {})",
                ratio.median,
                rounds.join(", ")
            ))?;
        }
        // In a closed loop a percentile says as much of the number of connections as of the servers.
        if let Some(ratio) = self.p99_ratio.filter(|_| self.rate_per_second.is_some()) {
            line(&format!(
                "p99, {loaded} / reference: {ratio:.2} (of the medians of {} rounds)",
                self.node.rounds.len()
            ))?;
        }
        for (name, series) in &named {
            series.remarks(name).iter().try_for_each(|remark| line(remark))?;
        }
        line(match self.rate_per_second {
            Some(_) => {
                "open loop: latency counts from when an operation was due, waiting for a connection included"
            }
            None => {
                "closed loop: a connection sends when its last answer is in, so a stall also stops the load; \
                 latencies are as seen, not corrected for that. With --rate they are"
            }
        })
    }
}

impl Series {
    /// Whether no operation succeeded.
    pub(super) fn is_empty(&self) -> bool {
        self.rounds.iter().all(|round| round.answered == 0)
    }

    /// A row per kind of operation; what belongs to all of them stands in the first.
    fn rows(&self, name: &str, write: &str) -> Vec<String> {
        let kinds = [(write, &self.send), ("get", &self.get)];
        let mut present: Vec<(&str, Option<&Latency>)> =
            kinds.iter().filter_map(|(kind, latency)| Some((*kind, Some(latency.as_ref()?)))).collect();
        if present.is_empty() {
            present.push(("", None));
        }
        let both = present.len() > 1;
        let row = |(number, (kind, latency)): (usize, &(&str, Option<&Latency>))| {
            let title = if both { format!("{name} {kind}") } else { name.to_owned() };
            let time = |figure: fn(&Latency) -> u64| {
                latency.map_or("-".to_owned(), |latency| shown(figure(latency)))
            };
            let cpu = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1} µs"));
            let (rate, cpu, own) = if number == 0 {
                let (cpu, own) = (cpu(self.cpu_us_per_operation), cpu(self.generator_cpu_us_per_operation));
                (format!("{:.0}", self.answered_per_second), cpu, own)
            } else {
                Default::default()
            };
            let (p50, p99) = (time(|latency| latency.p50_us), time(|latency| latency.p99_us));
            let (p99_9, max) = (time(|latency| latency.p99_9_us), time(|latency| latency.max_us));
            format!("{title:<12}{rate:>12}{p50:>10}{p99:>10}{p99_9:>10}{max:>10}{cpu:>14}{own:>17}")
        };
        present.iter().enumerate().map(row).collect()
    }

    fn remarks(&self, name: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        for (kind, count) in &self.failures {
            remarks.push(format!("{name}: {count} × {kind}"));
        }
        if self.not_started > 0 {
            let count = self.not_started;
            let why = "due, but no connection was free; they have no latency";
            remarks.push(format!("{name}: {count} operations not started: {why}"));
        }
        if self.urls.len() > 1 && self.cpu_us_per_operation.is_some() {
            let count = self.urls.len();
            remarks.push(format!("{name}: rate, latencies and CPU time are of all {count} servers together"));
        }
        if let Some(reason) = &self.cpu_unavailable {
            remarks.push(format!("{name}: CPU time not available: {reason}"));
        }
        let shares = self.rounds.iter().filter_map(|round| round.generator_cpu_share).collect();
        if let Some(share) = median(shares).filter(|share| *share > GENERATOR_SHARE_MAX) {
            let (percent, what) = (share * 100.0, "rate and latency are its limits, not the server's");
            remarks.push(format!("{name}: the load generator used {percent:.0} % of a core: {what}"));
        }
        if let Some(late) = &self.generator_lateness {
            let (p50, p99) = (shown(late.p50_us), shown(late.p99_us));
            remarks.push(format!(
                "{name}: the generator itself sent late by {p50} (p50), {p99} (p99); it is in the latencies"
            ));
        }
        remarks
    }
}

/// Microseconds in the unit that a person would choose.
fn shown(microseconds: u64) -> String {
    let figure = microseconds as f64;
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.2} ms", figure / 1e3),
        _ => format!("{:.2} s", figure / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::request::Operation;

    fn series(cpu_per_answer_us: &[u64]) -> Series {
        let urls = ["http://127.0.0.1:8098", "http://127.0.0.2:8098"].map(str::to_owned);
        let mut gatherer = Gatherer::new(urls.to_vec()).unwrap();
        for cpu in cpu_per_answer_us {
            let mut tally = Tally::new().unwrap();
            (0..100).for_each(|_| {
                tally.answered_after(Operation::Send, Duration::ZERO, Duration::from_micros(1500), 200)
            });
            tally.failed("503 overload");
            let mut phase = Phase {
                tally,
                answered: 100,
                elapsed: Duration::from_secs(2),
                server_time: Ok(Duration::from_micros(cpu * 100)),
                own_time: Some(Duration::from_secs(2)),
                not_started: 3,
            };
            gatherer.add(&mut phase).unwrap();
        }
        gatherer.finish()
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn each_round_is_compared_with_the_reference_of_its_own() {
        let ratio = cpu_ratio(&series(&[30, 44, 90]), &series(&[20, 20, 30])).unwrap();
        assert_eq!(ratio.rounds, [1.5, 2.2, 3.0]);
        assert!((ratio.median - 2.2).abs() < 1e-9);
    }

    #[test]
    fn of_percentiles_the_medians_are_compared_so_one_bad_round_on_either_side_says_nothing() {
        let series = |latencies_us: &[u64]| {
            let mut gatherer = Gatherer::new(Vec::new()).unwrap();
            for latency in latencies_us {
                let mut tally = Tally::new().unwrap();
                (0..100).for_each(|_| {
                    tally.answered_after(
                        Operation::Send,
                        Duration::ZERO,
                        Duration::from_micros(*latency),
                        200,
                    );
                });
                tally.answered_after(Operation::Get, Duration::ZERO, Duration::from_micros(latency / 2), 200);
                let (elapsed, server_time) = (Duration::from_secs(2), Ok(Duration::from_millis(1)));
                let mut phase =
                    Phase { tally, answered: 101, elapsed, server_time, own_time: None, not_started: 0 };
                gatherer.add(&mut phase).unwrap();
            }
            gatherer.finish()
        };
        let (node, reference) = (series(&[600, 90_000, 500]), series(&[9000, 100, 100]));
        assert_eq!((node.p99_us, reference.p99_us), (Some(600.0), Some(100.0)));
        assert_eq!(p99_ratio(&node, &reference), Some(6.0));
        assert_eq!(p99_ratio(&node, &series(&[])), None);
    }

    #[test]
    fn a_round_without_cpu_time_has_no_ratio_and_says_why() {
        let mut gatherer = Gatherer::new(Vec::new()).unwrap();
        let reason = "10.0.0.1:8098 is another machine".to_owned();
        let mut phase = Phase {
            tally: Tally::new().unwrap(),
            answered: 0,
            elapsed: Duration::ZERO,
            server_time: Err(reason),
            own_time: None,
            not_started: 0,
        };
        gatherer.add(&mut phase).unwrap();
        let remote = gatherer.finish();
        assert!(cpu_ratio(&remote, &series(&[20])).is_none());
        assert!(p99_ratio(&remote, &series(&[20])).is_none());
        assert!(remote.remarks("node").iter().any(|remark| remark.contains("another machine")), "{remote:?}");
        assert!(remote.rows("node", "send")[0].contains('-'));
    }

    #[test]
    fn the_table_shows_what_the_json_has() {
        let (node, reference) = (series(&[40, 40]), series(&[20, 20]));
        let (cpu_ratio, p99_ratio) = (cpu_ratio(&node, &reference), p99_ratio(&node, &reference));
        let mut report = Report {
            workload: "chat",
            r#loop: "open",
            connections: 64,
            rate_per_second: Some(50.0),
            seconds: 2.0,
            warm_up_seconds: 1.0,
            value_bytes: 100,
            users: Some(1000),
            keys: None,
            read_share: 0.0,
            limit: Some(20),
            node,
            reference: Some(reference),
            cpu_ratio,
            p99_ratio,
        };
        let mut output = Vec::new();
        report.write(&mut output).unwrap();
        let table = String::from_utf8(output).unwrap();
        for expected in [
            "node                  50   1.50 ms",
            "40.0 µs",
            "CPU per answer, node / reference: 2.00 (median of 2.00, 2.00)",
            "p99, node / reference: 1.00 (of the medians of 2 rounds)",
            "2 × 503 overload",
            "6 operations not started",
            "CPU time are of all 2 servers together",
            "100 % of a core",
            "open loop",
        ] {
            assert!(table.contains(expected), "{expected} is not in\n{table}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["cpu_ratio"]["median"], 2.0);
        assert_eq!(json["p99_ratio"], 1.0);
        assert_eq!(json["node"]["send"]["count"], 200);

        report.rate_per_second = None;
        let mut output = Vec::new();
        report.write(&mut output).unwrap();
        let table = String::from_utf8(output).unwrap();
        assert!(table.contains("closed loop") && !table.contains("p99, node / reference"), "{table}");
    }
}
