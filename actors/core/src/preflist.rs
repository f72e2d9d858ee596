//! Who answers for a key: what one node knows of the ring at one moment ([`RingView`]), the active preference
//! list made from it, and whether a vnode that is asked is the right one. It decides who stands in for whom. How
//! liveness is found out, and how possession changes, it does not know.
//!
//! Stand-ins are those of Dynamo (DeCandia et al. 2007, §4.6) with two differences from Riak: a stand-in is a node
//! that holds none of the key's replicas yet, as long as there is one; and only nodes that are *down* are stood in
//! for, not those merely suspected.

use crate::coverage::plan::Holders;
use crate::gossip::detector::Availability;
use crate::ids::{NodeId, Partition};
use crate::membership::{ClusterState, Possession, Status};
use crate::mutant::{Mutant, planted};
use crate::ring::{KeyHash, RingSize};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// As what a vnode is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// The node holds the partition.
    Primary,
    /// The node stands in for the holder, who is down; its vnode has the holder's partition.
    Fallback,
    /// The node may have something of the partition for whatever reason: only asked to read, and only where too
    /// few complete replicas can be.
    Stray,
}

/// One place of a preference list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PreflistEntry {
    /// The partition asked for.
    pub partition: Partition,
    /// The node that is asked.
    pub node: NodeId,
    /// As what.
    pub role: Role,
    /// Who holds the partition, as the asking node knows it.
    pub possession: Possession,
}

/// The replicas that answer for one key, in ring order.
pub type Preflist = SmallVec<[PreflistEntry; 5]>;

/// In which order replicas are asked to run a command that only one of them is to run, each by its place in the list
/// and with whether it is to refuse unless it is complete. First all that know everything; then, where none of these
/// can, holders that may lack something; a stand-in only where no holder answers: each one that mints a dot is one
/// more actor in what it writes.
pub fn coordinators(preflist: &Preflist) -> SmallVec<[(usize, bool); 8]> {
    let of = |primary: bool, complete_only: bool| {
        let these = move |entry: &PreflistEntry| (entry.role == Role::Primary) == primary;
        let places = preflist.iter().enumerate().filter(move |(_, entry)| these(entry));
        places.map(move |(place, _)| (place, complete_only))
    };
    of(true, true).chain(of(true, false)).chain(of(false, false)).collect()
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct ViewNode {
    node: NodeId,
    availability: Availability,
    name: Arc<str>,
}

/// What a request reads: an immutable snapshot of the ring as one node knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingView {
    me: NodeId,
    state: Arc<ClusterState>,
    /// Members and holders, by id.
    nodes: Vec<ViewNode>,
    /// For each partition its holder's place in `nodes`.
    holders: Vec<u16>,
    /// For each service that anybody runs, which of `nodes` can be asked for it.
    services: Vec<(String, Vec<bool>)>,
    /// Own partitions that do not answer for everything yet.
    incomplete: BTreeSet<Partition>,
    /// How often everything was put in doubt, when this was made.
    doubts: u64,
}

/// Whether a vnode does what it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// It does, and its not having something means something (`complete`) or not.
    Serve {
        /// See protocols.md §6: only complete replicas count toward r.
        complete: bool,
    },
    /// Somebody else is to be asked: whoever holds the partition according to this.
    Moved(Possession),
}

impl RingView {
    /// What node `me` knows: the state, how the others can be reached (a node that is not mentioned is down), and
    /// which of its own partitions are incomplete.
    pub fn new(
        me: NodeId,
        state: Arc<ClusterState>,
        availability: &BTreeMap<NodeId, Availability>,
        incomplete: BTreeSet<Partition>,
    ) -> Self {
        let mut ids: BTreeSet<NodeId> = state.members().map(|(node, _)| node).collect();
        ids.extend(state.possession().iter().map(|possession| possession.holder));
        ids.insert(me);
        let nodes: Vec<ViewNode> = ids
            .into_iter()
            .map(|node| ViewNode {
                node,
                availability: if node == me {
                    Availability::Up
                } else {
                    availability.get(&node).copied().unwrap_or(Availability::Down)
                },
                name: Arc::from(state.name_of(node)),
            })
            .collect();
        let place = |id: NodeId| nodes.binary_search_by_key(&id, |n| n.node).unwrap_or_default();
        // A cluster has at most 8 192 members, so a place fits into 16 bits.
        let holders = state.possession().iter().map(|p| place(p.holder) as u16).collect();
        let names: BTreeSet<&String> = state.reports().values().flat_map(|report| &report.services).collect();
        let services = names
            .into_iter()
            .map(|name| {
                let can = |n: &ViewNode| {
                    n.availability != Availability::Down
                        && state.reports().get(&n.node).is_some_and(|report| report.services.contains(name))
                };
                (name.clone(), nodes.iter().map(can).collect())
            })
            .collect();
        Self { me, state, nodes, holders, services, incomplete, doubts: 0 }
    }

