//! When a keyspace's memtable is flushed. Left alone, the engine flushes all keyspaces at once whenever its journal has
//! reached its bound, and for some tenths of a second nothing else gets a processor. It is told here to flush one after
//! the other instead, the one that was written first in front, so that journals can go before they reach the bound.
//!
//! It decides which and when, by the bytes that were written. It does not know what the engine flushes by itself apart
//! from keyspaces whose memtable has reached its own bound; the engine's bounds hold as before.

use ringwork_core::store::{HeldBack, TreeSlot};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of keys and values that may lie in memtables before the oldest is flushed. With all keyspaces written alike a
/// flush finds twice the mean in it, and the journal is twice as long. Replayed at start.
const UNFLUSHED_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// After a flush of next to nothing where little more lies there than may: a flush costs the disk some syncs whatever
/// is in the memtable, and with thousands of keyspaces little is.
const PAUSE_MAX: Duration = Duration::from_millis(40);
/// The same where `PRESSING_BYTES` lie there, or after a flush of `WORTH_BYTES`; and how often it is looked whether a
/// flush has ended.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// So much lies in memtables only where thousands of keyspaces are written.
const PRESSING_BYTES: u64 = 4 * UNFLUSHED_BYTES_MAX;
/// Beside a flush of so much its syncs are nothing.
const WORTH_BYTES: u64 = 512 * 1024;
/// After the last flush for now the engine has merged that keyspace's tables, if it did, by then.
const MERGING_MAX: Duration = Duration::from_millis(500);
/// What the engine keeps beside a row's key and value, roughly.
const ROW_BYTES: u64 = 64;

/// The bytes of a row, as they count here.
pub(super) fn row_bytes(key: usize, value: usize) -> u64 {
    (key + value) as u64 + ROW_BYTES
}

/// How long to wait after a flush of so many bytes while so many lie in memtables.
fn pause(flushed_bytes: u64, total_bytes: u64) -> Duration {
    let share = |part: u64, whole: u64| part.min(whole) as f64 / whole as f64;
    let pressure =
        share(total_bytes.saturating_sub(UNFLUSHED_BYTES_MAX), PRESSING_BYTES - UNFLUSHED_BYTES_MAX);
    let less = pressure.max(share(flushed_bytes, WORTH_BYTES));
    PAUSE_MAX - (PAUSE_MAX - PAUSE_MIN).mul_f64(less)
}

/// What lies in memtables, by the keyspace's slot, in the order in which their first rows came.
#[derive(Default)]
struct Unflushed {
    slots: Vec<Held>,
    /// Slots and which of their memtables; those that were flushed since are skipped.
    order: VecDeque<(usize, u64)>,
    total_bytes: u64,
}

#[derive(Clone, Copy, Default)]
struct Held {
    bytes: u64,
    memtable: u64,
}

impl Unflushed {
    /// Rows were written. From `flushed_at` bytes on the engine flushes the keyspace by itself.
    fn add(&mut self, slot: usize, bytes: u64, flushed_at: u64) {
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, Held::default());
        }
        let Some(held) = self.slots.get_mut(slot) else { return };
        if held.bytes == 0 {
            held.memtable += 1;
            self.order.push_back((slot, held.memtable));
        }
        held.bytes += bytes;
        self.total_bytes += bytes;
        if held.bytes > flushed_at {
            self.empty(slot);
        }
        self.shorten();
    }

    fn empty(&mut self, slot: usize) -> u64 {
        let bytes = self.slots.get_mut(slot).map_or(0, |held| std::mem::take(&mut held.bytes));
        self.total_bytes -= bytes;
        bytes
    }

    fn is_there(slots: &[Held], (slot, memtable): (usize, u64)) -> bool {
        slots.get(slot).is_some_and(|held| held.bytes > 0 && held.memtable == memtable)
    }

    /// Drops what is to be skipped, when that is most of it.
    fn shorten(&mut self) {
        if self.order.len() > 2 * self.slots.len() {
            let slots = &self.slots;
            self.order.retain(|place| Self::is_there(slots, *place));
        }
    }

    /// The slot whose memtable is the oldest, and its bytes; it counts as flushed from now on.
    fn take_oldest(&mut self) -> Option<(usize, u64)> {
        while let Some(place) = self.order.pop_front() {
            if Self::is_there(&self.slots, place) {
                return Some((place.0, self.empty(place.0)));
            }
        }
        None
    }
}

