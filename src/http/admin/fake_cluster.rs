//! A cluster that exists in a test's memory only, behind the real admin routes: three nodes of which one asks,
//! with changes that are staged, planned and committed as an operator expects. It refuses what it is told to.

use super::super::{AppState, Door, routes};
use actix_web::{App, HttpServer, web};
use ringwork_chat::{Chat, ChatConfig};
use ringwork_runtime::administration::{
    Administration, AdministrationRefusal, Answering, AntiEntropyStatus, Availability, Change,
    ClusterSetting, ClusterStatus, HandoffStatus, MemberStatus, PartitionStatus, PlanStatus, PlannedMove,
    PlannedShare, PreflistPlace, PreflistStatus, RingStatus, StagedChange, StrayStatus, TransferStatus,
};
use ringwork_runtime::antientropy::board::RepairLine;
use ringwork_runtime::node::Node;
use ringwork_runtime::spawner::Placement;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// What the tests see and set.
pub(crate) struct State {
    pub(crate) cluster: ClusterStatus,
    pub(crate) ring: RingStatus,
    pub(crate) plan: PlanStatus,
    pub(crate) is_planned: bool,
    pub(crate) handoff: HandoffStatus,
    /// The one setting there is.
    pub(crate) setting: ClusterSetting,
    /// What was asked for, in order.
    pub(crate) asked: Vec<String>,
    /// Answers every further request for a change.
    pub(crate) refusal: Option<AdministrationRefusal>,
}

/// The cluster.
pub(crate) struct FakeCluster(Mutex<State>);

pub(crate) fn member(name: &str, status: &str, partitions: usize, pending_partitions: usize) -> MemberStatus {
    MemberStatus {
        name: name.to_owned(),
        id: format!("id-of-{name}"),
        address: format!("10.0.0.{}:8099", name.trim_start_matches('n')),
        status: status.to_owned(),
        available: Availability::Up,
        share: partitions as f64 / 64.0,
        pending_share: pending_partitions as f64 / 64.0,
        partitions,
        pending_partitions,
        location: None,
        services: vec!["chat".to_owned()],
        protocols: Some((1, 1)),
        features: vec!["shared-settings".to_owned()],
    }
}

pub(crate) fn staged(kind: &str, node: &str, location: Option<&str>) -> StagedChange {
    let location = location.map(str::to_owned);
    StagedChange { kind: kind.to_owned(), node: node.to_owned(), location, with: None }
}

pub(crate) fn replaced(kind: &str, old: &str, new: &str) -> StagedChange {
    StagedChange { with: Some(new.to_owned()), ..staged(kind, old, None) }
}

impl Default for FakeCluster {
    /// n1 is a member, n2 and n3 want to be.
    fn default() -> Self {
        let share = |node: &str, before, after| PlannedShare {
            node: node.to_owned(),
            status: "valid".to_owned(),
            before,
            after,
        };
        let moves = |to: &str, from: u16| PlannedMove {
            from: "n1".to_owned(),
            to: to.to_owned(),
            partitions: (from..from + 21).collect(),
        };
        let cluster = ClusterStatus {
            cluster: "75100423-89f5-4467-850c-db2e3f0aa268".to_owned(),
            node: "n1".to_owned(),
            claimant: Some("n1".to_owned()),
            ring_ready: true,
            waiting_for: Vec::new(),
            settled: true,
            epoch: 1,
            ring_size: 64,
            members: vec![
                member("n1", "valid", 64, 64),
                member("n2", "joining", 0, 0),
                member("n3", "joining", 0, 0),
            ],
            staged: Vec::new(),
            features: vec!["shared-settings".to_owned()],
        };
        let ring = RingStatus {
            ring_size: 64,
            epoch: 1,
            claimant: Some("n1".to_owned()),
            ring_ready: true,
            waiting_for: Vec::new(),
            settled: true,
            pending: Vec::new(),
            strays: Vec::new(),
            node_violations: vec![64, 64, 64],
            location_violations: Vec::new(),
            incomplete: Vec::new(),
        };
        let plan = PlanStatus {
            digest: "d1".to_owned(),
            epoch: 2,
            changes: Vec::new(),
            shares: vec![share("n1", 64, 22), share("n2", 0, 21), share("n3", 0, 21)],
            moves: vec![moves("n2", 0), moves("n3", 21)],
            forced: Vec::new(),
            moved: 42,
            moved_bound: 42,
            node_violations: vec![0, 2, 64],
            location_violations: Vec::new(),
            warnings: vec!["n3 has no location".to_owned()],
        };
        let handoff = HandoffStatus {
            node: "n1".to_owned(),
            limit: 4,
            paused: false,
            bytes_per_second: None,
            running: Vec::new(),
            waiting: Vec::new(),
            recent: Vec::new(),
            repairing: Vec::new(),
            totals: Vec::new(),
        };
        let (is_planned, asked, refusal) = (false, Vec::new(), None);
        let setting = ClusterSetting {
            key: "handoff.limit".to_owned(),
            value: "4".to_owned(),
            source: "configuration".to_owned(),
            takes: "1 to 64".to_owned(),
            configured: "4".to_owned(),
            ..ClusterSetting::default()
        };
        Self(Mutex::new(State { cluster, ring, plan, is_planned, handoff, setting, asked, refusal }))
    }
}

