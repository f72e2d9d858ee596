//! A vnode in its bed, for this crate's tests: hosted over a store in memory, with a clock that is set by hand. Every
//! turn is committed at once. Several beds are the replicas of one key; who hands what to whom, the test says.

use crate::command::{KvCommand, KvReply, Put, PutReply, Stored};
use crate::condition::Conditions;
use crate::content::Content;
use crate::kv::{Kv, KvConfig, KvError};
use crate::name::ObjectName;
use crate::object::{Conflicts, KvItem, Object};
use crate::props::PutRules;
use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::clock::hybrid::{HybridTime, Stamp};
use ringwork_core::ids::{ActorId, Boot, Dot, NodeId, Partition};
use ringwork_core::keyspace::{Keyspace, KeyspaceHost};
use ringwork_core::ring::RingSize;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{Direction, Flow, KeyRange, KeyspaceId, Store};
use ringwork_core::testing::told::{self, Told};
use ringwork_core::vnode::{Host, Merged, Outcome, Turn, TurnPlace, Vnode};
use std::collections::{BTreeSet, VecDeque};

pub(crate) struct TestHost {
    pub(crate) clock: HybridTime,
    pub(crate) now_ms: u64,
    pub(crate) actor: ActorId,
    pub(crate) counted: u64,
    /// How often it took a new actor.
    pub(crate) renewed: u64,
}

impl Host for TestHost {
    fn stamp_above(&mut self, above: HybridTime) -> Stamp {
        if let Ok(clock) = self.clock.observe(above, self.now_ms) {
            self.clock = clock;
        }
        self.clock = self.clock.next(self.now_ms);
        Stamp { time: self.clock, node: NodeId([0; 16]), boot: Boot(1) }
    }

    fn dot(&mut self) -> Dot {
        self.counted += 1;
        Dot { actor: self.actor, counter: self.counted }
    }

    fn renew_actor(&mut self) -> bool {
        self.renewed += 1;
        self.actor = ActorId(self.actor.0 + 1000);
        self.counted = 0;
        true
    }
}

pub(crate) struct Bed {
    pub(crate) kv: Kv,
    pub(crate) keyspace: KeyspaceHost,
    pub(crate) store: MemoryStore,
    pub(crate) host: TestHost,
    /// What turns said of the items they changed.
    told: Told,
    /// What turns touched.
    pub(crate) touched: Vec<KvItem>,
    /// What turns gave to later ones, with the due time.
    pub(crate) later: VecDeque<(u64, KvCommand)>,
}

pub(crate) fn name(key: &str) -> ObjectName {
    ObjectName::new("default", b"b", key.as_bytes()).unwrap()
}

pub(crate) fn put(key: &str, value: &str) -> Put {
    Put {
        name: name(key),
        content: Content::of(value),
        seen: CausalContext::new(),
        read: None,
        conditions: Conditions::default(),
        rules: PutRules { conflicts: Conflicts::Siblings },
        return_object: true,
    }
}

pub(crate) fn delete(key: &str, seen: CausalContext) -> Put {
    Put { content: Content::tombstone(), seen, ..put(key, "") }
}

/// The values that are there, tombstones as none.
pub(crate) fn values(object: &Object) -> BTreeSet<Option<String>> {
    let shown =
        |content: &Content| (!content.deleted).then(|| String::from_utf8(content.value.to_vec()).unwrap());
    object.siblings().map(|sibling| shown(sibling.content)).collect()
}

