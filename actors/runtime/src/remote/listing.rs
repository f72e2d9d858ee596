//! A page of a listing that is asked of another node's vnode, as bytes. It decides the layout, and refuses what asks
//! for more than a page.

use crate::families::{self, VERSION};
use crate::messages::{Asked, PageAsk, ReplyTo, Request, Sink, Task, VnodeAnswer};
use crate::net::{Channel, Responder};
use crate::service_core::ServiceCore;
use crate::time::Moment;
use ringwork_core::coverage::page::{Page, PageBounds};
use ringwork_core::coverage::question::Question;
use ringwork_core::ids::Partition;
use ringwork_core::membership::Possession;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::{PreflistEntry, Role};
use ringwork_core::quorum::Refusal;
use ringwork_core::vnode::Vnode;
use ringwork_core::wire::{Wire, WireError, codec};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

type RowOf<V> = <<V as Vnode>::Question as Question<V>>::Row;

/// To whom it is; the question follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct PageHead {
    pub(crate) service: String,
    question_version: u16,
    row_version: u16,
    partition: Partition,
    possession: Possession,
    bounds: PageBounds,
}

/// The answer as it travels.
#[derive(Serialize, Deserialize)]
enum Told<R> {
    Page(Page<R>),
    Moved(Possession),
    Refused(Refusal),
    Failed(String),
}

/// Reads to whom a page is asked of; the rest is for the service that it names.
pub(crate) fn decode_page_head(bytes: &[u8]) -> Result<(PageHead, &[u8]), WireError> {
    let (head, length) = codec::decode_front(bytes)?;
    Ok((head, bytes.get(length..).unwrap_or_default()))
}

/// Tells the asker that there is no page.
pub(crate) fn refuse_page(respond: Responder, why: impl Into<String>) {
    let told: Told<()> = Told::Refused(Refusal::Unavailable(why.into()));
    let _ = respond.reply(VERSION, |out| codec::encode_into(&told, out));
}

fn decode_page<V: Vnode>(bytes: &[u8]) -> VnodeAnswer<V> {
    match codec::decode::<Told<RowOf<V>>>(bytes) {
        Ok(Told::Page(page)) => VnodeAnswer::Page(page),
        Ok(Told::Moved(possession)) => VnodeAnswer::Moved(possession),
        Ok(Told::Refused(refusal)) => VnodeAnswer::Refused(refusal),
        Ok(Told::Failed(why)) => VnodeAnswer::Failed(why),
        Err(error) => VnodeAnswer::Failed(format!("its page cannot be read: {error}")),
    }
}

/// Sends the page back over the connection that the request came by.
struct PageSink(Mutex<Option<Responder>>);

impl<V: Vnode> Sink<V> for PageSink {
    fn answer(&self, _: usize, answer: VnodeAnswer<V>) {
        let Some(respond) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let told: Told<RowOf<V>> = match answer {
            VnodeAnswer::Page(page) => Told::Page(page),
            VnodeAnswer::Moved(possession) => Told::Moved(possession),
            VnodeAnswer::Refused(refusal) => Told::Refused(refusal),
            VnodeAnswer::Failed(why) => Told::Failed(why),
            _ => Told::Failed("the vnode answered something else".to_owned()),
        };
        // A connection that is full or gone: the asker waits no longer than a page may take, and asks another.
        let _ = respond.reply(VERSION, |out| codec::encode_into(&told, out));
    }
}

impl<V: Vnode> ServiceCore<V> {
    /// Asks a vnode, here or on another node, for a page; it does that as a complete replica or not at all. The reply
    /// is answered in any case.
    pub(crate) fn ask_page(
        self: &Arc<Self>,
        entry: &PreflistEntry,
        ask: PageAsk<V>,
        reply: ReplyTo<V>,
        deadline: Moment,
    ) {
        if entry.node == self.node.id {
            return self.post_page(entry.partition, entry.possession, ask, reply, deadline);
        }
        let connected = |network: &&crate::net::Network| network.is_connected(entry.node, Channel::Request);
        let started = self.node.network();
        let Some(network) = started.as_ref().filter(connected) else {
            let why = format!("there is no connection to node {}", self.node.name_of(entry.node));
            return reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(why)));
        };
        let head = PageHead {
            service: V::SERVICE.to_owned(),
            question_version: V::Question::VERSION,
            row_version: RowOf::<V>::VERSION,
            partition: entry.partition,
            possession: entry.possession,
            bounds: ask.bounds,
        };
        let question = ask.question;
        // What is not sent is dropped with its reply, which then says why.
        let reply = reply.or_if_dropped(Refusal::Overloaded);
        let _ = network.request(
            entry.node,
            Channel::Request,
            families::COVERAGE,
            VERSION,
            deadline.saturating_sub(self.node.clock.moment()),
            |out| {
                codec::encode_into(&head, out)?;
                codec::encode_into(&question, out)
            },
            move |answer| match answer {
                Ok(incoming) => reply.answer(decode_page(&incoming.body)),
                Err(error) => reply.answer(VnodeAnswer::Failed(error.to_string())),
            },
        );
    }

    fn post_page(
        self: &Arc<Self>,
        partition: Partition,
        possession: Possession,
        ask: PageAsk<V>,
        reply: ReplyTo<V>,
        deadline: Moment,
    ) {
        let complete_only = !planted(Mutant::ListIncomplete);
        let asked = Asked { role: Role::Primary, possession, complete_only };
        self.post(partition, Request { asked, task: Task::Page(ask), reply, deadline, sync: false });
    }

    /// Serves a page that another node asks for.
    pub(super) fn serve_page_of(
        self: &Arc<Self>,
        head: PageHead,
        payload: &[u8],
        deadline: Moment,
        respond: Responder,
    ) {
        let question = match read_question::<V>(&head, payload) {
            Ok(question) => question,
            Err(why) => {
                self.node.telemetry.requests_unreadable.increment();
                return refuse_page(respond, format!("the request for a page cannot be read: {why}"));
            }
        };
        let reply = ReplyTo::new(Arc::new(PageSink(Mutex::new(Some(respond)))), 0);
        let ask = PageAsk { question, bounds: head.bounds };
        self.post_page(head.partition, head.possession, ask, reply, deadline);
    }
}

fn read_question<V: Vnode>(head: &PageHead, payload: &[u8]) -> Result<V::Question, String> {
    let known = [(head.question_version, V::Question::VERSION), (head.row_version, RowOf::<V>::VERSION)];
    if let Some((other, _)) = known.into_iter().find(|(said, ours)| said != ours) {
        return Err(WireError::Version(other).to_string());
    }
    head.bounds.check().map_err(|error| error.to_string())?;
    codec::decode(payload).map_err(|error| error.to_string())
}
