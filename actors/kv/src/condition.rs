//! Conditions of reads and writes: what must be true of an object for a request to be carried out. A judgement of
//! values; it does not know HTTP, nor whether the object it is shown is all there is: the vnode asks it about its own
//! state joined with what a quorum of replicas had, as the bucket shows it.
//!
//! The order is that of RFC 9110 §13.2.2; times are compared in whole seconds, as the header fields have them. A dead
//! object counts as one that is not there.

use crate::limits::{KvInputError, TAG_BYTES_MAX, TAGS_MAX};
use crate::object::Object;
use ringwork_core::clock::dotted::CausalContext;
use serde::{Deserialize, Serialize};

/// Some entity tags, or any.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Tags {
    /// `*`: whatever is there.
    Any,
    /// One of these, without quotes: of an object with siblings its own ([`Object::etag`]) or a sibling's.
    OneOf(Vec<String>),
}

impl Tags {
    fn match_any_of(&self, object: &Object) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => {
                let own = object.etag();
                let is_there = |tag: &String| {
                    Some(tag) == own.as_ref() || object.siblings().any(|sibling| sibling.vtag() == *tag)
                };
                tags.iter().any(is_there)
            }
        }
    }

    fn check(&self) -> Result<(), KvInputError> {
        match self {
            Self::OneOf(tags)
                if tags.len() > TAGS_MAX || tags.iter().any(|tag| tag.len() > TAG_BYTES_MAX) =>
            {
                Err(KvInputError::Tags)
            }
            _ => Ok(()),
        }
    }
}

/// What must be true; nothing by default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// `If-Match`: the object is one of these.
    pub if_match: Option<Tags>,
    /// `If-None-Match`: it is none of these, or, with any, is not there.
    pub if_none_match: Option<Tags>,
    /// `If-Unmodified-Since`: not written after this second since 1970.
    pub if_unmodified_since: Option<u64>,
    /// `If-Modified-Since`: written after this second since 1970. Reads only.
    pub if_modified_since: Option<u64>,
    /// `X-Riak-If-Not-Modified`: its history is exactly this. Of an object that is not there, the empty one is.
    pub if_not_modified: Option<CausalContext>,
}

/// Which condition a write has failed. Nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum ConditionFailure {
    /// `If-Match`.
    #[error("the object is not the one that the write is meant for")]
    Match,
    /// `If-None-Match`.
    #[error("there is such an object already")]
    NoneMatch,
    /// `If-Unmodified-Since`.
    #[error("the object was written since")]
    UnmodifiedSince,
    /// `X-Riak-If-Not-Modified`: the context is not that of the object.
    #[error("the object was modified: its causal context is another one")]
    Modified,
}

/// What becomes of a read that has conditions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadJudgement {
    /// The object is shown.
    Show,
    /// The client has it already.
    NotModified,
    /// A condition is not fulfilled.
    Failed(ConditionFailure),
}

impl Conditions {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Refuses more than is looked at.
    pub fn check(&self) -> Result<(), KvInputError> {
        self.if_match.as_ref().map_or(Ok(()), Tags::check)?;
        self.if_none_match.as_ref().map_or(Ok(()), Tags::check)
    }

    /// Whether a write may go on, where `object` is what is there.
    pub fn judge_write(&self, object: &Object) -> Result<(), ConditionFailure> {
        if self.if_not_modified.as_ref().is_some_and(|context| *context != object.context()) {
            return Err(ConditionFailure::Modified);
        }
        self.judge_match(object)?;
        let there = !object.is_dead();
        if there && self.if_none_match.as_ref().is_some_and(|tags| tags.match_any_of(object)) {
            return Err(ConditionFailure::NoneMatch);
        }
        Ok(())
    }

    fn judge_match(&self, object: &Object) -> Result<(), ConditionFailure> {
        let there = !object.is_dead();
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !there || !tags.match_any_of(object) => Err(ConditionFailure::Match),
            (None, Some(since)) if there && modified_second(object) > Some(since) => {
                Err(ConditionFailure::UnmodifiedSince)
            }
            _ => Ok(()),
        }
    }

    /// What a read answers, where `object` is what is shown; only asked where something is.
    pub fn judge_read(&self, object: &Object) -> ReadJudgement {
        if let Err(failure) = self.judge_match(object) {
            return ReadJudgement::Failed(failure);
        }
        let has_it = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => !object.is_dead() && tags.match_any_of(object),
            (None, Some(since)) => !object.is_dead() && modified_second(object) <= Some(since),
            (None, None) => false,
        };
        if has_it { ReadJudgement::NotModified } else { ReadJudgement::Show }
    }
}

