//! The answers to one write, from whichever threads. It wakes its coordinator once, at the verdict, and goes on
//! for as long as answers come: a replica whose partition has moved is followed even when nobody waits any more,
//! because its copy is wanted all the same.

use super::{MOVES_FOLLOWED_MAX, Service, Written};
use crate::messages::{ReplyTo, Sink, VnodeAnswer};
use crate::remote::Ask;
use crate::time::Moment;
use ringwork_core::ids::NodeId;
use ringwork_core::membership::Possession;
use ringwork_core::preflist::{Preflist, PreflistEntry};
use ringwork_core::quorum::{Answer, Refusal, Verdict, WriteQuorum};
use ringwork_core::vnode::{Merged, Vnode};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What a replica's state that speaks against an item means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Declining {
    /// The write ends: the sender has to think again.
    Ends,
    /// The item came from a replica, and one that dominates it is as good as there.
    IsAsGoodAsDone,
}

/// See the module's head.
pub(super) struct WriteGather<V: Vnode> {
    service: Service<V>,
    items: Vec<V::Item>,
    declining: Declining,
    deadline: Moment,
    sync: bool,
    state: Mutex<WriteState>,
}

struct WriteState {
    quorum: WriteQuorum,
    places: SmallVec<[Place; 5]>,
    verdict: Option<Verdict>,
    declined: Option<Merged>,
    waker: Option<Waker>,
}

struct Place {
    entry: PreflistEntry,
    /// Items that have not been confirmed there.
    left: usize,
    durable: bool,
    followed: u8,
}

impl<V: Vnode> WriteGather<V> {
    pub(super) fn new(
        service: &Service<V>,
        quorum: WriteQuorum,
        preflist: Preflist,
        items: Vec<V::Item>,
        declining: Declining,
        deadline: Moment,
        sync: bool,
    ) -> Arc<Self> {
        let place = |entry| Place { entry, left: items.len(), durable: true, followed: 0 };
        let places = preflist.into_iter().map(place).collect();
        let state = WriteState { quorum, places, verdict: None, declined: None, waker: None };
        Arc::new(Self {
            service: service.clone(),
            items,
            declining,
            deadline,
            sync,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, WriteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn replicas(&self) -> usize {
        self.state().places.len()
    }

    /// Sends all items to a replica, which confirms when it has all.
    pub(super) fn send(self: &Arc<Self>, replica: usize) {
        let Some(entry) = self.state().places.get(replica).map(|place| place.entry) else { return };
        for number in 0..self.items.len() {
            self.send_item(replica, number, &entry);
        }
    }

    fn send_item(self: &Arc<Self>, replica: usize, number: usize, entry: &PreflistEntry) {
        let Some(item) = self.items.get(number) else { return };
        let sink: Arc<dyn Sink<V>> = Arc::new(Confirmation(self.clone()));
        let reply = ReplyTo::new(sink, replica * self.items.len() + number);
        self.service.0.ask(entry, entry.into(), &Ask::Merge(item), reply, self.deadline, self.sync);
    }

    fn moved(self: &Arc<Self>, replica: usize, number: usize, possession: Possession) {
        let next = {
            let mut state = self.state();
            let Some(place) = state.places.get_mut(replica) else { return };
            place.followed += 1;
            let limit = MOVES_FOLLOWED_MAX.saturating_mul(u8::try_from(self.items.len()).unwrap_or(u8::MAX));
            (place.followed <= limit).then_some(place.entry)
        };
        match next {
            Some(entry) => {
                let entry = self.service.follow(&entry, possession);
                {
                    let mut state = self.state();
                    state.quorum.relocate(replica, entry.node, true);
                    if let Some(place) = state.places.get_mut(replica) {
                        place.entry = entry;
                    }
                }
                self.send_item(replica, number, &entry);
            }
            None => {
                let why =
                    Refusal::Unavailable("the partition moves faster than it can be followed".to_owned());
                self.take(replica, Answer::Refused(why), None);
            }
        }
    }

    fn item_answered(self: &Arc<Self>, replica: usize, number: usize, answer: VnodeAnswer<V>) {
        let (answer, declined) = match answer {
            VnodeAnswer::Moved(possession) => return self.moved(replica, number, possession),
            VnodeAnswer::Merged { merged: merged @ (Merged::Absorbed | Merged::Conflicting), .. } => {
                match self.declining {
                    Declining::Ends => (Answer::Declined, Some(merged)),
                    Declining::IsAsGoodAsDone => (Answer::Done { durable: false }, None),
                }
            }
            VnodeAnswer::Merged { durable, .. } | VnodeAnswer::Ran { durable, .. } => {
                (Answer::Done { durable }, None)
            }
            VnodeAnswer::Reply { .. } => (Answer::Done { durable: false }, None),
            VnodeAnswer::Refused(refusal) => (Answer::Refused(refusal), None),
            VnodeAnswer::Failed(_) | VnodeAnswer::Page(_) => (Answer::Failed, None),
        };
        let answer = match answer {
            Answer::Done { durable } => {
                let mut state = self.state();
                let Some(place) = state.places.get_mut(replica) else { return };
                place.left = place.left.saturating_sub(1);
                place.durable &= durable;
                if place.left > 0 {
                    return;
                }
                Answer::Done { durable: place.durable }
            }
            other => other,
        };
        self.take(replica, answer, declined);
    }

    /// A replica's answer to the whole.
    pub(super) fn take(&self, replica: usize, answer: Answer, declined: Option<Merged>) {
        let waker = {
            let mut state = self.state();
            if state.declined.is_none() {
                state.declined = declined;
            }
            match state.quorum.answer(replica, answer) {
                Some(verdict) => {
                    state.verdict = Some(verdict);
                    state.waker.take()
                }
                None => None,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) async fn verdict(&self) -> Verdict {
        poll_fn(|cx| {
            let mut state = self.state();
            match &state.verdict {
                Some(verdict) => Poll::Ready(verdict.clone()),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    pub(super) fn deadline(&self) -> Verdict {
        self.state().quorum.deadline()
    }

    pub(super) fn written<R>(&self, verdict: Verdict, reply: Option<R>, w: usize) -> Written<R> {
        let state = self.state();
        let mut nodes: Vec<NodeId> = Vec::new();
        let mut acks = 0;
        for place in state.quorum.confirmed_by().filter_map(|replica| state.places.get(replica)) {
            acks += 1;
            if !nodes.contains(&place.entry.node) {
                nodes.push(place.entry.node);
            }
        }
        let alone = w > 1 && nodes.len() == 1;
        Written { verdict, declined: state.declined, reply, acks, nodes, alone }
    }
}

struct Confirmation<V: Vnode>(Arc<WriteGather<V>>);

impl<V: Vnode> Sink<V> for Confirmation<V> {
    fn answer(&self, place: usize, answer: VnodeAnswer<V>) {
        let items = self.0.items.len().max(1);
        self.0.item_answered(place / items, place % items, answer);
    }
}
