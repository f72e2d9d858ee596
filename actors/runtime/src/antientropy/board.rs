//! Anti-entropy as operators see it: what is compared, how old the oldest comparison is, what was repaired, what went
//! wrong last. It decides names in metrics and in the admin API; nothing else looks at it.

use ringwork_core::antientropy::exchange::{Ending, NotNow};
use ringwork_core::ids::Partition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How anti-entropy is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepairSettings {
    /// Whether trees are kept at all. Does not change while the node runs.
    pub enabled: bool,
    /// How often each pair of replicas is compared.
    pub interval: Duration,
    /// Comparisons of one service that this node begins at a time. With 0 it compares nothing, with nobody, and keeps
    /// its trees for when it does again.
    pub exchanges: usize,
    /// Items that each of them sends in a second.
    pub items_per_second: u64,
    /// How old trees may become before they are built anew from the items.
    pub rebuild_interval: Duration,
}

impl RepairSettings {
    /// Whether replicas here are compared, by this node or by others.
    pub fn compares(&self) -> bool {
        self.enabled && self.exchanges > 0
    }
}

impl Default for RepairSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(15),
            exchanges: 2,
            items_per_second: 5000,
            rebuild_interval: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// One service's anti-entropy on one node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RepairLine {
    /// Pairs of replicas that this node compares. The others of its replicas' pairs are the other nodes' to compare.
    pub pairs: usize,
    /// Those of them that were not found equal since the node's start.
    pub never_equal: usize,
    /// Comparisons under way.
    pub running: usize,
    /// How long ago the pair was last found equal that has waited longest, in milliseconds; none before the first.
    pub oldest_ms: Option<u64>,
    /// Partitions here whose trees are up to date.
    pub trees_ready: usize,
    /// Those that are being built.
    pub trees_building: usize,
    /// Those that wait to be built.
    pub trees_in_doubt: usize,
    /// How often trees were built from the items.
    pub builds: u64,
    /// Those of them that found that the trees there were had not said what the items are.
    pub corrected: u64,
    /// Comparisons that found both sides equal.
    pub equal: u64,
    /// Comparisons that found differences.
    pub differed: u64,
    /// Comparisons that did not come to their end.
    pub failed: u64,
    /// Items that other nodes have taken in from here.
    pub items_sent: u64,
    /// Items that were taken in here from others.
    pub items_fetched: u64,
    /// What went wrong last, in words.
    pub last_problem: Option<String>,
}

/// See the module's head.
#[derive(Debug)]
pub struct RepairBoard {
    settings: Mutex<RepairSettings>,
    lines: Mutex<BTreeMap<&'static str, RepairLine>>,
}

impl RepairBoard {
    /// A board with nothing on it.
    pub fn new(settings: RepairSettings) -> Self {
        Self { settings: Mutex::new(settings), lines: Mutex::default() }
    }

