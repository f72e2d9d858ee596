//! One vnode of chat with its trees, without an actor round it: turns, and a commit for many of them, as the storage
//! thread makes it. It decides nothing; it is what `VnodeActor` and `Committer` do of a send beside passing messages.

use ringwork::chat::{Chat, ChatConfig, ChatItem, Content, MessageId};
use ringwork::core::antientropy::keeping::Keeper;
use ringwork::core::antientropy::listing::GroupOf;
use ringwork::core::clock::hybrid::{HybridTime, Stamp};
use ringwork::core::ids::{Boot, ClusterId, Generation, NodeId, Partition};
use ringwork::core::keyspace::{Keyspace, KeyspaceHost, Sequence};
use ringwork::core::ring::RingSize;
use ringwork::core::store::{KeyspaceId, Store, Write};
use ringwork::core::vnode::Vnode;
use std::error::Error;
use std::sync::Arc;

const PARTITION: Partition = Partition(7);

/// See the module's head.
pub struct Hosted {
    store: Arc<dyn Store>,
    vnode: Chat,
    host: KeyspaceHost,
    keeper: Keeper,
    writes: Vec<Write>,
    sequence: Sequence,
}

impl Hosted {
    /// An empty vnode in that store.
    pub fn new(store: Arc<dyn Store>) -> Result<Self, Box<dyn Error>> {
        let size = RingSize::try_from(64)?;
        let id =
            KeyspaceId::Vnode { service: "chat".into(), partition: PARTITION, generation: Generation(0) };
        let (keyspace, host) = Keyspace::new(store.open(&id)?);
        let groups = GroupOf::new(ClusterId([7; 16]), "chat", size, PARTITION);
        host.listen(groups);
        let vnode = Chat::init(PARTITION, &ChatConfig::default(), keyspace)?;
        let (keeper, sequence) = (Keeper::empty(groups), Sequence(0));
        Ok(Self { store, vnode, host, keeper, writes: Vec::new(), sequence })
    }

    /// A turn that merges an item; its writes wait for the commit.
    pub fn merge(&mut self, item: ChatItem) -> Result<(), Box<dyn Error>> {
        self.vnode.merge(item)?;
        let sealed = self.host.seal();
        if self.keeper.take(sealed.changes).is_some() {
            return Err("a turn has changed more than its trees take".into());
        }
        self.writes.extend(sealed.writes);
        self.sequence = sealed.sequence;
        Ok(())
    }

    /// Commits what turns have left.
    pub fn commit(&mut self) -> Result<(), Box<dyn Error>> {
        self.store.commit(&mut self.writes)?;
        self.host.committed(self.sequence);
        Ok(())
    }
}

/// The `number`th message of a thousand users, about 100 bytes of text.
pub fn message(number: u64) -> ChatItem {
    let user = format!("user-{:07}", number.wrapping_mul(0x9e37_79b9) % 1000);
    let time = HybridTime((1_800_000_000_000 << 16) + number);
    let id = MessageId::from_stamp(Stamp { time, node: NodeId([7; 16]), boot: Boot(1) });
    ChatItem::Message { user, id, content: Content { text: text(number), from: None } }
}

/// A text of 100 bytes that no other number has.
pub fn text(number: u64) -> String {
    format!(
        "{number:020} {}",
        "the quick brown fox jumps over the lazy dog and the slow cat creeps under it again"
            .get(..79)
            .unwrap_or_default()
    )
}
