//! Who wants to hear of changes to a key: live streams. It decides that a slow listener loses its place in
//! the live feed, not the vnode its time: the listener is told and reads on from the store. It does not know
//! what the items mean.

use ringwork_core::ring::KeyHash;
use ringwork_core::vnode::{Item, Vnode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Items that may wait for one listener.
const FEED_ITEMS_MAX: usize = 32;

/// The listeners of one service on this node.
pub struct Watchers<V: Vnode> {
    count: AtomicUsize,
    max: usize,
    feeds: Mutex<BTreeMap<KeyHash, Vec<Feed<V>>>>,
}

struct Feed<V: Vnode> {
    number: u64,
    sender: mpsc::Sender<V::Item>,
    lagged: Arc<AtomicBool>,
}

/// One listener's end. Dropped, it no longer listens.
pub struct Watch<V: Vnode> {
    watchers: Arc<Watchers<V>>,
    hash: KeyHash,
    number: u64,
    receiver: mpsc::Receiver<V::Item>,
    lagged: Arc<AtomicBool>,
}

/// What a listener hears.
pub enum Heard<V: Vnode> {
    /// An item was changed or added, and is committed, at one replica.
    Item(V::Item),
    /// Some went by unheard: read from the store what is there.
    Lagged,
}

impl<V: Vnode> Watchers<V> {
    /// No listeners yet, at most `max` at once.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), max, feeds: Mutex::default() })
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<KeyHash, Vec<Feed<V>>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to a key from now on; none when there are as many listeners as there may be.
    pub fn watch(self: &Arc<Self>, hash: KeyHash) -> Option<Watch<V>> {
        let mut feeds = self.feeds();
        if self.count.load(Ordering::Relaxed) >= self.max {
            return None;
        }
        let (sender, receiver) = mpsc::channel(FEED_ITEMS_MAX);
        let lagged = Arc::new(AtomicBool::new(false));
        let list = feeds.entry(hash).or_default();
        let number = list.last().map_or(0, |feed| feed.number + 1);
        list.push(Feed { number, sender, lagged: lagged.clone() });
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(feeds);
        Some(Watch { watchers: self.clone(), hash, number, receiver, lagged })
    }

    /// Whether anybody listens to anything: one load on the path of every merge.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether anybody listens to this key.
    pub fn listens_to(&self, hash: &KeyHash) -> bool {
        self.any() && self.feeds().contains_key(hash)
    }

    /// What listeners are to be told once that item is committed; none where nobody listens to its key.
    pub fn interested_in(&self, item: &V::Item) -> Option<(KeyHash, V::Item)> {
        if !self.any() {
            return None;
        }
        let hash = KeyHash::of(V::SERVICE, item.routing_key());
        self.listens_to(&hash).then(|| (hash, item.clone()))
    }

    /// Tells the listeners of a key.
    pub fn tell(&self, hash: &KeyHash, item: &V::Item) {
        for feed in self.feeds().get(hash).into_iter().flatten() {
            if feed.sender.try_send(item.clone()).is_err() {
                feed.lagged.store(true, Ordering::Release);
            }
        }
    }
}

impl<V: Vnode> Watch<V> {
    /// The next thing heard; what was heard before some went by is first. Safe to drop and call again.
    pub async fn next(&mut self) -> Heard<V> {
        if let Ok(item) = self.receiver.try_recv() {
            return Heard::Item(item);
        }
        if self.lagged.swap(false, Ordering::Acquire) {
            return Heard::Lagged;
        }
        match self.receiver.recv().await {
            Some(item) => Heard::Item(item),
            None => Heard::Lagged,
        }
    }
}

impl<V: Vnode> Drop for Watch<V> {
    fn drop(&mut self) {
        let mut feeds = self.watchers.feeds();
        if let Some(list) = feeds.get_mut(&self.hash) {
            list.retain(|feed| feed.number != self.number);
            if list.is_empty() {
                feeds.remove(&self.hash);
            }
        }
        self.watchers.count.fetch_sub(1, Ordering::Relaxed);
    }
}
