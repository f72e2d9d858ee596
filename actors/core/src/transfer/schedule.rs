//! Which transfers are to run: from the cluster's state, from what lies on this node's disk, and from who is up. It
//! decides what begins, what ends, and when to look again; it is asked at every event that may change the answer
//! (state, availability, strays, the end of a transfer, a setting), never by a tick. It does not know how a transfer
//! goes.
//!
//! Hints go home before anything else moves: they are what reads lack now. A partition that is to leave waits for the
//! hints that its heir has of it. Among equals, the peer to which least runs is next, then the lowest partition.

use super::message::{CancelReason, Kind, Refusal, SessionId};
use super::sending::Outcome;
use crate::ids::{NodeId, Partition};
use crate::membership::ClusterState;
use std::collections::{BTreeMap, BTreeSet};

/// The pause after the first failure; doubled from one to the next.
const PAUSE_MS: u64 = 250;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 15_000;
/// Transfers between which a pause is spread, so that not all come back at once.
const SPREAD: u64 = 8;

/// A repair that a holder has asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Repair {
    /// Who asked: the holder of `partition`.
    pub to: NodeId,
    /// The partition to be repaired.
    pub partition: Partition,
    /// The partition here, complete, from which.
    pub source: Partition,
}

/// A transfer that runs out of this node, in the order in which they began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    /// Which one.
    pub session: SessionId,
    /// What for.
    pub kind: Kind,
    /// The partition.
    pub partition: Partition,
    /// To whom.
    pub to: NodeId,
    /// See [`super::Sending::is_revocable`].
    pub revocable: bool,
}

/// What the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// This node.
    pub me: NodeId,
    /// The cluster as it knows it.
    pub state: &'a ClusterState,
    /// Nodes that answer: neither down nor suspect.
    pub up: &'a BTreeSet<NodeId>,
    /// Partitions of which there are hints here: any generation with something in it that is neither the live one of a
    /// partition held here nor inbound.
    pub hints: &'a BTreeSet<Partition>,
    /// Partitions held here in which there is something; the others are passed on without a transfer.
    pub filled: &'a BTreeSet<Partition>,
    /// Partitions with a record of an ownership transfer on disk ([`super::Outbound`]), with its heir.
    pub outbound: &'a BTreeMap<Partition, NodeId>,
    /// Asked for, and `source` complete here.
    pub repairs: &'a BTreeSet<Repair>,
    /// What runs.
    pub running: &'a [Running],
    /// How many may run out of this node.
    pub limit: u32,
    /// Whether an operator has paused transfers out, or the node stops.
    pub paused: bool,
}

/// A transfer that is to begin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Start {
    /// What for.
    pub kind: Kind,
    /// The partition.
    pub partition: Partition,
    /// To whom.
    pub to: NodeId,
}

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decisions {
    /// End these; first, so that their places are free.
    pub cancel: Vec<(SessionId, CancelReason)>,
    /// Records of transfers that are not wished any more: remove them with their marks.
    pub forget: Vec<Partition>,
    /// Hints of partitions that are held here now: merge them into the live generation, sync, drop them.
    pub absorb: Vec<Partition>,
    /// Begin these.
    pub start: Vec<Start>,
    /// Ask again at this time, unless something happens before.
    pub wake_at_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pause {
    failures: u32,
    until_ms: u64,
    /// Because one of the two knew too little: over with the next news of the state.
    ignorance: bool,
}

/// What went wrong lately, so that it is not tried again at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    pauses: BTreeMap<(Partition, NodeId), Pause>,
    /// Peers that take nothing in at present.
    busy: BTreeMap<NodeId, Pause>,
}

fn longer(before: Option<Pause>, now_ms: u64, spread: u64, ignorance: bool) -> Pause {
    let failures = before.map_or(0, |pause| pause.failures);
    let pause = PAUSE_MS.saturating_mul(1 << failures.min(16)).min(PAUSE_MS_MAX);
    let until_ms = now_ms.saturating_add(pause + pause * (spread % SPREAD) / SPREAD / 2);
    Pause { failures: failures.saturating_add(1), until_ms, ignorance }
}

