//! A write as a request says it: the value with what describes it, the causal context, the conditions. It decides which
//! header means what, and which are wrong. It does not know the bucket, nor whether what is written is taken.

use super::fault::Fault;
use super::link;
use actix_web::http::header::{self, HeaderMap, HeaderValue, HttpDate};
use actix_web::web::Bytes;
use ringwork_core::clock::dotted::CausalContext;
use ringwork_kv::{Blob, Conditions, Content, IndexEntry, ObjectName, Tags, context};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the names of headers with user metadata begin with.
pub(super) const META: &str = "x-riak-meta-";
/// What the names of headers with index entries begin with.
pub(super) const INDEX: &str = "x-riak-index-";
/// The header with the causal context.
pub(super) const VCLOCK: &str = "x-riak-vclock";
const IF_NOT_MODIFIED: &str = "x-riak-if-not-modified";

fn text<'a>(name: &str, value: &'a HeaderValue) -> Result<&'a str, Fault> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| Fault::bad_request(format!("the header {} is neither ASCII nor UTF-8", shown(name))))
}

/// The text of a header that can be there once.
fn optional<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Fault> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => text(name, value).map(Some),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(twice(name)),
    }
}

fn twice(name: &str) -> Fault {
    Fault::bad_request(format!("the header {} is given twice", shown(name)))
}

/// A header's name, which a client can make as long as a head.
fn shown(name: &str) -> &str {
    name.get(..64).unwrap_or(name)
}

/// The value of a write with all that describes it.
pub(super) fn content(headers: &HeaderMap, body: Bytes) -> Result<Content, Fault> {
    let announced = optional(headers, header::CONTENT_TYPE.as_str())?.filter(|text| !text.trim().is_empty());
    let announced = announced.ok_or_else(|| Fault::bad_request("Missing Content-Type request header"))?;
    let (content_type, charset) = media_type(announced);
    let mut content = Content { content_type, charset, ..Content::of(Blob(body)) };
    content.content_encoding = optional(headers, header::CONTENT_ENCODING.as_str())?
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    for (name, value) in headers {
        let name = name.as_str();
        if let Some(entry) = name.strip_prefix(META) {
            if content.metadata.insert(entry.to_owned(), text(name, value)?.to_owned()).is_some() {
                return Err(twice(name));
            }
        } else if let Some(field) = name.strip_prefix(INDEX) {
            for term in text(name, value)?.split(',').map(str::trim).filter(|term| !term.is_empty()) {
                content.indexes.insert(IndexEntry::parse(field, term.as_bytes())?);
            }
        }
    }
    for value in headers.get_all(header::LINK) {
        content.links.extend(link::parse(text("link", value)?)?);
    }
    content.check()?;
    Ok(content)
}

/// A media type without its charset, and that.
fn media_type(announced: &str) -> (String, Option<String>) {
    let mut charset = None;
    let mut content_type = String::new();
    for (place, part) in announced.split(';').map(str::trim).enumerate() {
        match part.split_once('=') {
            Some((name, value)) if place > 0 && name.trim().eq_ignore_ascii_case("charset") => {
                charset =
                    Some(value.trim().trim_matches('"').to_owned()).filter(|charset| !charset.is_empty());
            }
            _ if part.is_empty() => {}
            _ => {
                if place > 0 {
                    content_type.push_str("; ");
                }
                content_type.push_str(part);
            }
        }
    }
    (content_type, charset)
}

/// What the writer had seen, as it hands it back; none where it does not.
pub(super) fn seen(headers: &HeaderMap, name: &ObjectName) -> Result<Option<CausalContext>, Fault> {
    let handed = optional(headers, VCLOCK)?.map(str::trim).filter(|text| !text.is_empty());
    Ok(handed.map(|text| context::from_text(text, name)).transpose()?)
}

/// The conditions of a request. A time that is none is left out, as RFC 9110 has it.
pub(super) fn conditions(headers: &HeaderMap, name: &ObjectName) -> Result<Conditions, Fault> {
    let if_not_modified = optional(headers, IF_NOT_MODIFIED)?.map(str::trim);
    let conditions = Conditions {
        if_match: tags(headers, header::IF_MATCH.as_str())?,
        if_none_match: tags(headers, header::IF_NONE_MATCH.as_str())?,
        if_unmodified_since: second(optional(headers, header::IF_UNMODIFIED_SINCE.as_str())?),
        if_modified_since: second(optional(headers, header::IF_MODIFIED_SINCE.as_str())?),
        if_not_modified: if_not_modified.map(|text| context::from_text(text, name)).transpose()?,
    };
    conditions.check()?;
    Ok(conditions)
}

fn tags(headers: &HeaderMap, name: &str) -> Result<Option<Tags>, Fault> {
    let mut found = Vec::new();
    for value in headers.get_all(name) {
        for tag in text(name, value)?.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            if tag == "*" {
                return Ok(Some(Tags::Any));
            }
            // Clients that read a part of a multipart answer have it without quotes.
            found.push(tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned());
        }
    }
    Ok(if found.is_empty() { None } else { Some(Tags::OneOf(found)) })
}

