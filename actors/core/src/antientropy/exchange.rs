//! The comparison of one group's trees at two vnodes, and what follows from it, as the side sees it that began. It
//! decides what is asked next, of which side, and when the exchange has ended, and why; it does not know how questions
//! travel, nor who answers them: a vnode answers its own side's as it does the other's.
//!
//! The roots; where they differ the levels below, down to the leaves. There the first look ends. The second one, a
//! moment later, looks at these leaves once more, for a write that had reached one of the two is no difference. What
//! differs both times is listed at both sides, page by page in the order of the keys, and the two listings are joined:
//! what one side lacks, or has otherwise, is sent to it as items, which it merges. Whatever is sent twice, or late, or
//! was overtaken by a write, does no harm.
//!
//! Every question has a deadline and is asked a few times at most; every answer is checked before it is believed.

use super::Fingerprints;
use super::listing::{Entry, Page, Picked, Through, Wanted};
use super::tree::{Digest, FAN_OUT, LEAF_LEVEL, Root, children_of, width_of};
use crate::ids::Partition;
use crate::limits::{REPAIR_BATCH_ITEMS_MAX, REPAIRS_EXCHANGE_MAX, STORE_KEY_BYTES_MAX};
use crate::ring::RingSize;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;

/// Until a question that is not answered is asked again.
const ANSWER_MS: u64 = 15_000;
/// How often one question is asked.
const ATTEMPTS_MAX: u32 = 3;
/// Between two attempts.
const PAUSE_MS: u64 = 500;
/// Between the two looks at leaves that differ: longer than a write takes to reach all replicas that it reaches.
pub const SETTLE_MS: u64 = 1000;

/// Of whom something is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Side {
    /// The vnode on whose node the exchange runs.
    Mine,
    /// The other one.
    Theirs,
}

/// What a side can be asked, each for one group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Question {
    /// The tree in short.
    Root,
    /// What the children of these nodes say.
    Children {
        /// The nodes' level.
        level: u8,
        /// Ascending.
        nodes: Vec<u16>,
    },
    /// One page of a listing.
    List(Wanted),
    /// The items under these keys, as many as fit.
    Pick(Vec<Vec<u8>>),
    /// Merge these items.
    Take(Vec<Vec<u8>>),
}

impl Question {
    /// Whether what another node asks is within bounds.
    pub fn is_lawful(&self, size: RingSize) -> bool {
        match self {
            Self::Root => true,
            Self::Children { level, nodes } => {
                *level < LEAF_LEVEL
                    && nodes.is_sorted_by(|a, b| a < b)
                    && nodes.last().is_none_or(|node| *node < width_of(*level))
            }
            Self::List(wanted) => wanted.is_lawful(size),
            Self::Pick(keys) => {
                keys.len() <= REPAIR_BATCH_ITEMS_MAX
                    && keys.iter().all(|key| key.len() <= STORE_KEY_BYTES_MAX)
            }
            Self::Take(items) => items.len() <= REPAIR_BATCH_ITEMS_MAX,
        }
    }
}

/// Why a side takes no part at present. That is no failure: it is asked again later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum NotNow {
    /// Its node does not hold the partition, by what it knows.
    NotHolder,
    /// It does not know everything that it should have.
    Incomplete,
    /// Its partition is being given to another node, or taken from one.
    Moving,
    /// Its trees are being built.
    Building,
    /// Its node has more to do than it can.
    Busy,
    /// Its node stops.
    Stopping,
    /// Its operator does not want it.
    Disabled,
}

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHolder => "the partition is held elsewhere",
            Self::Incomplete => "the replica is not complete",
            Self::Moving => "the partition is in transfer",
            Self::Building => "the trees are being built",
            Self::Busy => "the node is busy",
            Self::Stopping => "the node stops",
            Self::Disabled => "anti-entropy is turned off there",
        })
    }
}

