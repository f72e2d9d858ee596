//! An object as an answer: status, headers, body. It decides how one value is shown, how several are, and how an object
//! that was deleted is. It does not know how the object was read.

use super::accept::Accept;
use super::fault::Fault;
use super::link;
use super::path::Bucket;
use super::value::{INDEX, META, VCLOCK};
use actix_web::http::StatusCode;
use actix_web::http::header::HttpDate;
use actix_web::web::Bytes;
use memchr::memmem;
use ringwork_core::ring::KeyHash;
use ringwork_kv::content::DEFAULT_CONTENT_TYPE;
use ringwork_kv::{Content, IndexTerm, Object, ObjectName, Sibling, context};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// What marks a tombstone.
pub(super) const DELETED: &str = "x-riak-deleted";
/// A date beyond has no form in HTTP.
const YEAR_9999_MS: u64 = 253_370_764_800_000;
const SIBLINGS_TEXT: &str = "text/plain";
const SIBLINGS_MULTIPART: &str = "multipart/mixed";

/// An answer in parts. Names of headers are lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// An object with what its client calls it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) object: &'a Object,
    pub(super) name: &'a ObjectName,
    pub(super) bucket: &'a Bucket,
}

impl View<'_> {
    fn vclock(&self) -> (String, String) {
        (VCLOCK.to_owned(), context::to_text(&self.object.context(), self.name))
    }

    /// The answer to a read, or to a write that is to return what is there now. With `vtag` the value of that name.
    pub(super) fn show(&self, accept: &Accept, vtag: Option<&str>) -> Result<Shown, Fault> {
        if self.object.is_dead() {
            return Ok(self.not_found());
        }
        let of_tag = vtag.map(|vtag| self.object.siblings().find(|sibling| sibling.vtag() == vtag));
        let mut siblings = self.object.siblings();
        match (of_tag, siblings.next(), siblings.next()) {
            (Some(None), ..) | (_, None, _) => Err(Fault::not_found()),
            (Some(Some(one)), ..) | (None, Some(one), None) => self.one(&one, accept),
            (None, Some(_), Some(_)) => self.several(accept),
        }
    }

    /// 404, with the causal context where there is a tombstone.
    pub(super) fn not_found(&self) -> Shown {
        let mut headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        if !self.object.is_empty() {
            headers.push(self.vclock());
            headers.push((DELETED.to_owned(), "true".to_owned()));
        }
        Shown { status: StatusCode::NOT_FOUND, headers, body: Bytes::from_static(b"not found\n") }
    }

    /// 304.
    pub(super) fn not_modified(&self) -> Shown {
        let mut headers = vec![self.vclock()];
        headers.extend(self.object.etag().map(|tag| ("etag".to_owned(), format!("\"{tag}\""))));
        Shown { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new() }
    }

    fn one(&self, sibling: &Sibling<'_>, accept: &Accept) -> Result<Shown, Fault> {
        let content = sibling.content;
        if content.deleted {
            return Ok(self.not_found());
        }
        let media_type = media_type(content);
        if !accept.admits(&media_type) {
            return Err(Fault::not_acceptable(&media_type));
        }
        let mut headers = vec![self.vclock(), ("etag".to_owned(), format!("\"{}\"", sibling.vtag()))];
        headers.extend(description(content, self.bucket));
        Ok(Shown { status: StatusCode::OK, headers, body: content.value.0.clone() })
    }

    fn several(&self, accept: &Accept) -> Result<Shown, Fault> {
        let Some(form) = accept.best(&[SIBLINGS_TEXT, SIBLINGS_MULTIPART]) else {
            return Err(Fault::not_acceptable("several siblings, as multipart/mixed or as text/plain"));
        };
        let mut headers = vec![self.vclock()];
        headers.extend(self.object.etag().map(|tag| ("etag".to_owned(), format!("\"{tag}\""))));
        headers.extend(self.object.last_modified_ms().map(|ms| ("last-modified".to_owned(), date(ms))));
        let body = if form == SIBLINGS_TEXT {
            headers.push(("content-type".to_owned(), SIBLINGS_TEXT.to_owned()));
            let mut text = "Siblings:\n".to_owned();
            self.object.siblings().for_each(|sibling| text.push_str(&(sibling.vtag() + "\n")));
            text.into()
        } else {
            let boundary = self.boundary();
            headers.push(("content-type".to_owned(), format!("{SIBLINGS_MULTIPART}; boundary={boundary}")));
            self.multipart(&boundary)
        };
        Ok(Shown { status: StatusCode::MULTIPLE_CHOICES, headers, body })
    }

    /// A text that stands in none of the values. A tag is no secret, so a value can have it; what then follows is a
    /// hash of all values, which none of them can hold.
    fn boundary(&self) -> String {
        let tag = self.object.etag().unwrap_or_default();
        let within = |value: &[u8]| memmem::find(value, tag.as_bytes()).is_some();
        let values = || self.object.siblings().map(|sibling| &*sibling.content.value);
        if values().any(within) { tag.clone() + &hash_of(&tag, values()) } else { tag }
    }

    /// The values are copied once, into room that is taken once: together they can be as large as a row.
    fn multipart(&self, boundary: &str) -> Bytes {
        let heads: Vec<Vec<u8>> = self.object.siblings().map(|sibling| self.head_of(&sibling)).collect();
        let values = || self.object.siblings().map(|sibling| &*sibling.content.value);
        let between = boundary.len() + "\r\n--\r\n--".len();
        let bytes: usize =
            heads.iter().map(Vec::len).sum::<usize>() + values().map(<[u8]>::len).sum::<usize>();
        let mut body = Vec::with_capacity(bytes + (heads.len() + 1) * between);
        for (head, value) in heads.iter().zip(values()) {
            body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
            body.extend_from_slice(head);
            body.extend_from_slice(value);
        }
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        body.into()
    }

    fn part(&self, sibling: &Sibling<'_>) -> Vec<u8> {
        [&self.head_of(sibling), &*sibling.content.value].concat()
    }

    /// What stands before a value in an answer of several.
    fn head_of(&self, sibling: &Sibling<'_>) -> Vec<u8> {
        let content = sibling.content;
        let mut headers = description(content, self.bucket);
        headers.push(("etag".to_owned(), sibling.vtag()));
        if content.deleted {
            headers.push((DELETED.to_owned(), "true".to_owned()));
        }
        let lines = headers.iter().map(|(name, value)| format!("{}: {value}\r\n", titled(name)));
        (lines.collect::<String>() + "\r\n").into_bytes()
    }

    /// Each value as a part of an answer that has several objects: with where it is, and its causal context.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let (_, vclock) = self.vclock();
        let place = self.bucket.object_path(self.name.key());
        let head = format!("X-Riak-Vclock: {vclock}\r\nLocation: {place}\r\n");
        self.object.siblings().map(|sibling| [head.as_bytes(), &self.part(&sibling)].concat()).collect()
    }
}

