//! Created, ready, active; and what every member can do.

use super::*;

/// Everybody meets everybody, says what it has, and takes for ready what everybody has.
fn meet(all: &mut [Metadata], members: &[NodeId]) {
    let whole = all.iter().fold(fresh(), |sum, one| joined(&sum, one));
    for (number, one) in all.iter_mut().enumerate() {
        *one = joined(one, &whole);
        speak(one, number, &[]);
        one.note_ready(members);
    }
}

#[test]
fn an_entry_is_ready_when_every_member_has_it_and_used_when_somebody_says_so() {
    let (types, members) = (name("bucket-types"), [node(0), node(1), node(2)]);
    let mut all = vec![fresh(); 2];
    let life = at(&all[0], 0, 1);
    all[0].create(&types, "maps", vec![1], life).unwrap();
    let stage = |one: &Metadata| one.namespace(&types).unwrap().stage("maps").unwrap();
    for _ in 0..3 {
        meet(&mut all, &members);
    }
    assert_eq!((stage(&all[1]), all[1].namespace(&types).unwrap().value("maps")), (Stage::Created, None));
    assert_eq!(all[1].awaited(&types, "maps", &members), [node(2)], "a member that is down is waited for");
    let refusal = all[1].activate(&types, "maps", &members).unwrap_err();
    assert!(refusal.to_string().contains("not ready: 1 members"), "{refusal}");
    all.push(fresh());
    for _ in 0..3 {
        meet(&mut all, &members);
    }
    assert_eq!((stage(&all[1]), all[1].awaited(&types, "maps", &members)), (Stage::Ready, vec![]));
    all[1].activate(&types, "maps", &members).unwrap();
    meet(&mut all, &members);
    for one in &all {
        assert_eq!(
            (stage(one), one.namespace(&types).unwrap().value("maps")),
            (Stage::Active, Some([1].as_slice()))
        );
    }
    let refusal = all[0].create(&types, "maps", vec![2], life).unwrap_err();
    assert_eq!(refusal, EntryRefusal::Active("maps".to_owned()));
    let unknown = all[0].activate(&types, "sets", &members).unwrap_err();
    assert!(unknown.to_string().contains("create it first"));
}

#[test]
fn a_stage_never_goes_back_and_what_is_written_anew_waits_anew() {
    let (types, members) = (name("bucket-types"), [node(0), node(1)]);
    let mut all = vec![fresh(); 2];
    let life = at(&all[0], 0, 1);
    all[0].create(&types, "maps", vec![1], life).unwrap();
    let created = all[0].clone();
    for _ in 0..3 {
        meet(&mut all, &members);
    }
    let ready = all[0].clone();
    assert_eq!(joined(&created, &ready).namespace(&types).unwrap().stage("maps"), Some(Stage::Ready));
    assert_eq!(joined(&ready, &created).namespace(&types).unwrap().stage("maps"), Some(Stage::Ready));
    all[0].create(&types, "maps", vec![2], life).unwrap();
    assert_eq!(all[0].namespace(&types).unwrap().stage("maps"), Some(Stage::Created));
    assert_eq!(
        all[0].awaited(&types, "maps", &members),
        members,
        "what was said of the write before counts no more"
    );
}

#[test]
fn so_many_may_wait_and_no_more() {
    let (types, mut one) = (name("bucket-types"), fresh());
    let life = at(&one, 0, 1);
    for number in 0..statement::HAVING_MAX {
        one.create(&types, &format!("t{number}"), vec![], life).unwrap();
    }
    let refusal = one.create(&types, "another", vec![], life).unwrap_err();
    assert_eq!(refusal, EntryRefusal::Waiting);
    assert!(refusal.is_passing() && !refusal.is_full());
    one.create(&types, "t0", vec![1], life).unwrap();
    speak(&mut one, 0, &["x".repeat(33).as_str()]);
    assert_eq!(one.said(node(0)), None, "names of features have a bound");
    speak(&mut one, 0, &[]);
    assert!(one.note_ready(&[node(0)]));
    assert_eq!(one.waiting_entries(), 0);
}

#[test]
fn a_feature_is_active_when_every_member_has_it() {
    let mut one = fresh();
    let members = [node(0), node(1), node(2)];
    assert!(speak(&mut one, 0, &["a", "b"]));
    assert!(speak(&mut one, 1, &["b", "c"]));
    let active =
        |one: &Metadata, members: &[NodeId]| one.features_of_all(members).into_iter().collect::<Vec<_>>();
    assert_eq!(active(&one, &members), Vec::<String>::new(), "who has said nothing has nothing");
    assert_eq!(active(&one, &members[..2]), ["b"]);
    assert_eq!(active(&one, &[]), Vec::<String>::new());
    speak(&mut one, 2, &[]);
    assert_eq!(active(&one, &members), Vec::<String>::new(), "a node of the release before");
    speak(&mut one, 2, &["a", "b", "c"]);
    assert_eq!(active(&one, &members), ["b"]);
}

#[test]
fn a_statement_of_a_later_release_is_passed_on_and_counts_as_nothing() {
    use crate::wire::codec;
    let later = codec::encode(&(Boot(1), 1u64, 2u16, vec![1u8, 2, 3])).unwrap();
    let later: Statement = codec::decode(&later).unwrap();
    assert!(later.is_sound() && later.said().is_none());
    let mut known = Statement::of(Boot(1), 0, &Said::default()).unwrap();
    assert!(known.merge(&later));
    assert_eq!(known, later);
}

#[test]
fn a_node_that_was_set_back_speaks_above_what_it_had_said() {
    let mut one = fresh();
    let mut said = Said::default();
    one.state(node(0), Boot(9), &said).unwrap();
    said.seen = 1;
    assert!(one.state(node(0), Boot(3), &said).unwrap());
    assert!(!one.state(node(0), Boot(3), &said).unwrap(), "said once");
    assert_eq!(one.statements()[&node(0)].boot, Boot(9));
    assert_eq!(one.said(node(0)), Some(said));
}

#[test]
fn statements_of_strangers_are_not_kept() {
    let mut one = fresh();
    let mut other = fresh();
    speak(&mut other, 1, &[]);
    assert!(!one.join(&other, |of| of != node(1)).unwrap());
    assert!(one.join(&other, |_| true).unwrap());
}
