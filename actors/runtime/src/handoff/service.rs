//! One service as transfers see it: hold its vnode of a partition back, have it mark what changes, read it item by
//! item, merge items into it. It decides how items travel and what an item that cannot be read costs; it knows no
//! machine.

use super::generations::Generations;
use crate::messages::{Asked, ReplyTo, Request, Sink, Task, VnodeAnswer};
use crate::ring_manager::Later;
use crate::service_core::ServiceCore;
use crate::vnode::{Fetched, HandoffTask, Marking, encode_item};
use crate::vnode_master::{HeldBack, MasterMessage};
use bytes::Bytes;
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::keyspace::{Keyspace, KeyspaceHost, Sequence, Snapshot};
use ringwork_core::membership::Possession;
use ringwork_core::preflist::Role;
use ringwork_core::quorum::Refusal;
use ringwork_core::ring::{KeyHash, RingSize};
use ringwork_core::store::{Flow, KeyRange};
use ringwork_core::transfer::dirty::Change;
use ringwork_core::vnode::{Item, Vnode};
use ringwork_core::wire::{Wire, codec};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Items that a serving vnode takes in at a time, between two requests of its clients: some tenths of a millisecond.
const MERGED_AT_A_TIME: usize = 64;
/// How long a vnode may take over them, however loaded it is.
const MERGE_WITHIN: Duration = Duration::from_secs(30);
/// The pause before a vnode that is overloaded is asked again.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(20);

/// Which items of a fold are meant: those whose preference list begins in one of these partitions.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Of the ring.
    pub(crate) size: RingSize,
    /// First partitions of preference lists.
    pub(crate) first: Vec<Partition>,
}

/// A part of a fold.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// The items, encoded.
    pub(crate) items: Vec<Bytes>,
    /// The last item's key that was looked at; none when the fold has come to its end.
    pub(crate) last: Option<Vec<u8>>,
    /// Items that could not be encoded.
    pub(crate) unreadable: u64,
}

/// A part of a fold that is to be read.
#[derive(Clone, Debug)]
pub(crate) struct ScanRange {
    /// After this key; from the beginning when none.
    pub(crate) after: Option<Vec<u8>>,
    /// Items at most.
    pub(crate) items_max: usize,
    /// Bytes at most, but for a single item.
    pub(crate) bytes_max: usize,
    /// Only these.
    pub(crate) filter: Option<Filter>,
}

/// How merging ended: how many items could not be read and were skipped, or why it came to nothing.
pub(crate) type MergedItems = Result<u64, String>;

/// See the module's head. Answers that never come count as "could not".
pub(crate) trait HandoffService: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Holds back everything that would change the partition, until `thaw`; with `running`, only a vnode that runs.
    fn hold(&self, partition: Partition, running: bool) -> Later<Option<HeldBack>>;
    /// Whether there is nothing in its live generation. If so it is held back until `thaw`.
    fn freeze_if_empty(&self, partition: Partition) -> Later<bool>;
    /// Lets it go on.
    fn thaw(&self, partition: Partition);
    /// After a hold: the partition has another generation now.
    fn reopen(&self, partition: Partition) -> Later<()>;
    /// Marks every change from now on.
    fn mark(&self, partition: Partition, anew: bool) -> Later<Option<Marking>>;
    /// Reads dirty keys; the inner none: nothing is marked any more.
    fn fetch(
        &self,
        partition: Partition,
        items_max: usize,
        bytes_max: usize,
    ) -> Later<Option<Option<Fetched>>>;
    /// The heir has these. As for `fetch`.
    fn clean(&self, partition: Partition, keys: Vec<(Vec<u8>, Change)>) -> Later<Option<Option<usize>>>;
    /// Marks no more.
    fn forget(&self, partition: Partition);
    /// A part of a fold, on the worker pool.
    fn scan(&self, snapshot: Arc<Snapshot>, range: ScanRange) -> Later<Result<Scanned, String>>;
    /// Merges items into the vnode that serves.
    fn merge(&self, partition: Partition, possession: Possession, items: Vec<Bytes>) -> Later<MergedItems>;
    /// Opens a generation that nobody serves, to merge items into it.
    fn collect(
        &self,
        partition: Partition,
        generation: Generation,
    ) -> Later<Result<Box<dyn Collecting>, String>>;
}

