//! Two vnodes of one group in virtual time: a small module over a store in memory, its trees kept by its turns, and
//! exchanges between the two over a wire that delays and loses. What is law of trees alone is tested beside them.

mod scale;

use super::Fingerprints;
use super::exchange::{Answer, Effect, Ending, Event, Exchange, Question, SETTLE_MS, Side};
use super::keeping::{Built, Keeper, Owed, Standing};
use super::listing::{GroupOf, Page, Picked, Summing, Sums, Through, Wanted, list, pick, sum_up};
use super::tree::{LEAF_LEVEL, Tree};
use crate::coverage::question::NoQuestion;
use crate::ids::{ClusterId, Partition};
use crate::keyspace::{Keyspace, KeyspaceHost, Snapshot};
use crate::limits::{REPAIR_BATCH_BYTES_MAX, REPAIR_BATCH_ITEMS_MAX};
use crate::mutant::{Mutant, plant};
use crate::ring::{KeyHash, RingSize};
use crate::store::memory::MemoryStore;
use crate::store::{Direction, Flow, KeyRange, KeyspaceId, Store, StoreError};
use crate::testing::{Draw, check_laws, find_violation};
use crate::vnode::{Item, Merged, Outcome, Turn, Vnode};
use crate::wire::{Wire, codec};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The largest number seen under a name. A number above 1000 hides all names that sort before it and its own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Peak {
    name: String,
    number: u64,
}

impl Wire for Peak {
    const VERSION: u16 = 1;
}

impl Item for Peak {
    fn routing_key(&self) -> &[u8] {
        &self.name.as_bytes()[..1]
    }
    fn key(&self) -> Vec<u8> {
        self.name.clone().into_bytes()
    }
    fn join(self, other: Self) -> Self {
        Self { number: self.number.max(other.number), name: self.name }
    }
}

struct Peaks(Keyspace);

impl Peaks {
    fn number(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let bytes = self.0.get(name.as_bytes())?;
        Ok(bytes.and_then(|bytes| bytes.as_ref().try_into().ok()).map(u64::from_be_bytes))
    }
}

impl Vnode for Peaks {
    const SERVICE: &'static str = "peaks";
    type Config = ();
    type Command = ();
    type Reply = ();
    type Item = Peak;
    type Question = NoQuestion;
    type Error = StoreError;

    fn init(_: Partition, (): &(), store: Keyspace) -> Result<Self, StoreError> {
        Ok(Self(store))
    }

    fn handle_command(&mut self, (): (), _: &mut Turn<'_, Self>) -> Result<Outcome<Self>, StoreError> {
        Ok(Outcome::Reply(()))
    }

    fn merge(&mut self, item: Peak) -> Result<Merged, StoreError> {
        let before = self.number(&item.name)?;
        if before >= Some(item.number) {
            return Ok(Merged::Unchanged);
        }
        self.0.put(item.name.clone().into_bytes(), item.number.to_be_bytes().to_vec());
        let was = before.map(|number| Peak { name: item.name.clone(), number });
        self.0.changed(was.as_ref(), Some(&item));
        Ok(Merged::Changed)
    }

    fn fold(
        snapshot: &Snapshot,
        range: &KeyRange,
        visit: &mut dyn FnMut(Peak) -> Flow,
    ) -> Result<(), StoreError> {
        snapshot.scan(range, Direction::Ascending, &mut |key, value| {
            let number = value.try_into().map(u64::from_be_bytes).unwrap_or_default();
            visit(Peak { name: String::from_utf8_lossy(key).into_owned(), number })
        })
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        let mut empty = true;
        self.0.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
            empty = false;
            Flow::Break(())
        })?;
        Ok(empty)
    }

    fn delete(&mut self) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        self.0.scan(&KeyRange::all(), Direction::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            Flow::Continue(())
        })?;
        self.0.changed_within(&KeyRange::all());
        keys.into_iter().for_each(|key| self.0.remove(key));
        Ok(())
    }
}

impl Wire for () {
    const VERSION: u16 = 1;
}

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn prints() -> Fingerprints {
    Fingerprints::new(CLUSTER, Peaks::SERVICE)
}

fn size() -> RingSize {
    RingSize::try_from(8).unwrap()
}

fn group_of(name: &str) -> Partition {
    size().partition_of(&KeyHash::of(Peaks::SERVICE, &name.as_bytes()[..1]))
}

/// One vnode with its trees.
struct Replica {
    vnode: Peaks,
    host: KeyspaceHost,
    store: MemoryStore,
    keeper: Keeper,
    owed: Vec<Owed>,
}

