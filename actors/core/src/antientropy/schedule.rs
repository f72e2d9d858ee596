//! Which pairs of replicas compare their trees, and when. It decides whose turn it is, how many run at a time, and
//! that a node with much to do leaves it for later; it does not know what a comparison finds, only how it ended.
//!
//! Of the two sides of a pair one begins, always the same: the one whose partition comes first clockwise. So each
//! node begins about as many as any other. The pair that has waited longest is first.
//!
//! Nearly all pairs are equal nearly always. So the roots of all pairs with one node are looked at together first, in a
//! [`Survey`], one at a time with each node; an exchange follows for those that it did not find equal.

use super::exchange::{Ending, NotNow, Repaired, SETTLE_MS};
use super::survey::Sight;
use crate::ids::{NodeId, Partition};
use crate::limits::SURVEY_TREES_MAX;
use crate::ring::RingSize;
use std::collections::{BTreeMap, BTreeSet};

/// First pause after an exchange that did not come to its end; doubled each time.
const PAUSE_MS: u64 = 1000;
/// Longest such pause.
const PAUSE_MS_MAX: u64 = 60_000;
/// After a repair the pair is compared again soon, to see that it is equal now.
const AGAIN_MS: u64 = 2000;
/// Until the second look: [`SETTLE_MS`] at the least, where up to an eighth is taken off.
const SETTLE_MS_SPREAD: u64 = SETTLE_MS + SETTLE_MS / 7 + 1;
/// From here on, in hundredths of the fullest queue, only one exchange runs; and from there on none is begun.
const PRESSURE_SLOW: u8 = 25;
const PRESSURE_STOP: u8 = 60;

/// Two replicas of a group, the one that begins first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pair {
    /// The partition that the group's keys hash to.
    pub group: Partition,
    /// The vnode here.
    pub mine: Partition,
    /// The other one.
    pub theirs: Partition,
}

/// What the schedule looks at.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Of the ring.
    pub size: RingSize,
    /// Replicas of a key.
    pub n: usize,
    /// Partitions that are held here, complete, in no transfer, and whose trees are ready.
    pub ready: &'a BTreeSet<Partition>,
    /// Who holds a partition, if that is a node that answers, this one included.
    pub holder: &'a dyn Fn(Partition) -> Option<NodeId>,
    /// How many may run at a time.
    pub limit: usize,
    /// How often a pair is to be compared.
    pub interval_ms: u64,
    /// How full the fullest queue of this node is, in hundredths.
    pub pressure: u8,
}

/// An exchange that is to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// Between whom.
    pub pair: Pair,
    /// Who holds the other one.
    pub partner: NodeId,
    /// The leaves that differed at the first look, if this is the second.
    pub before: Option<Vec<u16>>,
}

/// Pairs whose roots are to be looked at together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// Who holds the other one of each.
    pub partner: NodeId,
    /// Which; [`SURVEY_TREES_MAX`] at most.
    pub pairs: Vec<Pair>,
}

/// What is to begin.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decisions {
    /// Looks at roots. Each is answered by [`Schedule::survey_ended`].
    pub surveys: Vec<Survey>,
    /// Exchanges. Each is answered by [`Schedule::ended`].
    pub starts: Vec<Start>,
}

/// What is known of one pair.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Course {
    /// An exchange runs.
    running: bool,
    /// Its roots are being looked at.
    in_survey: bool,
    next: Next,
    /// When the two were last found equal.
    compared_ms: Option<u64>,
    /// When the last comparison ended; none before the first.
    ended_ms: Option<u64>,
    /// For how long nothing is begun after it.
    rest: Rest,
    failures: u32,
    /// How often in a row the trees differed and the items did not.
    trees_differed: u32,
    /// The leaves that differed at the last look, if that was a first one.
    before: Option<Vec<u16>>,
}

/// What is to be done about a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Next {
    /// A look at its roots among others', when it is due.
    #[default]
    Survey,
    /// An exchange when it is due: a second look, or one more attempt where the last one was given up, lest a replica
    /// that does not answer keep all others of a survey waiting.
    Exchange,
    /// An exchange at once: the roots were looked at, and the two have not been found equal.
    ExchangeNow,
}

/// For how long a pair is left alone. The interval may change meanwhile, so it is looked at when it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Rest {
    /// As long as the interval.
    #[default]
    Interval,
    /// So many milliseconds, and no longer than the interval.
    AtMostInterval(u64),
    /// So many milliseconds.
    Of(u64),
}

impl Course {
    fn is_at_rest(&self) -> bool {
        !self.running && !self.in_survey
    }

