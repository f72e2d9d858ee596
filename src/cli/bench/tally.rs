//! What is counted while the load runs, and how phases add up. It decides which operations have a latency. It
//! does not know how figures are shown.

use super::request::Operation;
use super::tenths::Tenths;
use crate::cli::client::{CliError, explanation};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies from 1 µs to a minute, to three digits; what is longer counts as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;
const DIGITS: u8 = 3;
/// Kinds of failures that are told apart. Their names come from outside, and memory is not to depend on it.
const KINDS_MAX: usize = 32;

/// The counts of one phase, or of several together.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) sends: Histogram<u64>,
    pub(super) gets: Histogram<u64>,
    /// How late the generator itself was, where no backlog was the reason.
    pub(super) lateness: Histogram<u64>,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) reconnects: u64,
    pub(super) answered_bytes: u64,
    /// Of one phase of an open loop.
    pub(super) tenths: Option<Tenths>,
    answered: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, CliError> {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
                .map_err(|error| CliError::Failed(format!("cannot make a histogram: {error}")))
        };
        Ok(Self {
            sends: histogram()?,
            gets: histogram()?,
            lateness: histogram()?,
            failures: BTreeMap::new(),
            reconnects: 0,
            answered_bytes: 0,
            tenths: None,
            answered: 0,
        })
    }

    /// Operations that succeeded.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Operations that did not, and connections that did not come about.
    pub(super) fn failed_count(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Of what began, or was due, `at`.
    pub(super) fn answered_after(
        &mut self,
        operation: Operation,
        at: Duration,
        latency: Duration,
        bytes: u64,
    ) {
        self.answered += 1;
        self.answered_bytes += bytes;
        self.record(operation, at, latency);
    }

    /// A refusal or a lost connection has no latency: a node that refuses at once would look fast by it.
    pub(super) fn failed(&mut self, kind: &str) {
        let mut kind = explanation(kind);
        if self.failures.len() >= KINDS_MAX && !self.failures.contains_key(&kind) {
            "other".clone_into(&mut kind);
        }
        *self.failures.entry(kind).or_default() += 1;
    }

    /// What got no answer in time has one, of at least the time waited: leaving it out would cut off just the
    /// end that the high percentiles are there to show.
    pub(super) fn timed_out(&mut self, operation: Operation, at: Duration, waited: Duration) {
        self.failed("timeout (unknown)");
        self.record(operation, at, waited);
    }

    pub(super) fn sent_late_by(&mut self, late: Duration) {
        self.lateness.saturating_record(microseconds(late));
    }

    pub(super) fn reconnected(&mut self) {
        self.reconnects += 1;
    }

    fn record(&mut self, operation: Operation, at: Duration, latency: Duration) {
        let histogram = match operation {
            Operation::Send => &mut self.sends,
            Operation::Get => &mut self.gets,
        };
        histogram.saturating_record(microseconds(latency));
        if let Some(tenths) = &mut self.tenths {
            tenths.record(at, u32::try_from(microseconds(latency)).unwrap_or(u32::MAX));
        }
    }

    /// Adds another phase to this one; tenths of a second stay those of this.
    pub(super) fn add(&mut self, other: &Tally) -> Result<(), CliError> {
        let pairs = [
            (&mut self.sends, &other.sends),
            (&mut self.gets, &other.gets),
            (&mut self.lateness, &other.lateness),
        ];
        for (sum, part) in pairs {
            sum.add(part).map_err(|error| CliError::Failed(format!("cannot add histograms: {error}")))?;
        }
        for (kind, count) in &other.failures {
            *self.failures.entry(kind.clone()).or_default() += count;
        }
        self.reconnects += other.reconnects;
        self.answered_bytes += other.answered_bytes;
        self.answered += other.answered;
        Ok(())
    }
}

/// Rounded up, so that nothing takes no time at all.
fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_between_a_microsecond_and_a_minute() {
        let mut tally = Tally::new().unwrap();
        tally.answered_after(Operation::Send, Duration::ZERO, Duration::ZERO, 10);
        tally.answered_after(Operation::Send, Duration::ZERO, Duration::from_secs(3600), 10);
        assert_eq!(tally.sends.min(), 1);
        assert!(
            tally.sends.max() >= LATENCY_US_MAX && tally.sends.max() < LATENCY_US_MAX + LATENCY_US_MAX / 1000
        );
    }

    #[test]
    fn only_what_was_answered_or_waited_for_has_a_latency() {
        let mut tally = Tally::new().unwrap();
        tally.failed("503 overload");
        tally.timed_out(Operation::Get, Duration::ZERO, Duration::from_secs(10));
        assert_eq!(
            (tally.sends.len(), tally.gets.len(), tally.answered(), tally.failed_count()),
            (0, 1, 0, 2)
        );
    }

    #[test]
    fn a_server_that_invents_failures_fills_no_memory_and_moves_no_cursor() {
        let mut tally = Tally::new().unwrap();
        for number in 0..1000 {
            tally.failed(&format!("500 \u{1b}[2J{number}{}", "x".repeat(10_000)));
        }
        assert_eq!(tally.failures.len(), KINDS_MAX + 1);
        assert_eq!(tally.failures["other"], 1000 - KINDS_MAX as u64);
        assert!(tally.failures.keys().all(|kind| kind.len() < 2000 && !kind.contains('\u{1b}')));
    }

    #[test]
    fn phases_add_up() {
        let mut sum = Tally::new().unwrap();
        let mut part = Tally::new().unwrap();
        part.answered_after(Operation::Send, Duration::ZERO, Duration::from_millis(1), 100);
        part.failed("503");
        part.reconnected();
        sum.add(&part).unwrap();
        sum.add(&part).unwrap();
        assert_eq!((sum.answered(), sum.failures["503"], sum.reconnects, sum.answered_bytes), (2, 2, 2, 200));
    }
}
