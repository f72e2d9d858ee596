//! Laws of the cluster state over generated histories: several nodes that change it, gossip whole states or
//! sections in any order, crash back to what they had synced, and in the end are all equal. The letters are those
//! of the list in the reference on Riak (M1 to M9).

use super::*;
use crate::ids::{Boot, ClusterId, NodeId, Partition};
use crate::ring::RingSize;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

mod forced;

const NODES: usize = 5;

fn id(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 16])
}

fn joiner(n: usize) -> Joiner {
    Joiner {
        node: id(n),
        name: format!("n{n}"),
        address: format!("127.0.0.1:{n}"),
        location: None,
        ring_size: RingSize::try_from(8).unwrap(),
        member_of: None,
        rebuilds: false,
    }
}

fn first() -> ClusterState {
    let member = Member::new("n0", "127.0.0.1:0", None, Status::Valid, id(0)).unwrap();
    ClusterState::born(ClusterId([9; 16]), RingSize::try_from(8).unwrap(), id(0), member)
}

/// Something that happens at one of the nodes.
#[derive(Clone, Debug)]
enum Step {
    Join { at: usize, joiner: usize },
    Leave { at: usize, node: usize },
    Location { at: usize, node: usize, location: u8 },
    Rebalance { at: usize },
    Replace { at: usize, old: usize, new: usize, force: bool },
    ForceRemove { at: usize, node: usize },
    Repaired { at: usize, partition: u16 },
    PlanAndCommit { at: usize },
    PlanOnly { at: usize },
    Clear { at: usize },
    Down { at: usize, node: usize },
    Return { at: usize },
    PassOn { at: usize, partition: u16 },
    Exit { at: usize },
    RemoveExited { at: usize },
    Report { at: usize, stray: Option<u16> },
    Gossip { from: usize, to: usize },
    Sections { from: usize, to: usize, mask: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        1 => (node.clone(), node.clone()).prop_map(|(at, joiner)| Step::Join { at, joiner }),
        1 => (node.clone(), node.clone()).prop_map(|(at, node)| Step::Leave { at, node }),
        1 => (node.clone(), node.clone(), 0u8..3)
            .prop_map(|(at, node, location)| Step::Location { at, node, location }),
        1 => node.clone().prop_map(|at| Step::Rebalance { at }),
        1 => (node.clone(), node.clone(), node.clone(), any::<bool>())
            .prop_map(|(at, old, new, force)| Step::Replace { at, old, new, force }),
        1 => (node.clone(), node.clone()).prop_map(|(at, node)| Step::ForceRemove { at, node }),
        2 => (node.clone(), 0u16..8).prop_map(|(at, partition)| Step::Repaired { at, partition }),
        3 => node.clone().prop_map(|at| Step::PlanAndCommit { at }),
        1 => node.clone().prop_map(|at| Step::PlanOnly { at }),
        1 => node.clone().prop_map(|at| Step::Clear { at }),
        1 => (node.clone(), node.clone()).prop_map(|(at, node)| Step::Down { at, node }),
        1 => node.clone().prop_map(|at| Step::Return { at }),
        4 => (node.clone(), 0u16..8).prop_map(|(at, partition)| Step::PassOn { at, partition }),
        1 => node.clone().prop_map(|at| Step::Exit { at }),
        1 => node.clone().prop_map(|at| Step::RemoveExited { at }),
        1 => (node.clone(), prop::option::of(0u16..8)).prop_map(|(at, stray)| Step::Report { at, stray }),
        6 => (node.clone(), node.clone()).prop_map(|(from, to)| Step::Gossip { from, to }),
        3 => (node.clone(), node, any::<u64>())
            .prop_map(|(from, to, mask)| Step::Sections { from, to, mask }),
    ]
}

/// The nodes' states, and what must not be forgotten.
struct World {
    states: Vec<Option<ClusterState>>,
    sequence: u64,
    removed: BTreeSet<NodeId>,
}

impl World {
    fn new() -> Self {
        let mut states = vec![None; NODES];
        states[0] = Some(first());
        Self { states, sequence: 0, removed: BTreeSet::new() }
    }

    fn at(&mut self, node: usize, change: impl FnOnce(&mut ClusterState)) {
        if let Some(state) = &mut self.states[node] {
            let before = state.clone();
            change(state);
            never_backward(&before, state);
        }
    }

