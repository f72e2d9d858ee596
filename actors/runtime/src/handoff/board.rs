//! What operators see of this node's transfers, and what they set: how many run at a time, how fast one may be,
//! whether they rest, which partitions are to be repaired. It decides what is remembered of transfers that have ended,
//! and which settings can be. When a transfer is due the manager knows, how it goes its sender or receiver; they read
//! here and report here, from any thread.
//!
//! The lock is held for a few copies, never while anything else is called.

use super::foreground::Foreground;
use crate::time::Clock;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::limits::{
    HANDOFF_BYTES_PER_SECOND_MAX, HANDOFF_BYTES_PER_SECOND_MIN, HANDOFF_LIMIT_DEFAULT, HANDOFF_LIMIT_MAX,
};
use ringwork_core::transfer::{Amount, Kind, Progress, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Ended transfers that are remembered: enough to see what became of those that ran a moment ago. One that was tried
/// again takes the place of its attempt before.
const ENDED_MAX: usize = 32;

/// How a node begins; operators change it while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandoffSettings {
    /// Transfers into the node at a time, and as many out of it.
    pub limit: u32,
    /// Bytes that each transfer out of the node may send in a second; none for no limit.
    pub bytes_per_second: Option<u64>,
}

impl Default for HandoffSettings {
    fn default() -> Self {
        Self { limit: HANDOFF_LIMIT_DEFAULT, bytes_per_second: None }
    }
}

/// Which way a transfer goes, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// Into this node.
    In,
    /// Out of it.
    Out,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// `in` or `out`.
    pub fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What transfers are for, without from where.
pub const KIND_WORDS: [&str; 3] = ["hinted", "ownership", "repair"];

/// One of [`KIND_WORDS`].
pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Hinted => "hinted",
        Kind::Ownership => "ownership",
        Kind::Repair { .. } => "repair",
    }
}

/// A transfer that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferLine {
    /// Which one.
    pub session: SessionId,
    /// Which way.
    pub direction: Direction,
    /// What for.
    pub kind: Kind,
    /// Of which partition.
    pub partition: Partition,
    /// The node at the other end.
    pub peer: NodeId,
    /// How far it is, in milliseconds of [`Clock::moment`].
    pub progress: Progress,
}

/// A transfer that is due and does not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingLine {
    /// What for.
    pub kind: Kind,
    /// Of which partition.
    pub partition: Partition,
    /// Whom it goes to.
    pub peer: NodeId,
    /// What it waits for, in words.
    pub why: String,
}

/// How a transfer has ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// Whether everything arrived.
    pub completed: bool,
    /// What was acknowledged in it.
    pub amount: Amount,
    /// Items that could not be read and were skipped.
    pub unreadable: u64,
    /// How it ended, in words.
    pub text: String,
}

/// A transfer that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndedLine {
    /// Which way.
    pub direction: Direction,
    /// What for.
    pub kind: Kind,
    /// Of which partition.
    pub partition: Partition,
    /// The node at the other end.
    pub peer: NodeId,
    /// How.
    pub end: End,
    /// When, in milliseconds of [`Clock::moment`].
    pub ended_ms: u64,
}

/// A repair of one of this node's partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairLine {
    /// The partition that is repaired.
    pub partition: Partition,
    /// What is still awaited: a partition out of which data comes, and its holder.
    pub from: Vec<(Partition, NodeId)>,
    /// How it is, in words.
    pub text: String,
}

/// What transfers have moved since the node's start; those that run are counted with what they have done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Transfers that completed.
    pub completed: u64,
    /// Transfers that ended otherwise; most of them go on in a later one.
    pub ended: u64,
    /// What was acknowledged.
    pub amount: Amount,
    /// What was sent, acknowledged or not: more than that by what interruptions have cost.
    pub sent: Amount,
    /// Items that could not be read and were skipped.
    pub unreadable: u64,
}

impl Totals {
    fn moved(&mut self, amount: Amount, sent: Amount, unreadable: u64) {
        self.amount.add(amount);
        self.sent.add(sent);
        self.unreadable = self.unreadable.saturating_add(unreadable);
    }
}

