//! Where a request on Riak's routes leads: its path taken apart, and paths put together again for links. It decides
//! which paths there are, in both of Riak's schemes, and that a `+` in a path is a space, as Riak's clients write it.
//! It does not know which methods a place takes.

use super::fault::Fault;
use crate::http::problem::quoted;
use ringwork_kv::DEFAULT_TYPE;

/// In which form a client names things, and is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scheme {
    /// `/riak/B/K`: the first one, which has no types.
    Old,
    /// `/buckets/B/keys/K`.
    Buckets,
    /// `/types/T/buckets/B/keys/K`.
    Types,
}

/// A bucket as a request names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bucket {
    pub(super) scheme: Scheme,
    pub(super) bucket_type: String,
    pub(super) name: Vec<u8>,
}

/// A step of a walk: which links it follows, and whether what it comes to is shown. None: any; as it is for its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) bucket: Option<Vec<u8>>,
    pub(super) tag: Option<Vec<u8>>,
    pub(super) keep: Option<bool>,
}

impl Step {
    /// `BUCKET,TAG,KEEP`, each of which may be `_`. Some clients encode the commas.
    fn of(raw: &str) -> Result<Self, Fault> {
        let parts: Vec<Vec<u8>> = if raw.contains(',') {
            raw.split(',').map(decode).collect::<Result<_, _>>()?
        } else {
            decode(raw)?.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect()
        };
        let any = |part: &Vec<u8>| (part != b"_").then(|| part.clone());
        match parts.as_slice() {
            [bucket, tag, keep] => {
                let keep = match keep.as_slice() {
                    b"_" => None,
                    b"0" => Some(false),
                    b"1" => Some(true),
                    _ => return Err(no_step(raw)),
                };
                Ok(Self { bucket: any(bucket), tag: any(tag), keep })
            }
            _ => Err(no_step(raw)),
        }
    }
}

fn no_step(raw: &str) -> Fault {
    Fault::bad_request(format!(
        "{:?} is no step of a walk: BUCKET,TAG,KEEP is expected, each of which may be _ for any, and KEEP 0 or 1",
        quoted(raw)
    ))
}

/// A place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The buckets of a type.
    Buckets(String),
    /// The properties of a type.
    TypeProps(String),
    /// A bucket of the old scheme: its properties and its keys.
    OldBucket(Bucket),
    /// The properties of a bucket.
    Props(Bucket),
    /// The keys of a bucket.
    Keys(Bucket),
    /// An object.
    Object(Bucket, Vec<u8>),
    /// Who answers for an object.
    Preflist(Bucket, Vec<u8>),
    /// A counter of Riak 1.4.
    Counter(Bucket, Vec<u8>),
    /// A walk along the links of an object.
    Walk(Bucket, Vec<u8>, Vec<Step>),
    /// What Riak has there and ringwork does not yet.
    Missing(&'static str),
    /// Nothing.
    Nowhere,
}

impl Target {
    /// Where a path leads, as it stands in the request.
    pub(super) fn of(path: &str) -> Result<Self, Fault> {
        let mut raw: Vec<&str> = path.split('/').skip(1).collect();
        if raw.len() > 1 && raw.last() == Some(&"") {
            raw.pop();
        }
        match raw.as_slice() {
            ["buckets"] | ["riak"] => Ok(Self::Buckets(DEFAULT_TYPE.to_owned())),
            ["buckets", bucket, rest @ ..] => {
                Self::within(Scheme::Buckets, DEFAULT_TYPE.to_owned(), bucket, rest)
            }
            ["types", of, "props"] => Ok(Self::TypeProps(text(of)?)),
            ["types", of, "buckets"] => Ok(Self::Buckets(text(of)?)),
            ["types", of, "buckets", bucket, rest @ ..] => {
                Self::within(Scheme::Types, text(of)?, bucket, rest)
            }
            ["riak", bucket, rest @ ..] => {
                let bucket = Bucket {
                    scheme: Scheme::Old,
                    bucket_type: DEFAULT_TYPE.to_owned(),
                    name: decode(bucket)?,
                };
                Ok(match rest {
                    [] => Self::OldBucket(bucket),
                    [key] => Self::Object(bucket, decode(key)?),
                    [key, steps @ ..] => Self::walk(bucket, key, steps)?,
                })
            }
            _ => Ok(Self::Nowhere),
        }
    }

