//! Which bucket types there are, and which properties types and buckets were given: entries of the metadata, which
//! every member has (see [`ringwork_core::metadata`]). It decides where they lie there, and who may be given what.
//! How entries spread, and when a type that was created is known everywhere, the metadata knows.
//!
//! A type is an entry of the namespace `kv-types` with a life: created, ready when every member has it, active. Only an
//! active one can be used. A bucket's own properties are an entry of `kv-buckets`; a bucket without one has its type's.

use crate::limits::{KvInputError, TYPE_BYTES_MAX, check_type};
use crate::name::DEFAULT_TYPE;
use crate::props::BucketProps;
use crate::props::change::{Overrides, PropProblems, Target};
use ringwork_core::ids::NodeId;
use ringwork_core::limits::METADATA_KEY_BYTES_MAX;
use ringwork_core::metadata::lifecycle::ActivationRefusal;
use ringwork_core::metadata::{At, EntryRefusal, Metadata, NamespaceName, Stage};
use ringwork_core::quorum::QuorumDefaults;
use serde_json::{Map, Value};
use std::fmt::Write;

const TYPES: &str = "kv-types";
const BUCKETS: &str = "kv-buckets";
/// Means "every type" in grants, so none is called that.
const RESERVED: &str = "any";

/// Why something was not found or not done. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// There is no such type, or it is not in use.
    #[error("Unknown bucket type: {0}")]
    UnknownType(String),
    /// The name of a type that cannot be created.
    #[error("{0:?} is not for use as a bucket type; choose another name")]
    Reserved(String),
    /// It is in use already; its properties can be updated.
    #[error("the bucket type {0:?} is active already; update it instead")]
    Active(String),
    /// The bucket's name is too long for having properties of its own.
    #[error("the bucket's name is too long for properties of its own; give them to a bucket type")]
    BucketName,
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] KvInputError),
    /// Properties are wrong.
    #[error(transparent)]
    Props(#[from] PropProblems),
    /// The metadata does not take the entry.
    #[error(transparent)]
    Entry(#[from] EntryRefusal),
    /// It cannot be brought into use.
    #[error(transparent)]
    Activation(#[from] ActivationRefusal),
}

fn namespace(name: &str) -> Result<NamespaceName, DirectoryError> {
    Ok(NamespaceName::try_from(name)?)
}

/// A bucket's key in the metadata, which is text: what is no letter or digit is written as `%` and its number.
fn bucket_key(bucket_type: &str, bucket: &[u8]) -> Result<String, DirectoryError> {
    let mut key = String::new();
    for (place, part) in [bucket_type.as_bytes(), bucket].into_iter().enumerate() {
        if place > 0 {
            key.push('/');
        }
        for byte in part {
            if byte.is_ascii_alphanumeric() || b"-_.".contains(byte) {
                key.push(char::from(*byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(key, "%{byte:02x}");
            }
        }
    }
    if key.len() > METADATA_KEY_BYTES_MAX { Err(DirectoryError::BucketName) } else { Ok(key) }
}

fn given(metadata: &Metadata, of: &str, key: &str) -> Option<Overrides> {
    let name = NamespaceName::try_from(of).ok()?;
    metadata.namespace(&name)?.value(key).map(Overrides::from_bytes)
}

/// How far a type is; none where there is none. The default type is always in use.
pub fn type_stage(metadata: &Metadata, bucket_type: &str) -> Option<Stage> {
    if bucket_type == DEFAULT_TYPE {
        return Some(Stage::Active);
    }
    metadata.namespace(&NamespaceName::try_from(TYPES).ok()?)?.stage(bucket_type)
}

/// The types that were created, with how far they are.
pub fn types(metadata: &Metadata) -> Vec<(String, Stage)> {
    let Some(all) = NamespaceName::try_from(TYPES).ok().and_then(|name| metadata.namespace(&name)) else {
        return Vec::new();
    };
    all.keys().filter_map(|key| Some((key.to_owned(), all.stage(key)?))).collect()
}

fn of_type(metadata: &Metadata, bucket_type: &str) -> Result<Overrides, DirectoryError> {
    if bucket_type == DEFAULT_TYPE {
        return Ok(Overrides::default());
    }
    // What was asked for may be anything, and comes back: no more of it than a type can be called.
    let shown = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    given(metadata, TYPES, bucket_type).ok_or_else(|| {
        DirectoryError::UnknownType(bucket_type.chars().take(TYPE_BYTES_MAX).map(shown).collect())
    })
}

/// The properties of a type that is in use; `quorum` is what the service has where nothing is given.
pub fn type_props(
    metadata: &Metadata,
    bucket_type: &str,
    quorum: QuorumDefaults,
) -> Result<BucketProps, DirectoryError> {
    let of_type = of_type(metadata, bucket_type)?;
    Ok(BucketProps::in_force(bucket_type != DEFAULT_TYPE, quorum, &of_type, &Overrides::default()))
}

/// The properties of a bucket: what every request for one of its objects begins with.
pub fn bucket_props(
    metadata: &Metadata,
    bucket_type: &str,
    bucket: &[u8],
    quorum: QuorumDefaults,
) -> Result<BucketProps, DirectoryError> {
    let of_type = of_type(metadata, bucket_type)?;
    // A bucket whose name is too long has none of its own.
    let own = bucket_key(bucket_type, bucket).ok().and_then(|key| given(metadata, BUCKETS, &key));
    Ok(BucketProps::in_force(bucket_type != DEFAULT_TYPE, quorum, &of_type, &own.unwrap_or_default()))
}

/// The fewest replicas that an entry in use ever gave, whoever has overwritten whom; none where none did.
fn least_given(metadata: &Metadata, of: &str, key: &str) -> Option<usize> {
    let name = NamespaceName::try_from(of).ok()?;
    let versions = metadata.namespace(&name)?.siblings(key);
    let in_use = versions.filter(|version| version.stage == Stage::Active);
    in_use.filter_map(|version| Overrides::from_bytes(&version.value).least_n_val()).min()
}

/// The fewest replicas that an object of a bucket may have: not those of now, but of all times, because what was put
/// when there were fewer may lie with no more. What a list of its keys has to count on.
pub fn least_n_val_of_bucket(metadata: &Metadata, bucket_type: &str, bucket: &[u8], n_val: usize) -> usize {
    let now =
        bucket_props(metadata, bucket_type, bucket, QuorumDefaults::of(n_val)).map_or(1, |props| props.n_val);
    let own = bucket_key(bucket_type, bucket).ok().and_then(|key| least_given(metadata, BUCKETS, &key));
    // Also where the bucket has its own: something may have been put before it had.
    let ever = [own, least_given(metadata, TYPES, bucket_type)];
    ever.into_iter().flatten().min().map_or(now, |least| least.clamp(1, now))
}

/// The same of all buckets of a type.
pub fn least_n_val_of_type(metadata: &Metadata, bucket_type: &str, n_val: usize) -> usize {
    let now = type_props(metadata, bucket_type, QuorumDefaults::of(n_val)).map_or(1, |props| props.n_val);
    let within = bucket_key(bucket_type, b"").unwrap_or_default();
    let buckets = NamespaceName::try_from(BUCKETS).ok().and_then(|name| metadata.namespace(&name));
    let keys = buckets.into_iter().flat_map(|all| all.keys()).filter(|key| key.starts_with(&within));
    let of_buckets = keys.filter_map(|key| least_given(metadata, BUCKETS, key));
    let ever = of_buckets.chain(least_given(metadata, TYPES, bucket_type)).min();
    ever.map_or(now, |least| least.clamp(1, now))
}

/// Creates a type, or one that is not active yet anew. It can be used when every member has it and it is activated.
pub fn create_type(
    metadata: &mut Metadata,
    bucket_type: &str,
    asked: &Map<String, Value>,
    quorum: QuorumDefaults,
    at: At,
) -> Result<(), DirectoryError> {
    check_type(bucket_type)?;
    if [DEFAULT_TYPE, RESERVED].contains(&bucket_type) {
        return Err(DirectoryError::Reserved(bucket_type.to_owned()));
    }
    if type_stage(metadata, bucket_type) == Some(Stage::Active) {
        return Err(DirectoryError::Active(bucket_type.to_owned()));
    }
    let (none, defaults) = (Overrides::default(), BucketProps::defaults(true, quorum));
    let given = none.change(asked, &defaults, Target::NewType, quorum.n_val)?;
    Ok(metadata.create(&namespace(TYPES)?, bucket_type, given.to_bytes(), at)?)
}

/// Brings a type into use. `members` are all that must have it.
pub fn activate_type(
    metadata: &mut Metadata,
    bucket_type: &str,
    members: &[NodeId],
) -> Result<(), DirectoryError> {
    Ok(metadata.activate(&namespace(TYPES)?, bucket_type, members)?)
}

/// Changes properties of a type that is in use.
pub fn update_type(
    metadata: &mut Metadata,
    bucket_type: &str,
    asked: &Map<String, Value>,
    quorum: QuorumDefaults,
    at: At,
) -> Result<(), DirectoryError> {
    if bucket_type == DEFAULT_TYPE {
        return Err(DirectoryError::Reserved(bucket_type.to_owned()));
    }
    let before = of_type(metadata, bucket_type)?;
    let now = type_props(metadata, bucket_type, quorum)?;
    let after = before.change(asked, &now, Target::ActiveType, quorum.n_val)?;
    let after = after.remembering(least_given(metadata, TYPES, bucket_type));
    Ok(metadata.put(&namespace(TYPES)?, bucket_type, after.to_bytes(), at)?)
}

/// Changes a bucket's own properties.
pub fn set_bucket(
    metadata: &mut Metadata,
    (bucket_type, bucket): (&str, &[u8]),
    asked: &Map<String, Value>,
    quorum: QuorumDefaults,
    at: At,
) -> Result<(), DirectoryError> {
    let now = bucket_props(metadata, bucket_type, bucket, quorum)?;
    let key = bucket_key(bucket_type, bucket)?;
    let before = given(metadata, BUCKETS, &key).unwrap_or_default();
    let after = before.change(asked, &now, Target::Bucket, quorum.n_val)?;
    let after = after.remembering(least_given(metadata, BUCKETS, &key));
    Ok(metadata.put(&namespace(BUCKETS)?, &key, after.to_bytes(), at)?)
}

/// Takes a bucket's own properties away: it has its type's again. Says whether there were any.
pub fn reset_bucket(
    metadata: &mut Metadata,
    bucket_type: &str,
    bucket: &[u8],
    n_val: usize,
    at: At,
) -> Result<bool, DirectoryError> {
    of_type(metadata, bucket_type)?;
    let key = bucket_key(bucket_type, bucket)?;
    let had_any = given(metadata, BUCKETS, &key).is_some_and(|given| !given.is_empty());
    match least_given(metadata, BUCKETS, &key).filter(|least| *least < n_val) {
        Some(least) => {
            let remembered = Overrides::default().remembering(Some(least));
            metadata.put(&namespace(BUCKETS)?, &key, remembered.to_bytes(), at)?;
        }
        None => _ = metadata.remove(&namespace(BUCKETS)?, &key),
    }
    Ok(had_any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::clock::hybrid::HybridTime;
    use ringwork_core::ids::{Boot, ClusterId};
    use ringwork_core::metadata::Said;
    use serde_json::json;

    const THREE: QuorumDefaults = QuorumDefaults::of(3);

    fn at(metadata: &Metadata, time: u64) -> At {
        let now = HybridTime(time);
        At { life: metadata.begin_life(NodeId([1; 16]), now), now }
    }

    fn asked(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn empty() -> Metadata {
        Metadata::new(ClusterId([7; 16]))
    }

    /// What the node says of itself, after which its entries are ready.
    fn everybody_has_it(metadata: &mut Metadata) {
        let node = NodeId([1; 16]);
        let said = Said { having: metadata.having(), seen: metadata.stamp(), ..Said::default() };
        metadata.state(node, Boot(1), &said).unwrap();
        assert!(metadata.note_ready(&[node]));
    }

    #[test]
    fn a_type_is_created_known_everywhere_and_then_used() {
        let mut metadata = empty();
        let now = at(&metadata, 1);
        assert_eq!(type_props(&metadata, "maps", THREE), Err(DirectoryError::UnknownType("maps".into())));
        create_type(&mut metadata, "maps", &asked(json!({"datatype": "map"})), THREE, now).unwrap();
        assert_eq!(type_stage(&metadata, "maps"), Some(Stage::Created));
        assert!(bucket_props(&metadata, "maps", b"b", THREE).is_err(), "not in use yet");
        let early = activate_type(&mut metadata, "maps", &[NodeId([1; 16])]);
        assert!(matches!(early, Err(DirectoryError::Activation(ActivationRefusal::NotReady { .. }))));
        everybody_has_it(&mut metadata);
        activate_type(&mut metadata, "maps", &[NodeId([1; 16])]).unwrap();
        assert_eq!(types(&metadata), [("maps".to_owned(), Stage::Active)]);
        let props = bucket_props(&metadata, "maps", b"b", THREE).unwrap();
        assert!(props.allow_mult && props.datatype.is_some());
        let again = create_type(&mut metadata, "maps", &Map::new(), THREE, now);
        assert_eq!(again, Err(DirectoryError::Active("maps".into())));
        update_type(&mut metadata, "maps", &asked(json!({"r": 1})), THREE, now).unwrap();
        assert_eq!(type_props(&metadata, "maps", THREE).unwrap().to_json()["r"], json!(1));
        let other = update_type(&mut metadata, "maps", &asked(json!({"datatype": "set"})), THREE, now);
        assert!(matches!(other, Err(DirectoryError::Props(_))));
    }

    #[test]
    fn a_bucket_has_its_own_properties_until_they_are_reset() {
        let mut metadata = empty();
        let now = at(&metadata, 1);
        let name = ("default", b"a/b\0".as_slice());
        set_bucket(&mut metadata, name, &asked(json!({"allow_mult": true, "r": 1})), THREE, now).unwrap();
        set_bucket(&mut metadata, name, &asked(json!({"r": 2})), THREE, now).unwrap();
        let props = bucket_props(&metadata, name.0, name.1, THREE).unwrap();
        assert_eq!((props.allow_mult, &props.to_json()["r"]), (true, &json!(2)));
        assert!(!bucket_props(&metadata, "default", b"a", THREE).unwrap().allow_mult);
        assert_eq!(least_n_val_of_type(&metadata, "none", 3), 1);
        assert!(set_bucket(&mut metadata, ("none", b"b"), &Map::new(), THREE, now).is_err());
        let wrong = set_bucket(&mut metadata, name, &asked(json!({"r": 9, "w": 1})), THREE, now);
        assert!(matches!(wrong, Err(DirectoryError::Props(_))));
        assert_eq!(bucket_props(&metadata, name.0, name.1, THREE).unwrap(), props, "all or nothing");
        assert_eq!(reset_bucket(&mut metadata, name.0, name.1, 3, now), Ok(true));
        assert_eq!(reset_bucket(&mut metadata, name.0, name.1, 3, now), Ok(false));
        assert_eq!(bucket_props(&metadata, name.0, name.1, THREE), Ok(BucketProps::defaults(false, THREE)));
    }

    fn one(other: u8) -> At {
        At { life: empty().begin_life(NodeId([other; 16]), HybridTime(1)), now: HybridTime(5) }
    }

    #[test]
    fn lists_count_on_the_fewest_replicas_that_there_ever_were() {
        let mut metadata = empty();
        let now = at(&metadata, 1);
        let few = ("default", b"few".as_slice());
        let n = |n: usize| asked(json!({ "n_val": n }));
        let least = |metadata: &Metadata| {
            (
                least_n_val_of_bucket(metadata, few.0, few.1, 3),
                least_n_val_of_bucket(metadata, few.0, b"other", 3),
                least_n_val_of_type(metadata, few.0, 3),
            )
        };
        assert_eq!(least(&metadata), (3, 3, 3));
        set_bucket(&mut metadata, few, &n(3), THREE, now).unwrap();
        assert_eq!(least(&metadata), (3, 3, 3));
        set_bucket(&mut metadata, few, &n(2), THREE, now).unwrap();
        assert_eq!(least(&metadata), (2, 3, 2));
        set_bucket(&mut metadata, few, &n(3), THREE, now).unwrap();
        assert_eq!(least(&metadata), (2, 3, 2), "raised again");
        let shown = bucket_props(&metadata, few.0, few.1, THREE).unwrap();
        assert_eq!((shown.n_val, shown.to_json().get("least_n_val")), (3, None));
        let given = set_bucket(&mut metadata, few, &asked(json!({"least_n_val": 3})), THREE, now);
        assert!(matches!(given, Err(DirectoryError::Props(_))), "nobody gives it");
        assert_eq!(reset_bucket(&mut metadata, few.0, few.1, 3, now), Ok(true));
        assert_eq!(reset_bucket(&mut metadata, few.0, few.1, 3, now), Ok(false));
        assert_eq!(least(&metadata), (2, 3, 2), "taken away");
        set_bucket(&mut metadata, few, &n(1), THREE, now).unwrap();
        set_bucket(&mut metadata, few, &n(3), THREE, now).unwrap();
        assert_eq!(least(&metadata), (1, 3, 1));
    }

    #[test]
    fn of_two_changes_at_once_the_fewer_replicas_count_also_when_one_of_them_is_overwritten() {
        let (mut metadata, mut other) = (empty(), empty());
        let bucket = ("default", b"b".as_slice());
        let n = |n: usize| asked(json!({ "n_val": n }));
        set_bucket(&mut metadata, bucket, &n(3), THREE, one(2)).unwrap();
        set_bucket(&mut other, bucket, &n(1), THREE, one(1)).unwrap();
        metadata.join(&other, |_| true).unwrap();
        let found = |metadata: &Metadata| {
            let now = bucket_props(metadata, bucket.0, bucket.1, THREE).unwrap().n_val;
            (now, least_n_val_of_bucket(metadata, bucket.0, bucket.1, 3))
        };
        assert_eq!(found(&metadata), (3, 1));
        set_bucket(&mut metadata, bucket, &n(3), THREE, one(2)).unwrap();
        assert_eq!(found(&metadata), (3, 1));
    }

    #[test]
    fn what_a_type_had_counts_for_its_buckets_once_it_is_in_use() {
        let mut metadata = empty();
        let now = at(&metadata, 1);
        let n = |n: usize| asked(json!({ "n_val": n }));
        create_type(&mut metadata, "t", &n(1), THREE, now).unwrap();
        create_type(&mut metadata, "t", &n(2), THREE, now).unwrap();
        everybody_has_it(&mut metadata);
        activate_type(&mut metadata, "t", &[NodeId([1; 16])]).unwrap();
        let least = |metadata: &Metadata| {
            (least_n_val_of_bucket(metadata, "t", b"b", 3), least_n_val_of_type(metadata, "t", 3))
        };
        assert_eq!(least(&metadata), (2, 2), "with one replica nothing was put");
        update_type(&mut metadata, "t", &n(3), THREE, now).unwrap();
        set_bucket(&mut metadata, ("t", b"b"), &n(3), THREE, now).unwrap();
        assert_eq!(type_props(&metadata, "t", THREE).unwrap().n_val, 3);
        assert_eq!(least(&metadata), (2, 2));
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let mut metadata = empty();
        let now = at(&metadata, 1);
        for name in ["default", "any"] {
            let refused = create_type(&mut metadata, name, &Map::new(), THREE, now);
            assert_eq!(refused, Err(DirectoryError::Reserved(name.into())));
        }
        assert!(matches!(
            create_type(&mut metadata, "", &Map::new(), THREE, now),
            Err(DirectoryError::Name(_))
        ));
        let long = set_bucket(&mut metadata, ("default", &[0; 300]), &Map::new(), THREE, now);
        assert_eq!(long, Err(DirectoryError::BucketName));
        assert_eq!(bucket_key("t", b"a/b%").unwrap(), "t/a%2fb%25");
    }
}
