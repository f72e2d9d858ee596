//! When a request has ended, and how. Pure state machines over the replicas' answers; they do not know how a
//! replica is reached, nor what it was asked.
//!
//! A write ends *done*, *refused* (no replica applied it) or *unknown* (it may appear yet): a timeout is
//! never a failure. What counts are acknowledgements from partitions (w), durable ones (dw), ones from
//! primaries (pw) and from distinct machines (node_confirms): two acknowledgements of one machine are not two
//! copies, though Riak took them for that.

use crate::ids::NodeId;
use crate::limits::N_VAL_MAX;
use crate::mutant::{Mutant, planted};
use crate::preflist::{Preflist, Role};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;
use std::str::FromStr;

/// How many of n: a number or a word for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// That many.
    Exactly(usize),
    /// One.
    One,
    /// More than half of n.
    Quorum,
    /// All n.
    All,
}

impl Count {
    /// The number for `n` replicas.
    pub fn of(self, n: usize) -> usize {
        match self {
            Self::Exactly(count) => count,
            Self::One => 1,
            Self::Quorum => n / 2 + 1,
            Self::All => n,
        }
    }
}

/// The text is no count.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a whole number, 'one', 'quorum' or 'all'")]
pub struct CountError;

impl FromStr for Count {
    type Err = CountError;
    fn from_str(text: &str) -> Result<Self, CountError> {
        match text {
            "one" => Ok(Self::One),
            "quorum" => Ok(Self::Quorum),
            "all" => Ok(Self::All),
            number if number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit()) => {
                number.parse().map(Self::Exactly).map_err(|_| CountError)
            }
            _ => Err(CountError),
        }
    }
}

/// What a request asks for. None: the service's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QuorumOptions {
    /// Replicas to use; at most the service's.
    pub n_val: Option<usize>,
    /// Replicas that must answer a read.
    pub r: Option<Count>,
    /// Replicas that must acknowledge a write.
    pub w: Option<Count>,
    /// Of these, how many durably (synced to disk).
    pub dw: Option<Count>,
    /// How many primaries must answer a read.
    pub pr: Option<Count>,
    /// How many primaries must acknowledge a write.
    pub pw: Option<Count>,
    /// How many distinct nodes must confirm.
    pub node_confirms: Option<usize>,
    /// Whether fallbacks may stand in for primaries that are down. Default true.
    pub sloppy: Option<bool>,
}

/// A service's defaults, already known to be possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuorumDefaults {
    /// Replicas of a key.
    pub n_val: usize,
    /// See [`QuorumOptions::r`].
    pub r: Count,
    /// See [`QuorumOptions::w`].
    pub w: Count,
}

impl QuorumDefaults {
    /// So many replicas, of which reads and writes wait for more than half.
    pub const fn of(n_val: usize) -> Self {
        Self { n_val, r: Count::Quorum, w: Count::Quorum }
    }
}

/// The numbers of one request, checked against each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Replicas.
    pub n: usize,
    /// Answers that a read needs.
    pub r: usize,
    /// Acknowledgements that a write needs.
    pub w: usize,
    /// Durable ones among them.
    pub dw: usize,
    /// Primaries that a read needs.
    pub pr: usize,
    /// Primaries that a write needs.
    pub pw: usize,
    /// Distinct nodes that a request needs; none: of a write as many as the preference list allows, at most w, of a
    /// read any.
    pub node_confirms: Option<usize>,
    /// Whether fallbacks count.
    pub sloppy: bool,
}

/// A request asks for what cannot be. Nothing was sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name}={given} is impossible: {expected}")]
pub struct ImpossibleQuorum {
    /// The parameter.
    pub name: &'static str,
    /// Its value.
    pub given: usize,
    /// What would be possible.
    pub expected: String,
}

impl QuorumOptions {
    /// The numbers in force.
    pub fn resolve(&self, defaults: &QuorumDefaults) -> Result<Rules, ImpossibleQuorum> {
        let within = |name, given: usize, low: usize, high: usize| {
            if (low..=high).contains(&given) {
                Ok(given)
            } else {
                Err(ImpossibleQuorum { name, given, expected: format!("it must be from {low} to {high}") })
            }
        };
        let n = within("n_val", self.n_val.unwrap_or(defaults.n_val), 1, defaults.n_val.min(N_VAL_MAX))?;
        let count = |name, asked: Option<Count>, default: usize, low| {
            within(name, asked.map_or(default, |c| c.of(n)), low, n)
        };
        Ok(Rules {
            n,
            r: count("r", self.r, defaults.r.of(n).min(n), 1)?,
            w: count("w", self.w, defaults.w.of(n).min(n), 1)?,
            dw: count("dw", self.dw, 0, 0)?,
            pr: count("pr", self.pr, 0, 0)?,
            pw: count("pw", self.pw, 0, 0)?,
            node_confirms: match self.node_confirms {
                Some(given) => Some(within("node_confirms", given, 0, n)?),
                None => None,
            },
            sloppy: self.sloppy.unwrap_or(true),
        })
    }
}