fn hash_of<'a>(seed: &str, texts: impl Iterator<Item = &'a [u8]>) -> String {
    let hash = texts.fold(KeyHash::of("boundary", seed.as_bytes()), |hash, text| {
        KeyHash::of("boundary", &[hash.0, KeyHash::of("boundary", text).0].concat())
    });
    hash.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn body_in_parts(boundary: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        body.extend_from_slice(part);
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

/// A boundary and a body of these parts, each with its headers. The boundary is a hash of them, which none can hold.
pub(super) fn in_parts(parts: &[Vec<u8>]) -> (String, Vec<u8>) {
    let boundary = hash_of("", parts.iter().map(Vec::as_slice));
    let body = body_in_parts(&boundary, parts);
    (boundary, body)
}

fn media_type(content: &Content) -> String {
    let content_type = match content.content_type.as_str() {
        "" => DEFAULT_CONTENT_TYPE,
        given => given,
    };
    match &content.charset {
        Some(charset) => format!("{content_type}; charset={charset}"),
        None => content_type.to_owned(),
    }
}

/// The headers that say what a value is.
fn description(content: &Content, bucket: &Bucket) -> Vec<(String, String)> {
    let mut headers = vec![
        ("content-type".to_owned(), media_type(content)),
        ("last-modified".to_owned(), date(content.modified.milliseconds())),
        ("link".to_owned(), link::header(bucket, &content.links)),
    ];
    headers.extend(
        content.content_encoding.iter().map(|encoding| ("content-encoding".to_owned(), encoding.clone())),
    );
    headers.extend(content.metadata.iter().map(|(name, value)| (format!("{META}{name}"), one_line(value))));
    let mut terms: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for entry in &content.indexes {
        let term = match &entry.term {
            IndexTerm::Integer(number) => number.to_string(),
            IndexTerm::Binary(term) => String::from_utf8_lossy(term).into_owned(),
        };
        terms.entry(&entry.field).or_default().push(term);
    }
    headers.extend(
        terms.into_iter().map(|(field, terms)| (format!("{INDEX}{field}"), one_line(&terms.join(", ")))),
    );
    headers
}

/// What came by another way than HTTP must not begin a header of its own.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn date(ms: u64) -> String {
    HttpDate::from(UNIX_EPOCH + Duration::from_millis(ms.min(YEAR_9999_MS))).to_string()
}

/// The name of a header as people write it.
fn titled(name: &str) -> String {
    let title = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(title).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::super::path::Scheme;
    use super::*;
    use actix_web::http::header::{ACCEPT, HeaderMap, HeaderValue};
    use ringwork_core::clock::dotted::CausalContext;
    use ringwork_core::clock::hybrid::HybridTime;
    use ringwork_core::ids::{ActorId, Dot};
    use ringwork_kv::{Conflicts, IndexEntry, Link};

    const MULTIPART: &str = "multipart/mixed, application/json, */*;q=0.5";

    fn accept(text: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(text).unwrap());
        Accept::of(&headers)
    }

    fn object(contents: Vec<Content>) -> Object {
        let mut object = Object::new();
        for (content, counter) in contents.into_iter().zip(1..) {
            let dot = Dot { actor: ActorId(1), counter };
            assert!(object.put(content, &CausalContext::new(), dot, Conflicts::Siblings));
        }
        object
    }

    fn show(object: &Object, accepted: &str, vtag: Option<&str>) -> Result<Shown, Fault> {
        let name = ObjectName::new("default", b"b", b"k").unwrap();
        let bucket = Bucket { scheme: Scheme::Buckets, bucket_type: "default".into(), name: b"b".to_vec() };
        View { object, name: &name, bucket: &bucket }.show(&accept(accepted), vtag)
    }

    fn header<'a>(shown: &'a Shown, name: &str) -> Option<&'a str> {
        let mut found = shown.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands twice");
        value
    }

    fn text(value: &str, ms: u64) -> Content {
        let modified = HybridTime::at_ms(ms);
        Content { content_type: "text/plain".into(), modified, ..Content::of(value) }
    }

    #[test]
    fn one_value_is_shown_with_all_that_describes_it() {
        let mut content = text("v", 1_000_000_065_500);
        content.charset = Some("utf-8".into());
        content.content_encoding = Some("gzip".into());
        content.metadata.insert("color".into(), "red".into());
        content.links.push(Link { bucket: "b2".into(), key: "k2".into(), tag: "t".into() });
        for (field, term) in [("age_int", "5"), ("age_int", "-1"), ("a_bin", "x")] {
            content.indexes.insert(IndexEntry::parse(field, term.as_bytes()).unwrap());
        }
        let object = object(vec![content]);
        let shown = show(&object, "*/*", None).unwrap();
        assert_eq!((shown.status.as_u16(), &*shown.body), (200, b"v".as_slice()));
        for (name, value) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-encoding", "gzip"),
            ("last-modified", "Sun, 09 Sep 2001 01:47:45 GMT"),
            ("link", "</buckets/b>; rel=\"up\", </buckets/b2/keys/k2>; riaktag=\"t\""),
            ("x-riak-meta-color", "red"),
            ("x-riak-index-age_int", "-1, 5"),
            ("x-riak-index-a_bin", "x"),
        ] {
            assert_eq!(header(&shown, name), Some(value), "{name}");
        }
        let tag = object.etag().unwrap();
        assert_eq!(header(&shown, "etag"), Some(format!("\"{tag}\"").as_str()));
        assert!(header(&shown, VCLOCK).is_some());
        assert_eq!(show(&object, "application/json", None).unwrap_err().status.as_u16(), 406);
        assert_eq!(show(&object, "*/*", Some(&tag)).unwrap(), shown);
        assert_eq!(show(&object, "*/*", Some("none")).unwrap_err(), Fault::not_found());
    }

    #[test]
    fn siblings_are_shown_as_parts_or_named() {
        let object = object(vec![text("a", 1), Content::tombstone(), text("b", 3000)]);
        let tags: Vec<String> = object.siblings().map(|sibling| sibling.vtag()).collect();
        let named = show(&object, "*/*", None).unwrap();
        assert_eq!(named.status.as_u16(), 300);
        let listed: String = tags.iter().map(|tag| format!("{tag}\n")).collect();
        assert_eq!(&*named.body, format!("Siblings:\n{listed}").as_bytes());
        assert_eq!(header(&named, "content-type"), Some("text/plain"));
        assert_eq!(header(&named, "last-modified"), Some("Thu, 01 Jan 1970 00:00:03 GMT"));

        let parts = show(&object, MULTIPART, None).unwrap();
        let boundary = header(&parts, "content-type").unwrap().split_once("boundary=").unwrap().1;
        let body = String::from_utf8(parts.body.to_vec()).unwrap();
        assert!(body.starts_with(&format!("\r\n--{boundary}\r\nContent-Type: ")), "{body}");
        assert!(body.ends_with(&format!("\r\n--{boundary}--\r\n")));
        assert_eq!(body.matches(&format!("\r\n--{boundary}\r\n")).count(), 3);
        assert_eq!(body.matches("X-Riak-Deleted: true\r\n").count(), 1);
        assert!(tags.iter().all(|tag| body.contains(&format!("\r\nEtag: {tag}\r\n"))));
        assert!(body.contains("\r\n\r\na\r\n--") && body.contains("\r\n\r\nb\r\n--"));

        let of = |object: &Object, value: &[u8]| {
            object.siblings().find(|sibling| &*sibling.content.value == value).map(|sibling| sibling.vtag())
        };
        let one = show(&object, "*/*", of(&object, b"a").as_deref()).unwrap();
        assert_eq!((one.status.as_u16(), &*one.body), (200, b"a".as_slice()));
        assert_eq!(show(&object, "application/json", None).unwrap_err().status.as_u16(), 406);
    }

    #[test]
    fn a_boundary_stands_in_no_value() {
        let tag = object(vec![text("a", 1), text("b", 2)]).etag().unwrap();
        let object = object(vec![text(&format!("--{tag}"), 1), text(&format!("{tag}0"), 2)]);
        assert_eq!(object.etag(), Some(tag.clone()));
        let shown = show(&object, MULTIPART, None).unwrap();
        let boundary = header(&shown, "content-type").unwrap().split_once("boundary=").unwrap().1;
        assert!(boundary.starts_with(&tag) && boundary.len() > tag.len(), "{boundary}");
        let body = String::from_utf8_lossy(&shown.body).into_owned();
        assert_eq!(body.matches(boundary).count(), object.len() + 1, "only between the parts");
    }

    #[test]
    fn what_was_deleted_is_not_found_and_shows_its_context_while_it_has_one() {
        let mut dead = object(vec![Content::tombstone()]);
        let shown = show(&dead, "*/*", None).unwrap();
        assert_eq!((shown.status.as_u16(), &*shown.body), (404, b"not found\n".as_slice()));
        assert!(header(&shown, VCLOCK).is_some() && header(&shown, DELETED) == Some("true"));
        dead.bury();
        let shown = show(&dead, "*/*", None).unwrap();
        assert!(
            shown.status.as_u16() == 404
                && header(&shown, VCLOCK).is_none()
                && header(&shown, DELETED).is_none()
        );
        assert_eq!(show(&Object::new(), "*/*", None).unwrap().status.as_u16(), 404);
    }

    #[test]
    fn a_time_that_cannot_be_is_shown_all_the_same() {
        assert_eq!(date(u64::MAX), "Fri, 01 Jan 9999 00:00:00 GMT");
    }
}
