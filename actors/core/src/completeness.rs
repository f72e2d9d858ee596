//! Which of a node's own partitions answer for everything. A replica is *complete* when no other node can hold an
//! acknowledged write for it that it lacks: so not after a start, not after the node was taken for down, not when
//! the partition has just come here from one that was not; but again when every member that is waited for has
//! said, asked after that moment, that it holds nothing of the partition for us. A holder that was forced to hold a
//! partition lacks what no stray makes good: it is not complete before it was repaired, which the state says. It
//! decides from answers and from the state; who asks whom over which wire it does not know.
//!
//! Why at all: a write acknowledged by two stand-ins, both holders back, a read at r = 2 from these two: both say
//! "not found", and both would be believed.

use crate::ids::{NodeId, Partition};
use crate::membership::{ClusterState, Status};
use std::collections::{BTreeMap, BTreeSet};

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Completeness {
    me: NodeId,
    /// The round that is being asked; answers name the round they answer.
    round: u64,
    /// What every partition needs that is not mentioned in `needs`.
    base: u64,
    /// Partitions that came here later, with the round that they need.
    needs: BTreeMap<Partition, u64>,
    /// The latest round that each member has answered.
    answered: BTreeMap<NodeId, u64>,
    held: BTreeSet<Partition>,
    /// The first round that counts of a member, since it came back.
    counts_from: BTreeMap<NodeId, u64>,
    /// Members that were joining when last looked: they stand in for nobody.
    joining: BTreeSet<NodeId>,
    /// Partitions of which the data is lost and not fetched again.
    lost: BTreeSet<Partition>,
}

impl Completeness {
    /// A node that starts: nothing it holds is complete yet.
    pub fn new(me: NodeId, state: &ClusterState) -> Self {
        let held = state.held_set(me);
        let joining = joining(state);
        Self {
            me,
            round: 1,
            base: 1,
            needs: BTreeMap::new(),
            answered: BTreeMap::new(),
            counts_from: BTreeMap::new(),
            held,
            joining,
            lost: BTreeSet::new(),
        }
    }

    /// The data of these is lost: whatever members say, they are incomplete until they are repaired, or held elsewhere.
    pub fn lose(&mut self, partitions: impl IntoIterator<Item = Partition>) {
        self.lost.extend(partitions);
    }

    /// What the other replicas have of it is here.
    pub fn repaired(&mut self, partition: Partition) {
        self.lost.remove(&partition);
    }

    /// The node was taken for down by others, or marked so: from now on everything is in doubt.
    pub fn doubt_everything(&mut self) {
        self.round += 1;
        self.base = self.round;
        self.needs.clear();
    }

    /// A member is up in another life than before: while it could not be reached it may have taken others for down, and
    /// stood in for them, and may remember nothing of that but what it holds. Its word counts again when it is asked
    /// anew; until then everything waits for it.
    pub fn returned(&mut self, node: NodeId) {
        self.round += 1;
        self.answered.remove(&node);
        self.counts_from.insert(node, self.round);
        self.needs.values_mut().for_each(|need| *need = (*need).max(1));
    }

    /// The state has changed. Partitions that have come here are in doubt. Who was only joining until now has
    /// nothing of anybody's, and need not be asked.
    pub fn observe(&mut self, state: &ClusterState) {
        let still = joining(state);
        for node in self.joining.difference(&still) {
            self.answered.insert(*node, self.round);
        }
        self.joining = still;
        let held = state.held_set(self.me);
        let come: Vec<Partition> = held.difference(&self.held).copied().collect();
        if !come.is_empty() {
            self.round += 1;
            self.needs.extend(come.into_iter().map(|partition| (partition, self.round)));
        }
        self.needs.retain(|partition, _| held.contains(partition));
        self.lost.retain(|partition| held.contains(partition));
        self.held = held;
    }

    /// The one who passed these partitions on says that there they were complete. It may not have seen yet who has come
    /// back here in another life, so that one's word is waited for all the same.
    pub fn inherit(&mut self, partitions: &[Partition]) {
        let silent_since_return = self.counts_from.keys().any(|node| !self.answered.contains_key(node));
        for partition in partitions {
            if self.held.contains(partition) {
                self.needs.insert(*partition, u64::from(silent_since_return));
            }
        }
    }

    /// The round that is being asked.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// A member has said which strays it holds (that is merged into the state as its report), asked in `round`.
    pub fn answered(&mut self, node: NodeId, round: u64) {
        if self.counts_from.get(&node).is_some_and(|first| round < *first) {
            return;
        }
        let latest = self.answered.entry(node).or_default();
        *latest = (*latest).max(round.min(self.round));
    }

