//! Replacing and forcing: who takes whose place, whose possession is taken, what is refused, and what two claimants
//! make of it who do it at once.

use super::*;

/// What is true at the claimant after any commit, whatever was staged.
pub(super) fn what_a_commit_leaves(state: &ClusterState, plan: &Plan) {
    for ((partition, held), owner) in
        state.size().partitions().zip(state.possession()).zip(state.target().owners())
    {
        assert!(state.status(*owner).is_some_and(Status::claims), "{partition:?} is wished to nobody");
        assert_ne!(state.status(held.holder), Some(Status::Removed), "{partition:?} is held by nobody");
        let forced = plan.forced.iter().find(|forced| forced.partition == partition);
        if let Some(forced) = forced {
            assert_eq!((*held, held.holder), (forced.possession, *owner), "to whom it is wished, at once");
            assert!(held.is_unrepaired());
        }
    }
}

fn committed(state: &mut ClusterState, claimant: NodeId) -> Plan {
    let plan = state.plan().unwrap();
    state.show_plan(&plan, claimant);
    state.commit(&plan, claimant).unwrap();
    what_a_commit_leaves(state, &plan);
    plan
}

fn settle(state: &mut ClusterState) {
    for n in 0..NODES {
        for partition in 0..8 {
            state.repaired(id(n), Partition(partition));
            state.pass_on(id(n), Partition(partition));
        }
    }
}

/// Three that hold everything, and two that wait to join.
fn three_and_two() -> ClusterState {
    let mut state = three_members();
    settle(&mut state);
    assert!(state.is_settled());
    for n in [3, 4] {
        state.admit(&joiner(n), id(0)).unwrap();
    }
    state
}

fn held(state: &ClusterState, n: usize) -> Vec<Partition> {
    state.held_by(id(n)).collect()
}

fn wished(state: &ClusterState, n: usize) -> Vec<Partition> {
    let owners = state.size().partitions().zip(state.target().owners());
    owners.filter(|(_, owner)| **owner == id(n)).map(|(partition, _)| partition).collect()
}

fn refused(result: Result<(), ChangeRefusal>) -> (String, String) {
    let refusal = result.unwrap_err();
    (refusal.code, refusal.detail)
}

#[test]
fn a_replacement_gets_what_the_replaced_has_by_its_hand_and_nothing_else_moves() {
    let mut state = three_members();
    settle(&mut state);
    state.admit(&joiner(3), id(0)).unwrap();
    let had = held(&state, 1);
    let others = [held(&state, 0), held(&state, 2)];
    state.stage_replace(id(1), id(3), id(0)).unwrap();
    state.stage_replace(id(1), id(3), id(2)).unwrap();
    let plan = committed(&mut state, id(0));
    assert_eq!(plan.moves.len(), had.len());
    assert_eq!((plan.claim.moved, plan.claim.moves_bound), (had.len(), had.len()));
    assert!(plan.forced.is_empty());
    assert_eq!((state.status(id(1)), state.status(id(3))), (Some(Status::Leaving), Some(Status::Valid)));
    assert_eq!(wished(&state, 3), had);
    assert_eq!(held(&state, 1), had, "until it has passed it on");
    settle(&mut state);
    assert!(state.is_settled());
    assert_eq!(held(&state, 3), had);
    assert_eq!([held(&state, 0), held(&state, 2)], others);
    assert!(state.possession().iter().all(|held| held.fence == 0));
    assert!(state.exit_when_empty(id(1), false) && state.remove_exited(id(0)));
}

