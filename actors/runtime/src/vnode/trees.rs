//! What a vnode does for its trees of sums: takes in what its turns change, answers from them, has what a turn could
//! not name gone through on the pool, keeps them over a stop in peace. When they are built and compared, the service's
//! anti-entropy decides; how they are, core's [`Keeper`].

use super::VnodeActor;
use crate::antientropy::answering::layout;
use crate::node_core::NodeCore;
use crate::post::Posted;
use actix::Handler;
use bytes::Bytes;
use ringwork_core::antientropy::exchange::{Answer, NotNow, Question};
use ringwork_core::antientropy::keeping::{Building, Built, Keeper, KeptTrees, Owed};
use ringwork_core::antientropy::listing::{GroupOf, Sums, sum_up};
use ringwork_core::ids::Partition;
use ringwork_core::keyspace::{KeyspaceHost, Snapshot};
use ringwork_core::store::{Direction, Flow, KeyRange, KeyspaceId, OpenTree, StoreError, Write};
use ringwork_core::vnode::Vnode;
use ringwork_core::wire::{from_stored, stored};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// Keys of the node's keyspace: the trees of a vnode that stopped in peace.
const TREES_PREFIX: &str = "trees.";

/// What anti-entropy asks of a vnode. One that keeps no trees drops it, which is an answer.
pub(crate) enum TreeTask {
    /// Answer from the trees.
    Ask {
        /// Of this group.
        group: Partition,
        /// What.
        question: Question,
        /// Where the answer goes.
        done: oneshot::Sender<Answer>,
    },
    /// What is there now, to be read on the pool.
    Look(oneshot::Sender<(Snapshot, GroupOf)>),
    /// Begin to build the trees: this is what they are to be built from.
    Build(oneshot::Sender<(Building, Snapshot, GroupOf)>),
    /// A building has ended.
    Built(Building, Option<Sums>),
    /// Ranges were gone through, as they were before a turn and after it.
    Settle(Building, Option<(Sums, Sums)>),
    /// The trees are not to be believed.
    Doubt,
}

fn groups(node: &NodeCore, service: &'static str, partition: Partition) -> GroupOf {
    let view = node.ring.load();
    GroupOf::new(view.state().cluster(), service, view.size(), partition)
}

/// The trees of one vnode, and where they are kept over a stop.
pub(crate) struct Trees {
    keeper: Keeper,
    slot: ringwork_core::store::TreeSlot,
    key: Bytes,
    layout: u32,
}

impl Trees {
    /// Those of a vnode that is being opened; none where nobody wants them. What an earlier life has kept is removed
    /// at once, before anything can change it: the next life finds it only after another stop in peace. So it is where
    /// nobody wants them: a later life that does would take them for what is there then.
    pub(crate) fn open<V: Vnode>(
        node: &NodeCore,
        partition: Partition,
        keyspace: &KeyspaceId,
        own: &OpenTree,
        (opened, host): (&OpenTree, &KeyspaceHost),
    ) -> Result<Option<Self>, StoreError> {
        let key: Bytes = format!("{TREES_PREFIX}{keyspace}").into();
        let kept = own.tree.get(&key)?;
        if kept.is_some() {
            let forget = Write { tree: own.slot, key: key.clone(), value: None };
            node.storage.submit(vec![forget], false, |_| {});
        }
        if !node.repair.settings().enabled {
            return Ok(None);
        }
        let (groups, layout) = (groups(node, V::SERVICE, partition), layout::<V>());
        host.listen(groups);
        let mut empty = true;
        opened.tree.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
            empty = false;
            Flow::Break(())
        })?;
        let keeper = match kept.as_deref().map(from_stored::<KeptTrees>) {
            _ if empty => Keeper::empty(groups),
            Some(Ok(kept)) => Keeper::found(groups, layout, kept),
            Some(Err(_)) | None => Keeper::new(groups),
        };
        Ok(Some(Self { keeper, slot: own.slot, key, layout }))
    }

    /// What to write at a stop in peace.
    fn keep(&mut self) -> Option<Write> {
        let value = stored(&self.keeper.keep(self.layout)?).ok()?;
        Some(Write { tree: self.slot, key: self.key.clone(), value: Some(value.into()) })
    }
}