    fn waited_for<'a>(&self, state: &'a ClusterState) -> impl Iterator<Item = NodeId> + 'a {
        let me = self.me;
        state
            .members()
            .filter(move |(node, member)| *node != me && member.status().is_waited_for())
            .map(|(node, _)| node)
    }

    /// Members that have not answered the present round and whose word something waits for.
    pub fn to_ask(&self, state: &ClusterState) -> Vec<NodeId> {
        let needed = self.needs.values().copied().chain([self.base]).max().unwrap_or(self.base);
        self.waited_for(state).filter(|node| self.answered.get(node).copied().unwrap_or(0) < needed).collect()
    }

    /// Own partitions that are not complete.
    pub fn incomplete(&self, state: &ClusterState) -> BTreeSet<Partition> {
        let unrepaired = state.unrepaired().filter(|partition| self.held.contains(partition));
        let mut incomplete = self.in_doubt(state);
        incomplete.extend(self.lost.intersection(&self.held).copied().chain(unrepaired));
        incomplete
    }

    /// Own partitions of which others may hold something, whether or not what was here is lost: what a repair takes
    /// from such a source, or for such a partition, may not be all that there is.
    pub fn in_doubt(&self, state: &ClusterState) -> BTreeSet<Partition> {
        if state.status(self.me) == Some(Status::Joining) {
            return self.held.clone();
        }
        let said = self.waited_for(state).map(|node| self.answered.get(&node).copied().unwrap_or(0)).min();
        // Nobody else whose word would count: what this node does not have, nobody has.
        let said = said.unwrap_or(u64::MAX);
        let strayed: BTreeSet<Partition> =
            state.strays().filter(|(node, _)| *node != self.me).map(|(_, partition)| partition).collect();
        self.held
            .iter()
            .filter(|partition| {
                let need = self.needs.get(partition).copied().unwrap_or(self.base);
                need > said || strayed.contains(partition)
            })
            .copied()
            .collect()
    }
}

