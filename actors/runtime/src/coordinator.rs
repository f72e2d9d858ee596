//! The life of a request: from a key to its replicas and back. A coordinator is no actor but a plain async
//! function over core's quorum machines, run by whoever took the request in. It decides which replica is asked
//! when, and asks elsewhere when a replica says that its partition has moved; whether the request has ended, and
//! how, core decides.

mod coverage;
mod read;
mod write;

pub use coverage::{Covering, Listing};

use crate::messages::{Asked, ReplyTo, Sink, VnodeAnswer};
use crate::remote::Ask;
use crate::service_core::ServiceCore;
use crate::time::Moment;
use crate::watch::Watch;
use read::ReadGather;
use ringwork_core::ids::NodeId;
use ringwork_core::membership::Possession;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::{Preflist, PreflistEntry, Role, coordinators};
use ringwork_core::quorum::{
    Answer, ImpossibleQuorum, QuorumDefaults, QuorumOptions, ReadQuorum, Refusal, Rules, Verdict, WriteQuorum,
};
use ringwork_core::ring::KeyHash;
use ringwork_core::vnode::{Item, Merged, Vnode};
use smallvec::SmallVec;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use write::{Declining, WriteGather};

/// How long replicas may take over what a vnode sends them by itself.
const REPLICATE_WITHIN: Duration = Duration::from_secs(10);
/// How often one replica's request follows a partition that moves.
const MOVES_FOLLOWED_MAX: u8 = 3;

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
    /// Whether several confirmations were wanted and one node gave all there are: these are copies in one place.
    pub alone: bool,
}