impl<V: Vnode> VnodeActor<V> {
    /// Takes in what a turn has changed.
    pub(super) fn take_changes(&mut self, changes: ringwork_core::keyspace::changes::Changes) {
        let Some(trees) = self.state.as_mut().and_then(|state| state.trees.as_mut()) else { return };
        if changes.is_empty() {
            return;
        }
        let owed = trees.keeper.take(changes);
        self.show_standing();
        if let Some(owed) = owed {
            self.go_through(owed);
        }
    }

    /// Publishes how far the trees are.
    pub(super) fn show_standing(&self) {
        let trees = self.state.as_ref().and_then(|state| state.trees.as_ref());
        self.service.trees.set(self.partition, trees.map(|trees| trees.keeper.standing()));
    }

    /// Keeps the trees; nothing comes after.
    pub(super) fn keep_trees(&mut self) {
        if let Some(kept) = self.state.as_mut().and_then(|state| state.trees.as_mut()?.keep()) {
            self.service.node.storage.submit(vec![kept], false, |_| {});
        }
    }

    fn go_through(&mut self, owed: Owed) {
        let Some(me) = self.me.clone() else { return };
        let Some(groups) = self.state.as_ref().and_then(|state| Some(state.trees.as_ref()?.keeper.groups()))
        else {
            return;
        };
        let Owed { building, ranges } = owed;
        let queued = self.service.node.spawner.on_pool(move || {
            let sum = |snapshot| sum_up::<V>(snapshot, &ranges.ranges, groups).ok();
            let found = catch_unwind(AssertUnwindSafe(|| sum(&ranges.before).zip(sum(&ranges.after))));
            me.post_control(TreeTask::Settle(building, found.ok().flatten()));
        });
        if queued.is_err()
            && let Some(trees) = self.state.as_mut().and_then(|state| state.trees.as_mut())
        {
            trees.keeper.settle(building, None);
        }
    }
}

impl<V: Vnode> Handler<Posted<TreeTask>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<TreeTask>, _: &mut Self::Context) {
        let Some(state) = self.state.as_mut() else { return };
        let Some(trees) = state.trees.as_mut() else { return };
        let keeper = &mut trees.keeper;
        let node = &self.service.node;
        // A node that has joined since this vnode was opened is in another cluster than it was.
        if keeper.groups().cluster() != node.ring.load().state().cluster() {
            let groups = groups(node, V::SERVICE, self.partition);
            state.host.listen(groups);
            keeper.regroup(groups);
        }
        match posted.message {
            TreeTask::Ask { group, question, done } => {
                let answer = match (keeper.tree(group), question) {
                    (Some(tree), Question::Root) => Answer::Root(tree.root()),
                    (Some(tree), Question::Children { level, nodes }) => {
                        Answer::Children(tree.children(level, &nodes))
                    }
                    _ => Answer::NotNow(NotNow::Building),
                };
                let _ = done.send(answer);
            }
            TreeTask::Look(done) => {
                let shown = (state.host.snapshot(), keeper.groups());
                self.once_seen_is_committed(move || {
                    let _ = done.send(shown);
                });
            }
            TreeTask::Build(done) => {
                let building = keeper.begin();
                // What differs from the others is mended after this, and then has to be read where it lies.
                state.host.look_up_anew();
                let _ = done.send((building, state.host.snapshot(), keeper.groups()));
            }
            TreeTask::Built(building, sums) => {
                if keeper.built(building, sums) == Built::Corrected {
                    self.service.node.repair.corrected(V::SERVICE, self.partition);
                }
            }
            TreeTask::Settle(building, found) => keeper.settle(building, found),
            TreeTask::Doubt => keeper.doubt(),
        }
        self.show_standing();
    }
}