impl Replica {
    fn new(partition: Partition) -> Self {
        let store = MemoryStore::new();
        let (keyspace, host) = Keyspace::new(store.open(&KeyspaceId::Node).unwrap());
        let groups = GroupOf::new(CLUSTER, Peaks::SERVICE, size(), partition);
        host.listen(groups);
        let keeper = Keeper::empty(groups);
        Self { vnode: Peaks(keyspace), host, store, keeper, owed: Vec::new() }
    }

    fn end_turn(&mut self) {
        let mut sealed = self.host.seal();
        self.owed.extend(self.keeper.take(sealed.changes));
        self.store.commit(&mut sealed.writes).unwrap();
        self.host.committed(sealed.sequence);
    }

    fn merge(&mut self, name: &str, number: u64) {
        self.vnode.merge(Peak { name: name.to_owned(), number }).unwrap();
        self.end_turn();
    }

    /// Removes all names that begin so, which is said as a range.
    fn forget(&mut self, prefix: &str) {
        let range = KeyRange::prefix(prefix.as_bytes());
        let mut keys = Vec::new();
        let snapshot = self.host.snapshot();
        snapshot
            .scan(&range, Direction::Ascending, &mut |key, _| {
                keys.push(key.to_vec());
                Flow::Continue(())
            })
            .unwrap();
        keys.into_iter().for_each(|key| self.vnode.0.remove(key));
        self.vnode.0.changed_within(&range);
        self.end_turn();
    }

    /// Behind the vnode's back.
    fn damage(&mut self, name: &str, number: Option<u64>) {
        let value = number.map(|number| number.to_be_bytes().to_vec().into());
        let tree = self.store.open(&KeyspaceId::Node).unwrap().slot;
        let write = crate::store::Write { tree, key: name.as_bytes().to_vec().into(), value };
        self.store.commit(&mut vec![write]).unwrap();
    }

    fn settle(&mut self) {
        for Owed { building, ranges } in std::mem::take(&mut self.owed) {
            let groups = self.keeper.groups();
            let sum = |snapshot| sum_up::<Peaks>(snapshot, &ranges.ranges, groups).unwrap();
            self.keeper.settle(building, Some((sum(&ranges.before), sum(&ranges.after))));
        }
    }

    fn scanned(&self) -> Sums {
        let mut summing = Summing::new(self.host.snapshot(), KeyRange::all(), self.keeper.groups());
        while summing.step::<Peaks>(3).unwrap() {}
        summing.finish()
    }

    fn rebuild(&mut self) -> Built {
        let building = self.keeper.begin();
        self.host.look_up_anew();
        let sums = self.scanned();
        self.keeper.built(building, Some(sums))
    }

    fn content(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        Peaks::fold(&self.host.snapshot(), &KeyRange::all(), &mut |item| {
            all.insert(item.name, item.number);
            Flow::Continue(())
        })
        .unwrap();
        all
    }

    fn answer(&mut self, group: Partition, question: &Question) -> Answer {
        assert!(question.is_lawful(size()), "{question:?}");
        let (snapshot, groups) = (self.host.snapshot(), self.keeper.groups());
        match question {
            Question::Root => Answer::Root(self.keeper.tree(group).unwrap().root()),
            Question::Children { level, nodes } => {
                Answer::Children(self.keeper.tree(group).unwrap().children(*level, nodes))
            }
            Question::List(wanted) => Answer::Page(list::<Peaks>(&snapshot, groups, wanted).unwrap()),
            Question::Pick(keys) => {
                let picked = pick::<Peaks>(&snapshot, groups, group, keys, REPAIR_BATCH_BYTES_MAX);
                Answer::Picked(picked.unwrap())
            }
            Question::Take(items) => {
                for item in items {
                    let item: Peak = codec::decode(&item[2..]).unwrap();
                    self.merge(&item.name, item.number);
                }
                Answer::Taken
            }
        }
    }
}

/// Two replicas and what is between them.
struct World {
    mine: Replica,
    theirs: Replica,
    now_ms: u64,
    draw: Draw,
    /// One message in so many is lost; 0 for none.
    loses: u64,
    /// Writes that are still to reach a replica, by when.
    writes: BTreeMap<(u64, u64), (Side, String, u64)>,
    /// What each side was given.
    taken: Vec<(Side, String)>,
}

impl World {
    fn new(seed: u64, loses: u64) -> Self {
        Self {
            mine: Replica::new(Partition(3)),
            theirs: Replica::new(Partition(4)),
            now_ms: 0,
            draw: Draw::from_seed(seed),
            loses,
            writes: BTreeMap::new(),
            taken: Vec::new(),
        }
    }

