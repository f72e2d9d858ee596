//! What the simulator has to know of a service: how a node hosts it, how a client asks it, and what a replica holds.

use crate::history::{Operation, Outcome};
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::keyspace::Snapshot;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{Flow, KeyRange, KeyspaceId, Store};
use ringwork_core::vnode::{Item, Vnode};
use ringwork_runtime::node::{Node, NodeBuilder};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// Something that ends later, on this thread.
pub type Later<T> = Pin<Box<dyn Future<Output = T>>>;

/// A service under test.
pub trait Service {
    /// Its name, as in the module.
    fn name(&self) -> &'static str;
    /// Has a node host it.
    fn host(&self, builder: NodeBuilder) -> NodeBuilder;
    /// How clients reach it at a node that has started. The node looks around before this is called.
    fn face(&self, node: &Node) -> Later<Rc<dyn Face>>;
    /// What a key is hashed as.
    fn routing_key(&self, key: &str) -> Vec<u8> {
        key.as_bytes().to_vec()
    }
    /// Whether it can forget what was written.
    fn forgets(&self) -> bool;
    /// Whether it can be asked under which keys there is something.
    fn lists(&self) -> bool {
        false
    }
    /// What a store holds of a partition.
    fn items(&self, store: &MemoryStore, partition: Partition, generation: Generation) -> Items;
    /// The serial of the write that made an item, given as text; none where items are not single writes.
    fn serial_of(&self, item: &str) -> Option<u64> {
        let _ = item;
        None
    }
    /// Whether reads bring an item, given as text, to the replicas that lack it. Where not, only anti-entropy will.
    fn is_mended_by_reads(&self, item: &str) -> bool {
        let _ = item;
        true
    }
}

/// Items of a replica: by routing key, then by the item's own key, each as text.
pub type Items = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, String>>;

/// A client's way into one node.
pub trait Face {
    /// Asks, and waits for the answer `within` that time and a little more.
    fn perform(&self, operation: Operation, within: Duration) -> Later<Outcome>;
}

/// [`Service::items`] of a module.
pub fn items_of<V: Vnode>(store: &MemoryStore, partition: Partition, generation: Generation) -> Items {
    let mut items = Items::new();
    let keyspace = KeyspaceId::Vnode { service: V::SERVICE.to_owned(), partition, generation };
    let opened = store.open(&keyspace).unwrap();
    V::fold(&Snapshot::of(&opened.tree), &KeyRange::all(), &mut |item: V::Item| {
        let of_key: &mut BTreeMap<Vec<u8>, String> = items.entry(item.routing_key().to_vec()).or_default();
        of_key.insert(item.key(), format!("{item:?}"));
        Flow::Continue(())
    })
    .unwrap();
    items
}
