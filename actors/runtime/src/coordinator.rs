//! The life of a request: from a key to its replicas and back. A coordinator is no actor but a plain async
//! function over core's quorum machines, run by whoever took the request in. It decides which replica is asked
//! when; whether the request has ended, and how, core decides.

use crate::messages::{ReplyTo, Request, Sink, Task, VnodeAnswer};
use crate::node::ServiceCore;
use crate::time::Moment;
use crate::watch::Watch;
use ringwork_core::ids::NodeId;
use ringwork_core::quorum::{
    Answer, ImpossibleQuorum, QuorumOptions, ReadQuorum, ReadStep, Refusal, Rules, Verdict, WriteQuorum,
};
use ringwork_core::ring::{KeyHash, Preflist, PreflistEntry};
use ringwork_core::vnode::{Merged, Vnode};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a read waits for a replica before it asks a further one as well.
const HEDGE_AFTER: Duration = Duration::from_millis(50);
/// How long replicas may take over what a vnode sends them by itself.
const REPLICATE_WITHIN: Duration = Duration::from_secs(10);

/// The call site of one service: `service.key(b"ann").merge(item).await`. Cheap to clone.
pub struct Service<V: Vnode>(Arc<ServiceCore<V>>);

impl<V: Vnode> Clone for Service<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How a write ended.
#[derive(Debug)]
pub struct Written<R> {
    /// See [`Verdict`].
    pub verdict: Verdict,
    /// What a replica's state said against it, with `Declined`.
    pub declined: Option<Merged>,
    /// The module's answer, of a command that ran.
    pub reply: Option<R>,
    /// Replicas that had confirmed when the answer left.
    pub acks: usize,
    /// On which nodes, each once.
    pub nodes: Vec<NodeId>,
}

/// How a read ended that did not succeed. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadFailure {
    /// Too few replicas could answer.
    Refused(Refusal),
    /// Too few answered in time.
    Deadline,
}

/// One key of a service, about to be asked.
pub struct Keyed<'a, V: Vnode> {
    service: &'a Service<V>,
    hash: KeyHash,
    options: QuorumOptions,
    within: Duration,
}

impl<V: Vnode> Service<V> {
    pub(crate) fn new(core: Arc<ServiceCore<V>>) -> Self {
        Self(core)
    }

    /// What the service's parts share.
    pub fn core(&self) -> &Arc<ServiceCore<V>> {
        &self.0
    }

    /// A key to ask about.
    pub fn key(&self, key: &[u8]) -> Keyed<'_, V> {
        let hash = KeyHash::of(V::SERVICE, key);
        Keyed { service: self, hash, options: QuorumOptions::default(), within: Duration::from_secs(10) }
    }

    /// The first n replicas of a key, as this node knows the ring.
    pub fn preflist(&self, key: &[u8], n: usize) -> Preflist {
        self.0.node.ring.load().ring.preflist(&KeyHash::of(V::SERVICE, key), n)
    }

    /// Hears of changes to a key on this node; none when too many listen.
    pub fn watch(&self, key: &[u8]) -> Option<Watch<V>> {
        self.0.watchers.watch(KeyHash::of(V::SERVICE, key))
    }

    /// Sends an item to all its replicas and waits for none.
    pub(crate) fn send_to_replicas(&self, key: &[u8], item: V::Item) {
        let deadline = self.0.node.clock.moment() + REPLICATE_WITHIN;
        for entry in self.preflist(key, self.0.node.quorum.n_val) {
            let request =
                Request { task: Task::Merge(item.clone()), reply: ReplyTo::nobody(), deadline, sync: false };
            self.post(&entry, request);
        }
    }

    /// Posts a request to a replica; whatever hinders that is an answer.
    fn post(&self, entry: &PreflistEntry, request: Request<V>) {
        let node = &self.0.node;
        if entry.node != node.id {
            let why = format!("there is no connection to node {}", entry.node);
            return request.reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(why)));
        }
        let refused = self.0.routes.find(entry.partition, |postbox| match postbox {
            Some(postbox) => postbox.post(request).err().map(|full| full.0),
            None => self.0.want(entry.partition, request),
        });
        if let Some(request) = refused {
            node.telemetry.requests_overloaded.increment();
            request.reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
        }
    }
}

