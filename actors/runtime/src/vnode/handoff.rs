//! What a vnode does while its partition is on its way to another node: it marks what changes, reads what it marked,
//! holds back what would change it, and ends so that its next life begins in another generation. When which of these
//! is due, the transfer's machine decides.

use super::{Ended, VnodeActor, Waiting};
use crate::handoff::generations::mark_prefix;
use crate::messages::{ReplyTo, Request, VnodeAnswer};
use crate::node_core::NodeCore;
use crate::post::Posted;
use actix::{ActorContext, Context, Handler};
use bytes::Bytes;
use ringwork_core::ids::Partition;
use ringwork_core::keyspace::Snapshot;
use ringwork_core::store::{Flow, KeyRange, TreeSlot, Write};
use ringwork_core::transfer::dirty::Change;
use ringwork_core::transfer::{DirtyKeys, Marked};
use ringwork_core::vnode::{Item, Merged, Vnode};
use ringwork_core::wire::codec;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// Changes that one life of a vnode may count: the next life counts above them, so that an acknowledgement of what
/// was read in this one never means a change of that.
const CHANGES_PER_LIFE: u64 = 1 << 40;

/// Keys that have changed since they were sent to the heir.
pub(crate) struct Marks {
    dirty: DirtyKeys,
    slot: TreeSlot,
    prefix: String,
}

impl Marks {
    /// The marks that are on disk, of an earlier life.
    pub(super) fn found(node: &NodeCore, service: &str, partition: Partition, keys: Vec<Vec<u8>>) -> Self {
        let first = node.generations.next_life().wrapping_mul(CHANGES_PER_LIFE);
        Self {
            dirty: DirtyKeys::found_after(first, keys),
            slot: node.generations.slot(),
            prefix: mark_prefix(service, partition),
        }
    }

    fn write(&self, key: &[u8], marked: bool) -> Write {
        let key = [self.prefix.as_bytes(), key].concat();
        Write { tree: self.slot, key: key.into(), value: marked.then(Bytes::new) }
    }
}

/// From now on every change is marked.
pub(crate) struct Marking {
    /// Keys that are dirty and not read.
    pub(crate) waiting: usize,
    /// What was there before.
    pub(crate) snapshot: Snapshot,
}

/// Dirty keys, with what is under them now.
#[derive(Default)]
pub(crate) struct Fetched {
    /// The items, encoded; fewer than keys where one is gone.
    pub(crate) items: Vec<Bytes>,
    /// Each with the change up to which it was read.
    pub(crate) keys: Vec<(Vec<u8>, Change)>,
    /// Keys that are dirty and still not read.
    pub(crate) waiting: usize,
    /// The store could not be read: nothing of this counts.
    pub(crate) failure: Option<String>,
}

/// What a transfer asks of a vnode. Where nothing is marked any more (there were too many) the answer is none.
pub(crate) enum HandoffTask {
    /// Hold back everything that would change it; answered with the number of dirty keys that are not read.
    Hold(oneshot::Sender<Option<usize>>),
    /// Mark every change from now on, and begin a session of the marks.
    Mark {
        /// Forget what is marked first.
        anew: bool,
        /// Where the answer goes.
        done: oneshot::Sender<Marking>,
    },
    /// Read dirty keys.
    Fetch {
        /// At most so many.
        items_max: usize,
        /// And so many bytes, but for a single one.
        bytes_max: usize,
        /// Where the answer goes.
        done: oneshot::Sender<Option<Fetched>>,
    },
    /// The heir has these; answered with the number of dirty keys that are not read.
    Clean {
        /// Each with the change up to which it was read.
        keys: Vec<(Vec<u8>, Change)>,
        /// Where the answer goes.
        done: oneshot::Sender<Option<usize>>,
    },
    /// Mark no more, and forget what is marked.
    Forget,
}

/// End, after a hold; what was held back goes to the next life, in another generation.
pub(crate) struct Retire<V: Vnode>(pub(crate) oneshot::Sender<Vec<Request<V>>>);

