//! Text on its way into a request and out to a terminal: what has to be encoded, and what must not be shown
//! as it is, because a terminal obeys what it is sent. It does not know where the text comes from, and so
//! trusts none.

use serde_json::Value;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Most characters of somebody else's explanation that are passed on.
const EXPLANATION_CHARS_MAX: usize = 400;

/// `text` as one segment of a path or one value of a query: every byte but RFC 3986's unreserved is encoded.
/// So is a segment of nothing but one or two dots, which proxies would take for "here" and "up".
pub fn percent_encode(text: &str) -> String {
    if matches!(text, "." | "..") {
        return "%2E".repeat(text.len());
    }
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A query string of `parameters`, with its question mark; nothing when there are none.
pub fn query_string(parameters: &[(&str, String)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        query.push_str(&percent_encode(value));
    }
    query
}

/// Whether a terminal would act on `character`, or a reader be deceived by it: controls (C0, DEL, C1), line
/// separators, and the marks that turn the direction of text or hide in it.
fn is_treacherous(character: char) -> bool {
    let hides = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let turns = matches!(character, '\u{2028}'..='\u{202e}');
    character.is_control() || hides || turns
}

/// `text` on one line that moves no cursor: what a terminal would act upon is spelled out instead.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_treacherous(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// `value` as one line of JSON. JSON leaves DEL and the C1 controls as they are, and some terminals obey
/// those too, so they are escaped here; it stays the same JSON.
pub fn json_line(value: &Value) -> String {
    let line = value.to_string();
    if !line.contains(is_treacherous) {
        return line;
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        if is_treacherous(character) {
            // All of these lie below 2¹⁶, so four digits do.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Somebody else's words inside one of our lines: printable, and not longer than a line bears.
pub(crate) fn explanation(text: &str) -> String {
    let short: String = text.chars().take(EXPLANATION_CHARS_MAX).collect();
    let mut shown = printable(&short).into_owned();
    if short.len() < text.len() {
        shown.push('…');
    }
    shown
}