    fn within(scheme: Scheme, bucket_type: String, bucket: &str, rest: &[&str]) -> Result<Self, Fault> {
        let bucket = Bucket { scheme, bucket_type, name: decode(bucket)? };
        Ok(match rest {
            ["props"] => Self::Props(bucket),
            ["keys"] => Self::Keys(bucket),
            ["keys", key] => Self::Object(bucket, decode(key)?),
            ["keys", key, "preflist"] => Self::Preflist(bucket, decode(key)?),
            // Links name no type.
            ["keys", _, _, ..] if scheme == Scheme::Types => Self::Missing("link walking in bucket types"),
            ["keys", key, steps @ ..] => Self::walk(bucket, key, steps)?,
            ["counters", key] => Self::Counter(bucket, decode(key)?),
            ["index", ..] => Self::Missing("secondary indexes"),
            ["datatypes", ..] => Self::Missing("data types"),
            _ => Self::Nowhere,
        })
    }

    fn walk(bucket: Bucket, key: &str, steps: &[&str]) -> Result<Self, Fault> {
        let steps = steps.iter().map(|raw| Step::of(raw)).collect::<Result<_, _>>()?;
        Ok(Self::Walk(bucket, decode(key)?, steps))
    }
}

impl Bucket {
    /// Its path.
    pub(super) fn path(&self) -> String {
        let name = encode(&self.name);
        match self.scheme {
            Scheme::Old => format!("/riak/{name}"),
            Scheme::Buckets => format!("/buckets/{name}"),
            Scheme::Types => format!("/types/{}/buckets/{name}", encode(self.bucket_type.as_bytes())),
        }
    }

    /// The path of an object in it.
    pub(super) fn object_path(&self, key: &[u8]) -> String {
        let keys = if self.scheme == Scheme::Old { "" } else { "/keys" };
        format!("{}{keys}/{}", self.path(), encode(key))
    }
}

fn text(raw: &str) -> Result<String, Fault> {
    String::from_utf8(decode(raw)?)
        .map_err(|_| Fault::bad_request("the bucket type in the path is not UTF-8"))
}

/// The bytes that a segment of a path means.
pub(super) fn decode(raw: &str) -> Result<Vec<u8>, Fault> {
    decoded(raw, false).ok_or_else(|| {
        Fault::bad_request("the path has a '%' that is not followed by two hexadecimal digits")
    })
}

/// The bytes of a text in which a `%` may also stand for itself, as it does in links that clients write.
pub(super) fn decode_leniently(raw: &str) -> Vec<u8> {
    decoded(raw, true).unwrap_or_default()
}

fn decoded(raw: &str, lenient: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match (digit(behind.first()), digit(behind.get(1))) {
                (Some(high), Some(low)) => {
                    bytes.push((high * 16 + low) as u8);
                    rest = behind.get(2..).unwrap_or_default();
                }
                _ if lenient => bytes.push(b'%'),
                _ => return None,
            },
            other => bytes.push(*other),
        }
    }
    Some(bytes)
}

