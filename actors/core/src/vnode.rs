//! The contract between a module and the runtime. A module is a small state machine over keyed items that
//! merge; whoever fulfils [`Vnode`] gets partitioning, replication, durability and repair from the runtime. It
//! decides what a module may do in a turn; it does not know actors, threads or the network.
//!
//! One idea carries it: *an item arrives, the vnode merges it*. Because join is commutative, associative and
//! idempotent, an item that arrives zero, one or five times, in any order and over any path, leaves the same
//! state. [`crate::testing::check_laws`] checks a module against every sentence of this page.

use crate::clock::dotted::CausalContext;
use crate::clock::hybrid::{HybridTime, Stamp};
use crate::coverage::question::Question;
use crate::ids::{Dot, Partition};
use crate::keyspace::{Keyspace, Snapshot};
use crate::limits::TURN_ITEMS_MAX;
use crate::ring::{KeyHash, RingSize};
use crate::store::{Flow, KeyRange, StoreError};
use crate::wire::Wire;
use std::fmt::Debug;
use std::time::Duration;

/// The unit of replication, handoff and repair.
pub trait Item: Wire + Clone + PartialEq + Debug {
    /// What is hashed to find the partition: a chat's user, a kv's bucket and key. At most
    /// [`crate::limits::ROUTING_KEY_BYTES_MAX`] bytes.
    fn routing_key(&self) -> &[u8];

    /// Which item this is within its vnode. Two items with one key can be joined; with two keys they never
    /// meet. Folds run in the order of these keys. By default the routing key: one item for each.
    fn key(&self) -> Vec<u8> {
        self.routing_key().to_vec()
    }

    /// Bytes that it takes, about, where there can be many: whoever goes through items rests by it. 0 where items are
    /// small and their number says enough.
    fn bytes_about(&self) -> usize {
        0
    }

    /// The least state that contains both. Commutative, associative, idempotent. Called only with an item of
    /// the same key.
    fn join(self, other: Self) -> Self;
}

/// What merging an item did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Merged {
    /// The state grew.
    Changed,
    /// The state contained the item already.
    Unchanged,
    /// The state dominates the item by another one (a delete mark above it): what the item says is not to be
    /// seen here, now or later. Nothing was changed.
    Absorbed,
    /// The item claims an identity that has other content here. The join has kept one of the two, the same
    /// on every replica; the sender made a mistake and should be told.
    Conflicting,
}

/// How a turn ends that did not fail.
pub enum Outcome<V: Vnode> {
    /// With an answer.
    Reply(V::Reply),
    /// The answer takes longer than a turn may: this runs on the worker pool, over the state as the turn
    /// leaves it.
    Offload(Work<V>),
    /// Without an answer: a command that the vnode gave itself.
    Nothing,
}

/// What a fold calls for each item.
pub type VisitItem<'a, I> = &'a mut dyn FnMut(I) -> Flow;

/// Work for the worker pool.
pub type Work<V> = Box<dyn FnOnce(&Snapshot) -> Result<After<V>, <V as Vnode>::Error> + Send>;

/// What follows from work on the pool.
pub enum After<V: Vnode> {
    /// The answer of the command that offloaded it.
    Reply(V::Reply),
    /// A further command to the same vnode, whose outcome is the answer.
    Command(V::Command),
}

/// What the replicas' answers to a read amount to.
pub struct Resolution<V: Vnode> {
    /// The joined answer.
    pub reply: V::Reply,
    /// What each replica lacked, by its place in the slice of replies.
    pub repairs: Vec<(usize, V::Item)>,
}

impl<I: Item, V: Vnode<Item = I, Reply = Option<I>>> Resolution<V> {
    /// Of replies that are the item each replica has of one key: their join, which is sent to those who have less. None
    /// where nobody replied.
    pub fn joined(replies: &[Option<I>]) -> Option<Self> {
        if replies.is_empty() {
            return None;
        }
        let joined = replies.iter().flatten().cloned().reduce(I::join);
        let lacks = |(place, reply): (usize, &Option<I>)| {
            let less = reply.as_ref() != joined.as_ref();
            joined.clone().filter(|_| less).map(|item| (place, item))
        };
        let repairs = replies.iter().enumerate().filter_map(lacks).collect();
        Some(Self { reply: joined, repairs })
    }
}