/// A generation that is being filled and serves nobody.
pub(crate) trait Collecting: Send {
    /// Merges items, on the worker pool; what is merged is on its way to the store when this ends.
    fn merge(&self, items: Vec<Bytes>) -> Later<MergedItems>;
}

/// One service.
pub(crate) struct OfService<V: Vnode>(pub(crate) Arc<ServiceCore<V>>);

impl<V: Vnode> OfService<V> {
    fn tell(&self, message: MasterMessage<V>) {
        if let Some(master) = self.0.master() {
            master.post_control(message);
        }
    }

    /// Has its vnode of a partition run, and says whether it does.
    pub(crate) fn run(&self, partition: Partition) -> Later<bool> {
        let (done, runs) = oneshot::channel();
        self.tell(MasterMessage::Run(partition, done));
        Box::pin(async move { runs.await.unwrap_or(false) })
    }

    /// Gives a task to the vnode, if it runs.
    fn give<T: 'static>(
        &self,
        partition: Partition,
        task: HandoffTask,
        answer: oneshot::Receiver<T>,
    ) -> Later<Option<T>> {
        self.0.routes.find(partition, |postbox| {
            if let Some(postbox) = postbox {
                postbox.post_control(task);
            }
        });
        Box::pin(async move { answer.await.ok() })
    }
}

impl<V: Vnode> HandoffService for OfService<V> {
    fn name(&self) -> &'static str {
        V::SERVICE
    }

    fn hold(&self, partition: Partition, running: bool) -> Later<Option<HeldBack>> {
        let service = Self(self.0.clone());
        Box::pin(async move {
            if running && !service.run(partition).await {
                return None;
            }
            let (done, held) = oneshot::channel();
            service.tell(MasterMessage::Hold(partition, done));
            held.await.ok().flatten()
        })
    }

    fn freeze_if_empty(&self, partition: Partition) -> Later<bool> {
        let (done, empty) = oneshot::channel();
        self.tell(MasterMessage::Freeze(vec![partition], done));
        Box::pin(async move { empty.await.is_ok_and(|empty| empty.contains(&partition)) })
    }

    fn thaw(&self, partition: Partition) {
        self.tell(MasterMessage::Thaw(vec![partition]));
    }

    fn reopen(&self, partition: Partition) -> Later<()> {
        let (done, reopened) = oneshot::channel();
        self.tell(MasterMessage::Reopen(partition, done));
        Box::pin(async move {
            let _ = reopened.await;
        })
    }

    fn mark(&self, partition: Partition, anew: bool) -> Later<Option<Marking>> {
        let service = Self(self.0.clone());
        Box::pin(async move {
            if !service.run(partition).await {
                return None;
            }
            let (done, marking) = oneshot::channel();
            service.give(partition, HandoffTask::Mark { anew, done }, marking).await
        })
    }

    fn fetch(
        &self,
        partition: Partition,
        items_max: usize,
        bytes_max: usize,
    ) -> Later<Option<Option<Fetched>>> {
        let (done, fetched) = oneshot::channel();
        self.give(partition, HandoffTask::Fetch { items_max, bytes_max, done }, fetched)
    }

    fn clean(&self, partition: Partition, keys: Vec<(Vec<u8>, Change)>) -> Later<Option<Option<usize>>> {
        let (done, waiting) = oneshot::channel();
        self.give(partition, HandoffTask::Clean { keys, done }, waiting)
    }

    fn forget(&self, partition: Partition) {
        self.0.routes.find(partition, |postbox| {
            if let Some(postbox) = postbox {
                postbox.post_control(HandoffTask::Forget);
            }
        });
    }

    fn scan(&self, snapshot: Arc<Snapshot>, range: ScanRange) -> Later<Result<Scanned, String>> {
        let spawner = self.0.node.spawner.clone();
        Box::pin(async move {
            let scanned = spawner.on_pool_in_turn(move || fold::<V>(&snapshot, &range)).await;
            scanned.map_err(|_| "the worker pool is full".to_owned())?
        })
    }

    fn merge(&self, partition: Partition, possession: Possession, items: Vec<Bytes>) -> Later<MergedItems> {
        let service = self.0.clone();
        Box::pin(async move {
            let (items, unreadable) = decode_items::<V>(items)?;
            let deadline = service.node.clock.moment() + MERGE_WITHIN;
            let mut items = items.into_iter().peekable();
            while items.peek().is_some() {
                let some: Vec<V::Item> = items.by_ref().take(MERGED_AT_A_TIME).collect();
                loop {
                    let asked = Asked { role: Role::Primary, possession, complete_only: false };
                    let (sink, answer) = Answer::pair();
                    let reply = ReplyTo::new(sink, 0);
                    let task = Task::MergeMany(some.clone());
                    service.post(partition, Request { asked, task, reply, deadline, sync: false });
                    match answer.await {
                        Ok(VnodeAnswer::Merged { .. }) => break,
                        Ok(VnodeAnswer::Refused(Refusal::Overloaded))
                            if service.node.clock.moment() < deadline =>
                        {
                            tokio::time::sleep(OVERLOADED_PAUSE).await;
                        }
                        Ok(VnodeAnswer::Refused(refusal)) => return Err(refusal.to_string()),
                        Ok(VnodeAnswer::Moved(_)) => {
                            return Err("the partition is held elsewhere now".to_owned());
                        }
                        Ok(VnodeAnswer::Failed(why)) => return Err(why),
                        Ok(_) | Err(_) => {
                            return Err("the vnode did not answer".to_owned());
                        }
                    }
                }
            }
            Ok(unreadable)
        })
    }

    fn collect(
        &self,
        partition: Partition,
        generation: Generation,
    ) -> Later<Result<Box<dyn Collecting>, String>> {
        let service = self.0.clone();
        Box::pin(async move {
            let node = service.node.clone();
            // What an earlier session has handed over must be in the store before it is read.
            node.storage.barrier(false).await.map_err(|error| error.to_string())?;
            let for_pool = service.clone();
            let opened =
                node.spawner.on_pool_in_turn(move || open::<V>(&for_pool, partition, generation)).await;
            let opened = opened.map_err(|_| "the worker pool is full".to_owned())??;
            let open = Arc::new(Mutex::new(opened));
            let collecting: Box<dyn Collecting> = Box::new(Collected { service, open });
            Ok(collecting)
        })
    }
}

