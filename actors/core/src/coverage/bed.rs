//! A cluster of replicas that a listing can be run over, in virtual time: every vnode has rows in a map, answers with
//! pages late or not at all, and can be killed. For the tests of the course.

use super::course::{Course, CourseOptions, CoverageFailure, PAGE_WITHIN, PageFailure, PageRequest, Step};
use super::page::Page;
use super::plan::Holders;
use super::question::Row;
use crate::ids::{NodeId, Partition};
use crate::ring::{KeyHash, RingSize};
use crate::testing::Draw;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Name(pub(super) String);

impl Wire for Name {
    const VERSION: u16 = 1;
}

impl Row for Name {
    fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

pub(super) fn id(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 16])
}

/// See the file's head.
pub(super) struct Bed {
    pub(super) size: RingSize,
    pub(super) n: usize,
    /// Keys of every other partition lie in so many vnodes, the others in n.
    pub(super) replicas: usize,
    pub(super) nodes: usize,
    pub(super) names: BTreeSet<Name>,
    /// Dead from then on; seen to be so half a second later.
    pub(super) dies: BTreeMap<usize, Duration>,
    /// One of so many answers is lost, refused or late; none: all is well.
    pub(super) trouble: Option<u64>,
    pub(super) draw: Draw,
    pub(super) now: Duration,
    pub(super) most_waiting: usize,
    pub(super) pages: usize,
    /// How many pages one node had to work on at a time.
    pub(super) most_busy: usize,
}

impl Bed {
    pub(super) fn new(seed: u64, exponent: u32, n: usize, nodes: usize, names: usize) -> Self {
        let mut draw = Draw::from_seed(seed);
        let size = RingSize::try_from(1 << exponent).unwrap();
        let names = (0..names).map(|_| Name(format!("user{}", draw.below(1_000_000)))).collect();
        let (dies, trouble, now) = (BTreeMap::new(), None, Duration::from_secs(100));
        let replicas = n;
        Self {
            size,
            n,
            replicas,
            nodes,
            names,
            dies,
            trouble,
            draw,
            now,
            most_waiting: 0,
            pages: 0,
            most_busy: 0,
        }
    }

    fn holder(&self, partition: Partition) -> usize {
        usize::from(partition.0) % self.nodes
    }

    fn lives(&self, node: usize, at: Duration) -> bool {
        self.dies.get(&node).is_none_or(|dies| at < *dies)
    }

    fn holders(&self) -> Holders {
        let seen = self.now.saturating_sub(Duration::from_millis(500));
        let nodes = self.size.partitions().map(|partition| {
            let node = self.holder(partition);
            self.lives(node, seen).then(|| id(node))
        });
        Holders::new(self.size, nodes.collect(), BTreeSet::new())
    }

    fn page(&self, request: &PageRequest) -> Page<Name> {
        let bounds = &request.bounds;
        let has = |name: &&Name| {
            let first = self.size.partition_of(&KeyHash::of("test", name.key()));
            let replicas = if first.0.is_multiple_of(2) { self.n } else { self.replicas };
            let mut places = (0..replicas).map(|step| self.size.clockwise(first, step));
            let filter = bounds.filter;
            places.any(|place| place == request.partition)
                && filter.is_none_or(|filter| filter.contains(self.size, request.partition, first))
                && bounds.after.as_deref() < Some(name.key())
        };
        let mut rows: Vec<Name> =
            self.names.iter().filter(has).take(bounds.rows_max as usize + 1).cloned().collect();
        let mut bytes = 0;
        let fit = rows.iter().take_while(|row| {
            let fits = bytes < bounds.bytes_max as usize;
            bytes += row.bytes();
            fits
        });
        let fit = fit.count().min(bounds.rows_max as usize);
        let more = rows.len() > fit;
        rows.truncate(fit);
        let through = rows.last().filter(|_| more).map(|row| row.key().to_vec());
        Page { rows, through }
    }

    pub(super) fn options(&mut self) -> CourseOptions {
        let deadline = self.now + Duration::from_secs(600);
        let (n, rotation) = (self.n, self.draw.bits());
        CourseOptions { n, held: n, rotation, after: None, rows_max: None, deadline }
    }

    /// Runs a listing to its end: what left, and how it ended.
    pub(super) fn run(&mut self, options: CourseOptions) -> (Vec<Name>, Result<(), CoverageFailure>) {
        let mut course = Course::begin(self.size, options, self.now);
        let mut coming: BTreeMap<(Duration, u64), (PageRequest, bool)> = BTreeMap::new();
        let mut shown = Vec::new();
        loop {
            self.most_waiting = self.most_waiting.max(course.waiting_bytes());
            match course.step(self.now, &|| self.holders()) {
                Step::Ask(request) => {
                    self.pages += 1;
                    let busy = coming.values().filter(|(other, _)| other.node == request.node).count();
                    self.most_busy = self.most_busy.max(busy + 1);
                    let lost = self.trouble.is_some_and(|times| self.draw.one_in(times));
                    let takes = Duration::from_millis(1 + self.draw.below(20));
                    let late = lost && self.draw.one_in(3);
                    let at = self.now + if late { PAGE_WITHIN + takes } else { takes };
                    coming.insert((at, request.ask), (request, lost && !late));
                }
                Step::Rows(rows) => shown.extend(rows),
                Step::Wait(until) => {
                    let next = coming.first_key_value().map(|((at, _), _)| *at);
                    match next.filter(|at| *at <= until) {
                        Some(at) => {
                            let Some(((_, ask), (request, refused))) = coming.pop_first() else { continue };
                            self.now = at;
                            let node = self.holder(request.partition);
                            let answer = if !self.lives(node, at) {
                                continue;
                            } else if refused && self.draw.one_in(2) {
                                Err(PageFailure::Overloaded)
                            } else if refused {
                                Err(PageFailure::Unavailable("it is incomplete".to_owned()))
                            } else {
                                Ok(self.page(&request))
                            };
                            course.answered(self.now, ask, answer);
                        }
                        None => {
                            assert!(until > self.now, "it waits for a time that has passed");
                            self.now = until;
                        }
                    }
                }
                Step::Done => return (shown, Ok(())),
                Step::Failed(failure) => return (shown, Err(failure)),
            }
        }
    }
}