    /// As made after that many doubts; whoever knows of more takes nothing here for complete.
    pub fn after_doubts(mut self, doubts: u64) -> Self {
        self.doubts = doubts;
        self
    }

    /// See [`Self::after_doubts`].
    pub fn doubts(&self) -> u64 {
        self.doubts
    }

    /// The node that reads.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The state as this node knows it.
    pub fn state(&self) -> &Arc<ClusterState> {
        &self.state
    }

    /// How many partitions there are.
    pub fn size(&self) -> RingSize {
        self.state.size()
    }

    /// How a node can be reached.
    pub fn availability(&self, node: NodeId) -> Availability {
        self.find(node).map_or(Availability::Down, |found| found.availability)
    }

    /// A node's name, for people.
    pub fn name(&self, node: NodeId) -> Arc<str> {
        self.find(node).map_or_else(|| Arc::from(node.to_string()), |found| found.name.clone())
    }

    /// Who holds a partition.
    pub fn possession(&self, partition: Partition) -> Option<Possession> {
        self.state.possession().get(usize::from(partition.0)).copied()
    }

    /// Own partitions that do not answer for everything yet.
    pub fn incomplete(&self) -> &BTreeSet<Partition> {
        &self.incomplete
    }

    fn find(&self, node: NodeId) -> Option<&ViewNode> {
        let place = self.nodes.binary_search_by_key(&node, |n| n.node).ok()?;
        self.nodes.get(place)
    }

    fn able(&self, service: &str) -> &[bool] {
        self.services.iter().find(|(name, _)| name == service).map_or(&[], |(_, able)| able.as_slice())
    }

    /// Whether a node is not down and runs the service.
    pub fn can_be_asked(&self, service: &str, node: NodeId) -> bool {
        let place = self.nodes.binary_search_by_key(&node, |n| n.node).ok();
        place.and_then(|place| self.able(service).get(place)) == Some(&true)
    }

    /// Who could be asked to list what a service keeps, as far as this node knows: of the others it does not know
    /// which of their partitions are complete.
    pub fn listing_holders(&self, service: &str) -> Holders {
        let able = self.able(service);
        let holder = |place: &u16| {
            let can = able.get(usize::from(*place)) == Some(&true);
            can.then(|| self.nodes.get(usize::from(*place)).map(|node| node.node))?
        };
        Holders::new(self.size(), self.holders.iter().map(holder).collect(), self.incomplete.clone())
    }

    /// The active preference list: the first n partitions clockwise from the hash with their holders, and for a
    /// holder that is down (or does not run the service) a stand-in: the next distinct node clockwise that can be
    /// asked and has none of these replicas. Where no such node is left a node is used twice. n is capped at Q.
    /// Shorter than n only when nobody at all can be asked.
    #[inline]
    pub fn preflist(&self, service: &str, hash: &KeyHash, n: usize) -> Preflist {
        let mut list = Preflist::new();
        self.fill(&mut list, self.able(service), self.size().partition_of(hash), n.min(self.size().count()));
        list
    }

    /// In place: what a function returns from a local of its own is copied, and a list has 230 bytes.
    fn fill(&self, list: &mut Preflist, able: &[bool], first: Partition, n: usize) {
        let mut missing = false;
        for step in 0..n {
            let partition = self.size().clockwise(first, step);
            let Some((possession, place)) = self.holder(partition) else { continue };
            let can = able.get(usize::from(place)) == Some(&true);
            missing |= !can;
            let role = if can { Role::Primary } else { Role::Fallback };
            list.push(PreflistEntry { partition, node: possession.holder, role, possession: *possession });
        }
        if missing {
            self.stand_in(able, first, list);
        }
    }

    /// As [`Self::preflist`], without stand-ins: a replica whose holder is down is left out.
    pub fn strict_preflist(&self, service: &str, hash: &KeyHash, n: usize) -> Preflist {
        let able = self.able(service);
        let can = |entry: &PreflistEntry| self.able_holder(able, entry.partition).is_some();
        self.primaries(hash, n).filter(can).collect()
    }

    /// The holders of the first n partitions, up or not.
    pub fn primary_preflist(&self, hash: &KeyHash, n: usize) -> Preflist {
        self.primaries(hash, n).collect()
    }

