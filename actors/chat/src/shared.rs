//! An item that several hold at once: what is kept in memory, the pages that are told from it, the answer made of
//! these. It decides nothing; it spares the copies of texts, and the second summing of what was summed before.

use crate::digest::PageDigest;
use crate::item::ChatItem;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// See the module's head. On the wire, and in comparisons, it is the item.
#[derive(Clone)]
pub struct SharedItem(Arc<Summed>);

struct Summed {
    item: ChatItem,
    /// What stands for the item, once somebody has asked.
    sum: OnceLock<u128>,
}

impl SharedItem {
    /// Bytes that one takes beside its texts, of which the allocator adds some.
    pub(crate) const BYTES: usize = size_of::<Summed>() + 64;

    /// What stands for the item in a page's digest.
    pub(crate) fn sum(&self) -> u128 {
        *self.0.sum.get_or_init(|| PageDigest::sum_of(&self.0.item))
    }
}

impl From<ChatItem> for SharedItem {
    fn from(item: ChatItem) -> Self {
        Self(Arc::new(Summed { item, sum: OnceLock::new() }))
    }
}

impl Deref for SharedItem {
    type Target = ChatItem;

    fn deref(&self) -> &ChatItem {
        &self.0.item
    }
}

impl PartialEq for SharedItem {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.item == other.0.item
    }
}

impl Eq for SharedItem {}

impl PartialEq<ChatItem> for SharedItem {
    fn eq(&self, other: &ChatItem) -> bool {
        self.0.item == *other
    }
}

impl fmt::Debug for SharedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.item.fmt(f)
    }
}

impl Serialize for SharedItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.item.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ChatItem::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;
    use crate::item::Content;
    use ringwork_core::wire::codec::{decode, encode};

    #[test]
    fn on_the_wire_it_is_the_item_and_its_sum_is_the_items() {
        let content = Content { text: "t".into(), from: Some("bob".into()) };
        let item = ChatItem::Message { user: "u".into(), id: MessageId([7; 20]), content };
        let shared = vec![SharedItem::from(item.clone())];
        let encoded = encode(&vec![item.clone()]).unwrap();
        assert_eq!(encode(&shared).unwrap(), encoded);
        let told: Vec<SharedItem> = decode(&encoded).unwrap();
        assert_eq!(told, shared);
        let sum = PageDigest::sum_of(&item);
        assert_eq!((told[0].sum(), shared[0].clone().sum()), (sum, sum));
        let other = ChatItem::Mark { user: "u".into(), through: MessageId([7; 20]) };
        assert!(told[0] != other);
        assert_ne!(told[0], SharedItem::from(other));
    }
}
