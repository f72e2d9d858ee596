//! What the simulator asks of the object store beside reads and careful writes: writes under contexts that have grown
//! old, conditional writes, deletes; and the oracle for all of them. It decides what is asked, and what must be true of
//! what was told. How it is asked is in `kv`.
//!
//! The oracle goes by what each writer had *seen*. Every value bears the number of the request that wrote it, every
//! read shows which values there were, under which dots, and with which context. So it needs no model of the store:
//!
//! - one dot is one value, and one request is one value;
//! - no value stands beside one whose writer had seen it: siblings are at most those who wrote without each other;
//! - what was acknowledged is there, or somebody who had seen it wrote over it or deleted it, and that in turn is there
//!   or was written over;
//! - what an acknowledged write or delete had seen does not come back;
//! - what was refused is nowhere; a condition that held holds of what the write left, and of two writes under one
//!   condition that only one can fulfil both are acknowledged only at the same time, or in a network that is cut.

use crate::history::{History, WriteFacts};
use crate::service::{OwnBeginning, OwnRequest, OwnRequests};
use ringwork::kv::{ConditionFailure, Object};
use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::ids::Dot;
use ringwork_core::testing::Draw;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Keys of this workload.
const KEYS: u64 = 6;
/// What tells them from those of all services.
pub const PREFIX: &str = "own-";
/// Of so many reads of a key the contexts are kept, for writers who come late.
const KEPT_MAX: usize = 8;

/// Reads, with r = 2.
pub const READ: &str = "read";
/// Reads at all replicas, in the end.
pub const LOOK: &str = "look";
/// Writes over what a read has shown just before.
pub const PUT: &str = "put";
/// Writes under the context of a read of some time ago.
pub const STALE: &str = "put under an old context";
/// Writes without having seen anything.
pub const BLIND: &str = "put under no context";
/// Writes where nothing is (`If-None-Match: *`).
pub const CREATE: &str = "create";
/// Writes where nothing has changed since a read, perhaps one of some time ago (`X-Riak-If-Not-Modified`).
pub const REPLACE: &str = "replace";
/// Deletes what a read has shown.
pub const DELETE: &str = "delete";
/// Deletes whatever is there. Only under one key, because anything may be gone there.
pub const REMOVE: &str = "remove";

/// Of a hundred requests so many are of each kind.
const SHARES: [(&str, u64); 8] =
    [(READ, 30), (PUT, 22), (STALE, 12), (BLIND, 4), (CREATE, 12), (REPLACE, 12), (DELETE, 6), (REMOVE, 2)];

/// What a client was told.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// It was done. By a write: whose nodes had confirmed then.
    Done(Vec<String>),
    /// A condition does not hold; nothing was done.
    Condition(ConditionFailure),
    /// Nothing was done, for whatever other reason.
    Refused(String),
    /// There was nothing to delete. Nothing was done.
    NotFound,
    /// It may have been done.
    Unknown(String),
}

/// What a read showed: the context, and by dot who wrote each value.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Shown {
    context: CausalContext,
    values: BTreeMap<Dot, usize>,
}

/// A request and what is known of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where and when it was begun.
    pub beginning: OwnBeginning,
    ended: Option<Duration>,
    all_up_since: Option<Duration>,
    /// Under which context it wrote, and what that read had shown.
    seen: Shown,
    told: Option<Told>,
    /// That what it wrote has the whole of `seen` in its history is known from the answer.
    full: bool,
    w: u8,
}

impl Attempt {
    fn what(&self) -> &'static str {
        self.beginning.request.what
    }

    fn key(&self) -> &str {
        &self.beginning.request.key
    }

    fn deletes(&self) -> bool {
        [DELETE, REMOVE].contains(&self.what())
    }

    fn writes(&self) -> bool {
        ![READ, LOOK].contains(&self.what())
    }

    fn is_done(&self) -> bool {
        matches!(self.told, Some(Told::Done(_)))
    }

    /// Whether it may have changed anything.
    fn may_be_done(&self) -> bool {
        self.writes() && matches!(self.told, None | Some(Told::Done(_) | Told::Unknown(_)))
    }

    /// What the history knows how to judge: whether what it was confirmed with may be lost.
    fn facts(&self) -> WriteFacts {
        let nodes = match &self.told {
            Some(Told::Done(nodes)) => nodes.clone(),
            _ => Vec::new(),
        };
        let holds = |node: &&String| self.beginning.primaries.contains(node);
        WriteFacts {
            key: self.key().to_owned(),
            acknowledged: self.ended,
            primaries: nodes.iter().filter(holds).count(),
            stand_ins: nodes.iter().filter(|node| !holds(node)).cloned().collect(),
            w: self.w,
            begun: self.beginning.at,
            nodes,
            ..WriteFacts::default()
        }
    }
}

