//! The object store as a program calls it: get, put, delete, lists. It decides the order of the steps of a request
//! (when replicas are read before one of them writes) and what their outcome means. What an object is, what a write
//! leaves, and which quorums are asked for, the [module](ringwork_kv) decides; HTTP is somebody else's, on top of
//! this.
//!
//! ```
//! use ringwork::kv::{BucketProps, Content, KvConfig, KvStore, Kv, ObjectName, PutRequest, Request};
//! use ringwork::runtime::{node::Node, spawner::Placement};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! actix_rt::System::new().block_on(async {
//!     let options = ringwork::server::trial_options(Placement::Here);
//!     let node = Node::builder(options).service::<Kv>(KvConfig::default()).start().await?;
//!     let store = KvStore::new(node.service::<Kv>().ok_or("kv is not hosted")?);
//!
//!     let name = ObjectName::new("default", b"fruit", b"apple")?;
//!     let props = store.bucket_props("default", b"fruit")?;
//!     let put = PutRequest::of(Content::of("red"));
//!     store.put(&Request::new(&name, &props), put).await?;
//!     let got = store.get(&Request::new(&name, &props)).await?;
//!     assert_eq!(&*got.object.siblings().next().ok_or("nothing")?.content.value, b"red");
//!     node.stop(std::time::Duration::from_secs(5)).await?;
//!     Ok(())
//! })
//! # }
//! ```

mod buckets;
mod lists;

pub use buckets::{AskedProps, ChangeFailure};
pub use lists::{Buckets, BucketsFailure, Keys};

use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::ids::NodeId;
use ringwork_core::quorum::{ImpossibleQuorum, QuorumOptions, Refusal, Verdict};
use ringwork_runtime::coordinator::{Answered, ReadFailure, Service, Written};
use ringwork_runtime::time::Moment;
use std::time::Duration;

pub use ringwork_kv::*;

/// Time for a request that does not say otherwise: Riak's.
pub const WITHIN_DEFAULT: Duration = Duration::from_secs(60);

/// The call site of the object store. Cheap to clone.
#[derive(Clone)]
pub struct KvStore {
    calls: Service<Kv>,
}

/// What all requests for one object have.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which object.
    pub name: &'a ObjectName,
    /// Its bucket's properties: [`KvStore::bucket_props`].
    pub props: &'a BucketProps,
    /// What the request says itself.
    pub quorums: Quorums,
    /// Ends after this time, done or not.
    pub within: Duration,
}

impl<'a> Request<'a> {
    /// A request that leaves everything to the bucket.
    pub fn new(name: &'a ObjectName, props: &'a BucketProps) -> Self {
        Self { name, props, quorums: Quorums::default(), within: WITHIN_DEFAULT }
    }
}

/// A write, apart from where it goes.
#[derive(Clone, Debug, Default)]
pub struct PutRequest {
    /// The value.
    pub content: Content,
    /// What the writer had seen; empty: nothing, and nothing is replaced in a bucket that keeps siblings.
    pub seen: CausalContext,
    /// What must be true.
    pub conditions: Conditions,
    /// Whether the answer is to have the object.
    pub return_object: bool,
}

impl PutRequest {
    /// A write by somebody who has seen nothing, without conditions.
    pub fn of(content: Content) -> Self {
        Self { content, ..Self::default() }
    }
}

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// The object as the bucket shows it: one value where it keeps no siblings. Without any value where there is
    /// none; a dead one ([`Object::is_dead`]) has tombstones at most. Its context is the one to write under.
    pub object: Object,
    /// Fewer complete replicas than asked for could answer: something acknowledged may be missing.
    pub degraded: bool,
}

/// What was read without the values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outlined {
    /// What is said of the values that the bucket shows. Its context is the one to write under.
    pub outline: Outline,
    /// See [`Got::degraded`].
    pub degraded: bool,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutDone {
    /// What the coordinating vnode says.
    pub stored: Stored,
    /// Replicas that had confirmed when the answer left.
    pub acks: usize,
    /// On which nodes, each once.
    pub nodes: Vec<NodeId>,
    /// Several copies were wanted, and one node has all there are.
    pub alone: bool,
}

/// What a delete found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deleted {
    /// There was something, and it is deleted.
    Done {
        /// See [`PutDone::alone`].
        alone: bool,
    },
    /// There was nothing. Nothing was done.
    NotFound,
}

