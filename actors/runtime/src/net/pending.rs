//! The requests of one connection that wait for their replies: which they are, until when, and who is told. It
//! decides that each is told once, and that a reply that comes too late meets nobody. It knows no socket.

use super::error::LinkError;
use super::handler::Incoming;
use crate::time::Moment;

/// Told what became of a request.
pub(super) type Callback = Box<dyn FnOnce(Result<Incoming, LinkError>) + Send>;

struct Waiting {
    id: u64,
    deadline: Moment,
    callback: Callback,
}

/// A table whose ids are a place in it (low half) and a count (high half): found without a search, and never taken
/// for an earlier request of the same place.
pub(super) struct Pending {
    places: Vec<Option<Waiting>>,
    free: Vec<u32>,
    count: u32,
    /// No deadline is earlier.
    earliest: Moment,
    max: usize,
}

impl Pending {
    /// An empty table for that many.
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(u32::MAX as usize);
        Self { places: Vec::new(), free: Vec::new(), count: 0, earliest: Moment::MAX, max }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The id of the next request; none when the table is full. Never 0.
    pub(super) fn next_id(&self) -> Option<u64> {
        let place = match self.free.last() {
            Some(place) => *place,
            None if self.places.len() < self.max => self.places.len() as u32,
            None => return None,
        };
        Some(u64::from(self.count.wrapping_add(1).max(1)) << 32 | u64::from(place))
    }

    /// Puts a request under the id that [`Self::next_id`] has just given.
    pub(super) fn insert(&mut self, id: u64, deadline: Moment, callback: Callback) {
        self.count = (id >> 32) as u32;
        self.earliest = self.earliest.min(deadline);
        let waiting = Some(Waiting { id, deadline, callback });
        match self.free.pop() {
            Some(place) => {
                if let Some(at) = self.places.get_mut(place as usize) {
                    *at = waiting;
                }
            }
            None => self.places.push(waiting),
        }
    }

    /// Takes a request out; none when it is no longer waited for, or never was.
    pub(super) fn take(&mut self, id: u64) -> Option<Callback> {
        let place = id as u32;
        let at = self.places.get_mut(place as usize)?;
        if at.as_ref()?.id != id {
            return None;
        }
        let waiting = at.take()?;
        self.free.push(place);
        Some(waiting.callback)
    }

    /// Takes out whose time has run out.
    pub(super) fn expired(&mut self, now: Moment) -> Vec<Callback> {
        let mut expired = Vec::new();
        if now < self.earliest {
            return expired;
        }
        self.earliest = Moment::MAX;
        for (place, at) in self.places.iter_mut().enumerate() {
            match at {
                Some(waiting) if waiting.deadline <= now => {
                    expired.extend(at.take().map(|waiting| waiting.callback));
                    self.free.push(place as u32);
                }
                Some(waiting) => self.earliest = self.earliest.min(waiting.deadline),
                None => {}
            }
        }
        expired
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> Vec<Callback> {
        self.free.clear();
        self.earliest = Moment::MAX;
        self.places.drain(..).flatten().map(|waiting| waiting.callback).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    fn nobody() -> Callback {
        Box::new(|_| ())
    }

    #[test]
    fn a_full_table_gives_no_id_and_a_late_reply_meets_nobody() {
        let mut pending = Pending::new(2);
        let first = pending.next_id().unwrap();
        pending.insert(first, Duration::from_secs(1), nobody());
        let second = pending.next_id().unwrap();
        pending.insert(second, Duration::from_secs(2), nobody());
        assert_eq!(pending.next_id(), None);
        assert!(pending.expired(Duration::from_millis(999)).is_empty());
        assert_eq!(pending.expired(Duration::from_secs(1)).len(), 1);
        assert!(pending.take(first).is_none(), "it came too late");
        let third = pending.next_id().unwrap();
        assert_eq!(third as u32, first as u32, "the same place");
        pending.insert(third, Duration::from_secs(9), nobody());
        assert!(pending.take(first).is_none() && pending.take(third).is_some());
        assert_eq!((pending.len(), pending.drain().len(), pending.len()), (1, 1, 0));
    }

    proptest! {
        /// Against a map: ids are unique, each request is told once, and only after its deadline if at all.
        #[test]
        fn it_is_a_map_with_deadlines(steps in prop::collection::vec((0u8..4, 0u64..40), 0..200)) {
            let mut pending = Pending::new(16);
            let mut model: BTreeMap<u64, Duration> = BTreeMap::new();
            let told = Arc::new(Mutex::new(Vec::new()));
            let (mut now, mut expected) = (Duration::ZERO, Vec::new());
            for (step, number) in steps {
                match step {
                    0 | 1 => match pending.next_id() {
                        Some(id) => {
                            let deadline = now + Duration::from_millis(number + 1);
                            let told = told.clone();
                            pending.insert(id, deadline, Box::new(move |_| told.lock().unwrap().push(id)));
                            prop_assert!(model.insert(id, deadline).is_none());
                        }
                        None => prop_assert_eq!(model.len(), 16),
                    },
                    2 => {
                        let id = model.keys().nth(number as usize % model.len().max(1)).copied().unwrap_or(7);
                        let taken = pending.take(id);
                        prop_assert_eq!(taken.is_some(), model.remove(&id).is_some());
                    }
                    _ => {
                        now += Duration::from_millis(number);
                        for callback in pending.expired(now) {
                            callback(Err(LinkError::Deadline));
                        }
                        let gone: Vec<u64> = model.iter().filter(|(_, d)| **d <= now).map(|(id, _)| *id).collect();
                        model.retain(|_, deadline| *deadline > now);
                        expected.extend(gone);
                    }
                }
                prop_assert_eq!(pending.len(), model.len());
            }
            let mut told = told.lock().unwrap().clone();
            told.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(told, expected);
        }
    }
}
