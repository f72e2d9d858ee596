//! What writes leave and answer, at one vnode and at several.

use crate::bed::{Bed, delete, name, put, some, values};
use crate::command::{KvCommand, KvReply, Put, PutRefusal, PutReply};
use crate::condition::{ConditionFailure, Conditions, Tags};
use crate::kv::{Kv, KvConfig};
use crate::object::{Conflicts, KvItem};
use crate::props::PutRules;
use proptest::collection::vec;
use proptest::prelude::*;
use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::ids::{ActorId, Dot};
use ringwork_core::vnode::{Merged, Vnode};
use std::collections::BTreeSet;

fn under(conflicts: Conflicts, put: Put) -> Put {
    Put { rules: PutRules { conflicts }, ..put }
}

#[test]
fn a_write_that_has_seen_what_is_there_replaces_it_and_another_stands_beside_it() {
    let mut bed = Bed::new();
    let first = bed.stored(put("k", "a"));
    assert_eq!((first.siblings, first.existed, first.many_siblings), (1, false, false));
    let context = first.object.unwrap().context();
    let second = bed.stored(Put { seen: context.clone(), ..put("k", "b") });
    assert!(second.existed);
    assert_eq!(values(&bed.get("k")), some(&["b"]));
    bed.stored(Put { seen: context, ..put("k", "c") });
    assert_eq!(values(&bed.get("k")), some(&["b", "c"]));
    let touched = bed.touched.last().unwrap().object.clone();
    assert_eq!(touched, bed.get("k"));
    assert_eq!(bed.fold().len(), 1);
}

#[test]
fn each_kind_of_bucket_keeps_what_it_says() {
    let leaves = |conflicts| {
        let mut bed = Bed::new();
        bed.put(under(conflicts, put("k", "a")));
        // The clock has been set back since, by less than is noticed.
        bed.host.now_ms -= 60_000;
        let reply = bed.put(under(conflicts, put("k", "b")));
        (values(&bed.get("k")), matches!(reply, PutReply::Stored(_)))
    };
    assert_eq!(leaves(Conflicts::Siblings), (some(&["a", "b"]), true));
    assert_eq!(leaves(Conflicts::Latest), (some(&["b"]), true));
    assert_eq!(leaves(Conflicts::Overwrite), (some(&["b"]), true));
    assert_eq!(leaves(Conflicts::First), (some(&["a"]), false));
}

#[test]
fn a_bucket_that_is_written_once_takes_the_same_value_again_and_no_other() {
    let mut bed = Bed::new();
    let once = |value| under(Conflicts::First, put("k", value));
    bed.stored(once("a"));
    let object = bed.get("k");
    bed.host.now_ms += 5000;
    assert!(bed.stored(once("a")).existed);
    assert_eq!(bed.get("k"), object, "nothing was changed");
    assert_eq!(bed.touched.len(), 2, "and the replicas are told again");
    assert_eq!(bed.put(once("b")), PutReply::Refused(PutRefusal::WrittenBefore));
    bed.stored(under(Conflicts::First, delete("k", object.context())));
    bed.stored(once("b"));
    assert_eq!(values(&bed.get("k").shown(Conflicts::First)), some(&["b"]));
}

#[test]
fn a_writer_who_knows_more_than_the_vnode_is_asked_to_bring_it_along() {
    let (mut here, mut there) = (Bed::with(KvConfig::default(), 1), Bed::with(KvConfig::default(), 2));
    let seen = there.stored(put("k", "a")).object.unwrap().context();
    let write = Put { seen, ..put("k", "b") };
    assert_eq!(here.put(write.clone()), PutReply::Behind);
    assert!(here.fold().is_empty() && here.touched.is_empty());
    here.stored(Put { read: Some(there.get("k")), ..write });
    assert_eq!(values(&here.get("k")), some(&["b"]));
    there.merge(here.touched.pop().unwrap());
    assert_eq!(there.get("k"), here.get("k"));
}

