//! The laws of the vnode contract, as one call for a module's tests: [`check_laws`], and [`check_listing_laws`] for one
//! that can be asked to list something. It hosts vnodes over
//! memory stores and drives them with generated items; it decides what a lawful module is. It does not know
//! actors: what it checks is the module alone.
//!
//! Generation is from a seed, so a violation names the case that shows it and can be run again.

mod listing;
pub mod told;

use crate::ids::Partition;
use crate::keyspace::{Keyspace, KeyspaceHost, Snapshot};
use crate::limits::{ROUTING_KEY_BYTES_MAX, STORE_KEY_BYTES_MAX};
use crate::store::memory::MemoryStore;
use crate::store::{Flow, KeyRange, KeyspaceId, Store};
use crate::vnode::{Item, Merged, Vnode};
use crate::wire::codec;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use told::Told;

pub use listing::{check_listing_laws, find_listing_violation};

/// A source of arbitrary choices, the same for the same seed (SplitMix64; Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// A source from a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, and without, `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.bits() % end }
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of the slice's values.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}

/// A sentence of the contract that a module broke, and the case that shows it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The sentence.
    pub law: &'static str,
    /// The seed of the case.
    pub seed: u64,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law broken: {} (seed {}): {}", self.law, self.seed, self.seen)
    }
}

/// Checks the contract for module `V`, over 300 generated cases of up to 24 items each. `generate` should draw
/// few routing keys and few identities, so that items meet. Panics with the law, the seed and what was seen.
///
/// Not every law can fail for every module, but each module that breaks one loses data somewhere.
pub fn check_laws<V: Vnode>(config: &V::Config, generate: impl Fn(&mut Draw) -> V::Item) {
    if let Some(violation) = find_violation::<V>(config, 300, generate) {
        report(&violation);
    }
}

#[allow(clippy::panic)]
fn report(violation: &Violation) {
    panic!("{violation}");
}

/// What [`check_laws`] would panic with, over `cases` cases; for a module's test that its laws can fail.
pub fn find_violation<V: Vnode>(
    config: &V::Config,
    cases: u64,
    generate: impl Fn(&mut Draw) -> V::Item,
) -> Option<Violation> {
    (0..cases).find_map(|seed| {
        let mut draw = Draw::from_seed(seed);
        let count = 1 + draw.below(24);
        let items: Vec<V::Item> = (0..count).map(|_| generate(&mut draw)).collect();
        let case = Case::<V> { config, items, seed };
        case.check(&mut draw).err()
    })
}

struct Case<'a, V: Vnode> {
    config: &'a V::Config,
    items: Vec<V::Item>,
    seed: u64,
}

type Checked = Result<(), Violation>;

