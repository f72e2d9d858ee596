//! The only way to an actor's mailbox. actix's own bounds do not hold (`do_send` and `send` pass a full
//! mailbox, `try_send` on a fresh clone does too), and dropping a `send` future cancels the message. So every
//! post takes a permit from a limit that is counted here, goes in with `do_send`, and carries the permit until
//! the receiver has dealt with it. A full mailbox is an answer, never a wait.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many messages may be on their way to one actor.
pub struct Permits {
    used: AtomicUsize,
    max: usize,
}

impl Permits {
    /// A limit with nothing in use.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    /// Takes one, if there is one.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        if self.used.fetch_add(1, Ordering::Relaxed) < self.max {
            return Some(Permit(self.clone()));
        }
        self.used.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// How many are in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One place in an actor's mailbox; free again when dropped.
pub struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message on its way, with its permit (none for an owner's own control messages).
pub struct Posted<M> {
    /// What was posted.
    pub message: M,
    /// Dropped when the message has been dealt with.
    pub permit: Option<Permit>,
}

impl<M: 'static> Message for Posted<M> {
    type Result = ();
}

/// The mailbox is full; the message comes back untouched.
pub struct Full<M>(pub M);

/// An actor's address with its limit. Cheap to clone; clones share the limit.
pub struct Postbox<A: Actor> {
    address: Addr<A>,
    permits: Arc<Permits>,
}

impl<A: Actor> Clone for Postbox<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), permits: self.permits.clone() }
    }
}

impl<A: Actor> Postbox<A> {
    /// An address under a limit.
    pub fn new(address: Addr<A>, permits: Arc<Permits>) -> Self {
        Self { address, permits }
    }

    /// Posts unless the limit is reached. Whether the actor still lives shows in what becomes of the reply
    /// handle inside the message: a dead actor's mailbox drops it, and a dropped handle answers.
    pub fn post<M>(&self, message: M) -> Result<(), Full<M>>
    where
        M: Send + 'static,
        A: Handler<Posted<M>>,
        A::Context: ToEnvelope<A, Posted<M>>,
    {
        match self.permits.take() {
            Some(permit) => {
                self.deliver(Posted { message, permit: Some(permit) });
                Ok(())
            }
            None => Err(Full(message)),
        }
    }

    /// Posts past the limit. For the few messages that an actor's owner sends it (stop, a step of its own
    /// work), whose number is bounded by their sender.
    pub fn post_control<M>(&self, message: M)
    where
        M: Send + 'static,
        A: Handler<Posted<M>>,
        A::Context: ToEnvelope<A, Posted<M>>,
    {
        self.deliver(Posted { message, permit: None });
    }

    #[allow(clippy::disallowed_methods)] // the one place that may
    fn deliver<M>(&self, posted: Posted<M>)
    where
        M: Send + 'static,
        A: Handler<Posted<M>>,
        A::Context: ToEnvelope<A, Posted<M>>,
    {
        self.address.do_send(posted);
    }

    /// Whether the actor lives.
    pub fn lives(&self) -> bool {
        self.address.connected()
    }

    /// Messages on their way.
    pub fn depth(&self) -> usize {
        self.permits.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_and_given_back() {
        let permits = Permits::new(2);
        let (first, second) = (permits.take(), permits.take());
        assert!(first.is_some() && second.is_some() && permits.take().is_none());
        drop(first);
        assert!(permits.take().is_some());
        assert_eq!(permits.used(), 1);
    }
}