/// The board as it was at one moment.
#[derive(Clone, Debug)]
pub struct HandoffSnapshot {
    /// When, in milliseconds of [`Clock::moment`].
    pub now_ms: u64,
    /// What is set.
    pub settings: HandoffSettings,
    /// Whether transfers rest.
    pub paused: bool,
    /// Those that run, first those that come in, in the order of their sessions.
    pub running: Vec<TransferLine>,
    /// Those that are due.
    pub waiting: Vec<WaitingLine>,
    /// Those that ended last, the latest first.
    pub ended: Vec<EndedLine>,
    /// Repairs that have begun.
    pub repairing: Vec<RepairLine>,
    /// Repairs that are wished and have not begun.
    pub wished: BTreeSet<Partition>,
    /// By direction and by the kind's word; every pair is there.
    pub totals: BTreeMap<(Direction, &'static str), Totals>,
}

/// How many transfers there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandoffCounts {
    /// That run into this node.
    pub running_in: usize,
    /// That run out of it.
    pub running_out: usize,
    /// That are due out of it and do not run.
    pub waiting: usize,
    /// Whether they rest.
    pub paused: bool,
}

/// Why a setting was refused; nothing was changed. Its text says what would be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingRefusal {
    /// No transfer at all.
    #[error("a limit of 0 would let nothing move; pause transfers instead ('ringwork handoff pause')")]
    NoTransfers,
    /// Too many at a time.
    #[error("the limit must be from 1 to {HANDOFF_LIMIT_MAX}, and is to be {0}")]
    Limit(u32),
    /// Too slow, or faster than anything.
    #[error(
        "bytes_per_second must be from {HANDOFF_BYTES_PER_SECOND_MIN} to {HANDOFF_BYTES_PER_SECOND_MAX}, or none, \
         and is to be {0}; to stop transfers pause them ('ringwork handoff pause')"
    )]
    Rate(u64),
}

type Changed = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    settings: HandoffSettings,
    paused: bool,
    running: BTreeMap<(Direction, SessionId), TransferLine>,
    waiting: Vec<WaitingLine>,
    /// The latest last.
    ended: VecDeque<EndedLine>,
    repairing: Vec<RepairLine>,
    wished: BTreeSet<Partition>,
    totals: BTreeMap<(Direction, &'static str), Totals>,
    changed: Option<Changed>,
    foreground: Foreground,
}

/// See the module's head.
pub struct HandoffBoard {
    clock: Clock,
    state: Mutex<State>,
}

