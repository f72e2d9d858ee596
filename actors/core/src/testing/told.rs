//! Whether a module says all that it changes: what its turns told, added up, against what a fold shows. It decides
//! what is compared; it does not know which turns ran.

use crate::antientropy::Fingerprint;
use crate::antientropy::listing::GroupOf;
use crate::ids::{ClusterId, Partition};
use crate::keyspace::Snapshot;
use crate::keyspace::changes::Changes;
use crate::ring::RingSize;
use crate::store::{Flow, KeyRange};
use crate::vnode::{Item, Vnode};
use std::collections::BTreeMap;

/// What hosts listen with whose turns are added up here.
pub fn groups<V: Vnode>() -> GroupOf {
    GroupOf::new(ClusterId([7; 16]), V::SERVICE, RingSize::LEAST, Partition(0))
}

/// The sum of what was told of each item; items that are gone have none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told(BTreeMap<Vec<u8>, u64>);

impl Told {
    /// What a vnode over this snapshot should have told in all its life.
    pub fn as_folded<V: Vnode>(snapshot: &Snapshot) -> Result<Self, V::Error> {
        let mut told = Self::default();
        told.fold::<V>(snapshot, &KeyRange::all(), u64::wrapping_add)?;
        Ok(told)
    }

    fn fold<V: Vnode>(
        &mut self,
        snapshot: &Snapshot,
        range: &KeyRange,
        join: fn(u64, u64) -> u64,
    ) -> Result<(), V::Error> {
        let (groups, mut scratch) = (groups::<V>(), Vec::new());
        V::fold(snapshot, range, &mut |item: V::Item| {
            let key = item.key();
            if let Ok(Fingerprint(print)) = groups.prints().of(&item, &mut scratch) {
                self.apply(key, |sum| join(sum, print));
            }
            Flow::Continue(())
        })
    }

    fn apply(&mut self, key: Vec<u8>, change: impl FnOnce(u64) -> u64) {
        let sum = change(self.0.get(&key).copied().unwrap_or(0));
        if sum == 0 {
            self.0.remove(&key);
        } else {
            self.0.insert(key, sum);
        }
    }

    /// Takes in what one turn told. What is doubtful is what the snapshot says.
    pub fn add<V: Vnode>(&mut self, changes: Changes, now: &Snapshot) -> Result<(), V::Error> {
        if changes.doubtful {
            *self = Self::as_folded::<V>(now)?;
            return Ok(());
        }
        for change in changes.items {
            let bits = |print: Option<Fingerprint>| print.map_or(0, |print| print.0);
            self.apply(change.key, |sum| sum.wrapping_sub(bits(change.was)).wrapping_add(bits(change.is)));
        }
        if let Some(changed) = changes.ranges {
            for range in &changed.ranges {
                self.fold::<V>(&changed.before, range, u64::wrapping_sub)?;
                self.fold::<V>(&changed.after, range, u64::wrapping_add)?;
            }
        }
        Ok(())
    }
}