    fn run(&mut self, step: &Step) {
        match step.clone() {
            Step::Join { at, joiner: node } => {
                let mut admitted = None;
                self.at(at, |state| {
                    if state.admit(&joiner(node), id(at)).is_ok() {
                        admitted = Some(state.clone());
                    }
                });
                if self.states[node].is_none() {
                    self.states[node] = admitted;
                }
            }
            Step::Leave { at, node } => self.at(at, |s| drop(s.stage_leave(id(node), id(at)))),
            Step::Location { at, node, location } => {
                let text = (location > 0).then(|| format!("l{location}"));
                self.at(at, |s| drop(s.stage_location(id(node), text, id(at))));
            }
            Step::Rebalance { at } => self.at(at, |s| s.stage_rebalance(id(at))),
            Step::Replace { at, old, new, force } => self.at(at, |s| match force {
                true => drop(s.stage_force_replace(id(old), id(new), id(at))),
                false => drop(s.stage_replace(id(old), id(new), id(at))),
            }),
            Step::ForceRemove { at, node } => self.at(at, |s| drop(s.stage_force_remove(id(node), id(at)))),
            Step::Repaired { at, partition } => self.at(at, |s| {
                s.repaired(id(at), Partition(partition));
            }),
            Step::PlanAndCommit { at } => self.at(at, |s| {
                if let Ok(plan) = s.plan() {
                    s.show_plan(&plan, id(at));
                    if s.commit(&plan, id(at)).is_ok() {
                        forced::what_a_commit_leaves(s, &plan);
                    }
                }
            }),
            Step::PlanOnly { at } => self.at(at, |s| {
                if let Ok(plan) = s.plan() {
                    s.show_plan(&plan, id(at));
                }
            }),
            Step::Clear { at } => self.at(at, ClusterState::clear_staging),
            Step::Down { at, node } => self.at(at, |s| drop(s.mark_down(id(node), id(at)))),
            Step::Return { at } => self.at(at, |s| {
                s.return_from_down(id(at));
            }),
            Step::PassOn { at, partition } => self.at(at, |s| {
                let held = s.holder(Partition(partition));
                if s.status(id(at)) == Some(Status::Removed) {
                    return; // it runs no more
                }
                if let Some(possession) = s.pass_on(id(at), Partition(partition)) {
                    assert_eq!(held, Some(id(at)), "only the holder passes on");
                    assert_ne!(possession.holder, id(at), "M1: never to itself");
                    assert!(s.member(possession.holder).is_some_and(Member::is_member), "M9");
                }
            }),
            Step::Exit { at } => self.at(at, |s| {
                s.exit_when_empty(id(at), false);
            }),
            Step::RemoveExited { at } => self.at(at, |s| {
                s.remove_exited(id(at));
            }),
            Step::Report { at, stray } => {
                self.sequence += 1;
                let mut report = Report { sequence: self.sequence, ..Report::first(Boot(1)) };
                report.strays.extend(stray.map(Partition));
                self.at(at, |s| {
                    report.seen = s.stamp();
                    s.report(id(at), report);
                });
            }
            Step::Gossip { from, to } => {
                if let Some(theirs) = self.states[from].clone() {
                    self.at(to, |s| drop(s.merge(&theirs)));
                }
            }
            Step::Sections { from, to, mask } => {
                if let Some(theirs) = self.states[from].clone() {
                    let sections = Section::all().enumerate().filter(|(n, _)| mask >> n & 1 == 1);
                    let part = theirs.part(sections.map(|(_, section)| section));
                    self.at(to, |s| drop(s.merge_part(&part)));
                }
            }
        }
        for state in self.states.iter().flatten() {
            for (node, member) in state.everybody() {
                if member.status() == Status::Removed {
                    self.removed.insert(*node);
                }
            }
        }
    }

    fn quiesce(&mut self) {
        let all: Vec<ClusterState> = self.states.iter().flatten().cloned().collect();
        for state in self.states.iter_mut().flatten() {
            for theirs in &all {
                state.merge(theirs).unwrap();
            }
        }
    }
}

/// M4: no register, target or possession of a node ever goes backward.
fn never_backward(before: &ClusterState, after: &ClusterState) {
    assert!(after.target().key() >= before.target().key());
    assert!(after.staging().round >= before.staging().round);
    for (old, new) in before.possession().iter().zip(after.possession()) {
        assert!(new >= old);
    }
    let mut joined = after.clone();
    assert!(!joined.merge(before).unwrap(), "what was known before is contained in what is known after");
    assert_eq!(&joined, after);
}

fn histories(steps: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), steps)
}