impl FakeCluster {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Puts the admin routes in front of it, and says where.
    pub(crate) async fn serve(self: Arc<Self>) -> String {
        let options = crate::server::trial_options(Placement::Here);
        let node = Node::builder(options).service::<Chat>(ChatConfig::default()).start().await.unwrap();
        // Dropped, it would end the streams; there are none.
        let (_, closing) = watch::channel(false);
        let state = web::Data::new(AppState {
            core: node.core().clone(),
            administration: self,
            chat: node.service::<Chat>().unwrap(),
            census: Box::new(node.census()),
            door: Door::new(16),
            answers: Arc::default(),
            ready: AtomicBool::new(true),
            closing,
            address: ([127, 0, 0, 1], 0).into(),
            durability: "os",
            body_bytes_max: 32 * 1024,
            text_bytes_max: 1024,
            request_timeout: Duration::from_secs(10),
        });
        let server = HttpServer::new(move || App::new().app_data(state.clone()).configure(routes))
            .workers(1)
            .disable_signals()
            .shutdown_timeout(0)
            .bind(("127.0.0.1", 0))
            .unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        actix_rt::spawn(async move {
            let _held = node;
            let _ = server.run().await;
        });
        url
    }

    fn answer<T: 'static>(
        &self,
        asked: String,
        answer: impl FnOnce(&mut State) -> Result<T, AdministrationRefusal>,
    ) -> Answering<T> {
        let mut state = self.state();
        state.asked.push(asked);
        let outcome = match state.refusal.clone() {
            Some(refusal) => Err(refusal),
            None => answer(&mut state),
        };
        Box::pin(std::future::ready(outcome))
    }

    fn at_once<T>(
        &self,
        asked: String,
        answer: impl FnOnce(&mut State) -> T,
    ) -> Result<T, AdministrationRefusal> {
        let mut state = self.state();
        state.asked.push(asked);
        match state.refusal.clone() {
            Some(refusal) => Err(refusal),
            None => Ok(answer(&mut state)),
        }
    }

    fn set_paused(&self, paused: bool) -> HandoffStatus {
        let mut state = self.state();
        state.asked.push(if paused { "pause" } else { "resume" }.to_owned());
        state.handoff.paused = paused;
        state.handoff.clone()
    }
}

impl Administration for FakeCluster {
    fn cluster_status(&self) -> ClusterStatus {
        self.state().cluster.clone()
    }

    fn ring_status(&self) -> RingStatus {
        self.state().ring.clone()
    }

    fn partitions(&self, of: Option<&str>) -> Result<Vec<PartitionStatus>, AdministrationRefusal> {
        if of == Some("n9") {
            return Err(AdministrationRefusal::new("unknown-node", "no member is called n9"));
        }
        let partition = |number: u16, target: &str| PartitionStatus {
            partition: number,
            index: format!("{number}00000"),
            holder: "n1".to_owned(),
            target: target.to_owned(),
            fence: 0,
            hop: 2,
        };
        Ok(vec![partition(0, "n1"), partition(7, "n2")])
    }

    fn preflist(
        &self,
        service: &str,
        key: &[u8],
        n: Option<usize>,
    ) -> Result<PreflistStatus, AdministrationRefusal> {
        let place = |partition: u16| PreflistPlace {
            partition,
            node: format!("n{}", partition - 40),
            address: format!("10.0.0.{}:8099", partition - 40),
            role: if partition == 43 { "fallback" } else { "primary" }.to_owned(),
            stands_in_for: (partition == 43).then(|| "n9".to_owned()),
            available: if partition == 42 { Availability::Suspect } else { Availability::Up },
        };
        let key = String::from_utf8_lossy(key).into_owned();
        let places = (41..).take(n.unwrap_or(3)).map(place).collect();
        Ok(PreflistStatus { service: service.to_owned(), key, places })
    }

    fn stage(&self, change: Change) -> Answering<Vec<StagedChange>> {
        self.answer(format!("{change:?}"), |state| {
            let me = || "n1".to_owned();
            let change = match change {
                Change::Join { .. } => staged("join", "n2", None),
                Change::Leave { node } => staged("leave", &node.unwrap_or_else(me), None),
                Change::Location { node, location } => {
                    staged("location", &node.unwrap_or_else(me), location.as_deref())
                }
                Change::Rebalance => staged("rebalance", "", None),
                Change::Replace { old, new } => replaced("replace", &old, &new),
                Change::ForceReplace { old, new } => replaced("force-replace", &old, &new),
                Change::ForceRemove { node } => staged("force-remove", &node, None),
            };
            state.cluster.staged.push(change);
            Ok(state.cluster.staged.clone())
        })
    }