/// An item as it travels in a transfer: the version of its layout, then its bytes.
pub(crate) fn encode_item<I: Item>(item: &I) -> Option<Bytes> {
    let mut bytes = I::VERSION.to_be_bytes().to_vec();
    codec::encode_into(item, &mut bytes).ok()?;
    Some(bytes.into())
}

impl<V: Vnode> VnodeActor<V> {
    /// Marks keys that a turn has changed, in the same batch as the change itself.
    pub(super) fn mark(&mut self, keys: impl IntoIterator<Item = Vec<u8>>, writes: &mut Vec<Write>) {
        for key in keys {
            let Some(marks) = &mut self.marks else { return };
            match marks.dirty.mark(key.clone()) {
                Marked::New => writes.push(marks.write(&key, true)),
                Marked::Again => {}
                Marked::TooMany => {
                    tracing::info!(
                        service = V::SERVICE,
                        partition = self.partition.0,
                        "too much has changed during a transfer; it begins anew"
                    );
                    // Before the change itself: a record without all its marks would be believed.
                    self.marks = None;
                    self.service.node.generations.update(self.partition, |held| held.outbound = None);
                }
            }
        }
    }

    fn handoff(&mut self, task: HandoffTask) {
        match task {
            HandoffTask::Hold(done) => {
                self.held_back.get_or_insert_default();
                let _ = done.send(self.marks.as_ref().map(|marks| marks.dirty.unfetched()));
            }
            HandoffTask::Mark { anew, done } => self.begin_marking(anew, done),
            HandoffTask::Fetch { items_max, bytes_max, done } => {
                let fetched = self.fetch(items_max, bytes_max);
                self.once_seen_is_committed(move || {
                    let _ = done.send(fetched);
                });
            }
            HandoffTask::Clean { keys, done } => {
                let mut writes = Vec::new();
                let waiting = self.marks.as_mut().map(|marks| {
                    for (key, change) in keys {
                        if marks.dirty.acknowledged(&key, change) {
                            writes.push(marks.write(&key, false));
                        }
                    }
                    marks.dirty.unfetched()
                });
                if !writes.is_empty() {
                    self.service.node.storage.submit(writes, false, |_| {});
                }
                let _ = done.send(waiting);
            }
            HandoffTask::Forget => {
                self.marks = None;
                self.remove_marks();
            }
        }
    }

    /// A mark without a record means nothing, so that some of them are still on their way does no harm.
    fn remove_marks(&self) {
        let generations = &self.service.node.generations;
        let prefix = mark_prefix(V::SERVICE, self.partition);
        let found = generations.marks(V::SERVICE, self.partition).unwrap_or_default();
        let writes: Vec<Write> = found
            .into_iter()
            .map(|key| Write {
                tree: generations.slot(),
                key: [prefix.as_bytes(), &key].concat().into(),
                value: None,
            })
            .collect();
        if !writes.is_empty() {
            self.service.node.storage.submit(writes, false, |_| {});
        }
    }

    fn begin_marking(&mut self, anew: bool, done: oneshot::Sender<Marking>) {
        if !anew && self.marks.is_none() {
            return; // given up since it was looked: the session hears nothing, and begins anew
        }
        if anew {
            self.remove_marks();
            let node = self.service.node.clone();
            self.marks = Some(Marks::found(&node, V::SERVICE, self.partition, Vec::new()));
        }
        let Some((marks, state)) = self.marks.as_mut().zip(self.state.as_ref()) else { return };
        marks.dirty.begin_session();
        let marking = Marking { waiting: marks.dirty.unfetched(), snapshot: state.host.snapshot() };
        self.once_seen_is_committed(move || {
            let _ = done.send(marking);
        });
    }

