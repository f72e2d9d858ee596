//! Which repairs a holder asks for, of whom, and when a partition has been repaired. A replica whose data is lost has
//! to have what each of the other replicas has, not only what one of them has: a write that was acknowledged by the
//! lost one and one other is on that other alone. So it is fetched from every partition within n - 1 steps on either
//! side, whose holders have a replica of some of its items. It decides whom to ask again and when; what a transfer
//! is, and what is lost, it is told.
//!
//! After `riak_core`'s repair, which fetches from the two next partitions only.

use super::schedule::Repair;
use crate::ids::{NodeId, Partition};
use crate::membership::ClusterState;
use crate::ring::RingSize;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An answer that does not come is not waited for longer than this; nor is a transfer that was promised.
const ASKED_AGAIN_MS: u64 = 10_000;
/// A source that could not be used is asked again after this.
const PAUSE_MS: u64 = 1_000;

/// What a node says that was asked for a repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RepairAnswer {
    /// It will send what it has.
    Taken,
    /// It does not hold the source, or knows another holder of what is to be repaired.
    NotHeld,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// To be asked, not before that time.
    Open { not_before_ms: u64 },
    /// Everything that it has has come.
    Done,
}

/// What is known of one partition's repair, for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Awaited {
    /// The partition.
    pub partition: Partition,
    /// Whether the replica is taken for incomplete meanwhile.
    pub lost: bool,
    /// Partitions whose replicas are still to come.
    pub sources: BTreeSet<Partition>,
}

/// See the module's head.
#[derive(Clone, Default, Debug)]
pub struct Repairs {
    wanted: BTreeMap<Partition, BTreeMap<Partition, Source>>,
    lost: BTreeSet<Partition>,
}

/// Whether a repair may be asked for, or a source that lies here be merged: when every member has said what it holds
/// for others, and nobody holds anything for the source. Before that the source may lack what only a hint has, which
/// goes home to the source and not to whoever was repaired from it (found by model). `in_doubt`: the asker's own
/// partitions of which others may hold something.
pub fn may_be_asked(state: &ClusterState, in_doubt: &BTreeSet<Partition>, repair: Repair) -> bool {
    !in_doubt.contains(&repair.partition) && !state.strays().any(|(_, partition)| partition == repair.source)
}

/// The partitions that have replicas of items which `partition` has, with n replicas of each.
pub fn sources_of(size: RingSize, partition: Partition, n: usize) -> BTreeSet<Partition> {
    let (count, n) = (size.count(), n.min(size.count()));
    let mut sources: BTreeSet<Partition> = (1..n)
        .flat_map(|steps| [size.clockwise(partition, steps), size.clockwise(partition, count - steps)])
        .collect();
    sources.remove(&partition);
    sources
}

impl Repairs {
    /// Takes note of what is lost of what this node holds, and forgets what it does not hold any more.
    pub fn observe(&mut self, state: &ClusterState, me: NodeId, lost: &BTreeSet<Partition>, n: usize) {
        self.wanted.retain(|partition, _| state.holder(*partition) == Some(me));
        self.lost.clone_from(lost);
        let fresh: Vec<Partition> =
            lost.iter().copied().filter(|partition| !self.wanted.contains_key(partition)).collect();
        self.wish(state, me, fresh, n);
    }

    /// An operator wishes these to be repaired, whatever is known of them. Those that this node does not hold are left
    /// out; those that are being repaired begin anew.
    pub fn wish(
        &mut self,
        state: &ClusterState,
        me: NodeId,
        partitions: impl IntoIterator<Item = Partition>,
        n: usize,
    ) {
        for partition in partitions {
            if state.holder(partition) == Some(me) {
                let sources = sources_of(state.size(), partition, n);
                let open = sources.into_iter().map(|source| (source, Source::Open { not_before_ms: 0 }));
                self.wanted.insert(partition, open.collect());
            }
        }
    }

    /// Whom to ask for what now, of what `may` be asked for. What this node holds itself is not: see [`Self::own`].
    pub fn to_ask(
        &mut self,
        now_ms: u64,
        state: &ClusterState,
        me: NodeId,
        up: &BTreeSet<NodeId>,
        may: impl Fn(Repair) -> bool,
    ) -> BTreeMap<NodeId, Vec<Repair>> {
        let mut asks: BTreeMap<NodeId, Vec<Repair>> = BTreeMap::new();
        for (partition, sources) in &mut self.wanted {
            for (source, known) in sources {
                let Source::Open { not_before_ms } = *known else { continue };
                let repair = Repair { to: me, partition: *partition, source: *source };
                match state.holder(*source) {
                    Some(holder) if holder == me => {}
                    Some(holder) if not_before_ms <= now_ms && up.contains(&holder) && may(repair) => {
                        *known = Source::Open { not_before_ms: now_ms.saturating_add(ASKED_AGAIN_MS) };
                        asks.entry(holder).or_default().push(repair);
                    }
                    _ => {}
                }
            }
        }
        asks
    }

