//! A listing over all vnodes of a service, as a stream of rows. It asks for the pages that core's course wants, and
//! gives it the answers; which pages these are, and whether the list is whole, core decides.
//!
//! Nothing goes on by itself: pages are asked for while the stream is polled. Whoever drops it has ended the listing.

use super::Service;
use crate::messages::{PageAsk, ReplyTo, Sink, VnodeAnswer};
use crate::post::Permit;
use crate::time::Moment;
use futures_core::Stream;
use ringwork_core::coverage::course::{
    Course, CourseOptions, CoverageFailure, PageFailure, PageRequest, Step,
};
use ringwork_core::coverage::page::Page;
use ringwork_core::coverage::question::Question;
use ringwork_core::ids::Partition;
use ringwork_core::preflist::{PreflistEntry, Role};
use ringwork_core::quorum::Refusal;
use ringwork_core::vnode::Vnode;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Sleep;

/// Time for a listing that does not say otherwise: some millions of rows.
const WITHIN: Duration = Duration::from_secs(600);

type RowOf<V> = <<V as Vnode>::Question as Question<V>>::Row;

/// A question to all vnodes of a service, about to be asked.
pub struct Covering<'a, V: Vnode> {
    service: &'a Service<V>,
    question: V::Question,
    after: Option<Vec<u8>>,
    rows_max: Option<usize>,
    replicas: Option<usize>,
    within: Duration,
}

impl<'a, V: Vnode> Covering<'a, V> {
    pub(super) fn new(service: &'a Service<V>, question: V::Question) -> Self {
        Self { service, question, after: None, rows_max: None, replicas: None, within: WITHIN }
    }

    /// Only rows behind this key.
    pub fn after(mut self, key: Option<Vec<u8>>) -> Self {
        self.after = key;
        self
    }

    /// Keys may have as few replicas as that: fewer than the service's, where writes asked for fewer. It costs more
    /// vnodes.
    pub fn replicas(mut self, n: usize) -> Self {
        self.replicas = Some(n);
        self
    }

    /// Ends after so many rows.
    pub fn rows_max(mut self, rows: usize) -> Self {
        self.rows_max = Some(rows);
        self
    }

    /// Ends after this time, done or not. Default ten minutes.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// The list: rows in ascending order of their keys, each once. It is whole when the stream ends without an error.
    /// Each row's key is read from one replica, so a write that this replica has missed may not be seen.
    pub fn list(self) -> Result<Listing<V>, Refusal> {
        let core = self.service.core();
        let node = &core.node;
        if let Some(refusal) = self.service.not_serving() {
            return Err(refusal);
        }
        let Some((permit, begun)) = core.listings.begin() else { return Err(Refusal::Overloaded) };
        node.telemetry.listings.increment();
        let now = node.clock.moment();
        let options = CourseOptions {
            n: self.replicas.map_or(node.quorum.n_val, |n| n.clamp(1, node.quorum.n_val)),
            held: node.quorum.n_val,
            // Elsewhere for each listing, and for each node.
            rotation: u64::from_be_bytes(node.id.tag()).wrapping_add(begun),
            after: self.after,
            rows_max: self.rows_max,
            deadline: now + self.within,
        };
        Ok(Listing {
            course: Course::begin(node.ring.load().size(), options, now),
            service: self.service.clone(),
            question: self.question,
            asked: BTreeMap::new(),
            inbox: Arc::new(Inbox(Mutex::default())),
            timer: None,
            ended: false,
            _permit: permit,
        })
    }
}

struct Answers<V: Vnode> {
    answers: VecDeque<(u64, VnodeAnswer<V>)>,
    waker: Option<Waker>,
}

impl<V: Vnode> Default for Answers<V> {
    fn default() -> Self {
        Self { answers: VecDeque::new(), waker: None }
    }
}

/// Where answers wait until the stream is polled; never more than pages are asked for at a time.
struct Inbox<V: Vnode>(Mutex<Answers<V>>);