/// What a side answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing was done.
    NotNow(NotNow),
    /// To [`Question::Root`].
    Root(Root),
    /// To [`Question::Children`]: child after child.
    Children(Vec<Digest>),
    /// To [`Question::List`].
    Page(Page),
    /// To [`Question::Pick`].
    Picked(Picked),
    /// To [`Question::Take`]: they are merged.
    Taken,
}

impl Answer {
    /// Whether this can be the answer to that.
    fn fits(&self, question: &Question, prints: &Fingerprints) -> bool {
        match (question, self) {
            (_, Self::NotNow(_)) | (Question::Root, Self::Root(_)) | (Question::Take(_), Self::Taken) => true,
            (Question::Children { nodes, .. }, Self::Children(digests)) => {
                digests.len() == nodes.len() * usize::from(FAN_OUT)
            }
            (Question::List(wanted), Self::Page(page)) => page.is_lawful(wanted, prints),
            (Question::Pick(keys), Self::Picked(picked)) => {
                let some = picked.looked_at > 0 || keys.is_empty();
                some && picked.looked_at <= keys.len() && picked.items.len() <= picked.looked_at
            }
            _ => false,
        }
    }
}

/// What was sent where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// Items that the other side has merged.
    pub sent: u64,
    /// Items that this side has merged.
    pub fetched: u64,
}

impl Repaired {
    /// In both directions.
    pub fn items(&self) -> u64 {
        self.sent.saturating_add(self.fetched)
    }
}

/// How an exchange has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The two have the same.
    Equal,
    /// That was the first look, and these leaves differ. They are to be looked at once more, after [`SETTLE_MS`].
    Unsettled(Vec<u16>),
    /// They differed, and what differed was sent.
    Repaired {
        /// How much.
        repaired: Repaired,
        /// There is more: this was as much as one exchange may send.
        more: bool,
    },
    /// Leaves differed twice, and the items that fall to them do not: one of the two trees is not what its items are.
    TreesDiffer,
    /// A side takes no part at present.
    NotNow(Side, NotNow, Repaired),
    /// A side did not answer, or not what it was asked.
    GaveUp {
        /// Which.
        side: Side,
        /// In words, for the log.
        why: String,
        /// What was sent until then.
        repaired: Repaired,
    },
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Ask a side, and bring the answer with the number.
    Ask {
        /// Which.
        side: Side,
        /// For [`Event::Answered`].
        number: u64,
        /// What.
        question: Question,
    },
    /// Come again with [`Event::Tick`] at this time, unless something happens before.
    WakeAt(u64),
    /// It has ended.
    End(Ending),
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Time has passed; the first one begins the exchange.
    Tick,
    /// A side has answered.
    Answered {
        /// Of the question.
        number: u64,
        /// What.
        answer: Answer,
    },
    /// A question did not arrive, or its answer will not.
    Failed {
        /// Of the question.
        number: u64,
        /// In words.
        why: String,
    },
}

/// A question that waits for its answer, or to be asked again.
#[derive(Clone, Debug)]
struct Open {
    side: Side,
    question: Question,
    number: u64,
    attempts: u32,
    /// When it is given up, or asked again where it has failed.
    due_ms: u64,
    failed: Option<String>,
    answer: Option<Answer>,
}

/// One side's listing, as far as it is here and not joined yet.
#[derive(Clone, Debug, Default)]
struct Listing {
    entries: VecDeque<Entry>,
    through: Option<Through>,
}

impl Listing {
    fn is_over(&self) -> bool {
        self.through == Some(Through::End) && self.entries.is_empty()
    }