/// Bytes as a segment of a path: everything but letters, digits and `-._~` is percent-encoded.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(scheme: Scheme, bucket_type: &str, name: &str) -> Bucket {
        Bucket { scheme, bucket_type: bucket_type.to_owned(), name: name.as_bytes().to_vec() }
    }

    fn step(bucket: Option<&str>, tag: Option<&str>, keep: Option<bool>) -> Step {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        Step { bucket: bytes(bucket), tag: bytes(tag), keep }
    }

    #[test]
    fn a_step_that_is_none_is_refused() {
        for step in ["x", "a,b", "a,b,2", "a,b,1,", "a,b,", "%zz,_,_", "preflists"] {
            let refused = Target::of(&format!("/buckets/b/keys/k/{step}")).unwrap_err();
            assert_eq!(refused.status.as_u16(), 400, "{step}");
        }
    }

    #[test]
    fn every_place_has_its_path_in_each_scheme() {
        let plain = || bucket(Scheme::Buckets, "default", "b");
        let typed = || bucket(Scheme::Types, "t", "b");
        let old = || bucket(Scheme::Old, "default", "b");
        let key = || b"k".to_vec();
        for (path, target) in [
            ("/buckets", Target::Buckets("default".into())),
            ("/buckets/", Target::Buckets("default".into())),
            ("/buckets/b/props", Target::Props(plain())),
            ("/buckets/b/keys", Target::Keys(plain())),
            ("/buckets/b/keys/", Target::Keys(plain())),
            ("/buckets/b/keys/k", Target::Object(plain(), key())),
            ("/buckets/b/keys/k/preflist", Target::Preflist(plain(), key())),
            (
                "/buckets/b/keys/k/b2,_,1",
                Target::Walk(plain(), key(), vec![step(Some("b2"), None, Some(true))]),
            ),
            (
                "/buckets/b/keys/k/b%2C2,%5F,0",
                Target::Walk(plain(), key(), vec![step(Some("b,2"), None, Some(false))]),
            ),
            ("/types/t/buckets/b/keys/k/_,_,_", Target::Missing("link walking in bucket types")),
            ("/buckets/b/counters/k", Target::Counter(plain(), key())),
            ("/buckets/b/index/f_int/1", Target::Missing("secondary indexes")),
            ("/buckets/b", Target::Nowhere),
            ("/types/t/props", Target::TypeProps("t".into())),
            ("/types/t/buckets", Target::Buckets("t".into())),
            ("/types/t/buckets/b/keys/k", Target::Object(typed(), key())),
            ("/types/t/buckets/b/datatypes/k", Target::Missing("data types")),
            ("/types/t", Target::Nowhere),
            ("/riak", Target::Buckets("default".into())),
            ("/riak/b", Target::OldBucket(old())),
            ("/riak/b/k", Target::Object(old(), key())),
            (
                "/riak/b/k/_,t+u,_/_%2Ct%2C1",
                Target::Walk(
                    old(),
                    key(),
                    vec![step(None, Some("t u"), None), step(None, Some("t"), Some(true))],
                ),
            ),
            ("/", Target::Nowhere),
        ] {
            assert_eq!(Target::of(path).unwrap(), target, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_as_bytes_and_a_plus_is_a_space() {
        let target = Target::of("/buckets/a%2Fb/keys/c+d%ff%2B").unwrap();
        assert_eq!(target, Target::Object(bucket(Scheme::Buckets, "default", "a/b"), b"c d\xff+".to_vec()));
        for path in ["/buckets/%/keys/k", "/buckets/b/keys/%4", "/buckets/b/keys/%zz", "/types/%ff/props"] {
            assert!(Target::of(path).is_err(), "{path}");
        }
        assert_eq!(decode_leniently("tag%20%^&*%"), b"tag %^&*%");
    }

    #[test]
    fn paths_are_put_together_as_the_client_names_things() {
        let path = |scheme| bucket(scheme, "t u", "b/c").object_path(b"k \xff");
        assert_eq!(path(Scheme::Types), "/types/t%20u/buckets/b%2Fc/keys/k%20%FF");
        assert_eq!(path(Scheme::Buckets), "/buckets/b%2Fc/keys/k%20%FF");
        assert_eq!(path(Scheme::Old), "/riak/b%2Fc/k%20%FF");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes.clone());
            prop_assert_eq!(decode_leniently(&encode(&bytes)), bytes);
        }

        #[test]
        fn any_path_leads_somewhere_or_is_refused(path in "(/(buckets|types|riak|keys|%[0-9a-f]{0,2}|.{0,6}))*") {
            let _ = Target::of(&path);
            let _ = decode_leniently(&path);
        }
    }
}
