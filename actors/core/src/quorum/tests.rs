//! Tables and laws of the quorum machines.

use super::*;
use crate::ids::Partition;
use crate::membership::Possession;
use crate::preflist::PreflistEntry;
use proptest::prelude::*;

const DEFAULTS: QuorumDefaults = QuorumDefaults { n_val: 3, r: Count::Quorum, w: Count::Quorum };

fn preflist(nodes: &[(u8, bool)]) -> Preflist {
    nodes
        .iter()
        .enumerate()
        .map(|(i, (node, primary))| PreflistEntry {
            partition: Partition(i as u16),
            node: NodeId([*node; 16]),
            role: if *primary { Role::Primary } else { Role::Fallback },
            possession: Possession::first(NodeId([if *primary { *node } else { 99 }; 16])),
        })
        .collect()
}

fn three() -> Preflist {
    preflist(&[(1, true), (2, true), (3, true)])
}

fn rules(options: QuorumOptions) -> Rules {
    options.resolve(&DEFAULTS).unwrap()
}

const DONE: Answer = Answer::Done { durable: false };
const REFUSED: Answer = Answer::Refused(Refusal::Overloaded);

#[test]
fn counts_are_read_from_words_and_small_numbers_only() {
    assert_eq!("quorum".parse(), Ok(Count::Quorum));
    assert_eq!("2".parse(), Ok(Count::Exactly(2)));
    for text in ["", "-1", "+1", "2.0", "QUORUM", "99999", "18446744073709551616", " 1"] {
        assert_eq!(text.parse::<Count>(), Err(CountError), "{text:?}");
    }
}

#[test]
fn impossible_numbers_are_refused_before_anything_is_sent() {
    let table = [
        ("n_val", QuorumOptions { n_val: Some(4), ..Default::default() }),
        ("n_val", QuorumOptions { n_val: Some(0), ..Default::default() }),
        ("r", QuorumOptions { r: Some(Count::Exactly(0)), ..Default::default() }),
        ("r", QuorumOptions { r: Some(Count::Exactly(4)), ..Default::default() }),
        ("w", QuorumOptions { n_val: Some(1), w: Some(Count::Exactly(2)), ..Default::default() }),
        ("dw", QuorumOptions { dw: Some(Count::Exactly(4)), ..Default::default() }),
        ("pw", QuorumOptions { pw: Some(Count::Exactly(4)), ..Default::default() }),
        ("node_confirms", QuorumOptions { node_confirms: Some(4), ..Default::default() }),
    ];
    for (name, options) in table {
        assert_eq!(options.resolve(&DEFAULTS).unwrap_err().name, name);
    }
    let one = QuorumOptions { n_val: Some(1), ..Default::default() }.resolve(&DEFAULTS).unwrap();
    assert_eq!((one.r, one.w), (1, 1), "defaults follow a smaller n");
}

#[test]
fn too_few_primaries_or_nodes_refuse_the_write() {
    let pw = rules(QuorumOptions { pw: Some(Count::Exactly(3)), ..Default::default() });
    let list = preflist(&[(1, true), (2, true), (4, false)]);
    assert_eq!(WriteQuorum::new(pw, &list).unwrap_err(), Refusal::Primaries { needed: 3, up: 2 });
    let confirms = rules(QuorumOptions { node_confirms: Some(2), ..Default::default() });
    let lone = preflist(&[(1, true), (1, true), (1, true)]);
    assert_eq!(WriteQuorum::new(confirms, &lone).unwrap_err(), Refusal::Nodes { needed: 2, up: 1 });
    let default = rules(QuorumOptions::default());
    assert!(WriteQuorum::new(default, &lone).is_ok(), "a lone survivor still takes writes");
}

#[test]
fn two_acknowledgements_of_one_machine_are_not_two_copies() {
    let list = preflist(&[(1, true), (1, false), (2, true)]);
    let mut write = WriteQuorum::new(rules(QuorumOptions::default()), &list).unwrap();
    assert_eq!(write.answer(0, DONE), None);
    assert_eq!(write.answer(1, DONE), None, "both from node 1");
    assert_eq!(write.answer(2, DONE), Some(Verdict::Done));
}

#[test]
fn a_replica_that_moved_to_a_node_that_has_one_already_is_no_second_copy() {
    let mut write = WriteQuorum::new(rules(QuorumOptions::default()), &three()).unwrap();
    assert_eq!(write.answer(0, DONE), None);
    write.relocate(1, NodeId([1; 16]), true);
    assert_eq!(write.answer(1, DONE), None, "both from node 1");
    assert_eq!(write.answer(2, REFUSED), Some(Verdict::Unknown));
    let pw = rules(QuorumOptions { pw: Some(Count::Exactly(2)), ..Default::default() });
    let mut write = WriteQuorum::new(pw, &preflist(&[(1, true), (2, true), (4, false)])).unwrap();
    write.answer(0, DONE);
    write.relocate(2, NodeId([3; 16]), true);
    assert_eq!(write.answer(2, DONE), Some(Verdict::Done), "the stand-in sent us to the holder");
}