/// Why a replica, or a whole request, did nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// Its queue is full. Come again later.
    Overloaded,
    /// The node is shutting down.
    Stopping,
    /// The vnode could not be started or asked.
    Unavailable(String),
    /// The deadline had passed before it was looked at.
    Expired,
    /// Only a complete replica was to do it, and this one is not.
    Incomplete,
    /// Fewer primaries are up than pr or pw asks for.
    Primaries {
        /// Asked for.
        needed: usize,
        /// Up.
        up: usize,
    },
    /// Fewer distinct nodes are up than node_confirms asks for.
    Nodes {
        /// Asked for.
        needed: usize,
        /// Up.
        up: usize,
    },
    /// Fewer replicas can be asked than r or w needs.
    Replicas {
        /// Asked for.
        needed: usize,
        /// There.
        up: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str("the node has as much work waiting as it may"),
            Self::Stopping => f.write_str("the node is shutting down"),
            Self::Unavailable(why) => write!(f, "a replica is not available: {why}"),
            Self::Expired => f.write_str("the deadline passed before the request was looked at"),
            Self::Incomplete => f.write_str("the replica may lack what others hold for it"),
            Self::Primaries { needed, up } => write!(f, "{needed} primaries are needed, {up} are up"),
            Self::Nodes { needed, up } => write!(f, "{needed} distinct nodes are needed, {up} are up"),
            Self::Replicas { needed, up } => write!(f, "{needed} replicas are needed, {up} can be asked"),
        }
    }
}

/// What one replica said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It did what was asked; `durable` when it survives the machine.
    Done {
        /// Synced to disk.
        durable: bool,
    },
    /// It did not, and never will: nothing was changed there.
    Refused(Refusal),
    /// It looked, and its state says no (see [`crate::vnode::Merged::Absorbed`] and `Conflicting`).
    Declined,
    /// It may have done it, or not.
    Failed,
}

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As asked for.
    Done,
    /// A replica's state speaks against it.
    Declined,
    /// Nothing was written, nothing will be.
    Refused(Refusal),
    /// It may have been written, and may still be.
    Unknown,
}

/// Where a replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    node: NodeId,
    primary: bool,
}

fn places(preflist: &Preflist) -> SmallVec<[Place; 5]> {
    preflist.iter().map(|e| Place { node: e.node, primary: e.role == Role::Primary }).collect()
}

fn distinct(nodes: impl Iterator<Item = NodeId>) -> usize {
    let mut seen: SmallVec<[NodeId; 5]> = SmallVec::new();
    for node in nodes {
        if !seen.contains(&node) {
            seen.push(node);
        }
    }
    seen.len()
}

/// A write under way: sent to every replica of the preference list at once.
#[derive(Clone, Debug)]
pub struct WriteQuorum {
    rules: Rules,
    node_confirms: usize,
    places: SmallVec<[Place; 5]>,
    answers: SmallVec<[Option<Answer>; 5]>,
    ended: bool,
}

impl WriteQuorum {
    /// A write to the replicas of `preflist`, refused at once when they cannot satisfy the rules.
    pub fn new(rules: Rules, preflist: &Preflist) -> Result<Self, Refusal> {
        let places = places(preflist);
        let primaries = places.iter().filter(|p| p.primary).count();
        let nodes = distinct(places.iter().map(|p| p.node));
        if rules.pw > primaries {
            return Err(Refusal::Primaries { needed: rules.pw, up: primaries });
        }
        let needed = rules.w.max(rules.dw);
        if needed > places.len() {
            return Err(Refusal::Replicas { needed, up: places.len() });
        }
        let node_confirms = rules.node_confirms.unwrap_or(rules.w.min(nodes));
        if node_confirms > nodes {
            return Err(Refusal::Nodes { needed: node_confirms, up: nodes });
        }
        let answers = places.iter().map(|_| None).collect();
        Ok(Self { rules, node_confirms, places, answers, ended: false })
    }