#[test]
fn what_a_made_up_context_claims_is_not_believed() {
    let mut bed = Bed::new();
    bed.stored(put("k", "a"));
    let forged: CausalContext =
        (1..50).map(|actor| Dot { actor: ActorId(actor), counter: u64::MAX }).collect();
    assert_eq!(bed.put(Put { seen: forged.clone(), ..put("k", "b") }), PutReply::Behind);
    let read = Some(bed.get("k"));
    bed.stored(Put { seen: forged, read, ..put("k", "b") });
    assert_eq!(bed.get("k").context().len(), 1, "no actor that is none");
    bed.stored(put("k", "c"));
    assert_eq!(values(&bed.get("k")), some(&["b", "c"]), "what comes later is not swallowed");
}

#[test]
fn conditions_are_judged_by_what_the_vnode_and_the_replicas_that_were_read_have() {
    let (mut here, mut there) = (Bed::with(KvConfig::default(), 1), Bed::with(KvConfig::default(), 2));
    there.stored(put("k", "a"));
    let conditions = Conditions { if_none_match: Some(Tags::Any), ..Conditions::default() };
    let write = Put { conditions, ..put("k", "b") };
    let refused = PutReply::Refused(PutRefusal::Condition(ConditionFailure::NoneMatch));
    assert_eq!(here.put(Put { read: Some(there.get("k")), ..write.clone() }), refused);
    assert!(here.fold().is_empty());
    here.stored(write.clone());
    assert_eq!(here.put(write), refused);
}

#[test]
fn siblings_and_sizes_are_bounded_and_a_write_that_replaces_them_is_taken() {
    let config =
        KvConfig { siblings_warn: 2, siblings_max: 4, object_bytes_max: 2000, ..KvConfig::default() };
    let mut bed = Bed::with(config, 1);
    for sibling in 1..=4 {
        let stored = bed.stored(put("k", &sibling.to_string()));
        assert_eq!((stored.siblings, stored.many_siblings), (sibling, sibling > 2));
    }
    assert_eq!(
        bed.put(put("k", "5")),
        PutReply::Refused(PutRefusal::TooManySiblings { siblings: 4, max: 4 })
    );
    assert_eq!(bed.get("k").len(), 4);
    let seen = bed.get("k").context();
    bed.stored(Put { seen, ..put("k", "one") });
    let large = put("k", &"x".repeat(1880));
    assert!(matches!(
        bed.put(large.clone()),
        PutReply::Refused(PutRefusal::TooLarge { max: 2000, siblings: 2, .. })
    ));
    let seen = bed.get("k").context();
    bed.stored(Put { seen, ..large });
    assert!(matches!(bed.put(put("k", &"x".repeat(1880))), PutReply::Refused(PutRefusal::TooLarge { .. })));
    bed.stored(delete("k", CausalContext::new()));
    assert_eq!(bed.get("k").len(), 2, "a delete is taken though the object is full");
    // Replicas that meet are not held up by any of this.
    let mut other = Bed::with(KvConfig { siblings_max: 100, ..KvConfig::default() }, 2);
    for sibling in 0..50 {
        other.stored(put("k", &sibling.to_string()));
    }
    assert_eq!(bed.merge(other.fold().pop().unwrap()), Merged::Changed);
    assert_eq!(bed.get("k").len(), 52);
}

#[test]
fn a_store_that_went_back_in_time_counts_as_a_new_actor_and_swallows_nothing() {
    let (mut old, mut other) = (Bed::with(KvConfig::default(), 1), Bed::with(KvConfig::default(), 2));
    for value in ["a", "b", "c"] {
        old.stored(put("k", value));
    }
    other.merge(old.fold().pop().unwrap());
    // The same actor again, with nothing: what it counts now, others have seen.
    let mut back = Bed::with(KvConfig::default(), 1);
    back.merge(other.fold().pop().unwrap());
    back.stored(put("k", "new"));
    assert_eq!(back.host.renewed, 1);
    other.merge(back.touched.pop().unwrap());
    assert_eq!(values(&other.get("k")), some(&["a", "b", "c", "new"]));
    back.stored(put("k", "newer"));
    assert_eq!(back.host.renewed, 1, "once is enough");
}

