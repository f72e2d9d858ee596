//! Of how many partitions something is kept that mostly is of none. Where it is of none, nobody needs to walk over all
//! of them, which is asked several times a second and is long in a large ring. It decides nothing.

use super::Held;
use super::places::Places;

/// See the module's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Census {
    pub(super) inbound: usize,
    pub(super) outbound: usize,
    pub(super) intents: usize,
    pub(super) lost: usize,
}

impl Census {
    /// Counts all that something has happened to: of the others there is nothing to count.
    pub(super) fn of(places: &Places) -> Self {
        let mut census = Self::default();
        places.touched().for_each(|(_, held)| census.count(held, usize::saturating_add));
        census
    }

    /// One of them is now `after`.
    pub(super) fn change(&mut self, before: &Held, after: &Held) {
        self.count(before, usize::saturating_sub);
        self.count(after, usize::saturating_add);
    }

    fn count(&mut self, held: &Held, change: fn(usize, usize) -> usize) {
        self.inbound = change(self.inbound, usize::from(held.inbound.is_some()));
        self.outbound = change(self.outbound, usize::from(held.outbound.is_some()));
        self.intents = change(self.intents, usize::from(held.intent.is_some()));
        self.lost = change(self.lost, usize::from(held.lost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::generations::places::BirthMark;
    use proptest::prelude::*;
    use ringwork_core::ids::{NodeId, Partition};
    use ringwork_core::membership::Possession;
    use ringwork_core::transfer::{GenerationId, Outbound, SessionId};

    /// A bit for each: collected, being sent, about to be passed on, lost.
    fn held(bits: u8) -> Held {
        let node = NodeId([1; 16]);
        let (possession, id) =
            (Possession::first(node), GenerationId { number: Default::default(), mark: 7 });
        let outbound = || {
            Box::new(Outbound {
                possession,
                heir: node,
                source: id,
                receiver: id,
                services: Vec::new(),
                begun: SessionId { node, boot: ringwork_core::ids::Boot(1), number: 1 },
            })
        };
        Held {
            inbound: (bits & 1 > 0).then_some((possession, id)),
            outbound: (bits & 2 > 0).then(outbound),
            intent: (bits & 4 > 0).then(outbound),
            lost: bits & 8 > 0,
            ..super::super::first(None, 7)
        }
    }

    proptest! {
        #[test]
        fn after_any_changes_it_is_what_counting_anew_finds(
            mut all in prop::collection::vec(0u8..16, 1..9),
            changes in prop::collection::vec((0usize..9, 0u8..16), 0..20),
        ) {
            let counted = |all: &[u8]| {
                let mut places = Places::new(BirthMark(7), all.len());
                all.iter().zip(0u16..).for_each(|(bits, n)| places.put(Partition(n), held(*bits)));
                Census::of(&places)
            };
            let mut census = counted(&all);
            for (place, now) in changes {
                let place = place % all.len();
                census.change(&held(all[place]), &held(now));
                all[place] = now;
            }
            prop_assert_eq!(census, counted(&all));
            prop_assert_eq!(census.lost, all.iter().filter(|bits| **bits & 8 > 0).count());
        }
    }
}
