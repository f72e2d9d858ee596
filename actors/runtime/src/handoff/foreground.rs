//! Whether this node serves others while data moves: then transfers rest for some time after each batch, so that
//! requests do not wait behind them. It decides from how many messages come over the request connections; what they are
//! about it does not know.
//!
//! A limit on bytes would have to be chosen for the slowest machine; this gives requests their share of any machine,
//! and an idle one moves data as fast as it can.

use std::time::Duration;

/// Messages of other nodes in a second from which on somebody is served. Gossip and comparisons alone bring some
/// twenty.
const BUSY_MESSAGES_PER_SECOND: u64 = 50;
/// How often it is found out anew.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// While somebody is served, a batch is followed by a rest of so many times what it took.
const REST_FACTOR: u32 = 3;
/// The longest rest: a batch may have taken long because a disk did.
const REST_MAX: Duration = Duration::from_millis(100);

/// See the module's head. Times are of any one clock that does not go back.
#[derive(Debug, Default)]
pub(crate) struct Foreground {
    looked: Duration,
    messages: u64,
    is_busy: bool,
}

impl Foreground {
    /// How long to rest after a batch that took so long; `messages` have come since the node's start.
    pub(crate) fn rest_after(&mut self, now: Duration, messages: u64, took: Duration) -> Duration {
        let since = now.saturating_sub(self.looked);
        if since >= LOOK_EVERY {
            let come = messages.saturating_sub(self.messages);
            // Of a long time without a look only the average is known, which is as good.
            self.is_busy = come.saturating_mul(1000) >= BUSY_MESSAGES_PER_SECOND * since.as_millis() as u64;
            (self.looked, self.messages) = (now, messages);
        }
        if self.is_busy { (took * REST_FACTOR).min(REST_MAX) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(4);

    #[test]
    fn who_serves_nobody_does_not_rest() {
        let mut foreground = Foreground::default();
        for second in 1..10 {
            assert_eq!(foreground.rest_after(Duration::from_secs(second), second * 20, TOOK), Duration::ZERO);
        }
    }

    #[test]
    fn who_serves_rests_in_proportion_up_to_a_bound_and_no_longer_when_it_is_over() {
        let mut foreground = Foreground::default();
        assert_eq!(foreground.rest_after(Duration::from_secs(1), 5000, TOOK), TOOK * REST_FACTOR);
        let soon = Duration::from_millis(1100);
        assert_eq!(foreground.rest_after(soon, 5001, TOOK), TOOK * REST_FACTOR, "not looked at again yet");
        assert_eq!(foreground.rest_after(soon, 5001, Duration::from_secs(9)), REST_MAX);
        assert_eq!(foreground.rest_after(Duration::from_secs(3), 5020, TOOK), Duration::ZERO);
    }
}