    fn replica(&mut self, side: Side) -> &mut Replica {
        match side {
            Side::Mine => &mut self.mine,
            Side::Theirs => &mut self.theirs,
        }
    }

    fn advance(&mut self, to_ms: u64) {
        self.now_ms = to_ms;
        while let Some(entry) = self.writes.first_entry().filter(|entry| entry.key().0 <= to_ms) {
            let (side, name, number) = entry.remove();
            self.replica(side).merge(&name, number);
        }
    }

    fn lost(&mut self) -> bool {
        self.loses > 0 && self.draw.one_in(self.loses)
    }

    /// The second look follows the first.
    fn exchange(&mut self, group: Partition) -> Ending {
        match self.look(group, None) {
            Ending::Unsettled(leaves) => {
                self.advance(self.now_ms + SETTLE_MS);
                self.look(group, Some(leaves))
            }
            ending => ending,
        }
    }

    fn look(&mut self, group: Partition, before: Option<Vec<u16>>) -> Ending {
        let mut exchange = Exchange::new(group, prints(), 1_000_000, before);
        let mut due: BTreeMap<(u64, u64), Event> = BTreeMap::new();
        let mut event = Event::Tick;
        for step in 0..1_000_000u64 {
            let mut wake = u64::MAX;
            for effect in exchange.handle(self.now_ms, event) {
                match effect {
                    Effect::End(ending) => return ending,
                    Effect::WakeAt(at_ms) => wake = at_ms,
                    Effect::Ask { side, number, question } => {
                        let back = self.now_ms + 1 + self.draw.below(40);
                        let event = match self.draw.below(3) {
                            _ if side == Side::Mine => Some(self.answered(side, group, number, &question)),
                            _ if !self.lost() => Some(self.answered(side, group, number, &question)),
                            0 => Some(Event::Failed { number, why: "planted".into() }),
                            // Done, and the answer lost; or lost on its way.
                            1 => {
                                self.answered(side, group, number, &question);
                                None
                            }
                            _ => None,
                        };
                        if let Some(event) = event {
                            due.insert((back, step * 2 + u64::from(side == Side::Mine)), event);
                        }
                    }
                }
            }
            let first = due.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            self.advance(first.min(wake));
            event = if first <= wake { due.pop_first().unwrap().1 } else { Event::Tick };
        }
        panic!("it does not end");
    }

    fn answered(&mut self, side: Side, group: Partition, number: u64, question: &Question) -> Event {
        if let Question::Take(items) = question {
            let names = items
                .iter()
                .map(|item| (side, codec::decode::<Peak>(&item[2..]).unwrap().name))
                .collect::<Vec<_>>();
            self.taken.extend(names);
        }
        let answer = self.replica(side).answer(group, question);
        Event::Answered { number, answer }
    }
}

/// Names of one group, and of others.
fn names(count: usize) -> (Partition, Vec<String>, Vec<String>) {
    let letters: Vec<String> = ('a'..='z').map(|letter| letter.to_string()).collect();
    let group = group_of(&letters[0]);
    let (within, outside): (Vec<_>, Vec<_>) =
        letters.into_iter().partition(|letter| group_of(letter) == group && *letter != "z");
    let number = |letters: &[String]| {
        (0..count).map(|n| format!("{}{n:05}", letters[n % letters.len()])).collect::<Vec<_>>()
    };
    (group, number(&within), number(&outside))
}

/// The world's vnodes lie where every preference list of the group reaches them: the ring is small.
fn equal(world: &World, names: &[String]) -> bool {
    let of = |replica: &Replica| {
        let mut content = replica.content();
        content.retain(|name, _| names.contains(name));
        content
    };
    of(&world.mine) == of(&world.theirs)
}

#[test]
fn the_tests_own_module_is_lawful() {
    check_laws::<Peaks>(&(), |draw| Peak {
        name: ["a", "b", "c"][draw.below(3) as usize].into(),
        number: 1 + draw.below(5),
    });
}

#[test]
fn a_module_that_does_not_say_what_it_changes_is_found() {
    plant(Some(Mutant::TellNothing));
    let found = find_violation::<Peaks>(&(), 10, |_| Peak { name: "a".into(), number: 1 });
    plant(None);
    let law = "what turns say of the items they change adds up to what a fold shows";
    assert_eq!(found.map(|violation| violation.law), Some(law));
}