    /// A replica is asked elsewhere than the preference list said, because its partition has moved.
    pub fn relocate(&mut self, replica: usize, node: NodeId, primary: bool) {
        if let Some(place) = self.places.get_mut(replica) {
            *place = Place { node, primary };
        }
    }

    /// Takes in one replica's answer. The verdict is given once, as soon as it is certain; answers after it
    /// are kept for [`Self::confirmed_by`].
    pub fn answer(&mut self, replica: usize, answer: Answer) -> Option<Verdict> {
        let slot = self.answers.get_mut(replica)?;
        if slot.is_some() {
            return None;
        }
        *slot = Some(answer);
        self.verdict()
    }

    fn verdict(&mut self) -> Option<Verdict> {
        if self.ended {
            return None;
        }
        let verdict = if self.answers.contains(&Some(Answer::Declined)) {
            Verdict::Declined
        } else if self.satisfied(
            |a| matches!(a, Some(Answer::Done { .. })),
            |a| *a == Some(Answer::Done { durable: true }),
        ) {
            Verdict::Done
        } else if self.satisfied(
            |a| matches!(a, None | Some(Answer::Done { .. })),
            |a| matches!(a, None | Some(Answer::Done { durable: true })),
        ) {
            return None;
        } else if self.answers.iter().all(|a| matches!(a, Some(Answer::Refused(_)))) {
            self.refusal()
        } else if self.answers.iter().any(|a| matches!(a, Some(Answer::Done { .. } | Answer::Failed))) {
            Verdict::Unknown
        } else {
            return None; // only refusals so far: the last replica decides between refused and unknown
        };
        self.ended = true;
        Some(verdict)
    }

    fn satisfied(
        &self,
        done: impl Fn(&Option<Answer>) -> bool,
        durable: impl Fn(&Option<Answer>) -> bool,
    ) -> bool {
        let each = || self.answers.iter().zip(&self.places);
        let w = self.rules.w - usize::from(planted(Mutant::AcknowledgeOneLess) && self.rules.w > 1);
        let node_confirms = if planted(Mutant::AcknowledgeOneLess) { 1 } else { self.node_confirms };
        each().filter(|(a, _)| done(a)).count() >= w
            && each().filter(|(a, _)| durable(a)).count() >= self.rules.dw
            && each().filter(|(a, p)| done(a) && p.primary).count() >= self.rules.pw
            && distinct(each().filter(|(a, _)| done(a)).map(|(_, p)| p.node)) >= node_confirms
    }

    fn refusal(&self) -> Verdict {
        let mut reason = Refusal::Overloaded;
        for answer in self.answers.iter().flatten() {
            if let Answer::Refused(refusal) = answer {
                reason = refusal.clone();
            }
        }
        Verdict::Refused(reason)
    }

    /// The deadline has passed. Replicas that were asked and said nothing may still act: unknown, unless
    /// every one had refused.
    pub fn deadline(&mut self) -> Verdict {
        self.ended = true;
        if planted(Mutant::DeadlineIsRefusal) {
            return self.refusal();
        }
        if !self.answers.is_empty() && self.answers.iter().all(|a| matches!(a, Some(Answer::Refused(_)))) {
            return self.refusal();
        }
        Verdict::Unknown
    }

    /// The replicas that have confirmed so far, by their place in the preference list.
    pub fn confirmed_by(&self) -> impl Iterator<Item = usize> + '_ {
        self.answers
            .iter()
            .enumerate()
            .filter(|(_, a)| matches!(a, Some(Answer::Done { .. })))
            .map(|(i, _)| i)
    }
}

/// What a read does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadStep {
    /// Ask this replica, by its place in the preference list.
    Ask(usize),
    /// Fewer than r complete replicas can answer: ask everybody who may have something as well, and say with
    /// [`ReadQuorum::strays_asked`] how many these are. Said once.
    AskStrays,
    /// Wait for those that were asked.
    Wait,
    /// Enough have answered.
    Done {
        /// Fewer than r of them were complete: something may be missing in the answer.
        degraded: bool,
    },
    /// It can no longer succeed.
    Ended(Refusal),
}

/// What a replica said to a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadAnswer {
    /// It answered, and what it did not tell it does not have for good reason.
    Complete,
    /// It answered, but others may hold something for it that it lacks.
    Incomplete,
    /// It did not.
    Refused(Refusal),
}