/// Such as after two claimants: no claim would leave it so, and none is asked for.
#[test]
fn a_replacement_takes_a_share_over_as_it_is_however_uneven() {
    let mut state = three_and_two();
    state.staging.changes.remove(&(id(4), ChangeKind::Join));
    let uneven = |large: usize| [0, large, large, large, large, large, 2, 0].map(id).to_vec();
    state.target = Target::new(2, id(0), uneven(1));
    state.possession = uneven(1).into_iter().map(Possession::first).collect();
    for force in [false, true] {
        let mut state = state.clone();
        match force {
            false => state.stage_replace(id(1), id(3), id(0)).unwrap(),
            true => state.stage_force_replace(id(1), id(3), id(0)).unwrap(),
        }
        let plan = committed(&mut state, id(0));
        assert_eq!(state.target().owners(), uneven(3));
        assert_eq!((plan.moves.len(), plan.claim.moved, plan.claim.balance), (5, 5, (1, 5)));
        state.stage_rebalance(id(0));
        assert_ne!(state.plan().unwrap().claim.owners, uneven(3));
    }
}

#[test]
fn a_replacement_whose_join_was_cleared_is_a_member_all_the_same_and_a_valid_one_with_nothing_will_do() {
    let mut state = three_and_two();
    state.clear_staging();
    state.stage_replace(id(1), id(3), id(0)).unwrap();
    let plan = committed(&mut state, id(0));
    assert_eq!(plan.statuses[&id(3)], Status::Valid);
    assert_eq!(state.status(id(4)), Some(Status::Joining), "of that one nothing was said");
    settle(&mut state);
    // Of eight partitions a ninth member gets none; here it is made so by hand.
    let mut idle = state.member(id(4)).unwrap().clone();
    idle.status.set(Status::Valid, id(0));
    state.merge_member(id(4), &idle);
    state.stage_force_replace(id(2), id(4), id(0)).unwrap();
    let plan = committed(&mut state, id(0));
    assert_eq!(plan.forced.len(), held(&state, 4).len());
}

#[test]
fn the_claimant_can_be_replaced() {
    let mut state = three_and_two();
    state.stage_replace(id(0), id(3), id(2)).unwrap();
    state.staging.changes.remove(&(id(4), ChangeKind::Join));
    committed(&mut state, id(0));
    assert_eq!(state.claimant(), Some(id(1)));
    settle(&mut state);
    assert!(state.exit_when_empty(id(0), false) && state.remove_exited(id(1)));
    assert!(state.is_settled());
}

#[test]
fn what_else_is_staged_is_claimed_with_the_replaced_gone_and_the_replacement_there() {
    let mut state = three_and_two();
    let had = wished(&state, 1);
    state.stage_replace(id(1), id(3), id(0)).unwrap();
    // n4's join is staged, too.
    let plan = committed(&mut state, id(0));
    assert!(wished(&state, 1).is_empty());
    assert_eq!((plan.claim.balance, wished(&state, 4).len()), ((2, 2), 2));
    assert!(wished(&state, 3).iter().any(|partition| had.contains(partition)));
    assert_eq!(plan.claim.moved, plan.moves.len());
    assert!(plan.claim.moves_bound >= had.len() && plan.claim.moves_bound <= plan.moves.len());
}

#[test]
fn a_location_of_one_of_the_two_asks_for_no_claim_and_anothers_does() {
    let mut state = three_and_two();
    state.staging.changes.remove(&(id(4), ChangeKind::Join));
    state.stage_replace(id(1), id(3), id(0)).unwrap();
    state.stage_location(id(3), Some("r1".to_owned()), id(0)).unwrap();
    let replaced = state.target().owners().iter().map(|owner| if *owner == id(1) { id(3) } else { *owner });
    assert_eq!(state.plan().unwrap().claim.owners, replaced.collect::<Vec<_>>());
    let map = BTreeMap::from([(id(1), id(3))]);
    assert!(!state.is_claim_staged(&map));
    state.stage_location(id(2), Some("r2".to_owned()), id(0)).unwrap();
    assert!(state.is_claim_staged(&map));
}

