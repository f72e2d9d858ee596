//! What happens in a run, as values: drawn from a seed before the run begins, and independent of it, so that any part
//! of them is a run too, and what goes wrong can be told in the fewest steps. It does not know what a step does.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// What may happen; each names its nodes, and what else it chooses, by the numbers of its [`Step`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A message between nodes arrives: a request, an answer, a question.
    Deliver,
    /// A message of a transfer arrives.
    Carry,
    /// A node does the next thing that waits for its threads.
    Work,
    /// A node looks at what is to be done.
    Look,
    /// One node tells another all it knows of the cluster.
    Gossip,
    /// One node hears that another is up.
    Meet,
    /// One node takes another for down.
    Miss,
    /// A node syncs its disk.
    Sync,
    /// A client writes.
    Write,
    /// A client reads.
    Read,
    /// A read that waits does so no longer.
    Hurry,
    /// A node asks to join, or an operator stages a change.
    Stage,
    /// Who believes to be the claimant plans and commits.
    Commit,
    /// An operator marks a node as down.
    MarkDown,
    /// A process is killed: what it wrote stays.
    Kill,
    /// A machine stops: what was not synced may be gone.
    Stop,
    /// A disk is lost.
    Wipe,
    /// A node starts.
    Start,
    /// The network parts.
    Part,
    /// It is whole again.
    Heal,
    /// A transfer's connection breaks.
    Break,
    /// Time passes in which nothing happens.
    Wait,
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) what: What,
    pub(super) a: u16,
    pub(super) b: u16,
    pub(super) c: u16,
}

/// What may happen in a run, beside requests and transfers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// Steps before everything is healed.
    pub(super) steps: usize,
    /// Members from the beginning.
    pub(super) members: usize,
    /// Nodes that may join.
    pub(super) others: usize,
    /// Whether a replica confirms only what is synced.
    pub(super) durable: bool,
    /// The network parts, and connections break.
    pub(super) cuts: bool,
    /// Nodes that are up and can be reached are taken for down.
    pub(super) alarms: bool,
    /// Processes are killed, machines stop.
    pub(super) crashes: bool,
    /// Disks are lost.
    pub(super) wipes: bool,
    /// The target changes.
    pub(super) plans: bool,
    /// Operators mark nodes as down, which makes a second claimant.
    pub(super) marks_down: bool,
    /// A rule that is left out.
    pub(super) without: Option<Omission>,
}

/// Rules of repair which whoever drives core's machines has to keep, and of which one can be left out, to see what it
/// is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Omission {
    /// Where replicas confirm what is not synced, all that a node holds counts as lost when its machine stops.
    UncleanIsLost,
    /// A loss forgets how far repairs had come: what they brought may be gone again.
    RepairAnew,
    /// A source that was lost itself sends what it has: that is what it took in since.
    LostSource,
    /// A source that the node holds itself is merged like any other.
    OwnSource,
    /// Nothing is asked for before every member has said what it holds for others, and nobody holds anything for the
    /// source.
    WordsFirst,
    /// All other replicas are sources, not only the two next partitions.
    AllSources,
    /// What is lost is repaired before it moves.
    LostStays,
    /// That something is lost is remembered over a start.
    Remembered,
}

/// How often each happens, in parts of the sum.
fn weights(course: &Course) -> Vec<(What, u32)> {
    let when = |may: bool, weight: u32| if may { weight } else { 0 };
    vec![
        (What::Deliver, 300),
        (What::Carry, 200),
        (What::Work, 220),
        (What::Look, 90),
        (What::Gossip, 40),
        (What::Meet, 60),
        (What::Miss, when(course.cuts || course.crashes || course.wipes || course.alarms, 16)),
        (What::Sync, 20),
        (What::Write, 50),
        (What::Read, 30),
        (What::Hurry, 10),
        (What::Stage, when(course.plans, 5)),
        (What::Commit, when(course.plans, 5)),
        (What::MarkDown, when(course.marks_down, 3)),
        (What::Kill, when(course.crashes, 2)),
        (What::Stop, when(course.crashes, 3)),
        (What::Wipe, when(course.wipes, 4)),
        (What::Start, 16),
        (What::Part, when(course.cuts, 2)),
        (What::Heal, when(course.cuts, 4)),
        (What::Break, when(course.cuts, 6)),
        (What::Wait, 4),
    ]
}

/// The steps of a seed.
pub(super) fn draw(seed: u64, course: &Course) -> Vec<Step> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let weights = weights(course);
    let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
    (0..course.steps)
        .map(|_| {
            let mut at = random.random_range(0..sum);
            let chosen = weights.iter().find(|(_, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let what = chosen.map_or(What::Wait, |(what, _)| *what);
            Step { what, a: random.random(), b: random.random(), c: random.random() }
        })
        .collect()
}

/// The fewest of these steps, more or less, with which it still goes wrong.
pub(super) fn shrink(mut steps: Vec<Step>, goes_wrong: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut size = steps.len() / 2;
    while size >= 1 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if goes_wrong(&fewer) {
                steps = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    steps
}