#[test]
fn a_read_joins_what_replicas_have_and_mends_who_has_less() {
    let (mut one, mut two) = (Bed::with(KvConfig::default(), 1), Bed::with(KvConfig::default(), 2));
    one.stored(put("k", "a"));
    two.stored(put("k", "b"));
    let ask = |bed: &mut Bed, command: KvCommand| bed.try_run(command).unwrap().unwrap();
    let get = KvCommand::Get(name("k"));
    let replies = [ask(&mut one, get.clone()), ask(&mut two, get.clone()), KvReply::Object(None)];
    let resolution = Kv::resolve(&get, &replies).unwrap();
    let KvReply::Object(Some(KvItem { object, .. })) = resolution.reply else { panic!() };
    assert_eq!(values(&object), some(&["a", "b"]));
    assert_eq!(resolution.repairs.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 1, 2]);
    let head = KvCommand::Head(name("k"));
    let replies = [ask(&mut one, head.clone()), ask(&mut two, head.clone()), KvReply::Outline(None)];
    let resolution = Kv::resolve(&head, &replies).unwrap();
    assert_eq!(resolution.reply, KvReply::Outline(Some(object.outline())));
    assert!(resolution.repairs.is_empty());
    let nobody = Kv::resolve(&get, &[KvReply::Object(None), KvReply::Object(None)]).unwrap();
    assert!(nobody.reply == KvReply::Object(None) && nobody.repairs.is_empty());
}

#[test]
fn a_read_fetches_values_only_from_who_has_more_than_was_told() {
    let mut beds = [1, 2, 3].map(|id| Bed::with(KvConfig::default(), id));
    let get = KvCommand::Get(name("k"));
    let head = Kv::glance(&get).unwrap();
    assert_eq!(head, KvCommand::Head(name("k")));
    assert!(Kv::glance(&head).is_none() && Kv::glance(&KvCommand::Reap).is_none());
    let ask = |bed: &mut Bed, command: &KvCommand| bed.try_run(command.clone()).unwrap().unwrap();
    let item = |reply: &KvReply| match reply {
        KvReply::Object(Some(item)) => item.clone(),
        _ => panic!("{reply:?}"),
    };

    // Nobody has anything.
    let nothing = [KvReply::Object(None), KvReply::Outline(None)];
    assert!(Kv::unseen(&get, &nothing).is_empty());
    assert_eq!(Kv::resolve(&get, &nothing).unwrap().reply, KvReply::Object(None));
    let only_clocks = [KvReply::Outline(None), KvReply::Outline(None)];
    assert_eq!(Kv::unseen(&get, &only_clocks), [0], "somebody must say so");

    // The first has "a"; the second the same; the third nothing.
    beds[0].stored(put("k", "a"));
    let a = item(&ask(&mut beds[0], &get));
    beds[1].merge(a.clone());
    let replies = [ask(&mut beds[0], &get), ask(&mut beds[1], &head), ask(&mut beds[2], &head)];
    assert!(Kv::unseen(&get, &replies).is_empty());
    let resolution = Kv::resolve(&get, &replies).unwrap();
    assert_eq!(resolution.reply, KvReply::Object(Some(a.clone())));
    assert_eq!(resolution.repairs, [(2, a.clone())], "who showed a clock with less is mended, too");

    // Who was asked for all has nothing: the value is fetched from one of the others, not from both.
    let replies = [ask(&mut beds[2], &get), ask(&mut beds[0], &head), ask(&mut beds[1], &head)];
    assert_eq!(Kv::unseen(&get, &replies), [1]);
    let replies = [replies[0].clone(), ask(&mut beds[0], &get), replies[2].clone()];
    assert!(Kv::unseen(&get, &replies).is_empty());
    assert_eq!(Kv::resolve(&get, &replies).unwrap().repairs, [(0, a.clone())]);

    // The second has replaced "a" by "b", which nobody else has heard of.
    let b = Put { seen: a.object.context(), ..put("k", "b") };
    beds[1].stored(b);
    let replies = [ask(&mut beds[0], &get), ask(&mut beds[1], &head)];
    assert_eq!(Kv::unseen(&get, &replies), [1]);
    // And the third has "c" beside it: both have something that the other has not.
    beds[2].stored(put("k", "c"));
    let replies = [ask(&mut beds[0], &get), ask(&mut beds[1], &head), ask(&mut beds[2], &head)];
    assert_eq!(Kv::unseen(&get, &replies), [1, 2]);
    let replies = [replies[0].clone(), ask(&mut beds[1], &get), ask(&mut beds[2], &get)];
    assert!(Kv::unseen(&get, &replies).is_empty());
    let resolution = Kv::resolve(&get, &replies).unwrap();
    assert_eq!(values(&item(&resolution.reply).object), some(&["b", "c"]));
    assert_eq!(resolution.repairs.len(), 3);
    // One who has seen both is enough.
    let all = item(&resolution.reply);
    beds[2].merge(all.clone());
    let replies = [replies[0].clone(), ask(&mut beds[1], &head), ask(&mut beds[2], &head)];
    assert_eq!(Kv::unseen(&get, &replies), [2]);
}