impl Schedule {
    /// A transfer out of this node has ended.
    pub fn ended(&mut self, now_ms: u64, partition: Partition, to: NodeId, outcome: &Outcome) {
        let key = (partition, to);
        let spread = u64::from(partition.0);
        match outcome {
            Outcome::Completed => {
                self.pauses.remove(&key);
                self.busy.remove(&to);
            }
            // Its places are taken, and free again when any of these transfers ends: to ask costs one connection, and a
            // pause that grew would leave it idle in the end.
            Outcome::Refused(Refusal::Busy { .. }) => {
                self.busy.insert(to, longer(None, now_ms, 0, false));
            }
            Outcome::Refused(Refusal::Paused | Refusal::Stopping) => {
                let pause = longer(self.busy.get(&to).copied(), now_ms, 0, false);
                self.busy.insert(to, pause);
            }
            // The other side is first, or it begins anew: neither failed.
            Outcome::Cancelled(CancelReason::Anew | CancelReason::Paused) => {}
            Outcome::Refused(refusal) => {
                let known = matches!(refusal, Refusal::NotHolder(_) | Refusal::NotHeir(_) | Refusal::Behind);
                let pause = longer(self.pauses.get(&key).copied(), now_ms, spread, known);
                self.pauses.insert(key, pause);
            }
            Outcome::Cancelled(_) | Outcome::CutOff | Outcome::Untold => {
                let pause = longer(self.pauses.get(&key).copied(), now_ms, spread, false);
                self.pauses.insert(key, pause);
            }
        }
    }

    /// The state has grown: what was refused for want of knowledge may be offered again.
    pub fn state_changed(&mut self) {
        self.pauses.retain(|_, pause| !pause.ignorance);
    }

    /// A node has come up, or has room again.
    pub fn peer_ready(&mut self, node: NodeId) {
        self.pauses.retain(|(_, to), _| *to != node);
        self.busy.remove(&node);
    }

    /// What is to be done. Forgets pauses of what is not wished any more.
    pub fn decide(&mut self, now_ms: u64, around: &Surroundings<'_>) -> Decisions {
        let (me, state) = (around.me, around.state);
        let wishes = wishes(around);
        self.pauses.retain(|(partition, to), _| {
            wishes.iter().any(|wish| wish.partition == *partition && wish.to == *to)
        });
        self.busy.retain(|_, pause| pause.until_ms.saturating_add(PAUSE_MS_MAX) > now_ms);
        let mut decisions = Decisions {
            absorb: around.hints.iter().filter(|p| state.holder(**p) == Some(me)).copied().collect(),
            ..Decisions::default()
        };
        let mut running: Vec<Running> = Vec::new();
        for transfer in around.running {
            let wished = wishes.contains(&Start {
                kind: transfer.kind,
                partition: transfer.partition,
                to: transfer.to,
            });
            let reason = match () {
                () if !transfer.revocable => None,
                () if !still_right(transfer, around, wished) => Some(CancelReason::Moved),
                () if around.paused => Some(CancelReason::Paused),
                // The eldest stay: they are nearest to their ends.
                () if running.len() >= around.limit as usize => Some(CancelReason::Paused),
                () => None,
            };
            match reason {
                Some(reason) => decisions.cancel.push((transfer.session, reason)),
                None => running.push(*transfer),
            }
        }
        let of_running = |partition: &Partition| {
            around.running.iter().any(|t| t.partition == *partition && t.kind == Kind::Ownership)
        };
        decisions.forget = around
            .outbound
            .iter()
            .filter(|(partition, heir)| {
                state.bequest(me, **partition) != Some(**heir) && !of_running(partition)
            })
            .map(|(partition, _)| *partition)
            .collect();
        if !around.paused {
            self.start(now_ms, around, wishes, running, &mut decisions);
        }
        decisions
    }

