//! What an operator can ask of a cluster, and what is shown: plain values, by names and not by ids, in the form in
//! which the command line and HTTP pass them on. It decides the names of fields, which scripts rely on; who
//! carries a request out (the ring manager, or the claimant's) it does not know.

use crate::antientropy::board::RepairLine;
use ringwork_core::metadata::EntryRefusal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

/// Something an operator asks for that is not done, and nothing was changed. The text says why and the way out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct AdministrationRefusal {
    /// Stable, for programs: `not-a-member`, `nothing-staged`, `no-plan`, `plan-changed`, `claimant-unreachable`,
    /// `seed-unreachable`, `seed-is-self`, `not-a-cluster-port`, `different-ring-size`, `name-taken`,
    /// `already-a-member`, `node-holds-data`, `only-member`, `already-leaving`, `still-joining`, `not-a-replacement`,
    /// `contradicts-staged`, `node-is-up`, `unknown-node`, `bad-location`, `stopping`, `store-failed`, `deadline`,
    /// `bad-limit`, `unknown-setting`, `bad-setting`, `feature-missing`, `overloaded`,
    /// `unknown-partition`, `not-the-holder`, `metadata-full`, `not-yet`.
    pub code: String,
    /// Why, and what to do.
    pub detail: String,
}

impl AdministrationRefusal {
    /// A refusal.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into() }
    }

    /// Why the metadata did not take an entry: for want of room, for the moment, or because of what it is; then the
    /// code is `wrong`.
    pub fn of_entry(refusal: &EntryRefusal, wrong: &str) -> Self {
        let code = match refusal {
            _ if refusal.is_full() => "metadata-full",
            _ if refusal.is_passing() => "not-yet",
            _ => wrong,
        };
        Self::new(code, refusal.to_string())
    }
}

/// How well a member can be reached, as the asked node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It answers.
    Up,
    /// It was late; it is still used.
    Suspect,
    /// It does not answer; others stand in for it.
    Down,
}

/// One member of the cluster.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where other nodes reach it, host:port of its cluster port.
    pub address: String,
    /// `joining`, `valid`, `leaving`, `exiting` or `down` (marked so by an operator).
    pub status: String,
    /// As the asked node sees it.
    pub available: Availability,
    /// Part of the ring that it holds now, 0 to 1.
    pub share: f64,
    /// Part of the ring that it is to hold, 0 to 1.
    pub pending_share: f64,
    /// Partitions it holds now.
    pub partitions: usize,
    /// Partitions it is to hold.
    pub pending_partitions: usize,
    /// Its location.
    pub location: Option<String>,
    /// The services that are up on it.
    pub services: Vec<String>,
    /// The oldest and the newest protocol that it speaks; none while it has said nothing.
    #[serde(default)]
    pub protocols: Option<(u16, u16)>,
    /// What it can do that older releases cannot.
    #[serde(default)]
    pub features: Vec<String>,
}

/// One change that waits for a plan and a commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StagedChange {
    /// `join`, `leave`, `location`, `rebalance`, `replace`, `force-replace` or `force-remove`.
    pub kind: String,
    /// The member's name; empty for `rebalance`.
    pub node: String,
    /// The new location, where that is the change (none: to have no location).
    pub location: Option<String>,
    /// Who takes the member's place, where that is the change.
    pub with: Option<String>,
}

/// The cluster, as one node sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// The node that was asked.
    pub node: String,
    /// The member that alone may change the target; none when every member is marked down.
    pub claimant: Option<String>,
    /// Whether every member that counts has seen the state that this node has.
    pub ring_ready: bool,
    /// Names of those that have not.
    pub waiting_for: Vec<String>,
    /// Whether every partition is where it is to be and no node holds data for another.
    pub settled: bool,
    /// How often a plan was committed.
    pub epoch: u64,
    /// Partitions of the ring.
    pub ring_size: usize,
    /// Every member, by name.
    pub members: Vec<MemberStatus>,
    /// What waits for plan and commit.
    pub staged: Vec<StagedChange>,
    /// What every member that is waited for can do, so that it is used.
    #[serde(default)]
    pub features: Vec<String>,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: u16,
    /// Its 160-bit index in decimal.
    pub index: String,
    /// Who holds it.
    pub holder: String,
    /// Who is to hold it.
    pub target: String,
    /// How often possession was forced to another node.
    pub fence: u32,
    /// How often the holder has passed it on since.
    pub hop: u32,
}