/// How a read ended that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered<R> {
    /// What the replicas' answers amount to.
    pub reply: R,
    /// Fewer than r complete replicas could be asked: something acknowledged may be missing.
    pub degraded: bool,
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

    /// A question to all vnodes, whose answers are one list.
    pub fn coverage(&self, question: V::Question) -> Covering<'_, V> {
        Covering::new(self, question)
    }

    /// What requests wait for that do not say it: as configured, or as an operator has set it since.
    pub fn quorum_defaults(&self) -> QuorumDefaults {
        **self.0.quorum.load()
    }

    /// Who answers for a key, as this node knows the ring: `get_preflist(key, n)` of the talk.
    pub fn preflist(&self, key: &[u8], n: usize) -> Preflist {
        self.0.node.ring.load().preflist(V::SERVICE, &KeyHash::of(V::SERVICE, key), n)
    }

    /// Gives a command to every place of a preference list and waits for none: `command(preflist, command)` of the
    /// talk.
    pub fn command(&self, preflist: &Preflist, command: &V::Command) {
        let deadline = self.0.node.clock.moment() + REPLICATE_WITHIN;
        for entry in preflist {
            self.0.ask(entry, entry.into(), &Ask::Run(command), ReplyTo::nobody(), deadline, false);
        }
    }

    /// Gives a command to one place of a preference list and waits for its answer: `sync_command` of the talk. What
    /// the command touched is not sent on. An error says nothing about whether it ran.
    pub async fn sync_command(
        &self,
        entry: &PreflistEntry,
        command: &V::Command,
        within: Duration,
    ) -> Result<V::Reply, ReadFailure> {
        let deadline = self.0.node.clock.moment() + within;
        match self.run_at(entry, entry.into(), command, deadline, false).await {
            Ran::Done { reply, .. } => Ok(reply),
            Ran::Refused(refusal) => Err(ReadFailure::Refused(refusal)),
            Ran::Moved(_) => {
                let why = "the partition has moved; take a new preference list".to_owned();
                Err(ReadFailure::Refused(Refusal::Unavailable(why)))
            }
            Ran::Unknown => Err(ReadFailure::Deadline),
        }
    }

    /// Whether this node has one of the key's n replicas.
    pub fn is_replica(&self, key: &[u8]) -> bool {
        let view = self.0.node.ring.load();
        let list = view.primary_preflist(&KeyHash::of(V::SERVICE, key), self.0.node.quorum.n_val);
        list.iter().any(|entry| entry.node == self.0.node.id)
    }

    /// Hears of changes to a key on this node; none when too many listen.
    pub fn watch(&self, key: &[u8]) -> Option<Watch<V>> {
        self.0.watchers.watch(KeyHash::of(V::SERVICE, key))
    }

    /// Sends items that a vnode changed by itself to all their replicas, and waits for none: what is missed is found
    /// by reads and anti-entropy.
    pub(crate) fn replicate(&self, touched: Vec<V::Item>) {
        let node = &self.0.node;
        let deadline = node.clock.moment() + REPLICATE_WITHIN;
        for item in touched {
            for entry in self.preflist(item.routing_key(), node.quorum.n_val) {
                let reply = ReplyTo::nobody();
                self.0.ask(&entry, (&entry).into(), &Ask::Merge(&item), reply, deadline, false);
            }
        }
    }

    fn not_serving(&self) -> Option<Refusal> {
        let node = &self.0.node;
        if node.is_outside() {
            let why =
                "this node waits to be taken into a cluster; 'ringwork cluster status' says how far it is";
            return Some(Refusal::Unavailable(why.to_owned()));
        }
        node.is_stopping().then_some(Refusal::Stopping)
    }

    /// Where a replica's request goes that was told `moved`: to the holder, as far as anybody knows.
    fn follow(&self, entry: &PreflistEntry, moved: Possession) -> PreflistEntry {
        self.0.node.learn(entry.partition, moved);
        let ours = self.0.node.ring.load().possession(entry.partition);
        let possession = ours.map_or(moved, |ours| ours.max(moved));
        PreflistEntry { partition: entry.partition, node: possession.holder, role: Role::Primary, possession }
    }

    async fn run_at(
        &self,
        entry: &PreflistEntry,
        asked: Asked,
        command: &V::Command,
        deadline: Moment,
        sync: bool,
    ) -> Ran<V> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sink = Arc::new(OneShot(Mutex::new(Some(sender))));
        self.0.ask(entry, asked, &Ask::Run(command), ReplyTo::new(sink, 0), deadline, sync);
        let patience = deadline.saturating_sub(self.0.node.clock.moment());
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(VnodeAnswer::Ran { reply, touched, durable })) => Ran::Done { reply, touched, durable },
            Ok(Ok(VnodeAnswer::Refused(refusal))) => Ran::Refused(refusal),
            Ok(Ok(VnodeAnswer::Moved(possession))) => Ran::Moved(possession),
            _ => Ran::Unknown,
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
        let gather = WriteGather::new(
            self.service,
            quorum,
            preflist,
            vec![item],
            Declining::Ends,
            deadline,
            rules.dw > 0,
        );
        for replica in 0..gather.replicas() {
            gather.send(replica);
        }
        let verdict = self.wait_for(&gather, deadline).await;
        Ok(gather.written(verdict, None, rules.w))
    }

    /// The coordinated write: the command runs at the first complete replica that can run it, else at the first holder
    /// that can, else at the first stand-in, and what it touched goes to the others.
    pub async fn run(&self, command: V::Command) -> Result<Written<V::Reply>, ImpossibleQuorum> {
        let (rules, deadline) = self.begin()?;
        let preflist = self.preflist(&rules);
        let mut quorum = match self.write_quorum(rules, &preflist) {
            Ok(quorum) => quorum,
            Err(refusal) => return Ok(Written::refused(refusal)),
        };
        let sync = rules.dw > 0;
        let mut refusal = Refusal::Replicas { needed: 1, up: 0 };
        let mut left: SmallVec<[bool; 5]> = preflist.iter().map(|_| true).collect();
        for (replica, complete_only) in coordinators(&preflist) {
            let (Some(entry), Some(true)) = (preflist.get(replica), left.get(replica)) else { continue };
            match self.run_following(*entry, complete_only, &command, deadline, sync).await {
                (at, Ran::Done { reply, touched, durable }) => {
                    let mut preflist = preflist.clone();
                    if let Some(place) = preflist.get_mut(replica) {
                        *place = at;
                    }
                    quorum.relocate(replica, at.node, at.role == Role::Primary);
                    let nothing = touched.is_empty();
                    let declining = Declining::IsAsGoodAsDone;
                    let gather =
                        WriteGather::new(self.service, quorum, preflist, touched, declining, deadline, sync);
                    gather.take(replica, Answer::Done { durable }, None);
                    if nothing {
                        return Ok(gather.written(Verdict::Done, Some(reply), rules.w));
                    }
                    for other in (0..gather.replicas()).filter(|other| *other != replica) {
                        gather.send(other);
                    }
                    let verdict = self.wait_for(&gather, deadline).await;
                    return Ok(gather.written(verdict, Some(reply), rules.w));
                }
                (_, Ran::Refused(Refusal::Incomplete)) if complete_only => {}
                (_, Ran::Refused(why)) => {
                    refusal = why;
                    left.iter_mut().skip(replica).take(1).for_each(|left| *left = false);
                }
                (_, Ran::Moved(_)) => {
                    refusal = Refusal::Unavailable("the partition is moving".to_owned());
                }
                (_, Ran::Unknown) => {
                    self.service.0.node.telemetry.requests_unknown.increment();
                    return Ok(Written { verdict: Verdict::Unknown, ..Written::refused(refusal) });
                }
            }
        }
        Ok(Written::refused(refusal))
    }

    async fn run_following(
        &self,
        mut entry: PreflistEntry,
        complete_only: bool,
        command: &V::Command,
        deadline: Moment,
        sync: bool,
    ) -> (PreflistEntry, Ran<V>) {
        let mut followed = 0;
        loop {
            let asked = Asked { complete_only, ..Asked::from(&entry) };
            match self.service.run_at(&entry, asked, command, deadline, sync).await {
                Ran::Moved(possession) if followed < MOVES_FOLLOWED_MAX => {
                    followed += 1;
                    entry = self.service.follow(&entry, possession);
                    if planted(Mutant::ForwardCommand) {
                        let asked = Asked { complete_only, ..Asked::from(&entry) };
                        let _ = self.service.run_at(&entry, asked, command, deadline, sync).await;
                    }
                }
                ran => return (entry, ran),
            }
        }
    }

    /// Reads at r complete replicas, joins what they say, and mends whoever lacked something. Where fewer can be
    /// asked, everybody who may have something is, and the answer is marked.
    pub async fn read(
        &self,
        command: V::Command,
    ) -> Result<Result<Answered<V::Reply>, ReadFailure>, ImpossibleQuorum> {
        let (rules, deadline) = self.begin()?;
        if let Some(refusal) = self.service.not_serving() {
            return Ok(Err(ReadFailure::Refused(refusal)));
        }
        let preflist = self.preflist(&rules);
        let quorum = match ReadQuorum::new(rules, &preflist, self.service.0.node.id) {
            Ok(quorum) => quorum,
            Err(refusal) => return Ok(Err(ReadFailure::Refused(refusal))),
        };
        let gather = ReadGather::new(self.service, quorum, preflist, command, deadline);
        Ok(gather.carry_out().await)
    }

    fn begin(&self) -> Result<(Rules, Moment), ImpossibleQuorum> {
        let node = &self.service.0.node;
        Ok((self.options.resolve(&self.service.0.quorum.load())?, node.clock.moment() + self.within))
    }

    fn preflist(&self, rules: &Rules) -> Preflist {
        let view = self.service.0.node.ring.load();
        if rules.sloppy {
            view.preflist(V::SERVICE, &self.hash, rules.n)
        } else {
            view.strict_preflist(V::SERVICE, &self.hash, rules.n)
        }
    }

    fn write_quorum(&self, rules: Rules, preflist: &Preflist) -> Result<WriteQuorum, Refusal> {
        match self.service.not_serving() {
            Some(refusal) => Err(refusal),
            None => WriteQuorum::new(rules, preflist),
        }
    }

    async fn wait_for(&self, gather: &Arc<WriteGather<V>>, deadline: Moment) -> Verdict {
        let node = &self.service.0.node;
        let patience = deadline.saturating_sub(node.clock.moment());
        let verdict = match tokio::time::timeout(patience, gather.verdict()).await {
            Ok(verdict) => verdict,
            Err(_) => gather.deadline(),
        };
        if verdict == Verdict::Unknown {
            node.telemetry.requests_unknown.increment();
        }
        verdict
    }
}

enum Ran<V: Vnode> {
    Done { reply: V::Reply, touched: Vec<V::Item>, durable: bool },
    Moved(Possession),
    Refused(Refusal),
    Unknown,
}

impl<R> Written<R> {
    fn refused(refusal: Refusal) -> Self {
        let verdict = Verdict::Refused(refusal);
        Self { verdict, declined: None, reply: None, acks: 0, nodes: Vec::new(), alone: false }
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