#[test]
fn a_forced_replacement_holds_at_once_what_the_lost_one_held_and_has_nothing_of_it() {
    let mut state = three_and_two();
    let had = held(&state, 2);
    state.staging.changes.remove(&(id(4), ChangeKind::Join));
    state.stage_force_replace(id(2), id(3), id(0)).unwrap();
    let plan = committed(&mut state, id(0));
    assert_eq!(state.status(id(2)), Some(Status::Removed));
    assert_eq!((held(&state, 3), wished(&state, 3)), (had.clone(), had.clone()));
    assert_eq!(plan.forced.len(), had.len());
    assert!(state.is_settled(), "nothing has to move");
    assert_eq!(state.unrepaired().collect::<Vec<_>>(), had);
    for partition in &had {
        let before = state.possession()[partition.0 as usize];
        assert_eq!((before.fence, before.hop, before.holder), (1, 0, id(3)));
        assert_eq!(state.repaired(id(0), *partition), None, "the holder's to say");
        assert_eq!(state.repaired(id(3), *partition).map(|now| now.hop), Some(1));
        assert_eq!(state.repaired(id(3), *partition), None, "once");
    }
    assert_eq!(state.unrepaired().count(), 0);
}

#[test]
fn what_a_forced_holder_has_not_got_yet_it_does_not_pass_on() {
    let mut state = three_and_two();
    state.staging.changes.remove(&(id(4), ChangeKind::Join));
    state.stage_force_replace(id(2), id(3), id(0)).unwrap();
    committed(&mut state, id(0));
    let held = held(&state, 3);
    state.stage_leave(id(3), id(0)).unwrap();
    committed(&mut state, id(0));
    assert_eq!(state.bequests(id(3)).count(), 0);
    assert_eq!(state.pass_on(id(3), held[0]), None);
    assert!(state.pending().any(|partition| partition == held[0]));
    state.repaired(id(3), held[0]);
    assert_eq!(state.bequests(id(3)).count(), 1);
    assert!(state.pass_on(id(3), held[0]).is_some());
}

#[test]
fn what_a_removed_member_held_is_its_new_owners_at_once() {
    let mut state = three_members();
    settle(&mut state);
    let had = held(&state, 2);
    state.stage_force_remove(id(2), id(1)).unwrap();
    let plan = committed(&mut state, id(0));
    assert_eq!(state.status(id(2)), Some(Status::Removed));
    assert_eq!(plan.forced.iter().map(|forced| forced.partition).collect::<Vec<_>>(), had);
    assert!(plan.forced.iter().all(|forced| forced.from == id(2)));
    assert_eq!((wished(&state, 0).len(), wished(&state, 1).len()), (4, 4));
    assert_eq!(state.admit(&joiner(2), id(0)).unwrap_err().code, "removed");
}

/// It was leaving and died on the way: what it had passed on stays where it is, the rest goes where it was to go.
#[test]
fn a_member_that_dies_while_it_leaves_is_force_removed() {
    let mut state = three_members();
    settle(&mut state);
    state.stage_leave(id(2), id(0)).unwrap();
    committed(&mut state, id(0));
    let had = held(&state, 2);
    state.pass_on(id(2), had[0]).unwrap();
    let (code, detail) = refused(state.stage_force_replace(id(2), id(1), id(0)));
    assert_eq!(code, "already-leaving");
    assert!(detail.contains("ringwork cluster force-remove n2"), "{detail}");
    state.stage_force_remove(id(2), id(0)).unwrap();
    let plan = committed(&mut state, id(0));
    assert_eq!(plan.forced.len(), had.len() - 1);
    assert_eq!(state.possession()[had[0].0 as usize].fence, 0);
}