impl<V: Vnode> Keyed<'_, V> {
    /// Asks for these quorums instead of the defaults.
    pub fn quorum(mut self, options: QuorumOptions) -> Self {
        self.options = options;
        self
    }

    /// Ends after this time, done or not. Default ten seconds.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// The direct write: the item is finished and goes to all n replicas at once.
    pub async fn merge(&self, item: V::Item) -> Result<Written<V::Reply>, ImpossibleQuorum> {
        let (rules, deadline) = self.begin()?;
        let preflist = self.preflist(&rules);
        let quorum = match self.write_quorum(rules, &preflist) {
            Ok(quorum) => quorum,
            Err(refusal) => return Ok(Written::refused(refusal)),
        };
        let gather = Arc::new(WriteGather::new(quorum));
        let sink: Arc<dyn Sink<V>> = gather.clone();
        let last = preflist.len().saturating_sub(1);
        let mut item = Some(item);
        for (replica, entry) in preflist.iter().enumerate() {
            let copy = if replica == last { item.take() } else { item.clone() };
            if let Some(copy) = copy {
                let reply = ReplyTo::new(sink.clone(), replica);
                let request = Request { task: Task::Merge(copy), reply, deadline, sync: rules.dw > 0 };
                self.service.post(entry, request);
            }
        }
        let verdict = self.wait_for(&gather, deadline).await;
        Ok(gather.written(verdict, &preflist, None))
    }

    /// The coordinated write: the command runs at the first replica that can run it, and what it touched goes
    /// to the others.
    pub async fn run(&self, command: V::Command) -> Result<Written<V::Reply>, ImpossibleQuorum> {
        let (rules, deadline) = self.begin()?;
        let preflist = self.preflist(&rules);
        let quorum = match self.write_quorum(rules, &preflist) {
            Ok(quorum) => quorum,
            Err(refusal) => return Ok(Written::refused(refusal)),
        };
        let mut refusal = Refusal::Replicas { needed: 1, up: 0 };
        for (replica, entry) in preflist.iter().enumerate() {
            match self.run_at(entry, command.clone(), deadline, rules.dw > 0).await {
                Ran::Done { reply, touched, durable } => {
                    let gather = Arc::new(WriteGather::new(quorum));
                    gather.take(replica, Answer::Done { durable }, None);
                    if touched.is_empty() {
                        return Ok(gather.written(Verdict::Done, &preflist, Some(reply)));
                    }
                    self.spread(touched, replica, &preflist, &gather, deadline, rules.dw > 0);
                    let verdict = self.wait_for(&gather, deadline).await;
                    return Ok(gather.written(verdict, &preflist, Some(reply)));
                }
                Ran::Refused(why) => refusal = why,
                Ran::Unknown => {
                    self.service.0.node.telemetry.requests_unknown.increment();
                    return Ok(Written { verdict: Verdict::Unknown, ..Written::refused(refusal) });
                }
            }
        }
        Ok(Written::refused(refusal))
    }

    /// Reads at r replicas, joins what they say, and mends whoever lacked something.
    pub async fn read(&self, command: V::Command) -> Result<Result<V::Reply, ReadFailure>, ImpossibleQuorum> {
        let (rules, deadline) = self.begin()?;
        let preflist = self.preflist(&rules);
        let quorum = match ReadQuorum::new(rules, &preflist) {
            Ok(quorum) => quorum,
            Err(refusal) => return Ok(Err(ReadFailure::Refused(refusal))),
        };
        let gather = Arc::new(ReadGather::<V>::new(quorum, preflist.len()));
        let sink: Arc<dyn Sink<V>> = gather.clone();
        let ask = |replica: usize| {
            if let Some(entry) = preflist.get(replica) {
                let reply = ReplyTo::new(sink.clone(), replica);
                let request = Request { task: Task::Read(command.clone()), reply, deadline, sync: false };
                self.service.post(entry, request);
            }
        };
        loop {
            let step = gather.state().quorum.step();
            match step {
                ReadStep::Ask(replica) => ask(replica),
                ReadStep::Done => break,
                ReadStep::Ended(refusal) => return Ok(Err(ReadFailure::Refused(refusal))),
                ReadStep::Wait => {
                    let now = self.service.0.node.clock.moment();
                    let patience = deadline.saturating_sub(now).min(HEDGE_AFTER);
                    if tokio::time::timeout(patience, gather.news()).await.is_err() {
                        if self.service.0.node.clock.moment() >= deadline {
                            return Ok(Err(ReadFailure::Deadline));
                        }
                        if let Some(replica) = gather.state().quorum.hedge() {
                            ask(replica);
                        }
                    }
                }
            }
        }
        Ok(self.resolve(&command, &gather, &preflist, deadline))
    }

    fn resolve(
        &self,
        command: &V::Command,
        gather: &ReadGather<V>,
        preflist: &Preflist,
        deadline: Moment,
    ) -> Result<V::Reply, ReadFailure> {
        let (places, replies): (Vec<usize>, Vec<V::Reply>) = {
            let mut state = gather.state();
            state.replies.iter_mut().enumerate().filter_map(|(i, reply)| Some((i, reply.take()?))).unzip()
        };
        let Some(resolution) = V::resolve(command, &replies) else {
            return Err(ReadFailure::Refused(Refusal::Replicas { needed: 1, up: 0 }));
        };
        for (place, item) in resolution.repairs {
            if let Some(entry) = places.get(place).and_then(|replica| preflist.get(*replica)) {
                self.service.0.node.telemetry.read_repairs.increment();
                let request =
                    Request { task: Task::Merge(item), reply: ReplyTo::nobody(), deadline, sync: false };
                self.service.post(entry, request);
            }
        }
        Ok(resolution.reply)
    }

    fn begin(&self) -> Result<(Rules, Moment), ImpossibleQuorum> {
        let node = &self.service.0.node;
        Ok((self.options.resolve(&node.quorum)?, node.clock.moment() + self.within))
    }

    fn preflist(&self, rules: &Rules) -> Preflist {
        self.service.0.node.ring.load().ring.preflist(&self.hash, rules.n)
    }

    fn write_quorum(&self, rules: Rules, preflist: &Preflist) -> Result<WriteQuorum, Refusal> {
        if self.service.0.node.is_stopping() {
            return Err(Refusal::Stopping);
        }
        WriteQuorum::new(rules, preflist)
    }

    async fn wait_for(&self, gather: &Arc<WriteGather>, deadline: Moment) -> Verdict {
        let node = &self.service.0.node;
        let patience = deadline.saturating_sub(node.clock.moment());
        let verdict = match tokio::time::timeout(patience, gather.verdict()).await {
            Ok(verdict) => verdict,
            Err(_) => gather.state().quorum.deadline(),
        };
        if verdict == Verdict::Unknown {
            node.telemetry.requests_unknown.increment();
        }
        verdict
    }

    async fn run_at(
        &self,
        entry: &PreflistEntry,
        command: V::Command,
        deadline: Moment,
        sync: bool,
    ) -> Ran<V> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sink = Arc::new(OneShot(Mutex::new(Some(sender))));
        let request = Request { task: Task::Run(command), reply: ReplyTo::new(sink, 0), deadline, sync };
        self.service.post(entry, request);
        let patience = deadline.saturating_sub(self.service.0.node.clock.moment());
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(VnodeAnswer::Ran { reply, touched, durable })) => Ran::Done { reply, touched, durable },
            Ok(Ok(VnodeAnswer::Refused(refusal))) => Ran::Refused(refusal),
            _ => Ran::Unknown,
        }
    }

    /// Sends what a command touched at `done_at` to the other replicas; each acknowledges when it has all.
    fn spread(
        &self,
        touched: Vec<V::Item>,
        done_at: usize,
        preflist: &Preflist,
        gather: &Arc<WriteGather>,
        deadline: Moment,
        sync: bool,
    ) {
        for (replica, entry) in preflist.iter().enumerate().filter(|(replica, _)| *replica != done_at) {
            let all: Arc<dyn Sink<V>> =
                Arc::new(AllOf { inner: gather.clone(), left: Mutex::new((touched.len(), true)) });
            for item in &touched {
                let reply = ReplyTo::new(all.clone(), replica);
                let request = Request { task: Task::Merge(item.clone()), reply, deadline, sync };
                self.service.post(entry, request);
            }
        }
    }
}

