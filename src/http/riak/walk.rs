//! Link walking: from an object along its links, step by step, `/buckets/B/keys/K/BUCKET,TAG,KEEP/…`. It decides
//! which links a step follows, what of a walk is shown, and how much is followed at most. Objects are read like any
//! others.
//!
//! A step follows the links of all objects that the step before it came to, each object once. What a step came to is
//! shown if it says so, or if it is the last one and does not say that it is not. An object that is not there is left
//! out. Of one with siblings the links of all are followed, and each sibling is a part.

use super::fault::Fault;
use super::object::{Asked, marked};
use super::path::{Bucket, Step};
use super::render::{View, in_parts};
use super::{Riak, count};
use crate::kv::Request;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream::{StreamExt, iter};
use ringwork_core::quorum::Refusal;
use ringwork_kv::{Object, ObjectName};
use std::collections::BTreeSet;

/// Steps of one walk; each multiplies what is read.
const STEPS_MAX: usize = 8;
/// Objects that one walk reads.
const OBJECTS_MAX: usize = 1000;
/// Bytes of all objects that one walk reads.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Objects that are read at once.
const AT_ONCE: usize = 8;

/// An object that a walk came to.
struct Met {
    bucket: Bucket,
    name: ObjectName,
    object: Object,
}

/// The links that a step follows, each once, in the order of their objects.
fn followed(step: &Step, from: &[Met]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut known = BTreeSet::new();
    let siblings = from.iter().flat_map(|met| met.object.siblings());
    let links = siblings.flat_map(|sibling| sibling.content.links.iter());
    links
        .filter(|link| step.bucket.as_ref().is_none_or(|bucket| **bucket == *link.bucket))
        .filter(|link| step.tag.as_ref().is_none_or(|tag| *tag == link.tag.as_bytes()))
        .map(|link| (link.bucket.to_vec(), link.key.to_vec()))
        .filter(|link| known.insert(link.clone()))
        .collect()
}

/// Whether what a step came to is shown.
fn is_shown(place: usize, steps: &[Step]) -> bool {
    let last = place + 1 == steps.len();
    steps.get(place).is_some_and(|step| step.keep.unwrap_or(last))
}

