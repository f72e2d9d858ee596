//! What a vnode actor is told, and how it answers. It decides that every message is answered exactly once: a
//! reply handle that is dropped unanswered answers by itself. It knows no actor.

use crate::time::Moment;
use ringwork_core::quorum::Refusal;
use ringwork_core::vnode::{Merged, Vnode};
use std::sync::Arc;

/// One request to one vnode.
pub struct Request<V: Vnode> {
    /// What to do.
    pub task: Task<V>,
    /// Where the answer goes.
    pub reply: ReplyTo<V>,
    /// When it is no longer worth doing.
    pub deadline: Moment,
    /// Whether the answer may leave only after a sync to disk.
    pub sync: bool,
}

/// What a vnode can be asked to do.
pub enum Task<V: Vnode> {
    /// Run a command that changes nothing.
    Read(V::Command),
    /// Run a command that may change items; the answer names them.
    Run(V::Command),
    /// Take an item in.
    Merge(V::Item),
}

/// What a vnode answers.
pub enum VnodeAnswer<V: Vnode> {
    /// To `Read`.
    Reply(V::Reply),
    /// To `Run`: what the command says, the items that the other replicas need, whether all is synced.
    Ran {
        /// The module's answer.
        reply: V::Reply,
        /// For the other replicas.
        touched: Vec<V::Item>,
        /// Synced to disk.
        durable: bool,
    },
    /// To `Merge`.
    Merged {
        /// What it did.
        merged: Merged,
        /// Synced to disk.
        durable: bool,
    },
    /// Nothing was done, nothing will be.
    Refused(Refusal),
    /// It may have been done.
    Failed(String),
}

/// Takes answers in, from any thread.
pub trait Sink<V: Vnode>: Send + Sync {
    /// The answer of the replica at that place of the preference list. Called once per place.
    fn answer(&self, replica: usize, answer: VnodeAnswer<V>);
}

/// The duty to answer, once. Dropped without an answer it answers by itself: "nothing was done" while the
/// request was still waiting for its turn, "unknown" from then on.
pub struct ReplyTo<V: Vnode> {
    to: Option<(Arc<dyn Sink<V>>, usize)>,
    begun: bool,
}

impl<V: Vnode> ReplyTo<V> {
    /// An answer to `sink`, as that replica's.
    pub fn new(sink: Arc<dyn Sink<V>>, replica: usize) -> Self {
        Self { to: Some((sink, replica)), begun: false }
    }

    /// Nobody waits.
    pub fn nobody() -> Self {
        Self { to: None, begun: false }
    }

    /// Gives the answer.
    pub fn answer(mut self, answer: VnodeAnswer<V>) {
        if let Some((sink, replica)) = self.to.take() {
            sink.answer(replica, answer);
        }
    }

    /// The request's turn has come: from now on it may be done.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Whether nobody waits.
    pub fn is_nobody(&self) -> bool {
        self.to.is_none()
    }
}

impl<V: Vnode> Drop for ReplyTo<V> {
    fn drop(&mut self) {
        if let Some((sink, replica)) = self.to.take() {
            let answer = if self.begun {
                VnodeAnswer::Failed("the vnode ended before it answered".into())
            } else {
                VnodeAnswer::Refused(Refusal::Unavailable("the vnode ended before the request's turn".into()))
            };
            sink.answer(replica, answer);
        }
    }
}
