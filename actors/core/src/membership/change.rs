//! Who may change what: joining, staging, marking down, returning, leaving, passing possession on. Each is a
//! function of the state that either does all of it or refuses, with a reason and the way out, and changes
//! nothing. Replacing and forcing are in [`super::replacement`], planning and committing in [`super::plan`]. It does
//! not know who is reachable.

use super::member::{Before, Member, Status, check_location};
use super::report::Report;
use super::staging::{ChangeDetail, ChangeKind};
use super::state::ClusterState;
use super::target::Possession;
use crate::ids::{ClusterId, NodeId, Partition};
use crate::limits::MEMBERS_MAX;
use crate::ring::RingSize;
use serde::{Deserialize, Serialize};

/// Nodes that may wait to join at one time: what anybody who reaches the cluster port can make the cluster keep.
const JOINING_MAX: usize = 256;

/// Why a change is not made. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct ChangeRefusal {
    /// Stable, for programs.
    pub code: String,
    /// Why, and what to do.
    pub detail: String,
}

impl ChangeRefusal {
    pub(super) fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into() }
    }
}

/// A node that asks to join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joiner {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is reached, host:port.
    pub address: String,
    /// Its location.
    pub location: Option<String>,
    /// Of its own ring.
    pub ring_size: RingSize,
    /// The cluster that it is a member of already, when it only says where it is reached now.
    pub member_of: Option<ClusterId>,
    /// It is a member and has lost all its data, its ring with it.
    pub rebuilds: bool,
}

impl ClusterState {
    /// A member by its name or id.
    pub fn find_member(&self, text: &str) -> Result<NodeId, ChangeRefusal> {
        let matches = |node: &NodeId, member: &Member| {
            member.name.value() == text || node.to_string().eq_ignore_ascii_case(text)
        };
        let mut found = self.members().filter(|(node, member)| matches(node, member));
        match (found.next(), found.next()) {
            (Some((node, _)), None) => Ok(node),
            (Some(_), Some(_)) => Err(ChangeRefusal::new(
                "unknown-node",
                format!(
                    "two members are named {text:?}: say the id, which 'ringwork cluster status --json' shows"
                ),
            )),
            (None, _) => {
                let names: Vec<&str> =
                    self.members().map(|(_, member)| member.name.value().as_str()).take(20).collect();
                Err(ChangeRefusal::new(
                    "unknown-node",
                    format!("no member is named {text:?}; the members are {}", names.join(", ")),
                ))
            }
        }
    }

    /// A member's name, or its id where there is none.
    pub fn name_of(&self, node: NodeId) -> String {
        self.members.get(&node).map_or_else(|| node.to_string(), |member| member.name.value().clone())
    }

    /// Takes note of where a member is reached now.
    pub fn readmit(&mut self, joiner: &Joiner) -> Result<(), ChangeRefusal> {
        let name = &joiner.name;
        if joiner.member_of != Some(self.cluster) {
            let detail = format!("{name} is a member of another cluster than this one");
            return Err(ChangeRefusal::new("other-cluster", detail));
        }
        match self.status(joiner.node) {
            None => Err(ChangeRefusal::new("not-a-member", format!("{name} is no member of this cluster"))),
            Some(Status::Removed) => {
                Err(ChangeRefusal::new("removed", format!("{name} was removed from this cluster")))
            }
            Some(_) => {
                self.refuse_name_taken(joiner)?;
                self.introduce(joiner.node, name, &joiner.address);
                Ok(())
            }
        }
    }