impl HandoffBoard {
    /// A board on which there is nothing yet. A setting out of its range is taken for the nearest end of it; a rate may
    /// be lower than operators can set it, which simulations do.
    pub fn new(settings: HandoffSettings, clock: Clock) -> Self {
        let settings = HandoffSettings {
            limit: settings.limit.clamp(1, HANDOFF_LIMIT_MAX),
            bytes_per_second: settings
                .bytes_per_second
                .map(|rate| rate.clamp(1, HANDOFF_BYTES_PER_SECOND_MAX)),
        };
        let totals = Direction::ALL
            .iter()
            .flat_map(|direction| KIND_WORDS.map(|kind| ((*direction, kind), Totals::default())))
            .collect();
        Self { clock, state: Mutex::new(State { settings, totals, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells whoever wants to hear of it if anything is different now.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state();
        let different = change(&mut state);
        let changed = state.changed.clone().filter(|_| different);
        drop(state);
        if let Some(changed) = changed {
            changed();
        }
    }

    /// Transfers into this node at a time, and as many out of it.
    pub fn limit(&self) -> u32 {
        self.state().settings.limit
    }

    /// Whether transfers rest.
    pub fn paused(&self) -> bool {
        self.state().paused
    }

    /// Bytes that each transfer out of this node may send in a second; none for no limit.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.state().settings.bytes_per_second
    }

    /// Who is to hear, from now on, that an operator has changed or wished something; in place of whoever was.
    pub fn on_change(&self, changed: Box<dyn Fn() + Send + Sync>) {
        self.state().changed = Some(changed.into());
    }

    /// Sets what is given: the limit, and the rate (`Some(None)`: none). With a refusal neither is set. The limit
    /// counts at once, the rate for transfers that begin from now on.
    pub fn set(
        &self,
        limit: Option<u32>,
        bytes_per_second: Option<Option<u64>>,
    ) -> Result<(), SettingRefusal> {
        match limit {
            Some(0) => return Err(SettingRefusal::NoTransfers),
            Some(limit) if limit > HANDOFF_LIMIT_MAX => return Err(SettingRefusal::Limit(limit)),
            _ => {}
        }
        let range = HANDOFF_BYTES_PER_SECOND_MIN..=HANDOFF_BYTES_PER_SECOND_MAX;
        if let Some(Some(rate)) =
            bytes_per_second.filter(|rate| rate.is_some_and(|rate| !range.contains(&rate)))
        {
            return Err(SettingRefusal::Rate(rate));
        }
        self.change(|state| {
            let before = state.settings;
            state.settings = HandoffSettings {
                limit: limit.unwrap_or(before.limit),
                bytes_per_second: bytes_per_second.unwrap_or(before.bytes_per_second),
            };
            state.settings != before
        });
        Ok(())
    }

    /// From now on transfers rest, or go on.
    pub fn set_paused(&self, paused: bool) {
        self.change(|state| std::mem::replace(&mut state.paused, paused) != paused);
    }

    /// These partitions of this node are to be repaired.
    pub fn wish_repair(&self, partitions: BTreeSet<Partition>) {
        self.change(|state| {
            let before = state.wished.len();
            state.wished.extend(partitions);
            state.wished.len() > before
        });
    }

    /// What was wished since this was last asked: whoever asks carries it out.
    pub fn take_wished_repairs(&self) -> BTreeSet<Partition> {
        std::mem::take(&mut self.state().wished)
    }

    /// The repairs that have begun, in place of those before.
    pub fn set_repairing(&self, repairing: Vec<RepairLine>) {
        self.state().repairing = repairing;
    }

    /// Items that a transfer takes in by one turn of a vnode, when so many messages of other nodes have come since this
    /// node's start: as many as there are while nobody is served.
    pub fn turn_items(&self, messages: u64) -> usize {
        let now = self.clock.moment();
        self.state().foreground.turn_items(now, messages)
    }

    /// How long a transfer waits before its next turn.
    pub fn rest_due(&self) -> Duration {
        let now = self.clock.moment();
        self.state().foreground.rest_due(now)
    }

    /// A turn took in something of a transfer since `begun`: the node rests for that while it serves others.
    pub fn worked(&self, begun: Duration, messages: u64) {
        let now = self.clock.moment();
        self.state().foreground.worked(now, messages, now.saturating_sub(begun));
    }

    /// A transfer runs, or is further than before.
    pub fn show(&self, line: TransferLine) {
        self.state().running.insert((line.direction, line.session), line);
    }

    /// A transfer has ended. One that was never shown has not begun, and is not counted.
    pub fn ended(&self, session: SessionId, direction: Direction, mut end: End) {
        let ended_ms = self.now_ms();
        let mut state = self.state();
        let Some(line) = state.running.remove(&(direction, session)) else { return };
        // Who ends without knowing how far it was has not undone what was shown: counts never go back.
        let (shown, amount) = (line.progress.done, end.amount);
        end.amount = Amount { items: amount.items.max(shown.items), bytes: amount.bytes.max(shown.bytes) };
        end.unreadable = end.unreadable.max(line.progress.unreadable);
        let totals = state.totals.entry((direction, kind_word(line.kind))).or_default();
        totals.moved(end.amount, line.progress.sent, end.unreadable);
        match end.completed {
            true => totals.completed += 1,
            false => totals.ended += 1,
        }
        let TransferLine { kind, partition, peer, .. } = line;
        let new = (direction, kind, partition, peer);
        state
            .ended
            .retain(|old| old.end.completed || (old.direction, old.kind, old.partition, old.peer) != new);
        if state.ended.len() >= ENDED_MAX {
            state.ended.pop_front();
        }
        state.ended.push_back(EndedLine { direction, kind, partition, peer, end, ended_ms });
    }

    /// The transfers that are due and do not run, in place of those before.
    pub fn set_waiting(&self, waiting: Vec<WaitingLine>) {
        self.state().waiting = waiting;
    }

    fn now_ms(&self) -> u64 {
        self.clock.moment().as_millis() as u64
    }

    /// How many transfers there are.
    pub fn counts(&self) -> HandoffCounts {
        let state = self.state();
        let running_in = state.running.keys().filter(|(direction, _)| *direction == Direction::In).count();
        HandoffCounts {
            running_in,
            running_out: state.running.len() - running_in,
            waiting: state.waiting.len(),
            paused: state.paused,
        }
    }

    /// Everything, as it is now.
    pub fn snapshot(&self) -> HandoffSnapshot {
        let now_ms = self.now_ms();
        let state = self.state();
        let mut totals = state.totals.clone();
        for line in state.running.values() {
            let total = totals.entry((line.direction, kind_word(line.kind))).or_default();
            total.moved(line.progress.done, line.progress.sent, line.progress.unreadable);
        }
        HandoffSnapshot {
            now_ms,
            settings: state.settings,
            paused: state.paused,
            running: state.running.values().cloned().collect(),
            waiting: state.waiting.clone(),
            ended: state.ended.iter().rev().cloned().collect(),
            repairing: state.repairing.clone(),
            wished: state.wished.clone(),
            totals,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;
    use ringwork_core::ids::Boot;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    struct Hand(Arc<AtomicU64>);

    impl TimeSource for Hand {
        fn wall_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn moment(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn board() -> (HandoffBoard, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(1000));
        let clock = Clock::of(Arc::new(Hand(now.clone())));
        (HandoffBoard::new(HandoffSettings::default(), clock), now)
    }

    fn line(number: u64, direction: Direction, kind: Kind, items: u64) -> TransferLine {
        let mut progress = Progress::new(1000, Amount { items: 100, bytes: 1000 });
        progress.moved(1500, Amount { items, bytes: items * 10 });
        let session = SessionId { node: NodeId([7; 16]), boot: Boot(1), number };
        TransferLine { session, direction, kind, partition: Partition(3), peer: NodeId([9; 16]), progress }
    }

    #[test]
    fn what_an_operator_sets_is_bounded_and_told_once_for_each_change() {
        let (board, _) = board();
        let told = Arc::new(AtomicUsize::new(0));
        let heard = told.clone();
        board.on_change(Box::new(move || {
            heard.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!((board.limit(), board.bytes_per_second(), board.paused()), (4, None, false));
        board.set(Some(64), Some(Some(50_000_000))).unwrap();
        assert_eq!((board.limit(), board.bytes_per_second()), (64, Some(50_000_000)));
        board.set(None, Some(None)).unwrap();
        assert_eq!((board.limit(), board.bytes_per_second()), (64, None));
        for (limit, rate, refusal) in [
            (Some(0), Some(None), SettingRefusal::NoTransfers),
            (Some(65), None, SettingRefusal::Limit(65)),
            (Some(8), Some(Some(0)), SettingRefusal::Rate(0)),
            (None, Some(Some(u64::MAX)), SettingRefusal::Rate(u64::MAX)),
        ] {
            assert_eq!(board.set(limit, rate), Err(refusal), "{refusal}");
        }
        assert_eq!(
            (board.limit(), board.bytes_per_second()),
            (64, None),
            "nothing of what was refused is set"
        );
        assert_eq!(told.load(Ordering::Relaxed), 2);
        board.set(Some(64), None).unwrap();
        board.set_paused(false);
        assert_eq!(told.load(Ordering::Relaxed), 2, "nothing is different");
        board.set_paused(true);
        assert!(board.paused());
        board.wish_repair([Partition(1), Partition(2)].into());
        board.wish_repair([Partition(2)].into());
        assert_eq!(told.load(Ordering::Relaxed), 4);
        assert_eq!(board.take_wished_repairs(), [Partition(1), Partition(2)].into());
        assert_eq!(board.take_wished_repairs(), BTreeSet::new());
    }

    #[test]
    fn who_hears_of_a_change_may_ask_the_board() {
        let (board, _) = board();
        let board = Arc::new(board);
        let (weak, seen) = (Arc::downgrade(&board), Arc::new(AtomicUsize::new(0)));
        let heard = seen.clone();
        board.on_change(Box::new(move || {
            let limit = weak.upgrade().map_or(0, |board| board.limit() as usize);
            heard.store(limit, Ordering::Relaxed);
        }));
        board.set(Some(7), None).unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn settings_out_of_range_are_brought_into_it() {
        let board = |limit, bytes_per_second| {
            HandoffBoard::new(HandoffSettings { limit, bytes_per_second }, Clock::system())
        };
        let (low, high) = (board(0, Some(0)), board(1000, Some(u64::MAX)));
        assert_eq!((low.limit(), low.bytes_per_second()), (1, Some(1)));
        assert_eq!((high.limit(), high.bytes_per_second()), (64, Some(HANDOFF_BYTES_PER_SECOND_MAX)));
    }

    #[test]
    fn what_has_moved_is_counted_from_its_beginning_and_never_less() {
        let (board, now) = board();
        let of = |board: &HandoffBoard| board.snapshot().totals[&(Direction::Out, "ownership")];
        let running = line(1, Direction::Out, Kind::Ownership, 30);
        board.show(line(1, Direction::Out, Kind::Ownership, 10));
        board.show(running.clone());
        board.show(line(1, Direction::In, Kind::Hinted, 1));
        let counts = board.counts();
        assert_eq!((counts.running_in, counts.running_out, counts.waiting, counts.paused), (1, 1, 0, false));
        assert_eq!((of(&board).amount.items, of(&board).completed), (30, 0));
        // Its thread has ended: it does not know how far it was.
        now.store(4000, Ordering::Relaxed);
        board.ended(running.session, Direction::Out, End { text: "gone".to_owned(), ..End::default() });
        assert_eq!(of(&board).amount, Amount { items: 30, bytes: 300 });
        assert_eq!((of(&board).completed, of(&board).ended), (0, 1));
        board.show(line(2, Direction::Out, Kind::Ownership, 5));
        let amount = Amount { items: 70, bytes: 700 };
        let end = End { completed: true, amount, unreadable: 2, text: "completed".to_owned() };
        board.ended(line(2, Direction::Out, Kind::Ownership, 0).session, Direction::Out, end.clone());
        let totals = of(&board);
        assert_eq!((totals.completed, totals.ended, totals.amount.items, totals.unreadable), (1, 1, 100, 2));
        let snapshot = board.snapshot();
        assert_eq!(snapshot.running.len(), 1, "what comes in under the same session is another transfer");
        let ended: Vec<_> =
            snapshot.ended.iter().map(|line| (line.end.text.as_str(), line.ended_ms)).collect();
        assert_eq!(ended, [("completed", 4000)], "of attempts at the same transfer the last counts");
        // What ends without having been shown had not begun.
        board.ended(line(3, Direction::Out, Kind::Hinted, 0).session, Direction::Out, end);
        assert_eq!(board.snapshot().ended.len(), 1);
        assert_eq!(board.snapshot().totals.len(), 6);
    }

    #[test]
    fn only_so_many_ended_ones_are_remembered_the_latest_first() {
        let (board, _) = board();
        for number in 0..100 {
            let mut line = line(number, Direction::In, Kind::Repair { source: Partition(2) }, 1);
            line.partition = Partition(number as u16);
            board.show(line.clone());
            let end = End { completed: number % 2 == 0, text: number.to_string(), ..End::default() };
            board.ended(line.session, Direction::In, end);
        }
        let snapshot = board.snapshot();
        assert_eq!((snapshot.ended.len(), snapshot.ended[0].end.text.as_str()), (32, "99"));
        let totals = snapshot.totals[&(Direction::In, "repair")];
        assert_eq!((totals.completed, totals.ended, totals.amount.items), (50, 50, 100));
    }
}
