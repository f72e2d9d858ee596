//! One listing from its first page to its end. It decides which vnode is asked for which page and when, in which
//! order rows leave, who takes the place of a vnode that fails, and how the whole ends: with every row, or with the
//! reason why not. How a vnode is reached, and who takes the rows, it does not know.
//!
//! Each part of the plan is a stream of rows in the order of their keys; rows leave merged, the smallest first, as soon
//! as no part can have a smaller one. Rows leave only when they are asked for, and pages are asked for only as rows
//! leave: so a reader that is slow slows everybody down, and what waits in between is bounded.
//!
//! A part that fails keeps the rows that it gave. Its keys become a part without a vnode, which is planned anew and
//! goes on behind the last key up to which it was answered: nothing is left out and nothing is shown twice.

use super::page::{Page, PageBounds};
use super::plan::{Holders, Part, plan};
use super::question::Row;
use crate::ids::{NodeId, Partition};
use crate::limits::{
    LISTING_BYTES_MAX, LISTING_PAGE_BYTES_MAX, LISTING_PAGE_BYTES_MIN, LISTING_PAGE_ROWS_MAX,
    LISTING_PAGES_PER_NODE_MAX,
};
use crate::ring::RingSize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

/// How long a vnode may take over one page.
pub const PAGE_WITHIN: Duration = Duration::from_secs(4);
/// How often it is looked whether those that were asked can still be.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a vnode that failed is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);
/// How often in a row a key's part may fail: with the pauses more than ten seconds, which is longer than a node that
/// starts is incomplete.
const FAILURES_MAX: u8 = 12;
/// How often in a row an overloaded vnode is asked again before another is.
const OVERLOADS_MAX: u8 = 5;
/// Pause before the first of these; doubled from one to the next.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(20);
/// Rows that leave at a time.
const BATCH_ROWS_MAX: usize = 500;
/// Partitions that an error names; the others are counted.
const PARTITIONS_NAMED_MAX: usize = 8;

/// What a listing is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CourseOptions {
    /// How many replicas each key has, at least.
    pub n: usize,
    /// How many replicas a key may have: of so many partitions a vnode has keys, and shows only what it is asked for.
    pub held: usize,
    /// Spreads the load; another one for each listing.
    pub rotation: u64,
    /// Rows behind this key.
    pub after: Option<Vec<u8>>,
    /// Ends after so many rows; none for all.
    pub rows_max: Option<usize>,
    /// When it ends, done or not.
    pub deadline: Duration,
}

/// A page that is to be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// Names the answer.
    pub ask: u64,
    /// Whose vnode.
    pub partition: Partition,
    /// Who holds it.
    pub node: NodeId,
    /// Which page.
    pub bounds: PageBounds,
    /// When the answer is not waited for any more.
    pub until: Duration,
}

/// Why a vnode gave no page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PageFailure {
    /// It has too much to do just now.
    Overloaded,
    /// It does not answer for everything, or not any more, or could not be reached; in words.
    Unavailable(String),
}

/// What is to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step<R> {
    /// Ask for this page, then step again.
    Ask(PageRequest),
    /// These are the next rows of the list.
    Rows(Vec<R>),
    /// Nothing before an answer comes, or until then.
    Wait(Duration),
    /// All rows have left, or as many as were wanted.
    Done,
    /// No further row leaves, and the list is not whole.
    Failed(CoverageFailure),
}

/// Why a list is not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoverageFailure {
    /// Nobody that can be asked answers for the keys of these partitions.
    Uncovered {
        /// Whose keys are missing.
        partitions: Vec<Partition>,
        /// What the last of those said that were asked; none when there was nobody to ask.
        why: Option<String>,
    },
    /// It took too long.
    Deadline,
}

