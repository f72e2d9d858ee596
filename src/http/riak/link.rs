//! Links between objects as the header `Link` has them: `</buckets/B/keys/K>; riaktag="T"`. It decides which links of a
//! header are to objects; a link with a `rel`, like the one to the bucket that Riak sends itself, is not kept.

use super::fault::Fault;
use super::path::{Bucket, Scheme, Target, decode_leniently, encode};
use ringwork_kv::Link;

/// The links to objects in the text of a header.
pub(super) fn parse(text: &str) -> Result<Vec<Link>, Fault> {
    let mut links = Vec::new();
    let mut rest = text.trim_start_matches(separates);
    while !rest.is_empty() {
        let (link, behind) = one(rest).ok_or_else(|| wrong(rest))?;
        links.extend(link);
        rest = behind.trim_start_matches(separates);
    }
    Ok(links)
}

fn separates(letter: char) -> bool {
    letter == ',' || letter.is_ascii_whitespace()
}

fn wrong(rest: &str) -> Fault {
    let shown: String = rest.chars().take(80).collect();
    Fault::bad_request(format!(
        "Invalid Link header at {shown:?}: </buckets/BUCKET/keys/KEY>; riaktag=\"TAG\" is expected"
    ))
}

/// The first link and what stands behind it; no link where it leads to no object.
fn one(text: &str) -> Option<(Option<Link>, &str)> {
    let (path, mut rest) = text.strip_prefix('<')?.split_once('>')?;
    let (mut tag, mut has_relation) = (None, false);
    while let Some(parameter) = rest.trim_start().strip_prefix(';') {
        let (name, value, behind) = parameter_of(parameter.trim_start())?;
        match name {
            _ if name.eq_ignore_ascii_case("riaktag") => tag = Some(value),
            _ if name.eq_ignore_ascii_case("rel") => has_relation = true,
            _ => {}
        }
        rest = behind;
    }
    if !rest.trim_start().is_empty() && !rest.trim_start().starts_with(',') {
        return None;
    }
    match tag {
        Some(tag) => Some((Some(to_object(path, tag)?), rest)),
        None if has_relation => Some((None, rest)),
        None => None,
    }
}

/// `name="value"` or `name=value`, and what stands behind it.
fn parameter_of(text: &str) -> Option<(&str, &str, &str)> {
    let (name, value) = text.split_once('=')?;
    match value.strip_prefix('"') {
        Some(quoted) => {
            let (value, behind) = quoted.split_once('"')?;
            Some((name.trim(), value, behind))
        }
        None => {
            let end = value.find([';', ',']).unwrap_or(value.len());
            let (value, behind) = value.split_at(end);
            Some((name.trim(), value.trim(), behind))
        }
    }
}

fn to_object(path: &str, tag: &str) -> Option<Link> {
    let (bucket, key) = match Target::of(path).ok()? {
        Target::Object(bucket, key) => (bucket.name, key),
        // The old scheme's prefix could be chosen.
        Target::Nowhere => match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", _, bucket, key] => (decode_leniently(bucket), decode_leniently(key)),
            _ => return None,
        },
        _ => return None,
    };
    let tag = String::from_utf8(decode_leniently(tag)).ok()?;
    Some(Link { bucket: bucket.into(), key: key.into(), tag })
}

/// The header of an object in `bucket` with these links, the first of which leads to its bucket. One header, because
/// clients take the last of several for all.
pub(super) fn header(bucket: &Bucket, links: &[Link]) -> String {
    let mut text = format!("<{}>; rel=\"up\"", bucket.path());
    // Also in a typed bucket: clients know no other form.
    let scheme = if bucket.scheme == Scheme::Old { Scheme::Old } else { Scheme::Buckets };
    for link in links {
        let to = Bucket { scheme, bucket_type: bucket.bucket_type.clone(), name: link.bucket.to_vec() };
        text.push_str(&format!(
            ", <{}>; riaktag=\"{}\"",
            to.object_path(&link.key),
            encode(link.tag.as_bytes())
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(bucket: &str, key: &str, tag: &str) -> Link {
        Link { bucket: bucket.into(), key: key.into(), tag: tag.to_owned() }
    }

    #[test]
    fn links_of_both_schemes_are_read_and_relations_left_out() {
        let text = "</buckets/b>; rel=\"up\", </buckets/b/keys/k+1>; riaktag=\"a,b\",</riak/b%2Fc/k>;riaktag=t , \
                    </raw/b/k>; riaktag=\"tag2!@#%^&*)\"";
        let expected = [link("b", "k 1", "a,b"), link("b/c", "k", "t"), link("b", "k", "tag2!@#%^&*)")];
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), []);
        for wrong in [
            "b/k",
            "</buckets/b/keys/k>",
            "</buckets/b>; riaktag=\"t\"",
            "</b/k>; riaktag=\"t",
            "<a>; rel=\"up\" x",
        ] {
            assert!(parse(wrong).unwrap_err().text.starts_with("Invalid Link header"), "{wrong}");
        }
    }

    #[test]
    fn the_header_begins_with_the_bucket() {
        let bucket = |scheme| Bucket { scheme, bucket_type: "t".into(), name: b"b".to_vec() };
        let links = [link("c d", "k", "x\"y")];
        let text = header(&bucket(Scheme::Buckets), &links);
        assert_eq!(text, "</buckets/b>; rel=\"up\", </buckets/c%20d/keys/k>; riaktag=\"x%22y\"");
        assert_eq!(
            header(&bucket(Scheme::Old), &links),
            "</riak/b>; rel=\"up\", </riak/c%20d/k>; riaktag=\"x%22y\""
        );
        assert!(
            header(&bucket(Scheme::Types), &links)
                .starts_with("</types/t/buckets/b>; rel=\"up\", </buckets/c")
        );
    }

    proptest! {
        #[test]
        fn links_are_read_back(parts in proptest::collection::vec((".{1,5}", ".{1,5}", ".{0,5}"), 0..4)) {
            let links: Vec<Link> = parts.iter().map(|(bucket, key, tag)| link(bucket, key, tag)).collect();
            let bucket = Bucket { scheme: Scheme::Buckets, bucket_type: "default".into(), name: b"b".to_vec() };
            prop_assert_eq!(parse(&header(&bucket, &links)).unwrap(), links);
        }

        #[test]
        fn any_text_is_links_or_refused(text in "[<>/;,=\"a-c%. ]{0,40}|.{0,40}") {
            let _ = parse(&text);
        }
    }
}