#[test]
fn an_exchange_sends_exactly_what_differs_and_the_next_one_finds_nothing() {
    for seed in 0..40 {
        let mut world = World::new(seed, 0);
        let (group, within, outside) = names(300);
        let mut expected = BTreeSet::new();
        for name in within.iter().chain(&outside) {
            let number = 1 + world.draw.below(3);
            let fate = world.draw.below(30);
            if fate != 0 {
                world.mine.merge(name, number);
            }
            if fate != 1 {
                world.theirs.merge(name, number + u64::from(fate == 2));
            }
            if within.contains(name) {
                match fate {
                    0 => drop(expected.insert((Side::Mine, name.clone()))),
                    1 => drop(expected.insert((Side::Theirs, name.clone()))),
                    2 => expected.extend([(Side::Mine, name.clone()), (Side::Theirs, name.clone())]),
                    _ => {}
                }
            }
        }
        let ending = world.exchange(group);
        assert!(matches!(ending, Ending::Repaired { more: false, .. }), "{ending:?}");
        assert_eq!(world.taken.len(), expected.len());
        assert_eq!(world.taken.drain(..).collect::<BTreeSet<_>>(), expected);
        assert!(equal(&world, &within));
        assert!(!equal(&world, &outside), "another group is none of its business");
        assert_eq!(world.exchange(group), Ending::Equal);
        assert_eq!(world.taken, []);
    }
}

#[test]
fn over_a_wire_that_loses_and_under_writes_the_two_become_equal() {
    for seed in 0..60 {
        let mut world = World::new(seed, 4 + seed % 5);
        let (group, within, _) = names(400);
        for name in &within {
            let number = 1 + world.draw.below(3);
            match world.draw.below(12) {
                0 => world.mine.merge(name, number),
                1 => world.theirs.merge(name, number),
                _ => {
                    world.mine.merge(name, number);
                    world.theirs.merge(name, number);
                }
            }
        }
        // Writes that reach both, within some milliseconds of each other, for two seconds.
        for n in 0..400 {
            let (name, number) = (world.draw.pick(&within).cloned().unwrap(), 4 + world.draw.below(50));
            for side in [Side::Mine, Side::Theirs] {
                let at = n * 5 + world.draw.below(20);
                let sort = world.writes.len() as u64;
                world.writes.insert((at, sort), (side, name.clone(), number));
            }
        }
        let mut endings = Vec::new();
        while endings.last() != Some(&Ending::Equal) {
            assert!(endings.len() < 30, "{endings:?}");
            endings.push(world.exchange(group));
        }
        world.advance(10_000_000);
        let last = world.exchange(group);
        assert!(equal(&world, &within) || last != Ending::Equal, "seed {seed}: {endings:?}");
        for replica in [&world.mine, &world.theirs] {
            assert_eq!(replica.keeper.standing(), Standing::Ready);
        }
    }
}

#[test]
fn a_write_that_has_reached_one_of_the_two_is_no_difference_a_second_later() {
    let mut world = World::new(1, 0);
    let (group, within, _) = names(50);
    world.mine.merge(&within[0], 1);
    world.writes.insert((500, 0), (Side::Theirs, within[0].clone(), 1));
    assert_eq!(world.exchange(group), Ending::Equal);
    assert_eq!(world.taken, []);
}

#[test]
fn damage_that_nobody_told_is_found_after_a_rebuild_and_trees_that_are_wrong_show() {
    let mut world = World::new(1, 0);
    let (group, within, _) = names(500);
    for name in &within {
        world.mine.merge(name, 5);
        world.theirs.merge(name, 5);
    }
    for name in &within[..5] {
        world.theirs.damage(name, None);
    }
    world.mine.damage(&within[9], Some(6));
    assert_eq!(world.exchange(group), Ending::Equal, "nobody has looked");
    assert_eq!((world.mine.rebuild(), world.theirs.rebuild()), (Built::Corrected, Built::Corrected));
    assert!(matches!(world.exchange(group), Ending::Repaired { .. }));
    assert!(equal(&world, &within));
    assert_eq!(world.exchange(group), Ending::Equal);
    // What is healed behind a tree's back leaves the tree wrong.
    world.mine.damage(&within[20], None);
    world.mine.host.look_up_anew();
    world.mine.merge(&within[20], 5);
    assert_eq!(world.exchange(group), Ending::TreesDiffer);
    assert_eq!(world.mine.rebuild(), Built::Corrected);
    assert_eq!(world.exchange(group), Ending::Equal);
}

