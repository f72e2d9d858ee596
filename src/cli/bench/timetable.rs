//! When the operations of an open loop are due, and who tells the connections. It decides the moments only
//! from rate and number. It does not know what an operation is, nor whether the last one has ended: that is
//! the point of it.

use super::Monotonic;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Nanoseconds of a second times a thousand, because rates are kept in thousandths of an operation per
/// second.
const SCALE: u128 = 1_000_000_000_000;
/// Operations that are due closer together than this are released together, which bounds what the pacing
/// costs.
const TICK_MIN: Duration = Duration::from_micros(100);

/// A fixed rate, counted from a beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timetable {
    began: Duration,
    rate_thousandths: u128,
}

impl Timetable {
    /// `rate` operations per second from `began` on, between one in a thousand seconds and a million.
    pub(super) fn new(began: Duration, rate: f64) -> Self {
        // `as` saturates, and makes 0 of what is not a number. The upper end keeps `count_due` within 128
        // bits.
        let rate_thousandths = u128::from((rate * 1000.0).round() as u64).clamp(1, 1_000_000_000);
        Self { began, rate_thousandths }
    }

    /// When operation `number`, from 0, is due. Computed anew each time, so that rounding never adds up.
    pub(super) fn due(&self, number: u64) -> Duration {
        let nanoseconds = u128::from(number) * SCALE / self.rate_thousandths;
        self.began.saturating_add(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// How many operations are due at `now`: all `number` with `due(number) <= now`.
    pub(super) fn count_due(&self, now: Duration) -> u64 {
        let Some(elapsed) = now.checked_sub(self.began) else { return 0 };
        let count = ((elapsed.as_nanos() + 1) * self.rate_thousandths).div_ceil(SCALE);
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// The operations of one node that are due and not started: what the permits of the semaphore count. The
/// backlog is a number, so it takes no memory however far the node falls behind.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) due: Semaphore,
    /// Which of the operations, and of how many lanes, these are.
    index: u64,
    lanes: u64,
    taken: std::cell::Cell<u64>,
}

impl Lane {
    pub(super) fn new(index: u64, lanes: u64) -> Self {
        Self { due: Semaphore::new(0), index, lanes: lanes.max(1), taken: std::cell::Cell::new(0) }
    }

    /// The number of the operation that is taken with a permit: the earliest of this lane that nobody took.
    pub(super) fn take(&self) -> u64 {
        let taken = self.taken.get();
        self.taken.set(taken + 1);
        taken.saturating_mul(self.lanes).saturating_add(self.index)
    }

    /// How many of the first `released` operations of all lanes are this one's.
    fn share_of(&self, released: u64) -> u64 {
        released.saturating_sub(self.index).div_ceil(self.lanes)
    }
}

/// Releases operations when they are due; stops when it is dropped.
///
/// The runtime's own timer counts milliseconds, which is more than an answer takes: at 5 000 operations per
/// second it would send five at once, and the millisecond that the first of them waited would be shown as the
/// node's latency. Spinning until the moment would take a core from the node. So a thread waits, with the
/// kernel's timer and its 50 microseconds, and wakes the runtime.
pub(super) struct Pacer {
    _stop: Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Pacer {
    pub(super) fn start(clock: Monotonic, timetable: Timetable, lanes: Vec<Rc<Lane>>) -> Self {
        let (stop, stopped) = channel();
        let tick = Arc::new(Notify::new());
        let ticks = tick.clone();
        tokio::task::spawn_blocking(move || wait_and_wake(clock, timetable, &ticks, &stopped));
        let task = tokio::task::spawn_local(async move {
            let mut released = 0_u64;
            loop {
                let due = timetable.count_due(clock.now()).max(released);
                for lane in &lanes {
                    let more = lane.share_of(due) - lane.share_of(released);
                    let room = Semaphore::MAX_PERMITS - lane.due.available_permits();
                    lane.due.add_permits(usize::try_from(more).unwrap_or(usize::MAX).min(room));
                }
                released = due;
                tick.notified().await;
            }
        });
        Self { _stop: stop, task }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn wait_and_wake(clock: Monotonic, timetable: Timetable, tick: &Notify, stopped: &Receiver<()>) {
    loop {
        let now = clock.now();
        let next = timetable.due(timetable.count_due(now));
        let wait = next.saturating_sub(now).max(TICK_MIN);
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        tick.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGAN: Duration = Duration::from_secs(1000);

    #[test]
    fn a_thousand_per_second_are_a_millisecond_apart() {
        let timetable = Timetable::new(BEGAN, 1000.0);
        assert_eq!(timetable.due(0), BEGAN);
        assert_eq!(timetable.due(2500), BEGAN + Duration::from_millis(2500));
        assert_eq!(timetable.count_due(BEGAN), 1);
        assert_eq!(timetable.count_due(BEGAN + Duration::from_millis(1)), 2);
        assert_eq!(timetable.count_due(BEGAN - Duration::from_nanos(1)), 0);
    }

    #[test]
    fn a_rate_that_divides_no_second_does_not_drift() {
        let timetable = Timetable::new(BEGAN, 3.0);
        assert_eq!(timetable.due(3_000_000), BEGAN + Duration::from_secs(1_000_000));
    }

    #[test]
    fn rates_that_mean_nothing_do_no_harm() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
            let timetable = Timetable::new(BEGAN, rate);
            let _ = timetable.count_due(Duration::MAX);
            let _ = timetable.due(u64::MAX);
        }
    }

    proptest! {
        #[test]
        fn what_is_due_has_been_counted_and_what_is_not_has_not(
            rate in 0.001_f64..1e6, nanoseconds in 0_u64..100_000_000_000,
        ) {
            let timetable = Timetable::new(BEGAN, rate);
            let now = BEGAN + Duration::from_nanos(nanoseconds);
            let count = timetable.count_due(now);
            prop_assert!(count >= 1);
            prop_assert!(timetable.due(count - 1) <= now);
            prop_assert!(timetable.due(count) > now);
        }

        #[test]
        fn the_lanes_share_every_operation_and_none_twice(lanes in 1_u64..7, released in 0_u64..100) {
            let lanes: Vec<Lane> = (0..lanes).map(|index| Lane::new(index, lanes)).collect();
            let mut taken: Vec<u64> = Vec::new();
            for lane in &lanes {
                taken.extend((0..lane.share_of(released)).map(|_| lane.take()));
            }
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..released).collect::<Vec<_>>());
        }
    }
}
