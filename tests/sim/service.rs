//! What the simulator has to know of a service: how a node hosts it, how a client asks it, and what a replica holds.

use crate::history::{History, Operation, Outcome};
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::keyspace::Snapshot;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{Flow, KeyRange, KeyspaceId, Store};
use ringwork_core::testing::Draw;
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
    /// Requests that only this service knows, and what must be true of their ends. They are asked beside those that all
    /// services have; a service without any changes nothing in the runs of others.
    fn own(&self) -> Option<Rc<dyn OwnRequests>> {
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

    /// Asks the one of its service's own requests that was begun under that number, and notes there what came of it.
    /// The text is for readers of a trace.
    fn perform_own(&self, number: usize, within: Duration) -> Later<String> {
        let _ = within;
        Box::pin(async move { format!("#{number} is no request of this service's own") })
    }
}

/// One request that only its service knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnRequest {
    /// Under which key; nobody else uses it.
    pub key: String,
    /// What is asked, in the service's own words.
    pub what: &'static str,
    /// From which whatever else is to be chosen is chosen.
    pub dice: u64,
}

/// Where and when one was begun.
#[derive(Clone, Debug)]
pub struct OwnBeginning {
    /// What.
    pub request: OwnRequest,
    /// At which node.
    pub node: u8,
    /// When, since the run began.
    pub at: Duration,
    /// Who held the key's replicas then, as that node saw it.
    pub primaries: Vec<String>,
}

/// The requests of one service's own: it keeps what was asked and what was told, and judges it. Nobody else has to know
/// what they mean.
pub trait OwnRequests {
    /// What a client asks next.
    fn next(&self, draw: &mut Draw) -> OwnRequest;
    /// What shows a key as all of its replicas have it, for each key there is: asked at every node in the end.
    fn last_looks(&self) -> Vec<OwnRequest>;
    /// Notes that one was begun, and gives it a number.
    fn begun(&self, beginning: OwnBeginning) -> usize;
    /// Notes when one ended for its client, however it did, and since when all nodes had seen each other up then.
    fn ended(&self, number: usize, at: Duration, all_up_since: Option<Duration>);
    /// Whether everything that was told until now may be true.
    fn holds(&self) -> Result<(), String>;
    /// The same after the last looks, when all faults are over; before, whether they agree.
    fn held(&self, history: &History) -> Result<(), String>;
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
