//! Percentiles of each tenth of a second of an open loop, by when operations were due. A percentile of a whole round is
//! its one or two longest stalls, and differs severalfold from round to round; how often there are stalls, and how long
//! they are, is steadier. It decides which tenth an operation belongs to, and how many tenths are kept open for answers
//! to come. It does not know what is asked, nor what is made of the figures.

use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

const TENTH: Duration = Duration::from_millis(100);
/// Two seconds: what is answered later counts in the oldest that is open. Latencies of so many are kept one by one.
const OPEN_MAX: usize = 20;

/// Latencies of a phase, by the tenth of a second in which operations were due.
#[derive(Debug)]
pub(super) struct Tenths {
    began: Duration,
    /// How many lie wholly within the phase; the rest of it is not looked at.
    count: u64,
    /// Which is the first that is open.
    first_open: u64,
    open: VecDeque<Vec<u32>>,
    /// Of those closed, in microseconds.
    p99s_us: Vec<u32>,
}

/// What tenths of a second have as their 99th percentile, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct OfTenths {
    /// How many had an operation due in them that has a latency.
    count: usize,
    mean_us: f64,
    median_us: f64,
}

impl Tenths {
    /// Of a phase that lasts for `duration` from `began` on.
    pub(super) fn new(began: Duration, duration: Duration) -> Self {
        let count = u64::try_from(duration.as_nanos() / TENTH.as_nanos()).unwrap_or(u64::MAX);
        Self { began, count, first_open: 0, open: VecDeque::new(), p99s_us: Vec::new() }
    }

    /// Counts a latency of what was `due` then. What was due before the phase or after its last whole tenth is none
    /// of it.
    pub(super) fn record(&mut self, due: Duration, latency_us: u32) {
        let Some(after) = due.checked_sub(self.began) else { return };
        let tenth = u64::try_from(after.as_nanos() / TENTH.as_nanos()).unwrap_or(u64::MAX);
        if tenth >= self.count {
            return;
        }
        // However long nothing was due, no more than all that are open are closed.
        let first = tenth.saturating_sub(OPEN_MAX as u64 - 1);
        while self.first_open < first && !self.open.is_empty() {
            self.close_first();
        }
        self.first_open = self.first_open.max(first);
        let place = tenth.saturating_sub(self.first_open);
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        while self.open.len() <= place && self.open.len() < OPEN_MAX {
            self.open.push_back(Vec::new());
        }
        if let Some(latencies_us) = self.open.get_mut(place) {
            latencies_us.push(latency_us);
        }
    }

    fn close_first(&mut self) {
        let Some(mut latencies_us) = self.open.pop_front() else { return };
        self.first_open += 1;
        // As many as one in a hundred are slower, at most.
        let rank = (latencies_us.len() * 99).div_ceil(100).saturating_sub(1);
        if rank < latencies_us.len() {
            self.p99s_us.push(*latencies_us.select_nth_unstable(rank).1);
        }
    }

    /// None when nothing had a latency.
    pub(super) fn finish(mut self) -> Option<OfTenths> {
        while !self.open.is_empty() {
            self.close_first();
        }
        let count = self.p99s_us.len();
        let mean_us = self.p99s_us.iter().map(|p99_us| f64::from(*p99_us)).sum::<f64>() / count as f64;
        let p99s_us = self.p99s_us.into_iter().map(f64::from).collect();
        Some(OfTenths { count, mean_us, median_us: super::report::median(p99s_us)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGAN: Duration = Duration::from_secs(1000);

    fn after_ms(ms: u64) -> Duration {
        BEGAN + Duration::from_millis(ms)
    }

    #[test]
    fn an_operation_counts_in_the_tenth_it_was_due_in_however_late_its_answer() {
        let mut tenths = Tenths::new(BEGAN, Duration::from_millis(350));
        tenths.record(after_ms(210), 5);
        tenths.record(after_ms(5), 900);
        tenths.record(after_ms(99), 1000);
        tenths.record(after_ms(100), 7);
        // Neither the warm-up, nor a part of a tenth at the end.
        tenths.record(BEGAN - Duration::from_millis(1), 1_000_000);
        tenths.record(after_ms(320), 1_000_000);
        assert_eq!(tenths.finish(), Some(OfTenths { count: 3, mean_us: 1012.0 / 3.0, median_us: 7.0 }));
        assert_eq!(Tenths::new(BEGAN, Duration::from_millis(350)).finish(), None);
    }

    #[test]
    fn of_a_hundred_one_may_be_slower() {
        let mut tenths = Tenths::new(BEGAN, Duration::from_secs(1));
        (1..=100).for_each(|latency_us| tenths.record(BEGAN, latency_us));
        assert_eq!(tenths.finish().unwrap().median_us, 99.0);
    }

    #[test]
    fn what_is_answered_after_two_seconds_counts_in_the_oldest_that_is_open() {
        let mut tenths = Tenths::new(BEGAN, Duration::from_secs(10));
        tenths.record(after_ms(0), 1);
        tenths.record(after_ms(2500), 2);
        tenths.record(after_ms(0), 2_500_000);
        assert_eq!(tenths.first_open, 6);
        assert_eq!(tenths.finish().unwrap().count, 3);
    }

    proptest! {
        #[test]
        fn few_are_open_and_each_tenth_has_the_percentile_of_its_own(
            mut due_ms in prop::collection::vec(0_u64..20_000, 1..300), from_ms in 0_u64..1_000_000_000,
        ) {
            due_ms.sort_unstable();
            let mut tenths = Tenths::new(BEGAN, Duration::MAX);
            let mut expected = std::collections::BTreeMap::<u64, u32>::new();
            for (latency_us, due_ms) in (1..).zip(&due_ms) {
                tenths.record(after_ms(from_ms + due_ms), latency_us);
                prop_assert!(tenths.open.len() <= OPEN_MAX);
                // Of fewer than a hundred it is the slowest, which here is the last; of more it may be the one before.
                expected.insert((from_ms + due_ms) / 100, latency_us);
            }
            let found = tenths.finish().unwrap();
            let mean = expected.values().map(|us| f64::from(*us)).sum::<f64>() / expected.len() as f64;
            prop_assert_eq!(found.count, expected.len());
            prop_assert!((found.mean_us - mean).abs() <= 3.0, "{} for {}", found.mean_us, mean);
        }
    }
}
