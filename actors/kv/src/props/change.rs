//! Changing properties: what a client or an operator may ask for, in Riak's JSON, and what is wrong with it. A change
//! is taken whole or not at all, and every property that is wrong is named. It does not know where properties are
//! kept.

use super::{BucketProps, Datatype, SyncOnWrite};
use ringwork_core::quorum::Count;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// The one way to hash a key that there is.
pub(super) const KEYFUN: (&str, &str) = ("riak_core_util", "chash_std_keyfun");
/// The one way to find an object's links that there is.
pub(super) const LINKFUN: (&str, &str) = ("riak_kv_wm_link_walker", "mapreduce_linkfun");
/// The one hook that there is: it feeds Riak Search 1.
const SEARCH_HOOK: (&str, &str) = ("riak_search_kv_hook", "precommit");
/// Bytes of a document with properties: far more than all of them take.
pub const PROPS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the name of an index.
const INDEX_NAME_BYTES_MAX: usize = 256;
const UNKNOWN: &str = "unknown";
/// Names of properties that there are none of which a refusal names: a client does not choose how much it is answered.
const UNKNOWN_NAMED_MAX: usize = 16;
/// Characters of such a name that are shown; no property's is longer.
const NAME_SHOWN_MAX: usize = 64;
/// No clock is pruned, so any number will do that clients can hold.
const CLOCK_LIMIT_MAX: u64 = u32::MAX as u64;

/// Whose properties are changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A type that is being created, or was created and is not active.
    NewType,
    /// A type that is in use.
    ActiveType,
    /// A bucket.
    Bucket,
}

/// What is wrong with one property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Riak's word for it, where it has one.
    pub word: &'static str,
    /// What would be right.
    pub expected: String,
}

/// What is wrong, by property; of names that are none the first few, cut. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PropProblems(pub BTreeMap<String, Problem>);

impl PropProblems {
    /// As Riak tells it: property to word.
    pub fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|(name, problem)| (name.clone(), Value::from(problem.word)))
            .collect::<Map<_, _>>()
            .into()
    }

    fn add(&mut self, name: &str, (word, expected): (&'static str, String)) {
        let unknown = self.0.values().filter(|problem| problem.word == UNKNOWN).count();
        if word != UNKNOWN || unknown < UNKNOWN_NAMED_MAX {
            let name = name.chars().take(NAME_SHOWN_MAX).collect();
            self.0.entry(name).or_insert(Problem { word, expected });
        }
    }
}

impl fmt::Display for PropProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, problem)) in self.0.iter().enumerate() {
            write!(f, "{}{name}: {}", if place == 0 { "" } else { "; " }, problem.expected)?;
        }
        Ok(())
    }
}

impl std::error::Error for PropProblems {}

/// A document that has no properties. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PropsDocumentError {
    /// Too large.
    #[error("the properties have {0} bytes: at most {PROPS_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not JSON.
    #[error("the properties are not JSON: {0}")]
    Json(String),
    /// Not of the form that is expected.
    #[error("expected a document of the form {{\"props\": {{…}}}}")]
    Form,
}

/// The properties in a client's document.
pub fn read_document(bytes: &[u8]) -> Result<Map<String, Value>, PropsDocumentError> {
    if bytes.len() > PROPS_BYTES_MAX {
        return Err(PropsDocumentError::TooLong(bytes.len()));
    }
    let document: Value =
        serde_json::from_slice(bytes).map_err(|error| PropsDocumentError::Json(error.to_string()))?;
    match document {
        Value::Object(mut document) => match document.remove("props") {
            Some(Value::Object(props)) => Ok(props),
            _ => Err(PropsDocumentError::Form),
        },
        _ => Err(PropsDocumentError::Form),
    }
}

/// Properties that a type or a bucket was given, by name, each in a form that was found right. What was not given comes
/// from the type, or is the default, also where these change later.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides(BTreeMap<String, Value>);

/// The name under which is kept how few replicas there ever were, where that is fewer than now. It is no property:
/// nobody is shown it or can give it.
const LEAST_N_VAL: &str = "least_n_val";

