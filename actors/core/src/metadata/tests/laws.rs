//! The laws of the join, and that exactly what nobody has removed or replaced stands: over histories in which replicas
//! write, remove, meet, start anew, lose their disk, are set back to an old copy, and fold what they have seen.

use super::*;
use crate::mutant::{Mutant, plant};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

const REPLICAS: usize = 3;
const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Put {
        at: usize,
        key: usize,
    },
    Remove {
        at: usize,
        key: usize,
    },
    Sync {
        from: usize,
        to: usize,
    },
    Restart {
        at: usize,
    },
    Wipe {
        at: usize,
    },
    Copy {
        at: usize,
    },
    SetBack {
        at: usize,
        copy: Index,
    },
    /// Everybody meets everybody, and then one folds.
    Retire {
        at: usize,
    },
    /// One would fold, and nobody has said that it has the same.
    FoldEarly {
        at: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (at, key) = (0..REPLICAS, 0..KEYS.len());
    let step = prop_oneof![
        6 => (at.clone(), key.clone()).prop_map(|(at, key)| Step::Put { at, key }),
        4 => (at.clone(), key).prop_map(|(at, key)| Step::Remove { at, key }),
        6 => (at.clone(), at.clone()).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => at.clone().prop_map(|at| Step::Restart { at }),
        1 => at.clone().prop_map(|at| Step::Wipe { at }),
        1 => at.clone().prop_map(|at| Step::Copy { at }),
        1 => (at.clone(), any::<Index>()).prop_map(|(at, copy)| Step::SetBack { at, copy }),
        1 => at.clone().prop_map(|at| Step::Retire { at }),
        1 => at.prop_map(|at| Step::FoldEarly { at }),
    ];
    vec(step, 0..60)
}

/// What happened: a value written or not, and which writes went by it.
struct Event {
    written: Option<usize>,
    gone: BTreeSet<usize>,
}

/// One replica beside the plainest account of what it ought to hold: the events that have reached it.
#[derive(Clone)]
struct Replica {
    metadata: Metadata,
    life: Life,
    events: BTreeSet<usize>,
}

impl Replica {
    fn stands(&self, key: usize) -> BTreeSet<usize> {
        let versions = self.metadata.namespace(&name("n")).into_iter().flat_map(|n| n.siblings(KEYS[key]));
        versions.map(|version| usize::from(version.value[0]) * 256 + usize::from(version.value[1])).collect()
    }

    fn begin(&mut self, at: usize, now: u64) {
        self.life = self.metadata.begin_life(node(at), HybridTime(now));
    }
}

struct World {
    replicas: Vec<Replica>,
    log: Vec<Event>,
    copies: Vec<(usize, Replica)>,
    now: u64,
    /// Every state that a replica was ever in.
    states: Vec<Metadata>,
}

impl World {
    fn new() -> Self {
        let replica = |at| Replica {
            metadata: fresh(),
            life: fresh().begin_life(node(at), HybridTime(1)),
            events: BTreeSet::new(),
        };
        let replicas = (0..REPLICAS).map(replica).collect();
        Self { replicas, log: Vec::new(), copies: Vec::new(), now: 1, states: vec![fresh()] }
    }

    fn expected(&self, at: usize, key: usize) -> BTreeSet<usize> {
        let events = &self.replicas[at].events;
        let stands = |event: &&usize| {
            self.log[**event].written == Some(key)
                && !events.iter().any(|later| self.log[*later].gone.contains(event))
        };
        events.iter().filter(stands).copied().collect()
    }

    fn sync(&mut self, from: usize, to: usize) {
        let source = self.replicas[from].clone();
        let target = &mut self.replicas[to];
        let before = target.metadata.clone();
        let changed = target.metadata.join(&source.metadata, |_| true).unwrap();
        assert_eq!(changed, target.metadata != before, "whether anything changed is told as it is");
        target.events.extend(source.events);
    }