/// Everything that was asked and told.
#[derive(Default)]
pub struct Ledger(RefCell<Known>);

#[derive(Default)]
struct Known {
    attempts: Vec<Attempt>,
    /// Under which dot somebody wrote.
    dot_of: BTreeMap<usize, Dot>,
    /// Pairs that some read showed side by side, and the number of such a read.
    beside: BTreeMap<(usize, usize), usize>,
    /// What reads of a key showed, the newest last.
    kept: BTreeMap<String, Vec<Shown>>,
    /// What each node shows in the end, by key.
    last: BTreeMap<String, Vec<(u8, Shown)>>,
    /// Under which key which value was written with a dot, by whomever: also those that all services write.
    value_of: BTreeMap<Dot, (String, String)>,
    /// What cannot be true, as it was found.
    wrong: Vec<String>,
}

impl Ledger {
    /// What was asked under that number.
    pub fn attempt(&self, number: usize) -> Attempt {
        self.0.borrow().attempts[number].clone()
    }

    /// Something that no client should be told.
    pub fn wrong(&self, number: usize, what: &str) {
        let mut known = self.0.borrow_mut();
        let text = format!("#{number}: {what}: {:?}", known.attempts[number].beginning);
        known.wrong.push(text);
    }

    /// Notes the dots of what anybody was shown under a key: a vnode has one counter for all of its keys.
    pub fn note_dots(&self, key: &str, object: &Object) {
        self.0.borrow_mut().note_dots(key, object);
    }

    /// Notes what a read showed.
    pub fn shown(&self, number: usize, object: &Object) -> Shown {
        let mut known = self.0.borrow_mut();
        let shown = known.shown(number, object);
        let Attempt { beginning: OwnBeginning { request, node, .. }, .. } = known.attempts[number].clone();
        if request.what == LOOK {
            known.last.entry(request.key).or_default().push((node, shown.clone()));
        } else {
            let kept = known.kept.entry(request.key).or_default();
            kept.push(shown.clone());
            if kept.len() > KEPT_MAX {
                kept.remove(0);
            }
        }
        shown
    }

    /// What a read of that key had shown some time ago.
    pub fn old(&self, key: &str, dice: u64) -> Option<Shown> {
        let known = self.0.borrow();
        Draw::from_seed(dice).pick(known.kept.get(key)?).cloned()
    }

    /// Notes under which context it is about to write.
    pub fn writes_under(&self, number: usize, seen: &Shown, w: u8) -> CausalContext {
        let mut known = self.0.borrow_mut();
        let attempt = &mut known.attempts[number];
        attempt.seen = seen.clone();
        attempt.w = w;
        seen.context.clone()
    }

    /// Notes what its client was told, and of a write what the object was then.
    pub fn told(&self, number: usize, told: Told, object: Option<&Object>) {
        let mut known = self.0.borrow_mut();
        known.attempts[number].told = Some(told);
        if let Some(object) = object {
            known.left(number, object);
        }
    }
}

impl Known {
    fn note_dots(&mut self, key: &str, object: &Object) {
        for sibling in object.siblings() {
            let value = (key.to_owned(), String::from_utf8_lossy(&sibling.content.value).into_owned());
            let first = self.value_of.entry(sibling.dot).or_insert_with(|| value.clone());
            if *first != value {
                let dot = sibling.dot;
                self.wrong
                    .push(format!("{first:?} and {value:?} have one dot, {dot:?}: an actor counts twice"));
            }
        }
    }

    fn shown(&mut self, number: usize, object: &Object) -> Shown {
        let key = self.attempts[number].key().to_owned();
        self.note_dots(&key, object);
        let mut values = BTreeMap::new();
        for sibling in object.siblings() {
            let text = String::from_utf8_lossy(&sibling.content.value).into_owned();
            // What KvStore::delete writes has no text; its dot is enough.
            let Ok(writer) = text.parse::<usize>() else { continue };
            values.insert(sibling.dot, writer);
            let wrote = |attempt: &Attempt| attempt.key() == self.attempts[number].key() && attempt.writes();
            if !self.attempts.get(writer).is_some_and(wrote) {
                self.wrong.push(format!("#{number} was shown a value of #{writer}, who did not write it"));
                continue;
            }
            let first = *self.dot_of.entry(writer).or_insert(sibling.dot);
            if first != sibling.dot {
                self.wrong.push(format!("#{writer} was written twice, as {first:?} and {:?}", sibling.dot));
            }
        }
        let writers: Vec<usize> = values.values().copied().collect();
        for one in &writers {
            for other in writers.iter().filter(|other| *other != one) {
                self.beside.entry((*one, *other)).or_insert(number);
            }
        }
        Shown { context: object.context(), values }
    }