impl fmt::Display for CoverageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered { partitions, why } => {
                let named = partitions.iter().take(PARTITIONS_NAMED_MAX).map(Partition::to_string);
                let named: Vec<String> = named.collect();
                let more = partitions.len().saturating_sub(named.len());
                write!(f, "no complete replica of partition {} can be asked", named.join(", "))?;
                if more > 0 {
                    write!(f, " (and of {more} more)")?;
                }
                why.as_ref().map_or(Ok(()), |why| write!(f, "; the last that was asked said: {why}"))
            }
            Self::Deadline => f.write_str("the list did not end within its time"),
        }
    }
}

impl std::error::Error for CoverageFailure {}

/// What a listing took, for whoever counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CourseCounts {
    /// Vnodes that were given a part, replacements included.
    pub parts: u64,
    /// Parts that failed and were given to others.
    pub replaced: u64,
    /// Rows that have left.
    pub rows: u64,
}

type StretchId = u64;

/// Keys that one vnode lists, or somebody is to.
struct Stretch<R> {
    keys: Vec<Partition>,
    /// Who lists them; none while that is to be planned.
    place: Option<Part>,
    /// Everything up to here has come.
    floor: Option<Vec<u8>>,
    rows: VecDeque<R>,
    bytes: usize,
    asked: Option<Asked>,
    /// Not before then is it asked, or planned, again.
    rests_until: Duration,
    overloads: u8,
    failures: u8,
    /// All its rows have come, or other parts bring the rest.
    ended: bool,
}

struct Asked {
    ask: u64,
    bounds: PageBounds,
}

/// See the module's head.
pub struct Course<R> {
    size: RingSize,
    options: CourseOptions,
    stretches: BTreeMap<StretchId, Stretch<R>>,
    /// The first row of each stretch that has one.
    heads: BTreeSet<(Vec<u8>, StretchId)>,
    /// Those that have none and may get some: nothing beyond the first's floor can leave.
    dry: BTreeSet<(Option<Vec<u8>>, StretchId)>,
    /// Those that have rows left and could do with more.
    low: BTreeSet<StretchId>,
    unplaced: BTreeSet<StretchId>,
    /// What was asked for and not answered yet, and until when it is waited for.
    asks: BTreeMap<u64, (StretchId, Duration)>,
    busy: BTreeMap<NodeId, usize>,
    passed_over: BTreeMap<(NodeId, Partition), Duration>,
    looked_at: Duration,
    page_bytes: u32,
    page_rows: u32,
    /// The last row that left.
    last: Option<Vec<u8>>,
    next_stretch: StretchId,
    next_ask: u64,
    why: Option<String>,
    end: Option<Result<(), CoverageFailure>>,
    counts: CourseCounts,
}

impl<R: Row> Course<R> {
    /// A listing that begins; what is to be done first, [`Self::step`] says.
    pub fn begin(size: RingSize, mut options: CourseOptions, now: Duration) -> Self {
        options.n = options.n.min(size.count());
        options.held = options.held.min(size.count()).max(options.n);
        let everything = Stretch::unplaced(size.partitions().collect(), options.after.clone(), 0, now);
        let mut course = Self {
            size,
            options,
            stretches: BTreeMap::new(),
            heads: BTreeSet::new(),
            dry: BTreeSet::new(),
            low: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            asks: BTreeMap::new(),
            busy: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            looked_at: now,
            page_bytes: LISTING_PAGE_BYTES_MAX,
            page_rows: LISTING_PAGE_ROWS_MAX,
            last: None,
            next_stretch: 0,
            next_ask: 0,
            why: None,
            end: None,
            counts: CourseCounts::default(),
        };
        course.add(everything);
        course
    }

    /// What it took so far.
    pub fn counts(&self) -> CourseCounts {
        self.counts
    }

    /// Bytes of rows that wait to leave.
    pub fn waiting_bytes(&self) -> usize {
        self.stretches.values().map(|stretch| stretch.bytes).sum()
    }

