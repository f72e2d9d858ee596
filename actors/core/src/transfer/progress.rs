//! How far a transfer is: items, bytes, rate, time left. It decides nothing; operators read it.

use serde::{Deserialize, Serialize};

/// How much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Items.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds to it.
    pub fn add(&mut self, other: Self) {
        self.items = self.items.saturating_add(other.items);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The time over which the rate is taken: long enough to be calm, short enough to show a stall.
const RATE_MS: u64 = 2000;

/// See the module's head. Times are milliseconds of any one clock that does not go back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// When the transfer began, or was resumed.
    pub started_ms: u64,
    /// When something was last acknowledged.
    pub moved_ms: u64,
    /// What was acknowledged in this session.
    pub done: Amount,
    /// What was sent in this session, acknowledged or not.
    pub sent: Amount,
    /// How much there is in all, about; never less than what is done.
    pub estimate: Amount,
    /// Items that could not be read, on either side, and were skipped.
    pub unreadable: u64,
    /// Bytes in the present stretch of time, when it began, and the rate of the one before.
    stretch: Amount,
    stretch_ms: u64,
    rate: Option<Amount>,
}

impl Progress {
    /// A transfer that begins, of about that much.
    pub fn new(now_ms: u64, estimate: Amount) -> Self {
        Self {
            started_ms: now_ms,
            moved_ms: now_ms,
            done: Amount::default(),
            sent: Amount::default(),
            estimate,
            unreadable: 0,
            stretch: Amount::default(),
            stretch_ms: now_ms,
            rate: None,
        }
    }

    /// So much was acknowledged.
    pub fn moved(&mut self, now_ms: u64, amount: Amount) {
        self.moved_ms = now_ms;
        self.done.add(amount);
        self.stretch.add(amount);
        let passed = now_ms.saturating_sub(self.stretch_ms);
        if passed >= RATE_MS {
            self.rate = Some(per_second(self.stretch, passed));
            self.stretch = Amount::default();
            self.stretch_ms = now_ms;
        }
    }

    /// Items and bytes per second: of the last two seconds, or since the beginning where that is shorter. 0 when
    /// nothing has moved for longer than that.
    pub fn rate(&self, now_ms: u64) -> Amount {
        let passed = now_ms.saturating_sub(self.stretch_ms);
        if passed >= 2 * RATE_MS {
            return per_second(self.stretch, passed);
        }
        self.rate.unwrap_or_else(|| per_second(self.stretch, passed.max(1)))
    }

    /// How long it will take from now on at the present rate, in milliseconds; none when nothing moves.
    pub fn remaining_ms(&self, now_ms: u64) -> Option<u64> {
        let left = self.estimate.bytes.saturating_sub(self.done.bytes);
        match self.rate(now_ms).bytes {
            _ if left == 0 => Some(0),
            0 => None,
            rate => Some(left.saturating_mul(1000) / rate),
        }
    }

    /// How much of the whole is done, in thousandths; an estimate that proved too small counts as nearly done.
    pub fn per_mille(&self) -> u64 {
        match self.estimate.bytes {
            0 => 0,
            whole => (self.done.bytes.saturating_mul(1000) / whole).min(999),
        }
    }
}

fn per_second(amount: Amount, passed_ms: u64) -> Amount {
    let of = |n: u64| n.saturating_mul(1000) / passed_ms.max(1);
    Amount { items: of(amount.items), bytes: of(amount.bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_follow_what_moves_and_a_stall_shows() {
        let mut progress = Progress::new(1000, Amount { items: 1000, bytes: 100_000 });
        assert_eq!(progress.remaining_ms(1000), None);
        for step in 1..=30 {
            progress.moved(1000 + step * 100, Amount { items: 10, bytes: 1000 });
        }
        assert_eq!(progress.rate(4000), Amount { items: 100, bytes: 10_000 });
        assert_eq!(progress.remaining_ms(4000), Some(7000));
        assert_eq!(progress.per_mille(), 300);
        assert!(progress.rate(100_000).bytes < 200, "a stall shows");
        progress.moved(100_000, Amount { items: 700, bytes: 90_000 });
        assert_eq!(progress.per_mille(), 999, "more than was thought");
        assert_eq!(progress.remaining_ms(100_000), Some(0));
    }
}