    fn after(&self) -> Option<Vec<u8>> {
        match &self.through {
            Some(Through::Key(key)) => Some(key.clone()),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Phase {
    Roots,
    /// The children of these nodes are asked for.
    Levels {
        level: u8,
        nodes: Vec<u16>,
    },
    /// Pages are asked for.
    Listing,
    /// A side picks items for the other one.
    Picking {
        from: Side,
    },
    /// The other one takes them.
    Taking {
        from: Side,
        looked_at: usize,
        items: u64,
    },
    Ended,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Exchange {
    group: Partition,
    prints: Fingerprints,
    items_per_second: u64,
    /// At the second look: the leaves that differed at the first.
    before: Option<Vec<u16>>,
    phase: Phase,
    open: Vec<Open>,
    numbers: u64,
    leaves: Vec<u16>,
    mine: Listing,
    theirs: Listing,
    /// Keys of what this side has and the other lacks, or has otherwise.
    to_send: VecDeque<Vec<u8>>,
    /// The other way round.
    to_fetch: VecDeque<Vec<u8>>,
    differed: bool,
    repaired: Repaired,
    /// Not before this time goes on what waits: the next batch.
    resume_ms: u64,
}

impl Exchange {
    /// An exchange about one group, that sends at most so many items in a second; the second look if the leaves are
    /// known that differed at the first. [`Event::Tick`] begins it.
    pub fn new(
        group: Partition,
        prints: Fingerprints,
        items_per_second: u64,
        before: Option<Vec<u16>>,
    ) -> Self {
        Self {
            group,
            prints,
            items_per_second: items_per_second.max(1),
            before,
            phase: Phase::Roots,
            open: Vec::new(),
            numbers: 0,
            leaves: Vec::new(),
            mine: Listing::default(),
            theirs: Listing::default(),
            to_send: VecDeque::new(),
            to_fetch: VecDeque::new(),
            differed: false,
            repaired: Repaired::default(),
            resume_ms: 0,
        }
    }

    /// Sends at most so many items in a second from the next batch on.
    pub fn pace(&mut self, items_per_second: u64) {
        self.items_per_second = items_per_second.max(1);
    }

    /// What it has sent so far.
    pub fn repaired(&self) -> Repaired {
        self.repaired
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Answered { number, answer } => {
                let Some(open) = self.open.iter_mut().find(|open| open.number == number) else {
                    return effects;
                };
                if !answer.fits(&open.question, &self.prints) {
                    let (side, why) = (open.side, "it answered what it was not asked".to_owned());
                    return self.end(Ending::GaveUp { side, why, repaired: self.repaired });
                }
                if let Answer::NotNow(why) = answer {
                    let side = open.side;
                    return self.end(Ending::NotNow(side, why, self.repaired));
                }
                open.answer = Some(answer);
            }
            Event::Failed { number, why } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.number == number)
                    && open.answer.is_none()
                    && open.failed.is_none()
                {
                    open.failed = Some(why);
                    open.due_ms = now_ms.saturating_add(PAUSE_MS);
                }
            }
        }
        if matches!(self.phase, Phase::Ended) {
            return effects;
        }
        if let Some(ending) = self.ask_again(now_ms, &mut effects) {
            return self.end(ending);
        }
        if self.open.iter().all(|open| open.answer.is_some())
            && now_ms >= self.resume_ms
            && let Some(ending) = self.go_on(now_ms, &mut effects)
        {
            return self.end(ending);
        }
        let waits = self.open.iter().filter(|open| open.answer.is_none()).map(|open| open.due_ms).min();
        effects.push(Effect::WakeAt(waits.unwrap_or(self.resume_ms).max(now_ms)));
        effects
    }

    fn end(&mut self, ending: Ending) -> Vec<Effect> {
        self.phase = Phase::Ended;
        self.open.clear();
        vec![Effect::End(ending)]
    }

    /// Asks anew what was not answered in time; says how it ends when something was asked often enough.
    fn ask_again(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Option<Ending> {
        let repaired = self.repaired;
        for open in self.open.iter_mut().filter(|open| open.answer.is_none() && now_ms >= open.due_ms) {
            if open.attempts >= ATTEMPTS_MAX {
                let late = || format!("no answer within {} s", ANSWER_MS / 1000);
                let why = open.failed.take().unwrap_or_else(late);
                return Some(Ending::GaveUp { side: open.side, why, repaired });
            }
            self.numbers += 1;
            open.number = self.numbers;
            open.attempts += 1;
            open.failed = None;
            open.due_ms = now_ms.saturating_add(ANSWER_MS);
            let (side, question) = (open.side, open.question.clone());
            effects.push(Effect::Ask { side, number: open.number, question });
        }
        None
    }

    fn ask(&mut self, now_ms: u64, side: Side, question: Question, effects: &mut Vec<Effect>) {
        self.numbers += 1;
        let number = self.numbers;
        let due_ms = now_ms.saturating_add(ANSWER_MS);
        effects.push(Effect::Ask { side, number, question: question.clone() });
        self.open.push(Open { side, question, number, attempts: 1, due_ms, failed: None, answer: None });
    }

    fn ask_both(&mut self, now_ms: u64, question: &Question, effects: &mut Vec<Effect>) {
        for side in [Side::Mine, Side::Theirs] {
            self.ask(now_ms, side, question.clone(), effects);
        }
    }

    /// Everything that was asked is answered.
    fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Option<Ending> {
        let answers = std::mem::take(&mut self.open);
        let of = |side| answers.iter().find(|open| open.side == side).and_then(|open| open.answer.as_ref());
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Ended => None,
            Phase::Roots => match (of(Side::Mine), of(Side::Theirs)) {
                (Some(mine), Some(theirs)) if mine == theirs => Some(Ending::Equal),
                (Some(_), Some(_)) => {
                    if let Some(before) = &self.before {
                        let mut parents: Vec<u16> = before.iter().map(|leaf| leaf / FAN_OUT).collect();
                        parents.dedup();
                        self.look(now_ms, LEAF_LEVEL - 1, parents, effects);
                    } else {
                        self.look(now_ms, 0, vec![0], effects);
                    }
                    None
                }
                _ => {
                    self.phase = Phase::Roots;
                    self.ask_both(now_ms, &Question::Root, effects);
                    None
                }
            },
            Phase::Levels { level, nodes } => {
                let (Some(Answer::Children(mine)), Some(Answer::Children(theirs))) =
                    (of(Side::Mine), of(Side::Theirs))
                else {
                    return Some(Ending::Equal);
                };
                let places = nodes.iter().flat_map(|node| children_of(*node));
                let differing: Vec<u16> = places
                    .zip(mine.iter().zip(theirs))
                    .filter(|(_, (mine, theirs))| mine != theirs)
                    .map(|(place, _)| place)
                    .collect();
                self.looked(now_ms, level + 1, differing, effects)
            }
            Phase::Listing => {
                for Open { side, answer, .. } in answers {
                    let Some(Answer::Page(page)) = answer else { continue };
                    let listing = self.listing(side);
                    listing.entries.extend(page.entries);
                    listing.through = Some(page.through);
                }
                self.join();
                self.next(now_ms, effects)
            }
            Phase::Picking { from } => {
                let Some(Answer::Picked(picked)) = of(from) else { return Some(Ending::Equal) };
                let (looked_at, items) = (picked.looked_at, picked.items.len() as u64);
                self.phase = Phase::Taking { from, looked_at, items };
                if items == 0 {
                    return self.go_on(now_ms, effects);
                }
                self.ask(now_ms, other(from), Question::Take(picked.items.clone()), effects);
                None
            }
            Phase::Taking { from, looked_at, items } => {
                let (keys, count) = match from {
                    Side::Mine => (&mut self.to_send, &mut self.repaired.sent),
                    Side::Theirs => (&mut self.to_fetch, &mut self.repaired.fetched),
                };
                keys.drain(..looked_at.min(keys.len()));
                *count = count.saturating_add(items);
                let takes_ms = items.saturating_mul(1000).div_ceil(self.items_per_second);
                self.resume_ms = now_ms.saturating_add(takes_ms);
                if items == 0 {
                    return self.next(now_ms, effects);
                }
                self.phase = Phase::Listing;
                None
            }
        }
    }

    fn look(&mut self, now_ms: u64, level: u8, nodes: Vec<u16>, effects: &mut Vec<Effect>) {
        self.ask_both(now_ms, &Question::Children { level, nodes: nodes.clone() }, effects);
        self.phase = Phase::Levels { level, nodes };
    }

    fn looked(
        &mut self,
        now_ms: u64,
        level: u8,
        mut differing: Vec<u16>,
        effects: &mut Vec<Effect>,
    ) -> Option<Ending> {
        if let Some(before) = &self.before {
            differing.retain(|leaf| before.binary_search(leaf).is_ok());
        }
        if differing.is_empty() {
            return Some(Ending::Equal);
        }
        if level < LEAF_LEVEL {
            self.look(now_ms, level, differing, effects);
        } else if self.before.is_none() {
            return Some(Ending::Unsettled(differing));
        } else {
            self.leaves = differing;
            return self.next(now_ms, effects);
        }
        None
    }

    fn listing(&mut self, side: Side) -> &mut Listing {
        match side {
            Side::Mine => &mut self.mine,
            Side::Theirs => &mut self.theirs,
        }
    }

    /// Joins the two listings as far as both reach.
    fn join(&mut self) {
        let within = |listing: &Listing, key: &[u8]| {
            listing.through.as_ref().is_some_and(|through| through.reaches(key))
        };
        loop {
            let (mine, theirs) = (self.mine.entries.front(), self.theirs.entries.front());
            let order = match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.key.cmp(&theirs.key),
                (Some(mine), None) if within(&self.theirs, &mine.key) => std::cmp::Ordering::Less,
                (None, Some(theirs)) if within(&self.mine, &theirs.key) => std::cmp::Ordering::Greater,
                _ => return,
            };
            let ours = if order.is_le() { self.mine.entries.pop_front() } else { None };
            let others = if order.is_ge() { self.theirs.entries.pop_front() } else { None };
            if ours.as_ref().map(|entry| entry.print) == others.as_ref().map(|entry| entry.print) {
                continue;
            }
            self.differed = true;
            self.to_send.extend(ours.map(|entry| entry.key));
            self.to_fetch.extend(others.map(|entry| entry.key));
        }
    }

