//! A request to a vnode on another node, as bytes: its head says to whom and as what, the rest is the module's. It
//! decides the layout and what becomes of bytes that are none. How they travel is the network's.

mod listing;

use crate::antientropy::answering;
use crate::families::VERSION;
use crate::messages::{Asked, ReplyTo, Request, Sink, Task, VnodeAnswer};
use crate::net::Responder;
use crate::service_core::ServiceCore;
use crate::time::Moment;
use ringwork_core::antientropy::exchange::{Answer, Question};
use ringwork_core::antientropy::survey::{TreeOf, TreeTold, is_lawful};
use ringwork_core::ids::Partition;
use ringwork_core::membership::Possession;
use ringwork_core::preflist::Role;
use ringwork_core::quorum::Refusal;
use ringwork_core::vnode::{Merged, Vnode};
use ringwork_core::wire::{Wire, WireError, codec};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use listing::{PageHead, decode_page_head, refuse_page};

/// What a vnode is asked to do, not yet or no longer in a [`Task`] of its own.
pub(crate) enum Ask<'a, V: Vnode> {
    /// See [`Task::Read`].
    Read(&'a V::Command),
    /// See [`Task::Run`].
    Run(&'a V::Command),
    /// See [`Task::Merge`].
    Merge(&'a V::Item),
}

impl<V: Vnode> Ask<'_, V> {
    pub(crate) fn to_task(&self) -> Task<V> {
        match self {
            Self::Read(command) => Task::Read((*command).clone()),
            Self::Run(command) => Task::Run((*command).clone()),
            Self::Merge(item) => Task::Merge((*item).clone()),
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum TaskKind {
    Read,
    Run,
    Merge,
}

#[derive(Serialize)]
struct HeadRef<'a> {
    service: &'a str,
    payload_version: u16,
    partition: Partition,
    role: Role,
    possession: Possession,
    complete_only: bool,
    sync: bool,
    kind: TaskKind,
}

/// To whom a request is, and as what.
#[derive(Deserialize)]
pub(crate) struct RequestHead {
    pub(crate) service: String,
    payload_version: u16,
    partition: Partition,
    role: Role,
    possession: Possession,
    complete_only: bool,
    sync: bool,
    kind: TaskKind,
}

/// Appends a request's bytes.
pub(crate) fn encode_request<V: Vnode>(
    partition: Partition,
    asked: Asked,
    ask: &Ask<'_, V>,
    sync: bool,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let (kind, payload_version) = match ask {
        Ask::Read(_) => (TaskKind::Read, V::Command::VERSION),
        Ask::Run(_) => (TaskKind::Run, V::Command::VERSION),
        Ask::Merge(_) => (TaskKind::Merge, V::Item::VERSION),
    };
    let Asked { role, possession, complete_only } = asked;
    let head = HeadRef {
        service: V::SERVICE,
        payload_version,
        partition,
        role,
        possession,
        complete_only,
        sync,
        kind,
    };
    codec::encode_into(&head, out)?;
    match ask {
        Ask::Read(command) | Ask::Run(command) => codec::encode_into(*command, out),
        Ask::Merge(item) => codec::encode_into(*item, out),
    }
}

/// Reads a request's head; the rest is for the service that it names.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<(RequestHead, &[u8]), WireError> {
    let (head, length) = codec::decode_front(bytes)?;
    Ok((head, bytes.get(length..).unwrap_or_default()))
}

/// A [`VnodeAnswer`] as it travels.
#[derive(Serialize, Deserialize)]
enum Told<R, I> {
    Reply { reply: R, complete: bool },
    Ran { reply: R, touched: Vec<I>, durable: bool },
    Merged { merged: Merged, durable: bool },
    Moved(Possession),
    Refused(Refusal),
    Failed(String),
}

/// Reads an answer; bytes that are none count as "it may have been done".
pub(crate) fn decode_answer<V: Vnode>(bytes: &[u8]) -> VnodeAnswer<V> {
    match codec::decode::<Told<V::Reply, V::Item>>(bytes) {
        Ok(Told::Reply { reply, complete }) => VnodeAnswer::Reply { reply, complete },
        Ok(Told::Ran { reply, touched, durable }) => VnodeAnswer::Ran { reply, touched, durable },
        Ok(Told::Merged { merged, durable }) => VnodeAnswer::Merged { merged, durable },
        Ok(Told::Moved(possession)) => VnodeAnswer::Moved(possession),
        Ok(Told::Refused(refusal)) => VnodeAnswer::Refused(refusal),
        Ok(Told::Failed(why)) => VnodeAnswer::Failed(why),
        Err(error) => VnodeAnswer::Failed(format!("its answer cannot be read: {error}")),
    }
}

/// Sends the answer back over the connection that the request came by.
struct RemoteSink(Mutex<Option<Responder>>);

impl<V: Vnode> Sink<V> for RemoteSink {
    fn answer(&self, _: usize, answer: VnodeAnswer<V>) {
        let Some(respond) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let told = match answer {
            VnodeAnswer::Reply { reply, complete } => Told::Reply { reply, complete },
            VnodeAnswer::Ran { reply, touched, durable } => Told::Ran { reply, touched, durable },
            VnodeAnswer::Merged { merged, durable } => Told::<V::Reply, V::Item>::Merged { merged, durable },
            VnodeAnswer::Moved(possession) => Told::Moved(possession),
            VnodeAnswer::Refused(refusal) => Told::Refused(refusal),
            VnodeAnswer::Failed(why) => Told::Failed(why),
            VnodeAnswer::Page(_) => Told::Failed("the vnode answered something else".to_owned()),
        };
        // A connection that is full or gone: the asker's deadline ends the wait, and it knows nothing.
        let _ = respond.reply(VERSION, |out| codec::encode_into(&told, out));
    }
}

/// A question of an exchange, and to whom.
#[derive(Serialize, Deserialize)]
pub(crate) struct TreesAsked {
    pub(crate) service: String,
    /// How the asker's fingerprints come about.
    pub(crate) layout: u32,
    pub(crate) partition: Partition,
    pub(crate) group: Partition,
    pub(crate) question: Question,
}

/// A look at many roots at once, and at which.
#[derive(Serialize, Deserialize)]
pub(crate) struct RootsAsked {
    pub(crate) service: String,
    /// How the asker's fingerprints come about.
    pub(crate) layout: u32,
    pub(crate) trees: Vec<TreeOf>,
}

/// A service without its type, as requests from other nodes find it.
pub(crate) trait HostedRemote: Send + Sync {
    /// Serves one request; bytes that are none of the module's are refused.
    fn serve(&self, head: RequestHead, payload: &[u8], deadline: Moment, respond: Responder);
    /// Serves one page of a listing; the same.
    fn serve_page(&self, head: PageHead, payload: &[u8], deadline: Moment, respond: Responder);
    /// Answers a question of an exchange; one that is out of bounds costs its answer.
    fn compare(&self, asked: TreesAsked, respond: Responder);
    /// Says the roots of trees; a question that is out of bounds costs its answer.
    fn roots(&self, asked: RootsAsked, respond: Responder);
}

/// Tells the asker that nothing was done.
pub(crate) fn refuse(respond: Responder, why: impl Into<String>) {
    let told: Told<(), ()> = Told::Refused(Refusal::Unavailable(why.into()));
    let _ = respond.reply(VERSION, |out| codec::encode_into(&told, out));
}

impl<V: Vnode> HostedRemote for Arc<ServiceCore<V>> {
    fn serve(&self, head: RequestHead, payload: &[u8], deadline: Moment, respond: Responder) {
        let task = match read_task::<V>(&head, payload) {
            Ok(task) => task,
            Err(error) => {
                self.node.telemetry.requests_unreadable.increment();
                return refuse(respond, format!("the request cannot be read: {error}"));
            }
        };
        let RequestHead { partition, role, possession, complete_only, sync, .. } = head;
        let reply = ReplyTo::new(Arc::new(RemoteSink(Mutex::new(Some(respond)))), 0);
        let asked = Asked { role, possession, complete_only };
        self.post(partition, Request { asked, task, reply, deadline, sync });
    }

    fn serve_page(&self, head: PageHead, payload: &[u8], deadline: Moment, respond: Responder) {
        self.serve_page_of(head, payload, deadline, respond);
    }

    fn compare(&self, asked: TreesAsked, respond: Responder) {
        let size = self.node.ring.load().size();
        let TreesAsked { layout, partition, group, question, .. } = asked;
        if !size.contains(partition) || !size.contains(group) || !question.is_lawful(size) {
            self.node.telemetry.requests_unreadable.increment();
            return;
        }
        let service = self.clone();
        actix_rt::spawn(async move {
            let answer: Result<Answer, String> = if layout == answering::layout::<V>() {
                answering::answer(service, partition, group, question).await
            } else {
                Err(laid_out_differently::<V>())
            };
            let _ = respond.reply(VERSION, |out| codec::encode_into(&answer, out));
        });
    }

    fn roots(&self, asked: RootsAsked, respond: Responder) {
        let RootsAsked { layout, trees, .. } = asked;
        if !is_lawful(&trees, self.node.ring.load().size()) {
            self.node.telemetry.requests_unreadable.increment();
            return;
        }
        let service = self.clone();
        actix_rt::spawn(async move {
            let told: Result<Vec<TreeTold>, String> = if layout == answering::layout::<V>() {
                Ok(answering::roots(service, trees).await)
            } else {
                Err(laid_out_differently::<V>())
            };
            let _ = respond.reply(VERSION, |out| codec::encode_into(&told, out));
        });
    }
}

fn laid_out_differently<V: Vnode>() -> String {
    format!("items of {} are laid out differently there and here", V::SERVICE)
}

fn read_task<V: Vnode>(head: &RequestHead, payload: &[u8]) -> Result<Task<V>, WireError> {
    let known = match head.kind {
        TaskKind::Read | TaskKind::Run => V::Command::VERSION,
        TaskKind::Merge => V::Item::VERSION,
    };
    if head.payload_version != known {
        return Err(WireError::Version(head.payload_version));
    }
    Ok(match head.kind {
        TaskKind::Read => Task::Read(codec::decode(payload)?),
        TaskKind::Run => Task::Run(codec::decode(payload)?),
        TaskKind::Merge => Task::Merge(codec::decode(payload)?),
    })
}
