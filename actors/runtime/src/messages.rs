//! What a vnode actor is told, and how it answers. It decides that every message is answered exactly once: a
//! reply handle that is dropped unanswered answers by itself. It knows no actor.

use crate::time::Moment;
use ringwork_core::coverage::page::{Page, PageBounds};
use ringwork_core::coverage::question::Question;
use ringwork_core::membership::Possession;
use ringwork_core::preflist::{PreflistEntry, Role};
use ringwork_core::quorum::Refusal;
use ringwork_core::vnode::{Merged, Vnode};
use std::sync::Arc;

/// As what a vnode is asked, and what the asker takes for the fact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// As what.
    pub role: Role,
    /// Who holds the partition, as the asker knows it.
    pub possession: Possession,
    /// Whether only a complete replica is to do it.
    pub complete_only: bool,
}

impl From<&PreflistEntry> for Asked {
    fn from(entry: &PreflistEntry) -> Self {
        Self { role: entry.role, possession: entry.possession, complete_only: false }
    }
}

/// One request to one vnode.
pub struct Request<V: Vnode> {
    /// As what it is asked.
    pub asked: Asked,
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
    /// Take many in, each in a turn of its own, but written together.
    MergeMany(Vec<V::Item>),
    /// Show a page of a listing.
    Page(PageAsk<V>),
}

impl<V: Vnode> Task<V> {
    /// Whether it leaves everything as it is.
    pub(crate) fn only_reads(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Page(_))
    }
}

/// A page of what is listed, asked of one vnode.
pub struct PageAsk<V: Vnode> {
    /// What is listed.
    pub question: V::Question,
    /// Which page.
    pub bounds: PageBounds,
}

/// What a vnode answers.
pub enum VnodeAnswer<V: Vnode> {
    /// To `Read`.
    Reply {
        /// The module's answer.
        reply: V::Reply,
        /// Whether what it does not mention is not there.
        complete: bool,
    },
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
    /// To `Page`.
    Page(Page<<V::Question as Question<V>>::Row>),
    /// Nothing was done: the partition is held by another node, so ask there.
    Moved(Possession),
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
    /// What a drop before the turn means; none: that the vnode ended.
    if_dropped: Option<Refusal>,
}

impl<V: Vnode> ReplyTo<V> {
    /// An answer to `sink`, as that replica's.
    pub fn new(sink: Arc<dyn Sink<V>>, replica: usize) -> Self {
        Self { to: Some((sink, replica)), begun: false, if_dropped: None }
    }

    /// Nobody waits.
    pub fn nobody() -> Self {
        Self { to: None, begun: false, if_dropped: None }
    }

    /// Gives the answer.
    pub fn answer(mut self, answer: VnodeAnswer<V>) {
        if let Some((sink, replica)) = self.to.take() {
            sink.answer(replica, answer);
        }
    }

    /// Dropped before its turn, it says this.
    pub fn or_if_dropped(mut self, refusal: Refusal) -> Self {
        self.if_dropped = Some(refusal);
        self
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
                let ended = || Refusal::Unavailable("the vnode ended before the request's turn".into());
                VnodeAnswer::Refused(self.if_dropped.take().unwrap_or_else(ended))
            };
            sink.answer(replica, answer);
        }
    }
}
