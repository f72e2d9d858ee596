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
    /// How much there is in all, as the store said when it began; 0 where it could not say.
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

    /// How much there is in all, as far as it can be told now: never less than what is done, and bytes in proportion to
    /// the items. A store tells how many keys it has, but bytes only as they lie on its disk: compressed, or not yet.
    pub fn whole(&self) -> Amount {
        let items = self.estimate.items.max(self.done.items);
        let in_proportion = u128::from(self.done.bytes) * u128::from(items);
        let bytes = match in_proportion.checked_div(u128::from(self.done.items)) {
            Some(bytes) if self.estimate.items > 0 => u64::try_from(bytes).unwrap_or(u64::MAX),
            _ => self.estimate.bytes.max(self.done.bytes),
        };
        Amount { items, bytes }
    }

    /// What is counted: what is done, what there is, and what moves in a second. Items where their number is known,
    /// otherwise bytes.
    fn counted(&self, rate: Amount) -> (u64, u64, u64) {
        match self.estimate.items {
            0 => (self.done.bytes, self.estimate.bytes, rate.bytes),
            items => (self.done.items, items, rate.items),
        }
    }

    /// How long it will take from now on at the present rate, in milliseconds; none when nothing moves, or when it is
    /// not known how much there is.
    pub fn remaining_ms(&self, now_ms: u64) -> Option<u64> {
        match self.counted(self.rate(now_ms)) {
            (_, 0, _) => None,
            (done, whole, _) if done >= whole => Some(0),
            (_, _, 0) => None,
            (done, whole, rate) => Some((whole - done).saturating_mul(1000) / rate),
        }
    }

    /// How much of the whole is done, in thousandths: 0 when it is not known how much there is, and nearly done when
    /// there was less than is done.
    pub fn per_mille(&self) -> u64 {
        match self.counted(Amount::default()) {
            (_, 0, _) => 0,
            (done, whole, _) => (done.saturating_mul(1000) / whole).min(999),
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

    #[test]
    fn items_count_where_their_number_is_known_and_bytes_follow_them() {
        let of = |estimate, done| {
            let mut progress = Progress::new(0, estimate);
            progress.moved(1000, done);
            (progress.per_mille(), progress.remaining_ms(1000), progress.whole())
        };
        let amount = |items, bytes| Amount { items, bytes };
        // Nothing of it lies on the disk yet.
        assert_eq!(of(amount(40, 0), amount(10, 500)), (250, Some(3000), amount(40, 2000)));
        // Compressed to a tenth there.
        assert_eq!(of(amount(40, 200), amount(10, 500)), (250, Some(3000), amount(40, 2000)));
        assert_eq!(of(amount(0, 1000), amount(10, 500)), (500, Some(1000), amount(10, 1000)));
        assert_eq!(of(amount(0, 0), amount(10, 500)), (0, None, amount(10, 500)));
        assert_eq!(of(amount(40, 900), amount(0, 0)), (0, None, amount(40, 900)));
        assert_eq!(of(amount(0, 0), amount(0, 0)), (0, None, amount(0, 0)));
        assert_eq!(of(amount(u64::MAX, 1), amount(1, u64::MAX)).2, amount(u64::MAX, u64::MAX));
    }
}