/// What a step came to, as a part of the answer that has a part for each value.
fn part(met: &[Met]) -> Vec<u8> {
    let objects = met.iter().map(|met| View { object: &met.object, name: &met.name, bucket: &met.bucket });
    let (boundary, body) = in_parts(&objects.flat_map(|view| view.parts()).collect::<Vec<_>>());
    [format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n").into_bytes(), body].concat()
}

/// The answer to a walk from an object.
pub(super) async fn get(
    riak: &Riak,
    request: &HttpRequest,
    (bucket, key): (&Bucket, &[u8]),
    steps: &[Step],
) -> Result<HttpResponse, Fault> {
    count(&riak.counts.gets);
    if steps.len() > STEPS_MAX {
        return Err(Fault::bad_request(format!("{} steps: at most {STEPS_MAX} are allowed", steps.len())));
    }
    let asked = Asked::of(riak, request, bucket, key)?;
    let wanted = asked.request()?;
    let ends = riak.app.core.clock.moment() + wanted.within;
    let got = riak.store.get(&wanted).await.map_err(|failure| Fault::of(failure, asked.n()))?;
    if got.object.is_dead() {
        return Ok(marked(Err(Fault::not_found()), got.degraded));
    }
    let mut degraded = got.degraded;
    let mut here = vec![Met { bucket: bucket.clone(), name: asked.name.clone(), object: got.object }];
    let (mut shown, mut objects, mut bytes, mut rooms) = (Vec::new(), 0, 0, Vec::new());
    for (place, step) in steps.iter().enumerate() {
        let links = followed(step, &here);
        objects += links.len();
        if objects > OBJECTS_MAX {
            return Err(too_far(format!("{OBJECTS_MAX} objects")));
        }
        let reads = links.into_iter().map(|(of, key)| async move {
            let bucket = Bucket { name: of, ..bucket.clone() };
            let name = ObjectName::new(&bucket.bucket_type, &bucket.name, &key)?;
            let props = riak.store.bucket_props(&bucket.bucket_type, &bucket.name)?;
            let within = ends.saturating_sub(riak.app.core.clock.moment());
            let got = riak.store.get(&Request { within, ..Request::new(&name, &props) }).await;
            let got = got.map_err(|failure| Fault::of(failure, props.n_val))?;
            Ok::<_, Fault>((got.degraded, Met { bucket, name, object: got.object }))
        });
        let mut reads = std::pin::pin!(iter(reads).buffered(AT_ONCE));
        here = Vec::new();
        while let Some(read) = reads.next().await {
            let (is_degraded, met) = read?;
            degraded |= is_degraded;
            bytes += met.object.bytes();
            if bytes > BYTES_MAX {
                return Err(too_far(format!("{BYTES_MAX} bytes")));
            }
            let room = riak.app.answers.reserve(met.object.bytes());
            rooms.push(room.ok_or_else(|| Fault::refused(&Refusal::Overloaded))?);
            if !met.object.is_dead() {
                here.push(met);
            }
        }
        if is_shown(place, steps) {
            shown.push(part(&here));
        }
    }
    let (boundary, body) = in_parts(&shown);
    let mut response = HttpResponse::Ok();
    response.content_type(format!("multipart/mixed; boundary={boundary}"));
    Ok(marked(Ok(response.body(riak.held(body.into())?)), degraded))
}

fn too_far(what: String) -> Fault {
    Fault::bad_request(format!("the walk leads to more than {what}; name buckets and tags in its steps"))
}

#[cfg(test)]
mod tests {
    use super::super::path::Scheme;
    use super::*;
    use ringwork_core::clock::dotted::CausalContext;
    use ringwork_core::ids::{ActorId, Dot};
    use ringwork_kv::{Conflicts, Content, Link};

    fn met(key: &str, links: &[(&str, &str, &str)]) -> Met {
        let bucket = Bucket { scheme: Scheme::Buckets, bucket_type: "default".into(), name: b"b".to_vec() };
        let link = |(bucket, key, tag): &(&str, &str, &str)| Link {
            bucket: (*bucket).into(),
            key: (*key).into(),
            tag: (*tag).to_owned(),
        };
        let content = Content { links: links.iter().map(link).collect(), ..Content::of("v") };
        let mut object = Object::new();
        let dot = Dot { actor: ActorId(1), counter: 1 };
        assert!(object.put(content, &CausalContext::new(), dot, Conflicts::Siblings));
        let name = ObjectName::new("default", b"b", key.as_bytes()).unwrap();
        Met { bucket, name, object }
    }

    fn step(bucket: Option<&str>, tag: Option<&str>, keep: Option<bool>) -> Step {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        Step { bucket: bytes(bucket), tag: bytes(tag), keep }
    }

    #[test]
    fn a_step_follows_each_link_that_it_means_once() {
        let from = [
            met("a", &[("b", "x", "t"), ("c", "x", "t"), ("b", "y", "u")]),
            met("b", &[("b", "y", "t"), ("b", "x", "v")]),
        ];
        let keys = |bucket, tag| -> Vec<String> {
            let found = followed(&step(bucket, tag, None), &from).into_iter();
            found.map(|(bucket, key)| String::from_utf8([bucket, key].concat()).unwrap()).collect()
        };
        assert_eq!(keys(None, None), ["bx", "cx", "by"]);
        assert_eq!(keys(Some("b"), None), ["bx", "by"]);
        assert_eq!(keys(None, Some("t")), ["bx", "cx", "by"]);
        assert_eq!(keys(Some("b"), Some("u")), ["by"]);
        assert_eq!(keys(Some("none"), None), [""; 0]);
    }

    #[test]
    fn the_last_step_is_shown_where_nothing_else_is_said() {
        let shown = |keeps: &[Option<bool>]| -> Vec<bool> {
            let steps: Vec<Step> = keeps.iter().map(|keep| step(None, None, *keep)).collect();
            (0..steps.len()).map(|place| is_shown(place, &steps)).collect()
        };
        assert_eq!(shown(&[None, None]), [false, true]);
        assert_eq!(shown(&[Some(true), Some(false)]), [true, false]);
    }
}