/// How the engine is asked.
pub(super) trait Flushes: Send + 'static {
    /// Has the keyspace of a slot flushed.
    fn flush(&self, slot: usize);
    /// Whether this slot's flush, or any other that waits, is still to be done.
    fn is_busy(&self, slot: usize) -> bool;
}

/// The thread that has memtables flushed, one after the other. It ends when this is dropped.
pub(super) struct Pacer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// The slot that was flushed last, [`NONE`] where that is long ago.
    flushed_last: AtomicUsize,
    /// The flush of that slot is under way.
    flushing: AtomicBool,
}

const NONE: usize = usize::MAX;

#[derive(Default)]
struct State {
    unflushed: Unflushed,
    /// The thread waits until more is written.
    sleeps: bool,
    ends: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a memtable is to be flushed; none when there will be none.
    fn next(&self) -> Option<(usize, u64)> {
        let has_nothing =
            |state: &mut State| !state.ends && state.unflushed.total_bytes <= UNFLUSHED_BYTES_MAX;
        let mut state = self.state();
        state.sleeps = true;
        let woken = self.wake.wait_timeout_while(state, MERGING_MAX, has_nothing);
        let (mut state, waited) = woken.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            self.flushed_last.store(NONE, Ordering::Relaxed);
            state = self.wake.wait_while(state, has_nothing).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeps = false;
        if state.ends { None } else { state.unflushed.take_oldest() }
    }

    /// Waits for a pause, and until the engine has flushed; false when nothing is to be waited for any more.
    fn wait_while_busy(&self, engine: &impl Flushes, slot: usize, flushed_bytes: u64) -> bool {
        let mut state = self.state();
        let mut rest = pause(flushed_bytes, state.unflushed.total_bytes);
        loop {
            let waited = self.wake.wait_timeout_while(state, PAUSE_MIN, |state| !state.ends);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.ends {
                return false;
            }
            drop(state);
            let busy = engine.is_busy(slot);
            self.flushing.store(busy, Ordering::Relaxed);
            rest = rest.saturating_sub(PAUSE_MIN);
            if !busy && rest.is_zero() {
                return true;
            }
            state = self.state();
        }
    }
}

