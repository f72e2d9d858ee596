//! The answers to one read, and the asking: r replicas first, another when one fails, is late or is not complete,
//! everybody who may have something when too few are. Whether it is enough, core decides.
//!
//! Where a module has a glance for the command, one replica is asked the command and the others the glance, and of
//! these only who shows more than the whole answers have is asked the command, too. What a glance says and when it is
//! enough, the module decides.

use super::{Answered, MOVES_FOLLOWED_MAX, ReadFailure, Service};
use crate::messages::{ReplyTo, Sink, VnodeAnswer};
use crate::remote::Ask;
use crate::time::Moment;
use ringwork_core::ids::Partition;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::{Preflist, PreflistEntry, Role};
use ringwork_core::quorum::{ReadAnswer, ReadQuorum, ReadStep, Refusal};
use ringwork_core::vnode::Vnode;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a read with too few complete replicas waits for those that may have something.
const DEGRADED_WAIT: Duration = Duration::from_secs(1);
/// Strays asked for one read: more than there are nodes that can have stood in for a key's holders in a lifetime.
const STRAYS_ASKED_MAX: usize = 64;

/// See the module's head.
pub(super) struct ReadGather<V: Vnode> {
    service: Service<V>,
    command: V::Command,
    /// What is asked of those who need not tell everything.
    glance: Option<V::Command>,
    deadline: Moment,
    /// How many places the preference list has; those after it are strays.
    listed: usize,
    state: Mutex<ReadState<V>>,
}

struct ReadState<V: Vnode> {
    quorum: ReadQuorum,
    places: Vec<Place<V>>,
    news: bool,
    waker: Option<Waker>,
}

struct Place<V: Vnode> {
    entry: PreflistEntry,
    reply: Option<V::Reply>,
    asked: bool,
    /// It is asked the command itself, not the glance.
    whole: bool,
    /// It was asked and will not answer.
    refused: bool,
    followed: u8,
}

impl<V: Vnode> Place<V> {
    fn new(entry: PreflistEntry) -> Self {
        Self { entry, reply: None, asked: false, whole: false, refused: false, followed: 0 }
    }
}