impl<V: Vnode> Case<'_, V> {
    fn check(&self, draw: &mut Draw) -> Checked {
        self.items_encode_and_join()?;
        let reference = self.merged(&self.items)?;
        let folded = self.fold(&reference, &KeyRange::all())?;
        self.order_does_not_matter(draw, &folded)?;
        self.merging_again_changes_nothing(&folded)?;
        self.folds_are_whole(draw, &reference, &folded)?;
        self.a_fold_carries_everything(draw, &folded)?;
        self.two_halves_make_the_whole(draw, &folded)?;
        self.the_store_is_the_state(&reference, &folded)?;
        self.delete_leaves_nothing(reference)
    }

    fn violated(&self, law: &'static str, seen: impl fmt::Debug) -> Violation {
        Violation { law, seed: self.seed, seen: format!("{seen:?}") }
    }

    fn require(&self, holds: bool, law: &'static str, seen: impl fmt::Debug) -> Checked {
        if holds { Ok(()) } else { Err(self.violated(law, seen)) }
    }

    fn ok<T, E: fmt::Display>(&self, result: Result<T, E>, law: &'static str) -> Result<T, Violation> {
        result.map_err(|e| self.violated(law, e.to_string()))
    }

    fn items_encode_and_join(&self) -> Checked {
        for a in &self.items {
            let bytes = self.ok(codec::encode(a), "an item can be encoded")?;
            let back: V::Item = self.ok(codec::decode(&bytes), "an encoded item decodes")?;
            self.require(back == *a, "an item decodes to what was encoded", (a, &back))?;
            let again = self.ok(codec::encode(&back), "an item can be encoded")?;
            self.require(again == bytes, "equal items have equal bytes", a)?;
            self.require(a.routing_key().len() <= ROUTING_KEY_BYTES_MAX, "routing keys are bounded", a)?;
            self.require(a.key().len() <= STORE_KEY_BYTES_MAX, "keys are bounded", a)?;
            let twice = a.clone().join(a.clone());
            self.require(twice == *a, "join is idempotent", (a, twice))?;
        }
        for a in &self.items {
            for b in self.items.iter().filter(|b| b.key() == a.key()) {
                let (ab, ba) = (a.clone().join(b.clone()), b.clone().join(a.clone()));
                self.require(ab == ba, "join is commutative", (a, b, &ab, &ba))?;
                self.require(ab.key() == a.key(), "join keeps the key", (a, b, &ab))?;
                for c in self.items.iter().filter(|c| c.key() == a.key()) {
                    let left = ab.clone().join(c.clone());
                    let right = a.clone().join(b.clone().join(c.clone()));
                    self.require(left == right, "join is associative", (a, b, c, left, right))?;
                }
            }
        }
        Ok(())
    }

    fn order_does_not_matter(&self, draw: &mut Draw, folded: &[V::Item]) -> Checked {
        for _ in 0..3 {
            let mut shuffled = self.items.clone();
            shuffled.extend((0..draw.below(8)).filter_map(|_| draw.pick(&self.items).cloned()));
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, draw.below(at as u64 + 1) as usize);
            }
            let other = self.merged(&shuffled)?;
            let found = self.fold(&other, &KeyRange::all())?;
            self.require(
                found == folded,
                "items merged in any order, any number of times, leave the same state",
                (folded, &found, &shuffled),
            )?;
        }
        Ok(())
    }

    fn merging_again_changes_nothing(&self, folded: &[V::Item]) -> Checked {
        let mut bed = self.merged(&self.items)?;
        for item in folded {
            let merged = bed.merge(self, item)?;
            self.require(
                merged == Merged::Unchanged,
                "merging what is there says Unchanged",
                (item, merged),
            )?;
        }
        for item in &self.items {
            let merged = bed.merge(self, item)?;
            self.require(
                merged != Merged::Changed,
                "merging an old item again does not say Changed",
                (item, merged),
            )?;
        }
        let found = self.fold(&bed, &KeyRange::all())?;
        self.require(found == folded, "merging what is there changes nothing", (folded, &found))
    }

    fn folds_are_whole(&self, draw: &mut Draw, bed: &Bed<V>, folded: &[V::Item]) -> Checked {
        let keys: Vec<_> = folded.iter().map(Item::key).collect();
        self.require(keys.is_sorted(), "a fold runs in the order of the keys", &keys)?;
        self.require(keys.windows(2).all(|k| k[0] != k[1]), "a fold shows a key once", &keys)?;
        let empty = self.ok(bed.vnode.is_empty(), "is_empty works")?;
        self.require(
            empty == folded.is_empty(),
            "is_empty says whether a fold would find something",
            folded,
        )?;
        if let Some(key) = draw.pick(&keys).cloned() {
            let at = Bytes::from(key);
            let lower = KeyRange { start: Bound::Unbounded, end: Bound::Excluded(at.clone()) };
            let upper = KeyRange { start: Bound::Included(at), end: Bound::Unbounded };
            let mut both = self.fold(bed, &lower)?;
            both.extend(self.fold(bed, &upper)?);
            self.require(
                both == folded,
                "two folds over a split range are one fold over the whole",
                (folded, &both),
            )?;
        }
        let mut first = Vec::new();
        let result = V::fold(&bed.snapshot(), &KeyRange::all(), &mut |item| {
            first.push(item);
            Flow::Break(())
        });
        self.ok(result, "a fold works")?;
        self.require(first.len() == folded.len().min(1), "a fold stops when it is told to", first)
    }

    fn a_fold_carries_everything(&self, draw: &mut Draw, folded: &[V::Item]) -> Checked {
        let cut = draw.below(folded.len() as u64 + 1) as usize;
        let (early, late) = folded.split_at(cut);
        let heir = self.merged(&[late, early, late].concat())?;
        let found = self.fold(&heir, &KeyRange::all())?;
        self.require(
            found == folded,
            "folding and merging elsewhere loses and invents nothing",
            (folded, &found),
        )
    }

    fn two_halves_make_the_whole(&self, draw: &mut Draw, folded: &[V::Item]) -> Checked {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for item in &self.items {
            if draw.one_in(2) { left.push(item.clone()) } else { right.push(item.clone()) }
        }
        let (mut one, mut two) = (self.merged(&left)?, self.merged(&right)?);
        let (from_one, from_two) = (self.fold(&one, &KeyRange::all())?, self.fold(&two, &KeyRange::all())?);
        for item in from_two {
            one.merge(self, &item)?;
        }
        for item in from_one {
            two.merge(self, &item)?;
        }
        for bed in [&one, &two] {
            let found = self.fold(bed, &KeyRange::all())?;
            self.require(
                found == folded,
                "replicas that exchange their items become equal",
                (folded, &found),
            )?;
        }
        Ok(())
    }

    fn the_store_is_the_state(&self, bed: &Bed<V>, folded: &[V::Item]) -> Checked {
        let mut again = Bed::open(self, bed.store.clone())?;
        let found = self.fold(&again, &KeyRange::all())?;
        self.require(found == folded, "a vnode opened over its store is what it was", (folded, &found))?;
        for item in folded {
            let merged = again.merge(self, item)?;
            self.require(merged == Merged::Unchanged, "a reopened vnode knows what it has", (item, merged))?;
        }
        Ok(())
    }

    fn delete_leaves_nothing(&self, mut bed: Bed<V>) -> Checked {
        self.ok(bed.vnode.delete(), "delete works")?;
        bed.end_turn(self)?;
        let empty = self.ok(bed.vnode.is_empty(), "is_empty works")?;
        self.require(empty, "a deleted vnode is empty", ())?;
        let found = self.fold(&bed, &KeyRange::all())?;
        self.require(found.is_empty(), "a deleted vnode folds to nothing", &found)?;
        let mut left = BTreeMap::new();
        let scanned =
            bed.snapshot().scan(&KeyRange::all(), crate::store::Direction::Ascending, &mut |k, v| {
                left.insert(k.to_vec(), v.to_vec());
                Flow::Continue(())
            });
        self.ok(scanned, "a scan works")?;
        self.require(left.is_empty(), "delete leaves nothing in the store", &left)?;
        for item in &self.items {
            bed.merge(self, item)?;
        }
        let refilled = self.fold(&bed, &KeyRange::all())?;
        let fresh = self.merged(&self.items)?;
        let expected = self.fold(&fresh, &KeyRange::all())?;
        self.require(refilled == expected, "delete leaves nothing in memory", (expected, &refilled))
    }

    fn merged(&self, items: &[V::Item]) -> Result<Bed<V>, Violation> {
        let mut bed = Bed::open(self, MemoryStore::new())?;
        for item in items {
            bed.merge(self, item)?;
        }
        Ok(bed)
    }

    fn fold(&self, bed: &Bed<V>, range: &KeyRange) -> Result<Vec<V::Item>, Violation> {
        let mut items = Vec::new();
        let result = V::fold(&bed.snapshot(), range, &mut |item| {
            items.push(item);
            Flow::Continue(())
        });
        self.ok(result, "a fold works")?;
        for item in &items {
            self.require(range.contains(&item.key()), "a fold stays within its range", item)?;
        }
        let expected = self.ok(Told::as_folded::<V>(&bed.snapshot()), "a fold works")?;
        self.require(
            bed.told == expected,
            "what turns say of the items they change adds up to what a fold shows",
            (&bed.told, expected, &self.items),
        )?;
        Ok(items)
    }
}

