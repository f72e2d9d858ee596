//! What a vnode does for listings: it takes a snapshot in its turn, and a page of it is read on the pool. It decides
//! that only a replica that has everything answers; what a page is, core does.

use super::{VnodeActor, panic_text, take};
use crate::messages::{PageAsk, ReplyTo, VnodeAnswer};
use crate::time::Moment;
use ringwork_core::coverage::page::read_page;
use ringwork_core::keyspace::Sequence;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::quorum::Refusal;
use ringwork_core::vnode::Vnode;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

impl<V: Vnode> VnodeActor<V> {
    pub(super) fn show_page(&self, ask: PageAsk<V>, reply: ReplyTo<V>, deadline: Moment) {
        let (service, partition) = (self.service.clone(), self.partition);
        let node = service.node.clone();
        // What lies in sealed generations was acknowledged, too, and is merged into the live one in a moment.
        let is_whole = node.generations.sealed(partition).is_empty();
        if !is_whole && !planted(Mutant::ListIncomplete) {
            return reply.answer(VnodeAnswer::Refused(Refusal::Incomplete));
        }
        let Some(state) = &self.state else { return };
        state.host.committed(Sequence(self.committed.load(Ordering::Acquire)));
        let snapshot = state.host.snapshot();
        let size = node.ring.load().size();
        self.after_what_is_seen(move |result| {
            if let Err(error) = result {
                return reply.answer(VnodeAnswer::Failed(error.to_string()));
            }
            let holder = Arc::new(Mutex::new(Some(reply)));
            let inner = holder.clone();
            let spawner = node.spawner.clone();
            let queued = spawner.on_pool(move || {
                let Some(reply) = take(&inner) else { return };
                if node.clock.moment() > deadline {
                    node.telemetry.requests_expired.increment();
                    return reply.answer(VnodeAnswer::Refused(Refusal::Expired));
                }
                let PageAsk { question, bounds } = ask;
                let read = || read_page::<V>(&snapshot, &question, &bounds, partition, size);
                reply.answer(match catch_unwind(AssertUnwindSafe(read)) {
                    Ok(Ok(page)) => VnodeAnswer::Page(page),
                    Ok(Err(error)) => VnodeAnswer::Refused(Refusal::Unavailable(error.to_string())),
                    Err(payload) => {
                        node.telemetry.vnode_panics.increment();
                        let text = panic_text(&*payload);
                        tracing::error!(service = V::SERVICE, panic = text, "a listing panicked on the pool");
                        VnodeAnswer::Refused(Refusal::Unavailable(text))
                    }
                });
            });
            if queued.is_err()
                && let Some(reply) = take(&holder)
            {
                reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
            }
        });
    }
}