/// Data that a node holds for somebody else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StrayStatus {
    /// Who has it.
    pub node: String,
    /// Of which partition.
    pub partition: u16,
    /// Whose it is.
    pub holder: String,
}

/// The ring in a few lines.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RingStatus {
    /// Partitions.
    pub ring_size: usize,
    /// How often a plan was committed.
    pub epoch: u64,
    /// The claimant's name.
    pub claimant: Option<String>,
    /// Whether every member that counts has seen the state that this node has.
    pub ring_ready: bool,
    /// Names of those that have not.
    pub waiting_for: Vec<String>,
    /// See [`ClusterStatus::settled`].
    pub settled: bool,
    /// Partitions that are to move; they wait for handoff when they have data.
    pub pending: Vec<PartitionStatus>,
    /// Data in the wrong place.
    pub strays: Vec<StrayStatus>,
    /// Windows of n consecutive partitions (n = 2, 3, …) with a node twice, as held now.
    pub node_violations: Vec<usize>,
    /// The same for locations; empty when there are fewer than two.
    pub location_violations: Vec<usize>,
    /// What of the asked node's own partitions does not answer for everything yet: it waits for members' word
    /// that they hold nothing for it.
    pub incomplete: Vec<u16>,
}

/// One place of a preference list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreflistPlace {
    /// Its partition.
    pub partition: u16,
    /// Who is asked.
    pub node: String,
    /// That node's cluster address.
    pub address: String,
    /// `primary` or `fallback`.
    pub role: String,
    /// The holder that a fallback stands in for.
    pub stands_in_for: Option<String>,
    /// As the asked node sees it.
    pub available: Availability,
}

/// Who answers for a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreflistStatus {
    /// The service.
    pub service: String,
    /// The key.
    pub key: String,
    /// The places in order.
    pub places: Vec<PreflistPlace>,
}

/// What one member has before and after a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlannedShare {
    /// Its name.
    pub node: String,
    /// Its status after the commit.
    pub status: String,
    /// Partitions that are its target now.
    pub before: usize,
    /// Partitions that will be.
    pub after: usize,
}

/// Partitions that go from one node to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlannedMove {
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Which.
    pub partitions: Vec<u16>,
}

/// What a commit would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlanStatus {
    /// Stands for the content: a commit does just this plan or refuses.
    pub digest: String,
    /// The epoch it would begin.
    pub epoch: u64,
    /// What was staged.
    pub changes: Vec<StagedChange>,
    /// Every member that has or gets something.
    pub shares: Vec<PlannedShare>,
    /// What would have another owner, whether it is passed on or taken.
    pub moves: Vec<PlannedMove>,
    /// What is taken from members who are lost: at once, and without its data.
    pub forced: Vec<PlannedMove>,
    /// Partitions that would have another owner.
    pub moved: usize,
    /// Fewest that could, whatever the algorithm.
    pub moved_bound: usize,
    /// Windows of n consecutive partitions (n = 2, 3, …) with a node twice, afterwards.
    pub node_violations: Vec<usize>,
    /// The same for locations; empty when there are fewer than two.
    pub location_violations: Vec<usize>,
    /// What an operator should know before committing.
    pub warnings: Vec<String>,
}

impl PlanStatus {
    /// Partitions that have to be passed on after a commit: what is taken is there at once.
    pub fn passed_on(&self) -> usize {
        let taken: BTreeSet<u16> = self.forced.iter().flat_map(|taken| &taken.partitions).copied().collect();
        let moving = self.moves.iter().flat_map(|moved| &moved.partitions);
        moving.filter(|partition| !taken.contains(partition)).count()
    }
}