fn joining(state: &ClusterState) -> BTreeSet<NodeId> {
    state.members().filter(|(_, member)| member.status() == Status::Joining).map(|(node, _)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Boot, ClusterId};
    use crate::membership::{Member, Report};
    use crate::ring::RingSize;

    fn id(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    /// Three valid members; the first holds everything.
    fn state() -> ClusterState {
        let member =
            |n: u8, status| Member::new(&format!("n{n}"), "127.0.0.1:1", None, status, id(n)).unwrap();
        let size = RingSize::try_from(8).unwrap();
        let mut state = ClusterState::born(ClusterId([7; 16]), size, id(1), member(1, Status::Valid));
        for n in [2, 3] {
            state.merge_member(id(n), &member(n, Status::Valid));
        }
        state
    }

    #[test]
    fn who_returns_in_another_life_has_said_nothing_yet() {
        let state = state();
        let mut ours = Completeness::new(id(1), &state);
        ours.answered(id(2), ours.round());
        ours.answered(id(3), ours.round());
        ours.inherit(&[Partition(0)]);
        assert_eq!(ours.incomplete(&state), BTreeSet::new());
        let before = ours.round();
        ours.returned(id(3));
        assert_eq!(ours.incomplete(&state).len(), 8, "what was inherited, too");
        assert_eq!(ours.to_ask(&state), [id(3)], "the others have said what they had to say");
        ours.answered(id(3), before);
        assert_eq!(ours.incomplete(&state).len(), 8, "that was its former life");
        ours.answered(id(3), ours.round());
        assert_eq!(ours.incomplete(&state), BTreeSet::new());
    }

    #[test]
    fn what_is_inherited_waits_for_who_has_returned_and_not_spoken() {
        let state = state();
        let mut ours = Completeness::new(id(1), &state);
        for n in [2, 3] {
            ours.answered(id(n), ours.round());
        }
        ours.returned(id(3));
        // Its former holder did not know of that life when it said so.
        ours.inherit(&[Partition(0)]);
        assert!(ours.incomplete(&state).contains(&Partition(0)));
        ours.answered(id(3), ours.round());
        assert!(ours.incomplete(&state).is_empty());
        ours.doubt_everything();
        ours.inherit(&[Partition(0)]);
        assert!(!ours.incomplete(&state).contains(&Partition(0)), "nobody has returned since");
    }

    #[test]
    fn everything_is_in_doubt_until_every_member_has_spoken() {
        let state = state();
        let mut ours = Completeness::new(id(1), &state);
        assert_eq!(ours.incomplete(&state).len(), 8);
        assert_eq!(ours.to_ask(&state), [id(2), id(3)]);
        ours.answered(id(2), ours.round());
        assert_eq!(ours.incomplete(&state).len(), 8, "one of two");
        ours.answered(id(3), ours.round());
        assert!(ours.incomplete(&state).is_empty());
        assert!(ours.to_ask(&state).is_empty());
    }

    #[test]
    fn an_answer_from_before_the_doubt_does_not_count() {
        let state = state();
        let mut ours = Completeness::new(id(1), &state);
        let old = ours.round();
        ours.doubt_everything();
        ours.answered(id(2), old);
        ours.answered(id(3), ours.round());
        assert_eq!(ours.incomplete(&state).len(), 8);
        ours.answered(id(2), ours.round());
        assert!(ours.incomplete(&state).is_empty());
        ours.doubt_everything();
        assert_eq!(ours.incomplete(&state).len(), 8);
    }

    #[test]
    fn strays_elsewhere_keep_a_partition_incomplete_until_they_are_gone() {
        let mut state = state();
        let mut ours = Completeness::new(id(1), &state);
        let mut report = Report::first(Boot(1));
        report.strays.insert(Partition(3));
        state.report(id(2), report.clone());
        for n in [2, 3] {
            ours.answered(id(n), ours.round());
        }
        assert_eq!(ours.incomplete(&state), BTreeSet::from([Partition(3)]));
        report.sequence += 1;
        report.strays.clear();
        state.report(id(2), report);
        assert!(ours.incomplete(&state).is_empty());
    }

    #[test]
    fn what_is_lost_is_incomplete_until_it_is_repaired_whatever_members_say() {
        let mut state = state();
        let mut ours = Completeness::new(id(1), &state);
        for n in [2, 3] {
            ours.answered(id(n), ours.round());
        }
        ours.lose([Partition(2), Partition(3)]);
        ours.inherit(&[Partition(2)]);
        assert_eq!(ours.incomplete(&state), BTreeSet::from([Partition(2), Partition(3)]));
        assert!(ours.in_doubt(&state).is_empty(), "nobody has anything for them");
        ours.repaired(Partition(2));
        assert_eq!(ours.incomplete(&state), BTreeSet::from([Partition(3)]));
        let passed = crate::membership::Possession::first(id(1)).passed_to(id(2));
        state.adopt(Partition(3), passed);
        ours.observe(&state);
        assert!(ours.incomplete(&state).is_empty());
    }

    #[test]
    fn who_is_marked_down_is_not_waited_for_and_a_node_alone_is_complete() {
        let mut state = state();
        let ours = Completeness::new(id(1), &state);
        for n in [2, 3] {
            assert_eq!(ours.incomplete(&state).len(), 8);
            state.mark_down(id(n), id(1)).unwrap();
        }
        assert!(ours.incomplete(&state).is_empty());
    }

    #[test]
    fn a_node_that_was_only_joining_is_not_waited_for_when_it_is_admitted() {
        let mut state = state();
        let waits = Member::new("n4", "127.0.0.1:1", None, Status::Joining, id(4)).unwrap();
        state.merge_member(id(4), &waits);
        let mut ours = Completeness::new(id(1), &state);
        for n in [2, 3] {
            ours.answered(id(n), ours.round());
        }
        assert!(ours.incomplete(&state).is_empty());
        let mut admitted = waits.clone();
        admitted.status.set(Status::Valid, id(1));
        state.merge_member(id(4), &admitted);
        ours.observe(&state);
        assert!(ours.incomplete(&state).is_empty());
        ours.doubt_everything();
        assert!(ours.to_ask(&state).contains(&id(4)), "from the next doubt on it is");
    }

    #[test]
    fn what_comes_here_is_in_doubt_unless_it_was_complete_where_it_was() {
        let mut state = state();
        let mut theirs = Completeness::new(id(2), &state);
        for n in [1, 3] {
            theirs.answered(id(n), theirs.round());
        }
        for partition in [0, 1] {
            let passed = crate::membership::Possession::first(id(1)).passed_to(id(2));
            state.adopt(Partition(partition), passed);
        }
        theirs.observe(&state);
        assert_eq!(theirs.incomplete(&state).len(), 2);
        theirs.inherit(&[Partition(0)]);
        assert_eq!(theirs.incomplete(&state), BTreeSet::from([Partition(1)]));
        for n in [1, 3] {
            theirs.answered(id(n), theirs.round());
        }
        assert!(theirs.incomplete(&state).is_empty());
        theirs.doubt_everything();
        assert_eq!(theirs.incomplete(&state).len(), 2, "an inheritance does not outlive a doubt");
    }

    /// Its replicas are elsewhere, and no stray: everybody's word that it holds none says nothing of them.
    #[test]
    fn who_was_forced_to_hold_something_is_not_complete_before_it_was_repaired() {
        let mut state = state();
        let mut theirs = Completeness::new(id(2), &state);
        let forced = crate::membership::Possession::first(id(1)).forced_to(id(2));
        for partition in [0, 1] {
            state.adopt(Partition(partition), forced);
        }
        theirs.observe(&state);
        theirs.inherit(&[Partition(0)]);
        for n in [1, 3] {
            theirs.answered(id(n), theirs.round());
        }
        let both = BTreeSet::from([Partition(0), Partition(1)]);
        assert_eq!(theirs.incomplete(&state), both);
        let mut after_a_start = Completeness::new(id(2), &state);
        for n in [1, 3] {
            after_a_start.answered(id(n), after_a_start.round());
        }
        assert_eq!(after_a_start.incomplete(&state), both, "the state remembers it");
        state.repaired(id(2), Partition(0)).unwrap();
        theirs.observe(&state);
        assert_eq!(theirs.incomplete(&state), BTreeSet::from([Partition(1)]));
        assert_eq!(after_a_start.incomplete(&state), BTreeSet::from([Partition(1)]));
    }
}