    fn step(&mut self, step: &Step) {
        self.now += 1;
        let now = self.now;
        match *step {
            Step::Put { at, key } => {
                let gone = self.expected(at, key);
                let id = self.log.len();
                let replica = &mut self.replicas[at];
                let at_life = At { life: replica.life, now: HybridTime(now) };
                let value = vec![(id / 256) as u8, id as u8];
                replica.metadata.put(&name("n"), KEYS[key], value, at_life).unwrap();
                replica.events.insert(id);
                self.log.push(Event { written: Some(key), gone });
            }
            Step::Remove { at, key } => {
                let gone = self.expected(at, key);
                let there = self.replicas[at].metadata.remove(&name("n"), KEYS[key]);
                assert_eq!(there, !gone.is_empty());
                self.replicas[at].events.insert(self.log.len());
                self.log.push(Event { written: None, gone });
            }
            Step::Sync { from, to } => self.sync(from, to),
            Step::Restart { at } => self.replicas[at].begin(at, now),
            Step::Wipe { at } => {
                self.replicas[at].metadata = fresh();
                self.replicas[at].events.clear();
                self.replicas[at].begin(at, now);
            }
            Step::Copy { at } => self.copies.push((at, self.replicas[at].clone())),
            Step::SetBack { at, copy } => {
                let copies: Vec<_> = self.copies.iter().filter(|(of, _)| *of == at).collect();
                if !copies.is_empty() {
                    self.replicas[at] = copy.get(&copies).1.clone();
                    self.replicas[at].begin(at, now);
                }
            }
            Step::Retire { at } => {
                for _ in 0..2 {
                    for to in 0..REPLICAS {
                        self.sync((to + 1) % REPLICAS, to);
                        self.sync((to + 2) % REPLICAS, to);
                    }
                }
                let everything = self.replicas[at].events.clone();
                let all_alike = self.replicas.iter().all(|replica| replica.events == everything);
                assert!(all_alike);
                for replica in &self.replicas {
                    assert_eq!(
                        replica.metadata, self.replicas[at].metadata,
                        "who has seen the same is the same"
                    );
                }
                // A write that only a lost disk had counts as removed from now on: no copy of it may come back here,
                // as the account does not know that.
                self.copies.retain(|(_, copy)| copy.events.is_subset(&everything));
                if let Some(mut folded) = self.replicas[at].metadata.namespace(&name("n")).cloned() {
                    folded.retire(|_| false);
                    self.replicas[at].metadata.put_back(&name("n"), folded);
                }
            }
            Step::FoldEarly { at } => {
                let members: Vec<_> = (0..REPLICAS).map(node).collect();
                // Whether it folds is not the matter: what stands is looked at below, and after every step from now on.
                let _ = self.replicas[at].metadata.retire(&members, |_| false);
            }
        }
        for at in 0..REPLICAS {
            for (key, text) in KEYS.iter().enumerate() {
                assert_eq!(self.replicas[at].stands(key), self.expected(at, key), "n{at} {text}");
            }
        }
        self.states.extend(self.replicas.iter().map(|replica| replica.metadata.clone()));
    }
}

fn run(steps: &[Step]) -> World {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    world
}

proptest! {
    #[test]
    fn exactly_what_nobody_has_removed_or_replaced_stands(steps in steps()) {
        run(&steps);
    }

    #[test]
    fn join_is_commutative_associative_and_idempotent(steps in steps(), picks in any::<[Index; 3]>()) {
        let states = run(&steps).states;
        let [x, y, z] = picks.map(|pick| pick.get(&states).clone());
        prop_assert_eq!(joined(&x, &y), joined(&y, &x));
        prop_assert_eq!(joined(&joined(&x, &y), &z), joined(&x, &joined(&y, &z)));
        prop_assert_eq!(joined(&x, &x), x.clone());
        prop_assert_eq!(joined(&joined(&x, &y), &y), joined(&x, &y));
    }

    #[test]
    fn what_was_written_is_read_back_and_equal_values_are_equal_bytes(steps in steps(), pick in any::<Index>()) {
        let states = run(&steps).states;
        let state = pick.get(&states);
        let bytes = crate::wire::codec::encode(state).unwrap();
        prop_assert_eq!(&crate::wire::codec::decode::<Metadata>(&bytes).unwrap(), state);
        prop_assert!(bytes.len() <= state.bytes() + 64, "{} of {}", bytes.len(), state.bytes());
    }

    #[test]
    fn any_bytes_are_a_part_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(part) = crate::wire::codec::decode::<MetadataPart>(&bytes) {
            let _ = fresh().join_part(&part, |_| true);
        }
    }
}