enum Ran<V: Vnode> {
    Done { reply: V::Reply, touched: Vec<V::Item>, durable: bool },
    Refused(Refusal),
    Unknown,
}

impl<R> Written<R> {
    fn refused(refusal: Refusal) -> Self {
        Self { verdict: Verdict::Refused(refusal), declined: None, reply: None, acks: 0, nodes: Vec::new() }
    }
}

struct OneShot<V: Vnode>(Mutex<Option<tokio::sync::oneshot::Sender<VnodeAnswer<V>>>>);

impl<V: Vnode> Sink<V> for OneShot<V> {
    fn answer(&self, _: usize, answer: VnodeAnswer<V>) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = sender.send(answer);
        }
    }
}

/// The answers to one write, from whichever threads; wakes its coordinator once, at the verdict.
struct WriteGather(Mutex<WriteState>);

struct WriteState {
    quorum: WriteQuorum,
    verdict: Option<Verdict>,
    declined: Option<Merged>,
    waker: Option<Waker>,
}

impl WriteGather {
    fn new(quorum: WriteQuorum) -> Self {
        Self(Mutex::new(WriteState { quorum, verdict: None, declined: None, waker: None }))
    }

    fn state(&self) -> MutexGuard<'_, WriteState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, replica: usize, answer: Answer, declined: Option<Merged>) {
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