impl<V: Vnode> Inbox<V> {
    fn lock(&self) -> MutexGuard<'_, Answers<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Vnode> Sink<V> for Inbox<V> {
    fn answer(&self, ask: usize, answer: VnodeAnswer<V>) {
        let waker = {
            let mut inbox = self.lock();
            inbox.answers.push_back((ask as u64, answer));
            inbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// See the module's head: batches of rows; after an error nothing.
pub struct Listing<V: Vnode> {
    service: Service<V>,
    question: V::Question,
    course: Course<RowOf<V>>,
    /// Which partition's vnode was asked.
    asked: BTreeMap<u64, Partition>,
    inbox: Arc<Inbox<V>>,
    timer: Option<(Moment, Pin<Box<Sleep>>)>,
    ended: bool,
    _permit: Permit,
}

/// Nothing in it is pinned in place.
impl<V: Vnode> Unpin for Listing<V> {}

impl<V: Vnode> Listing<V> {
    /// The rows of the whole listing, together in memory: for lists that are short, or that [`Covering::rows_max`]
    /// bounds.
    pub async fn rows(mut self) -> Result<Vec<RowOf<V>>, CoverageFailure> {
        let mut rows = Vec::new();
        while let Some(batch) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
            rows.extend(batch?);
        }
        Ok(rows)
    }

    fn ask(&mut self, request: PageRequest) {
        let core = self.service.core();
        let PageRequest { ask, partition, node, bounds, until } = request;
        self.asked.insert(ask, partition);
        let reply = ReplyTo::new(self.inbox.clone(), ask as usize);
        let Some(possession) = core.node.ring.load().possession(partition) else { return };
        let entry = PreflistEntry { partition, node, role: Role::Primary, possession };
        core.ask_page(&entry, PageAsk { question: self.question.clone(), bounds }, reply, until);
    }

    fn take_answers(&mut self, now: Moment) {
        let answers = std::mem::take(&mut self.inbox.lock().answers);
        for (ask, answer) in answers {
            let partition = self.asked.remove(&ask);
            let answer = self.understand(partition, answer);
            self.course.answered(now, ask, answer);
        }
    }

    fn understand(
        &self,
        partition: Option<Partition>,
        answer: VnodeAnswer<V>,
    ) -> Result<Page<RowOf<V>>, PageFailure> {
        let node = &self.service.core().node;
        match answer {
            VnodeAnswer::Page(page) => Ok(page),
            VnodeAnswer::Moved(possession) => {
                if let Some(partition) = partition {
                    node.learn(partition, possession);
                }
                Err(PageFailure::Unavailable("the partition has moved".to_owned()))
            }
            VnodeAnswer::Refused(Refusal::Overloaded) => Err(PageFailure::Overloaded),
            VnodeAnswer::Refused(refusal) => Err(PageFailure::Unavailable(refusal.to_string())),
            VnodeAnswer::Failed(why) => Err(PageFailure::Unavailable(why)),
            _ => Err(PageFailure::Unavailable("it answered something else".to_owned())),
        }
    }

    /// Whether the time has come; if not, the task is woken then.
    fn is_due(&mut self, cx: &mut Context<'_>, now: Moment, until: Moment) -> bool {
        if self.timer.as_ref().is_none_or(|(set, _)| *set != until) {
            let pause = until.saturating_sub(now).max(Duration::from_millis(1));
            self.timer = Some((until, Box::pin(tokio::time::sleep(pause))));
        }
        let due = self.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
        if due {
            self.timer = None;
        }
        due
    }

    fn end(&mut self) {
        let counts = self.course.counts();
        let telemetry = &self.service.core().node.telemetry;
        if !std::mem::replace(&mut self.ended, true) {
            telemetry.listing_parts.add(counts.parts);
            telemetry.listing_parts_replaced.add(counts.replaced);
            telemetry.listing_rows.add(counts.rows);
        }
    }
}

impl<V: Vnode> Stream for Listing<V> {
    type Item = Result<Vec<RowOf<V>>, CoverageFailure>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let core = this.service.core().clone();
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            let now = core.node.clock.moment();
            this.take_answers(now);
            match this.course.step(now, &|| core.node.ring.load().listing_holders(V::SERVICE)) {
                Step::Ask(request) => this.ask(request),
                Step::Rows(rows) => return Poll::Ready(Some(Ok(rows))),
                Step::Done => {
                    this.end();
                    return Poll::Ready(None);
                }
                Step::Failed(failure) => {
                    this.end();
                    core.node.telemetry.listings_failed.increment();
                    return Poll::Ready(Some(Err(failure)));
                }
                Step::Wait(until) => {
                    {
                        let mut inbox = this.inbox.lock();
                        if !inbox.answers.is_empty() {
                            continue;
                        }
                        inbox.waker = Some(cx.waker().clone());
                    }
                    if !this.is_due(cx, now, until) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<V: Vnode> Drop for Listing<V> {
    fn drop(&mut self) {
        self.end();
    }
}
