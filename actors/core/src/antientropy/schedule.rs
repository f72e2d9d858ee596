//! Which pairs of replicas compare their trees, and when. It decides whose turn it is, how many run at a time, and
//! that a node with much to do leaves it for later; it does not know what a comparison finds, only how it ended.
//!
//! Of the two sides of a pair one begins, always the same: the one whose partition comes first clockwise. So each
//! node begins about as many as any other. The pair that has waited longest is first.

use super::exchange::{Ending, NotNow, SETTLE_MS};
use crate::ids::{NodeId, Partition};
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

/// What is known of one pair.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Course {
    running: bool,
    /// When an exchange last ended with both sides compared.
    compared_ms: Option<u64>,
    /// When the last exchange ended; none before the first.
    ended_ms: Option<u64>,
    /// For how long nothing is begun after it.
    rest: Rest,
    failures: u32,
    /// How often in a row the trees differed and the items did not.
    trees_differed: u32,
    /// The leaves that differed at the last look, if that was a first one.
    before: Option<Vec<u16>>,
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
    /// Not before this time. Spread over an eighth of the pause, always alike for one pair, so that not all come at the
    /// same moment.
    fn due_ms(&self, pair: &Pair, interval_ms: u64) -> u64 {
        let Some(ended_ms) = self.ended_ms else { return 0 };
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

/// See the module's head. Times are milliseconds of a clock that does not go back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    courses: BTreeMap<Pair, Course>,
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
    pub fn decide(&mut self, now_ms: u64, around: &Surroundings<'_>) -> Vec<Start> {
        let wished: BTreeSet<Pair> = around
            .ready
            .iter()
            .flat_map(|mine| pairs_of(around.size, around.n, *mine))
            .filter(|pair| (around.holder)(pair.theirs).is_some())
            .collect();
        self.courses.retain(|pair, course| course.running || wished.contains(pair));
        for pair in &wished {
            self.courses.entry(*pair).or_default();
        }
        let limit = match around.pressure {
            PRESSURE_STOP.. => 0,
            PRESSURE_SLOW.. => around.limit.min(1),
            _ => around.limit,
        };
        let running = self.courses.values().filter(|course| course.running).count();
        let mut due: Vec<(Option<u64>, u64, Pair)> = self
            .courses
            .iter()
            .filter(|(pair, course)| !course.running && wished.contains(pair))
            .map(|(pair, course)| (course.compared_ms, course.due_ms(pair, around.interval_ms), *pair))
            .filter(|(_, due_ms, _)| *due_ms <= now_ms)
            .collect();
        due.sort();
        let mut starts = Vec::new();
        for (_, _, pair) in due.into_iter().take(limit.saturating_sub(running)) {
            let Some(partner) = (around.holder)(pair.theirs) else { continue };
            let Some(course) = self.courses.get_mut(&pair) else { continue };
            course.running = true;
            starts.push(Start { pair, partner, before: course.before.take() });
        }
        starts
    }

    /// An exchange has ended.
    pub fn ended(&mut self, now_ms: u64, pair: Pair, ending: &Ending) -> Consequence {
        let Some(course) = self.courses.get_mut(&pair) else { return Consequence::Nothing };
        course.running = false;
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
mod tests {
    use super::*;
    use crate::antientropy::exchange::{Repaired, Side};

    fn size(q: u32) -> RingSize {
        RingSize::try_from(q).unwrap()
    }

    fn node(n: usize) -> NodeId {
        NodeId([n as u8 + 1; 16])
    }

    /// A ring whose partitions go round `nodes`.
    fn owner(partition: Partition, nodes: usize) -> NodeId {
        node(usize::from(partition.0) % nodes)
    }

    fn decide(schedule: &mut Schedule, now_ms: u64, me: usize, nodes: usize, pressure: u8) -> Vec<Start> {
        let size = size(64);
        let ready = size.partitions().filter(|p| owner(*p, nodes) == node(me)).collect();
        let around = Surroundings {
            size,
            n: 3,
            ready: &ready,
            holder: &|partition| Some(owner(partition, nodes)),
            limit: 2,
            interval_ms: 15_000,
            pressure,
        };
        schedule.decide(now_ms, &around)
    }

    #[test]
    fn every_two_replicas_of_every_group_are_one_pair_and_one_of_them_begins() {
        for (q, n) in [(8, 3), (64, 3), (8, 1), (8, 8), (16, 20)] {
            let size = size(q);
            let mut met = BTreeSet::new();
            for mine in size.partitions() {
                for pair in pairs_of(size, n, mine) {
                    let both = BTreeSet::from([pair.mine, pair.theirs]);
                    assert_eq!(both.len(), 2);
                    assert!(met.insert((pair.group, both)), "{pair:?} twice");
                }
            }
            let n = n.min(q as usize);
            assert_eq!(met.len(), q as usize * n * (n - 1) / 2);
            for (group, both) in met {
                let replicas: BTreeSet<_> = (0..n).map(|steps| size.clockwise(group, steps)).collect();
                assert!(both.is_subset(&replicas));
            }
        }
    }

    /// With an answer within 50 ms, which is more than two equal trees take.
    #[test]
    fn at_the_defaults_every_pair_of_three_nodes_meets_within_twenty_seconds() {
        for me in 0..3 {
            let mut schedule = Schedule::default();
            let (mut now_ms, mut last) = (0, BTreeMap::<Pair, u64>::new());
            while now_ms < 120_000 {
                let starts = decide(&mut schedule, now_ms, me, 3, 0);
                assert!(starts.len() <= 2);
                now_ms += 50;
                for Start { pair, partner, .. } in starts {
                    assert_eq!(partner, owner(pair.theirs, 3));
                    let before = last.insert(pair, now_ms).unwrap_or(0);
                    assert!(now_ms - before <= 20_000, "{pair:?} after {} ms", now_ms - before);
                    schedule.ended(now_ms, pair, &Ending::Equal);
                }
            }
            assert!(last.len() >= 63, "{}", last.len());
            assert!(last.values().all(|at| now_ms - at <= 20_000));
            assert_eq!((schedule.pairs(), schedule.never_equal()), (last.len(), 0));
        }
    }

    /// Pairs of one node that begin within a time, each found equal at once.
    fn begun(schedule: &mut Schedule, (from_ms, to_ms): (u64, u64), interval_ms: u64) -> usize {
        let size = size(64);
        let ready = size.partitions().filter(|p| owner(*p, 3) == node(0)).collect();
        let holder = |partition| Some(owner(partition, 3));
        let around =
            Surroundings { size, n: 3, ready: &ready, holder: &holder, limit: 2, interval_ms, pressure: 0 };
        let mut begun = 0;
        for now_ms in (from_ms..to_ms).step_by(50) {
            for Start { pair, .. } in schedule.decide(now_ms, &around) {
                begun += 1;
                schedule.ended(now_ms, pair, &Ending::Equal);
            }
        }
        begun
    }

    #[test]
    fn another_interval_counts_at_once_for_pairs_that_wait_already() {
        let mut schedule = Schedule::default();
        let pairs = begun(&mut schedule, (0, 10_000), 60_000);
        assert_eq!((pairs, schedule.never_equal()), (schedule.pairs(), 0));
        let mut longer = schedule.clone();
        assert_eq!(begun(&mut schedule.clone(), (10_000, 20_000), 60_000), 0);
        assert!(begun(&mut schedule, (10_000, 20_000), 10_000) >= pairs);
        assert_eq!(begun(&mut longer, (10_000, 80_000), 600_000), 0);
    }

    #[test]
    fn a_node_with_much_to_do_begins_fewer_and_then_none() {
        assert_eq!(decide(&mut Schedule::default(), 0, 0, 3, 0).len(), 2);
        assert_eq!(decide(&mut Schedule::default(), 0, 0, 3, PRESSURE_SLOW).len(), 1);
        assert_eq!(decide(&mut Schedule::default(), 0, 0, 3, PRESSURE_STOP).len(), 0);
        let mut schedule = Schedule::default();
        let before = decide(&mut schedule, 0, 0, 3, 0);
        assert_eq!(decide(&mut schedule, 0, 0, 3, 0), [], "both places are taken");
        schedule.ended(0, before[0].pair, &Ending::Equal);
        assert_eq!(decide(&mut schedule, 0, 0, 3, 0).len(), 1);
    }

    #[test]
    fn what_fails_waits_longer_each_time_and_does_not_hold_up_the_others() {
        let mut schedule = Schedule::default();
        let (mut now_ms, mut begun) = (0, BTreeMap::<Pair, u32>::new());
        let bad = Pair { group: Partition(0), mine: Partition(0), theirs: Partition(1) };
        while now_ms < 300_000 {
            for Start { pair, .. } in decide(&mut schedule, now_ms, 0, 3, 0) {
                *begun.entry(pair).or_default() += 1;
                let why = "planted".to_owned();
                let gave_up = Ending::GaveUp { side: Side::Theirs, why, repaired: Repaired::default() };
                let ending = if pair == bad { gave_up } else { Ending::Equal };
                schedule.ended(now_ms, pair, &ending);
            }
            now_ms += 50;
        }
        assert!((6..=12).contains(&begun[&bad]), "{}", begun[&bad]);
        assert!(begun.iter().all(|(pair, times)| *pair == bad || *times >= 18), "{begun:?}");
        assert_eq!(schedule.never_equal(), 1);
    }

    #[test]
    fn trees_that_differ_over_equal_items_twice_are_in_doubt() {
        let mut schedule = Schedule::default();
        let pair = decide(&mut schedule, 0, 0, 3, 0)[0].pair;
        assert_eq!(schedule.ended(0, pair, &Ending::TreesDiffer), Consequence::Nothing);
        assert_eq!(schedule.ended(0, pair, &Ending::Equal), Consequence::Nothing);
        assert_eq!(schedule.ended(0, pair, &Ending::TreesDiffer), Consequence::Nothing);
        assert_eq!(schedule.ended(0, pair, &Ending::TreesDiffer), Consequence::Doubt);
    }

    /// Under writes every first look ends so; a second that each of them waited itself would hold up all others.
    #[test]
    fn between_two_looks_at_a_pair_others_have_their_turn_and_the_second_knows_the_first() {
        let mut schedule = Schedule::default();
        let (mut now_ms, mut looked) = (0, BTreeMap::<Pair, Vec<(u64, bool)>>::new());
        while now_ms < 10_000 {
            for Start { pair, before, .. } in decide(&mut schedule, now_ms, 0, 3, 0) {
                let leaves = vec![pair.group.0, 4000];
                assert!(before.as_ref().is_none_or(|before| *before == leaves));
                looked.entry(pair).or_default().push((now_ms, before.is_some()));
                let ending = if before.is_some() { Ending::Equal } else { Ending::Unsettled(leaves) };
                assert_eq!(schedule.ended(now_ms, pair, &ending), Consequence::Nothing);
            }
            now_ms += 50;
        }
        assert_eq!((looked.len(), schedule.never_equal()), (schedule.pairs(), 0));
        for (pair, looks) in looked {
            let [(first_ms, false), (second_ms, true)] = looks[..] else { panic!("{pair:?}: {looks:?}") };
            assert!(second_ms - first_ms >= SETTLE_MS, "{pair:?}: {looks:?}");
        }
    }

    #[test]
    fn pairs_that_are_no_longer_of_this_node_are_forgotten_unless_they_run() {
        let mut schedule = Schedule::default();
        let running = decide(&mut schedule, 0, 0, 3, 0);
        let nothing = BTreeSet::new();
        let around = Surroundings {
            size: size(64),
            n: 3,
            ready: &nothing,
            holder: &|_| None,
            limit: 2,
            interval_ms: 15_000,
            pressure: 0,
        };
        assert_eq!(schedule.decide(0, &around), []);
        assert_eq!((schedule.pairs(), schedule.running()), (2, 2));
        for Start { pair, .. } in running {
            schedule.ended(0, pair, &Ending::NotNow(Side::Mine, NotNow::NotHolder, Repaired::default()));
        }
        schedule.decide(0, &around);
        assert_eq!(schedule.pairs(), 0);
    }
}