    /// Takes a node in as joining, and stages its join. Done again it changes nothing.
    pub fn admit(&mut self, joiner: &Joiner, writer: NodeId) -> Result<(), ChangeRefusal> {
        if joiner.ring_size != self.size {
            return Err(ChangeRefusal::new(
                "different-ring-size",
                format!(
                    "the cluster's ring has {} partitions, that of {} has {}: start the node with an empty data \
                     directory and cluster.ring_size={}",
                    self.size, joiner.name, joiner.ring_size, self.size
                ),
            ));
        }
        match self.status(joiner.node) {
            Some(Status::Removed) => {
                return Err(ChangeRefusal::new(
                    "removed",
                    format!(
                        "node {} was removed from this cluster and cannot come back under its id: start it with an \
                         empty data directory",
                        joiner.name
                    ),
                ));
            }
            // Its welcome was lost, or it was started anew meanwhile: it is the same node.
            Some(_) if self.held_by(joiner.node).next().is_none() => {
                self.refuse_name_taken(joiner)?;
                self.introduce(joiner.node, &joiner.name, &joiner.address);
                if self.status(joiner.node) == Some(Status::Joining) {
                    self.staging.stage(joiner.node, ChangeKind::Join, ChangeDetail::Nothing, writer);
                }
                return Ok(());
            }
            None => {}
            // It has lost everything but who it is, and comes back to what it holds.
            Some(_) if joiner.rebuilds => {
                self.refuse_name_taken(joiner)?;
                self.introduce(joiner.node, &joiner.name, &joiner.address);
                return Ok(());
            }
            Some(_) => {
                return Err(ChangeRefusal::new(
                    "already-a-member",
                    format!(
                        "{} is a member of this cluster already; see 'ringwork cluster status'",
                        joiner.name
                    ),
                ));
            }
        }
        self.refuse_name_taken(joiner)?;
        let joining = self.members().filter(|(_, member)| member.status() == Status::Joining).count();
        if joining >= JOINING_MAX {
            return Err(ChangeRefusal::new(
                "too-many-joining",
                format!("{joining} nodes wait to join already: commit or remove some of them first"),
            ));
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(ChangeRefusal::new(
                "too-many-members",
                format!("a cluster can have had {MEMBERS_MAX} members in all"),
            ));
        }
        let member =
            Member::new(&joiner.name, &joiner.address, joiner.location.as_deref(), Status::Joining, writer)
                .map_err(|error| ChangeRefusal::new("bad-request", error.to_string()))?;
        self.merge_member(joiner.node, &member);
        self.staging.stage(joiner.node, ChangeKind::Join, ChangeDetail::Nothing, writer);
        Ok(())
    }

    fn refuse_name_taken(&self, joiner: &Joiner) -> Result<(), ChangeRefusal> {
        let named =
            |(node, member): &(NodeId, &Member)| *node != joiner.node && *member.name.value() == joiner.name;
        match self.members().find(named) {
            Some((node, _)) => Err(ChangeRefusal::new(
                "name-taken",
                format!(
                    "another member ({node}) is named {}: start the joining node with another --name",
                    joiner.name
                ),
            )),
            None => Ok(()),
        }
    }

    /// A node that waits to join is staged again in an epoch that knows nothing of it: what was staged at one seed
    /// while another member committed is not lost. After a clear it is not. Says whether that was so.
    pub fn stage_own_join(&mut self, me: NodeId) -> bool {
        let staged = self.staging.changes.contains_key(&(me, ChangeKind::Join));
        let wanted = self.status(me) == Some(Status::Joining) && self.staging.round.cleared == 0 && !staged;
        if wanted {
            self.staging.stage(me, ChangeKind::Join, ChangeDetail::Nothing, me);
        }
        wanted
    }

    /// Stages that a member leaves.
    pub fn stage_leave(&mut self, node: NodeId, writer: NodeId) -> Result<(), ChangeRefusal> {
        let name = self.name_of(node);
        match self.status(node) {
            None | Some(Status::Removed) => {
                return Err(ChangeRefusal::new(
                    "not-a-member",
                    format!("{name} is no member of this cluster"),
                ));
            }
            Some(Status::Leaving | Status::Exiting | Status::Down(Before::Leaving)) => {
                return Err(ChangeRefusal::new("already-leaving", format!("{name} is leaving already")));
            }
            Some(Status::Joining | Status::Valid | Status::Down(_)) => {}
        }
        let others = self.members().any(|(other, member)| other != node && member.status().claims());
        if !others && self.status(node) != Some(Status::Joining) {
            return Err(ChangeRefusal::new(
                "only-member",
                format!(
                    "{name} is the only member that can hold anything: there is nobody to leave its data to"
                ),
            ));
        }
        self.stage_in_accord(node, ChangeKind::Leave, ChangeDetail::Nothing, writer)
    }

    /// Stages a member's new location.
    pub fn stage_location(
        &mut self,
        node: NodeId,
        location: Option<String>,
        writer: NodeId,
    ) -> Result<(), ChangeRefusal> {
        if let Some(text) = &location {
            check_location(text).map_err(|error| ChangeRefusal::new("bad-location", error.to_string()))?;
        }
        if !self.members.get(&node).is_some_and(Member::is_member) {
            return Err(ChangeRefusal::new("not-a-member", format!("{node} is no member of this cluster")));
        }
        self.staging.stage(node, ChangeKind::Location, ChangeDetail::Location(location), writer);
        Ok(())
    }

    /// Stages that partitions are claimed anew.
    pub fn stage_rebalance(&mut self, writer: NodeId) {
        self.staging.stage(writer, ChangeKind::Rebalance, ChangeDetail::Nothing, writer);
    }

    /// Forgets what is staged, if anything is. Nodes that wait to join remain known as joining.
    pub fn clear_staging(&mut self) {
        if !self.staging.changes.is_empty() {
            self.staging.clear();
        }
    }