    /// Not before this time. Spread over an eighth of the pause, always alike for one pair, so that not all come at the
    /// same moment.
    fn due_ms(&self, pair: &Pair, interval_ms: u64) -> u64 {
        let Some(ended_ms) = self.ended_ms.filter(|_| self.next != Next::ExchangeNow) else { return 0 };
        let pause_ms = match self.rest {
            Rest::Interval => interval_ms,
            Rest::AtMostInterval(pause_ms) => pause_ms.min(interval_ms),
            Rest::Of(pause_ms) => pause_ms,
        };
        let spread = u64::from(pair.group.0) * 7 + u64::from(pair.theirs.0) * 3;
        ended_ms.saturating_add(pause_ms - pause_ms / 8 * (spread % 8) / 8)
    }
}

/// What the end of an exchange asks for beyond the schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consequence {
    /// Nothing.
    Nothing,
    /// One of the two trees is not what its items are, and it cannot be told which: this side's are to be built anew.
    Doubt,
}

/// Pairs with one node that could be looked at.
#[derive(Default)]
struct Soon {
    one_is_due: bool,
    /// Each with when it was found equal, and when it is due.
    pairs: Vec<(Option<u64>, u64, Pair)>,
}

/// See the module's head. Times are milliseconds of a clock that does not go back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    courses: BTreeMap<Pair, Course>,
    /// With whom a survey runs.
    surveying: BTreeSet<NodeId>,
}

/// The pairs that a vnode of `mine` begins.
pub fn pairs_of(size: RingSize, n: usize, mine: Partition) -> impl Iterator<Item = Pair> {
    let n = n.min(size.count());
    (0..n).flat_map(move |steps| {
        let group = size.clockwise(mine, size.count() - steps);
        (steps + 1..n).map(move |further| Pair { group, mine, theirs: size.clockwise(group, further) })
    })
}

impl Schedule {
    /// What is to begin now. Forgets pairs that are no longer of this node.
    pub fn decide(&mut self, now_ms: u64, around: &Surroundings<'_>) -> Decisions {
        let wished: BTreeMap<Pair, NodeId> = around
            .ready
            .iter()
            .flat_map(|mine| pairs_of(around.size, around.n, *mine))
            .filter_map(|pair| Some((pair, (around.holder)(pair.theirs)?)))
            .collect();
        self.courses.retain(|pair, course| !course.is_at_rest() || wished.contains_key(pair));
        for pair in wished.keys() {
            self.courses.entry(*pair).or_default();
        }
        let limit = match around.pressure {
            PRESSURE_STOP.. => 0,
            PRESSURE_SLOW.. => around.limit.min(1),
            _ => around.limit,
        };
        let surveys_max = match around.pressure {
            _ if limit == 0 => 0,
            PRESSURE_SLOW.. => 1_usize.saturating_sub(self.surveying.len()),
            _ => usize::MAX,
        };
        let surveys = self.surveys(now_ms, around.interval_ms, &wished, surveys_max);
        let mut due: Vec<(Option<u64>, u64, Pair, NodeId)> = wished
            .iter()
            .filter_map(|(pair, partner)| Some((pair, partner, self.courses.get(pair)?)))
            .filter(|(_, _, course)| course.is_at_rest() && course.next != Next::Survey)
            .map(|(pair, partner, course)| {
                (course.compared_ms, course.due_ms(pair, around.interval_ms), *pair, *partner)
            })
            .filter(|(_, due_ms, ..)| *due_ms <= now_ms)
            .collect();
        due.sort();
        let mut starts = Vec::new();
        for (_, _, pair, partner) in due.into_iter().take(limit.saturating_sub(self.running())) {
            let Some(course) = self.courses.get_mut(&pair) else { continue };
            course.running = true;
            starts.push(Start { pair, partner, before: course.before.take() });
        }
        Decisions { surveys, starts }
    }

    /// With each node of whose pairs one is due: that one, and all that would be due soon.
    fn surveys(
        &mut self,
        now_ms: u64,
        interval_ms: u64,
        wished: &BTreeMap<Pair, NodeId>,
        surveys_max: usize,
    ) -> Vec<Survey> {
        let mut soon: BTreeMap<NodeId, Soon> = BTreeMap::new();
        for (pair, partner) in wished {
            let Some(course) = self.courses.get(pair) else { continue };
            if !course.is_at_rest() || course.next != Next::Survey || self.surveying.contains(partner) {
                continue;
            }
            let due_ms = course.due_ms(pair, interval_ms);
            // As far as their times are spread. What rests for a reason of its own is not asked before its time.
            let early_ms = if course.rest == Rest::Interval { interval_ms / 8 } else { 0 };
            if due_ms <= now_ms.saturating_add(early_ms) {
                let soon = soon.entry(*partner).or_default();
                soon.one_is_due |= due_ms <= now_ms;
                soon.pairs.push((course.compared_ms, due_ms, *pair));
            }
        }
        let mut surveys = Vec::new();
        let due = soon.into_iter().filter(|(_, soon)| soon.one_is_due).take(surveys_max);
        for (partner, Soon { mut pairs, .. }) in due {
            pairs.sort();
            let pairs: Vec<Pair> = pairs.into_iter().map(|(.., pair)| pair).take(SURVEY_TREES_MAX).collect();
            for pair in &pairs {
                if let Some(course) = self.courses.get_mut(pair) {
                    course.in_survey = true;
                }
            }
            self.surveying.insert(partner);
            surveys.push(Survey { partner, pairs });
        }
        surveys
    }

