//! Reads of a partition of which sealed generations lie here: what is in these was acknowledged, and is nowhere else until
//! it has come home. Each of them answers like a replica of its own, and the answers are joined as those of replicas
//! are. It decides nothing about quorums: to the one who asked it is one answer.

use crate::messages::{ReplyTo, Request, Sink, Task, VnodeAnswer};
use crate::node_core::NodeCore;
use crate::service_core::ServiceCore;
use ringwork_core::clock::hybrid::{HybridTime, Stamp};
use ringwork_core::ids::{ActorId, Dot, Partition};
use ringwork_core::keyspace::{Keyspace, Snapshot};
use ringwork_core::quorum::Refusal;
use ringwork_core::transfer::GenerationId;
use ringwork_core::vnode::{After, Host, Outcome, Turn, TurnPlace, Vnode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Collects the answer of the vnode that serves, then reads the sealed generations, and joins all.
struct Joined<V: Vnode> {
    service: Arc<ServiceCore<V>>,
    partition: Partition,
    sealed: Vec<GenerationId>,
    command: V::Command,
    reply: Mutex<Option<ReplyTo<V>>>,
}

/// A read that is answered by the vnode and by sealed generations; any other request, and one of a partition without such,
/// comes back as it is.
pub(crate) fn with_sealed<V: Vnode>(
    service: &Arc<ServiceCore<V>>,
    partition: Partition,
    request: Request<V>,
) -> Request<V> {
    let Task::Read(command) = &request.task else { return request };
    let sealed = service.node.generations.sealed(partition);
    if sealed.is_empty() {
        return request;
    }
    let command = command.clone();
    let Request { asked, task, reply, deadline, sync } = request;
    let reply = Mutex::new(Some(reply));
    let joined = Arc::new(Joined { service: service.clone(), partition, sealed, command, reply });
    Request { asked, task, reply: ReplyTo::new(joined, 0), deadline, sync }
}

impl<V: Vnode> Sink<V> for Joined<V> {
    fn answer(&self, _: usize, answer: VnodeAnswer<V>) {
        let Some(reply) = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let VnodeAnswer::Reply { reply: live, complete } = answer else { return reply.answer(answer) };
        let (service, partition) = (self.service.clone(), self.partition);
        let (sealed, command) = (self.sealed.clone(), self.command.clone());
        let spawner = service.node.spawner.clone();
        let holder = Arc::new(Mutex::new(Some(reply)));
        let inner = holder.clone();
        let take =
            |slot: &Mutex<Option<ReplyTo<V>>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let queued = spawner.on_pool(move || {
            let Some(reply) = take(&inner) else { return };
            let read = AssertUnwindSafe(|| read_all(&service, partition, &sealed, &command, live));
            reply.answer(match catch_unwind(read) {
                Ok(Ok(joined)) => VnodeAnswer::Reply { reply: joined, complete },
                Ok(Err(why)) => VnodeAnswer::Refused(Refusal::Unavailable(why)),
                Err(_) => VnodeAnswer::Refused(Refusal::Unavailable("a read of hints panicked".to_owned())),
            });
        });
        if queued.is_err()
            && let Some(reply) = take(&holder)
        {
            reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
        }
    }
}

fn read_all<V: Vnode>(
    service: &ServiceCore<V>,
    partition: Partition,
    sealed: &[GenerationId],
    command: &V::Command,
    live: V::Reply,
) -> Result<V::Reply, String> {
    let node = &service.node;
    let mut replies = vec![live];
    {
        // What is sealed now stays until it was read.
        let _stays = node.generations.reading();
        let still = node.generations.sealed(partition);
        for generation in sealed {
            if !still.contains(generation) {
                // It has come home, or was taken in here, since the vnode answered: what it had may be missing in all that
                // was read. Whoever asked asks again.
                return Err("hints have just been moved".to_owned());
            }
            if let Some(reply) = read_one(service, partition, *generation, command.clone())? {
                replies.push(reply);
            }
        }
    }
    let resolution = V::resolve(command, &replies);
    resolution.map(|resolution| resolution.reply).ok_or_else(|| "the answers cannot be joined".to_owned())
}

fn read_one<V: Vnode>(
    service: &ServiceCore<V>,
    partition: Partition,
    generation: GenerationId,
    command: V::Command,
) -> Result<Option<V::Reply>, String> {
    let node = &service.node;
    let opened = node.generations.open(V::SERVICE, partition, generation.number);
    let Some(opened) = opened.map_err(|error| error.to_string())? else { return Ok(None) };
    let snapshot = Snapshot::of(&opened.tree);
    let (handle, host) = Keyspace::new(opened);
    let mut vnode = V::init(partition, &service.config, handle).map_err(|error| error.to_string())?;
    let place = TurnPlace { now_ms: node.clock.wall_ms(), partition, ring_size: node.ring.load().size() };
    let mut reader = Reader(node);
    let mut turn = Turn::new(&mut reader, place);
    let outcome = vnode.handle_command(command, &mut turn).map_err(|error| error.to_string())?;
    // A read leaves nothing behind; what it may have staged all the same is not kept.
    host.discard();
    match outcome {
        Outcome::Reply(reply) => Ok(Some(reply)),
        Outcome::Offload(work) => match work(&snapshot).map_err(|error| error.to_string())? {
            After::Reply(reply) => Ok(Some(reply)),
            After::Command(_) => Err("a read asks for a further command".to_owned()),
        },
        Outcome::Nothing => Ok(None),
    }
}

/// The host of a turn that only reads.
struct Reader<'a>(&'a NodeCore);

impl Host for Reader<'_> {
    fn stamp_above(&mut self, above: HybridTime) -> Stamp {
        self.0.stamp_above(above)
    }

    fn dot(&mut self) -> Dot {
        // Nothing of this turn is kept, so nobody will meet it.
        Dot { actor: ActorId(0), counter: 0 }
    }
}