/// The word for what is wrong, and what would be right.
type Wrong = (&'static str, String);

fn number(value: &Value, low: u64, high: u64) -> Result<u64, Wrong> {
    let wrong =
        |word| (word, format!("a whole number from {low} to {high} is expected, not {}", shown(value)));
    let number = value.as_u64().ok_or_else(|| wrong("not_integer"))?;
    if (low..=high).contains(&number) { Ok(number) } else { Err(wrong("not_valid")) }
}

fn truth(value: &Value) -> Result<bool, Wrong> {
    // riak-js and the PB gateways send them as words.
    let word = value.as_str().and_then(|word| word.parse().ok());
    value
        .as_bool()
        .or(word)
        .ok_or_else(|| ("not_boolean", format!("true or false is expected, not {}", shown(value))))
}

fn count(value: &Value, low: usize) -> Result<Count, Wrong> {
    let parsed = match value {
        Value::String(word) => word.parse().ok(),
        value => value.as_u64().and_then(|number| usize::try_from(number).ok()).map(Count::Exactly),
    };
    let wrong = || {
        let expected =
            format!("one, quorum, all or a whole number from {low} is expected, not {}", shown(value));
        ("not_valid", expected)
    };
    parsed.filter(|count| !matches!(count, Count::Exactly(number) if *number < low)).ok_or_else(wrong)
}

fn modfun(value: &Value, (module, function): (&str, &str)) -> Result<(), Wrong> {
    if value.get("mod").and_then(Value::as_str) == Some(module)
        && value.get("fun").and_then(Value::as_str) == Some(function)
    {
        return Ok(());
    }
    Err(("not_valid", format!("only {{\"mod\": \"{module}\", \"fun\": \"{function}\"}} is there")))
}

fn hooks(value: &Value, known: Option<(&str, &str)>) -> Result<Vec<Value>, Wrong> {
    let none = || ("not_valid", "a list of hooks is expected".to_owned());
    let list = value.as_array().ok_or_else(none)?;
    for hook in list {
        let known = known.is_some_and(|known| modfun(hook, known).is_ok());
        if !known {
            return Err((
                "not_valid",
                format!("there is no hook {}: hooks of Erlang are not run here", shown(hook)),
            ));
        }
    }
    Ok(list.clone())
}

/// A value for a message, cut.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(40).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// Puts one property in force. Says what is wrong with it by itself.
fn put(props: &mut BucketProps, name: &str, value: &Value) -> Result<(), Wrong> {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match name {
        "n_val" => props.n_val = size(number(value, 1, ringwork_core::limits::N_VAL_MAX as u64)?),
        "r" => props.r = count(value, 1)?,
        "w" => props.w = count(value, 1)?,
        "dw" => props.dw = count(value, 0)?,
        "rw" => props.rw = count(value, 1)?,
        "pr" => props.pr = count(value, 0)?,
        "pw" => props.pw = count(value, 0)?,
        "node_confirms" => {
            props.node_confirms = size(number(value, 0, ringwork_core::limits::N_VAL_MAX as u64)?);
        }
        "allow_mult" => props.allow_mult = truth(value)?,
        "last_write_wins" => props.last_write_wins = truth(value)?,
        "notfound_ok" => props.notfound_ok = truth(value)?,
        "basic_quorum" => props.basic_quorum = truth(value)?,
        "dvv_enabled" => props.dvv_enabled = truth(value)?,
        "write_once" => props.write_once = truth(value)?,
        "sync_on_write" => {
            props.sync_on_write = match value.as_str() {
                Some("backend") => SyncOnWrite::Backend,
                Some("one") => SyncOnWrite::One,
                Some("all") => SyncOnWrite::All,
                _ => {
                    return Err((
                        "not_valid",
                        format!("backend, one or all is expected, not {}", shown(value)),
                    ));
                }
            }
        }
        "small_vclock" => props.small_vclock = number(value, 0, CLOCK_LIMIT_MAX)?,
        "big_vclock" => props.big_vclock = number(value, 0, CLOCK_LIMIT_MAX)?,
        "young_vclock" => props.young_vclock = number(value, 0, CLOCK_LIMIT_MAX)?,
        "old_vclock" => props.old_vclock = number(value, 0, CLOCK_LIMIT_MAX)?,
        "precommit" => props.precommit = hooks(value, Some(SEARCH_HOOK))?,
        "postcommit" => props.postcommit = hooks(value, None)?,
        "chash_keyfun" => modfun(value, KEYFUN)?,
        "linkfun" => modfun(value, LINKFUN)?,
        "datatype" => {
            let found = Datatype::ALL.into_iter().find(|datatype| value.as_str() == Some(datatype.word()));
            let wrong =
                || ("not_valid", format!("counter, set, gset, map or hll is expected, not {}", shown(value)));
            props.datatype = Some(found.ok_or_else(wrong)?);
        }
        "hll_precision" => props.hll_precision = number(value, 4, 16)?,
        "search" => props.search = truth(value)?,
        "search_index" => match value.as_str() {
            Some("_dont_index_" | "") => props.search_index = None,
            Some(index) if index.len() <= INDEX_NAME_BYTES_MAX => props.search_index = Some(index.to_owned()),
            _ => return Err(("not_valid", "the name of an index is expected, or _dont_index_".to_owned())),
        },
        "repl" => match value {
            Value::Bool(_) => props.repl = value.clone(),
            Value::String(word)
                if ["realtime", "fullsync", "both", "true", "false"].contains(&word.as_str()) =>
            {
                props.repl = value.clone();
            }
            _ => return Err(("not_valid", "true, false, realtime, fullsync or both is expected".to_owned())),
        },
        "consistent" => {
            if truth(value)? {
                return Err(("not_valid", "there are no strongly consistent buckets here".to_owned()));
            }
        }
        _ => return Err((UNKNOWN, "there is no such property".to_owned())),
    }
    Ok(())
}

/// What a client was shown and may send back, and nobody can change.
fn is_only_shown(name: &str, target: Target) -> bool {
    name == "name" || (target != Target::Bucket && matches!(name, "active" | "claimant"))
}

impl Overrides {
    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.keys().all(|name| name == LEAST_N_VAL)
    }

    fn replicas(&self, name: &str) -> Option<usize> {
        self.get(name)?.as_u64().and_then(|n| usize::try_from(n).ok())
    }

    /// The fewest replicas that were ever given, as far as these know; none where none were.
    pub fn least_n_val(&self) -> Option<usize> {
        let ever = [self.replicas("n_val"), self.replicas(LEAST_N_VAL)];
        ever.into_iter().flatten().min()
    }

    /// These, and that there have been so few replicas before.
    pub fn remembering(mut self, least: Option<usize>) -> Self {
        let now = self.replicas("n_val");
        if let Some(least) = least.filter(|least| now.is_none_or(|now| *least < now)) {
            self.0.insert(LEAST_N_VAL.to_owned(), least.into());
        }
        self
    }

    /// One that was given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn apply(&self, props: &mut BucketProps) {
        for (name, value) in &self.0 {
            // Each was found right when it was given; one that a later release gave, and this one does not know, is
            // kept.
            let _ = put(props, name, value);
        }
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        Value::from_iter(self.0.clone()).to_string().into_bytes()
    }

    /// As it was kept. What cannot be read is nothing given: an operator can give it again.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(given)) => Self(given.into_iter().collect()),
            _ => Self::default(),
        }
    }

    /// These with what a client asks for, where `now` is in force and `n_val_max` is the service's number of replicas;
    /// or all that is wrong with it.
    pub fn change(
        &self,
        asked: &Map<String, Value>,
        now: &BucketProps,
        target: Target,
        n_val_max: usize,
    ) -> Result<Self, PropProblems> {
        let mut problems = PropProblems::default();
        let (mut after, mut given) = (now.clone(), self.clone());
        for (name, value) in asked.iter().filter(|(name, _)| !is_only_shown(name, target)) {
            match put(&mut after, name, value) {
                Ok(()) if name == "consistent" => {}
                Ok(()) => _ = given.0.insert(name.clone(), value.clone()),
                Err(wrong) => problems.add(name, wrong),
            }
        }
        check_together(asked, now, &after, n_val_max, &mut problems);
        check_immutable(now, &after, target, &mut problems);
        if problems.0.is_empty() { Ok(given) } else { Err(problems) }
    }
}

