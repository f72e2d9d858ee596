//! Tables and laws of the quorum machines.

use super::*;
use crate::ids::Partition;
use crate::ring::PreflistEntry;
use proptest::prelude::*;

const DEFAULTS: QuorumDefaults = QuorumDefaults { n_val: 3, r: Count::Quorum, w: Count::Quorum };

fn preflist(nodes: &[(u8, bool)]) -> Preflist {
    nodes
        .iter()
        .enumerate()
        .map(|(i, (node, primary))| PreflistEntry {
            partition: Partition(i as u16),
            node: NodeId([*node; 16]),
            role: if *primary { Role::Primary } else { Role::Fallback { holder: NodeId([99; 16]) } },
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

#[test]
fn a_read_asks_r_and_one_more_for_each_that_fails() {
    let mut read = ReadQuorum::new(rules(QuorumOptions::default()), &three()).unwrap();
    assert_eq!([read.step(), read.step(), read.step()], [ReadStep::Ask(0), ReadStep::Ask(1), ReadStep::Wait]);
    read.answer(0, Some(Refusal::Overloaded));
    assert_eq!([read.step(), read.step()], [ReadStep::Ask(2), ReadStep::Wait]);
    read.answer(1, None);
    assert_eq!(read.step(), ReadStep::Wait);
    read.answer(2, Some(Refusal::Expired));
    assert_eq!(read.step(), ReadStep::Ended(Refusal::Expired));
}

#[test]
fn a_late_replica_is_hedged_once_per_further_replica() {
    let mut read = ReadQuorum::new(rules(QuorumOptions::default()), &three()).unwrap();
    while matches!(read.step(), ReadStep::Ask(_)) {}
    assert_eq!(read.hedge(), Some(2));
    assert_eq!(read.hedge(), None);
    read.answer(2, None);
    read.answer(0, None);
    assert_eq!(read.step(), ReadStep::Done);
}

#[test]
fn a_read_that_needs_primaries_skips_fallbacks() {
    let rules = rules(QuorumOptions { pr: Some(Count::Exactly(2)), ..Default::default() });
    let mut read = ReadQuorum::new(rules, &preflist(&[(1, true), (4, false), (3, true)])).unwrap();
    let mut asked = Vec::new();
    while let ReadStep::Ask(replica) = read.step() {
        asked.push(replica);
    }
    assert_eq!(asked, [0, 1, 2]);
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