    /// An answer has come. One that is not waited for any more changes nothing.
    pub fn answered(&mut self, now: Duration, ask: u64, answer: Result<Page<R>, PageFailure>) {
        let Some((id, _)) = self.asks.get(&ask).copied() else { return };
        let bounds = self.forget_ask(id);
        let page = match (answer, bounds) {
            (Ok(page), Some(bounds)) => match page.check(&bounds) {
                Ok(()) => page,
                Err(error) => return self.fail(now, id, error.to_string()),
            },
            (Err(PageFailure::Overloaded), _) => return self.overloaded(now, id),
            (Err(PageFailure::Unavailable(why)), _) => return self.fail(now, id, why),
            (Ok(_), None) => return,
        };
        self.change(id, |stretch| {
            (stretch.failures, stretch.overloads) = (0, 0);
            stretch.ended = page.through.is_none();
            stretch.floor = page.through.or_else(|| page.rows.last().map(|row| row.key().to_vec()));
            stretch.bytes += page.rows.iter().map(Row::bytes).sum::<usize>();
            stretch.rows.extend(page.rows);
        });
    }

    /// What is to be done now. `holders` is called where a vnode has to be found.
    pub fn step(&mut self, now: Duration, holders: &dyn Fn() -> Holders) -> Step<R> {
        self.look(now, holders);
        if self.end.is_none() && now >= self.options.deadline {
            self.end = Some(Err(CoverageFailure::Deadline));
        }
        if self.end.is_none() {
            self.place(now, holders);
        }
        if self.end.is_none() {
            if let Some(request) = self.next_request(now) {
                return Step::Ask(request);
            }
            let rows = self.take_rows();
            if !rows.is_empty() {
                return Step::Rows(rows);
            }
            let enough = self.options.rows_max.is_some_and(|max| self.counts.rows >= max as u64);
            if enough || self.stretches.is_empty() {
                self.end = Some(Ok(()));
            }
        }
        match &self.end {
            Some(Ok(())) => Step::Done,
            Some(Err(failure)) => Step::Failed(failure.clone()),
            None => Step::Wait(self.wakes_at(now)),
        }
    }

    /// Gives up on those that did not answer in time, and on those that cannot be asked any more.
    fn look(&mut self, now: Duration, holders: &dyn Fn() -> Holders) {
        let late: Vec<StretchId> =
            self.asks.values().filter(|(_, until)| *until <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.forget_ask(id);
            self.fail(now, id, "it did not answer in time".to_owned());
        }
        if self.asks.is_empty() || now < self.looked_at + LOOK_EVERY {
            return;
        }
        self.looked_at = now;
        let holders = holders();
        let gone = |(id, _): &(StretchId, Duration)| {
            let place = self.stretches.get(id).and_then(|stretch| stretch.place);
            place.is_some_and(|part| holders.node(part.partition) != Some(part.node)).then_some(*id)
        };
        let gone: Vec<StretchId> = self.asks.values().filter_map(gone).collect();
        for id in gone {
            self.forget_ask(id);
            self.fail(now, id, "its node is down, or holds the partition no more".to_owned());
        }
    }

