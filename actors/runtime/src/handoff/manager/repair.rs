//! Repairs, on both sides: what this node lacks it asks the holders of the neighbouring partitions for, and what
//! others ask for it schedules. Whom to ask when, and when a partition is whole again, core's
//! [`ringwork_core::transfer::Repairs`] says.

use super::{HandoffContext, HandoffManager, ManagerMessage, merge_generation};
use crate::families;
use crate::handoff::board::RepairLine;
use crate::handoff::service::Filter;
use crate::net::{Channel, Responder};
use crate::node_core::NodeCore;
use crate::ring_manager::RingMessage;
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::membership::ClusterState;
use ringwork_core::transfer::RepairAnswer;
use ringwork_core::transfer::repair::may_be_asked;
use ringwork_core::transfer::schedule::Repair;
use ringwork_core::wire::codec;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a member may take to say whether it will send something.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Repairs that a node schedules for others: each member may ask for each partition from a few sources.
const ASKED_MAX: usize = 1 << 17;

impl HandoffManager {
    /// Takes note of what is lacking and wished for, asks for it, and ends what has come. Says what is lacking.
    pub(super) fn want_repairs(
        &mut self,
        now_ms: u64,
        state: &ClusterState,
        up: &BTreeSet<NodeId>,
        ctx: &mut Context<Self>,
    ) -> BTreeSet<Partition> {
        let node = self.context.node.clone();
        let n = node.quorum.n_val;
        let lacking = node.generations.lacking(state, node.id);
        // That a forced holder has its data now, the state says a moment later.
        self.whole.retain(|partition| lacking.contains(partition));
        self.wanted.observe(state, node.id, &lacking.difference(&self.whole).copied().collect(), n);
        self.wanted.wish(state, node.id, node.handoff.take_wished_repairs(), n);
        for coming in self.coming.values() {
            if let ringwork_core::transfer::Kind::Repair { source } = coming.kind {
                self.wanted.comes(now_ms, coming.partition, source);
            }
        }
        if !node.is_stopping() {
            let in_doubt = node.in_doubt.load();
            let may = |repair| may_be_asked(state, &in_doubt, repair);
            for (holder, repairs) in self.wanted.to_ask(now_ms, state, node.id, up, may) {
                self.ask(holder, repairs, ctx);
            }
        }
        self.merge_own(state, ctx);
        for partition in self.wanted.repaired() {
            self.whole_again(partition, ctx);
        }
        let lines = self.wanted.awaited().map(|awaited| RepairLine {
            partition: awaited.partition,
            from: awaited
                .sources
                .iter()
                .filter_map(|source| Some((*source, state.holder(*source)?)))
                .collect(),
            text: match awaited.lost {
                true => "its data is lost; it counts as incomplete until the other replicas have sent theirs",
                false => "wished for by an operator",
            }
            .to_owned(),
        });
        node.handoff.set_repairing(lines.collect());
        node.generations.lacking(state, node.id)
    }

    /// Sources that lie here, too: what is in them is merged without a transfer.
    fn merge_own(&mut self, state: &ClusterState, ctx: &mut Context<Self>) {
        let node = self.context.node.clone();
        let in_doubt = node.in_doubt.load_full();
        for repair in self.wanted.own(state, node.id) {
            let Repair { partition, source, .. } = repair;
            let waits = in_doubt.contains(&source)
                || !node.generations.sealed(source).is_empty()
                || !may_be_asked(state, &in_doubt, repair);
            if waits || !self.merging.insert((partition, source)) {
                continue;
            }
            let context = self.context.clone();
            let merged = async move { merge_from(&context, partition, source).await };
            ctx.spawn(merged.into_actor(self).map(move |merged, manager, ctx| {
                manager.merging.remove(&(partition, source));
                match merged {
                    Ok(()) => {
                        manager.wanted.received(partition, source);
                        manager.look(ctx);
                    }
                    // It is tried again at the next look.
                    Err(why) => tracing::warn!(partition = partition.0, why, "a repair has failed"),
                }
            }));
        }
    }

    fn ask(&mut self, holder: NodeId, repairs: Vec<Repair>, ctx: &mut Context<Self>) {
        let (network, asked) = (self.context.network.clone(), repairs);
        let places: Vec<(Partition, Partition)> =
            asked.into_iter().map(|repair| (repair.partition, repair.source)).collect();
        let question = async move {
            let encode = |out: &mut Vec<u8>| codec::encode_into(&places, out);
            let (channel, family, version) = (Channel::Control, families::REPAIR, families::VERSION);
            let answer = network.call(holder, channel, family, version, ANSWER_WITHIN, encode).await;
            // Silence is asked again.
            let answers = codec::decode::<Vec<RepairAnswer>>(&answer.ok()?.body).ok()?;
            Some((places, answers))
        };
        ctx.spawn(question.into_actor(self).map(|answered, manager, _| {
            if let (Some((places, answers)), Some(me)) = (answered, &manager.me) {
                me.post_control(ManagerMessage::RepairAnswered(places, answers));
            }
        }));
    }

    /// Everything has come that can come.
    fn whole_again(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let node = self.context.node.clone();
        tracing::info!(partition = partition.0, "a partition was repaired from its other replicas");
        let ring_manager = self.context.ring_manager.clone();
        self.whole.insert(partition);
        node.generations.repaired(partition);
        let kept = async move {
            // Until it is on disk that it is whole, a restart repairs it once more.
            if node.storage.barrier(true).await.is_ok() {
                ring_manager.post_control(RingMessage::Repaired(partition));
            }
        };
        ctx.spawn(kept.into_actor(self));
    }

    pub(super) fn repair_wanted(
        &mut self,
        to: NodeId,
        wanted: Vec<(Partition, Partition)>,
        respond: Responder,
        ctx: &mut Context<Self>,
    ) {
        let node = self.context.node.clone();
        let view = node.ring.load_full();
        let state = view.state();
        let answers: Vec<RepairAnswer> = wanted
            .into_iter()
            .map(|(partition, source)| {
                if state.holder(partition) != Some(to) || state.holder(source) != Some(node.id) {
                    return RepairAnswer::NotHeld;
                }
                if self.repairs.len() < ASKED_MAX {
                    self.repairs.insert(Repair { to, partition, source });
                }
                RepairAnswer::Taken
            })
            .collect();
        let _ = respond.reply(families::VERSION, |out| codec::encode_into(&answers, out));
        self.look(ctx);
    }
}

/// Merges what a partition that lies here has of another that lies here, and syncs it.
async fn merge_from(
    context: &Arc<HandoffContext>,
    partition: Partition,
    source: Partition,
) -> Result<(), String> {
    let node = &context.node;
    let live = node.generations.live(source).ok_or("there is no such partition")?;
    let filter = filter(node, partition, source);
    merge_generation(context, (source, live), partition, Some(filter)).await?;
    node.storage.barrier(true).await.map_err(|error| error.to_string())
}

/// Which items of `source` a repair of `partition` sends: those of which both are to have a replica.
pub(super) fn filter(node: &NodeCore, partition: Partition, source: Partition) -> Filter {
    let size = node.ring.load().size();
    let count = size.count();
    let n = node.quorum.n_val.min(count);
    let first_of = |of: Partition| -> BTreeSet<Partition> {
        (0..n).map(|back| size.clockwise(of, count - back)).collect()
    };
    let first = first_of(partition).intersection(&first_of(source)).copied().collect();
    Filter { size, first }
}