#[test]
fn a_write_ends_as_the_table_says() {
    type Row = (&'static [Answer], Option<Verdict>);
    let table: &[Row] = &[
        (&[DONE, DONE], Some(Verdict::Done)),
        (&[DONE, Answer::Failed, DONE], Some(Verdict::Done)),
        (&[DONE], None),
        (&[], None),
        (&[REFUSED, REFUSED, REFUSED], Some(Verdict::Refused(Refusal::Overloaded))),
        (&[REFUSED, REFUSED], None),
        (&[REFUSED, REFUSED, DONE], Some(Verdict::Unknown)),
        (&[Answer::Failed, Answer::Failed], Some(Verdict::Unknown)),
        (&[REFUSED, Answer::Failed], Some(Verdict::Unknown)),
        (&[DONE, Answer::Declined], Some(Verdict::Declined)),
    ];
    for (answers, expected) in table {
        let mut write = WriteQuorum::new(rules(QuorumOptions::default()), &three()).unwrap();
        let mut verdict = None;
        for (replica, answer) in answers.iter().enumerate() {
            verdict = write.answer(replica, answer.clone());
        }
        assert_eq!(verdict, *expected, "{answers:?}");
        if expected.is_none() {
            assert_eq!(write.deadline(), Verdict::Unknown, "{answers:?}");
        }
    }
}

#[test]
fn durable_acknowledgements_are_counted_apart() {
    let rules = rules(QuorumOptions { dw: Some(Count::Exactly(2)), ..Default::default() });
    let mut write = WriteQuorum::new(rules, &three()).unwrap();
    assert_eq!(write.answer(0, DONE), None);
    assert_eq!(write.answer(1, Answer::Done { durable: true }), None);
    assert_eq!(write.answer(2, Answer::Done { durable: true }), Some(Verdict::Done));
}

/// Node 1 reads.
fn read(options: QuorumOptions, list: &Preflist) -> ReadQuorum {
    ReadQuorum::new(rules(options), list, NodeId([1; 16])).unwrap()
}

fn asked(read: &mut ReadQuorum) -> Vec<usize> {
    let mut asked = Vec::new();
    loop {
        match read.step() {
            ReadStep::Ask(replica) => asked.push(replica),
            _ => return asked,
        }
    }
}

const DONE_WELL: ReadStep = ReadStep::Done { degraded: false };
const DONE_DEGRADED: ReadStep = ReadStep::Done { degraded: true };

#[test]
fn a_read_asks_r_and_one_more_for_each_that_fails() {
    let mut read = read(QuorumOptions::default(), &three());
    assert_eq!([read.step(), read.step(), read.step()], [ReadStep::Ask(0), ReadStep::Ask(1), ReadStep::Wait]);
    read.answer(0, ReadAnswer::Refused(Refusal::Overloaded));
    assert_eq!([read.step(), read.step()], [ReadStep::Ask(2), ReadStep::Wait]);
    read.answer(1, ReadAnswer::Complete);
    assert_eq!(read.step(), ReadStep::Wait);
    read.answer(2, ReadAnswer::Refused(Refusal::Expired));
    assert_eq!(read.step(), ReadStep::Ended(Refusal::Expired));
}

#[test]
fn a_late_replica_is_hedged_once_per_further_replica() {
    let mut read = read(QuorumOptions::default(), &three());
    assert_eq!(asked(&mut read), [0, 1]);
    assert_eq!(read.hedge(), Some(2));
    assert_eq!(read.hedge(), None);
    read.answer(2, ReadAnswer::Complete);
    read.answer(0, ReadAnswer::Complete);
    assert_eq!(read.step(), DONE_WELL);
}

#[test]
fn the_own_replica_is_asked_first_and_stand_ins_last() {
    let mut own_last = read(QuorumOptions::default(), &preflist(&[(2, true), (3, true), (1, true)]));
    assert_eq!(asked(&mut own_last), [2, 0]);
    let mut stand_in = read(QuorumOptions::default(), &preflist(&[(1, false), (2, true), (3, true)]));
    assert_eq!(asked(&mut stand_in), [1, 2]);
}

#[test]
fn a_read_that_needs_primaries_skips_fallbacks() {
    let options = QuorumOptions { pr: Some(Count::Exactly(2)), ..Default::default() };
    let mut read = read(options, &preflist(&[(1, true), (4, false), (3, true)]));
    assert_eq!(asked(&mut read), [0, 2]);
}

#[test]
fn an_incomplete_replica_does_not_count_toward_r() {
    let mut read = read(QuorumOptions::default(), &three());
    asked(&mut read);
    read.answer(0, ReadAnswer::Incomplete);
    assert_eq!(asked(&mut read), [2], "another is asked in its place");
    read.answer(1, ReadAnswer::Complete);
    assert_eq!(read.step(), ReadStep::Wait);
    read.answer(2, ReadAnswer::Complete);
    assert_eq!(read.step(), DONE_WELL);
}

#[test]
fn with_too_few_complete_replicas_everybody_is_asked_and_the_answer_is_marked() {
    let mut read = read(QuorumOptions::default(), &three());
    asked(&mut read);
    read.answer(0, ReadAnswer::Incomplete);
    read.answer(1, ReadAnswer::Incomplete);
    asked(&mut read);
    assert_eq!(read.step(), ReadStep::AskStrays);
    read.strays_asked(1);
    assert_eq!(read.step(), ReadStep::Wait);
    read.answer(2, ReadAnswer::Complete);
    assert_eq!(read.step(), ReadStep::Wait, "the stray may have what none of them has");
    assert!(read.give_up_on_the_rest(), "unless it is taken for unreachable");
    read.stray_answered();
    assert_eq!(read.step(), DONE_DEGRADED);
}

/// A replica whose node has stopped and is not yet known to be down must not hold up the two that have answered.
#[test]
fn with_a_late_replica_and_an_incomplete_one_the_read_degrades() {
    let mut read = read(QuorumOptions::default(), &preflist(&[(1, true), (2, true), (3, true)]));
    assert_eq!(asked(&mut read), [0, 1]);
    read.answer(1, ReadAnswer::Incomplete);
    assert_eq!(asked(&mut read), [2]);
    read.answer(2, ReadAnswer::Complete);
    assert_eq!(read.step(), ReadStep::Wait, "the first may yet make two complete ones");
    assert_eq!(read.hedge(), None);
    assert_eq!(read.step(), ReadStep::AskStrays);
    read.strays_asked(0);
    assert_eq!(read.step(), ReadStep::Wait);
    assert!(read.clone().give_up_on_the_rest());
    read.answer(0, ReadAnswer::Complete);
    assert_eq!(read.step(), ReadStep::Done { degraded: false });
}

#[test]
fn a_degraded_read_still_needs_r_answers() {
    let mut read = read(QuorumOptions::default(), &preflist(&[(1, true), (4, false), (3, true)]));
    asked(&mut read);
    read.answer(0, ReadAnswer::Incomplete);
    read.answer(2, ReadAnswer::Refused(Refusal::Overloaded));
    assert_eq!(asked(&mut read), [1]);
    assert_eq!(read.step(), ReadStep::AskStrays);
    read.strays_asked(0);
    read.answer(1, ReadAnswer::Refused(Refusal::Stopping));
    assert_eq!(read.step(), ReadStep::Ended(Refusal::Stopping));
    assert!(!read.give_up_on_the_rest());
}

#[test]
fn a_read_that_needs_nodes_asks_until_so_many_have_answered() {
    let needs = |nodes| QuorumOptions { node_confirms: Some(nodes), ..Default::default() };
    let two_of_one = preflist(&[(1, true), (1, true), (2, true)]);
    let mut read = read(needs(2), &two_of_one);
    assert_eq!(asked(&mut read), [0, 1, 2], "two replicas of one node are two answers, and one node");
    read.answer(0, ReadAnswer::Complete);
    read.answer(1, ReadAnswer::Complete);
    assert_eq!(read.step(), ReadStep::Wait);
    let mut refused = read.clone();
    refused.answer(2, ReadAnswer::Refused(Refusal::Stopping));
    assert_eq!(refused.step(), ReadStep::Ended(Refusal::Stopping));
    read.answer(2, ReadAnswer::Complete);
    assert_eq!(read.step(), DONE_WELL);
    let nobody = ReadQuorum::new(rules(needs(3)), &two_of_one, NodeId([1; 16]));
    assert_eq!(nobody.unwrap_err(), Refusal::Nodes { needed: 3, up: 2 });
    assert!(ReadQuorum::new(rules(needs(0)), &two_of_one, NodeId([1; 16])).is_ok());
}

#[test]
fn who_is_asked_again_has_not_answered() {
    let mut read = read(QuorumOptions::default(), &three());
    asked(&mut read);
    read.answer(0, ReadAnswer::Complete);
    read.answer(1, ReadAnswer::Complete);
    assert_eq!(read.step(), DONE_WELL);
    read.asked_again(1);
    assert_eq!(read.step(), ReadStep::Wait);
    let mut gone = read.clone();
    gone.answer(1, ReadAnswer::Refused(Refusal::Stopping));
    assert_eq!(gone.step(), ReadStep::Ask(2), "another one counts in its place");
    read.answer(1, ReadAnswer::Incomplete);
    assert_eq!(asked(&mut read), [2], "it may answer otherwise than before");
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![Just(DONE), Just(Answer::Done { durable: true }), Just(REFUSED), Just(Answer::Failed)]
}

proptest! {
    /// "Refused" is a promise that nothing was written, "done" that the counts are reached.
    #[test]
    fn a_verdict_never_says_more_than_the_answers_do(
        nodes in prop::collection::vec((1u8..4, any::<bool>()), 3),
        answers in prop::collection::vec((0usize..3, any_answer()), 0..6),
        w in 1usize..=3, dw in 0usize..=3, pw in 0usize..=3,
    ) {
        let options = QuorumOptions {
            w: Some(Count::Exactly(w)), dw: Some(Count::Exactly(dw)), pw: Some(Count::Exactly(pw)),
            ..Default::default()
        };
        let list = preflist(&nodes);
        let Ok(mut write) = WriteQuorum::new(rules(options), &list) else { return Ok(()) };
        let mut given: [Option<Answer>; 3] = [None, None, None];
        let mut verdicts = Vec::new();
        for (replica, answer) in answers {
            if given[replica].is_none() { given[replica] = Some(answer.clone()); }
            verdicts.extend(write.answer(replica, answer));
        }
        prop_assert!(verdicts.len() <= 1, "one verdict only");
        if verdicts.is_empty() { verdicts.push(write.deadline()); }
        let done: Vec<_> = (0..3).filter(|i| matches!(given[*i], Some(Answer::Done { .. }))).collect();
        match &verdicts[0] {
            Verdict::Done => {
                prop_assert!(done.len() >= w);
                prop_assert!(done.iter().filter(|i| nodes[**i].1).count() >= pw);
                let durable = given.iter().filter(|a| **a == Some(Answer::Done { durable: true })).count();
                prop_assert!(durable >= dw);
            }
            Verdict::Refused(_) => prop_assert!(given.iter().all(|a| *a == Some(REFUSED))),
            Verdict::Unknown => {}
            Verdict::Declined => prop_assert!(false, "nobody declined"),
        }
    }
}

fn any_read_answer() -> impl Strategy<Value = ReadAnswer> {
    let refused = || ReadAnswer::Refused(Refusal::Overloaded);
    prop_oneof![Just(ReadAnswer::Complete), Just(ReadAnswer::Incomplete), Just(refused())]
}

proptest! {
    /// Who is told that a read only waits is not woken, so it must never say so where there is something to do.
    #[test]
    fn a_read_that_only_waits_has_nothing_to_do(
        nodes in prop::collection::vec((1u8..4, any::<bool>()), 3),
        events in prop::collection::vec((0usize..5, 0usize..3, any_read_answer()), 0..12),
        r in 1usize..=3, pr in 0usize..=3, confirms in prop::option::of(0usize..=3),
    ) {
        let options = QuorumOptions {
            r: Some(Count::Exactly(r)), pr: Some(Count::Exactly(pr)), node_confirms: confirms, ..Default::default()
        };
        let list = preflist(&nodes);
        let Ok(mut read) = ReadQuorum::new(rules(options), &list, NodeId([1; 16])) else { return Ok(()) };
        for (event, replica, answer) in events {
            // As a coordinator does: it takes steps until there is none but to wait.
            while let ReadStep::Ask(_) | ReadStep::AskStrays = match read.step() {
                ReadStep::AskStrays => { read.strays_asked(1); ReadStep::AskStrays }
                step => step,
            } {}
            match event {
                0 => _ = read.hedge(),
                1 => read.asked_again(replica),
                2 if read.strays.is_some() => read.stray_answered(),
                _ => read.answer(replica, answer),
            }
            if read.only_waits() {
                prop_assert_eq!(read.clone().step(), ReadStep::Wait);
            }
        }
    }
}

#[test]
fn the_first_of_two_answers_is_no_reason_to_look() {
    let mut read = read(QuorumOptions::default(), &three());
    assert_eq!(asked(&mut read), [0, 1]);
    assert!(read.only_waits());
    read.answer(0, ReadAnswer::Complete);
    assert!(read.only_waits());
    read.answer(1, ReadAnswer::Complete);
    assert!(!read.only_waits());
}