fn modified_second(object: &Object) -> Option<u64> {
    object.last_modified_ms().map(|ms| ms / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Content, vtag};
    use crate::object::Conflicts;
    use ringwork_core::clock::hybrid::HybridTime;
    use ringwork_core::ids::{ActorId, Dot};

    fn dot(counter: u64) -> Dot {
        Dot { actor: ActorId(1), counter }
    }

    /// Written at 5.9 s by event 1; with `siblings` again at 7 s by event 2.
    fn object(siblings: bool, deleted: bool) -> Object {
        let mut object = Object::new();
        for (counter, ms) in [(1, 5900), (2, 7000)].into_iter().take(1 + usize::from(siblings)) {
            let content = Content { modified: HybridTime::at_ms(ms), deleted, ..Content::of("x") };
            assert!(object.put(content, &CausalContext::new(), dot(counter), Conflicts::Siblings));
        }
        object
    }

    fn one_of(tag: String) -> Option<Tags> {
        Some(Tags::OneOf(vec!["other".into(), tag]))
    }

    #[test]
    fn a_write_is_judged_by_what_is_there() {
        use ConditionFailure::{Match, Modified, NoneMatch, UnmodifiedSince};
        let (nothing, one, two, dead) =
            (Object::new(), object(false, false), object(true, false), object(false, true));
        let own = two.etag().unwrap();
        let none = Conditions::default();
        let matches = |tags: Option<Tags>| Conditions { if_match: tags, ..none.clone() };
        let none_matches = |tags: Option<Tags>| Conditions { if_none_match: tags, ..none.clone() };
        let unmodified = |since| Conditions { if_unmodified_since: Some(since), ..none.clone() };
        let context = |of: &Object| Conditions { if_not_modified: Some(of.context()), ..none.clone() };
        let table = [
            (none.clone(), [Ok(()); 4]),
            (matches(Some(Tags::Any)), [Err(Match), Ok(()), Ok(()), Err(Match)]),
            (matches(one_of(vtag(dot(1)))), [Err(Match), Ok(()), Ok(()), Err(Match)]),
            (matches(one_of(vtag(dot(2)))), [Err(Match), Err(Match), Ok(()), Err(Match)]),
            (matches(one_of(own.clone())), [Err(Match), Err(Match), Ok(()), Err(Match)]),
            (none_matches(Some(Tags::Any)), [Ok(()), Err(NoneMatch), Err(NoneMatch), Ok(())]),
            (none_matches(one_of(own)), [Ok(()), Ok(()), Err(NoneMatch), Ok(())]),
            (unmodified(5), [Ok(()), Ok(()), Err(UnmodifiedSince), Ok(())]),
            (unmodified(4), [Ok(()), Err(UnmodifiedSince), Err(UnmodifiedSince), Ok(())]),
            (context(&nothing), [Ok(()), Err(Modified), Err(Modified), Err(Modified)]),
            (context(&one), [Err(Modified), Ok(()), Err(Modified), Ok(())]),
        ];
        for (conditions, expected) in table {
            let found = [&nothing, &one, &two, &dead].map(|object| conditions.judge_write(object));
            assert_eq!(found, expected, "{conditions:?}");
        }
    }

    #[test]
    fn a_match_counts_before_a_time_and_a_time_only_without_one() {
        let one = object(false, false);
        let both =
            Conditions { if_match: Some(Tags::Any), if_unmodified_since: Some(1), ..Conditions::default() };
        assert_eq!(both.judge_write(&one), Ok(()));
        let read = Conditions {
            if_none_match: Some(Tags::OneOf(vec!["other".into()])),
            if_modified_since: Some(9),
            ..Conditions::default()
        };
        assert_eq!(read.judge_read(&one), ReadJudgement::Show);
    }

    #[test]
    fn a_read_is_shown_or_the_client_has_it_or_it_has_failed() {
        let one = object(false, false);
        let read = |if_none_match, if_modified_since, if_match| {
            Conditions { if_none_match, if_modified_since, if_match, ..Conditions::default() }
                .judge_read(&one)
        };
        assert_eq!(read(None, None, None), ReadJudgement::Show);
        assert_eq!(read(one_of(vtag(dot(1))), None, None), ReadJudgement::NotModified);
        assert_eq!(read(None, Some(5), None), ReadJudgement::NotModified);
        assert_eq!(read(None, Some(4), None), ReadJudgement::Show);
        assert_eq!(read(None, None, one_of("x".into())), ReadJudgement::Failed(ConditionFailure::Match));
    }

    #[test]
    fn tags_are_bounded() {
        let many = Conditions {
            if_match: Some(Tags::OneOf(vec![String::new(); TAGS_MAX + 1])),
            ..Conditions::default()
        };
        assert_eq!(many.check(), Err(KvInputError::Tags));
        let long =
            Conditions { if_none_match: one_of("x".repeat(TAG_BYTES_MAX + 1)), ..Conditions::default() };
        assert_eq!(long.check(), Err(KvInputError::Tags));
        assert!(Conditions { if_match: one_of("x".into()), ..Conditions::default() }.any());
        assert_eq!(Conditions::default().check(), Ok(()));
    }
}