    /// Marks a member as down: it is no longer waited for, and not the claimant.
    pub fn mark_down(&mut self, node: NodeId, writer: NodeId) -> Result<(), ChangeRefusal> {
        let name = self.name_of(node);
        let others = self.members().any(|(other, member)| other != node && member.status() == Status::Valid);
        let Some(member) = self.members.get_mut(&node).filter(|member| member.is_member()) else {
            return Err(ChangeRefusal::new("not-a-member", format!("{name} is no member of this cluster")));
        };
        let before = match member.status() {
            Status::Joining => Before::Joining,
            Status::Valid => Before::Valid,
            Status::Leaving | Status::Exiting => Before::Leaving,
            Status::Down(_) => return Ok(()),
            Status::Removed => {
                return Err(ChangeRefusal::new("not-a-member", format!("{name} was removed")));
            }
        };
        if !others {
            return Err(ChangeRefusal::new(
                "only-member",
                format!("{name} is the only valid member: nobody would be left to act for the cluster"),
            ));
        }
        member.status.set(Status::Down(before), writer);
        Ok(())
    }

    /// A member that was marked down and runs is again what it was. Says whether that was so.
    pub fn return_from_down(&mut self, me: NodeId) -> bool {
        let Some(member) = self.members.get_mut(&me) else { return false };
        let Status::Down(before) = member.status() else { return false };
        let status = match before {
            Before::Joining => Status::Joining,
            Before::Valid => Status::Valid,
            Before::Leaving => Status::Leaving,
        };
        member.status.set(status, me)
    }

    /// A member says what it is called now and where it is reached. Says whether that is new.
    pub fn introduce(&mut self, me: NodeId, name: &str, address: &str) -> bool {
        let Some(member) = self.members.get_mut(&me) else { return false };
        let news = member.name.value() != name || member.address.value() != address;
        let mut changed = member.clone();
        changed.name.set(name.to_owned(), me);
        changed.address.set(address.to_owned(), me);
        if news && changed.check().is_ok() {
            *member = changed;
            return true;
        }
        false
    }

    /// A cluster of one moves without plan and commit: nobody else is concerned. Says whether that is new.
    pub fn relocate_alone(&mut self, me: NodeId, location: Option<String>) -> bool {
        let alone = self.members().count() == 1;
        let lawful = location.as_deref().is_none_or(|text| check_location(text).is_ok());
        match self.members.get_mut(&me) {
            Some(member) if alone && lawful && *member.location.value() != location => {
                member.location.set(location, me)
            }
            _ => false,
        }
    }

    /// A leaving member that holds nothing any more says so. Says whether that is new.
    pub fn exit_when_empty(&mut self, me: NodeId, holds_strays: bool) -> bool {
        if holds_strays || self.held_by(me).next().is_some() {
            return false;
        }
        match self.members.get_mut(&me) {
            Some(member) if member.status() == Status::Leaving => member.status.set(Status::Exiting, me),
            _ => false,
        }
    }

    /// The claimant removes members that have left. Says whether there were any.
    pub fn remove_exited(&mut self, me: NodeId) -> bool {
        if self.claimant() != Some(me) {
            return false;
        }
        let mut removed = false;
        let exiting: Vec<NodeId> = self
            .members()
            .filter(|(_, member)| member.status() == Status::Exiting)
            .map(|(node, _)| node)
            .filter(|node| self.held_by(*node).next().is_none())
            .filter(|node| self.reports.get(node).is_none_or(|report| report.strays.is_empty()))
            .collect();
        for node in exiting {
            if let Some(member) = self.members.get_mut(&node) {
                removed |= member.status.set(Status::Removed, me);
            }
        }
        removed
    }

    /// The holder passes a partition on to the one who is to hold it. Says whether it did: not when it is not the
    /// holder, when that is not wished (any more), or while it has not got itself what it was forced to hold: the heir
    /// would take for everything what is not. To be durable before anybody hears of it.
    pub fn pass_on(&mut self, me: NodeId, partition: Partition) -> Option<Possession> {
        let place = usize::from(partition.0);
        let heir = *self.target.owners().get(place)?;
        let claims = self.members.get(&heir).is_some_and(|member| member.status().claims());
        let possession = *self.possession.get(place)?;
        if possession.holder != me || heir == me || !claims || possession.is_unrepaired() {
            return None;
        }
        let now = possession.passed_to(heir);
        self.set_possession(place, now);
        Some(now)
    }

    /// What a node says of itself. Says whether that is new.
    pub fn report(&mut self, me: NodeId, report: Report) -> bool {
        self.merge_report(me, &report)
    }
}