/// A module: one value of this type serves one partition on one node.
///
/// Methods that return an error must leave the value in memory as it was; what they staged in the keyspace
/// is dropped by the runtime. A panic costs this vnode its life, and the next request starts it again from
/// its store.
pub trait Vnode: Sized + Send + Unpin + 'static {
    /// The service's name: lower-case letters and digits, at most
    /// [`crate::limits::SERVICE_NAME_BYTES_MAX`] bytes. Part of every key's hash and of keyspace names on
    /// disk, so it is chosen once.
    const SERVICE: &'static str;
    /// What the operator may set.
    type Config: Clone + Send + Sync + 'static;
    /// Everything it can be asked: one closed enum.
    type Command: Wire + Clone;
    /// Everything it answers.
    type Reply: Wire + Clone;
    /// What it keeps.
    type Item: Item;
    /// What can be listed of all that it keeps; [`crate::coverage::question::NoQuestion`] where that is nothing.
    type Question: Question<Self>;
    /// Why it could not; `From<StoreError>` carries the store's reasons.
    type Error: std::error::Error + From<StoreError> + Send + Sync + 'static;

    /// Opens the vnode of `partition` over its keyspace, empty or as an earlier life left it. Runs off the
    /// arbiters; may read.
    fn init(partition: Partition, config: &Self::Config, store: Keyspace) -> Result<Self, Self::Error>;

    /// Runs one command. Microseconds: no blocking, no long scan (see [`Outcome::Offload`]).
    fn handle_command(
        &mut self,
        command: Self::Command,
        turn: &mut Turn<'_, Self>,
    ) -> Result<Outcome<Self>, Self::Error>;

    /// Takes in an item from another replica, a handoff, a repair, or a coordinator that made it.
    fn merge(&mut self, item: Self::Item) -> Result<Merged, Self::Error>;

    /// Visits every item whose key lies in `range`, in key order, each as it is after all joins. Runs on a
    /// snapshot, away from the vnode, so it has no `self`.
    ///
    /// A row that cannot be read is an error, and what asked for the fold goes no further; a transfer leaves the
    /// partition where it is. A module that mints no dots may skip the row instead, and tells
    /// [`Snapshot::skipped_unreadable`]: what is skipped is not handed on, and other replicas have it.
    fn fold(
        snapshot: &Snapshot,
        range: &KeyRange,
        visit: VisitItem<'_, Self::Item>,
    ) -> Result<(), Self::Error>;

    /// Whether there is nothing to hand off.
    fn is_empty(&self) -> Result<bool, Self::Error>;

    /// Forgets everything, in memory and in the keyspace.
    fn delete(&mut self) -> Result<(), Self::Error>;

    /// Called in the first turn after `init`: the place to schedule what recurs.
    fn started(&mut self, turn: &mut Turn<'_, Self>) -> Result<(), Self::Error> {
        let _ = turn;
        Ok(())
    }

    /// Whether the vnodes of a node have work of their own (expiry) and so are to run without being asked.
    fn starts_early(config: &Self::Config) -> bool {
        let _ = config;
        false
    }

    /// Joins the replicas' answers to a read. `replies` is never empty. The default takes the first answer,
    /// which is right only for commands that no two replicas can answer differently.
    fn resolve(command: &Self::Command, replies: &[Self::Reply]) -> Option<Resolution<Self>> {
        let _ = command;
        replies.first().map(|reply| Resolution { reply: reply.clone(), repairs: Vec::new() })
    }

    /// The feature that every member must have before glances are asked for; none where every release that has the
    /// module answers them.
    const GLANCE_FEATURE: Option<&'static str> = None;

    /// What all replicas of a read but one are asked in place of `command`, where the answer is large and replicas
    /// mostly agree: a command whose answer says what a replica has without having it along. None: all are asked
    /// `command`. Where there is a glance, [`Vnode::resolve`] gets answers of both kinds, and [`Vnode::unseen`] says
    /// whether they are enough. Riak's reads since 3.0 (clocks from all, the body from one), Cassandra's digests.
    fn glance(command: &Self::Command) -> Option<Self::Command> {
        let _ = command;
        None
    }

    /// Which of these answers are to glances and show more than all the whole answers have: who gave them is asked
    /// `command` itself. As few as will do. Empty: [`Vnode::resolve`] can tell what the replicas have.
    fn unseen(command: &Self::Command, replies: &[Self::Reply]) -> Vec<usize> {
        let _ = (command, replies);
        Vec::new()
    }

    /// Called when the vnode stops in peace; the last thing it sees.
    fn terminate(&mut self) {}
}