#[test]
fn a_forced_possession_beats_every_hop_under_the_fence_before() {
    let lost = Possession { fence: 3, hop: u32::MAX, holder: id(4) };
    let forced = lost.forced_to(id(0));
    assert!(forced > lost && forced > lost.passed_to(id(3)));
    assert!(forced.is_unrepaired() && !Possession::first(id(0)).is_unrepaired());
    let repaired = forced.passed_to(id(0));
    assert!(!repaired.is_unrepaired());
    let elsewhere = lost.forced_to(id(4));
    let first = Possession::first(id(0));
    assert!(!first.was_taken(first) && !first.was_taken(first.passed_to(id(1)).passed_to(id(2))));
    assert!(first.was_taken(first.forced_to(id(1))) && first.was_taken(forced.passed_to(id(3))));
    assert!(forced.was_taken(elsewhere), "forced twice, and this one has the lower id");
    assert!(forced.was_taken(elsewhere.passed_to(id(4)).passed_to(id(2))) && !forced.was_taken(repaired));
    assert!(elsewhere > forced && repaired > elsewhere, "who has its data beats who has not");

    let mut state = three_and_two();
    state.staging.changes.remove(&(id(4), ChangeKind::Join));
    let mut returning = state.clone();
    let partition = held(&state, 2)[0];
    state.stage_force_remove(id(2), id(0)).unwrap();
    committed(&mut state, id(0));
    // It went on by itself meanwhile, and had something to pass on.
    returning.target = Target::new(1, id(0), vec![id(1); 8]);
    assert!(returning.pass_on(id(2), partition).is_some());
    let before = state.possession().to_vec();
    state.merge(&returning).unwrap();
    assert_eq!(state.possession(), before);
    returning.merge(&state).unwrap();
    assert_eq!((returning.possession(), returning.status(id(2))), (before.as_slice(), Some(Status::Removed)));
}

/// Each side of a cut has a claimant, and each takes a node for lost that lives on the other side.
#[test]
fn two_claimants_that_force_at_once_converge_and_the_next_commit_mends_the_rest() {
    let mut one = three_and_two();
    committed(&mut one, id(0));
    settle(&mut one);
    let mut other = one.clone();
    one.stage_force_remove(id(4), id(0)).unwrap();
    one.mark_down(id(3), id(0)).unwrap();
    committed(&mut one, id(0));
    other.mark_down(id(0), id(1)).unwrap();
    other.stage_force_remove(id(2), id(1)).unwrap();
    committed(&mut other, id(1));
    let (mut merged, again) = (joined(&one, &other), joined(&other, &one));
    assert_eq!(merged, again);
    for (n, possession) in merged.possession().iter().enumerate() {
        assert_eq!(*possession, one.possession()[n].max(other.possession()[n]));
    }
    assert_eq!(
        [2, 4].map(|n| merged.status(id(n))),
        [Some(Status::Removed); 2],
        "each of the two was lost for somebody"
    );
    merged.return_from_down(id(0));
    merged.stage_rebalance(id(0));
    committed(&mut merged, id(0));
    settle(&mut merged);
    assert!(merged.is_settled());
}

/// One side gives partitions to a node that the other removes: nobody's plan leaves them there, but both together do.
#[test]
fn what_two_claimants_wished_to_removed_members_is_claimed_anew_once_all_have_seen_it() {
    let mut one = three_and_two();
    committed(&mut one, id(0));
    settle(&mut one);
    let mut other = one.clone();
    one.stage_force_remove(id(4), id(0)).unwrap();
    committed(&mut one, id(0));
    other.mark_down(id(0), id(1)).unwrap();
    other.stage_force_remove(id(2), id(1)).unwrap();
    committed(&mut other, id(1));
    let mut merged = joined(&one, &other);
    merged.return_from_down(id(0));
    let lost = |state: &ClusterState, node: NodeId| state.status(node) == Some(Status::Removed);
    let left = |state: &ClusterState| {
        let places = state.possession().iter().zip(state.target().owners());
        places.filter(|(held, owner)| lost(state, held.holder) || lost(state, **owner)).count()
    };
    assert!(left(&merged) > 0, "the case is one");
    assert!(!merged.wishes_to_removed(id(0)), "not everybody has seen this state");
    let all_see = |state: &mut ClusterState, sequence: u64| {
        for n in [0, 1, 3] {
            let report = Report { sequence, seen: state.stamp(), ..Report::first(Boot(1)) };
            state.report(id(n), report);
        }
    };
    all_see(&mut merged, 1);
    assert!(merged.wishes_to_removed(id(0)) && !merged.wishes_to_removed(id(1)), "only the claimant");
    let mut anew = merged.with_only_a_rebalance_staged(id(0));
    committed(&mut anew, id(0));
    assert_eq!(left(&anew), 0);
    assert_eq!(anew.take_from_removed(id(0)), [], "nothing is left");
    let mut staged = merged.clone();
    staged.stage_leave(id(3), id(0)).unwrap();
    all_see(&mut staged, 2);
    assert!(!staged.wishes_to_removed(id(0)), "the commit of what is staged does it as well");
}

