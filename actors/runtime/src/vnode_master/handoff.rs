//! What the master does for transfers: has a vnode run, has it held back, ends it so that its next life begins in
//! another generation. When that is due, the handoff manager's actors decide.

use super::{HeldBack, Life, VnodeMaster};
use crate::vnode::{HandoffTask, Retire};
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use ringwork_core::ids::Partition;
use ringwork_core::vnode::Vnode;
use tokio::sync::oneshot;

impl<V: Vnode> VnodeMaster<V> {
    pub(super) fn tell_runners(&mut self, partition: Partition, runs: bool) {
        for runner in self.runners.remove(&partition).unwrap_or_default() {
            let _ = runner.send(runs);
        }
    }

    pub(super) fn run(&mut self, partition: Partition, done: oneshot::Sender<bool>, ctx: &mut Context<Self>) {
        let now = self.service.node.clock.moment();
        match self.lives.get(&partition) {
            Some(Life::Running { .. }) if self.service.routes.find(partition, |found| found.is_some()) => {
                let _ = done.send(true);
                return;
            }
            Some(Life::Starting { .. }) => {
                self.runners.entry(partition).or_default().push(done);
                return;
            }
            Some(Life::Resting { until, .. }) if now < *until => {
                let _ = done.send(false);
                return;
            }
            Some(Life::Frozen { .. }) => {
                let _ = done.send(false);
                return;
            }
            Some(Life::Running { .. } | Life::Resting { .. }) => {
                self.service.node.telemetry.vnode_restarts.increment();
            }
            None => {}
        }
        if self.stopping {
            let _ = done.send(false);
            return;
        }
        self.runners.entry(partition).or_default().push(done);
        self.lives.insert(partition, Life::Starting { waiting: Vec::new() });
        self.open(partition, ctx);
    }

    pub(super) fn hold(
        &mut self,
        partition: Partition,
        done: oneshot::Sender<Option<HeldBack>>,
        ctx: &mut Context<Self>,
    ) {
        // One whose thread has ended without a word is as good as none.
        let runs = self.service.routes.find(partition, |found| found.is_some());
        match self.lives.get(&partition) {
            Some(Life::Running { .. }) if runs => {
                let (sender, receiver) = oneshot::channel();
                self.service.routes.find(partition, |postbox| {
                    if let Some(postbox) = postbox {
                        postbox.post_control(HandoffTask::Hold(sender));
                    }
                });
                let told = async move {
                    let held = receiver.await.ok();
                    let _ = done.send(held.map(|marks| marks.map_or(HeldBack::Unmarked, HeldBack::Marked)));
                };
                ctx.spawn(told.into_actor(self));
            }
            None | Some(Life::Resting { .. } | Life::Running { .. }) if !self.stopping => {
                self.service.node.resting.is_over(V::SERVICE, partition);
                self.lives.insert(partition, Life::Frozen { waiting: Vec::new() });
                let _ = done.send(Some(HeldBack::Unmarked));
            }
            // It starts at this moment, or somebody else holds it back: another time.
            _ => {
                let _ = done.send(None);
            }
        }
    }

    pub(super) fn reopen(
        &mut self,
        partition: Partition,
        done: oneshot::Sender<()>,
        ctx: &mut Context<Self>,
    ) {
        let before = self.lives.remove(&partition);
        let mut held = Vec::new();
        let mut ended = None;
        match before {
            Some(Life::Frozen { waiting } | Life::Starting { waiting }) => held = waiting,
            Some(Life::Running { .. }) => self.service.routes.find(partition, |postbox| {
                if let Some(postbox) = postbox {
                    let (sender, receiver) = oneshot::channel();
                    postbox.post_control(Retire(sender));
                    ended = Some(receiver);
                }
            }),
            Some(Life::Resting { .. }) | None => {}
        }
        self.service.routes.forget(partition);
        self.service.node.resting.is_over(V::SERVICE, partition);
        self.lives.insert(partition, Life::Frozen { waiting: held });
        let retired = async move {
            match ended {
                Some(ended) => ended.await.unwrap_or_default(),
                None => Vec::new(),
            }
        };
        let told = retired.into_actor(self).map(move |mut requests, master, ctx| {
            match master.lives.remove(&partition) {
                Some(Life::Frozen { waiting }) => requests.extend(waiting),
                Some(other) => {
                    master.lives.insert(partition, other);
                }
                None => {}
            }
            if requests.is_empty() {
                let early = V::starts_early(&master.service.config);
                let view = master.service.node.ring.load();
                if early && view.state().holder(partition) == Some(master.service.node.id) {
                    master.ensure(partition, ctx);
                }
            }
            for request in requests {
                master.wanted(partition, request, ctx);
            }
            let _ = done.send(());
        });
        ctx.spawn(told);
    }
}
