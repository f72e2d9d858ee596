//! Which of the forms that there are of an answer a client takes: the header `Accept` (RFC 9110 §12.5.1). It does not
//! know what the forms are of.

use actix_web::http::header::{self, HeaderMap};

/// Ranges that are looked at; more than any client names.
const RANGES_MAX: usize = 64;
/// A weight of 1, in thousandths.
const FULL: u16 = 1000;

struct Range {
    kind: String,
    subkind: String,
    weight: u16,
}

/// What a client takes. Without the header, everything.
pub(super) struct Accept(Vec<Range>);

impl Accept {
    /// What these headers say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let texts = headers.get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
        Self(texts.flat_map(|text| text.split(',')).filter_map(range).take(RANGES_MAX).collect())
    }

    /// How gladly a media type is taken, in thousandths; 0: not at all. Of the ranges it is in, the narrowest counts.
    fn weight(&self, media_type: &str) -> u16 {
        if self.0.is_empty() {
            return FULL;
        }
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let (kind, subkind) = essence.split_once('/').unwrap_or((essence, ""));
        let narrowness = |range: &Range| match (range.kind.as_str(), range.subkind.as_str()) {
            ("*", "*") => Some(0),
            (of, "*") if of.eq_ignore_ascii_case(kind) => Some(1),
            (of, sub) if of.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subkind) => Some(2),
            _ => None,
        };
        let of = self.0.iter().filter_map(|range| Some((narrowness(range)?, range.weight)));
        of.max().map_or(0, |(_, weight)| weight)
    }

    /// Whether a media type is taken.
    pub(super) fn admits(&self, media_type: &str) -> bool {
        self.weight(media_type) > 0
    }

    /// The form that is taken most gladly; of several the first. None where none is taken.
    pub(super) fn best<'a>(&self, forms: &[&'a str]) -> Option<&'a str> {
        let mut best: Option<(u16, &str)> = None;
        for form in forms {
            let weight = self.weight(form);
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, form));
            }
        }
        best.map(|(_, form)| form)
    }
}

fn range(text: &str) -> Option<Range> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subkind) = parts.next()?.split_once('/')?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = match weight {
        None => FULL,
        Some(text) => {
            (text.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q))? * f32::from(FULL)) as u16
        }
    };
    Some(Range { kind: kind.to_owned(), subkind: subkind.to_owned(), weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn accept(text: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(text).unwrap());
        Accept::of(&headers)
    }

    #[test]
    fn the_form_that_is_taken_most_gladly_is_chosen() {
        const SIBLINGS: [&str; 2] = ["text/plain", "multipart/mixed"];
        let best = |text| accept(text).best(&SIBLINGS);
        assert_eq!(Accept::of(&HeaderMap::new()).best(&SIBLINGS), Some("text/plain"));
        assert_eq!(best("multipart/mixed, application/json, */*;q=0.5"), Some("multipart/mixed"));
        assert_eq!(best("*/*"), Some("text/plain"));
        assert_eq!(best("text/*;q=0.1, multipart/mixed;q=0.2"), Some("multipart/mixed"));
        assert_eq!(best("application/json"), None);
        assert_eq!(best("text/plain;q=0, */*"), Some("multipart/mixed"));
    }

    #[test]
    fn a_media_type_is_admitted_by_the_narrowest_range() {
        assert!(accept("application/json").admits("Application/JSON; charset=utf-8"));
        assert!(!accept("application/json").admits("text/plain"));
        assert!(accept("text/*").admits("text/x-python"));
        assert!(!accept("text/*, text/html;q=0").admits("text/html"));
        assert!(accept("rubbish").admits("text/html"), "what cannot be read says nothing");
        assert!(accept("text/html;q=7").admits("text/plain"));
    }
}
