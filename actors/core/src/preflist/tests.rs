//! Examples and laws of preference lists and of the judgement over a request.

use super::*;
use crate::ids::{Boot, ClusterId};
use crate::membership::{Member, Report, Target};
use proptest::prelude::*;

const CHAT: &str = "chat";

fn id(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 16])
}

/// A ring of `size` whose partition p is held by node `holders[p]`; the nodes in `up` can be asked for chat.
fn view(me: usize, holders: &[usize], up: &[usize]) -> RingView {
    let size = RingSize::try_from(holders.len() as u32).unwrap();
    let count = holders.iter().max().unwrap() + 1;
    let member = |n: usize| Member::new(&format!("n{n}"), "127.0.0.1:1", None, Status::Valid, id(n)).unwrap();
    let mut state = ClusterState::born(ClusterId([7; 16]), size, id(0), member(0));
    for n in 0..count {
        state.merge_member(id(n), &member(n));
        let services = BTreeSet::from([CHAT.to_owned()]);
        state.report(id(n), Report { services, ..Report::first(Boot(1)) });
    }
    state.target = Target::new(1, id(0), holders.iter().map(|n| id(*n)).collect::<Vec<_>>());
    for partition in size.partitions() {
        state.pass_on(id(0), partition);
    }
    let availability = up.iter().map(|n| (id(*n), Availability::Up)).collect();
    RingView::new(id(me), Arc::new(state), &availability, BTreeSet::new())
}

/// A hash whose first partition in a ring of eight is `partition`.
fn hash_at(partition: u8) -> KeyHash {
    KeyHash([partition.wrapping_sub(1).wrapping_mul(32).wrapping_add(1); 20])
}

fn shown(list: &Preflist) -> Vec<(u16, usize, Role)> {
    list.iter().map(|e| (e.partition.0, e.node.0[0] as usize - 1, e.role)).collect()
}

const STRIPES: [usize; 8] = [0, 1, 2, 3, 0, 1, 2, 3];

#[test]
fn with_everybody_up_the_list_is_the_primaries_in_ring_order() {
    let list = view(0, &STRIPES, &[0, 1, 2, 3]).preflist(CHAT, &hash_at(1), 3);
    assert_eq!(shown(&list), [(1, 1, Role::Primary), (2, 2, Role::Primary), (3, 3, Role::Primary)]);
}

#[test]
fn a_node_that_is_down_is_stood_in_for_by_the_next_that_has_no_replica() {
    let list = view(0, &STRIPES, &[0, 1, 3]).preflist(CHAT, &hash_at(1), 3);
    assert_eq!(shown(&list), [(1, 1, Role::Primary), (2, 0, Role::Fallback), (3, 3, Role::Primary)]);
    assert_eq!(list[1].possession.holder, id(2), "with the owner's partition");
    let strict = view(0, &STRIPES, &[0, 1, 3]).strict_preflist(CHAT, &hash_at(1), 3);
    assert_eq!(shown(&strict), [(1, 1, Role::Primary), (3, 3, Role::Primary)]);
}

#[test]
fn a_stand_in_coordinates_only_where_no_holder_does() {
    let orders = |up: &[usize]| {
        let list = view(0, &STRIPES, up).preflist(CHAT, &hash_at(1), 3);
        let named = coordinators(&list)
            .into_iter()
            .map(|(place, complete_only)| (shown(&list)[place].1, complete_only));
        named.collect::<Vec<_>>()
    };
    assert_eq!(
        orders(&[0, 1, 2, 3]),
        [(1, true), (2, true), (3, true), (1, false), (2, false), (3, false)],
        "whoever knows everything before who may not"
    );
    // The first of the list is down, and its stand-in comes last all the same.
    assert_eq!(orders(&[0, 2, 3]), [(2, true), (3, true), (2, false), (3, false), (0, false)]);
    assert_eq!(orders(&[0]), [(0, false), (0, false), (0, false)], "alone it stands in for everybody");
}

#[test]
fn a_suspect_is_still_asked() {
    let mut view = view(0, &STRIPES, &[0, 1, 2, 3]);
    let state = view.state.clone();
    let availability = [(1, Availability::Up), (2, Availability::Suspect), (3, Availability::Up)];
    let availability = availability.into_iter().map(|(n, a)| (id(n), a)).collect();
    view = RingView::new(id(0), state, &availability, BTreeSet::new());
    assert!(view.preflist(CHAT, &hash_at(1), 3).iter().all(|e| e.role == Role::Primary));
}

#[test]
fn with_too_few_nodes_one_is_used_twice_and_alone_it_takes_all() {
    let two = view(0, &STRIPES, &[0, 1]).preflist(CHAT, &hash_at(1), 3);
    assert_eq!(two.len(), 3);
    assert_eq!(two.iter().map(|e| e.node).collect::<BTreeSet<_>>().len(), 2);
    let alone = view(0, &STRIPES, &[0]).preflist(CHAT, &hash_at(1), 3);
    assert_eq!(shown(&alone), [(1, 0, Role::Fallback), (2, 0, Role::Fallback), (3, 0, Role::Fallback)]);
}

#[test]
fn a_node_that_does_not_run_the_service_is_as_good_as_down_for_it() {
    let list = view(0, &STRIPES, &[0, 1, 2, 3]).preflist("kv", &hash_at(1), 3);
    assert!(list.is_empty(), "nobody runs it: nobody can be asked");
}

