//! Transfers as Prometheus text. It decides names and labels, which dashboards rely on; every pair of labels is there
//! from the start, so that a rate can be taken from the first transfer on.

use super::board::{Direction, HandoffSnapshot, KIND_WORDS, kind_word};
use std::fmt::Write as _;

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP ringwork_handoff_{name} {help}");
    let _ = writeln!(text, "# TYPE ringwork_handoff_{name} {kind}");
}

/// The board's numbers as Prometheus text.
pub fn prometheus(board: &HandoffSnapshot) -> String {
    let mut text = String::new();
    head(&mut text, "running", "gauge", "Transfers that run.");
    for direction in Direction::ALL {
        for kind in KIND_WORDS {
            let runs = |line: &&super::board::TransferLine| {
                line.direction == direction && kind_word(line.kind) == kind
            };
            let count = board.running.iter().filter(runs).count();
            let way = direction.word();
            let _ = writeln!(text, "ringwork_handoff_running{{direction=\"{way}\",kind=\"{kind}\"}} {count}");
        }
    }
    head(&mut text, "waiting", "gauge", "Transfers out of this node that are due and do not run.");
    for kind in KIND_WORDS {
        let count = board.waiting.iter().filter(|line| kind_word(line.kind) == kind).count();
        let _ = writeln!(text, "ringwork_handoff_waiting{{kind=\"{kind}\"}} {count}");
    }
    head(
        &mut text,
        "transfers_total",
        "counter",
        "Transfers that have ended, by whether everything arrived.",
    );
    for ((direction, kind), totals) in &board.totals {
        let way = direction.word();
        for (outcome, count) in [("completed", totals.completed), ("ended", totals.ended)] {
            let labels = format!("direction=\"{way}\",kind=\"{kind}\",outcome=\"{outcome}\"");
            let _ = writeln!(text, "ringwork_handoff_transfers_total{{{labels}}} {count}");
        }
    }
    head(&mut text, "items_total", "counter", "Items that were acknowledged in transfers.");
    for ((direction, kind), totals) in &board.totals {
        let (way, count) = (direction.word(), totals.amount.items);
        let _ = writeln!(text, "ringwork_handoff_items_total{{direction=\"{way}\",kind=\"{kind}\"}} {count}");
    }
    head(&mut text, "bytes_total", "counter", "Bytes of items that were acknowledged in transfers.");
    for ((direction, kind), totals) in &board.totals {
        let (way, count) = (direction.word(), totals.amount.bytes);
        let _ = writeln!(text, "ringwork_handoff_bytes_total{{direction=\"{way}\",kind=\"{kind}\"}} {count}");
    }
    let unreadable: u64 = board.totals.values().map(|totals| totals.unreadable).sum();
    head(
        &mut text,
        "unreadable_total",
        "counter",
        "Items skipped in transfers because they could not be read.",
    );
    let _ = writeln!(text, "ringwork_handoff_unreadable_total {unreadable}");
    head(&mut text, "paused", "gauge", "Whether an operator has paused transfers.");
    let _ = writeln!(text, "ringwork_handoff_paused {}", u8::from(board.paused));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::board::{End, HandoffBoard, HandoffSettings, TransferLine, WaitingLine};
    use crate::time::Clock;
    use ringwork_core::ids::{Boot, NodeId, Partition};
    use ringwork_core::transfer::{Amount, Kind, Progress, SessionId};

    #[test]
    fn every_number_is_there_with_its_labels_and_its_type() {
        let board = HandoffBoard::new(HandoffSettings::default(), Clock::system());
        let idle = prometheus(&board.snapshot());
        let (partition, peer) = (Partition(1), NodeId([2; 16]));
        let show = |number, kind, bytes| {
            let mut progress = Progress::new(0, Amount::default());
            progress.moved(1, Amount { items: 3, bytes });
            progress.unreadable = 1;
            let session = SessionId { node: peer, boot: Boot(1), number };
            board.show(TransferLine { session, direction: Direction::Out, kind, partition, peer, progress });
            session
        };
        let first = show(1, Kind::Hinted, 40);
        show(2, Kind::Ownership, 50);
        board.ended(first, Direction::Out, End { completed: true, ..End::default() });
        let kind = Kind::Repair { source: Partition(0) };
        board.set_waiting(vec![WaitingLine { kind, partition, peer, why: String::new() }]);
        board.set_paused(true);
        let text = prometheus(&board.snapshot());
        for line in [
            "ringwork_handoff_running{direction=\"out\",kind=\"ownership\"} 1",
            "ringwork_handoff_running{direction=\"out\",kind=\"hinted\"} 0",
            "ringwork_handoff_running{direction=\"in\",kind=\"ownership\"} 0",
            "ringwork_handoff_waiting{kind=\"repair\"} 1",
            "ringwork_handoff_transfers_total{direction=\"out\",kind=\"hinted\",outcome=\"completed\"} 1",
            "ringwork_handoff_transfers_total{direction=\"out\",kind=\"hinted\",outcome=\"ended\"} 0",
            "ringwork_handoff_items_total{direction=\"out\",kind=\"hinted\"} 3",
            "ringwork_handoff_bytes_total{direction=\"out\",kind=\"ownership\"} 50",
            "ringwork_handoff_unreadable_total 2",
            "ringwork_handoff_paused 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let names = |text: &str| -> Vec<String> {
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            samples.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect()
        };
        assert_eq!(names(&idle), names(&text), "no series appears late");
        assert_eq!(text.matches("# TYPE").count(), 7);
    }
}