    /// Repairs of which this node holds the source, too: what is there is merged by the caller as what a transfer
    /// brings, and then it is [`Self::received`]. What was on the disk that is lost is gone from both; but a source
    /// may have come here since, whole, and hints may have come home to it (found by model).
    pub fn own(&self, state: &ClusterState, me: NodeId) -> Vec<Repair> {
        let open = self.wanted.iter().flat_map(|(partition, sources)| {
            let open = sources.iter().filter(|(_, known)| matches!(known, Source::Open { .. }));
            open.map(|(source, _)| Repair { to: me, partition: *partition, source: *source })
        });
        open.filter(|repair| state.holder(repair.source) == Some(me)).collect()
    }

    /// What was said to one of the questions.
    pub fn answered(&mut self, now_ms: u64, partition: Partition, source: Partition, answer: RepairAnswer) {
        let Some(known) = self.wanted.get_mut(&partition).and_then(|sources| sources.get_mut(&source)) else {
            return;
        };
        if let (RepairAnswer::NotHeld, Source::Open { .. }) = (answer, *known) {
            *known = Source::Open { not_before_ms: now_ms.saturating_add(PAUSE_MS) };
        }
    }

    /// Something of a promised transfer has come: it is not asked for again soon.
    pub fn comes(&mut self, now_ms: u64, partition: Partition, source: Partition) {
        if let Some(Source::Open { not_before_ms }) =
            self.wanted.get_mut(&partition).and_then(|sources| sources.get_mut(&source))
        {
            *not_before_ms = now_ms.saturating_add(ASKED_AGAIN_MS);
        }
    }

    /// Everything that a source has is here and synced.
    pub fn received(&mut self, partition: Partition, source: Partition) {
        if let Some(known) = self.wanted.get_mut(&partition).and_then(|sources| sources.get_mut(&source)) {
            *known = Source::Done;
        }
    }

    /// Partitions of which everything has come. They are forgotten here.
    pub fn repaired(&mut self) -> Vec<Partition> {
        let is_whole =
            |sources: &BTreeMap<Partition, Source>| sources.values().all(|known| *known == Source::Done);
        let whole = self.wanted.iter().filter(|(_, sources)| is_whole(sources));
        let whole: Vec<Partition> = whole.map(|(partition, _)| *partition).collect();
        for partition in &whole {
            self.wanted.remove(partition);
        }
        whole
    }