    /// When something would be due, were it allowed to begin; a time that has passed if it is already. None without
    /// pairs, or while all of them are being compared.
    pub fn due_ms(&self, interval_ms: u64) -> Option<u64> {
        let resting = self.courses.iter().filter(|(_, course)| course.is_at_rest());
        resting.map(|(pair, course)| course.due_ms(pair, interval_ms)).min()
    }

    /// A survey has ended, with what was seen of each of its pairs, or with nothing. Says for which pairs that is all
    /// there is to it, and how they have ended; the others wait for an exchange.
    pub fn survey_ended(
        &mut self,
        now_ms: u64,
        survey: &Survey,
        sights: Option<&[Sight]>,
    ) -> Vec<(Pair, Ending)> {
        self.surveying.remove(&survey.partner);
        let mut ended = Vec::new();
        for (at, pair) in survey.pairs.iter().enumerate() {
            let ending = match sights.and_then(|sights| sights.get(at)) {
                Some(Sight::Equal) => Ending::Equal,
                Some(Sight::NotNow(side, why)) => Ending::NotNow(*side, *why, Repaired::default()),
                // An exchange says what hinders it.
                Some(Sight::Unequal) | None => {
                    if let Some(course) = self.courses.get_mut(pair) {
                        (course.in_survey, course.next) = (false, Next::ExchangeNow);
                    }
                    continue;
                }
            };
            self.ended(now_ms, *pair, &ending);
            ended.push((*pair, ending));
        }
        ended
    }

    /// A comparison has ended, by an exchange or by what a survey saw.
    pub fn ended(&mut self, now_ms: u64, pair: Pair, ending: &Ending) -> Consequence {
        let Some(course) = self.courses.get_mut(&pair) else { return Consequence::Nothing };
        (course.running, course.in_survey) = (false, false);
        course.next = match ending {
            Ending::Unsettled(_) | Ending::GaveUp { .. } => Next::Exchange,
            _ => Next::Survey,
        };
        // Of a first look nothing follows yet.
        if !matches!(ending, Ending::TreesDiffer | Ending::Unsettled(_)) {
            course.trees_differed = 0;
        }
        let mut consequence = Consequence::Nothing;
        course.rest = match ending {
            Ending::Equal => {
                course.compared_ms = Some(now_ms);
                course.failures = 0;
                Rest::Interval
            }
            // Others have their turn meanwhile: where writes go on, every first look ends like this.
            Ending::Unsettled(leaves) => {
                course.before = Some(leaves.clone());
                Rest::Of(SETTLE_MS_SPREAD)
            }
            Ending::Repaired { .. } => {
                course.failures = 0;
                Rest::AtMostInterval(AGAIN_MS)
            }
            // Once may be a write that came between.
            Ending::TreesDiffer => {
                course.trees_differed += 1;
                if course.trees_differed >= 2 {
                    course.trees_differed = 0;
                    consequence = Consequence::Doubt;
                }
                Rest::AtMostInterval(AGAIN_MS)
            }
            // These pass by themselves, and to ask costs one small message.
            Ending::NotNow(_, NotNow::Building | NotNow::Busy | NotNow::Incomplete, _) => {
                Rest::AtMostInterval(AGAIN_MS)
            }
            Ending::NotNow(..) | Ending::GaveUp { .. } => {
                course.failures = course.failures.saturating_add(1);
                Rest::Of(PAUSE_MS.saturating_mul(1 << course.failures.min(16)).min(PAUSE_MS_MAX))
            }
        };
        course.ended_ms = Some(now_ms);
        consequence
    }

    /// How many pairs this node begins.
    pub fn pairs(&self) -> usize {
        self.courses.len()
    }

    /// How many exchanges run.
    pub fn running(&self) -> usize {
        self.courses.values().filter(|course| course.running).count()
    }

    /// Pairs that have not been found equal since they are known here.
    pub fn never_equal(&self) -> usize {
        self.courses.values().filter(|course| course.compared_ms.is_none()).count()
    }

    /// How long ago the pair was found equal that has waited longest; of those that ever were.
    pub fn oldest_ms(&self, now_ms: u64) -> Option<u64> {
        let oldest = self.courses.values().filter_map(|course| course.compared_ms).min()?;
        Some(now_ms.saturating_sub(oldest))
    }
}

#[cfg(test)]
mod tests;