#[test]
fn a_row_that_cannot_be_read_refuses_a_write_and_stays() {
    let mut bed = Bed::new();
    bed.kv.store.put(name("k").bytes().to_vec(), vec![9, 0, 1]);
    assert!(bed.try_run(KvCommand::Put(Box::new(put("k", "a")))).is_err());
    assert!(
        bed.try_run(KvCommand::Get(name("k"))).is_ok(),
        "what the failed turn staged is gone, the row with it"
    );
}

/// A client's step against three replicas that exchange states when they like.
#[derive(Clone, Debug)]
enum Step {
    Read { client: usize, at: usize },
    Write { client: usize, at: usize, deletes: bool },
    Merge { from: usize, to: usize },
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (client, at) = (0..3usize, 0..3usize);
    let step = prop_oneof![
        3 => (client.clone(), at.clone()).prop_map(|(client, at)| Step::Read { client, at }),
        5 => (client, at.clone(), prop::bool::weighted(0.25))
            .prop_map(|(client, at, deletes)| Step::Write { client, at, deletes }),
        4 => (at.clone(), at).prop_map(|(from, to)| Step::Merge { from, to }),
        2 => Just(Step::Wait),
    ];
    vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever the order of reads, writes, deletes, burials and merges: in the end every replica has the same; every
    /// write that nobody has seen and replaced is there; nothing else is; what was deleted is not.
    #[test]
    fn nothing_is_lost_nothing_comes_back_and_nobody_stands_beside_himself(steps in steps()) {
        let mut beds: Vec<Bed> = (0..3).map(|actor| Bed::with(KvConfig::default(), actor)).collect();
        let mut contexts = vec![CausalContext::new(); 3];
        // Of each write: its dot, whether it was a delete, and what its writer had seen.
        let mut writes: Vec<(String, bool, CausalContext, CausalContext)> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Step::Read { client, at } => contexts[client].merge(&beds[at].get("k").context()),
                Step::Write { client, at, deletes } => {
                    let text = number.to_string();
                    let seen = contexts[client].clone();
                    let written = Put { seen: seen.clone(), ..put("k", &text) };
                    let made = if deletes { delete("k", seen.clone()) } else { written };
                    let reply = match beds[at].put(made.clone()) {
                        PutReply::Behind => {
                            // All that anybody has, as a coordinator would bring it.
                            let mut all = beds[0].get("k");
                            (1..3).for_each(|other| all.join(&beds[other].get("k")));
                            beds[at].put(Put { read: Some(all), ..made })
                        }
                        reply => reply,
                    };
                    let PutReply::Stored(stored) = reply else { panic!("{reply:?}") };
                    let counted = beds[at].host.counted;
                    let own = [Dot { actor: ActorId(at as u64), counter: counted }].into_iter().collect();
                    contexts[client].merge(&stored.object.unwrap().context());
                    writes.push((text, deletes, own, seen));
                }
                Step::Merge { from, to } => {
                    for item in beds[from].fold() {
                        beds[to].merge(item);
                    }
                }
                Step::Wait => beds.iter_mut().for_each(|bed| bed.pass(2000)),
            }
        }
        for _ in 0..2 {
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                for item in beds[from].fold() {
                    beds[to].merge(item);
                }
            }
        }
        let objects: Vec<_> = beds.iter_mut().map(|bed| bed.get("k")).collect();
        prop_assert!(objects.iter().all(|object| *object == objects[0]));
        let replaced = |own: &CausalContext| writes.iter().any(|(_, _, _, seen)| seen.descends(own));
        let stands = writes.iter().filter(|(_, deletes, own, _)| !deletes && !replaced(own));
        let expected: BTreeSet<String> = stands.map(|(text, ..)| text.clone()).collect();
        let found: BTreeSet<String> = values(&objects[0]).into_iter().flatten().collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn clients_who_read_before_they_write_leave_at_most_one_sibling_each(order in vec(0..4usize, 1..40)) {
        let mut bed = Bed::new();
        let mut contexts = vec![CausalContext::new(); 4];
        for client in order {
            let stored = bed.stored(Put { seen: contexts[client].clone(), ..put("k", &client.to_string()) });
            contexts[client] = stored.object.unwrap().context();
            prop_assert!(stored.siblings <= 4);
        }
    }
}

