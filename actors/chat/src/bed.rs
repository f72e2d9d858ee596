//! A vnode in its bed, for this crate's tests: hosted over a store in memory, with a clock that is set by
//! hand. Every turn is committed at once; offloaded work runs at once on a snapshot.

use crate::chat::{Chat, ChatCommand, ChatConfig, ChatError, ChatReply};
use crate::id::MessageId;
use crate::item::{ChatItem, Content};
use ringwork_core::clock::hybrid::{HybridTime, Stamp};
use ringwork_core::ids::{ActorId, Boot, Dot, NodeId, Partition};
use ringwork_core::keyspace::{Keyspace, KeyspaceHost};
use ringwork_core::ring::RingSize;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{Flow, KeyRange, KeyspaceId, Store};
use ringwork_core::testing::told::{self, Told};
use ringwork_core::vnode::{After, Host, Merged, Outcome, Turn, TurnPlace, Vnode};
use std::collections::VecDeque;

pub(crate) struct TestHost {
    pub(crate) clock: HybridTime,
    pub(crate) now_ms: u64,
    node: NodeId,
}

impl Host for TestHost {
    fn stamp_above(&mut self, above: HybridTime) -> Stamp {
        if let Ok(clock) = self.clock.observe(above, self.now_ms) {
            self.clock = clock;
        }
        self.clock = self.clock.next(self.now_ms);
        Stamp { time: self.clock, node: self.node, boot: Boot(1) }
    }

    fn dot(&mut self) -> Dot {
        Dot { actor: ActorId(1), counter: 1 }
    }
}

pub(crate) struct Bed {
    pub(crate) chat: Chat,
    pub(crate) keyspace: KeyspaceHost,
    pub(crate) store: MemoryStore,
    pub(crate) host: TestHost,
    /// What turns said of the items they changed.
    told: Told,
    /// What turns touched.
    pub(crate) touched: Vec<ChatItem>,
    /// What turns gave to later ones, with the due time.
    pub(crate) later: VecDeque<(u64, ChatCommand)>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(ChatConfig::default(), 1)
    }

    pub(crate) fn with(config: ChatConfig, node: u8) -> Self {
        let store = MemoryStore::new();
        let (keyspace, host) = Keyspace::new(store.open(&KeyspaceId::Node).unwrap());
        host.listen(told::groups::<Chat>());
        let chat = Chat::init(Partition(0), &config, keyspace).unwrap();
        Self {
            chat,
            keyspace: host,
            store,
            host: TestHost { clock: HybridTime(0), now_ms: 1_000_000, node: NodeId::from_random([node; 16]) },
            told: Told::default(),
            touched: Vec::new(),
            later: VecDeque::new(),
        }
    }

    fn end_turn(&mut self) {
        let mut sealed = self.keyspace.seal();
        self.told.add::<Chat>(sealed.changes, &self.keyspace.snapshot()).unwrap();
        self.store.commit(&mut sealed.writes).unwrap();
        self.keyspace.committed(sealed.sequence);
    }

    pub(crate) fn merge(&mut self, item: ChatItem) -> Merged {
        let merged = self.chat.merge(item).unwrap();
        self.end_turn();
        merged
    }

    /// A ring of the smallest size has more than one partition; users that partition 0 is first for can be
    /// had from [`first_user`].
    pub(crate) fn place(&self) -> TurnPlace {
        TurnPlace {
            now_ms: self.host.now_ms,
            partition: Partition(0),
            ring_size: RingSize::try_from(8).unwrap(),
        }
    }

    pub(crate) fn try_run(&mut self, command: ChatCommand) -> Result<Option<ChatReply>, ChatError> {
        let mut command = command;
        loop {
            let place = self.place();
            let mut turn = Turn::new(&mut self.host, place);
            let outcome = match self.chat.handle_command(command, &mut turn) {
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
                Outcome::Reply(reply) => return Ok(Some(reply)),
                Outcome::Nothing => return Ok(None),
                Outcome::Offload(work) => match work(&self.keyspace.snapshot())? {
                    After::Reply(reply) => return Ok(Some(reply)),
                    After::Command(next) => command = next,
                },
            }
        }
    }

    pub(crate) fn run(&mut self, command: ChatCommand) -> ChatReply {
        self.try_run(command).unwrap().unwrap()
    }

    /// The first turn.
    pub(crate) fn start(&mut self) {
        let place = self.place();
        let mut turn = Turn::new(&mut self.host, place);
        self.chat.started(&mut turn).unwrap();
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
    pub(crate) fn fold(&self) -> Vec<ChatItem> {
        let expected = Told::as_folded::<Chat>(&self.keyspace.snapshot()).unwrap();
        assert_eq!(self.told, expected);
        let (items, unreadable) = self.fold_of_what_is_damaged();
        assert_eq!(unreadable, 0);
        items
    }

    /// What a fold shows where rows were changed behind the vnode's back, and how many it skipped.
    pub(crate) fn fold_of_what_is_damaged(&self) -> (Vec<ChatItem>, u64) {
        let (snapshot, mut items) = (self.keyspace.snapshot(), Vec::new());
        Chat::fold(&snapshot, &KeyRange::all(), &mut |item| {
            items.push(item);
            Flow::Continue(())
        })
        .unwrap();
        (items, snapshot.unreadable())
    }

    /// Keys in the store, whatever they are.
    pub(crate) fn rows(&self) -> usize {
        let mut rows = 0;
        let all = KeyRange::all();
        self.keyspace
            .snapshot()
            .scan(&all, ringwork_core::store::Direction::Ascending, &mut |_, _| {
                rows += 1;
                Flow::Continue(())
            })
            .unwrap();
        rows
    }
}

/// A user whose log the bed's partition expires, and one whose it does not.
pub(crate) fn first_user(first: bool) -> String {
    let place = Bed::new().place();
    let mut names = (0..).map(|n| format!("user{n}"));
    names.find(|name| place.is_first_for(Chat::SERVICE, name.as_bytes()) == first).unwrap()
}

pub(crate) fn content(text: &str) -> Content {
    Content { text: text.into(), from: None }
}

/// An id of a certain millisecond.
pub(crate) fn id_at(ms: u64) -> MessageId {
    MessageId::at_ms(ms)
}

pub(crate) fn message(user: &str, id: MessageId, text: &str) -> ChatItem {
    ChatItem::Message { user: user.into(), id, content: content(text) }
}

pub(crate) fn keyed(user: &str, key: &str, id: MessageId, text: Option<&str>) -> ChatItem {
    ChatItem::Keyed {
        user: user.into(),
        key: key.into(),
        id,
        aliases: Default::default(),
        content: text.map(content),
    }
}

pub(crate) fn mark(user: &str, through: MessageId) -> ChatItem {
    ChatItem::Mark { user: user.into(), through }
}