/// Waits for one answer of a vnode.
struct Answer<V: Vnode>(Mutex<Option<oneshot::Sender<VnodeAnswer<V>>>>);

impl<V: Vnode> Answer<V> {
    fn pair() -> (Arc<dyn Sink<V>>, oneshot::Receiver<VnodeAnswer<V>>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(sender)))), receiver)
    }
}

impl<V: Vnode> Sink<V> for Answer<V> {
    fn answer(&self, _: usize, answer: VnodeAnswer<V>) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = sender.send(answer);
        }
    }
}

/// Items that are there, and how many could not be read.
fn decode_items<V: Vnode>(items: Vec<Bytes>) -> Result<(Vec<V::Item>, u64), String> {
    let (mut read, mut unreadable) = (Vec::with_capacity(items.len()), 0);
    for bytes in items {
        let version = bytes.first_chunk::<2>().map(|version| u16::from_be_bytes(*version));
        match version {
            // Another release's: nothing of it may be skipped.
            Some(version) if version != V::Item::VERSION => {
                let known = V::Item::VERSION;
                return Err(format!("items of {} come in version {version}, not {known}", V::SERVICE));
            }
            _ => {}
        }
        match codec::decode::<V::Item>(bytes.get(2..).unwrap_or_default()) {
            Ok(item) => read.push(item),
            Err(error) => {
                unreadable += 1;
                tracing::warn!(service = V::SERVICE, %error, "an item that was sent here cannot be read; skipped");
            }
        }
    }
    Ok((read, unreadable))
}