fn states_of(history: &[Step]) -> Vec<ClusterState> {
    let mut world = World::new();
    for step in history {
        world.run(step);
    }
    world.states.into_iter().flatten().collect()
}

fn joined(a: &ClusterState, b: &ClusterState) -> ClusterState {
    let mut a = a.clone();
    a.merge(b).unwrap();
    a
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn states_of_a_history_form_a_semilattice(history in histories(1..60)) {
        let states = states_of(&history);
        for a in &states {
            prop_assert_eq!(&joined(a, a), a);
            for b in &states {
                prop_assert_eq!(joined(a, b), joined(b, a));
                for c in &states {
                    prop_assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)));
                }
            }
        }
    }

    #[test]
    fn whatever_happens_all_end_equal_and_the_removed_stay_removed(history in histories(1..120)) {
        let mut world = World::new();
        for step in &history {
            world.run(step);
        }
        world.quiesce();
        let mut states = world.states.iter().flatten();
        let one = states.next().unwrap();
        for other in states {
            prop_assert_eq!(one, other);
        }
        for node in &world.removed {
            prop_assert_eq!(one.status(*node), Some(Status::Removed), "M8");
        }
        // M3: one holder for each partition, and it was a member at one time.
        for possession in one.possession() {
            prop_assert!(one.member(possession.holder).is_some());
        }
        // M5: a key never names two contents.
        let mut contents = BTreeMap::new();
        for state in world.states.iter().flatten() {
            let owners = contents.entry(state.target().key()).or_insert_with(|| state.target().owners().to_vec());
            prop_assert_eq!(owners.as_slice(), state.target().owners());
        }
    }

    /// M7: when all gossip and nobody is away, what is wished becomes the fact.
    #[test]
    fn what_is_committed_is_carried_out(history in histories(1..80)) {
        let mut world = World::new();
        for step in &history {
            world.run(step);
        }
        for _ in 0..3 {
            world.quiesce();
            for at in 0..NODES {
                world.run(&Step::Return { at });
                for partition in 0..8 {
                    world.run(&Step::Repaired { at, partition });
                    world.run(&Step::PassOn { at, partition });
                }
            }
        }
        world.quiesce();
        let state = world.states.iter().flatten().next().unwrap();
        let stuck: Vec<_> = state
            .pending()
            .filter(|p| state.status(state.target().owners()[p.0 as usize]).is_some_and(Status::claims))
            // Forced to it while another claimant had it removed: for the next commit, see `forced`.
            .filter(|p| state.holder(*p).and_then(|holder| state.status(holder)) != Some(Status::Removed))
            .collect();
        prop_assert!(stuck.is_empty(), "{stuck:?} wait for nobody");
    }

    #[test]
    fn sections_carry_all_there_is(history in histories(1..60)) {
        let states = states_of(&history);
        for a in &states {
            for b in &states {
                let (theirs, ours) = (b.digests(), a.digests());
                let differing = Section::all().zip(theirs.iter().zip(&ours)).filter(|(_, (x, y))| x != y);
                let part = b.part(differing.map(|(section, _)| section));
                let mut by_sections = a.clone();
                by_sections.merge_part(&part).unwrap();
                prop_assert_eq!(&by_sections, &joined(a, b));
                prop_assert_eq!(a.stamp() == b.stamp(), {
                    let bare = |s: &ClusterState| ClusterState { reports: BTreeMap::new(), ..s.clone() };
                    bare(a) == bare(b)
                });
            }
        }
    }
}

/// Version vectors with a table for conflicts: x, y and z are concurrent, and the table says x over y, y over z,
/// z over x. Then (x+y)+z is z, and x+(y+z) is x. Registers under a total order agree.
#[test]
fn three_concurrent_writes_meet_in_any_order_and_end_the_same() {
    let table = |a: char, b: char| match (a.min(b), a.max(b)) {
        ('x', 'y') => 'x',
        ('y', 'z') => 'y',
        ('x', 'z') => 'z',
        _ => a,
    };
    assert_ne!(table(table('x', 'y'), 'z'), table('x', table('y', 'z')), "the counter-example is one");
    let write = |value: &str, writer: usize| {
        let mut register = register::Register::new("born".to_owned(), id(0));
        register.set(value.to_owned(), id(writer));
        register
    };
    let all = [write("x", 1), write("y", 2), write("z", 3)];
    let mut ends = BTreeSet::new();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut left = all[order[0]].clone();
        left.merge(&all[order[1]]);
        left.merge(&all[order[2]]);
        let mut right = all[order[1]].clone();
        right.merge(&all[order[2]]);
        right.merge(&all[order[0]]);
        ends.insert(left.value().clone());
        ends.insert(right.value().clone());
    }
    assert_eq!(ends.len(), 1, "{ends:?}");
}

