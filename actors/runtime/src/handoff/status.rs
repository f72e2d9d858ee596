//! The board as operators are shown it: nodes by their names, times as what has passed, estimates that are not less
//! than what is done. It decides how numbers are derived; what they are for it does not know.

use super::board::{HandoffSnapshot, TransferLine, kind_word};
use crate::administration::{
    EndedTransfer, HandoffStatus, RepairSource, RepairStatus, TransferStatus, TransferTotals, WaitingTransfer,
};
use ringwork_core::ids::NodeId;
use ringwork_core::preflist::RingView;

/// What the node called `node` shows; `view` has the names of the others.
pub(crate) fn handoff_status(node: &str, board: &HandoffSnapshot, view: &RingView) -> HandoffStatus {
    let name = |node: NodeId| view.name(node).to_string();
    let begun = board.repairing.iter().map(|line| RepairStatus {
        partition: line.partition.0,
        from: line
            .from
            .iter()
            .map(|(source, node)| RepairSource { partition: source.0, node: name(*node) })
            .collect(),
        text: line.text.clone(),
    });
    let to_begin = board.wished.iter().map(|partition| RepairStatus {
        partition: partition.0,
        from: Vec::new(),
        text: "it is wished and has not begun".to_owned(),
    });
    HandoffStatus {
        node: node.to_owned(),
        limit: board.settings.limit,
        paused: board.paused,
        bytes_per_second: board.settings.bytes_per_second,
        running: board.running.iter().map(|line| running(line, board.now_ms, name(line.peer))).collect(),
        waiting: board
            .waiting
            .iter()
            .map(|line| WaitingTransfer {
                kind: kind_word(line.kind).to_owned(),
                partition: line.partition.0,
                peer: name(line.peer),
                why: line.why.clone(),
            })
            .collect(),
        recent: board
            .ended
            .iter()
            .map(|line| EndedTransfer {
                direction: line.direction.word().to_owned(),
                kind: kind_word(line.kind).to_owned(),
                partition: line.partition.0,
                peer: name(line.peer),
                completed: line.end.completed,
                outcome: line.end.text.clone(),
                items: line.end.amount.items,
                bytes: line.end.amount.bytes,
                unreadable: line.end.unreadable,
                ago_s: board.now_ms.saturating_sub(line.ended_ms) / 1000,
            })
            .collect(),
        repairing: begun.chain(to_begin).collect(),
        totals: board
            .totals
            .iter()
            .map(|((direction, kind), totals)| TransferTotals {
                direction: direction.word().to_owned(),
                kind: (*kind).to_owned(),
                completed: totals.completed,
                ended: totals.ended,
                items: totals.amount.items,
                bytes: totals.amount.bytes,
                items_sent: totals.sent.items,
                bytes_sent: totals.sent.bytes,
                unreadable: totals.unreadable,
            })
            .collect(),
    }
}