pub(crate) fn some(values: &[&str]) -> BTreeSet<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(KvConfig::default(), 1)
    }

    pub(crate) fn with(config: KvConfig, actor: u64) -> Self {
        let store = MemoryStore::new();
        let (keyspace, host) = Keyspace::new(store.open(&KeyspaceId::Node).unwrap());
        host.listen(told::groups::<Kv>());
        let kv = Kv::init(Partition(0), &config, keyspace).unwrap();
        let actor = ActorId(actor);
        Self {
            kv,
            keyspace: host,
            store,
            host: TestHost { clock: HybridTime(0), now_ms: 1_000_000_000, actor, counted: 0, renewed: 0 },
            told: Told::default(),
            touched: Vec::new(),
            later: VecDeque::new(),
        }
    }

    fn end_turn(&mut self) {
        let mut sealed = self.keyspace.seal();
        self.told.add::<Kv>(sealed.changes, &self.keyspace.snapshot()).unwrap();
        self.store.commit(&mut sealed.writes).unwrap();
        self.keyspace.committed(sealed.sequence);
    }

    pub(crate) fn merge(&mut self, item: KvItem) -> Merged {
        let merged = self.kv.merge(item).unwrap();
        self.end_turn();
        merged
    }

    pub(crate) fn place(&self) -> TurnPlace {
        let ring_size = RingSize::try_from(8).unwrap();
        TurnPlace { now_ms: self.host.now_ms, partition: Partition(0), ring_size }
    }

    pub(crate) fn try_run(&mut self, command: KvCommand) -> Result<Option<KvReply>, KvError> {
        let place = self.place();
        let mut turn = Turn::new(&mut self.host, place);
        let outcome = match self.kv.handle_command(command, &mut turn) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.keyspace.discard();
                return Err(error);
            }
        };
        let effects = turn.finish();
        self.touched.extend(effects.touched);
        for (delay, command) in effects.later {
            self.later.push_back((place.now_ms + delay.as_millis() as u64, command));
        }
        self.end_turn();
        match outcome {
            Outcome::Reply(reply) => Ok(Some(reply)),
            Outcome::Nothing => Ok(None),
            Outcome::Offload(_) => panic!("kv offloads nothing"),
        }
    }

    pub(crate) fn put(&mut self, put: Put) -> PutReply {
        match self.try_run(KvCommand::Put(Box::new(put))).unwrap() {
            Some(KvReply::Put(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Of a put that is stored.
    pub(crate) fn stored(&mut self, put: Put) -> Stored {
        match self.put(put) {
            PutReply::Stored(stored) => stored,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&mut self, key: &str) -> Object {
        match self.try_run(KvCommand::Get(name(key))).unwrap() {
            Some(KvReply::Object(item)) => item.map(|item| item.object).unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    /// The first turn.
    pub(crate) fn start(&mut self) {
        let place = self.place();
        let mut turn = Turn::new(&mut self.host, place);
        self.kv.started(&mut turn).unwrap();
        for (delay, command) in turn.finish().later {
            self.later.push_back((place.now_ms + delay.as_millis() as u64, command));
        }
    }

    /// Lets time pass, and what is due happen.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        let end = self.host.now_ms + milliseconds;
        while let Some(at) = (0..self.later.len()).min_by_key(|at| self.later[*at].0) {
            if self.later[at].0 > end {
                break;
            }
            let (due, command) = self.later.remove(at).unwrap();
            self.host.now_ms = self.host.now_ms.max(due);
            self.try_run(command).unwrap();
        }
        self.host.now_ms = end;
    }

    /// What a fold shows, which is what the turns have told.
    pub(crate) fn fold(&self) -> Vec<KvItem> {
        let expected = Told::as_folded::<Kv>(&self.keyspace.snapshot()).unwrap();
        assert_eq!(self.told, expected);
        self.fold_of_what_is_damaged().unwrap()
    }

    /// What a fold shows where rows were changed behind the vnode's back.
    pub(crate) fn fold_of_what_is_damaged(&self) -> Result<Vec<KvItem>, KvError> {
        let mut items = Vec::new();
        Kv::fold(&self.keyspace.snapshot(), &KeyRange::all(), &mut |item| {
            items.push(item);
            Flow::Continue(())
        })?;
        Ok(items)
    }

    /// Changes an object's row behind the vnode's back.
    pub(crate) fn spoil(&mut self, key: &str, row: &'static [u8]) {
        self.kv.store.put(name(key).bytes().to_vec(), row);
        self.end_turn();
    }

    /// Keys in the store, whatever they are.
    pub(crate) fn rows(&self) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        let snapshot = self.keyspace.snapshot();
        snapshot
            .scan(&KeyRange::all(), Direction::Ascending, &mut |key, _| {
                rows.push(key.to_vec());
                Flow::Continue(())
            })
            .unwrap();
        rows
    }
}
