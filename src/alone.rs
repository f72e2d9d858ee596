//! What operators see of a node that is the whole cluster: one member, one claimant, nothing to move. It stands
//! in for the ring manager's own administration, and changes nothing.

use ringwork_core::limits::SERVICE_NAME_BYTES_MAX;
use ringwork_core::ring::KeyHash;
use ringwork_runtime::administration::{
    Administration, AdministrationRefusal, Answering, Availability, Change, ClusterStatus, MemberStatus,
    PartitionStatus, PlanStatus, PreflistPlace, PreflistStatus, RingStatus, StagedChange,
};
use ringwork_runtime::node::NodeCore;
use std::sync::Arc;

/// Consecutive partitions that are looked at for a node that occurs twice.
const WINDOW_MAX: usize = 4;

/// The administration of a node without others.
pub(crate) struct Alone {
    core: Arc<NodeCore>,
    address: String,
}

impl Alone {
    pub(crate) fn new(core: Arc<NodeCore>, address: String) -> Self {
        Self { core, address }
    }

    fn check(&self, node: &str) -> Result<(), AdministrationRefusal> {
        if node == self.core.name || node == self.core.id.to_string() {
            return Ok(());
        }
        let shown: String = node.chars().take(64).collect();
        let name = &self.core.name;
        Err(AdministrationRefusal::new(
            "unknown-node",
            format!("no member is called {shown:?}; there is {name}"),
        ))
    }
}

fn later<T: 'static>(outcome: Result<T, AdministrationRefusal>) -> Answering<T> {
    Box::pin(std::future::ready(outcome))
}

fn nothing_staged<T: 'static>() -> Answering<T> {
    let why = "nothing is staged; stage a change first, for example with `ringwork cluster join`";
    later(Err(AdministrationRefusal::new("nothing-staged", why)))
}

fn no_plan<T: 'static>() -> Answering<T> {
    let why = "there is no plan; make one with `ringwork cluster plan`";
    later(Err(AdministrationRefusal::new("no-plan", why)))
}

impl Administration for Alone {
    fn cluster_status(&self) -> ClusterStatus {
        let view = self.core.ring.load();
        let size = view.ring.size().count();
        let partitions = view.ring.owned_by(self.core.id).count();
        let share = partitions as f64 / size as f64;
        ClusterStatus {
            cluster: view.ring.cluster().to_string(),
            node: self.core.name.clone(),
            claimant: Some(self.core.name.clone()),
            ring_ready: true,
            waiting_for: Vec::new(),
            settled: true,
            epoch: 1,
            ring_size: size,
            members: vec![MemberStatus {
                name: self.core.name.clone(),
                id: self.core.id.to_string(),
                address: self.address.clone(),
                status: "valid".to_owned(),
                available: Availability::Up,
                share,
                pending_share: share,
                partitions,
                pending_partitions: partitions,
                location: None,
                services: vec!["chat".to_owned()],
            }],
            staged: Vec::new(),
        }
    }

    fn ring_status(&self) -> RingStatus {
        let size = self.core.ring.load().ring.size().count();
        RingStatus {
            ring_size: size,
            epoch: 1,
            claimant: Some(self.core.name.clone()),
            ring_ready: true,
            waiting_for: Vec::new(),
            settled: true,
            pending: Vec::new(),
            strays: Vec::new(),
            node_violations: vec![size; WINDOW_MAX - 1],
            location_violations: Vec::new(),
            incomplete: Vec::new(),
        }
    }

    fn partitions(&self, of: Option<&str>) -> Result<Vec<PartitionStatus>, AdministrationRefusal> {
        of.map(|of| self.check(of)).transpose()?;
        let size = self.core.ring.load().ring.size();
        let all = size.partitions().map(|partition| PartitionStatus {
            partition: partition.0,
            index: size.index_of(partition).to_string(),
            holder: self.core.name.clone(),
            target: self.core.name.clone(),
            fence: 0,
            hop: 0,
        });
        Ok(all.collect())
    }

    fn preflist(
        &self,
        service: &str,
        key: &[u8],
        n: Option<usize>,
    ) -> Result<PreflistStatus, AdministrationRefusal> {
        if service.len() > SERVICE_NAME_BYTES_MAX || service != "chat" {
            let why = "no service of that name runs here; there is chat";
            return Err(AdministrationRefusal::new("unknown-service", why));
        }
        let ring = &self.core.ring.load().ring;
        let n = n.unwrap_or(self.core.quorum.n_val);
        let places = ring.preflist(&KeyHash::of(service, key), n).into_iter().map(|entry| PreflistPlace {
            partition: entry.partition.0,
            node: self.core.name.clone(),
            address: self.address.clone(),
            role: "primary".to_owned(),
            stands_in_for: None,
            available: Availability::Up,
        });
        let key = String::from_utf8_lossy(key).into_owned();
        Ok(PreflistStatus { service: service.to_owned(), key, places: places.collect() })
    }

    fn stage(&self, change: Change) -> Answering<Vec<StagedChange>> {
        let refusal = match change {
            Change::Join { .. } => {
                AdministrationRefusal::new("seed-unreachable", "this node has no way to others")
            }
            Change::Leave { node: Some(node) } | Change::Location { node: Some(node), .. }
                if self.check(&node).is_err() =>
            {
                return later(self.check(&node).map(|()| Vec::new()));
            }
            Change::Leave { .. } => {
                AdministrationRefusal::new("only-member", "the last member cannot leave; stop it instead")
            }
            Change::Location { .. } | Change::Rebalance => {
                AdministrationRefusal::new("only-member", "with one member there is nothing to place")
            }
        };
        later(Err(refusal))
    }

    fn mark_down(&self, node: &str) -> Answering<()> {
        let up = AdministrationRefusal::new(
            "node-is-up",
            "the node answers; only one that does not can be marked down",
        );
        later(self.check(node).and(Err(up)))
    }

    fn plan(&self) -> Answering<PlanStatus> {
        nothing_staged()
    }

    fn shown_plan(&self) -> Answering<PlanStatus> {
        no_plan()
    }

    fn commit(&self) -> Answering<PlanStatus> {
        no_plan()
    }

    fn clear(&self) -> Answering<()> {
        later(Ok(()))
    }
}