    /// Finds vnodes for what has none.
    fn place(&mut self, now: Duration, holders: &dyn Fn() -> Holders) {
        let due = |id: &StretchId| self.stretches.get(id).is_some_and(|stretch| stretch.rests_until <= now);
        let due: Vec<StretchId> = self.unplaced.iter().copied().filter(due).collect();
        if due.is_empty() {
            return;
        }
        let holders = holders();
        self.passed_over.retain(|_, until| *until > now);
        for id in due {
            let Some(stretch) = self.stretches.get_mut(&id) else { continue };
            let keys = std::mem::take(&mut stretch.keys);
            let (floor, failures) = (stretch.floor.clone(), stretch.failures);
            let passed_over = &self.passed_over;
            let eligible = |partition| {
                holders.complete_node(partition).filter(|node| !passed_over.contains_key(&(*node, partition)))
            };
            let rotation = self.options.rotation.wrapping_add(id);
            let planned = plan(self.size, self.options.n, &keys, &eligible, rotation);
            let hopeless: Vec<Partition> = planned
                .uncovered
                .iter()
                .copied()
                .filter(|first| {
                    let mut steps = 0..self.options.n;
                    !steps.any(|step| holders.node(self.size.clockwise(*first, step)).is_some())
                })
                .collect();
            if !hopeless.is_empty() {
                return self.uncovered(hopeless);
            }
            for part in planned.parts {
                self.counts.parts += 1;
                self.add(Stretch {
                    place: Some(part),
                    ..Stretch::unplaced(Vec::new(), floor.clone(), failures, now)
                });
            }
            if planned.uncovered.is_empty() {
                self.unplaced.remove(&id);
                // What it has still leaves; what follows comes from the others.
                self.change(id, |stretch| stretch.ended = true);
            } else if failures >= FAILURES_MAX {
                return self.uncovered(planned.uncovered);
            } else if let Some(stretch) = self.stretches.get_mut(&id) {
                stretch.keys = planned.uncovered;
                stretch.failures += 1;
                stretch.rests_until = now + PASSED_OVER;
            }
        }
        let parts = self.stretches.len().max(1);
        let bytes = LISTING_BYTES_MAX / 2 / parts;
        self.page_bytes = u32::try_from(bytes)
            .unwrap_or(LISTING_PAGE_BYTES_MAX)
            .clamp(LISTING_PAGE_BYTES_MIN, LISTING_PAGE_BYTES_MAX);
        if let Some(max) = self.options.rows_max {
            // Twice what each gives if all give alike.
            let rows = (2 * max.div_ceil(parts) + 2).min(max).max(1);
            self.page_rows = u32::try_from(rows).unwrap_or(LISTING_PAGE_ROWS_MAX).min(LISTING_PAGE_ROWS_MAX);
        }
    }

    /// The next page to ask for: what everybody waits for first.
    fn next_request(&mut self, now: Duration) -> Option<PageRequest> {
        let ready = |id: &StretchId| {
            let stretch = self.stretches.get(id)?;
            let part = stretch.place?;
            let busy = self.busy.get(&part.node).copied().unwrap_or_default();
            let ready =
                stretch.asked.is_none() && stretch.rests_until <= now && busy < LISTING_PAGES_PER_NODE_MAX;
            ready.then_some((*id, part))
        };
        let mut candidates = self.dry.iter().map(|(_, id)| id).chain(&self.low);
        let (id, part) = candidates.find_map(ready)?;
        let stretch = self.stretches.get_mut(&id)?;
        let bounds = PageBounds {
            filter: part.filter(self.options.held),
            after: stretch.floor.clone(),
            rows_max: self.page_rows,
            bytes_max: self.page_bytes,
        };
        let (ask, until) = (self.next_ask, (now + PAGE_WITHIN).min(self.options.deadline));
        self.next_ask += 1;
        stretch.asked = Some(Asked { ask, bounds: bounds.clone() });
        self.low.remove(&id);
        if self.asks.is_empty() {
            self.looked_at = now;
        }
        self.asks.insert(ask, (id, until));
        *self.busy.entry(part.node).or_default() += 1;
        Some(PageRequest { ask, partition: part.partition, node: part.node, bounds, until })
    }

    fn take_rows(&mut self) -> Vec<R> {
        let mut rows = Vec::new();
        let max = self.options.rows_max.map_or(u64::MAX, |max| max as u64);
        while rows.len() < BATCH_ROWS_MAX && self.counts.rows < max {
            let Some((key, id)) = self.heads.first().cloned() else { break };
            if self.dry.first().is_some_and(|(floor, _)| floor.as_ref() < Some(&key)) {
                break;
            }
            let mut taken = None;
            self.change(id, |stretch| {
                taken = stretch.rows.pop_front();
                stretch.bytes -= taken.as_ref().map_or(0, Row::bytes);
            });
            // Two replicas of one key may both have been asked, one after the other.
            if self.last.as_ref() < Some(&key)
                && let Some(row) = taken
            {
                self.last = Some(key);
                self.counts.rows += 1;
                rows.push(row);
            }
        }
        rows
    }