/// A read under way: r replicas are asked, a further one whenever one fails or is late. Only complete replicas
/// count toward r; with fewer than r of these, everybody who may have something is asked.
#[derive(Clone, Debug)]
pub struct ReadQuorum {
    rules: Rules,
    places: SmallVec<[Place; 5]>,
    /// Places in the order in which they are asked: this node, then other primaries, then stand-ins.
    order: SmallVec<[usize; 5]>,
    asked: SmallVec<[bool; 5]>,
    answers: SmallVec<[Option<ReadAnswer>; 5]>,
    /// Strays that were asked, once they were.
    strays: Option<usize>,
    strays_answered: usize,
    /// One of those asked is late, and there is no other left to ask.
    nobody_left: bool,
    last_refusal: Option<Refusal>,
}

impl ReadQuorum {
    /// A read at the replicas of `preflist` by node `me`, refused at once when they cannot satisfy the rules.
    pub fn new(rules: Rules, preflist: &Preflist, me: NodeId) -> Result<Self, Refusal> {
        let places = places(preflist);
        let primaries = places.iter().filter(|p| p.primary).count();
        if rules.pr > primaries {
            return Err(Refusal::Primaries { needed: rules.pr, up: primaries });
        }
        if rules.r > places.len() {
            return Err(Refusal::Replicas { needed: rules.r, up: places.len() });
        }
        let nodes = distinct(places.iter().map(|p| p.node));
        if let Some(needed) = rules.node_confirms.filter(|needed| *needed > nodes) {
            return Err(Refusal::Nodes { needed, up: nodes });
        }
        let mut order: SmallVec<[usize; 5]> = (0..places.len()).collect();
        order.sort_by_key(|place| places.get(*place).map(|p| (!p.primary, p.node != me)));
        let (asked, answers) =
            (places.iter().map(|_| false).collect(), places.iter().map(|_| None).collect());
        Ok(Self {
            rules,
            places,
            order,
            asked,
            answers,
            strays: None,
            strays_answered: 0,
            nobody_left: false,
            last_refusal: None,
        })
    }

    /// How many complete replicas must answer.
    pub fn answers_needed(&self) -> usize {
        self.rules.r
    }

    /// The next step; call it again after each `Ask` until it says something else.
    pub fn step(&mut self) -> ReadStep {
        let (complete, _) = self.count(|_, answer| {
            let trusted = planted(Mutant::TrustIncomplete) && answer == Some(&ReadAnswer::Incomplete);
            trusted || answer == Some(&ReadAnswer::Complete)
        });
        let answered = |answer: Option<&ReadAnswer>| {
            matches!(answer, Some(ReadAnswer::Complete | ReadAnswer::Incomplete))
        };
        let (told, primaries) = self.count(|_, answer| answered(answer));
        if complete >= self.rules.r && primaries >= self.rules.pr && self.confirmed_by_nodes(answered) {
            return ReadStep::Done { degraded: false };
        }
        let (waiting, _) = self.count(|asked, answer| asked && answer.is_none());
        let (_, hopeful_primaries) =
            self.count(|asked, answer| asked && (answer.is_none() || answered(answer)));
        let enough = complete + waiting >= self.rules.r;
        let nodes = self.confirmed_by_nodes(|answer| answer.is_none() || answered(answer));
        let wanted_anywhere = hopeful_primaries >= self.rules.pr && nodes;
        // Who is late may never answer: with nobody left to ask it is not waited for alone.
        if enough && wanted_anywhere && (!self.nobody_left || self.strays.is_some()) {
            return ReadStep::Wait;
        }
        if let Some(replica) = self.ask_another(enough && nodes) {
            return ReadStep::Ask(replica);
        }
        if !nodes {
            let needed = self.rules.node_confirms.unwrap_or(0);
            let up = self.nodes_of(|answer| answer.is_none() || answered(answer));
            return ReadStep::Ended(self.last_refusal.clone().unwrap_or(Refusal::Nodes { needed, up }));
        }
        if told + waiting < self.rules.r || hopeful_primaries < self.rules.pr {
            let needed = self.rules.r.max(self.rules.pr);
            let too_few = Refusal::Replicas { needed, up: told + waiting };
            return ReadStep::Ended(self.last_refusal.clone().unwrap_or(too_few));
        }
        match self.strays {
            None => ReadStep::AskStrays,
            Some(strays) if waiting > 0 || self.strays_answered < strays => ReadStep::Wait,
            Some(_) => ReadStep::Done { degraded: true },
        }
    }

