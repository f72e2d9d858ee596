//! What is to run, by tables.

use crate::ids::{Boot, ClusterId, NodeId, Partition};
use crate::membership::{ClusterState, Member, Report, Status, Target};
use crate::ring::RingSize;
use crate::transfer::message::{CancelReason, Kind, Refusal, SessionId};
use crate::transfer::schedule::{Decisions, Repair, Running, Schedule, Start, Surroundings};
use crate::transfer::sending::Outcome;
use std::collections::{BTreeMap, BTreeSet};

fn id(n: u8) -> NodeId {
    NodeId([n; 16])
}

/// What node 1 looks at. It holds everything of a ring of eight, among four members, all of which are up.
struct Table {
    state: ClusterState,
    up: BTreeSet<NodeId>,
    hints: BTreeSet<Partition>,
    filled: BTreeSet<Partition>,
    outbound: BTreeMap<Partition, NodeId>,
    repairs: BTreeSet<Repair>,
    running: Vec<Running>,
    limit: u32,
    paused: bool,
    me: NodeId,
}

impl Table {
    fn new() -> Self {
        let member =
            |n: u8| Member::new(&format!("n{n}"), "127.0.0.1:1", None, Status::Valid, id(n)).unwrap();
        let size = RingSize::try_from(8).unwrap();
        let mut state = ClusterState::born(ClusterId([7; 16]), size, id(1), member(1));
        for n in 2..=4 {
            state.merge_member(id(n), &member(n));
        }
        Self {
            state,
            up: (1..=4).map(id).collect(),
            hints: BTreeSet::new(),
            filled: (0..8).map(Partition).collect(),
            outbound: BTreeMap::new(),
            repairs: BTreeSet::new(),
            running: Vec::new(),
            limit: 4,
            paused: false,
            me: id(1),
        }
    }

    /// Owners-to-be of the partitions from 0 on.
    fn target(mut self, owners: [u8; 8]) -> Self {
        let epoch = self.state.target().key().epoch + 1;
        self.state.target = Target::new(epoch, id(1), owners.map(id).to_vec());
        self
    }

    fn decide(&self, schedule: &mut Schedule, now_ms: u64) -> Decisions {
        let around = Surroundings {
            me: self.me,
            state: &self.state,
            up: &self.up,
            hints: &self.hints,
            filled: &self.filled,
            outbound: &self.outbound,
            repairs: &self.repairs,
            running: &self.running,
            limit: self.limit,
            paused: self.paused,
        };
        schedule.decide(now_ms, &around)
    }

    fn starts(&self) -> Vec<(u16, u8)> {
        starts(&self.decide(&mut Schedule::default(), 0))
    }

    fn run(&mut self, starts: &[Start]) {
        for start in starts {
            let number = self.running.len() as u64;
            let session = SessionId { node: self.me, boot: Boot(1), number };
            let Start { kind, partition, to } = *start;
            self.running.push(Running { session, kind, partition, to, revocable: true });
        }
    }

    fn strayed(&mut self, node: u8, partitions: &[u16]) {
        let mut report = Report::first(Boot(1));
        report.strays = partitions.iter().copied().map(Partition).collect();
        self.state.report(id(node), report);
    }
}

fn starts(decisions: &Decisions) -> Vec<(u16, u8)> {
    decisions.start.iter().map(|start| (start.partition.0, start.to.0[0])).collect()
}

#[test]
fn bequests_are_spread_over_their_heirs_within_the_limit() {
    let mut table = Table::new().target([2, 2, 2, 2, 3, 3, 1, 4]);
    assert_eq!(table.starts(), [(0, 2), (4, 3), (7, 4), (1, 2)]);
    table.limit = 9;
    assert_eq!(table.starts().len(), 7);
    table.limit = 0;
    assert_eq!(table.starts(), []);
    table.limit = 4;
    table.paused = true;
    assert_eq!(table.starts(), []);
}

#[test]
fn what_is_empty_down_running_or_awaits_hints_does_not_start() {
    let mut table = Table::new().target([2, 3, 4, 1, 1, 1, 1, 1]);
    assert_eq!(table.starts(), [(0, 2), (1, 3), (2, 4)]);
    table.filled.remove(&Partition(0));
    table.up.remove(&id(3));
    table.strayed(4, &[2]);
    assert_eq!(table.starts(), []);
    table.strayed(4, &[]);
    let mut table = Table::new().target([2, 3, 1, 1, 1, 1, 1, 1]);
    let first = table.decide(&mut Schedule::default(), 0);
    table.run(&first.start);
    let second = table.decide(&mut Schedule::default(), 0);
    assert_eq!(second, Decisions::default(), "decided again, nothing changes");
}

#[test]
fn hints_go_first_and_home_and_what_came_here_is_absorbed() {
    let mut table = Table::new().target([2, 1, 1, 1, 1, 1, 1, 1]);
    table.hints = [5, 6].map(Partition).into();
    let decisions = table.decide(&mut Schedule::default(), 0);
    assert_eq!(decisions.absorb, [Partition(5), Partition(6)], "held here");
    assert_eq!(starts(&decisions), [(0, 2)]);
    table.me = id(3);
    let decisions = table.decide(&mut Schedule::default(), 0);
    assert_eq!(decisions.absorb, []);
    assert_eq!(starts(&decisions), [(5, 1), (6, 1)]);
    assert!(decisions.start.iter().all(|start| start.kind == Kind::Hinted));
}