    /// What can be told of a write from the object that it left.
    fn left(&mut self, number: usize, object: &Object) {
        let shown = self.shown(number, object);
        let attempt = &mut self.attempts[number];
        attempt.full = shown.context.descends(&attempt.seen.context);
        let own = shown.values.iter().find(|(_, writer)| **writer == number).map(|(dot, _)| *dot);
        let Some(own) = own else {
            self.wrong.push(format!("#{number} was acknowledged, and is not in what it left: {shown:?}"));
            return;
        };
        let foreign = |dot: &Dot| *dot != own && !attempt.seen.context.contains(*dot);
        if attempt.what() == REPLACE && shown.context.dots().any(|dot| foreign(&dot)) {
            let seen = &attempt.seen;
            self.wrong.push(format!(
                "#{number} was to write only if nothing had changed since {seen:?}, was acknowledged, and left \
                 {shown:?}"
            ));
        }
        let is_live = |sibling: &ringwork::kv::Sibling<'_>| !sibling.content.deleted && sibling.dot != own;
        if self.attempts[number].what() == CREATE && object.siblings().any(|sibling| is_live(&sibling)) {
            self.wrong.push(format!(
                "#{number} was to write only if nothing was there, was acknowledged, and stands beside {shown:?}"
            ));
        }
    }

    /// Whether somebody had seen `one` when `other` was written.
    fn had_seen(&self, other: usize, one: usize) -> bool {
        let seen = &self.attempts[other].seen;
        let by_dot = self.dot_of.get(&one).is_some_and(|dot| seen.context.contains(*dot));
        by_dot || seen.values.values().any(|writer| *writer == one)
    }

    fn beside_what_it_replaced(&self) -> Option<String> {
        let wrong = |(one, other): &(usize, usize)| self.attempts[*other].full && self.had_seen(*other, *one);
        let (pair, read) = self.beside.iter().find(|(pair, _)| wrong(pair))?;
        let (one, other) = (&self.attempts[pair.0], &self.attempts[pair.1]);
        let (by, first) = (pair.1, pair.0);
        Some(format!("#{read} was shown #{first} beside #{by}, who had seen it: {one:?} beside {other:?}"))
    }