    /// What is waited for.
    pub fn awaited(&self) -> impl Iterator<Item = Awaited> + '_ {
        self.wanted.iter().map(|(partition, sources)| Awaited {
            partition: *partition,
            lost: self.lost.contains(partition),
            sources: sources
                .iter()
                .filter(|(_, known)| matches!(known, Source::Open { .. }))
                .map(|(source, _)| *source)
                .collect(),
        })
    }

    /// Whether nothing is waited for.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterId;
    use crate::membership::{Member, Possession, Status};

    fn id(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn all() -> BTreeSet<NodeId> {
        [1, 2, 3].map(id).into()
    }

    /// A ring of eight; three nodes hold it in turn.
    fn state() -> ClusterState {
        let member =
            |n: u8| Member::new(&format!("n{n}"), "127.0.0.1:1", None, Status::Valid, id(n)).unwrap();
        let size = RingSize::try_from(8).unwrap();
        let mut state = ClusterState::born(ClusterId([7; 16]), size, id(1), member(1));
        for n in [2, 3] {
            state.merge_member(id(n), &member(n));
        }
        for partition in 0..8 {
            let holder = id(1 + (partition % 3) as u8);
            if holder != id(1) {
                state.adopt(Partition(partition), Possession::first(id(1)).passed_to(holder));
            }
        }
        state
    }

    #[test]
    fn the_sources_are_the_partitions_within_n_minus_one_steps() {
        let size = RingSize::try_from(8).unwrap();
        let of = |n| sources_of(size, Partition(0), n);
        assert_eq!(of(1), BTreeSet::new());
        assert_eq!(of(2), [1, 7].map(Partition).into());
        assert_eq!(of(3), [1, 2, 6, 7].map(Partition).into());
        assert_eq!(of(20).len(), 7, "the whole ring, once");
    }

    #[test]
    fn a_partition_is_repaired_when_every_other_replica_has_sent_what_it_has() {
        let state = state();
        let mut repairs = Repairs::default();
        // Held by n1: 0, 3, 6. Replicas of what is in 3: in 1 (n2), 2 (n3), 4 (n2), 5 (n3).
        repairs.observe(&state, id(1), &BTreeSet::from([Partition(3)]), 3);
        let asks = repairs.to_ask(0, &state, id(1), &all(), |_| true);
        assert_eq!(asks[&id(2)].iter().map(|r| r.source.0).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(asks[&id(3)].iter().map(|r| r.source.0).collect::<Vec<_>>(), [2, 5]);
        assert!(repairs.to_ask(1, &state, id(1), &all(), |_| true).is_empty(), "they have been asked");
        for source in [1, 2, 4] {
            repairs.answered(1, Partition(3), Partition(source), RepairAnswer::Taken);
            repairs.received(Partition(3), Partition(source));
            assert!(repairs.repaired().is_empty());
        }
        assert_eq!(repairs.awaited().next().unwrap().sources, [Partition(5)].into());
        repairs.received(Partition(3), Partition(5));
        assert_eq!(repairs.repaired(), [Partition(3)]);
        assert!(repairs.is_empty());
    }

    #[test]
    fn nothing_is_asked_for_before_all_have_spoken_and_nobody_has_hints_of_the_source() {
        let mut state = state();
        let repair = |source| Repair { to: id(1), partition: Partition(3), source: Partition(source) };
        let none = BTreeSet::new();
        assert!(may_be_asked(&state, &none, repair(4)));
        assert!(!may_be_asked(&state, &BTreeSet::from([Partition(3)]), repair(4)));
        let mut report = crate::membership::Report::first(crate::ids::Boot(1));
        report.strays.insert(Partition(4));
        state.report(id(3), report);
        assert!(!may_be_asked(&state, &none, repair(4)));
        assert!(may_be_asked(&state, &none, repair(2)));
        let mut repairs = Repairs::default();
        repairs.observe(&state, id(1), &BTreeSet::from([Partition(3)]), 2);
        let asks = repairs.to_ask(0, &state, id(1), &all(), |repair| may_be_asked(&state, &none, repair));
        assert_eq!(asks.values().flatten().map(|repair| repair.source.0).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn who_is_silent_is_asked_again_and_a_lost_source_sends_what_it_has() {
        let state = state();
        let mut repairs = Repairs::default();
        repairs.observe(&state, id(1), &BTreeSet::from([Partition(3)]), 2);
        let first = repairs.to_ask(0, &state, id(1), &BTreeSet::from([id(2)]), |_| true);
        assert_eq!(first.len(), 1, "n3 is down");
        let second = repairs.to_ask(1, &state, id(1), &all(), |_| true);
        assert_eq!(second[&id(3)][0].source, Partition(2));
        assert!(repairs.to_ask(ASKED_AGAIN_MS - 1, &state, id(1), &all(), |_| true).is_empty());
        assert_eq!(repairs.to_ask(ASKED_AGAIN_MS + 1, &state, id(1), &all(), |_| true).len(), 2);
        repairs.received(Partition(3), Partition(2));
        repairs.answered(0, Partition(3), Partition(4), RepairAnswer::NotHeld);
        assert_eq!(repairs.to_ask(PAUSE_MS, &state, id(1), &all(), |_| true)[&id(2)].len(), 1);
        repairs.received(Partition(3), Partition(4));
        assert_eq!(repairs.repaired(), [Partition(3)]);
    }

    #[test]
    fn what_the_same_node_holds_is_not_asked_for_and_what_goes_elsewhere_is_not_repaired() {
        let mut state = state();
        let mut repairs = Repairs::default();
        // Of what is in 0 there is a replica in 6 (n1, as 0 is), when n is 3.
        repairs.observe(&state, id(1), &BTreeSet::from([Partition(0), Partition(3)]), 3);
        let asks = repairs.to_ask(0, &state, id(1), &all(), |_| true);
        assert!(!asks.contains_key(&id(1)));
        let own = Repair { to: id(1), partition: Partition(0), source: Partition(6) };
        assert_eq!(repairs.own(&state, id(1)), [own]);
        repairs.received(own.partition, own.source);
        assert_eq!(repairs.own(&state, id(1)), []);
        let awaited = repairs.awaited().find(|awaited| awaited.partition == Partition(0)).unwrap();
        assert!(!awaited.sources.contains(&Partition(6)));
        assert!(awaited.lost);
        let held = state.possession()[0];
        state.adopt(Partition(0), held.passed_to(id(2)));
        repairs.observe(&state, id(1), &BTreeSet::from([Partition(3)]), 3);
        assert_eq!(repairs.awaited().count(), 1);
        repairs.wish(&state, id(1), [Partition(0), Partition(6)], 3);
        assert_eq!(repairs.awaited().count(), 2, "0 is held elsewhere");
    }
}