#[test]
fn a_transfer_to_the_wrong_place_is_ended_and_its_marks_forgotten() {
    let mut table = Table::new().target([2, 3, 1, 1, 1, 1, 1, 1]);
    let first = table.decide(&mut Schedule::default(), 0);
    table.run(&first.start);
    table.outbound = [(Partition(0), id(2)), (Partition(1), id(3))].into();
    let mut table = table.target([4, 3, 1, 1, 1, 1, 1, 1]);
    let decisions = table.decide(&mut Schedule::default(), 0);
    assert_eq!(decisions.cancel, [(table.running[0].session, CancelReason::Moved)]);
    assert_eq!(decisions.forget, [], "the transfer that runs forgets them itself");
    assert_eq!(decisions.start, [], "one at a time out of a partition");
    let ended = table.running.remove(0);
    let decisions = table.decide(&mut Schedule::default(), 0);
    assert_eq!(decisions.forget, [Partition(0)]);
    assert_eq!(starts(&decisions), [(0, 4)]);
    table.running.push(Running { revocable: false, ..ended });
    let decisions = table.decide(&mut Schedule::default(), 0);
    assert_eq!(decisions.cancel, [], "possession is being passed on: too late");
}

#[test]
fn a_lower_limit_and_a_pause_end_what_is_too_much_youngest_first() {
    let mut table = Table::new().target([2, 3, 4, 1, 1, 1, 1, 1]);
    let first = table.decide(&mut Schedule::default(), 0);
    table.run(&first.start);
    table.limit = 1;
    let decisions = table.decide(&mut Schedule::default(), 0);
    let sessions: Vec<_> = table.running[1..].iter().map(|r| (r.session, CancelReason::Paused)).collect();
    assert_eq!(decisions.cancel, sessions);
    assert_eq!(decisions.start, []);
    table.paused = true;
    assert_eq!(table.decide(&mut Schedule::default(), 0).cancel.len(), 3);
}

#[test]
fn pauses_grow_end_by_time_and_by_news_and_a_busy_peer_holds_up_nobody_else() {
    let table = Table::new().target([2, 2, 3, 1, 1, 1, 1, 1]);
    let mut schedule = Schedule::default();
    schedule.ended(0, Partition(0), id(2), &Outcome::CutOff);
    let decisions = table.decide(&mut schedule, 0);
    assert_eq!(starts(&decisions), [(1, 2), (2, 3)]);
    let first = decisions.wake_at_ms.unwrap();
    assert_eq!(starts(&table.decide(&mut schedule, first)), [(0, 2), (2, 3), (1, 2)]);
    let mut before = first;
    for _ in 0..12 {
        schedule.ended(0, Partition(0), id(2), &Outcome::CutOff);
        let wake = table.decide(&mut schedule, 0).wake_at_ms.unwrap();
        assert!(wake >= before && wake <= 30_000);
        before = wake;
    }
    schedule.peer_ready(id(2));
    assert_eq!(starts(&table.decide(&mut schedule, 0)).len(), 3);

    schedule.ended(0, Partition(0), id(2), &Outcome::Refused(Refusal::Busy { limit: 4 }));
    assert_eq!(starts(&table.decide(&mut schedule, 0)), [(2, 3)], "none to node 2");
    assert!(table.decide(&mut schedule, 0).wake_at_ms.is_some());
    schedule.peer_ready(id(2));

    schedule.ended(0, Partition(0), id(2), &Outcome::Refused(Refusal::Behind));
    assert_eq!(starts(&table.decide(&mut schedule, 0)).len(), 2);
    schedule.state_changed();
    assert_eq!(starts(&table.decide(&mut schedule, 0)).len(), 3);
}

#[test]
fn repairs_run_beside_other_transfers_one_into_a_partition_and_only_between_holders() {
    let mut table = Table::new();
    let passed = crate::membership::Possession::first(id(1)).passed_to(id(2));
    table.state.adopt(Partition(3), passed);
    table.filled.remove(&Partition(3));
    let mut table = table.target([2, 1, 1, 2, 1, 1, 1, 1]);
    table.repairs = [
        Repair { to: id(2), partition: Partition(3), source: Partition(2) },
        Repair { to: id(2), partition: Partition(3), source: Partition(4) },
        Repair { to: id(4), partition: Partition(5), source: Partition(4) },
    ]
    .into();
    let decisions = table.decide(&mut Schedule::default(), 0);
    assert_eq!(starts(&decisions), [(3, 2), (0, 2)], "node 4 does not hold partition 5");
    assert_eq!(decisions.start[0].kind, Kind::Repair { source: Partition(2) });
    table.run(&decisions.start);
    assert_eq!(table.starts(), [], "from the other source when the first has sent everything");
    table.repairs.pop_first();
    table.running.clear();
    let decisions = table.decide(&mut Schedule::default(), 0);
    assert_eq!(decisions.start[0].kind, Kind::Repair { source: Partition(4) });
    table.run(&decisions.start);
    table.repairs.clear();
    let ended = table.decide(&mut Schedule::default(), 0).cancel;
    assert_eq!(ended.len(), 1, "nobody wants it any more");
}
