//! The hybrid logical clock: physical milliseconds as long as they advance, counted on when they do not
//! (Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", 2014). It decides the next time to
//! give out and whom to believe; it never reads the wall clock itself.

use crate::ids::{Boot, NodeId};
use crate::limits::CLOCK_AHEAD_MS_MAX;
use serde::{Deserialize, Serialize};

const LOGICAL_BITS: u32 = 16;

/// A time of the hybrid clock: 48 bits of milliseconds since 1970, 16 bits of counting within one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct HybridTime(pub u64);

impl HybridTime {
    /// The first time of a millisecond. Milliseconds beyond 48 bits (the year 10 889) stay at the last.
    pub fn at_ms(milliseconds: u64) -> Self {
        Self(milliseconds.min((1 << 48) - 1) << LOGICAL_BITS)
    }

    /// Its milliseconds since 1970.
    pub fn milliseconds(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// Its count within the millisecond.
    pub fn logical(self) -> u16 {
        self.0 as u16
    }

    /// The time after this one for an event at `now_ms`: the wall clock where it has advanced, one more than
    /// the last where it has not.
    pub fn next(self, now_ms: u64) -> Self {
        Self::at_ms(now_ms).max(Self(self.0.saturating_add(1)))
    }

    /// The clock after it has seen `other`, at `now_ms`. A time too far ahead is not believed: the clock
    /// stays as it was.
    pub fn observe(self, other: HybridTime, now_ms: u64) -> Result<Self, TooFarAhead> {
        let ahead_ms = other.milliseconds().saturating_sub(now_ms);
        if ahead_ms > CLOCK_AHEAD_MS_MAX {
            return Err(TooFarAhead { ahead_ms });
        }
        Ok(self.max(other))
    }
}

/// A time from outside lies more than five minutes ahead of this clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a time {ahead_ms} ms ahead of this node's clock, more than {CLOCK_AHEAD_MS_MAX} ms, is not believed"
)]
pub struct TooFarAhead {
    /// How far ahead.
    pub ahead_ms: u64,
}

/// A time that no other event of any node bears: the hybrid clock gives each time once in a process, and
/// node and boot tell processes apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp {
    /// When.
    pub time: HybridTime,
    /// Whose clock.
    pub node: NodeId,
    /// In which of its lives.
    pub boot: Boot,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_peer_far_ahead_is_not_believed_and_changes_nothing() {
        let clock = HybridTime::at_ms(1_000);
        let liar = HybridTime::at_ms(1_001 + CLOCK_AHEAD_MS_MAX);
        assert_eq!(clock.observe(liar, 1_000), Err(TooFarAhead { ahead_ms: CLOCK_AHEAD_MS_MAX + 1 }));
        assert!(clock.observe(HybridTime::at_ms(1_000 + CLOCK_AHEAD_MS_MAX), 1_000).is_ok());
    }

    proptest! {
        #[test]
        fn times_rise_strictly_whatever_the_wall_clock_does(
            walls in prop::collection::vec((0u64..1 << 44, proptest::option::of(0u64..1 << 44)), 1..100)
        ) {
            let mut clock = HybridTime::default();
            for (wall, seen) in walls {
                if let Some(seen) = seen
                    && let Ok(after) = clock.observe(HybridTime::at_ms(seen), wall)
                {
                    prop_assert!(after >= clock && after >= HybridTime::at_ms(seen));
                    clock = after;
                }
                let next = clock.next(wall);
                prop_assert!(next > clock);
                prop_assert!(next.milliseconds() >= wall);
                clock = next;
            }
        }

        #[test]
        fn a_time_is_not_ahead_of_everything_it_has_seen(last: u64, wall in 0u64..1 << 47) {
            let last = HybridTime(last % (1 << 62));
            let next = last.next(wall);
            prop_assert!(next.milliseconds() <= wall.max(last.milliseconds() + 1));
        }
    }
}
