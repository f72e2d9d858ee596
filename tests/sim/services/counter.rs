//! A counter for each key: a second service, to show how little the simulator wants to know of one. Its increments
//! are coordinated writes, each an event (a dot) of the vnode that took it.

use crate::history::{Operation, Outcome, Seen};
use crate::service::{Face, Items, Later, Service, items_of};
use ringwork_core::coverage::question::NoQuestion;
use ringwork_core::ids::{ActorId, Generation, Partition};
use ringwork_core::keyspace::{Keyspace, Snapshot};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::quorum::{Count, QuorumOptions, Verdict};
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};
use ringwork_core::vnode::{Item, Merged, Outcome as TurnOutcome, Resolution, Turn, Vnode};
use ringwork_core::wire::{Wire, codec};
use ringwork_runtime::coordinator::{ReadFailure, Service as CallSite};
use ringwork_runtime::node::{Node, NodeBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What each actor has counted under one key. Of one actor the larger number is the later.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Tally {
    key: String,
    counted: BTreeMap<ActorId, u64>,
}

impl Wire for Tally {
    const VERSION: u16 = 1;
}

impl Item for Tally {
    fn routing_key(&self) -> &[u8] {
        self.key.as_bytes()
    }

    fn key(&self) -> Vec<u8> {
        self.key.clone().into_bytes()
    }

    fn join(mut self, other: Self) -> Self {
        if planted(Mutant::LastWriteWins) {
            return other;
        }
        for (actor, count) in other.counted {
            let ours = self.counted.entry(actor).or_default();
            *ours = (*ours).max(count);
        }
        self
    }
}

/// What the counter can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// One more.
    Increment(String),
    /// How many.
    Get(String),
}

impl Wire for Ask {
    const VERSION: u16 = 1;
}

impl Wire for Reply {
    const VERSION: u16 = 1;
}

/// What it answers: all that it knows of the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply(Tally);

/// The vnode.
pub struct Counter(Keyspace);

impl Counter {
    fn tally(&self, key: &str) -> Result<Tally, StoreError> {
        let kept = self.0.get(key.as_bytes())?.and_then(|bytes| codec::decode(&bytes).ok());
        Ok(kept.unwrap_or_else(|| Tally { key: key.to_owned(), counted: BTreeMap::new() }))
    }

    fn keep(&self, before: &Tally, tally: &Tally) {
        self.0.put(tally.key(), codec::encode(tally).unwrap());
        self.0.changed(Some(before).filter(|before| !before.counted.is_empty()), Some(tally));
    }
}

impl Vnode for Counter {
    const SERVICE: &'static str = "counter";
    type Config = ();
    type Command = Ask;
    type Reply = Reply;
    type Item = Tally;
    type Question = NoQuestion;
    type Error = StoreError;

    fn init(_: Partition, _: &(), store: Keyspace) -> Result<Self, StoreError> {
        Ok(Self(store))
    }

    fn handle_command(
        &mut self,
        command: Ask,
        turn: &mut Turn<'_, Self>,
    ) -> Result<TurnOutcome<Self>, StoreError> {
        let (Ask::Increment(key) | Ask::Get(key)) = &command;
        let mut tally = self.tally(key)?;
        if matches!(command, Ask::Increment(_)) {
            let before = tally.clone();
            *tally.counted.entry(turn.dot().actor).or_default() += 1;
            self.keep(&before, &tally);
            let _ = turn.touched(tally.clone());
        }
        Ok(TurnOutcome::Reply(Reply(tally)))
    }

    fn merge(&mut self, item: Tally) -> Result<Merged, StoreError> {
        let before = self.tally(&item.key)?;
        let after = before.clone().join(item);
        if before == after {
            return Ok(Merged::Unchanged);
        }
        self.keep(&before, &after);
        Ok(Merged::Changed)
    }

    fn fold(
        snapshot: &Snapshot,
        range: &KeyRange,
        visit: &mut dyn FnMut(Tally) -> Flow,
    ) -> Result<(), StoreError> {
        snapshot.scan(range, Direction::Ascending, &mut |_, value| match codec::decode(value) {
            Ok(tally) => visit(tally),
            Err(_) => Flow::Continue(()),
        })
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        let mut empty = true;
        self.0.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
            empty = false;
            Flow::Break(())
        })?;
        Ok(empty)
    }

    fn delete(&mut self) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        self.0.scan(&KeyRange::all(), Direction::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            Flow::Continue(())
        })?;
        self.0.changed_within(&KeyRange::all());
        keys.into_iter().for_each(|key| self.0.remove(key));
        Ok(())
    }

    fn resolve(_: &Ask, replies: &[Reply]) -> Option<Resolution<Self>> {
        let all = replies.iter().map(|reply| reply.0.clone()).reduce(Tally::join)?;
        let lacks = |(at, reply): (usize, &Reply)| (reply.0 != all).then(|| (at, all.clone()));
        let repairs = replies.iter().enumerate().filter_map(lacks).collect();
        Some(Resolution { reply: Reply(all), repairs })
    }
}

/// See the module's head.
pub struct CounterService;

impl Service for CounterService {
    fn name(&self) -> &'static str {
        Counter::SERVICE
    }

    fn host(&self, builder: NodeBuilder) -> NodeBuilder {
        builder.service::<Counter>(())
    }

    fn face(&self, node: &Node) -> Later<Rc<dyn Face>> {
        let calls = node.service::<Counter>().unwrap();
        Box::pin(async move { Rc::new(CounterFace(calls)) as Rc<dyn Face> })
    }

    fn forgets(&self) -> bool {
        false
    }

    fn items(&self, store: &MemoryStore, partition: Partition, generation: Generation) -> Items {
        items_of::<Counter>(store, partition, generation)
    }
}

struct CounterFace(CallSite<Counter>);

impl Face for CounterFace {
    fn perform(&self, operation: Operation, within: Duration) -> Later<Outcome> {
        let calls = self.0.clone();
        Box::pin(async move {
            let key = operation.key().to_owned();
            let hosted = calls.key(key.as_bytes()).within(within);
            match operation {
                Operation::Write { w, .. } => {
                    let options =
                        QuorumOptions { w: Some(Count::Exactly(usize::from(w))), ..QuorumOptions::default() };
                    let written = hosted.quorum(options).run(Ask::Increment(key)).await.unwrap();
                    let nodes = written.nodes.iter().map(|node| calls.core().node.name_of(*node).to_string());
                    match written.verdict {
                        Verdict::Done => Outcome::Acknowledged { id: None, nodes: nodes.collect() },
                        Verdict::Refused(refusal) => Outcome::Refused(refusal.to_string()),
                        other => Outcome::Unknown { name: None, why: format!("{other:?}") },
                    }
                }
                Operation::Read { r, .. } => {
                    let options =
                        QuorumOptions { r: Some(Count::Exactly(usize::from(r))), ..QuorumOptions::default() };
                    match hosted.quorum(options).read(Ask::Get(key)).await.unwrap() {
                        Ok(answered) => Outcome::Read {
                            seen: Seen::Count(answered.reply.0.counted.values().sum()),
                            degraded: answered.degraded,
                        },
                        Err(ReadFailure::Refused(refusal)) => Outcome::Refused(refusal.to_string()),
                        Err(failure) => Outcome::Unknown { name: None, why: format!("{failure:?}") },
                    }
                }
                Operation::Forget { .. } => Outcome::Refused("a counter forgets nothing".into()),
                Operation::List => Outcome::Refused("counters are not listed".into()),
            }
        })
    }
}