/// A vnode in its bed: hosted over a memory store, every turn committed at once.
struct Bed<V: Vnode> {
    vnode: V,
    host: KeyspaceHost,
    store: MemoryStore,
    told: Told,
}

impl<V: Vnode> Bed<V> {
    fn open(case: &Case<'_, V>, store: MemoryStore) -> Result<Self, Violation> {
        let open = case.ok(store.open(&KeyspaceId::Node), "the store opens")?;
        let (keyspace, host) = Keyspace::new(open);
        host.listen(told::groups::<V>());
        let told = case.ok(Told::as_folded::<V>(&host.snapshot()), "a fold works")?;
        let vnode = case.ok(V::init(Partition(0), case.config, keyspace), "init works")?;
        let mut bed = Self { vnode, host, store, told };
        bed.end_turn(case)?;
        Ok(bed)
    }

    fn merge(&mut self, case: &Case<'_, V>, item: &V::Item) -> Result<Merged, Violation> {
        let merged = case.ok(self.vnode.merge(item.clone()), "merge works")?;
        self.end_turn(case)?;
        Ok(merged)
    }

    fn end_turn(&mut self, case: &Case<'_, V>) -> Checked {
        let mut sealed = self.host.seal();
        let told = self.told.add::<V>(sealed.changes, &self.host.snapshot());
        case.ok(told, "a fold works")?;
        case.ok(self.store.commit(&mut sealed.writes), "the store commits")?;
        self.host.committed(sealed.sequence);
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        self.host.snapshot()
    }
}