#[test]
fn times_are_later_than_those_of_what_a_write_replaces_however_far_ahead_these_are() {
    for ahead_ms in [60_000, 600_000] {
        let mut bed = Bed::new();
        bed.stored(put("k", "a"));
        let ahead = bed.get("k").latest().milliseconds() + ahead_ms;
        let mut other = Bed::with(KvConfig::default(), 2);
        other.host.now_ms = ahead;
        other.stored(put("k", "b"));
        bed.merge(other.fold().pop().unwrap());
        bed.stored(put("k", "c"));
        let latest = bed.get("k").shown(Conflicts::Latest);
        assert_eq!(values(&latest), some(&["c"]));
        assert!(latest.latest() > HybridTime::at_ms(ahead));
    }
}

/// A replica that has the value "a", and one that has missed it and whose clock is a second ahead.
fn one_that_has_it_and_one_that_has_missed_it(conflicts: Conflicts) -> (Bed, Bed) {
    let (mut has, mut missed) = (Bed::with(KvConfig::default(), 1), Bed::with(KvConfig::default(), 2));
    has.stored(under(conflicts, put("k", "a")));
    missed.host.now_ms += 1000;
    (has, missed)
}

#[test]
fn a_delete_by_a_replica_that_had_missed_the_value_waits_for_it_and_leaves_nothing() {
    for conflicts in [Conflicts::Siblings, Conflicts::Latest, Conflicts::Overwrite, Conflicts::First] {
        let (mut has, mut missed) = one_that_has_it_and_one_that_has_missed_it(conflicts);
        let gone = under(conflicts, delete("k", has.get("k").context()));
        assert_eq!(missed.put(gone.clone()), PutReply::Behind, "{conflicts:?}");
        missed.stored(Put { read: Some(has.get("k")), ..gone });
        has.merge(missed.touched.pop().unwrap());
        assert!(has.get("k").is_dead() && missed.get("k").is_dead(), "{conflicts:?}");
    }
}

#[test]
fn where_one_value_counts_a_tombstone_hides_what_it_had_not_seen_from_conditions_too() {
    let conditions =
        |if_match, if_none_match| Conditions { if_match, if_none_match, ..Conditions::default() };
    let refused = |failure| PutReply::Refused(PutRefusal::Condition(failure));
    for (conflicts, hides) in [
        (Conflicts::Siblings, false),
        (Conflicts::Latest, true),
        (Conflicts::Overwrite, true),
        (Conflicts::First, false),
    ] {
        let (mut has, mut missed) = one_that_has_it_and_one_that_has_missed_it(conflicts);
        missed.stored(under(conflicts, delete("k", CausalContext::new())));
        has.merge(missed.touched.pop().unwrap());
        let object = has.get("k");
        assert_eq!((object.len(), object.is_dead()), (2, false));
        assert_eq!(object.is_dead_in(conflicts), hides, "{conflicts:?}");
        assert_eq!(object.outline().is_dead_in(conflicts), hides);
        assert_eq!(object.outline().shown(conflicts), object.clone().shown(conflicts).outline());
        let hidden = object.siblings().find(|sibling| !sibling.content.deleted).unwrap().vtag();
        let matching = conditions(Some(Tags::OneOf(vec![hidden])), None);
        let create = conditions(None, Some(Tags::Any));
        let write = |conditions| under(conflicts, Put { conditions, ..put("k", "b") });
        if hides {
            assert_eq!(has.put(write(matching)), refused(ConditionFailure::Match));
            assert!(!has.stored(write(create)).existed, "{conflicts:?}");
            assert_eq!(values(&has.get("k")), some(&["b"]));
        } else {
            assert_eq!(has.put(write(create)), refused(ConditionFailure::NoneMatch), "{conflicts:?}");
        }
    }
}