fn running(line: &TransferLine, now_ms: u64, peer: String) -> TransferStatus {
    let progress = &line.progress;
    let (rate, whole) = (progress.rate(now_ms), progress.whole());
    TransferStatus {
        direction: line.direction.word().to_owned(),
        kind: kind_word(line.kind).to_owned(),
        partition: line.partition.0,
        peer,
        items_done: progress.done.items,
        items_estimate: whole.items,
        bytes_done: progress.done.bytes,
        bytes_estimate: whole.bytes,
        bytes_sent: progress.sent.bytes,
        share: progress.per_mille() as f64 / 1000.0,
        items_per_second: rate.items,
        bytes_per_second: rate.bytes,
        eta_s: progress.remaining_ms(now_ms).map(|left_ms| left_ms.div_ceil(1000)),
        age_s: now_ms.saturating_sub(progress.started_ms) / 1000,
        idle_s: now_ms.saturating_sub(progress.moved_ms) / 1000,
        unreadable: progress.unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::board::{
        Direction, End, EndedLine, HandoffBoard, HandoffSettings, RepairLine, WaitingLine,
    };
    use crate::time::Clock;
    use ringwork_core::ids::{Boot, ClusterId, Partition};
    use ringwork_core::membership::{ClusterState, Member, Status};
    use ringwork_core::ring::RingSize;
    use ringwork_core::transfer::{Amount, Kind, Progress, SessionId};
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    const N1: NodeId = NodeId([1; 16]);

    fn view() -> RingView {
        let member = Member::new("n1", "10.0.0.1:8099", None, Status::Valid, N1).unwrap();
        let size = RingSize::try_from(8).unwrap();
        let state = ClusterState::born(ClusterId([0; 16]), size, N1, member);
        RingView::new(N1, Arc::new(state), &BTreeMap::new(), BTreeSet::new())
    }

    #[test]
    fn nodes_are_shown_by_name_and_times_as_what_has_passed() {
        let mut board = HandoffBoard::new(HandoffSettings::default(), Clock::system()).snapshot();
        let mut progress = Progress::new(1000, Amount { items: 100, bytes: 1000 });
        for step in 1..=25 {
            progress.moved(1000 + step * 100, Amount { items: 2, bytes: 20 });
        }
        let stranger = NodeId([9; 16]);
        let session = SessionId { node: N1, boot: Boot(1), number: 1 };
        let (kind, partition) = (Kind::Repair { source: Partition(2) }, Partition(3));
        board.now_ms = 4000;
        board.running = vec![
            TransferLine { session, direction: Direction::In, kind, partition, peer: N1, progress },
            TransferLine {
                session,
                direction: Direction::Out,
                kind: Kind::Hinted,
                partition,
                peer: stranger,
                progress: Progress::new(3000, Amount { items: 5, bytes: 50 }),
            },
        ];
        board.waiting =
            vec![WaitingLine { kind: Kind::Ownership, partition, peer: N1, why: "later".to_owned() }];
        let end = End { completed: true, text: "completed".to_owned(), ..End::default() };
        let direction = Direction::Out;
        board.ended = vec![EndedLine { direction, kind, partition, peer: N1, end, ended_ms: 1999 }];
        board.repairing =
            vec![RepairLine { partition, from: vec![(Partition(2), N1)], text: "two of three".to_owned() }];
        board.wished = [Partition(5)].into();
        let status = handoff_status("n7", &board, &view());
        let [first, second] = &status.running[..] else { panic!("{status:?}") };
        assert_eq!(
            (first.peer.as_str(), first.kind.as_str(), first.direction.as_str()),
            ("n1", "repair", "in")
        );
        assert_eq!((first.share, first.bytes_per_second, first.eta_s), (0.5, 200, Some(3)));
        assert_eq!((first.age_s, first.idle_s, first.items_done, first.items_estimate), (3, 0, 50, 100));
        assert_eq!((second.peer.clone(), second.eta_s), (stranger.to_string(), None), "a name nobody knows");
        assert_eq!((status.waiting[0].kind.as_str(), status.waiting[0].peer.as_str()), ("ownership", "n1"));
        assert_eq!((status.recent[0].ago_s, status.recent[0].completed), (2, true));
        let repairs: Vec<_> =
            status.repairing.iter().map(|repair| (repair.partition, repair.from.len())).collect();
        assert_eq!(repairs, [(3, 1), (5, 0)]);
        assert_eq!((status.node.as_str(), status.totals.len()), ("n7", 6));
    }

    #[test]
    fn an_estimate_that_proved_too_small_grows_with_what_is_done() {
        let mut progress = Progress::new(0, Amount { items: 1, bytes: 10 });
        progress.moved(10, Amount { items: 7, bytes: 70 });
        let session = SessionId { node: N1, boot: Boot(1), number: 1 };
        let (direction, kind, partition) = (Direction::In, Kind::Hinted, Partition(0));
        let line = TransferLine { session, direction, kind, partition, peer: N1, progress };
        let shown = running(&line, 20, String::new());
        assert_eq!((shown.items_estimate, shown.bytes_estimate, shown.share), (7, 70, 0.999));
    }
}
