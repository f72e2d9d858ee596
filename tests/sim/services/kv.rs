//! The object store, through the call site that HTTP stands on. A write is what careful clients do: read, make one
//! value of all siblings, add one's own serial, and write that under the context that was read. So a value that is
//! lost, replaced by somebody who had not seen it, or swallowed by a clock that went back takes serials with it that
//! nobody writes again, and the oracle misses them. What else can be asked of it, and what must be true of that, is in
//! `own`.

mod own;

use self::own::{BLIND, CREATE, DELETE, LOOK, Ledger, PREFIX, READ, REMOVE, REPLACE, STALE, Shown, Told};
use crate::history::{Operation, Outcome, Seen};
use crate::service::{Face, Items, Later, OwnRequests, Service, items_of};
use ringwork::kv::{
    BucketProps, Conditions, Content, Deleted, Kv, KvConfig, KvFailure, KvList, KvStore, Object, ObjectName,
    PutRefusal, PutRequest, Quorums, Request, Tags,
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
#[derive(Default)]
pub struct KvService(Rc<Ledger>);

/// Siblings of which a put may be one, at most: each client, and each request whose outcome nobody knows, in a
/// network in which a side cannot know of the other's. More means that somebody stands beside what it has seen.
const SIBLINGS_MAX: usize = 60;

fn name_of(key: &str) -> ObjectName {
    // A list is of no key.
    let key = if key.is_empty() { "-" } else { key };
    let bucket: &[u8] = if key.starts_with(PREFIX) { b"own" } else { b"sim" };
    ObjectName::new("default", bucket, key.as_bytes()).unwrap()
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
        let ledger = self.0.clone();
        Box::pin(async move { Rc::new(KvFace(store, ledger)) as Rc<dyn Face> })
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

    fn own(&self) -> Option<Rc<dyn OwnRequests>> {
        Some(self.0.clone())
    }

    fn items(&self, store: &MemoryStore, partition: Partition, generation: Generation) -> Items {
        items_of::<Kv>(store, partition, generation)
    }
}

struct KvFace(KvStore, Rc<Ledger>);

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
        let (store, ledger) = (self.0.clone(), self.1.clone());
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
                    ledger.note_dots(&key, &got.object);
                    if got.object.len() > SIBLINGS_MAX {
                        return Outcome::Wrong(format!("{} siblings of {key}", got.object.len()));
                    }
                    let mut all = serials(&got.object);
                    all.insert(serial);
                    let text = all.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
                    let seen = got.object.context();
                    let content = Content::of(text.as_str());
                    let put = PutRequest { seen, return_object: true, ..PutRequest::of(content) };
                    match store.put(&Request { within: left(), ..request }, put).await {
                        Ok(done) => {
                            done.stored.object.iter().for_each(|object| ledger.note_dots(&key, object));
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
                            ledger.note_dots(&key, &got.object);
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

    fn perform_own(&self, number: usize, within: Duration) -> Later<String> {
        let (store, ledger) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            let (told, object) = ask_own(&store, &ledger, number, within).await;
            let text = format!("{told:?}");
            ledger.told(number, told, object.as_ref());
            text
        })
    }
}

/// Carries out a request of the ledger's; what it came to, and of a write what it left.
async fn ask_own(
    store: &KvStore,
    ledger: &Ledger,
    number: usize,
    within: Duration,
) -> (Told, Option<Object>) {
    let node = store.calls().core().node.clone();
    let ends = node.clock.moment() + within;
    let left = || ends.saturating_sub(node.clock.moment());
    let asked = ledger.attempt(number).beginning.request;
    let name = name_of(&asked.key);
    let props = BucketProps { allow_mult: true, ..store.bucket_props("default", b"own").unwrap() };
    let w = if asked.dice.is_multiple_of(8) { 1 } else { 2 };
    let exactly = |count: u8| Some(Count::Exactly(usize::from(count)));
    let r = if asked.what == LOOK { 3 } else { 2 };
    let quorums = Quorums { r: exactly(r), w: exactly(w), dw: exactly(0), ..Quorums::default() };
    let request = Request { quorums, within, ..Request::new(&name, &props) };
    let failed = |failure: KvFailure| match failure {
        KvFailure::Declined(PutRefusal::Condition(why)) => Told::Condition(why),
        KvFailure::Refused(_) | KvFailure::Deadline => Told::Refused(failure.to_string()),
        KvFailure::Unknown { .. } => Told::Unknown(failure.to_string()),
        other => {
            ledger.wrong(number, &other.to_string());
            Told::Refused(other.to_string())
        }
    };
    if asked.what == REMOVE {
        ledger.writes_under(number, &Shown::default(), w);
        let told = match store.delete(&request, None, Conditions::default()).await {
            Ok(Deleted::Done { .. }) => Told::Done(Vec::new()),
            Ok(Deleted::NotFound) => Told::NotFound,
            Err(failure) => failed(failure),
        };
        return (told, None);
    }
    let seen = match asked.what {
        BLIND | CREATE => Shown::default(),
        STALE | REPLACE if !asked.dice.is_multiple_of(3) => {
            ledger.old(&asked.key, asked.dice).unwrap_or_default()
        }
        _ => match store.get(&request).await {
            Ok(got) => ledger.shown(number, &got.object),
            Err(failure) => return (failed(failure), None),
        },
    };
    if [READ, LOOK].contains(&asked.what) {
        return (Told::Done(Vec::new()), None);
    }
    let seen = ledger.writes_under(number, &seen, w);
    let conditions = match asked.what {
        CREATE => Conditions { if_none_match: Some(Tags::Any), ..Conditions::default() },
        REPLACE => Conditions { if_not_modified: Some(seen.clone()), ..Conditions::default() },
        _ => Conditions::default(),
    };
    // Deletes, too, with the number of who deletes: a tombstone is a value like others.
    let content = Content { deleted: asked.what == DELETE, ..Content::of(number.to_string().as_str()) };
    let put = PutRequest { content, seen, conditions, return_object: true };
    match store.put(&Request { within: left(), ..request }, put).await {
        Ok(done) => {
            let nodes = done.nodes.iter().map(|of| node.name_of(*of).to_string()).collect();
            (Told::Done(nodes), done.stored.object)
        }
        Err(failure) => (failed(failure), None),
    }
}
