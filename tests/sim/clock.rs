//! A node's clocks: the simulation's virtual time, and a wall clock that may be wrong and may jump.

use ringwork_runtime::time::{Moment, TimeSource};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::time::Instant;

/// When every simulated cluster begins: some time in 2027.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// The clocks of one machine.
pub struct MachineClock {
    origin: Instant,
    skew_ms: AtomicI64,
}

impl MachineClock {
    /// A machine whose wall clock is wrong by so much.
    pub fn new(skew_ms: i64) -> Arc<Self> {
        #[allow(clippy::disallowed_methods)] // the simulation's own clock
        let origin = Instant::now();
        Arc::new(Self { origin, skew_ms: AtomicI64::new(skew_ms) })
    }

    /// Sets the wall clock that much wrong.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// How wrong it is.
    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }
}

impl TimeSource for MachineClock {
    fn wall_ms(&self) -> u64 {
        (BEGIN_MS + self.origin.elapsed().as_millis() as i64 + self.skew_ms()) as u64
    }

    fn moment(&self) -> Moment {
        self.origin.elapsed()
    }
}