/// A transfer that runs into the asked node or out of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TransferStatus {
    /// `in` or `out`.
    pub direction: String,
    /// `hinted` (a stand-in brings home what it took in), `ownership` (a holder gives its heir everything) or `repair`
    /// (a replica gives a holder what that has lost).
    pub kind: String,
    /// Of which partition.
    pub partition: u16,
    /// The node at the other end.
    pub peer: String,
    /// Items that were acknowledged in this session.
    pub items_done: u64,
    /// Items there are in all, about; never less than what is done.
    pub items_estimate: u64,
    /// Bytes of the items that were acknowledged.
    pub bytes_done: u64,
    /// Bytes there are in all, about; never less than what is done.
    pub bytes_estimate: u64,
    /// Bytes that were sent, acknowledged or not.
    #[serde(default)]
    pub bytes_sent: u64,
    /// Part that is done, 0 to 1.
    pub share: f64,
    /// Items that were acknowledged per second, lately.
    pub items_per_second: u64,
    /// Bytes that were acknowledged per second, lately.
    pub bytes_per_second: u64,
    /// Seconds that are left at this rate; none when it is not known.
    pub eta_s: Option<u64>,
    /// Seconds since it began or was resumed.
    pub age_s: u64,
    /// Seconds since something was last acknowledged.
    pub idle_s: u64,
    /// Items that could not be read and were skipped.
    pub unreadable: u64,
}

/// A transfer out of the asked node that is due and does not run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingTransfer {
    /// As in [`TransferStatus::kind`].
    pub kind: String,
    /// Of which partition.
    pub partition: u16,
    /// Whom it goes to.
    pub peer: String,
    /// What it waits for.
    pub why: String,
}

/// A transfer that has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndedTransfer {
    /// `in` or `out`.
    pub direction: String,
    /// As in [`TransferStatus::kind`].
    pub kind: String,
    /// Of which partition.
    pub partition: u16,
    /// The node at the other end.
    pub peer: String,
    /// Whether everything arrived.
    pub completed: bool,
    /// How it ended, in words.
    pub outcome: String,
    /// Items that were acknowledged in it.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Items that could not be read and were skipped.
    pub unreadable: u64,
    /// Seconds since then.
    pub ago_s: u64,
}

/// Where data for a repair comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RepairSource {
    /// The neighbouring partition.
    pub partition: u16,
    /// Its holder.
    pub node: String,
}

/// A partition of the asked node that is being repaired.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Which.
    pub partition: u16,
    /// What is still awaited.
    pub from: Vec<RepairSource>,
    /// How it is, in words.
    pub text: String,
}

/// What transfers have moved since the asked node's start, those that run included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransferTotals {
    /// `in` or `out`.
    pub direction: String,
    /// As in [`TransferStatus::kind`].
    pub kind: String,
    /// Transfers that completed.
    pub completed: u64,
    /// Transfers that ended otherwise; most of them went on in a later one.
    pub ended: u64,
    /// Items that were acknowledged.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Items that were sent or taken in, acknowledged or not: what interruptions cost is sent again.
    #[serde(default)]
    pub items_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Items that could not be read and were skipped.
    pub unreadable: u64,
}

/// Anti-entropy on one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AntiEntropyStatus {
    /// The node's name.
    pub node: String,
    /// Whether its replicas are compared.
    pub enabled: bool,
    /// How often each pair is to be compared, in milliseconds.
    pub interval_ms: u64,
    /// By service.
    pub services: BTreeMap<String, RepairLine>,
}

/// The transfers of one node, and what is set for them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HandoffStatus {
    /// The node that was asked.
    pub node: String,
    /// Transfers into it at a time, and as many out of it.
    pub limit: u32,
    /// Whether transfers rest: none begins, and none is taken in.
    pub paused: bool,
    /// Bytes that each transfer out of it may send in a second; none for no limit.
    pub bytes_per_second: Option<u64>,
    /// Those that run.
    pub running: Vec<TransferStatus>,
    /// Those that are due out of it.
    pub waiting: Vec<WaitingTransfer>,
    /// Those that ended last, the latest first.
    pub recent: Vec<EndedTransfer>,
    /// Its partitions that are being repaired, or are to be.
    pub repairing: Vec<RepairStatus>,
    /// By direction and kind, every pair.
    pub totals: Vec<TransferTotals>,
}

/// A setting that can be changed while nodes run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClusterSetting {
    /// Its name.
    pub key: String,
    /// What is in force on the asked node.
    pub value: String,
    /// Why: `node` (set for it), `cluster` (set for all) or `configuration`.
    pub source: String,
    /// What it takes.
    pub takes: String,
    /// What the asked node's configuration says.
    pub configured: String,
    /// What is set for the whole cluster.
    pub cluster: Option<String>,
    /// What is set for single nodes, by name.
    pub nodes: BTreeMap<String, String>,
}

