//! The one place where clocks are read. It decides nothing: it hands out wall time, monotonic time and the
//! node's hybrid time. Timers are tokio's, which a simulator can run on virtual time.

use ringwork_core::clock::hybrid::{HybridTime, TooFarAhead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A point on the monotonic clock: time since the clock's own origin.
pub type Moment = Duration;

/// Where time comes from.
pub trait TimeSource: Send + Sync {
    /// Milliseconds since 1970.
    fn wall_ms(&self) -> u64;
    /// Never goes back.
    fn moment(&self) -> Moment;
}

/// A clock, cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn TimeSource>);

impl Clock {
    /// The machine's clocks; monotonic time is tokio's, so it is virtual where tokio's is.
    pub fn system() -> Self {
        Self(Arc::new(SystemSource { origin: monotonic_now() }))
    }

    /// A clock over another source.
    pub fn of(source: Arc<dyn TimeSource>) -> Self {
        Self(source)
    }

    /// Milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }

    /// Now, on the monotonic clock.
    pub fn moment(&self) -> Moment {
        self.0.moment()
    }
}

struct SystemSource {
    origin: tokio::time::Instant,
}

#[allow(clippy::disallowed_methods)] // this file is their one place
fn monotonic_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

impl TimeSource for SystemSource {
    #[allow(clippy::disallowed_methods)] // this file is their one place
    fn wall_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| d.as_millis() as u64)
    }

    fn moment(&self) -> Moment {
        monotonic_now().duration_since(self.origin)
    }
}

/// The node's hybrid clock: each time is given out once in the life of the process, from any thread.
pub struct HybridClock {
    last: AtomicU64,
    clock: Clock,
}

impl HybridClock {
    /// A clock that has seen nothing.
    pub fn new(clock: Clock) -> Self {
        Self { last: AtomicU64::new(0), clock }
    }

    /// A time later than every one given or seen, and later than `above` where that can be believed.
    pub fn next_above(&self, above: HybridTime) -> HybridTime {
        let now_ms = self.clock.wall_ms();
        let step =
            |last: u64| HybridTime(last).observe(above, now_ms).unwrap_or(HybridTime(last)).next(now_ms);
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = step(last);
            match self.last.compare_exchange_weak(last, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(newer) => last = newer,
            }
        }
    }

    /// The latest time given or seen.
    pub fn latest(&self) -> HybridTime {
        HybridTime(self.last.load(Ordering::Relaxed))
    }

    /// Takes note of a time from elsewhere, unless it lies too far ahead.
    pub fn observe(&self, time: HybridTime) -> Result<(), TooFarAhead> {
        HybridTime::default().observe(time, self.clock.wall_ms())?;
        self.last.fetch_max(time.0, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // threads of a test
    fn four_threads_never_draw_the_same_time() {
        let clock = HybridClock::new(Clock::system());
        let mut all: Vec<HybridTime> = std::thread::scope(|scope| {
            let draw = || (0..10_000).map(|_| clock.next_above(HybridTime(0))).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        all.sort();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_time_that_is_too_far_ahead_does_not_move_the_clock() {
        let source = Clock::system();
        let clock = HybridClock::new(source.clone());
        let far = HybridTime::at_ms(source.wall_ms() + 3_600_000);
        assert!(clock.observe(far).is_err());
        assert!(clock.next_above(far) < far);
        let near = HybridTime::at_ms(source.wall_ms() + 60_000);
        assert!(clock.next_above(near) > near);
    }
}