    fn start(
        &self,
        now_ms: u64,
        around: &Surroundings<'_>,
        wishes: Vec<Start>,
        running: Vec<Running>,
        decisions: &mut Decisions,
    ) {
        let taken = |wish: &Start| {
            around.running.iter().any(|transfer| match (transfer.kind, wish.kind) {
                // From one source after the other: the receiver keeps one record for each sender, to resume by.
                (Kind::Repair { .. }, Kind::Repair { .. }) => {
                    transfer.partition == wish.partition && transfer.to == wish.to
                }
                (Kind::Repair { .. }, _) | (_, Kind::Repair { .. }) => false,
                // One at a time out of a partition: a hint that is being sent, the next of its generations, possession.
                _ => transfer.partition == wish.partition,
            })
        };
        let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
        for transfer in &running {
            *load.entry(transfer.to).or_default() += 1;
        }
        let mut ready: Vec<Start> = Vec::new();
        for wish in wishes {
            if taken(&wish) || decisions.absorb.contains(&wish.partition) || !around.up.contains(&wish.to) {
                continue;
            }
            let pauses = [self.pauses.get(&(wish.partition, wish.to)), self.busy.get(&wish.to)];
            match pauses.into_iter().flatten().map(|pause| pause.until_ms).max() {
                Some(until) if until > now_ms => {
                    decisions.wake_at_ms = Some(decisions.wake_at_ms.map_or(until, |at| at.min(until)));
                }
                _ => ready.push(wish),
            }
        }
        let room = (around.limit as usize).saturating_sub(running.len());
        while decisions.start.len() < room {
            let rank = |wish: &Start| {
                (rank(wish.kind), load.get(&wish.to).copied().unwrap_or(0), wish.partition, *wish)
            };
            let Some(next) = ready.iter().copied().min_by_key(rank) else { break };
            // The next repair of the same partition waits for this one as for one that runs: its offer would end it.
            let follows = |wish: &Start| {
                let repairs = matches!((wish.kind, next.kind), (Kind::Repair { .. }, Kind::Repair { .. }));
                repairs && (wish.partition, wish.to) == (next.partition, next.to)
            };
            ready.retain(|wish| *wish != next && !follows(wish));
            *load.entry(next.to).or_default() += 1;
            decisions.start.push(next);
        }
    }
}

fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Hinted => 0,
        Kind::Repair { .. } => 1,
        Kind::Ownership => 2,
    }
}

/// Everything that should go somewhere, whether it can at present or not.
fn wishes(around: &Surroundings<'_>) -> Vec<Start> {
    let (me, state) = (around.me, around.state);
    let mut wishes = Vec::new();
    for partition in around.hints {
        match state.holder(*partition) {
            Some(to) if to != me => wishes.push(Start { kind: Kind::Hinted, partition: *partition, to }),
            _ => {}
        }
    }
    for repair in around.repairs {
        let holds =
            state.holder(repair.partition) == Some(repair.to) && state.holder(repair.source) == Some(me);
        if holds && repair.to != me {
            let kind = Kind::Repair { source: repair.source };
            wishes.push(Start { kind, partition: repair.partition, to: repair.to });
        }
    }
    let strays: BTreeSet<(Partition, NodeId)> =
        state.strays().map(|(node, partition)| (partition, node)).collect();
    // Not from all that are to be passed on: a large ring has many partitions, and this is asked twice a second.
    for partition in around.filled.iter().copied() {
        match state.bequest(me, partition) {
            Some(to) if !strays.contains(&(partition, to)) => {
                wishes.push(Start { kind: Kind::Ownership, partition, to });
            }
            _ => {}
        }
    }
    wishes
}

/// A transfer that runs may go on although it would not be begun now (the heir has reported a hint, which it will
/// offer), but not when it goes to the wrong place.
fn still_right(transfer: &Running, around: &Surroundings<'_>, wished: bool) -> bool {
    match transfer.kind {
        Kind::Ownership => around.state.bequest(around.me, transfer.partition) == Some(transfer.to),
        // Its last generation is being dropped, or its seal has just left nothing that would be listed.
        Kind::Hinted => around.state.holder(transfer.partition) == Some(transfer.to),
        Kind::Repair { .. } => wished,
    }
}