impl<V: Vnode> ReadGather<V> {
    pub(super) fn new(
        service: &Service<V>,
        quorum: ReadQuorum,
        preflist: Preflist,
        command: V::Command,
        deadline: Moment,
    ) -> Arc<Self> {
        let listed = preflist.len();
        // With one answer there is nothing to compare.
        let compares = quorum.answers_needed() > 1;
        let understood =
            || V::GLANCE_FEATURE.is_none_or(|feature| service.0.node.metadata.is_active(feature));
        let glance = if compares && understood() { V::glance(&command) } else { None };
        let places = preflist.into_iter().map(Place::new).collect();
        let state = ReadState { quorum, places, news: false, waker: None };
        let service = service.clone();
        Arc::new(Self { service, command, glance, deadline, listed, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, ReadState<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a replica: for everything where nobody whose answer is still awaited (with `hurry`: is there) was.
    fn ask_next(self: &Arc<Self>, replica: usize, hurry: bool) {
        {
            let mut state = self.state();
            let tells = |place: &Place<V>| place.reply.is_some() || (place.asked && !place.refused && !hurry);
            let told = state.places.iter().any(|place| place.whole && tells(place));
            if let Some(place) = state.places.get_mut(replica) {
                place.whole = !told || replica >= self.listed;
            }
        }
        self.ask(replica);
    }

    fn ask(self: &Arc<Self>, replica: usize) {
        let (entry, whole) = {
            let mut state = self.state();
            let Some(place) = state.places.get_mut(replica) else { return };
            place.asked = true;
            (place.entry, place.whole)
        };
        let sink: Arc<dyn Sink<V>> = Arc::new(Told(self.clone()));
        let reply = ReplyTo::new(sink, replica);
        let command = self.glance.as_ref().filter(|_| !whole).unwrap_or(&self.command);
        let ask = Ask::Read(command);
        self.service.0.ask(&entry, (&entry).into(), &ask, reply, self.deadline, false);
    }

    fn ask_strays(self: &Arc<Self>) {
        let (first, count) = {
            let mut state = self.state();
            let partitions: Vec<Partition> = state.places.iter().map(|place| place.entry.partition).collect();
            let strays = self.service.0.node.ring.load().strays_of(V::SERVICE, &partitions);
            let known = |entry: &PreflistEntry| {
                let same = |place: &Place<V>| {
                    place.entry.node == entry.node && place.entry.partition == entry.partition
                };
                state.places.iter().any(same)
            };
            let fresh: Vec<PreflistEntry> = strays
                .into_iter()
                .filter(|entry| !known(entry) && !planted(Mutant::NeverAskStrays))
                .take(STRAYS_ASKED_MAX)
                .collect();
            let first = state.places.len();
            state.quorum.strays_asked(fresh.len());
            state.places.extend(fresh.into_iter().map(Place::new));
            (first, state.places.len() - first)
        };
        for replica in first..first + count {
            self.ask_next(replica, false);
        }
    }

    /// Asks and waits until core says that it is enough, or that it cannot be.
    pub(super) async fn carry_out(self: Arc<Self>) -> Result<Answered<V::Reply>, ReadFailure> {
        let clock = self.service.0.node.clock.clone();
        let mut degraded_until = None;
        loop {
            let step = self.state().quorum.step();
            match step {
                ReadStep::Ask(replica) => self.ask_next(replica, false),
                ReadStep::AskStrays => {
                    degraded_until = Some(clock.moment() + DEGRADED_WAIT);
                    self.ask_strays();
                }
                ReadStep::Done { degraded } => {
                    if let Some(answered) = self.settle(degraded) {
                        return answered;
                    }
                }
                // What the time has ended, nobody has refused.
                ReadStep::Ended(_) if clock.moment() >= self.deadline => return Err(ReadFailure::Deadline),
                ReadStep::Ended(refusal) => return Err(ReadFailure::Refused(refusal)),
                ReadStep::Wait => {
                    let now = clock.moment();
                    let waited = degraded_until.is_some_and(|until| now >= until);
                    if waited
                        && self.state().quorum.give_up_on_the_rest()
                        && let Some(answered) = self.settle(true)
                    {
                        return answered;
                    }
                    let patience = match degraded_until {
                        Some(until) if until > now => until - now,
                        Some(_) => Duration::MAX,
                        None => self.patience(),
                    };
                    let patience = self.deadline.saturating_sub(now).min(patience);
                    if tokio::time::timeout(patience, self.news()).await.is_err() {
                        let now = clock.moment();
                        if degraded_until.is_some()
                            && self.state().quorum.give_up_on_the_rest()
                            && let Some(answered) = self.settle(true)
                        {
                            return answered;
                        }
                        if now >= self.deadline {
                            return Err(ReadFailure::Deadline);
                        }
                        let further = self.state().quorum.hedge();
                        if let Some(replica) = further {
                            self.service.0.node.telemetry.reads_hedged.increment();
                            self.ask_next(replica, true);
                        }
                    }
                }
            }
        }
    }

    /// How long to wait for those that were asked before another is: as long as the slowest of them usually takes.
    fn patience(&self) -> Duration {
        let state = self.state();
        let waiting = state.places.iter().filter(|place| place.asked && place.reply.is_none());
        self.service.0.node.latencies.patience_with(waiting.map(|place| place.entry.node))
    }

    async fn news(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if std::mem::take(&mut state.news) {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The end of the read; none where somebody has more than a glance shows and is asked for all of it.
    fn settle(self: &Arc<Self>, degraded: bool) -> Option<Result<Answered<V::Reply>, ReadFailure>> {
        let mut state = self.state();
        let (mut at, mut entries, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for (place, told) in state.places.iter_mut().enumerate() {
            if let Some(reply) = told.reply.take() {
                at.push(place);
                entries.push(told.entry);
                replies.push(reply);
            }
        }
        let unseen = if self.glance.is_some() { V::unseen(&self.command, &replies) } else { Vec::new() };
        let unseen: Vec<usize> = unseen.into_iter().filter_map(|told| at.get(told).copied()).collect();
        if unseen.is_empty() {
            drop(state);
            return Some(self.resolve(degraded, &entries, &replies));
        }
        for (place, reply) in at.into_iter().zip(replies) {
            if let Some(place) = state.places.get_mut(place) {
                place.reply = Some(reply);
            }
        }
        for replica in &unseen {
            state.quorum.asked_again(*replica);
            if let Some(place) = state.places.get_mut(*replica) {
                (place.reply, place.whole) = (None, true);
            }
        }
        drop(state);
        self.service.0.node.telemetry.reads_asked_whole.increment();
        unseen.into_iter().for_each(|replica| self.ask(replica));
        None
    }

    fn resolve(
        self: &Arc<Self>,
        degraded: bool,
        entries: &[PreflistEntry],
        replies: &[V::Reply],
    ) -> Result<Answered<V::Reply>, ReadFailure> {
        let node = &self.service.0.node;
        if degraded {
            node.telemetry.reads_degraded.increment();
        }
        let Some(resolution) = V::resolve(&self.command, replies) else {
            return Err(ReadFailure::Refused(Refusal::Replicas { needed: 1, up: 0 }));
        };
        let repairs = resolution.repairs.into_iter().filter(|_| !planted(Mutant::NoReadRepair));
        for (place, item) in repairs {
            // Who has data without holding the partition gets no more of it.
            if let Some(entry) = entries.get(place).filter(|entry| entry.role != Role::Stray) {
                node.telemetry.read_repairs.increment();
                let ask = Ask::Merge(&item);
                let reply = ReplyTo::nobody();
                self.service.0.ask(entry, entry.into(), &ask, reply, self.deadline, false);
            }
        }
        Ok(Answered { reply: resolution.reply, degraded })
    }

    fn told(self: &Arc<Self>, replica: usize, answer: VnodeAnswer<V>) {
        let answer = match answer {
            VnodeAnswer::Moved(possession) => {
                let again = {
                    let mut state = self.state();
                    let Some(place) = state.places.get_mut(replica) else { return };
                    place.followed += 1;
                    let again = place.followed <= MOVES_FOLLOWED_MAX && place.entry.role != Role::Stray;
                    if again {
                        let entry = self.service.follow(&place.entry, possession);
                        place.entry = entry;
                        state.quorum.relocate(replica, entry.node, true);
                    }
                    again
                };
                if again {
                    return self.ask(replica);
                }
                ReadAnswer::Refused(Refusal::Unavailable("the partition is moving".to_owned()))
            }
            VnodeAnswer::Reply { reply, complete } => {
                if let Some(place) = self.state().places.get_mut(replica) {
                    place.reply = Some(reply);
                }
                if complete { ReadAnswer::Complete } else { ReadAnswer::Incomplete }
            }
            VnodeAnswer::Refused(refusal) => ReadAnswer::Refused(refusal),
            VnodeAnswer::Failed(why) => ReadAnswer::Refused(Refusal::Unavailable(why)),
            VnodeAnswer::Ran { .. } | VnodeAnswer::Merged { .. } | VnodeAnswer::Page(_) => {
                let why = "the replica answered something else".to_owned();
                ReadAnswer::Refused(Refusal::Unavailable(why))
            }
        };
        let waker = {
            let mut state = self.state();
            if let (ReadAnswer::Refused(_), Some(place)) = (&answer, state.places.get_mut(replica)) {
                place.refused = true;
            }
            if replica < self.listed {
                state.quorum.answer(replica, answer);
            } else {
                state.quorum.stray_answered();
            }
            // Waking up for an answer that changes nothing costs as much as taking it in.
            state.news = !state.quorum.only_waits();
            if state.news { state.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Told<V: Vnode>(Arc<ReadGather<V>>);

impl<V: Vnode> Sink<V> for Told<V> {
    fn answer(&self, replica: usize, answer: VnodeAnswer<V>) {
        self.0.told(replica, answer);
    }
}