/// A removed member holds a partition that is wished to a member.
#[test]
fn what_was_left_to_a_removed_member_is_its_owners_once_all_have_seen_it() {
    let mut state = three_and_two();
    committed(&mut state, id(0));
    settle(&mut state);
    state.stage_force_remove(id(4), id(0)).unwrap();
    let before = state.clone();
    committed(&mut state, id(0));
    // Another claimant, who knew nothing of it, has meanwhile given one back, over the head of a lost holder.
    let partition = usize::from(held(&before, 4)[0].0);
    let given = state.possession[partition].forced_to(id(4));
    state.set_possession(partition, given);
    assert_eq!(state.take_from_removed(id(0)), [], "not everybody has seen this state");
    for n in 0..4 {
        let report = Report { sequence: 1, seen: state.stamp(), ..Report::first(Boot(1)) };
        state.report(id(n), report);
    }
    assert_eq!(state.clone().take_from_removed(id(1)), [], "only the claimant does it");
    let taken = state.take_from_removed(id(0));
    let owner = state.target().owners()[partition];
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].from, taken[0].possession), (id(4), given.forced_to(owner)));
    assert_eq!(state.possession()[partition], taken[0].possession);
    assert!(taken[0].possession.is_unrepaired(), "it fetches what the others have");
    assert_eq!(state.take_from_removed(id(0)), [], "once");
}

/// Both sides replace the same node: by two nodes, of which one is going to be the holder.
#[test]
fn one_node_that_is_replaced_by_two_ends_with_the_one_that_has_its_data() {
    let mut one = three_and_two();
    one.staging.changes.clear();
    let mut other = one.clone();
    other.mark_down(id(0), id(1)).unwrap();
    one.stage_force_replace(id(2), id(3), id(0)).unwrap();
    committed(&mut one, id(0));
    other.stage_force_replace(id(2), id(4), id(1)).unwrap();
    committed(&mut other, id(1));
    let partitions = held(&one, 3);
    assert_eq!(held(&other, 4), partitions);
    one.repaired(id(3), partitions[0]);
    let merged = joined(&one, &other);
    assert_eq!(merged, joined(&other, &one));
    assert_eq!(merged.holder(partitions[0]), Some(id(3)), "it has its data");
    assert_eq!(merged.holder(partitions[1]), Some(id(4)), "neither has: the greater id");
    assert_eq!(merged.unrepaired().count(), partitions.len() - 1);
}

#[test]
fn wrong_replacements_are_refused_with_the_way_out() {
    let mut state = three_and_two();
    let before = state.clone();
    for (old, new, code, way_out) in [
        (1, 1, "bad-request", "name the node that is to go"),
        (1, 2, "not-a-replacement", "ringwork cluster replace n1 NEW"),
        (3, 4, "still-joining", "ringwork cluster leave n3"),
    ] {
        let (found, detail) = refused(state.stage_replace(id(old), id(new), id(0)));
        assert_eq!(found, code);
        assert!(detail.contains(way_out), "{detail}");
        assert_eq!(refused(state.stage_force_replace(id(old), id(new), id(0))).0, code);
    }
    let stranger = NodeId([99; 16]);
    assert_eq!(refused(state.stage_replace(stranger, id(3), id(0))).0, "not-a-member");
    assert_eq!(refused(state.stage_replace(id(1), stranger, id(0))).0, "not-a-member");
    assert_eq!(refused(state.stage_force_remove(stranger, id(0))).0, "not-a-member");
    assert_eq!(state, before, "a refusal changes nothing");
    let mut lone = first();
    lone.admit(&joiner(1), id(0)).unwrap();
    assert_eq!(refused(lone.stage_force_remove(id(0), id(1))).0, "only-member");
}