    /// The next batch, or where no whole one is left the next page.
    fn next(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Option<Ending> {
        if self.repaired.items() >= REPAIRS_EXCHANGE_MAX {
            return Some(Ending::Repaired { repaired: self.repaired, more: true });
        }
        let over = self.mine.is_over() && self.theirs.is_over();
        let whole = if over { 1 } else { REPAIR_BATCH_ITEMS_MAX };
        for from in [Side::Mine, Side::Theirs] {
            let keys = if from == Side::Mine { &self.to_send } else { &self.to_fetch };
            if keys.len() >= whole {
                let keys = keys.iter().take(REPAIR_BATCH_ITEMS_MAX).cloned().collect();
                self.ask(now_ms, from, Question::Pick(keys), effects);
                self.phase = Phase::Picking { from };
                return None;
            }
        }
        if over {
            let repaired = self.repaired;
            return Some(match self.differed {
                true => Ending::Repaired { repaired, more: false },
                false => Ending::TreesDiffer,
            });
        }
        self.phase = Phase::Listing;
        for side in [Side::Mine, Side::Theirs] {
            let listing = self.listing(side);
            // The one that is behind: what is left of the other's waits for it.
            if listing.entries.is_empty() && listing.through != Some(Through::End) {
                let after = listing.after();
                let wanted = Wanted { group: self.group, leaves: self.leaves.clone(), after };
                self.ask(now_ms, side, Question::List(wanted), effects);
            }
        }
        None
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Mine => Side::Theirs,
        Side::Theirs => Side::Mine,
    }
}