#[test]
fn statuses_that_are_written_at_once_meet_in_the_later_of_their_order() {
    use Status::{Down, Exiting, Joining, Leaving, Removed, Valid};
    let all = [Joining, Valid, Leaving, Exiting, Down(Before::Valid), Removed];
    for a in all {
        for b in all {
            let write = |status: Status, writer: usize| {
                let mut register = register::Register::new(Down(Before::Joining), id(0));
                register.set(status, id(writer));
                register
            };
            let mut merged = write(a, 1);
            merged.merge(&write(b, 2));
            assert_eq!(*merged.value(), a.max(b), "{a:?} and {b:?}");
        }
    }
}

fn three_members() -> ClusterState {
    let mut state = first();
    for n in [1, 2] {
        state.admit(&joiner(n), id(0)).unwrap();
    }
    let plan = state.plan().unwrap();
    state.show_plan(&plan, id(0));
    state.commit(&plan, id(0)).unwrap();
    state
}

#[test]
fn a_commit_does_what_was_shown_or_refuses_and_changes_nothing() {
    let mut state = first();
    assert_eq!(state.plan().unwrap_err().code, "nothing-staged");
    state.admit(&joiner(1), id(0)).unwrap();
    let unseen = state.plan().unwrap();
    let before = state.clone();
    assert_eq!(state.commit(&unseen, id(0)).unwrap_err().code, "no-plan");
    assert_eq!(state, before);
    state.show_plan(&unseen, id(0));
    state.admit(&joiner(2), id(0)).unwrap();
    let changed = state.plan().unwrap();
    let before = state.clone();
    assert_eq!(state.commit(&changed, id(0)).unwrap_err().code, "plan-changed");
    assert_eq!(state, before);
    state.show_plan(&changed, id(0));
    state.commit(&changed, id(0)).unwrap();
    assert_eq!(state.target().owners(), changed.claim.owners);
    assert_eq!(state.target().key().epoch, 1);
    assert_eq!(state.plan().unwrap_err().code, "nothing-staged", "a commit uses up what was staged");
    assert_eq!(state.status(id(2)), Some(Status::Valid));
}

#[test]
fn only_the_claimant_commits_and_a_claimant_marked_down_is_none() {
    let mut state = three_members();
    assert_eq!(state.claimant(), Some(id(0)));
    state.stage_rebalance(id(1));
    let plan = state.plan().unwrap();
    state.show_plan(&plan, id(1));
    assert_eq!(state.commit(&plan, id(1)).unwrap_err().code, "not-the-claimant");
    state.mark_down(id(0), id(1)).unwrap();
    assert_eq!(state.claimant(), Some(id(1)));
    let plan = state.plan().unwrap();
    state.show_plan(&plan, id(1));
    state.commit(&plan, id(1)).unwrap();
}

#[test]
fn wrong_joins_are_refused_with_the_way_out() {
    let mut state = three_members();
    let size = Joiner { ring_size: RingSize::try_from(16).unwrap(), ..joiner(3) };
    assert_eq!(state.admit(&size, id(0)).unwrap_err().code, "different-ring-size");
    let named = Joiner { name: "n1".to_owned(), ..joiner(3) };
    assert_eq!(state.admit(&named, id(0)).unwrap_err().code, "name-taken");
    let nameless = Joiner { name: String::new(), ..joiner(3) };
    assert_eq!(state.admit(&nameless, id(0)).unwrap_err().code, "bad-request");
    assert_eq!(state, three_members());
    state.admit(&joiner(1), id(0)).unwrap();
    assert_eq!(state, three_members(), "a node that holds nothing may ask again: its welcome was lost");
    for partition in 0..8 {
        state.pass_on(id(0), Partition(partition));
    }
    assert_eq!(state.admit(&joiner(1), id(0)).unwrap_err().code, "already-a-member");
}

#[test]
fn a_join_that_a_commit_elsewhere_has_passed_over_is_staged_again() {
    let mut state = first();
    state.admit(&joiner(1), id(0)).unwrap();
    let mut passed_over = state.clone();
    passed_over.staging = Staging::after_commit(1);
    assert!(passed_over.stage_own_join(id(1)));
    assert!(!passed_over.stage_own_join(id(1)), "once");
    assert!(passed_over.plan().is_ok());
    state.clear_staging();
    assert!(!state.stage_own_join(id(1)), "a clear is meant");
}