#[test]
fn contradictions_are_refused_when_they_are_staged_and_when_they_come_by_merge() {
    type Stage = fn(&mut ClusterState) -> Result<(), ChangeRefusal>;
    let changes: [(&str, Stage); 5] = [
        ("'leave n1'", |s| s.stage_leave(id(1), id(0))),
        ("'replace n1 n3'", |s| s.stage_replace(id(1), id(3), id(0))),
        ("'replace n2 n3'", |s| s.stage_replace(id(2), id(3), id(0))),
        ("'force-remove n3'", |s| s.stage_force_remove(id(3), id(0))),
        ("'force-replace n1 n4'", |s| s.stage_force_replace(id(1), id(4), id(0))),
    ];
    let contradict = |a: &str, b: &str| {
        let nodes = |typed: &str| -> BTreeSet<char> { typed.chars().filter(char::is_ascii_digit).collect() };
        !nodes(a).is_disjoint(&nodes(b))
    };
    for (name, stage) in &changes {
        for (other, then) in &changes {
            let mut state = three_and_two();
            stage(&mut state).unwrap();
            let before = state.clone();
            let outcome = then(&mut state);
            assert_eq!(outcome.is_err(), name != other && contradict(name, other), "{name}, {other}");
            if let Err(ChangeRefusal { code, detail }) = outcome {
                assert_eq!(code, "contradicts-staged");
                assert!(
                    detail.contains(name) && detail.contains(other) && detail.contains("cluster clear"),
                    "{detail}"
                );
                assert_eq!(state, before);
                let mut elsewhere = three_and_two();
                then(&mut elsewhere).unwrap();
                state.merge(&elsewhere).unwrap();
                let refusal = state.plan().unwrap_err();
                assert_eq!(refusal.code, "contradicts-staged", "{refusal}");
                state.clear_staging();
                then(&mut state).unwrap();
            }
        }
    }
    let mut state = three_and_two();
    state.stage_replace(id(1), id(3), id(0)).unwrap();
    let (code, detail) = refused(state.stage_replace(id(1), id(4), id(0)));
    assert_eq!(code, "contradicts-staged");
    assert!(detail.contains("'replace n1 n3'") && detail.contains("'replace n1 n4'"), "{detail}");
}

#[test]
fn a_plan_refuses_what_has_become_impossible_since_it_was_staged() {
    let mut state = three_and_two();
    state.stage_replace(id(1), id(3), id(0)).unwrap();
    let mut gone = state.member(id(3)).unwrap().clone();
    gone.status.set(Status::Removed, id(2));
    state.merge_member(id(3), &gone);
    let refusal = state.plan().unwrap_err();
    assert_eq!(refusal.code, "not-a-member");
    assert!(
        refusal.detail.starts_with("'replace n1 n3' is staged and cannot be done any more")
            && refusal.detail.ends_with("'ringwork cluster clear'"),
        "{refusal}"
    );
}

#[test]
fn a_plan_is_another_when_somebody_else_takes_the_place_or_what_is_forced_has_changed() {
    let digest = |change: &dyn Fn(&mut ClusterState)| {
        let mut state = three_and_two();
        state.staging.changes.clear();
        change(&mut state);
        state.plan().unwrap().digest
    };
    let digests = [
        digest(&|s| s.stage_replace(id(1), id(3), id(0)).unwrap()),
        digest(&|s| s.stage_replace(id(1), id(4), id(0)).unwrap()),
        digest(&|s| s.stage_force_replace(id(1), id(3), id(0)).unwrap()),
        digest(&|s| {
            s.stage_force_replace(id(1), id(3), id(0)).unwrap();
            let partition = held(s, 1)[0];
            s.set_possession(partition.0 as usize, Possession::first(id(2)));
        }),
        digest(&|s| {
            s.stage_force_replace(id(1), id(3), id(0)).unwrap();
            let partition = held(s, 1)[0];
            let held = s.possession[partition.0 as usize];
            s.set_possession(partition.0 as usize, Possession { fence: 7, ..held });
        }),
        digest(&|s| s.stage_force_remove(id(1), id(0)).unwrap()),
    ];
    assert_eq!(BTreeSet::from(digests).len(), digests.len());
}