#[test]
fn who_is_asked_wrongly_says_who_holds_the_partition() {
    let view = view(0, &STRIPES, &[0, 1, 3]);
    let possession = |p: u16| view.possession(Partition(p)).unwrap();
    let judge = |p: u16, role, asked| view.judge(CHAT, Partition(p), role, asked);
    assert_eq!(judge(0, Role::Primary, possession(0)), Judgement::Serve { complete: true });
    assert_eq!(judge(1, Role::Primary, possession(1)), Judgement::Moved(possession(1)), "not the holder");
    assert_eq!(judge(2, Role::Fallback, possession(2)), Judgement::Serve { complete: false }, "holder down");
    assert_eq!(judge(3, Role::Fallback, possession(3)), Judgement::Moved(possession(3)), "holder up");
    let old = Possession::first(id(3));
    assert_eq!(judge(2, Role::Fallback, old), Judgement::Moved(possession(2)), "asked with an old view");
    let newer = possession(1).passed_to(id(0));
    assert_eq!(judge(1, Role::Primary, newer), Judgement::Serve { complete: false }, "the asker knows more");
    let gone = possession(0).passed_to(id(3));
    assert_eq!(judge(0, Role::Primary, gone), Judgement::Moved(gone), "it was ours");
    assert_eq!(judge(3, Role::Stray, possession(3)), Judgement::Serve { complete: false });
    assert_eq!(
        view.judge(CHAT, Partition(8), Role::Primary, old),
        Judgement::Moved(old),
        "no such partition"
    );
}

/// The active list as its definition reads, as (partition, node, role): node `holders[p]` has partition p.
fn by_definition(holders: &[usize], up: &[usize], first: usize, n: usize) -> Vec<(u16, usize, Role)> {
    let size = holders.len();
    let holder = |step: usize| holders[(first + step) % size];
    let n = n.min(size);
    let mut busy: BTreeSet<usize> = (0..n).map(holder).filter(|node| up.contains(node)).collect();
    let clockwise: Vec<usize> = (n..n + size).map(holder).filter(|node| up.contains(node)).collect();
    let mut fresh = Vec::new();
    for node in &clockwise {
        if busy.insert(*node) {
            fresh.push(*node);
        }
    }
    let mut all = Vec::new();
    for node in &clockwise {
        if !all.contains(node) {
            all.push(*node);
        }
    }
    let mut stand_ins = fresh.into_iter().chain(all.into_iter().cycle());
    let mut list = Vec::new();
    for step in 0..n {
        let partition = ((first + step) % size) as u16;
        if up.contains(&holder(step)) {
            list.push((partition, holder(step), Role::Primary));
        } else {
            list.extend(stand_ins.next().map(|node| (partition, node, Role::Fallback)));
        }
    }
    list
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_active_list_is_its_definition_s(
        exponent in 3u32..=6,
        nodes in prop::collection::vec(0usize..8, 64),
        up in prop::collection::btree_set(0usize..8, 0..8),
        key: Vec<u8>,
        n in 0usize..12,
    ) {
        let holders = &nodes[..1 << exponent];
        let up: Vec<usize> = up.into_iter().filter(|n| holders.contains(n)).collect();
        // A node is always up to itself; one that holds nothing stands in for nobody.
        let view = view(8, holders, &up);
        let hash = KeyHash::of(CHAT, &key);
        let first = usize::from(view.size().partition_of(&hash).0);
        let expected = by_definition(holders, &up, first, n);
        prop_assert_eq!(shown(&view.preflist(CHAT, &hash, n)), expected.clone());
        let primaries: Vec<_> = expected.into_iter().filter(|(_, _, role)| *role == Role::Primary).collect();
        prop_assert_eq!(shown(&view.strict_preflist(CHAT, &hash, n)), primaries);
    }

    #[test]
    fn laws_of_the_active_list(
        holders in prop::collection::vec(0usize..6, 16),
        up in prop::collection::btree_set(0usize..6, 1..6),
        key: Vec<u8>,
        n in 1usize..6,
    ) {
        let up: Vec<usize> = up.into_iter().filter(|n| holders.contains(n)).collect();
        prop_assume!(!up.is_empty());
        let view = view(up[0], &holders, &up);
        let hash = KeyHash::of(CHAT, &key);
        let list = view.preflist(CHAT, &hash, n);
        let primaries = view.primary_preflist(&hash, n);
        prop_assert_eq!(list.len(), n, "somebody takes each place");
        for (entry, primary) in list.iter().zip(&primaries) {
            prop_assert_eq!(entry.partition, primary.partition, "in ring order, with the owner's partition");
            prop_assert!(up.contains(&(entry.node.0[0] as usize - 1)), "nobody who is down is asked");
            prop_assert_eq!(entry.role == Role::Primary, entry.node == primary.node);
        }
        let distinct: BTreeSet<NodeId> = list.iter().map(|e| e.node).collect();
        let held: BTreeSet<NodeId> =
            list.iter().filter(|e| e.role == Role::Primary).map(|e| e.node).collect();
        let fallbacks = list.iter().filter(|e| e.role == Role::Fallback).count();
        // As many distinct nodes as there can be: every stand-in a new one, as long as there is one.
        prop_assert_eq!(distinct.len(), (held.len() + fallbacks).min(up.len()).max(held.len()));
        let strict = view.strict_preflist(CHAT, &hash, n);
        prop_assert!(strict.iter().all(|e| list.contains(e) && e.role == Role::Primary));
        for entry in &list {
            let there = RingView::new(entry.node, view.state.clone(),
                &up.iter().map(|n| (id(*n), Availability::Up)).collect(), BTreeSet::new());
            let judged = there.judge(CHAT, entry.partition, entry.role, entry.possession);
            prop_assert!(matches!(judged, Judgement::Serve { .. }), "who is listed serves");
        }
    }
}
