//! What is kept of each partition of a ring. Of most partitions of a large ring a node has nothing to say but that
//! nothing has happened to them since its store was born; that is neither in memory nor on disk, and follows from the
//! store's birth mark. It decides what that is, and which partitions differ from it; it does not know the store.

use super::{Held, first};
use ringwork_core::ids::Partition;
use std::borrow::Cow;

/// Drawn once for a store and kept in it. A generation's mark must tell it from those of the same partition and number
/// in other stores, and it does while no two stores have the same birth mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BirthMark(pub(super) u64);

impl BirthMark {
    /// What a partition is that nothing has happened to.
    pub(super) fn untouched(self, partition: Partition) -> Held {
        first(None, self.mark_of(partition))
    }

    /// The mark of a partition's first generation.
    pub(super) fn mark_of(self, partition: Partition) -> u64 {
        self.0.wrapping_add(u64::from(partition.0))
    }
}

/// See the module's head.
pub(super) struct Places {
    birth: BirthMark,
    /// One for each partition; none where it is untouched.
    places: Vec<Option<Box<Held>>>,
}

impl Places {
    /// Of a ring of so many partitions, all untouched.
    pub(super) fn new(birth: BirthMark, partitions: usize) -> Self {
        Self { birth, places: std::iter::repeat_with(|| None).take(partitions).collect() }
    }

    /// What is kept of a partition; none when it is not of this ring.
    pub(super) fn get(&self, partition: Partition) -> Option<Cow<'_, Held>> {
        Some(match self.places.get(usize::from(partition.0))? {
            Some(held) => Cow::Borrowed(held),
            None => Cow::Owned(self.birth.untouched(partition)),
        })
    }

    /// Something has happened to it. Once it is here it stays, for the store has a record of it.
    pub(super) fn put(&mut self, partition: Partition, held: Held) {
        if let Some(place) = self.places.get_mut(usize::from(partition.0)) {
            *place = Some(Box::new(held));
        }
    }

    /// All that something has happened to, in order. None of the others is lost, sealed, collected, or being sent.
    pub(super) fn touched(&self) -> impl Iterator<Item = (Partition, &Held)> {
        let numbered = self.places.iter().zip(0u16..);
        numbered.filter_map(|(held, number)| Some((Partition(number), held.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::ids::Generation;

    #[test]
    fn what_is_untouched_takes_no_room_and_has_marks_of_its_own() {
        let (one, other) = (BirthMark(7), BirthMark(u64::MAX));
        let mut places = Places::new(one, 4);
        assert_eq!(places.touched().count(), 0);
        let of = |birth: BirthMark, number| birth.untouched(Partition(number)).live;
        assert_eq!(places.get(Partition(3)).unwrap().live, of(one, 3));
        assert_ne!(of(one, 3).mark, of(one, 2).mark);
        assert_ne!(of(one, 3).mark, of(other, 3).mark);
        assert!(places.get(Partition(4)).is_none(), "not of this ring");

        let mut held = places.get(Partition(2)).unwrap().into_owned();
        held.lost = true;
        places.put(Partition(2), held);
        let touched: Vec<_> = places.touched().map(|(partition, held)| (partition, held.lost)).collect();
        assert_eq!(touched, [(Partition(2), true)]);
        assert_eq!(places.get(Partition(2)).unwrap().next, Generation(1));
    }
}