#[test]
fn what_answers_something_else_is_not_believed() {
    let unlawful = [
        Answer::Taken,
        Answer::Children(Vec::new()),
        Answer::Picked(Picked::default()),
        Answer::Page(Page { entries: Vec::new(), through: Through::End }),
    ];
    for answer in unlawful {
        let mut exchange = Exchange::new(Partition(1), prints(), 1000, None);
        let effects = exchange.handle(0, Event::Tick);
        let Some(Effect::Ask { side, number, .. }) = effects.into_iter().next() else { panic!() };
        let effects = exchange.handle(1, Event::Answered { number, answer });
        assert!(matches!(&effects[..], [Effect::End(Ending::GaveUp { side: s, .. })] if *s == side));
        assert_eq!(exchange.handle(2, Event::Tick), []);
    }
    let out_of_bounds = [
        Question::Children { level: LEAF_LEVEL, nodes: vec![0] },
        Question::Children { level: 0, nodes: vec![1] },
        Question::Children { level: 1, nodes: vec![2, 1] },
        Question::List(Wanted { group: Partition(8), leaves: vec![1], after: None }),
        Question::List(Wanted { group: Partition(1), leaves: vec![4096], after: None }),
        Question::Pick(vec![Vec::new(); REPAIR_BATCH_ITEMS_MAX + 1]),
        Question::Take(vec![Vec::new(); REPAIR_BATCH_ITEMS_MAX + 1]),
    ];
    assert!(out_of_bounds.iter().all(|question| !question.is_lawful(size())));
}

#[test]
fn a_side_that_never_answers_is_given_up_after_three_attempts() {
    let mut exchange = Exchange::new(Partition(1), prints(), 1000, None);
    let (mut now_ms, mut asked, mut event) = (0, 0, Event::Tick);
    loop {
        let mut next = None;
        for effect in exchange.handle(now_ms, event) {
            match effect {
                Effect::Ask { side: Side::Theirs, .. } => asked += 1,
                Effect::Ask { number, .. } => {
                    next = Some(Event::Answered { number, answer: Answer::Root(Tree::default().root()) });
                }
                Effect::WakeAt(at_ms) => now_ms = if next.is_some() { now_ms } else { at_ms },
                Effect::End(ending) => {
                    assert!(matches!(ending, Ending::GaveUp { side: Side::Theirs, .. }), "{ending:?}");
                    assert_eq!((asked, now_ms), (3, 45_000));
                    return;
                }
            }
        }
        event = next.unwrap_or(Event::Tick);
    }
}

/// Deltas, ranges that are settled late, builds in between, a stop and a start: in the end the trees are what a scan
/// finds.
#[test]
fn trees_that_are_kept_are_trees_that_are_built() {
    let names: Vec<String> = ('a'..='e').flat_map(|a| ('a'..='e').map(move |b| format!("{a}{b}"))).collect();
    for seed in 0..200 {
        let mut draw = Draw::from_seed(seed);
        let mut replica = Replica::new(Partition(3));
        let mut scan: Option<(super::keeping::Building, Sums)> = None;
        for _ in 0..80 {
            match draw.below(16) {
                0 => replica.forget(["a", "b", "c"][draw.below(3) as usize]),
                1 => {
                    replica.vnode.delete().unwrap();
                    replica.end_turn();
                }
                2 => {
                    let building = replica.keeper.begin();
                    scan = Some((building, replica.scanned()));
                }
                3 | 4 => {
                    if let Some((building, sums)) = scan.take() {
                        assert_ne!(
                            replica.keeper.built(building, Some(sums)),
                            Built::Corrected,
                            "seed {seed}"
                        );
                    }
                }
                5 => replica.settle(),
                6 => replica.owed.reverse(),
                7 if draw.one_in(3) => replica.keeper.doubt(),
                8 => {
                    replica.settle();
                    if let Some(kept) = replica.keeper.keep(1) {
                        let bytes = codec::encode(&kept).unwrap();
                        let kept = codec::decode(&bytes).unwrap();
                        replica.keeper = Keeper::found(replica.keeper.groups(), 1, kept);
                        scan = None;
                    }
                }
                _ => {
                    let name = draw.pick(&names).cloned().unwrap();
                    replica.merge(&name, 1 + draw.below(20));
                }
            }
        }
        if let Some((building, sums)) = scan.take() {
            assert_ne!(replica.keeper.built(building, Some(sums)), Built::Corrected, "seed {seed}");
        }
        replica.settle();
        if replica.keeper.standing() != Standing::Ready {
            assert_eq!(replica.rebuild(), Built::Ready);
        }
        let scanned = replica.scanned();
        for group in size().partitions() {
            let expected = scanned.trees.get(&group).cloned().unwrap_or_default();
            assert_eq!(replica.keeper.tree(group), Some(&expected), "seed {seed}, group {group}");
        }
    }
}