    fn primaries(&self, hash: &KeyHash, n: usize) -> impl Iterator<Item = PreflistEntry> {
        let first = self.size().partition_of(hash);
        (0..n.min(self.size().count())).filter_map(move |step| {
            let partition = self.size().clockwise(first, step);
            let possession = self.possession(partition)?;
            Some(PreflistEntry { partition, node: possession.holder, role: Role::Primary, possession })
        })
    }

    /// Who holds a partition, and the holder's place in `nodes`.
    fn holder(&self, partition: Partition) -> Option<(&Possession, u16)> {
        let at = usize::from(partition.0);
        Some((self.state.possession().get(at)?, *self.holders.get(at)?))
    }

    /// A partition's holder, if it can be asked.
    fn able_holder(&self, able: &[bool], partition: Partition) -> Option<NodeId> {
        let (possession, place) = self.holder(partition)?;
        (able.get(usize::from(place)) == Some(&true)).then_some(possession.holder)
    }

    /// Gives each fallback of a list, which has the holder's node until now, the node that stands in.
    #[cold]
    fn stand_in(&self, able: &[bool], first: Partition, list: &mut Preflist) {
        let n = list.len();
        // The ring is walked once, from the last replica on, as far as it has to be.
        let mut walk = self.walk(first, n).filter_map(|partition| self.able_holder(able, partition));
        let mut again = None;
        for at in 0..n {
            if list[at].role == Role::Primary {
                continue;
            }
            // A place whose stand-in is not found yet has its holder's node, and that cannot be asked: no candidate.
            let has_one = |node: &NodeId| list.iter().any(|entry| entry.node == *node);
            let fresh = walk.find(|node| planted(Mutant::StandInTwice) || !has_one(node));
            // Everybody who can be asked has one of these replicas: in turn, from the first that the walk meets.
            let node =
                fresh.or_else(|| again.get_or_insert_with(|| self.able_holders(able, first, n)).next());
            match node {
                Some(node) => list[at].node = node,
                None => return list.clear(), // nobody at all can be asked
            }
        }
    }

    /// Every partition once, clockwise from `n` places after `first`.
    fn walk(&self, first: Partition, n: usize) -> impl Iterator<Item = Partition> {
        (n..n + self.size().count()).map(move |step| self.size().clockwise(first, step))
    }

    /// Every holder that can be asked, in the order of [`Self::walk`], for ever.
    fn able_holders(
        &self,
        able: &[bool],
        first: Partition,
        n: usize,
    ) -> impl Iterator<Item = NodeId> + use<> {
        let mut nodes: Vec<NodeId> = Vec::new();
        for node in self.walk(first, n).filter_map(|partition| self.able_holder(able, partition)) {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        nodes.into_iter().cycle()
    }

    /// Nodes that have said that they have data of these partitions without holding them, and can be asked.
    pub fn strays_of(&self, service: &str, partitions: &[Partition]) -> Vec<PreflistEntry> {
        let able = self.able(service);
        let mut found = Vec::new();
        for (node, _) in self.nodes.iter().zip(able).filter(|(_, able)| **able) {
            let Some(report) = self.state.reports().get(&node.node) else { continue };
            for partition in partitions.iter().filter(|partition| report.strays.contains(partition)) {
                let Some(possession) = self.possession(*partition) else { continue };
                if possession.holder != node.node {
                    let entry = PreflistEntry {
                        partition: *partition,
                        node: node.node,
                        role: Role::Stray,
                        possession,
                    };
                    found.push(entry);
                }
            }
        }
        found
    }

    /// Whether this node's vnode of `partition` does what it is asked in `role` by somebody who takes
    /// `possession` for the fact. Whoever knows less adopts what the other knows.
    pub fn judge(
        &self,
        service: &str,
        partition: Partition,
        role: Role,
        possession: Possession,
    ) -> Judgement {
        let Some(ours) = self.possession(partition) else { return Judgement::Moved(possession) };
        let known = ours.max(possession);
        let holds = known.holder == self.me;
        match role {
            Role::Stray => Judgement::Serve { complete: false },
            // Asked as a stand-in for somebody from whom the partition has come here since: all the better.
            Role::Primary | Role::Fallback if holds => {
                Judgement::Serve { complete: ours == known && !self.incomplete.contains(&partition) }
            }
            // Who is about to go takes nothing in that it would take along.
            Role::Fallback
                if matches!(self.state.status(self.me), Some(Status::Exiting | Status::Removed)) =>
            {
                Judgement::Moved(known)
            }
            Role::Fallback if known == possession && !self.can_be_asked(service, known.holder) => {
                Judgement::Serve { complete: false }
            }
            Role::Primary | Role::Fallback => Judgement::Moved(known),
        }
    }
}

#[cfg(test)]
mod tests;