/// How a request ended that was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvFailure {
    /// The client sent what cannot be. Nothing was done.
    #[error(transparent)]
    Input(#[from] KvInputError),
    /// It asks for what cannot be. Nothing was sent.
    #[error(transparent)]
    Quorum(#[from] ImpossibleQuorum),
    /// The object's state or a bound speaks against it. Nothing was written.
    #[error(transparent)]
    Declined(PutRefusal),
    /// Replicas could not be asked. Nothing was written.
    #[error("{0}")]
    Refused(Refusal),
    /// The time was over before enough replicas had answered a read. Nothing was written.
    #[error("too few replicas answered in time")]
    Deadline,
    /// The write may have been done, or may yet be.
    #[error("{acks} replicas confirmed, fewer than were asked for; the write may be there, or come to be")]
    Unknown {
        /// How many confirmed.
        acks: usize,
    },
}

impl From<ReadFailure> for KvFailure {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Refused(refusal) => Self::Refused(refusal),
            ReadFailure::Deadline => Self::Deadline,
        }
    }
}

/// What was read is not certain to be all there is, and the request was to be carried out only if it is.
fn uncertain() -> KvFailure {
    let why = "too few complete replicas could be asked, so what is there is not certain";
    KvFailure::Refused(Refusal::Unavailable(why.to_owned()))
}

/// Another module's answer: impossible among members of one release.
fn strange() -> KvFailure {
    KvFailure::Refused(Refusal::Unavailable("a replica answered something else".to_owned()))
}

impl KvStore {
    /// Over the typed call site of the module.
    pub fn new(calls: Service<Kv>) -> Self {
        Self { calls }
    }

    /// The typed call site.
    pub fn calls(&self) -> &Service<Kv> {
        &self.calls
    }

    /// The properties of a bucket, as this node knows them; refused where the type is not in use.
    pub fn bucket_props(&self, bucket_type: &str, bucket: &[u8]) -> Result<BucketProps, DirectoryError> {
        let node = &self.calls.core().node;
        directory::bucket_props(&node.metadata.current(), bucket_type, bucket, self.calls.quorum_defaults())
    }

    fn ends(&self, within: Duration) -> Moment {
        self.calls.core().node.clock.moment() + within
    }

    fn left(&self, ends: Moment) -> Duration {
        ends.saturating_sub(self.calls.core().node.clock.moment())
    }

    async fn read(
        &self,
        name: &ObjectName,
        command: KvCommand,
        options: QuorumOptions,
        ends: Moment,
    ) -> Result<Answered<KvReply>, KvFailure> {
        let key = self.calls.key(name.bytes()).quorum(options).within(self.left(ends));
        Ok(key.read(command).await??)
    }

    async fn read_object(
        &self,
        name: &ObjectName,
        options: QuorumOptions,
        ends: Moment,
    ) -> Result<(Object, bool), KvFailure> {
        let Answered { reply, degraded } =
            self.read(name, KvCommand::Get(name.clone()), options, ends).await?;
        match reply {
            KvReply::Object(item) => Ok((item.map(|item| item.object).unwrap_or_default(), degraded)),
            _ => Err(strange()),
        }
    }

    /// What a quorum has, where what depends on it must not be a guess.
    async fn read_for_certain(
        &self,
        name: &ObjectName,
        options: QuorumOptions,
        ends: Moment,
    ) -> Result<Object, KvFailure> {
        match self.read_object(name, options, ends).await? {
            (object, false) => Ok(object),
            (_, true) => Err(uncertain()),
        }
    }

    /// Reads an object, and mends replicas that have less of it than others.
    pub async fn get(&self, request: &Request<'_>) -> Result<Got, KvFailure> {
        let ends = self.ends(request.within);
        let (quorums, conflicts) = (request.quorums.read(request.props)?, request.props.conflicts());
        let (mut object, mut degraded) = self.read_object(request.name, quorums.first, ends).await?;
        if let Some(again) = quorums.before_not_found.filter(|_| object.is_dead_in(conflicts)) {
            (object, degraded) = self.read_object(request.name, again, ends).await?;
        }
        Ok(Got { object: object.shown(conflicts), degraded })
    }

    /// Reads what is said of an object's values, without these.
    pub async fn head(&self, request: &Request<'_>) -> Result<Outlined, KvFailure> {
        self.look(request, request.quorums.read(request.props)?, self.ends(request.within)).await
    }

    async fn look(
        &self,
        request: &Request<'_>,
        quorums: ReadQuorums,
        ends: Moment,
    ) -> Result<Outlined, KvFailure> {
        let conflicts = request.props.conflicts();
        let mut found = self.outline(request.name, quorums.first, ends).await?;
        if let Some(again) = quorums.before_not_found.filter(|_| found.outline.is_dead_in(conflicts)) {
            found = self.outline(request.name, again, ends).await?;
        }
        Ok(Outlined { outline: found.outline.shown(conflicts), ..found })
    }

    async fn outline(
        &self,
        name: &ObjectName,
        options: QuorumOptions,
        ends: Moment,
    ) -> Result<Outlined, KvFailure> {
        let Answered { reply, degraded } =
            self.read(name, KvCommand::Head(name.clone()), options, ends).await?;
        match reply {
            KvReply::Outline(outline) => Ok(Outlined { outline: outline.unwrap_or_default(), degraded }),
            _ => Err(strange()),
        }
    }