#[test]
fn what_a_peer_cannot_mean_is_refused_or_left_out() {
    let mut state = three_members();
    let before = state.clone();
    let mut staging = Staging::after_commit(1);
    staging.stage(id(1), ChangeKind::Location, ChangeDetail::Location(Some("a\u{7}b".to_owned())), id(1));
    let part =
        |content| StatePart { cluster: before.cluster(), size: before.size(), sections: vec![content] };
    assert!(state.merge_part(&part(SectionContent::Staging(staging))).is_err());
    let stranger = vec![(id(4), Report { sequence: 9, ..Report::first(Boot(9)) })];
    assert_eq!(state.merge_part(&part(SectionContent::Reports(stranger))), Ok(false));
    let foreign = Possession { fence: 9, hop: 9, holder: id(4) };
    assert_eq!(state.merge_part(&part(SectionContent::Possession(0, vec![foreign]))), Ok(false));
    assert!(!state.adopt(Partition(0), foreign));
    assert_eq!(state, before);
}

#[test]
fn a_member_that_has_moved_says_so_to_its_own_cluster_only() {
    let mut state = three_members();
    let moved = Joiner { address: "127.0.0.9:9".to_owned(), ..joiner(1) };
    assert_eq!(state.readmit(&moved).unwrap_err().code, "other-cluster", "it names none");
    let moved = Joiner { member_of: Some(ClusterId([9; 16])), ..moved };
    state.readmit(&moved).unwrap();
    assert_eq!(state.member(id(1)).unwrap().address.value(), "127.0.0.9:9");
    let stranger = Joiner { member_of: Some(ClusterId([9; 16])), ..joiner(4) };
    assert_eq!(state.readmit(&stranger).unwrap_err().code, "not-a-member");
    let elsewhere = Joiner { member_of: Some(ClusterId([1; 16])), ..moved };
    assert_eq!(state.readmit(&elsewhere).unwrap_err().code, "other-cluster");
}

/// n0 was cut off while n1 took n3 in and left (simulator seed 820158): nobody is left whom n0 would listen to.
#[test]
fn a_member_that_was_away_takes_the_word_of_one_that_was_admitted_meanwhile() {
    let away = three_members();
    let mut state = away.clone();
    state.admit(&joiner(3), id(1)).unwrap();
    let brings = |state: &ClusterState, me: usize| away.clone().take_introduction(id(me), id(3), state);
    assert_eq!(brings(&state, 0).unwrap_err().code, "not-a-member", "it waits to be admitted itself");
    let plan = state.plan().unwrap();
    state.show_plan(&plan, id(0));
    state.commit(&plan, id(0)).unwrap();
    assert_eq!(state.status(id(3)), Some(Status::Valid));
    let mut taken = away.clone();
    taken.take_introduction(id(0), id(3), &state).unwrap();
    assert_eq!(taken, state);
    taken.take_introduction(id(0), id(3), &state).unwrap();
    assert_eq!(taken, state, "twice is once");
    assert_eq!(
        brings(&state, 4).unwrap_err().code,
        "not-a-member",
        "whom it brings it to is no member there"
    );
    let elsewhere = ClusterState::born(
        ClusterId([8; 16]),
        RingSize::try_from(8).unwrap(),
        id(3),
        state.member(id(3)).unwrap().clone(),
    );
    assert_eq!(brings(&elsewhere, 0).unwrap_err().code, "other-cluster");
    let mut without = taken.clone();
    without.stage_force_remove(id(3), id(0)).unwrap();
    let plan = without.plan().unwrap();
    without.show_plan(&plan, id(0));
    without.commit(&plan, id(0)).unwrap();
    let removed = without.clone();
    assert_eq!(brings(&state, 3).unwrap_err().code, "not-a-member", "nobody introduces itself to itself");
    let mut expels = state.clone();
    expels.stage_force_remove(id(2), id(0)).unwrap();
    let plan = expels.plan().unwrap();
    expels.show_plan(&plan, id(0));
    expels.commit(&plan, id(0)).unwrap();
    assert_eq!(brings(&expels, 2).unwrap_err().code, "not-a-member", "no guest's word ends a member");
    assert_eq!(without.take_introduction(id(0), id(3), &state).unwrap_err().code, "removed");
    assert_eq!(without, removed);
}