    fn fetch(&mut self, items_max: usize, bytes_max: usize) -> Option<Fetched> {
        let (marks, state) = self.marks.as_mut().zip(self.state.as_ref())?;
        let snapshot = state.host.snapshot();
        let (mut fetched, mut bytes) = (Fetched::default(), 0);
        for (key, change) in marks.dirty.fetch(items_max) {
            if bytes >= bytes_max {
                marks.dirty.put_back(&key, change);
                continue;
            }
            let point = Bytes::copy_from_slice(&key);
            let range = KeyRange { start: Bound::Included(point.clone()), end: Bound::Included(point) };
            let mut found = None;
            let read = catch_unwind(AssertUnwindSafe(|| {
                V::fold(&snapshot, &range, &mut |item| {
                    found = encode_item(&item);
                    Flow::Break(())
                })
            }));
            let failure = match read {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("the module {} panicked while it was read", V::SERVICE)),
            };
            if let Some(why) = failure {
                marks.dirty.put_back(&key, change);
                fetched.failure.get_or_insert(why);
                continue;
            }
            if let Some(item) = found {
                if bytes + item.len() > bytes_max && !fetched.items.is_empty() {
                    marks.dirty.put_back(&key, change);
                    bytes = bytes_max;
                    continue;
                }
                bytes += item.len();
                fetched.items.push(item);
            }
            fetched.keys.push((key, change));
        }
        fetched.waiting = marks.dirty.unfetched();
        Some(fetched)
    }

    /// Takes many items in: each in a turn of its own, written together.
    pub(super) fn merge_many(
        &mut self,
        items: Vec<V::Item>,
        reply: ReplyTo<V>,
        sync: bool,
        ctx: &mut Context<Self>,
    ) {
        let (mut all, mut failure) = (ringwork_core::keyspace::Sealed::default(), None);
        let (mut news, watchers) = (Vec::new(), self.service.watchers.clone());
        for item in items {
            let key = self.marks.is_some().then(|| item.key());
            let heard = watchers.interested_in(&item);
            match self.turn(|vnode, _| vnode.merge(item)) {
                Ok(Ended { value, sealed, .. }) => {
                    all.writes.extend(sealed.writes);
                    all.sequence = all.sequence.max(sealed.sequence);
                    all.wait_for = all.wait_for.max(sealed.wait_for);
                    if value == Merged::Conflicting {
                        self.service.node.telemetry.merge_conflicts.increment();
                    }
                    if matches!(value, Merged::Changed | Merged::Conflicting) {
                        self.mark(key, &mut all.writes);
                    }
                    news.extend(heard.filter(|_| value == Merged::Changed));
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // Whoever follows a key must hear of what a hint or a comparison brings, too: it may be older than what was
        // heard last, and nobody looks back that far.
        let tell = move || news.iter().for_each(|(hash, item)| watchers.tell(hash, item));
        match failure {
            None => self.after_commit(all, sync, move |result| {
                if result.is_ok() {
                    tell();
                }
                reply.answer(match result {
                    Ok(committed) => {
                        VnodeAnswer::Merged { merged: Merged::Changed, durable: committed.durable }
                    }
                    Err(error) => VnodeAnswer::Failed(error.to_string()),
                });
            }),
            Some(failure) => {
                self.after_commit(all, sync, move |result| {
                    if result.is_ok() {
                        tell();
                    }
                });
                self.fail(failure, reply, ctx);
            }
        }
    }
}

impl<V: Vnode> Handler<Posted<HandoffTask>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<HandoffTask>, _: &mut Self::Context) {
        self.handoff(posted.message);
    }
}

impl<V: Vnode> Handler<Posted<Retire<V>>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<Retire<V>>, ctx: &mut Self::Context) {
        if let Some(mut state) = self.state.take() {
            self.show_standing();
            let ended = catch_unwind(AssertUnwindSafe(|| state.vnode.terminate()));
            if ended.is_err() {
                self.service.node.telemetry.vnode_panics.increment();
            }
        }
        let mut waiting = Vec::new();
        for held in *self.held_back.take().unwrap_or_default() {
            // The vnode's own commands are scheduled anew by its next life; a command that work on the pool has asked
            // for is answered by its reply handle.
            if let Waiting::Request(posted) = held {
                waiting.push(posted.message);
            }
        }
        let _ = posted.message.0.send(waiting);
        ctx.stop();
    }
}
