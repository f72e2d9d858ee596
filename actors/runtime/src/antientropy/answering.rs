//! What a vnode of this node answers in an exchange, to its own node and to others alike. It decides when a vnode
//! takes no part; what it answers otherwise is its trees' or its items' to say.

use crate::handoff::service::{HandoffService, OfService};
use crate::node_core::NodeCore;
use crate::service_core::ServiceCore;
use crate::vnode::TreeTask;
use ringwork_core::antientropy::exchange::{Answer, NotNow, Question};
use ringwork_core::antientropy::listing::{list, pick};
use ringwork_core::antientropy::survey::{TreeOf, TreeTold};
use ringwork_core::ids::Partition;
use ringwork_core::limits::REPAIR_BATCH_BYTES_MAX;
use ringwork_core::vnode::Vnode;
use ringwork_core::wire::Wire;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Names how fingerprints come about: nodes whose items are laid out differently have nothing to compare.
pub(crate) fn layout<V: Vnode>() -> u32 {
    // 1: SHA-1 of keys and items, without a key of the cluster's own.
    const TREES: u32 = 2;
    TREES << 16 | u32::from(V::Item::VERSION)
}

/// Partitions that are given away or taken in at present.
pub(crate) fn moving(node: &NodeCore) -> BTreeSet<Partition> {
    let mut moving = node.generations.with_inbound();
    moving.extend(node.generations.outbound().into_keys());
    moving
}

/// Why the vnodes of a partition take no part at present, if they do not.
pub(crate) fn not_now(node: &NodeCore, partition: Partition, moving: &BTreeSet<Partition>) -> Option<NotNow> {
    let view = node.ring.load();
    let doubtful = view.doubts() != node.doubts.load(Ordering::SeqCst);
    match () {
        () if !node.repair.settings().compares() => Some(NotNow::Disabled),
        () if node.is_stopping() => Some(NotNow::Stopping),
        () if view.state().holder(partition) != Some(node.id) => Some(NotNow::NotHolder),
        () if moving.contains(&partition) => Some(NotNow::Moving),
        () if doubtful || view.incomplete().contains(&partition) => Some(NotNow::Incomplete),
        () if !node.storage.has_room() => Some(NotNow::Busy),
        () => None,
    }
}

/// The roots of these trees of this node's, or why not; in their order. All vnodes are asked before any is waited for.
pub(crate) async fn roots<V: Vnode>(service: Arc<ServiceCore<V>>, trees: Vec<TreeOf>) -> Vec<TreeTold> {
    let node = service.node.clone();
    let moving = moving(&node);
    let mut asked = Vec::with_capacity(trees.len());
    for TreeOf { vnode, group } in trees {
        asked.push(match not_now(&node, vnode, &moving) {
            Some(why) => Err(why),
            None => {
                let (done, answered) = oneshot::channel();
                give(&service, vnode, TreeTask::Ask { group, question: Question::Root, done });
                Ok(answered)
            }
        });
    }
    let mut told = Vec::with_capacity(asked.len());
    for asked in asked {
        let answer = match asked {
            Err(why) => Answer::NotNow(why),
            Ok(answered) => answered.await.unwrap_or(Answer::NotNow(NotNow::Building)),
        };
        told.push(match answer {
            Answer::Root(root) => TreeTold::Root(root),
            Answer::NotNow(why) => TreeTold::NotNow(why),
            // No vnode answers so.
            _ => TreeTold::NotNow(NotNow::Building),
        });
    }
    told
}

/// Hands a task to the vnode of a partition; where none runs it is dropped, which is an answer.
fn give<V: Vnode>(service: &ServiceCore<V>, partition: Partition, task: TreeTask) {
    service.routes.find(partition, |postbox| match postbox {
        Some(postbox) => postbox.post_control(task),
        None => drop(task),
    });
}

/// Answers a question to the vnode of a partition here. An error means that it may be asked again.
pub(crate) async fn answer<V: Vnode>(
    service: Arc<ServiceCore<V>>,
    partition: Partition,
    group: Partition,
    question: Question,
) -> Result<Answer, String> {
    let node = service.node.clone();
    if let Some(why) = not_now(&node, partition, &moving(&node)) {
        return Ok(Answer::NotNow(why));
    }
    let give = |task| give(&service, partition, task);
    match question {
        Question::Root | Question::Children { .. } => {
            let (done, answered) = oneshot::channel();
            give(TreeTask::Ask { group, question, done });
            // One that does not run has no trees; it is started by this node's own look.
            Ok(answered.await.unwrap_or(Answer::NotNow(NotNow::Building)))
        }
        Question::List(wanted) => {
            let (done, looked) = oneshot::channel();
            give(TreeTask::Look(done));
            let Ok((snapshot, groups)) = looked.await else { return Ok(Answer::NotNow(NotNow::Building)) };
            let read = move || list::<V>(&snapshot, groups, &wanted).map(Answer::Page);
            on_pool::<V>(&node, read).await
        }
        Question::Pick(keys) => {
            let (done, looked) = oneshot::channel();
            give(TreeTask::Look(done));
            let Ok((snapshot, groups)) = looked.await else { return Ok(Answer::NotNow(NotNow::Building)) };
            let read = move || {
                pick::<V>(&snapshot, groups, group, &keys, REPAIR_BATCH_BYTES_MAX).map(Answer::Picked)
            };
            on_pool::<V>(&node, read).await
        }
        Question::Take(items) => {
            let Some(possession) = node.ring.load().possession(partition) else {
                return Ok(Answer::NotNow(NotNow::NotHolder));
            };
            let items = items.into_iter().map(Into::into).collect();
            OfService(service).merge(partition, possession, items).await.map(|_| Answer::Taken)
        }
    }
}

async fn on_pool<V: Vnode>(
    node: &NodeCore,
    read: impl FnOnce() -> Result<Answer, V::Error> + Send + 'static,
) -> Result<Answer, String> {
    let guarded = move || match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the module {} panicked while it was read", V::SERVICE)),
    };
    let read = node.spawner.on_pool_in_turn(guarded).await;
    read.map_err(|_| "the worker pool is full".to_owned())?
}