/// What is wrong with properties beside one another. Named are those that were asked for, as far as they are at fault.
fn check_together(
    asked: &Map<String, Value>,
    now: &BucketProps,
    after: &BucketProps,
    n_val_max: usize,
    problems: &mut PropProblems,
) {
    if after.n_val > n_val_max && after.n_val != now.n_val {
        let expected = format!("a bucket has at most as many replicas as the service, which has {n_val_max}");
        problems.add("n_val", ("not_valid", expected));
    }
    let n = after.n_val;
    let counts = [
        ("r", after.r),
        ("w", after.w),
        ("dw", after.dw),
        ("rw", after.rw),
        ("pr", after.pr),
        ("pw", after.pw),
        ("node_confirms", Count::Exactly(after.node_confirms)),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| count.of(n) > n) {
        let at_fault = if asked.contains_key(name) { name } else { "n_val" };
        problems.add(at_fault, ("not_valid", format!("{name} = {} of n_val = {n} cannot be", count.of(n))));
    }
    if let Some(datatype) = after.datatype {
        let word = datatype.word();
        if !after.allow_mult {
            problems.add("allow_mult", ("must_be_true", format!("must be true with datatype {word}")));
        }
        if after.write_once {
            problems.add("write_once", ("not_valid", format!("must be false with datatype {word}")));
        }
        if after.last_write_wins {
            problems.add("last_write_wins", ("not_valid", format!("must be false with datatype {word}")));
        }
    }
}

/// What is given once and for all: data was written by it.
fn check_immutable(now: &BucketProps, after: &BucketProps, target: Target, problems: &mut PropProblems) {
    if target == Target::NewType {
        return;
    }
    if after.datatype != now.datatype {
        let expected = "the data type is given when a type is created, and stays".to_owned();
        problems.add("datatype", ("immutable", expected));
    }
    if after.write_once != now.write_once {
        let expected = "whether keys are written once is given when a type is created, and stays".to_owned();
        problems.add("write_once", ("immutable", expected));
    }
    if after.hll_precision > now.hll_precision {
        let expected = format!("the precision may become smaller, and is {}", now.hll_precision);
        problems.add("hll_precision", ("immutable", expected));
    }
}

#[cfg(test)]
mod tests;