    /// Requests that wrote under a key, or may have.
    fn writers<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (usize, &'a Attempt)> + 'a {
        self.attempts.iter().enumerate().filter(move |(_, attempt)| attempt.key() == key && attempt.writes())
    }

    /// Whether a value that is not shown has gone the way values go. Goes by what reads have shown, not by dots: where
    /// an actor counts twice, a context has the dot of what nobody saw.
    fn has_gone_well(&self, one: usize, shown: &BTreeSet<usize>, history: &History) -> bool {
        let value = &self.attempts[one];
        let ends = |at: Option<Duration>| at.unwrap_or(Duration::MAX);
        let may_replace = |other: usize, by: &Attempt| {
            if other == one || !by.may_be_done() {
                return false;
            }
            if by.what() == REMOVE {
                return ends(by.ended) > value.beginning.at;
            }
            by.seen.values.values().any(|writer| *writer == one)
                && (by.deletes()
                    || shown.contains(&other)
                    || history.copies_lost(&by.facts())
                    || self.has_gone_well(other, shown, history))
        };
        self.writers(value.key()).any(|(other, by)| may_replace(other, by))
    }

    fn check_key(&self, key: &str, history: &History) -> Result<(), String> {
        let Some(answers) = self.last.get(key) else { return Ok(()) };
        let Some((_, first)) = answers.first() else { return Ok(()) };
        if let Some((node, other)) = answers.iter().find(|(_, shown)| shown != first) {
            return Err(format!("n{node} shows {other:?} of {key}, another {first:?}"));
        }
        let shown: BTreeSet<usize> = first.values.values().copied().collect();
        for (number, attempt) in self.writers(key) {
            let there = shown.contains(&number);
            if self.dot_of.contains_key(&number) && !attempt.may_be_done() {
                return Err(format!("somebody was shown #{number} of {key}, which was refused: {attempt:?}"));
            }
            if !attempt.is_done() || history.copies_lost(&attempt.facts()) {
                continue;
            }
            if !attempt.deletes() && !there && !self.has_gone_well(number, &shown, history) {
                return Err(format!(
                    "{key} does not show #{number}, and nobody who had seen it wrote: {attempt:?}"
                ));
            }
            let back =
                shown.iter().find(|one| attempt.full && **one != number && self.had_seen(number, **one));
            if let Some(back) = back {
                let value = &self.attempts[*back];
                return Err(format!(
                    "{key} shows #{back}, which #{number} had replaced: {value:?}, {attempt:?}"
                ));
            }
        }
        self.check_conditions(key, history)
    }

    /// Whether `later` cannot have missed what `first` wrote: it began when that had ended, all nodes saw each other
    /// up all the time, and no copy of it was lost.
    fn must_know_of(later: &Attempt, first: &Attempt, history: &History) -> bool {
        let facts = first.facts();
        let after = first.ended.is_some_and(|ended| ended < later.beginning.at);
        let whole = later.all_up_since.is_some_and(|since| since <= first.beginning.at);
        let sure = facts.w >= 2 && !history.is_hurt(&facts) && !history.copies_lost(&facts);
        after && whole && sure && first.is_done() && later.is_done()
    }

    fn check_conditions(&self, key: &str, history: &History) -> Result<(), String> {
        let may_be_deleted_between = |first: &Attempt, later: &Attempt| {
            self.writers(key).any(|(_, by)| {
                let ended_before = by.ended.is_some_and(|ended| ended < first.beginning.at);
                by.deletes() && by.may_be_done() && !ended_before && Some(by.beginning.at) < later.ended
            })
        };
        for (number, later) in self.writers(key) {
            if later.told == Some(Told::Condition(ConditionFailure::NoneMatch)) {
                let may_be_there = |(_, by): (usize, &Attempt)| {
                    by.may_be_done() && !by.deletes() && Some(by.beginning.at) < later.ended
                };
                if !self.writers(key).any(may_be_there) {
                    return Err(format!(
                        "#{number} was told that something is there, and nothing was: {later:?}"
                    ));
                }
            }
            for (earlier, first) in self.writers(key).filter(|(_, first)| !first.deletes()) {
                if !Self::must_know_of(later, first, history) {
                    continue;
                }
                if later.what() == CREATE && !may_be_deleted_between(first, later) {
                    return Err(format!(
                        "#{number} wrote where nothing was, though #{earlier} was there: {later:?}, {first:?}"
                    ));
                }
                let same = first.seen.context == later.seen.context;
                if later.what() == REPLACE && first.what() == REPLACE && same {
                    return Err(format!(
                        "#{number} and before it #{earlier} wrote over the same, if nothing had changed: {later:?}, \
                         {first:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl OwnRequests for Ledger {
    fn next(&self, draw: &mut Draw) -> OwnRequest {
        let number = draw.below(KEYS);
        let mut dice = draw.below(SHARES.iter().map(|(_, share)| share).sum());
        let share = SHARES.iter().find(|(_, share)| {
            let here = dice < *share;
            dice = dice.saturating_sub(*share);
            here
        });
        let what = share.map_or(READ, |(what, _)| *what);
        let what = if what == REMOVE && number > 0 { DELETE } else { what };
        OwnRequest { key: format!("{PREFIX}{number}"), what, dice: draw.bits() }
    }

    fn last_looks(&self) -> Vec<OwnRequest> {
        self.0.borrow_mut().last.clear();
        (0..KEYS).map(|number| OwnRequest { key: format!("{PREFIX}{number}"), what: LOOK, dice: 0 }).collect()
    }

    fn begun(&self, beginning: OwnBeginning) -> usize {
        let attempts = &mut self.0.borrow_mut().attempts;
        attempts.push(Attempt {
            beginning,
            ended: None,
            all_up_since: None,
            seen: Shown::default(),
            told: None,
            full: false,
            w: 0,
        });
        attempts.len() - 1
    }

    fn ended(&self, number: usize, at: Duration, all_up_since: Option<Duration>) {
        let attempt = &mut self.0.borrow_mut().attempts[number];
        (attempt.ended, attempt.all_up_since) = (Some(at), all_up_since);
    }

    fn holds(&self) -> Result<(), String> {
        self.0.borrow().wrong.first().cloned().map_or(Ok(()), Err)
    }

    fn held(&self, history: &History) -> Result<(), String> {
        self.holds()?;
        let known = self.0.borrow();
        known.beside_what_it_replaced().map_or(Ok(()), Err)?;
        (0..KEYS).try_for_each(|number| known.check_key(&format!("{PREFIX}{number}"), history))
    }
}