#[test]
fn what_nobody_has_any_more_is_counted() {
    let mut state = first();
    state.admit(&joiner(1), id(0)).unwrap();
    committed(&mut state, id(0));
    settle(&mut state);
    state.stage_force_remove(id(1), id(0)).unwrap();
    let plan = state.plan().unwrap();
    assert_eq!(state.windows_lost(&plan.forced, 1), 4);
    assert_eq!(state.windows_lost(&plan.forced, 2), 0, "the two alternate");
    committed(&mut state, id(0));
    assert_eq!(state.windows_lost(&[], 1), 4, "what was forced and not repaired has no data either");
    settle(&mut state);
    assert_eq!(state.windows_lost(&[], 1), 0);
}

#[test]
fn who_is_left_with_everything_has_nobody_to_be_repaired_from() {
    let mut state = three_members();
    settle(&mut state);
    state.stage_force_remove(id(2), id(0)).unwrap();
    committed(&mut state, id(0));
    assert!(!state.repair_alone(id(0)), "n1 has replicas");
    state.stage_force_remove(id(1), id(0)).unwrap();
    committed(&mut state, id(0));
    assert!(!state.repair_alone(id(1)));
    assert!(state.repair_alone(id(0)));
    assert!(!state.repair_alone(id(0)), "once");
    assert_eq!(state.unrepaired().count(), 0);
    state.admit(&joiner(3), id(0)).unwrap();
    committed(&mut state, id(0));
    settle(&mut state);
    assert!(state.is_settled());
}

#[test]
fn details_that_belong_to_no_such_change_are_refused_from_peers() {
    use ChangeDetail::{By, Location, Nothing};
    use ChangeKind::{ForceRemove, ForceReplace, Join, Leave, Rebalance, Replace};
    let mut state = three_members();
    let before = state.clone();
    for (kind, detail) in [
        (Replace, Nothing),
        (ForceReplace, Location(None)),
        (Replace, By(id(1))),
        (ForceReplace, By(id(1))),
        (ForceRemove, By(id(2))),
        (Join, By(id(2))),
        (Leave, Location(None)),
        (Rebalance, Location(Some("r1".to_owned()))),
        (ChangeKind::Location, By(id(2))),
        (ChangeKind::Location, Nothing),
    ] {
        let mut staging = Staging::after_commit(1);
        staging.stage(id(1), kind, detail.clone(), id(1));
        let whole = ClusterState { staging: staging.clone(), ..before.clone() };
        let bytes = crate::wire::codec::encode(&whole).unwrap();
        assert!(crate::wire::codec::decode::<ClusterState>(&bytes).is_err(), "{kind:?} {detail:?}");
        let sections = vec![SectionContent::Staging(staging)];
        let part = StatePart { cluster: before.cluster(), size: before.size(), sections };
        assert!(state.merge_part(&part).is_err(), "{kind:?} {detail:?}");
    }
    assert_eq!(state, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Two claimants may have forced a partition to a node that the other had removed. It takes one more commit.
    #[test]
    fn after_one_commit_more_nobody_who_was_removed_holds_anything(history in histories(1..80)) {
        let mut world = World::new();
        for step in &history {
            world.run(step);
        }
        world.quiesce();
        for at in 0..NODES {
            world.run(&Step::Return { at });
        }
        world.quiesce();
        let state = world.states.iter().flatten().next().unwrap().clone();
        if let Some(claimant) = state.claimant() {
            let mut state = state;
            state.clear_staging();
            state.stage_rebalance(claimant);
            committed(&mut state, claimant);
        }
    }
}