    /// Whether [`Self::step`] would say no more than that those who were asked are to be waited for, and so whoever
    /// waits need not look. False also where that is not certain.
    pub fn only_waits(&self) -> bool {
        let answered = |answer: Option<&ReadAnswer>| {
            matches!(answer, Some(ReadAnswer::Complete | ReadAnswer::Incomplete))
        };
        let hoped_for = |answer: Option<&ReadAnswer>| answer.is_none() || answered(answer);
        // What is counted below are answers that a step counts, or more of them.
        let (told, _) = self.count(|_, answer| answered(answer));
        let (promising, primaries) =
            self.count(|asked, answer| asked && matches!(answer, None | Some(ReadAnswer::Complete)));
        told < self.rules.r
            && promising >= self.rules.r
            && primaries >= self.rules.pr
            && self.confirmed_by_nodes(hoped_for)
            && !self.nobody_left
            && self.strays.is_none()
    }

    /// How many nodes those replicas are on that were asked and answered like this.
    fn nodes_of(&self, wanted: impl Fn(Option<&ReadAnswer>) -> bool) -> usize {
        let hits = self.asked.iter().zip(&self.answers).zip(&self.places);
        distinct(hits.filter(|((asked, a), _)| **asked && wanted(a.as_ref())).map(|(_, p)| p.node))
    }

    fn confirmed_by_nodes(&self, wanted: impl Fn(Option<&ReadAnswer>) -> bool) -> bool {
        self.rules.node_confirms.is_none_or(|needed| self.nodes_of(wanted) >= needed)
    }

    fn count(&self, wanted: impl Fn(bool, Option<&ReadAnswer>) -> bool) -> (usize, usize) {
        let hits = self.asked.iter().zip(&self.answers).zip(&self.places);
        let hits = hits.filter(|((asked, answer), _)| wanted(**asked, answer.as_ref()));
        hits.fold((0, 0), |(all, primary), (_, p)| (all + 1, primary + usize::from(p.primary)))
    }

    fn ask_another(&mut self, primary_needed: bool) -> Option<usize> {
        let wanted = |place: &&usize| {
            self.asked.get(**place) == Some(&false)
                && (!primary_needed || self.places.get(**place).is_some_and(|p| p.primary))
        };
        let replica = *self.order.iter().find(wanted)?;
        *self.asked.get_mut(replica)? = true;
        Some(replica)
    }

    /// A replica is asked elsewhere than the preference list said, because its partition has moved.
    pub fn relocate(&mut self, replica: usize, node: NodeId, primary: bool) {
        if let Some(place) = self.places.get_mut(replica) {
            *place = Place { node, primary };
        }
    }

    /// So many strays were asked.
    pub fn strays_asked(&mut self, count: usize) {
        self.strays = Some(count);
    }

    /// A stray answered, or could not.
    pub fn stray_answered(&mut self) {
        self.strays_answered += 1;
    }

    /// A replica's answer.
    pub fn answer(&mut self, replica: usize, answer: ReadAnswer) {
        if let Some(slot) = self.answers.get_mut(replica)
            && slot.is_none()
        {
            if let ReadAnswer::Refused(refusal) = &answer {
                self.last_refusal = Some(refusal.clone());
            }
            *slot = Some(answer);
        }
    }

    /// What this replica answered is not enough: it is asked again, and has not answered until it does.
    pub fn asked_again(&mut self, replica: usize) {
        if let Some(slot) = self.answers.get_mut(replica) {
            *slot = None;
        }
    }

    /// One of those asked is late: another to ask, if there is one. Where there is none, what those who have answered
    /// say may have to do, as when too few are complete.
    pub fn hedge(&mut self) -> Option<usize> {
        let another = self.ask_another(false);
        self.nobody_left = another.is_none();
        another
    }

    /// Those of a degraded read that have not answered by now are taken for unreachable. Says whether what there
    /// is is enough for a degraded answer.
    pub fn give_up_on_the_rest(&mut self) -> bool {
        let told = self.count(|_, a| matches!(a, Some(ReadAnswer::Complete | ReadAnswer::Incomplete)));
        let nodes =
            self.confirmed_by_nodes(|a| matches!(a, Some(ReadAnswer::Complete | ReadAnswer::Incomplete)));
        self.strays.is_some() && told.0 >= self.rules.r && told.1 >= self.rules.pr && nodes
    }
}

#[cfg(test)]
mod tests;