fn second(date: Option<&str>) -> Option<u64> {
    let date: SystemTime = date?.parse::<HttpDate>().ok()?.into();
    Some(date.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderName;
    use proptest::prelude::*;
    use ringwork_kv::IndexTerm;
    use std::str::FromStr;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_str(name).unwrap(), value);
        }
        headers
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Content, String> {
        content(&headers(pairs), Bytes::from_static(b"v")).map_err(|fault| fault.text)
    }

    fn name() -> ObjectName {
        ObjectName::new("default", b"b", b"k").unwrap()
    }

    #[test]
    fn a_value_comes_with_all_that_describes_it() {
        let content = read(&[
            ("content-type", "application/json; version=2; charset=\"UTF-8\""),
            ("content-encoding", "gzip"),
            ("X-Riak-Meta-Farbe", "grün"),
            ("X-Riak-Index-Age_int", "5, -7,5"),
            ("X-Riak-Index-mail_bin", "a@b"),
            ("Link", "</buckets/b>; rel=\"up\", </buckets/b/keys/x>; riaktag=\"t\""),
            ("Link", "</buckets/b/keys/y>; riaktag=\"t\""),
        ]);
        let content = content.unwrap();
        assert_eq!(content.content_type, "application/json; version=2");
        assert_eq!(content.charset.as_deref(), Some("UTF-8"));
        assert_eq!(content.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(content.metadata["farbe"], "grün");
        let terms: Vec<_> =
            content.indexes.iter().map(|entry| (entry.field.as_str(), entry.term.clone())).collect();
        let int = |number| ("age_int", IndexTerm::Integer(number));
        assert_eq!(terms, [int(-7), int(5), ("mail_bin", IndexTerm::Binary("a@b".into()))]);
        assert_eq!(content.links.len(), 2);
        assert_eq!(&*content.value, b"v");
    }

    #[test]
    fn what_is_wrong_with_a_write_is_said() {
        let plain = ("content-type", "text/plain");
        assert_eq!(read(&[]), Err("Missing Content-Type request header".into()));
        assert!(read(&[plain, ("x-riak-index-age", "1")]).unwrap_err().contains("_bin or _int"));
        assert!(read(&[plain, ("x-riak-index-age_int", "one")]).unwrap_err().contains("whole numbers"));
        assert!(read(&[plain, ("link", "nonsense")]).unwrap_err().starts_with("Invalid Link header"));
        assert_eq!(read(&[plain, plain]), Err("the header content-type is given twice".into()));
        let doubled = ("x-riak-meta-a", "1");
        assert_eq!(read(&[plain, doubled, doubled]), Err("the header x-riak-meta-a is given twice".into()));
        let latin = HeaderValue::from_bytes(b"gr\xfcn").unwrap();
        let mut wrong = headers(&[plain]);
        wrong.insert(HeaderName::from_static("x-riak-meta-a"), latin);
        assert!(content(&wrong, Bytes::new()).unwrap_err().text.contains("UTF-8"));
    }

    #[test]
    fn a_context_is_taken_only_with_its_own_object() {
        let text = context::to_text(&CausalContext::new(), &name());
        let handed = headers(&[(VCLOCK, &text)]);
        assert_eq!(seen(&handed, &name()), Ok(Some(CausalContext::new())));
        let other = ObjectName::new("default", b"b", b"other").unwrap();
        assert!(seen(&handed, &other).unwrap_err().text.starts_with("X-Riak-Vclock"));
        assert_eq!(seen(&headers(&[(VCLOCK, "")]), &name()), Ok(None));
        let conditional = headers(&[(IF_NOT_MODIFIED, &text)]);
        assert_eq!(conditions(&conditional, &name()).unwrap().if_not_modified, Some(CausalContext::new()));
    }

    #[test]
    fn conditions_are_those_of_http() {
        let found = conditions(
            &headers(&[
                ("if-none-match", "*"),
                ("if-match", "\"a\", W/\"b\""),
                ("if-match", "c"),
                ("if-modified-since", "Thu, 01 Jan 1970 00:01:05 GMT"),
                ("if-unmodified-since", "yesterday"),
            ]),
            &name(),
        );
        let found = found.unwrap();
        assert_eq!(found.if_none_match, Some(Tags::Any));
        assert_eq!(found.if_match, Some(Tags::OneOf(vec!["a".into(), "b".into(), "c".into()])));
        assert_eq!((found.if_modified_since, found.if_unmodified_since), (Some(65), None));
        assert!(conditions(&headers(&[("if-match", &"\"x\",".repeat(200))]), &name()).is_err());
    }

    proptest! {
        #[test]
        fn any_headers_are_a_write_or_refused(media in "[ -~]{0,30}", links in "[ -~]{0,30}", terms in "[ -~]{0,20}") {
            let given = headers(&[("content-type", &media), ("link", &links), ("x-riak-index-a_int", &terms)]);
            let _ = content(&given, Bytes::new());
            let _ = conditions(&headers(&[("if-match", &media), ("if-modified-since", &terms)]), &name());
        }
    }
}