    async fn verdict(&self) -> Verdict {
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

    fn written<R>(&self, verdict: Verdict, preflist: &Preflist, reply: Option<R>) -> Written<R> {
        let state = self.state();
        let mut nodes: Vec<NodeId> = Vec::new();
        let mut acks = 0;
        for entry in state.quorum.confirmed_by().filter_map(|replica| preflist.get(replica)) {
            acks += 1;
            if !nodes.contains(&entry.node) {
                nodes.push(entry.node);
            }
        }
        Written { verdict, declined: state.declined, reply, acks, nodes }
    }
}

fn answer_of<V: Vnode>(answer: VnodeAnswer<V>) -> (Answer, Option<Merged>) {
    match answer {
        VnodeAnswer::Merged { merged: merged @ (Merged::Absorbed | Merged::Conflicting), .. } => {
            (Answer::Declined, Some(merged))
        }
        VnodeAnswer::Merged { durable, .. } | VnodeAnswer::Ran { durable, .. } => {
            (Answer::Done { durable }, None)
        }
        VnodeAnswer::Reply(_) => (Answer::Done { durable: false }, None),
        VnodeAnswer::Refused(refusal) => (Answer::Refused(refusal), None),
        VnodeAnswer::Failed(_) => (Answer::Failed, None),
    }
}

impl<V: Vnode> Sink<V> for WriteGather {
    fn answer(&self, replica: usize, answer: VnodeAnswer<V>) {
        let (answer, declined) = answer_of(answer);
        self.take(replica, answer, declined);
    }
}

/// Several items to one replica count as one acknowledgement, given when all are there.
struct AllOf {
    inner: Arc<WriteGather>,
    left: Mutex<(usize, bool)>,
}

impl<V: Vnode> Sink<V> for AllOf {
    fn answer(&self, replica: usize, answer: VnodeAnswer<V>) {
        // An item that the replica's state dominates is as good as there.
        let answer = match answer_of(answer) {
            (Answer::Declined, _) => Answer::Done { durable: false },
            (answer, _) => answer,
        };
        let Answer::Done { durable } = answer else {
            return self.inner.take(replica, answer, None);
        };
        let complete = {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.0 = left.0.saturating_sub(1);
            left.1 &= durable;
            (left.0 == 0).then_some(left.1)
        };
        if let Some(durable) = complete {
            self.inner.take(replica, Answer::Done { durable }, None);
        }
    }
}

/// The answers to one read.
struct ReadGather<V: Vnode>(Mutex<ReadState<V>>);

struct ReadState<V: Vnode> {
    quorum: ReadQuorum,
    replies: Vec<Option<V::Reply>>,
    news: bool,
    waker: Option<Waker>,
}

impl<V: Vnode> ReadGather<V> {
    fn new(quorum: ReadQuorum, replicas: usize) -> Self {
        let replies = (0..replicas).map(|_| None).collect();
        Self(Mutex::new(ReadState { quorum, replies, news: false, waker: None }))
    }

    fn state(&self) -> MutexGuard<'_, ReadState<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl<V: Vnode> Sink<V> for ReadGather<V> {
    fn answer(&self, replica: usize, answer: VnodeAnswer<V>) {
        let waker = {
            let mut state = self.state();
            let refusal = match answer {
                VnodeAnswer::Reply(reply) => {
                    if let Some(slot) = state.replies.get_mut(replica) {
                        *slot = Some(reply);
                    }
                    None
                }
                VnodeAnswer::Refused(refusal) => Some(refusal),
                VnodeAnswer::Failed(why) => Some(Refusal::Unavailable(why)),
                VnodeAnswer::Ran { .. } | VnodeAnswer::Merged { .. } => {
                    Some(Refusal::Unavailable("the replica answered something else".into()))
                }
            };
            state.quorum.answer(replica, refusal);
            state.news = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