    /// Writes a value. Conditions are judged by the vnode that coordinates the write, over what it has joined with
    /// what a read quorum has, as the bucket shows it. Where too few complete replicas can be asked to know that, a
    /// write that depends on it is refused.
    pub async fn put(&self, request: &Request<'_>, put: PutRequest) -> Result<PutDone, KvFailure> {
        let ends = self.ends(request.within);
        let options = request.quorums.write(request.props)?;
        put.content.check()?;
        put.conditions.check()?;
        self.write(request, put, options, ends).await
    }

    async fn write(
        &self,
        request: &Request<'_>,
        put: PutRequest,
        options: QuorumOptions,
        ends: Moment,
    ) -> Result<PutDone, KvFailure> {
        let PutRequest { content, seen, conditions, return_object } = put;
        let name = request.name;
        let before = request.quorums.read(request.props)?.first;
        let rules = request.props.put_rules();
        // Also where the first value counts: the vnode that writes may have missed it.
        let judges = conditions.any() || (rules.conflicts == Conflicts::First && !content.deleted);
        let read = if judges { Some(self.read_for_certain(name, before, ends).await?) } else { None };
        let mut command = Put { name: name.clone(), content, seen, read, conditions, rules, return_object };
        loop {
            let had_read = command.read.is_some();
            let key = self.calls.key(name.bytes()).quorum(options).within(self.left(ends));
            let written = key.run(KvCommand::Put(Box::new(command.clone()))).await?;
            match outcome(written)? {
                Some(done) => return Ok(done),
                None if had_read => return Err(strange()),
                // The writer has seen more than the vnode: what it has seen comes along. Where that is not certain to
                // be all, what was missed stays beside what is written; nothing is lost.
                None => command.read = Some(self.read_object(name, before, ends).await?.0),
            }
        }
    }

    /// Adds to a counter of Riak 1.4, which the bucket must keep siblings for; negative: takes away. The answer has the
    /// object as the coordinating vnode has it then. What is answered with [`KvFailure::Unknown`] may count, and counts
    /// once more when it is sent again.
    pub async fn count(&self, request: &Request<'_>, amount: i64) -> Result<PutDone, KvFailure> {
        let options = request.quorums.write(request.props)?;
        let key = self.calls.key(request.name.bytes()).quorum(options).within(request.within);
        outcome(key.run(KvCommand::Count(request.name.clone(), amount)).await?)?.ok_or_else(strange)
    }

    /// Deletes an object: writes a tombstone over what `seen` has seen, or, without one, over what a read finds; in a
    /// bucket that keeps one value, over both. Conditions are judged as those of a write, where there is anything to
    /// delete. Refused where too few complete replicas can be asked to know that there is nothing, or, without `seen`,
    /// that there is nothing else.
    pub async fn delete(
        &self,
        request: &Request<'_>,
        seen: Option<CausalContext>,
        conditions: Conditions,
    ) -> Result<Deleted, KvFailure> {
        conditions.check()?;
        let ends = self.ends(request.within);
        let (read, options) = request.quorums.delete(request.props)?;
        let Outlined { outline, degraded } = self.look(request, read, ends).await?;
        if degraded && (outline.is_dead() || seen.is_none()) {
            return Err(uncertain());
        }
        if outline.is_dead() {
            return Ok(Deleted::NotFound);
        }
        let mut covers = seen.unwrap_or_else(|| outline.context());
        if request.props.conflicts() != Conflicts::Siblings {
            // Nothing is shown beside the tombstone, so nothing is to lie beside it.
            covers.merge(&outline.context());
        }
        let put = PutRequest { seen: covers, conditions, ..PutRequest::of(Content::tombstone()) };
        self.write(request, put, options, ends).await.map(|done| Deleted::Done { alone: done.alone })
    }
}

/// What a coordinated write came to; none where the vnode is behind what its writer has seen.
fn outcome(written: Written<KvReply>) -> Result<Option<PutDone>, KvFailure> {
    let Written { verdict, reply, acks, nodes, alone, .. } = written;
    let reply = match reply {
        Some(KvReply::Put(reply)) => Some(reply),
        Some(_) => return Err(strange()),
        None => None,
    };
    match (verdict, reply) {
        (_, Some(PutReply::Behind)) => Ok(None),
        (_, Some(PutReply::Refused(refusal))) => Err(KvFailure::Declined(refusal)),
        (Verdict::Done, Some(PutReply::Stored(stored))) => Ok(Some(PutDone { stored, acks, nodes, alone })),
        (Verdict::Refused(refusal), None) => Err(KvFailure::Refused(refusal)),
        _ => Err(KvFailure::Unknown { acks }),
    }
}

#[cfg(test)]
mod tests;
