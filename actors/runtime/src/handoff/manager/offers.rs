//! What comes into a node: offers, which core's rule judges, and what the state makes of transfers that are under
//! way. It decides what waits for what; how an accepted transfer goes, its receiver knows.

use super::{HandoffManager, ManagerMessage};
use crate::handoff::receiver::{Accepted, HandoffReceiver, Received};
use crate::handoff::sender::Happened;
use crate::handoff::switch;
use crate::net::{TransferReader, TransferStream, TransferWriter};
use crate::post::Postbox;
use crate::ring_manager::RingMessage;
use actix::{AsyncContext, Context, WrapFuture};
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::membership::ClusterState;
use ringwork_core::transfer::message::{ForReceiver, SenderSays};
use ringwork_core::transfer::receiving::{Fate, Outgoing, Situation, fate_of, judge};
use ringwork_core::transfer::{
    ForSender, Into, Judgement, Kind, Offer, ReceiverSays, ReceivingEvent, Refusal, SendingEvent, SessionId,
};
use ringwork_core::wire::codec;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an accepted connection may take to say what it offers.
const OFFER_WITHIN: Duration = Duration::from_secs(10);
/// How long an offer waits for the end of what this node sends the other way.
const CROSSED_WITHIN: Duration = Duration::from_secs(5);

/// An offer, with the connection that it came by.
pub(crate) struct Offered {
    from: NodeId,
    session: SessionId,
    offer: Offer,
    connection: (TransferReader, TransferWriter),
    /// Until when it waits for the end of a transfer that crosses it.
    until_ms: u64,
}

impl Offered {
    /// Whether it has waited for as long as it may.
    pub(super) fn is_late(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }
}

/// A transfer that comes in.
pub(super) struct Coming {
    pub(super) postbox: Postbox<HandoffReceiver>,
    pub(super) partition: Partition,
    pub(super) from: NodeId,
    pub(super) kind: Kind,
}

impl HandoffManager {
    /// What the state makes of what was collected for inheritances.
    pub(super) fn settle_inbound(&mut self, state: &ClusterState) {
        let node = self.context.node.clone();
        for partition in self.generations().with_inbound() {
            let Some((named, generation)) = self.generations().held(partition).and_then(|held| held.inbound)
            else {
                continue;
            };
            match fate_of(named, node.id, partition, state) {
                Fate::Keep => {}
                Fate::Inherit => {
                    let (node, services) = (node.clone(), self.context.services.clone());
                    actix_rt::spawn(async move { switch::take_over(&node, &services, partition).await });
                }
                Fate::Seal => {
                    node.strays.mark(partition);
                    self.generations().update(partition, |held| {
                        held.inbound = None;
                        held.sealed.insert(generation);
                    });
                    for coming in
                        self.coming.values().filter(|c| c.partition == partition && c.kind == Kind::Ownership)
                    {
                        coming.postbox.post_control(Received(ReceivingEvent::Moved));
                    }
                    self.context.ring_manager.post_control(RingMessage::StraysChanged);
                }
            }
        }
        // What comes for a partition that is held elsewhere now has nothing to do here.
        for coming in self.coming.values().filter(|coming| coming.kind != Kind::Ownership) {
            if state.holder(coming.partition) != Some(node.id) {
                coming.postbox.post_control(Received(ReceivingEvent::Moved));
            }
        }
    }

    pub(super) fn connected(&mut self, from: NodeId, stream: TransferStream, ctx: &mut Context<Self>) {
        let Some(me) = self.me.clone() else { return };
        let until_ms = self.now_ms() + CROSSED_WITHIN.as_millis() as u64;
        let offered = async move {
            let Ok((mut reader, writer)) = stream.split() else { return };
            let Ok(Ok(Some(body))) =
                tokio::time::timeout(OFFER_WITHIN, reader.read(OFFER_WITHIN, || ())).await
            else {
                return;
            };
            match ForReceiver::decode(&body) {
                Ok(ForReceiver { session, says: SenderSays::Offer(offer) }) if session.node == from => {
                    let connection = (reader, writer);
                    let offered = Offered { from, session, offer, connection, until_ms };
                    me.post_control(ManagerMessage::Offered(Box::new(offered)));
                }
                Ok(_) => tracing::warn!("a transfer did not begin with an offer; its connection was closed"),
                Err(error) => tracing::warn!(%error, "an offer of a transfer cannot be read"),
            }
        };
        ctx.spawn(offered.into_actor(self));
    }

