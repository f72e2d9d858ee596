//! The example's module, as it stands there: a third service, of which only the latest write under a key is kept. A
//! write's serial is the time at which the user was seen.

use crate::history::{Operation, Outcome, Seen as Shown};
use crate::service::{Face, Items, Later, Service, items_of};
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::prelude::*;
use ringwork_core::quorum::{Count, QuorumOptions, Verdict};
use ringwork_core::store::memory::MemoryStore;
use ringwork_runtime::coordinator::{ReadFailure, Service as CallSite};
use ringwork_runtime::node::{Node, NodeBuilder};
use std::rc::Rc;
use std::time::Duration;

#[path = "../../../examples/presence.rs"]
#[allow(dead_code)] // its own program, and its own test
mod example;

use example::{Presence, Seen, WhenSeen};

/// See the module's head.
pub struct PresenceService;

impl Service for PresenceService {
    fn name(&self) -> &'static str {
        Presence::SERVICE
    }

    fn host(&self, builder: NodeBuilder) -> NodeBuilder {
        builder.service::<Presence>(())
    }

    fn face(&self, node: &Node) -> Later<Rc<dyn Face>> {
        let calls = node.service::<Presence>().unwrap();
        Box::pin(async move { Rc::new(PresenceFace(calls)) as Rc<dyn Face> })
    }

    fn forgets(&self) -> bool {
        false
    }

    fn lists(&self) -> bool {
        true
    }

    fn items(&self, store: &MemoryStore, partition: Partition, generation: Generation) -> Items {
        items_of::<Presence>(store, partition, generation)
    }
}

struct PresenceFace(CallSite<Presence>);

/// Sorts as the times do.
fn id_of(at: u64) -> String {
    format!("{at:020}")
}

impl Face for PresenceFace {
    fn perform(&self, operation: Operation, within: Duration) -> Later<Outcome> {
        let calls = self.0.clone();
        Box::pin(async move {
            let user = operation.key().to_owned();
            let hosted = calls.key(user.as_bytes()).within(within);
            let exactly = |count: u8| Some(Count::Exactly(usize::from(count)));
            match operation {
                Operation::Write { serial, w, .. } => {
                    let options = QuorumOptions { w: exactly(w), ..QuorumOptions::default() };
                    let seen = Seen { user, at: HybridTime(serial) };
                    let written = hosted.quorum(options).merge(seen).await.unwrap();
                    let nodes = written.nodes.iter().map(|node| calls.core().node.name_of(*node).to_string());
                    match written.verdict {
                        Verdict::Done => {
                            Outcome::Acknowledged { id: Some(id_of(serial)), nodes: nodes.collect() }
                        }
                        Verdict::Refused(refusal) => Outcome::Refused(refusal.to_string()),
                        Verdict::Unknown => Outcome::Unknown { name: None, why: "unknown".to_owned() },
                        Verdict::Declined => Outcome::Wrong("nothing speaks against being seen".to_owned()),
                    }
                }
                Operation::Read { r, .. } => {
                    let options = QuorumOptions { r: exactly(r), ..QuorumOptions::default() };
                    match hosted.quorum(options).read(WhenSeen(user)).await.unwrap() {
                        Ok(answered) => {
                            let latest = answered.reply.map(|seen| (seen.at.0, id_of(seen.at.0)));
                            let seen = Shown::Writes { writes: latest.into_iter().collect(), cut: true };
                            Outcome::Read { seen, degraded: answered.degraded }
                        }
                        Err(ReadFailure::Refused(refusal)) => Outcome::Refused(refusal.to_string()),
                        Err(failure) => Outcome::Unknown { name: None, why: format!("{failure:?}") },
                    }
                }
                Operation::List => {
                    let rows = match calls.coverage(EveryItem).within(within).list() {
                        Ok(listing) => listing.rows().await,
                        Err(refusal) => return Outcome::Refused(refusal.to_string()),
                    };
                    match rows {
                        Ok(rows) => {
                            Outcome::Listed(rows.into_iter().map(|row| row.into_item().user).collect())
                        }
                        Err(failure) => Outcome::Unknown { name: None, why: failure.to_string() },
                    }
                }
                Operation::Forget { .. } => Outcome::Refused("presence forgets nothing".to_owned()),
            }
        })
    }
}