impl Pacer {
    /// Starts the thread, which asks `engine`.
    pub(super) fn start(engine: impl Flushes) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            flushed_last: AtomicUsize::new(NONE),
            flushing: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let body = move || {
            while let Some((slot, bytes)) = of_thread.next() {
                of_thread.flushed_last.store(slot, Ordering::Relaxed);
                of_thread.flushing.store(true, Ordering::Relaxed);
                engine.flush(slot);
                if !of_thread.wait_while_busy(&engine, slot, bytes) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("ringwork-pace".to_owned()).spawn(body)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Rows were written: for each slot their bytes, and from how many on the engine flushes the keyspace by itself.
    pub(super) fn written(&self, slots: impl Iterator<Item = (usize, u64, u64)>) {
        let mut state = self.shared.state();
        for (slot, bytes, flushed_at) in slots {
            state.unflushed.add(slot, bytes, flushed_at);
        }
        let wakes = state.sleeps && state.unflushed.total_bytes > UNFLUSHED_BYTES_MAX;
        drop(state);
        if wakes {
            self.shared.wake.notify_one();
        }
    }

    /// The engine begins a flush with a sync of the whole journal, under the lock of all who write. When it takes the
    /// new table in, and when it then merges tables of the same keyspace, whoever writes there waits for several syncs.
    pub(super) fn held_back(&self) -> HeldBack {
        if self.shared.flushing.load(Ordering::Relaxed) {
            return HeldBack::Everything;
        }
        match self.shared.flushed_last.load(Ordering::Relaxed) {
            NONE => HeldBack::Nothing,
            slot => HeldBack::Keyspace(TreeSlot(slot as u32)),
        }
    }

    /// A keyspace is dropped: there is nothing to flush.
    pub(super) fn forget(&self, slot: usize) {
        self.shared.state().unflushed.empty(slot);
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.shared.state().ends = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::mpsc::{Receiver, Sender, channel};

    proptest! {
        /// Against a list of memtables in the order of their first rows.
        #[test]
        fn the_oldest_memtable_is_flushed_first_and_bytes_are_counted_once(
            steps in prop::collection::vec((0usize..5, 1u64..40, any::<bool>()), 0..400)
        ) {
            let mut unflushed = Unflushed::default();
            let (mut first, mut held, mut clock) = (BTreeMap::new(), BTreeMap::new(), 0u64);
            for (slot, bytes, flushes) in steps {
                clock += 1;
                if flushes {
                    let oldest = first.iter().min_by_key(|(_, at)| **at).map(|(slot, _)| *slot);
                    let taken = oldest.map(|slot| (slot, held[&slot]));
                    prop_assert_eq!(unflushed.take_oldest(), taken);
                    if let Some(slot) = oldest {
                        first.remove(&slot);
                        held.remove(&slot);
                    }
                } else {
                    unflushed.add(slot, bytes, 100);
                    first.entry(slot).or_insert(clock);
                    let now = held.entry(slot).or_insert(0);
                    *now += bytes;
                    if *now > 100 {
                        first.remove(&slot);
                        held.remove(&slot);
                    }
                }
                prop_assert_eq!(unflushed.total_bytes, held.values().sum::<u64>());
                prop_assert!(unflushed.order.len() <= 2 * unflushed.slots.len());
            }
        }
    }

    #[test]
    fn the_more_waits_or_was_worth_it_the_shorter_is_the_pause() {
        assert_eq!(pause(WORTH_BYTES, 0), PAUSE_MIN);
        let half = pause(WORTH_BYTES / 2, 0);
        assert!(PAUSE_MAX > half && half > PAUSE_MIN, "{half:?}");
        let (bound, pause) = (UNFLUSHED_BYTES_MAX, |total_bytes| pause(0, total_bytes));
        assert_eq!([0, bound].map(pause), [PAUSE_MAX; 2]);
        assert_eq!([PRESSING_BYTES, u64::MAX].map(pause), [PAUSE_MIN; 2]);
        let between = [bound + bound / 4, bound + bound / 2].map(pause);
        assert!(PAUSE_MAX > between[0] && between[0] > between[1] && between[1] > PAUSE_MIN, "{between:?}");
    }

    /// An engine that says what it is asked and flushes when it is told.
    struct Told {
        asked: Sender<usize>,
        goes_on: Mutex<Receiver<()>>,
    }

    impl Flushes for Told {
        fn flush(&self, slot: usize) {
            self.asked.send(slot).unwrap();
            // Not for ever: a test that fails drops the pacer first, which waits for this.
            let _ = self.goes_on.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        fn is_busy(&self, _: usize) -> bool {
            false
        }
    }

    #[test]
    fn one_is_flushed_after_the_other_and_only_above_the_bound() {
        let ((asked, hears), (tells, goes_on)) = (channel(), channel());
        let pacer = Pacer::start(Told { asked, goes_on: Mutex::new(goes_on) }).unwrap();
        let half = UNFLUSHED_BYTES_MAX / 2;
        let write = |slot| pacer.written([(slot, half, u64::MAX)].into_iter());
        write(7);
        write(3);
        assert!(hears.try_recv().is_err(), "at the bound, not above it");
        assert_eq!(pacer.held_back(), HeldBack::Nothing);
        write(5);
        write(4);
        assert_eq!(hears.recv(), Ok(7), "the oldest");
        assert_eq!(pacer.held_back(), HeldBack::Everything);
        assert!(hears.try_recv().is_err(), "the next when this one has been flushed");
        pacer.forget(3);
        tells.send(()).unwrap();
        write(6);
        assert_eq!(hears.recv(), Ok(5), "what was dropped is not flushed");
        tells.send(()).unwrap();
        let is_done = |_| {
            // Nothing comes: it is a pause.
            let _ = hears.recv_timeout(Duration::from_millis(5));
            pacer.held_back() != HeldBack::Everything
        };
        assert!((0..4000).any(is_done), "it is flushed");
        drop(tells);
        drop(pacer); // ends, or the test would not
        assert!(hears.recv().is_err());
    }
}