/// An heir that learned of its possession without the target passed it back, and the writes after it (decision 0020).
#[test]
fn a_part_of_the_state_brings_possession_and_the_target_that_wished_it_together() {
    let mut giver = first();
    giver.admit(&joiner(1), id(0)).unwrap();
    let mut heir = giver.clone();
    let plan = giver.plan().unwrap();
    giver.show_plan(&plan, id(0));
    giver.commit(&plan, id(0)).unwrap();
    let passed: Vec<Partition> = giver.bequests(id(0)).map(|(partition, _)| partition).collect();
    for partition in &passed {
        giver.pass_on(id(0), *partition);
    }
    let mut alone = heir.clone();
    for partition in &passed {
        assert!(alone.adopt(*partition, giver.possession()[partition.0 as usize]));
    }
    assert_eq!(
        alone.pending().count(),
        passed.len(),
        "by the target that it knows, all of it belongs elsewhere"
    );
    let known = heir.digests();
    let differs = |(number, _): &(usize, Section)| giver.digests()[*number] != known[*number];
    let part = giver.part(Section::all().enumerate().filter(differs).map(|(_, section)| section));
    heir.merge_part(&part).unwrap();
    assert_eq!(heir.held_by(id(1)).count(), passed.len());
    assert_eq!(heir.pending().count(), 0, "with its target it stays where it is");
}

#[test]
fn a_leaving_member_gives_all_away_and_is_removed_for_good() {
    let mut state = three_members();
    let settle = |state: &mut ClusterState| {
        for n in 0..3 {
            for partition in 0..8 {
                state.pass_on(id(n), Partition(partition));
            }
        }
    };
    settle(&mut state);
    assert!(state.is_settled());
    state.stage_leave(id(2), id(1)).unwrap();
    let plan = state.plan().unwrap();
    state.show_plan(&plan, id(0));
    state.commit(&plan, id(0)).unwrap();
    assert_eq!(state.status(id(2)), Some(Status::Leaving));
    assert_eq!(state.stage_leave(id(2), id(1)).unwrap_err().code, "already-leaving");
    assert!(!state.exit_when_empty(id(2), false), "it still holds partitions");
    settle(&mut state);
    assert!(!state.exit_when_empty(id(2), true), "it has somebody's data");
    assert!(state.exit_when_empty(id(2), false));
    assert!(!state.remove_exited(id(1)), "the claimant's to do");
    assert!(state.remove_exited(id(0)));
    assert_eq!(state.admit(&joiner(2), id(0)).unwrap_err().code, "removed");
}

#[test]
fn a_member_marked_down_is_what_it_was_when_it_returns() {
    let mut state = three_members();
    state.mark_down(id(2), id(0)).unwrap();
    assert!(!state.waiting_for(state.stamp()).contains(&id(2)));
    assert!(state.return_from_down(id(2)));
    assert_eq!(state.status(id(2)), Some(Status::Valid));
    assert!(!state.return_from_down(id(2)));
    let mut lone = first();
    assert_eq!(lone.mark_down(id(0), id(0)).unwrap_err().code, "only-member");
}

#[test]
fn states_that_cannot_be_are_refused() {
    let mut state = first();
    let other = ClusterState { cluster: ClusterId([1; 16]), ..first() };
    assert!(matches!(state.merge(&other), Err(StateError::OtherCluster { .. })));
    let sixteen = RingSize::try_from(16).unwrap();
    let member = Member::new("n0", "127.0.0.1:0", None, Status::Valid, id(0)).unwrap();
    let larger = ClusterState::born(ClusterId([9; 16]), sixteen, id(0), member);
    assert!(matches!(state.merge(&larger), Err(StateError::Partitions { .. })));
    let part = StatePart {
        cluster: state.cluster(),
        size: state.size(),
        sections: vec![SectionContent::Possession(7, vec![Possession::first(id(1)); 2])],
    };
    assert!(state.merge_part(&part).is_err());
    let short = ClusterState { possession: vec![Possession::first(id(0)); 7].into(), ..first() };
    let bytes = crate::wire::codec::encode(&short).unwrap();
    assert!(crate::wire::codec::decode::<ClusterState>(&bytes).is_err());
    let forged = ClusterState { size: sixteen, ..first() };
    let bytes = crate::wire::codec::encode(&forged).unwrap();
    assert!(crate::wire::codec::decode::<ClusterState>(&bytes).is_err());
    assert_eq!(state, first());
}