    /// How it is done on this node now.
    pub fn settings(&self) -> RepairSettings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it is done, at once but for batches that are on their way.
    pub(crate) fn change(&self, change: impl FnOnce(&mut RepairSettings)) {
        change(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<&'static str, RepairLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be seen now; what is counted stays.
    pub(crate) fn show(&self, service: &'static str, now: RepairLine) {
        let mut lines = self.lines();
        let line = lines.entry(service).or_default();
        *line = RepairLine {
            builds: line.builds,
            corrected: line.corrected,
            equal: line.equal,
            differed: line.differed,
            failed: line.failed,
            items_sent: line.items_sent,
            items_fetched: line.items_fetched,
            last_problem: line.last_problem.take(),
            ..now
        };
    }

    /// Nothing has changed but the age of what was compared.
    pub(crate) fn grow_older(&self, service: &'static str, oldest_ms: Option<u64>) {
        self.lines().entry(service).or_default().oldest_ms = oldest_ms;
    }

    pub(crate) fn built(&self, service: &'static str) {
        self.lines().entry(service).or_default().builds += 1;
    }

    pub(crate) fn corrected(&self, service: &'static str, partition: Partition) {
        tracing::warn!(service, %partition, "the trees had not said what the items are; they were built anew");
        self.lines().entry(service).or_default().corrected += 1;
    }

    pub(crate) fn problem(&self, service: &'static str, problem: String) {
        tracing::debug!(service, problem, "anti-entropy");
        self.lines().entry(service).or_default().last_problem = Some(problem);
    }

    /// An exchange has ended; `told` makes a sentence of what was wrong with it.
    pub(crate) fn ended(&self, service: &'static str, ending: &Ending, told: impl Fn(&str) -> String) {
        let mut lines = self.lines();
        let line = lines.entry(service).or_default();
        let (repaired, problem) = match ending {
            Ending::Equal => {
                line.equal += 1;
                return;
            }
            // The second look says.
            Ending::Unsettled(_) => return,
            Ending::Repaired { repaired, .. } => {
                line.differed += 1;
                (*repaired, None)
            }
            Ending::TreesDiffer => {
                line.differed += 1;
                (Default::default(), Some("the trees differ where the items do not".to_owned()))
            }
            // What is usual after a start, a change of members or under load is no problem.
            Ending::NotNow(_, NotNow::Disabled, repaired) => {
                line.failed += 1;
                (*repaired, Some(NotNow::Disabled.to_string()))
            }
            Ending::NotNow(_, _, repaired) => (*repaired, None),
            Ending::GaveUp { why, repaired, .. } => {
                line.failed += 1;
                (*repaired, Some(why.clone()))
            }
        };
        line.items_sent += repaired.sent;
        line.items_fetched += repaired.fetched;
        if let Some(problem) = problem {
            line.last_problem = Some(told(&problem));
        }
    }

    /// All services, by name.
    pub fn snapshot(&self) -> BTreeMap<&'static str, RepairLine> {
        self.lines().clone()
    }

    /// The numbers as Prometheus text.
    pub fn prometheus(&self) -> String {
        let lines = self.snapshot();
        let mut text = String::new();
        let mut write = |name: &str, kind: &str, help: &str, of: &dyn Fn(&RepairLine) -> u64| {
            let _ = writeln!(text, "# HELP ringwork_repair_{name} {help}");
            let _ = writeln!(text, "# TYPE ringwork_repair_{name} {kind}");
            for (service, line) in &lines {
                let _ = writeln!(text, "ringwork_repair_{name}{{service=\"{service}\"}} {}", of(line));
            }
        };
        write("pairs", "gauge", "Pairs of replicas that this node compares.", &|line| line.pairs as u64);
        write("pairs_never_equal", "gauge", "Pairs not found equal since the start.", &|line| {
            line.never_equal as u64
        });
        write("running", "gauge", "Comparisons of replicas under way.", &|line| line.running as u64);
        write(
            "oldest_milliseconds",
            "gauge",
            "Age of the oldest comparison that found a pair equal.",
            &|line| line.oldest_ms.unwrap_or(0),
        );
        write("trees_ready", "gauge", "Partitions whose trees are up to date.", &|line| {
            line.trees_ready as u64
        });
        write("trees_in_doubt", "gauge", "Partitions whose trees are to be built.", &|line| {
            (line.trees_in_doubt + line.trees_building) as u64
        });
        write("builds_total", "counter", "Times that trees were built from items.", &|line| line.builds);
        write("corrected_total", "counter", "Builds that found the trees there were wrong.", &|line| {
            line.corrected
        });
        write("equal_total", "counter", "Comparisons that found both sides equal.", &|line| line.equal);
        write("differed_total", "counter", "Comparisons that found differences.", &|line| line.differed);
        write("failed_total", "counter", "Comparisons that did not come to their end.", &|line| line.failed);
        write("items_sent_total", "counter", "Items that other replicas took in.", &|line| line.items_sent);
        write("items_fetched_total", "counter", "Items taken in from other replicas.", &|line| {
            line.items_fetched
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::antientropy::exchange::{Repaired, Side};

    #[test]
    fn what_is_counted_stays_when_what_is_seen_changes() {
        let board = RepairBoard::new(RepairSettings::default());
        let told = |problem: &str| format!("group 1: {problem}");
        let repaired = Repaired { sent: 3, fetched: 2 };
        board.ended("chat", &Ending::Equal, told);
        board.ended("chat", &Ending::Repaired { repaired, more: false }, told);
        board.ended("chat", &Ending::NotNow(Side::Theirs, NotNow::Busy, repaired), told);
        let why = "planted".to_owned();
        board.ended("chat", &Ending::GaveUp { side: Side::Theirs, why, repaired }, told);
        board.show("chat", RepairLine { pairs: 9, oldest_ms: Some(70), ..RepairLine::default() });
        board.grow_older("chat", Some(570));
        assert_eq!(board.snapshot()["chat"].oldest_ms, Some(570));
        board.grow_older("chat", Some(70));
        let line = board.snapshot()["chat"].clone();
        assert_eq!((line.pairs, line.equal, line.differed, line.failed), (9, 1, 1, 1));
        assert_eq!((line.items_sent, line.items_fetched), (9, 6));
        assert_eq!(line.last_problem.as_deref(), Some("group 1: planted"));
        let text = board.prometheus();
        for line in [
            "ringwork_repair_pairs{service=\"chat\"} 9",
            "ringwork_repair_oldest_milliseconds{service=\"chat\"} 70",
            "ringwork_repair_items_sent_total{service=\"chat\"} 9",
            "ringwork_repair_failed_total{service=\"chat\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