#[test]
fn to_fold_before_all_have_it_is_found() {
    let config =
        ProptestConfig { cases: 1000, max_shrink_iters: 0, failure_persistence: None, ..Default::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    plant(Some(Mutant::FoldEarly));
    let found = TestRunner::new_with_rng(config, random).run(&steps(), |steps| {
        run(&steps);
        Ok(())
    });
    plant(None);
    let Err(TestError::Fail(why, _)) = found else { panic!("{found:?}") };
    assert!(why.message().contains("left == right"), "a write that should stand does not: {why}");
}

#[test]
fn a_member_that_returns_with_an_old_copy_resurrects_nothing() {
    let (mut one, settings) = (fresh(), name("settings"));
    let first = at(&one, 0, 5);
    one.put(&settings, "k", b"old".to_vec(), first).unwrap();
    let old = one.clone();
    assert!(one.remove(&settings, "k"));
    assert_eq!(joined(&one, &old), one);
    assert_eq!(joined(&old, &one), one);
    plant(Some(Mutant::ForgetRemoved));
    let back = joined(&one, &old);
    plant(None);
    assert_ne!(back, one, "the planted fault is one");
}

#[test]
fn a_removal_takes_what_it_saw_and_leaves_what_was_written_meanwhile() {
    let (mut one, settings) = (fresh(), name("settings"));
    one.put(&settings, "k", b"1".to_vec(), at(&fresh(), 0, 5)).unwrap();
    let mut other = one.clone();
    other.put(&settings, "k", b"2".to_vec(), at(&fresh(), 1, 6)).unwrap();
    one.remove(&settings, "k");
    let both = joined(&one, &other);
    assert_eq!(both.namespace(&settings).unwrap().value("k"), Some(b"2".as_slice()));
}

#[test]
fn of_writes_at_once_the_later_is_used_and_a_write_after_both_replaces_both() {
    let (mut one, mut other, settings) = (fresh(), fresh(), name("settings"));
    one.put(&settings, "k", b"1".to_vec(), at(&fresh(), 0, 9)).unwrap();
    other.put(&settings, "k", b"2".to_vec(), at(&fresh(), 1, 5)).unwrap();
    let mut both = joined(&one, &other);
    let namespace = both.namespace(&settings).unwrap();
    assert_eq!((namespace.siblings("k").count(), namespace.value("k")), (2, Some(b"1".as_slice())));
    // This node's clock is behind: what it writes is later all the same.
    both.put(&settings, "k", b"3".to_vec(), at(&fresh(), 2, 1)).unwrap();
    let namespace = both.namespace(&settings).unwrap();
    assert_eq!((namespace.siblings("k").count(), namespace.value("k")), (1, Some(b"3".as_slice())));
    assert!(namespace.latest("k").unwrap().1.written > HybridTime::at_ms(9));
}

#[test]
fn what_was_seen_stays_small_however_often_nodes_start() {
    let settings = name("settings");
    let mut all = vec![fresh(); 3];
    for start in 0..200u64 {
        let writer = (start % 3) as usize;
        let mut life = at(&all[writer], writer, start + 1);
        life.now = HybridTime::at_ms(start + 1);
        all[writer].put(&settings, "k", start.to_be_bytes().to_vec(), life).unwrap();
        // Everybody hears of it, and then everybody hears that everybody has.
        for _ in 0..2 {
            let whole = all.iter().fold(fresh(), |sum, one| joined(&sum, one));
            for (number, one) in all.iter_mut().enumerate() {
                *one = joined(one, &whole);
                speak(one, number, &[]);
            }
        }
        let members = [node(0), node(1), node(2)];
        let whole = all.iter().fold(fresh(), |sum, one| joined(&sum, one));
        all[0] = joined(&all[0], &whole);
        all[0].retire(&members, |_| false);
    }
    let seen = all[0].namespace(&settings).unwrap().seen();
    assert!(seen.names() <= 3 + 17, "{} names", seen.names());
}

#[test]
fn nothing_is_folded_while_a_member_has_not_said_that_it_has_the_same() {
    let (mut one, settings) = (fresh(), name("settings"));
    for start in 0..40 {
        let life = at(&one, 0, start + 1);
        one.put(&settings, "k", vec![start as u8], life).unwrap();
    }
    speak(&mut one, 0, &[]);
    let before = one.clone();
    assert!(!one.retire(&[node(0), node(1)], |_| false));
    assert_eq!((&one, one.behind(&[node(0), node(1)])), (&before, vec![node(1)]));
    assert!(one.retire(&[node(0)], |_| false));
    assert_eq!(one.namespace(&settings).unwrap().seen().lives(), 1);
    assert_eq!(joined(&before, &one), one);
}

#[test]
fn a_life_that_counts_as_over_writes_no_more() {
    let (mut one, settings) = (fresh(), name("settings"));
    let first = at(&one, 0, 1);
    one.put(&settings, "k", vec![1], first).unwrap();
    let mut folded = one.namespace(&settings).unwrap().clone();
    folded.retire(|_| true);
    one.put_back(&settings, folded);
    assert!(one.is_over(first.life));
    assert_eq!(one.put(&settings, "k", vec![2], first), Err(EntryRefusal::LifeOver));
    let next = at(&one, 0, 1);
    one.put(&settings, "k", vec![2], next).unwrap();
    assert_eq!(one.namespace(&settings).unwrap().value("k"), Some([2].as_slice()));
}