    fn wakes_at(&self, now: Duration) -> Duration {
        let resting = self.stretches.values().filter(|stretch| !stretch.ended && stretch.asked.is_none());
        let rested = resting.map(|stretch| stretch.rests_until).filter(|until| *until > now);
        let look = (!self.asks.is_empty()).then_some(self.looked_at + LOOK_EVERY);
        let answers = self.asks.values().map(|(_, until)| *until);
        rested.chain(look).chain(answers).fold(self.options.deadline, Duration::min)
    }

    fn overloaded(&mut self, now: Duration, id: StretchId) {
        let Some(stretch) = self.stretches.get_mut(&id) else { return };
        if stretch.overloads >= OVERLOADS_MAX {
            return self.fail(now, id, "it has too much to do".to_owned());
        }
        stretch.rests_until = now + OVERLOAD_PAUSE * (1 << stretch.overloads);
        stretch.overloads += 1;
        self.change(id, |_| {});
    }

    /// Somebody else is to list what this one does not.
    fn fail(&mut self, now: Duration, id: StretchId, why: String) {
        let Some(stretch) = self.stretches.get_mut(&id) else { return };
        let Some(part) = stretch.place.take() else { return };
        stretch.keys = part.keys.of(self.size, part.partition).collect();
        stretch.failures += 1;
        stretch.overloads = 0;
        stretch.rests_until = now;
        self.why = Some(why);
        self.passed_over.insert((part.node, part.partition), now + PASSED_OVER);
        self.counts.replaced += 1;
        if stretch.failures > FAILURES_MAX {
            let keys = stretch.keys.clone();
            return self.uncovered(keys);
        }
        self.low.remove(&id);
        self.unplaced.insert(id);
    }

    fn uncovered(&mut self, partitions: Vec<Partition>) {
        let why = self.why.clone();
        self.end.get_or_insert(Err(CoverageFailure::Uncovered { partitions, why }));
    }

    fn forget_ask(&mut self, id: StretchId) -> Option<PageBounds> {
        let stretch = self.stretches.get_mut(&id)?;
        let asked = stretch.asked.take()?;
        self.asks.remove(&asked.ask);
        if let Some(busy) = stretch.place.and_then(|part| self.busy.get_mut(&part.node)) {
            *busy = busy.saturating_sub(1);
        }
        Some(asked.bounds)
    }

    fn add(&mut self, stretch: Stretch<R>) {
        let id = self.next_stretch;
        self.next_stretch += 1;
        if stretch.place.is_none() {
            self.unplaced.insert(id);
        }
        self.stretches.insert(id, stretch);
        self.change(id, |_| {});
    }

    /// Changes one and keeps it where it is found; one that has nothing any more is dropped.
    fn change(&mut self, id: StretchId, with: impl FnOnce(&mut Stretch<R>)) {
        let Some(stretch) = self.stretches.get_mut(&id) else { return };
        match stretch.rows.front() {
            Some(first) => self.heads.remove(&(first.key().to_vec(), id)),
            None => self.dry.remove(&(stretch.floor.clone(), id)),
        };
        with(stretch);
        let wants_more = !stretch.ended && stretch.asked.is_none() && stretch.place.is_some();
        if wants_more && !stretch.rows.is_empty() && stretch.bytes < self.page_bytes as usize / 2 {
            self.low.insert(id);
        } else {
            self.low.remove(&id);
        }
        match stretch.rows.front() {
            Some(first) => {
                self.heads.insert((first.key().to_vec(), id));
            }
            None if stretch.ended => {
                self.stretches.remove(&id);
            }
            None => {
                self.dry.insert((stretch.floor.clone(), id));
            }
        }
    }
}

impl<R> Stretch<R> {
    fn unplaced(keys: Vec<Partition>, floor: Option<Vec<u8>>, failures: u8, now: Duration) -> Self {
        Self {
            keys,
            place: None,
            floor,
            rows: VecDeque::new(),
            bytes: 0,
            asked: None,
            rests_until: now,
            overloads: 0,
            failures,
            ended: false,
        }
    }
}

#[cfg(test)]
mod tests;