    pub(super) fn offered(&mut self, offered: Box<Offered>) {
        let node = self.context.node.clone();
        let view = node.ring.load_full();
        let state = view.state().clone();
        self.settle_inbound(&state);
        let partition = offered.offer.partition;
        let sending = self.out.values().find(|out| out.partition == partition && out.to == offered.from);
        let outgoing = match sending {
            None => Outgoing::None,
            Some(out) if out.revocable.load(Ordering::SeqCst) => Outgoing::Revocable,
            Some(_) => Outgoing::Bound,
        };
        let held = self.generations().held(partition);
        let Ok(fresh) = self.generations().fresh(partition) else { return };
        let holds = state.holder(partition) == Some(node.id);
        let record = self.generations().inbound_record(partition, offered.from);
        // A new offer of the same sender takes the place of its old one.
        let of_repair = |kind: Kind| matches!(kind, Kind::Repair { .. });
        let same = |coming: &Coming| {
            let alike = of_repair(coming.kind) == of_repair(offered.offer.kind);
            coming.partition == partition && coming.from == offered.from && alike
        };
        let running = self.coming.values().filter(|coming| !same(coming)).count() as u32;
        let situation = Situation {
            me: node.id,
            from: offered.from,
            state: &state,
            services: &self.context.services.iter().map(|service| service.name().to_owned()).collect(),
            stopping: node.is_stopping(),
            paused: node.handoff.paused(),
            running,
            limit: node.handoff.limit(),
            outgoing,
            has_hints: self.hints(&state).contains(&partition),
            record: record.as_ref(),
            live: held.as_ref().filter(|_| holds).map(|held| held.live),
            inbound: held.as_ref().and_then(|held| held.inbound),
            fresh,
        };
        match judge(&offered.offer, &situation) {
            Judgement::Refuse(refusal) => {
                if refusal == Refusal::Behind {
                    let _ = self.context.ring_manager.post(RingMessage::Heard(offered.offer.possession));
                }
                refuse(*offered, refusal);
            }
            Judgement::Accept { ends_outgoing: true, .. } => {
                if let Some(out) = sending {
                    let event = SendingEvent::OfferFromReceiver(offered.offer.generation);
                    out.postbox.post_control(Happened(event));
                }
                if offered.is_late(self.now_ms()) {
                    return refuse(*offered, Refusal::Crossed);
                }
                self.crossed.push(*offered);
            }
            Judgement::Accept { .. } if self.coming.values().any(same) => {
                // One writer at a time into a generation: the old session ends first.
                for coming in self.coming.values().filter(|coming| same(coming)) {
                    coming.postbox.post_control(Received(ReceivingEvent::CutOff));
                }
                if offered.is_late(self.now_ms()) {
                    return refuse(*offered, Refusal::Crossed);
                }
                self.crossed.push(*offered);
            }
            Judgement::Accept { record, into, ends_outgoing: false } => {
                if into == Into::NewInbound {
                    let (possession, generation) = (record.possession, record.generation);
                    self.generations().update(partition, |held| {
                        // One of an older possession that is still here was not sealed: nothing is lost by its end.
                        if let Some((_, old)) = held.inbound.replace((possession, generation)) {
                            held.sealed.insert(old);
                        }
                        held.next.0 = held.next.0.max(generation.number.0 + 1);
                    });
                }
                let Offered { from, session, offer, connection, .. } = *offered;
                let kind = offer.kind;
                let accepted = Accepted { session, record, into, partition, estimate: offer.estimate };
                let Some(me) = self.me.clone() else { return };
                let postbox = HandoffReceiver::start(self.context.clone(), me, accepted, connection);
                self.coming.insert(session, Coming { postbox, partition, from, kind });
            }
        }
    }

    pub(super) fn judge_crossed(&mut self) {
        for offered in std::mem::take(&mut self.crossed) {
            self.offered(Box::new(offered));
        }
    }
}

fn refuse(offered: Offered, refusal: Refusal) {
    let Offered { session, connection: (reader, mut writer), .. } = offered;
    actix_rt::spawn(async move {
        let told = ForSender { session, says: ReceiverSays::Refuse(refusal) };
        let encode = |out: &mut Vec<u8>| codec::encode_into(&told, out);
        if writer.write(OFFER_WITHIN, encode, || ()).await.is_ok() {
            let _ = writer.close().await;
        }
        // Until it was heard the connection stands.
        let mut reader = reader;
        let _ = tokio::time::timeout(OFFER_WITHIN, reader.read(OFFER_WITHIN, || ())).await;
    });
}
