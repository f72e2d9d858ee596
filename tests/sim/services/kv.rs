//! The object store, through the call site that HTTP stands on. A write is what careful clients do: read, make one
//! value of all siblings, add one's own serial, and write that under the context that was read. So a value that is
//! lost, replaced by somebody who had not seen it, or swallowed by a clock that went back takes serials with it that
//! nobody writes again, and the oracle misses them.

use crate::history::{Operation, Outcome, Seen};
use crate::service::{Face, Items, Later, Service, items_of};
use ringwork::kv::{
    BucketProps, Content, Kv, KvConfig, KvFailure, KvList, KvStore, Object, ObjectName, PutRequest, Quorums,
    Request,
};
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::quorum::Count;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::vnode::Vnode;
use ringwork_runtime::node::{Node, NodeBuilder};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// See the module's head.
pub struct KvService;

/// Siblings of which a put may be one, at most: each client, and each request whose outcome nobody knows, in a
/// network in which a side cannot know of the other's. More means that somebody stands beside what it has seen.
const SIBLINGS_MAX: usize = 60;

fn name_of(key: &str) -> ObjectName {
    // A list is of no key.
    let key = if key.is_empty() { "-" } else { key };
    ObjectName::new("default", b"sim", key.as_bytes()).unwrap()
}

impl Service for KvService {
    fn name(&self) -> &'static str {
        Kv::SERVICE
    }

    fn host(&self, builder: NodeBuilder) -> NodeBuilder {
        builder.service::<Kv>(KvConfig::default())
    }

    fn face(&self, node: &Node) -> Later<Rc<dyn Face>> {
        let store = KvStore::new(node.service::<Kv>().unwrap());
        Box::pin(async move { Rc::new(KvFace(store)) as Rc<dyn Face> })
    }

    fn routing_key(&self, key: &str) -> Vec<u8> {
        name_of(key).bytes().to_vec()
    }

    fn forgets(&self) -> bool {
        false
    }

    fn lists(&self) -> bool {
        true
    }

    fn items(&self, store: &MemoryStore, partition: Partition, generation: Generation) -> Items {
        items_of::<Kv>(store, partition, generation)
    }
}

struct KvFace(KvStore);

/// The serials in all siblings.
fn serials(object: &Object) -> BTreeSet<u64> {
    let of_value = |value: &[u8]| -> Vec<u64> {
        let text = String::from_utf8_lossy(value);
        text.split(',').filter_map(|serial| serial.parse().ok()).collect()
    };
    object.siblings().flat_map(|sibling| of_value(&sibling.content.value)).collect()
}

/// Sorts as the serials do.
fn id_of(serial: u64) -> String {
    format!("{serial:020}")
}

fn failed(failure: KvFailure) -> Outcome {
    match failure {
        // Also a deadline: then too few had answered a read, and nothing was written.
        KvFailure::Refused(_) | KvFailure::Deadline => Outcome::Refused(failure.to_string()),
        KvFailure::Unknown { .. } => Outcome::Unknown { name: None, why: failure.to_string() },
        other => Outcome::Wrong(other.to_string()),
    }
}

impl Face for KvFace {
    fn perform(&self, operation: Operation, within: Duration) -> Later<Outcome> {
        let store = self.0.clone();
        Box::pin(async move {
            let node = store.calls().core().node.clone();
            let ends = node.clock.moment() + within;
            let left = || ends.saturating_sub(node.clock.moment());
            let props = BucketProps { allow_mult: true, ..store.bucket_props("default", b"sim").unwrap() };
            let exactly = |count: u8| Some(Count::Exactly(usize::from(count)));
            match operation {
                Operation::Write { key, serial, w, .. } => {
                    let name = name_of(&key);
                    let quorums = Quorums { w: exactly(w), dw: exactly(0), ..Quorums::default() };
                    let request = Request { quorums, within: left(), ..Request::new(&name, &props) };
                    let got = match store.get(&request).await {
                        Ok(got) => got,
                        Err(failure) => return failed(failure),
                    };
                    if got.object.len() > SIBLINGS_MAX {
                        return Outcome::Wrong(format!("{} siblings of {key}", got.object.len()));
                    }
                    let mut all = serials(&got.object);
                    all.insert(serial);
                    let text = all.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
                    let seen = got.object.context();
                    let put = PutRequest { seen, ..PutRequest::of(Content::of(text.as_str())) };
                    match store.put(&Request { within: left(), ..request }, put).await {
                        Ok(done) => {
                            let nodes = done.nodes.iter().map(|of| node.name_of(*of).to_string()).collect();
                            Outcome::Acknowledged { id: Some(id_of(serial)), nodes }
                        }
                        Err(failure) => failed(failure),
                    }
                }
                Operation::Read { key, r, .. } => {
                    let name = name_of(&key);
                    let quorums = Quorums { r: exactly(r), ..Quorums::default() };
                    let request = Request { quorums, within, ..Request::new(&name, &props) };
                    match store.get(&request).await {
                        Ok(got) => {
                            let writes =
                                serials(&got.object).into_iter().map(|serial| (serial, id_of(serial)));
                            let seen = Seen::Writes { writes: writes.collect(), cut: false };
                            Outcome::Read { seen, degraded: got.degraded }
                        }
                        Err(KvFailure::Deadline) => {
                            Outcome::Unknown { name: None, why: "too few answered in time".to_owned() }
                        }
                        Err(failure) => failed(failure),
                    }
                }
                Operation::List => {
                    let question = KvList::Keys { bucket_type: "default".to_owned(), bucket: "sim".into() };
                    let rows = match store.calls().coverage(question).within(within).list() {
                        Ok(listing) => listing.rows().await,
                        Err(refusal) => return Outcome::Refused(refusal.to_string()),
                    };
                    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
                    match rows {
                        Ok(rows) => Outcome::Listed(rows.iter().map(|row| text(&row.0)).collect()),
                        Err(failure) => Outcome::Unknown { name: None, why: failure.to_string() },
                    }
                }
                Operation::Forget { .. } => Outcome::Refused("this one deletes nothing".to_owned()),
            }
        })
    }
}