    fn mark_down(&self, node: &str) -> Answering<()> {
        self.answer(format!("down {node}"), |_| Ok(()))
    }

    fn plan(&self) -> Answering<PlanStatus> {
        self.answer("plan".to_owned(), |state| {
            if state.cluster.staged.is_empty() {
                return Err(AdministrationRefusal::new("nothing-staged", "nothing is staged"));
            }
            state.is_planned = true;
            state.plan.changes = state.cluster.staged.clone();
            Ok(state.plan.clone())
        })
    }

    fn shown_plan(&self) -> Answering<PlanStatus> {
        self.answer("shown plan".to_owned(), |state| match state.is_planned {
            true => Ok(state.plan.clone()),
            false => Err(AdministrationRefusal::new("no-plan", "there is no plan; make one")),
        })
    }

    fn commit(&self) -> Answering<PlanStatus> {
        self.answer("commit".to_owned(), |state| {
            if !state.is_planned {
                return Err(AdministrationRefusal::new("no-plan", "there is no plan; make one"));
            }
            state.is_planned = false;
            state.cluster.epoch = state.plan.epoch;
            state.cluster.members.iter_mut().for_each(|member| member.status = "valid".to_owned());
            state.cluster.staged.clear();
            Ok(state.plan.clone())
        })
    }

    fn clear(&self) -> Answering<()> {
        self.answer("clear".to_owned(), |state| {
            state.cluster.staged.clear();
            Ok(())
        })
    }

    fn settings(&self) -> Vec<ClusterSetting> {
        vec![self.state().setting.clone()]
    }

    fn setting(&self, key: &str) -> Result<ClusterSetting, AdministrationRefusal> {
        let unknown = || AdministrationRefusal::new("unknown-setting", format!("there is no setting {key}"));
        self.settings().into_iter().find(|setting| setting.key == key).ok_or_else(unknown)
    }

    fn change_setting(&self, key: &str, value: Option<&str>, of: Option<&str>) -> Answering<ClusterSetting> {
        self.answer(format!("set {key} {value:?} {of:?}"), |state| {
            let setting = &mut state.setting;
            match (of, value) {
                (Some(node), Some(value)) => _ = setting.nodes.insert(node.to_owned(), value.to_owned()),
                (Some(node), None) => _ = setting.nodes.remove(node),
                (None, value) => setting.cluster = value.map(str::to_owned),
            }
            setting.value = setting.cluster.clone().unwrap_or_else(|| setting.configured.clone());
            setting.source = if setting.cluster.is_some() { "cluster" } else { "configuration" }.to_owned();
            Ok(setting.clone())
        })
    }

    fn anti_entropy_status(&self) -> AntiEntropyStatus {
        AntiEntropyStatus {
            node: "n1".to_owned(),
            enabled: true,
            interval_ms: 15_000,
            services: [("chat".to_owned(), RepairLine { pairs: 3, ..RepairLine::default() })].into(),
        }
    }

    fn handoff_status(&self) -> HandoffStatus {
        self.state().handoff.clone()
    }

    fn set_handoff_limit(
        &self,
        limit: Option<u32>,
        bytes_per_second: Option<Option<u64>>,
    ) -> Result<HandoffStatus, AdministrationRefusal> {
        self.at_once(format!("limit {limit:?} {bytes_per_second:?}"), |state| {
            let handoff = &mut state.handoff;
            handoff.limit = limit.unwrap_or(handoff.limit);
            handoff.bytes_per_second = bytes_per_second.unwrap_or(handoff.bytes_per_second);
            handoff.clone()
        })
    }

    fn pause_handoff(&self) -> HandoffStatus {
        self.set_paused(true)
    }

    fn resume_handoff(&self) -> HandoffStatus {
        self.set_paused(false)
    }

    fn repair(&self, partitions: Option<Vec<u16>>) -> Result<Vec<u16>, AdministrationRefusal> {
        self.at_once(format!("repair {partitions:?}"), |_| partitions.unwrap_or_else(|| (0..43).collect()))
    }
}

/// A transfer of which nothing but its way is special: half of a MiB is done.
pub(crate) fn transfer(direction: &str, partition: u16, peer: &str) -> TransferStatus {
    TransferStatus {
        direction: direction.to_owned(),
        kind: "ownership".to_owned(),
        partition,
        peer: peer.to_owned(),
        items_done: 512,
        items_estimate: 1024,
        bytes_done: 512 * 1024,
        bytes_estimate: 1024 * 1024,
        bytes_sent: 600 * 1024,
        share: 0.5,
        items_per_second: 100,
        bytes_per_second: 100 * 1024,
        eta_s: Some(6),
        age_s: 5,
        idle_s: 0,
        unreadable: 0,
    }
}

/// Data in the wrong place.
pub(crate) fn stray(node: &str, partition: u16, holder: &str) -> StrayStatus {
    StrayStatus { node: node.to_owned(), partition, holder: holder.to_owned() }
}