/// What a turn needs of its host and cannot compute: unique times and dots.
pub trait Host {
    /// A time later than `above` and than every time this node has given or seen. A time that lies too far
    /// ahead to be believed does not move the clock; the stamp then is merely unique.
    fn stamp_above(&mut self, above: HybridTime) -> Stamp;
    /// The vnode's next event, under its incarnation's actor id. As durable as the turn's reply, before that leaves.
    fn dot(&mut self) -> Dot;
    /// Has the vnode count as a new actor from now on. Says whether that could be done.
    fn renew_actor(&mut self) -> bool {
        false
    }
}

/// One uninterrupted run of a command at one vnode: what it may ask for, and what it leaves behind.
pub struct Turn<'a, V: Vnode> {
    host: &'a mut dyn Host,
    place: TurnPlace,
    effects: TurnEffects<V>,
}

/// Where and when a turn runs.
#[derive(Clone, Copy, Debug)]
pub struct TurnPlace {
    /// Wall clock, milliseconds since 1970.
    pub now_ms: u64,
    /// The vnode's partition.
    pub partition: Partition,
    /// Of the ring.
    pub ring_size: RingSize,
}

impl TurnPlace {
    /// Whether this partition is the first of the key's preference list in the service: the one that acts
    /// alone where all replicas must not (expiry).
    pub fn is_first_for(&self, service: &str, routing_key: &[u8]) -> bool {
        self.ring_size.partition_of(&KeyHash::of(service, routing_key)) == self.partition
    }
}

/// What a turn leaves for the runtime to carry out.
pub struct TurnEffects<V: Vnode> {
    /// Items to send to the other replicas.
    pub touched: Vec<V::Item>,
    /// Commands to give to this vnode later.
    pub later: Vec<(Duration, V::Command)>,
}

impl<V: Vnode> Default for TurnEffects<V> {
    fn default() -> Self {
        Self { touched: Vec::new(), later: Vec::new() }
    }
}

impl<'a, V: Vnode> Turn<'a, V> {
    /// A turn that begins.
    pub fn new(host: &'a mut dyn Host, place: TurnPlace) -> Self {
        Self { host, place, effects: TurnEffects::default() }
    }

    /// What it leaves behind.
    pub fn finish(self) -> TurnEffects<V> {
        self.effects
    }

    /// The wall clock at the turn's begin, milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.place.now_ms
    }

    /// The vnode's partition.
    pub fn partition(&self) -> Partition {
        self.place.partition
    }

    /// Where and when the turn runs; can be carried into offloaded work.
    pub fn place(&self) -> TurnPlace {
        self.place
    }

    /// See [`Host::stamp_above`].
    pub fn stamp_above(&mut self, above: HybridTime) -> Stamp {
        self.host.stamp_above(above)
    }

    /// See [`Host::dot`].
    pub fn dot(&mut self) -> Dot {
        self.host.dot()
    }

    /// The vnode's next event, which whoever has seen `seen` has not. If that has seen more of this vnode's events
    /// than the vnode has counted, its store has gone back in time, and what it would count now names other writes
    /// already (riak_kv#679): it then takes a new actor id. A set of [`crate::clock::dotted`] that is written to
    /// should be asked like this, with its own context.
    pub fn dot_unseen_by(&mut self, seen: &CausalContext) -> Dot {
        let dot = self.host.dot();
        if seen.contains(dot) && self.host.renew_actor() { self.host.dot() } else { dot }
    }

    /// Says that the turn changed this item; the runtime sends it to the other replicas. False when the turn
    /// has touched as many as a turn may: do the rest in a later command.
    #[must_use]
    pub fn touched(&mut self, item: V::Item) -> bool {
        if self.effects.touched.len() >= TURN_ITEMS_MAX {
            return false;
        }
        self.effects.touched.push(item);
        true
    }

    /// Gives this vnode a command after `delay`, unless it stops before.
    pub fn later(&mut self, delay: Duration, command: V::Command) {
        self.effects.later.push((delay, command));
    }
}
