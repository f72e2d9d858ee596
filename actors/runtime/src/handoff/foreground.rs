//! Whether this node serves others while data moves: then data is taken in by short turns, and transfers rest after
//! each, so that requests do not wait behind them. It decides from how many messages come over the request connections;
//! what they are about it does not know.
//!
//! A limit on bytes would have to be chosen for the slowest machine; this gives requests their share of any machine,
//! and an idle one moves data as fast as it can.

use std::time::Duration;

/// Messages of other nodes in a second from which on somebody is served. Gossip and comparisons alone bring some
/// twenty.
const BUSY_MESSAGES_PER_SECOND: u64 = 50;
/// How often it is found out anew.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// While somebody is served, taking data in may use one part in so many of what all processors of the machine can do:
/// with two of them a twentieth of one. Sending takes about as much at the other end.
const SHARE: usize = 40;
/// The longest rest: something may have taken long because a disk did, or because others used the processor.
const REST_MAX: Duration = Duration::from_millis(400);
/// Items that are merged in one turn of a vnode while somebody is served: a turn is what a request waits behind.
const TURN_ITEMS_MAX: usize = 100;

/// See the module's head. Times are of any one clock that does not go back.
#[derive(Debug)]
pub(crate) struct Foreground {
    /// What took so long is followed by a rest of so many times that.
    rests: u32,
    looked: Duration,
    messages: u64,
    is_busy: bool,
    /// Until when the node rests for what all its transfers have done so far.
    rests_until: Duration,
}

impl Default for Foreground {
    fn default() -> Self {
        Self::of(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl Foreground {
    /// On a machine with so many processors.
    pub(crate) fn of(processors: usize) -> Self {
        let rests = u32::try_from((SHARE / processors.max(1)).max(2) - 1).unwrap_or(1);
        let none = Duration::ZERO;
        Self { rests, looked: none, messages: 0, is_busy: false, rests_until: none }
    }

    /// Items to merge in the next turn, or all there are.
    pub(crate) fn turn_items(&mut self, now: Duration, messages: u64) -> usize {
        self.look(now, messages);
        if self.is_busy { TURN_ITEMS_MAX } else { usize::MAX }
    }

    /// A turn took so long: the node rests in proportion, and this says how long from now. `messages` have come since
    /// its start. What other transfers have done counts too: the share is the node's, however many there are.
    pub(crate) fn worked(&mut self, now: Duration, messages: u64, took: Duration) -> Duration {
        self.look(now, messages);
        if !self.is_busy {
            self.rests_until = now;
            return Duration::ZERO;
        }
        let until = self.rests_until.max(now) + took.saturating_mul(self.rests);
        self.rests_until = until.min(now + REST_MAX);
        self.rests_until - now
    }

    /// How long to wait before the next turn, for what was done so far.
    pub(crate) fn rest_due(&self, now: Duration) -> Duration {
        if self.is_busy { self.rests_until.saturating_sub(now) } else { Duration::ZERO }
    }

    fn look(&mut self, now: Duration, messages: u64) {
        let since = now.saturating_sub(self.looked);
        if since >= LOOK_EVERY {
            let come = messages.saturating_sub(self.messages);
            // Of a long time without a look only the average is known, which is as good.
            self.is_busy = come.saturating_mul(1000) >= BUSY_MESSAGES_PER_SECOND * since.as_millis() as u64;
            (self.looked, self.messages) = (now, messages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(4);

    #[test]
    fn who_serves_nobody_does_not_rest() {
        let mut foreground = Foreground::of(4);
        for second in 1..10 {
            assert_eq!(foreground.worked(Duration::from_secs(second), second * 20, TOOK), Duration::ZERO);
        }
    }

    #[test]
    fn who_serves_rests_in_proportion_up_to_a_bound_and_no_longer_when_it_is_over() {
        let mut foreground = Foreground::of(4);
        let second = Duration::from_secs(1);
        assert_eq!(foreground.worked(second, 5000, TOOK), TOOK * 9);
        let later = second + TOOK * 9;
        assert_eq!(foreground.worked(later, 5001, TOOK), TOOK * 9, "not looked at again yet");
        assert_eq!(foreground.worked(later, 5001, Duration::from_secs(9)), REST_MAX);
        let over = Duration::from_secs(3);
        assert_eq!(foreground.worked(over, 5020, TOOK), Duration::ZERO);
    }

    #[test]
    fn several_transfers_share_the_share() {
        let mut foreground = Foreground::of(4);
        let second = Duration::from_secs(1);
        let rests = [1, 2, 3].map(|_| foreground.worked(second, 5000, TOOK));
        assert_eq!(rests, [TOOK * 9, TOOK * 18, TOOK * 27]);
        assert_eq!(foreground.rest_due(second + TOOK), TOOK * 26);
        assert_eq!(foreground.rest_due(second + TOOK * 30), Duration::ZERO);
    }

    #[test]
    fn turns_are_short_while_somebody_is_served() {
        let mut foreground = Foreground::of(4);
        assert_eq!(foreground.turn_items(Duration::from_secs(1), 10), usize::MAX);
        assert_eq!(foreground.turn_items(Duration::from_secs(2), 1000), TURN_ITEMS_MAX);
    }

    #[test]
    fn more_processors_give_a_larger_share_and_never_more_than_half_of_one() {
        let rests = [1, 2, 8, 20, 128].map(|processors| Foreground::of(processors).rests);
        assert_eq!(rests, [39, 19, 4, 1, 1]);
    }
}