/// What an operator changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// The asked node joins the cluster that a seed (host:port of a cluster port) is a member of.
    Join {
        /// Where to ask.
        seed: String,
    },
    /// A member gives away what it has and ends.
    Leave {
        /// Its name or id; none: the asked node.
        node: Option<String>,
    },
    /// A member is at another location.
    Location {
        /// Its name or id; none: the asked node.
        node: Option<String>,
        /// The location; none: it has none.
        location: Option<String>,
    },
    /// Partitions are to be claimed anew.
    Rebalance,
    /// A member gives all it has to one that takes its place, and ends.
    Replace {
        /// Name or id of the one that ends.
        old: String,
        /// Name or id of the one that takes its place: it waits to join, or is a member without partitions.
        new: String,
    },
    /// A member that is not up is removed with all it has, and another takes its place.
    ForceReplace {
        /// Name or id of the one that is lost.
        old: String,
        /// As for [`Change::Replace`].
        new: String,
    },
    /// A member that is not up is removed with all it has.
    ForceRemove {
        /// Its name or id.
        node: String,
    },
}

/// An answer that comes later.
pub type Answering<T> = Pin<Box<dyn Future<Output = Result<T, AdministrationRefusal>>>>;

/// What a node offers its operators. Any node can be asked; what only the claimant may do is passed on to it.
/// Every call ends within its own deadline.
pub trait Administration: Send + Sync {
    /// The cluster as this node sees it.
    fn cluster_status(&self) -> ClusterStatus;
    /// The ring as this node sees it.
    fn ring_status(&self) -> RingStatus;
    /// Every partition, or those that the member named `of` (or with that id) holds or is to hold.
    fn partitions(&self, of: Option<&str>) -> Result<Vec<PartitionStatus>, AdministrationRefusal>;
    /// Who answers for a key of a service; `n`: the service's number of replicas when none.
    fn preflist(
        &self,
        service: &str,
        key: &[u8],
        n: Option<usize>,
    ) -> Result<PreflistStatus, AdministrationRefusal>;
    /// Stages a change; what is staged afterwards.
    fn stage(&self, change: Change) -> Answering<Vec<StagedChange>>;
    /// Marks a member that is not up as down: it is no longer waited for. At once, without plan and commit.
    fn mark_down(&self, node: &str) -> Answering<()>;
    /// Works out what a commit would do, and keeps its digest for the commit.
    fn plan(&self) -> Answering<PlanStatus>;
    /// The plan that was last shown, if it is still what a commit would do.
    fn shown_plan(&self) -> Answering<PlanStatus>;
    /// Does what the last plan showed, or refuses with the reason.
    fn commit(&self) -> Answering<PlanStatus>;
    /// Forgets what is staged.
    fn clear(&self) -> Answering<()>;
    /// The settings that can be changed at run time, as they are on the asked node.
    fn settings(&self) -> Vec<ClusterSetting>;
    /// One of them.
    fn setting(&self, key: &str) -> Result<ClusterSetting, AdministrationRefusal>;
    /// Sets a value, or takes it back where there is none: for the whole cluster, or for the member named `of`. What
    /// the setting then is on the asked node; other nodes follow within seconds, or when they are back.
    fn change_setting(&self, key: &str, value: Option<&str>, of: Option<&str>) -> Answering<ClusterSetting>;
    /// The asked node's transfers.
    fn handoff_status(&self) -> HandoffStatus;
    /// Sets how many of the asked node's transfers run at a time, and the bytes that each of them may send in a second
    /// (`Some(None)`: as many as it can); what is not given stays. With a refusal neither is changed. Until the node's
    /// next start.
    fn set_handoff_limit(
        &self,
        limit: Option<u32>,
        bytes_per_second: Option<Option<u64>>,
    ) -> Result<HandoffStatus, AdministrationRefusal>;
    /// Transfers of the asked node rest: none begins, none is taken in, those out of it end as soon as they can and go
    /// on later where they were.
    fn pause_handoff(&self) -> HandoffStatus;
    /// Ends a pause.
    fn resume_handoff(&self) -> HandoffStatus;
    /// Anti-entropy on the asked node.
    fn anti_entropy_status(&self) -> AntiEntropyStatus;
    /// The asked node is to fetch from other replicas what these partitions of its should have; none: all that it
    /// holds. Says which those are. With a refusal none is repaired.
    fn repair(&self, partitions: Option<Vec<u16>>) -> Result<Vec<u16>, AdministrationRefusal>;
}