fn fold<V: Vnode>(snapshot: &Snapshot, range: &ScanRange) -> Result<Scanned, String> {
    let keys = KeyRange {
        start: match &range.after {
            Some(after) => Bound::Excluded(Bytes::copy_from_slice(after)),
            None => Bound::Unbounded,
        },
        end: Bound::Unbounded,
    };
    let (mut scanned, mut bytes) = (Scanned::default(), 0);
    let mut more = false;
    let (skipped_before, mut skipped_through) = (snapshot.unreadable(), None);
    let folded = catch_unwind(AssertUnwindSafe(|| {
        V::fold(snapshot, &keys, &mut |item| {
            if scanned.items.len() >= range.items_max || bytes >= range.bytes_max {
                more = true;
                return Flow::Break(());
            }
            let meant = range.filter.as_ref().is_none_or(|filter| {
                let hash = KeyHash::of(V::SERVICE, item.routing_key());
                filter.first.contains(&filter.size.partition_of(&hash))
            });
            if meant {
                match encode_item(&item) {
                    Some(encoded) => {
                        if bytes + encoded.len() > range.bytes_max && !scanned.items.is_empty() {
                            more = true;
                            return Flow::Break(());
                        }
                        bytes += encoded.len();
                        scanned.items.push(encoded);
                        skipped_through = Some(snapshot.unreadable());
                    }
                    None => scanned.unreadable += 1,
                }
            }
            scanned.last = Some(item.key());
            Flow::Continue(())
        })
    }));
    // What lies behind the last item of a page is met again by the next one.
    let skipped_through = skipped_through.filter(|_| more).unwrap_or_else(|| snapshot.unreadable());
    let skipped = skipped_through.saturating_sub(skipped_before);
    if skipped > 0 {
        tracing::warn!(service = V::SERVICE, rows = skipped, "rows to be handed off cannot be read; skipped");
        scanned.unreadable += skipped;
    }
    match folded {
        Ok(Ok(())) => {
            if !more {
                scanned.last = None;
            }
            Ok(scanned)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the module {} panicked while it was read", V::SERVICE)),
    }
}

struct OpenGeneration<V: Vnode> {
    vnode: V,
    host: KeyspaceHost,
    committed: Arc<std::sync::atomic::AtomicU64>,
}

fn open<V: Vnode>(
    service: &ServiceCore<V>,
    partition: Partition,
    generation: Generation,
) -> Result<OpenGeneration<V>, String> {
    let keyspace =
        ringwork_core::store::KeyspaceId::Vnode { service: V::SERVICE.to_owned(), partition, generation };
    let opened = service.node.store.open(&keyspace).map_err(|error| error.to_string())?;
    let (handle, host) = Keyspace::new(opened);
    let vnode = V::init(partition, &service.config, handle).map_err(|error| error.to_string())?;
    Ok(OpenGeneration { vnode, host, committed: Arc::default() })
}

struct Collected<V: Vnode> {
    service: Arc<ServiceCore<V>>,
    open: Arc<Mutex<OpenGeneration<V>>>,
}

impl<V: Vnode> Collecting for Collected<V> {
    fn merge(&self, items: Vec<Bytes>) -> Later<MergedItems> {
        let (service, open) = (self.service.clone(), self.open.clone());
        let spawner = service.node.spawner.clone();
        Box::pin(async move {
            let merged = spawner
                .on_pool_in_turn(move || {
                    let (items, unreadable) = decode_items::<V>(items)?;
                    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                    let committed = open.committed.load(std::sync::atomic::Ordering::Acquire);
                    open.host.committed(Sequence(committed));
                    let merge = AssertUnwindSafe(|| {
                        items.into_iter().try_for_each(|item| open.vnode.merge(item).map(drop))
                    });
                    match catch_unwind(merge) {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(error.to_string()),
                        Err(_) => return Err(format!("the module {} panicked in a merge", V::SERVICE)),
                    }
                    let sealed = open.host.seal();
                    let (mark, written) = (open.committed.clone(), sealed.sequence.0);
                    service.node.storage.submit(sealed.writes, false, move |result| {
                        if result.is_ok() && written > 0 {
                            mark.store(written, std::sync::atomic::Ordering::Release);
                        }
                    });
                    Ok(unreadable)
                })
                .await;
            merged.map_err(|_| "the worker pool is full, or a merge panicked".to_owned())?
        })
    }
}

/// The services of a node, by name.
pub(crate) type Services = Arc<Vec<Arc<dyn HandoffService>>>;

/// A snapshot of one service's part of a generation that is not written to any more; none when it has none.
pub(crate) fn sealed_snapshot(
    generations: &Generations,
    service: &str,
    partition: Partition,
    generation: Generation,
) -> Result<Option<Arc<Snapshot>>, String> {
    let opened = generations.open(service, partition, generation).map_err(|error| error.to_string())?;
    Ok(opened.map(|opened| Arc::new(Snapshot::of(&opened.tree))))
}
