//! Messages as JSON, as clients see them. Written out by hand, since a page of twenty is most of what a read costs that
//! every replica answered from memory: names of fields, ids and times need no look at their characters, and a text
//! that needs no escaping is copied as it is. It decides how a message looks, and nothing else; that it looks as a
//! general library would have it, a property says.

use ringwork_chat::{ChatItem, MessageId};
use std::io::Write;
use std::time::Duration;

/// Bytes of a written message beside its texts, unless there is much to escape in them.
pub(super) const WRITTEN_BYTES: usize = 128;

/// The last time that has a year of four digits. An id's 48 bits can say later ones, which nobody mints.
const WRITABLE_MS_MAX: u64 = 253_402_300_799_999;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// `1970-01-01T`.
const DATE_BYTES: usize = 11;

/// Writes times, and knows the day of the last one: those of a page are mostly of one day.
pub(in crate::http) struct Calendar {
    day: u64,
    date: [u8; DATE_BYTES],
}

impl Calendar {
    pub(in crate::http) fn new() -> Self {
        Self { day: 0, date: *b"1970-01-01T" }
    }

    /// A time in milliseconds since 1970 as RFC 3339 has it.
    fn write(&mut self, time_ms: u64) -> [u8; 24] {
        let time_ms = time_ms.min(WRITABLE_MS_MAX);
        let (day, of_day) = (time_ms / DAY_MS, time_ms % DAY_MS);
        if day != self.day {
            let at = std::time::UNIX_EPOCH + Duration::from_millis(day * DAY_MS);
            // As many characters as there is room for, and then no room for the rest.
            let _ = write!(self.date.as_mut_slice(), "{}", humantime::format_rfc3339_seconds(at));
            self.day = day;
        }
        let mut text = *b"1970-01-01T00:00:00.000Z";
        text[..DATE_BYTES].copy_from_slice(&self.date);
        let (seconds, ms) = (of_day / 1000, of_day % 1000);
        for (at, number) in [(11, seconds / 3600), (14, seconds / 60 % 60), (17, seconds % 60), (20, ms / 10)]
        {
            text[at] = b'0' + (number / 10) as u8;
            text[at + 1] = b'0' + (number % 10) as u8;
        }
        text[22] = b'0' + (ms % 10) as u8;
        text
    }
}

/// Appends the message in an item; false, and nothing, for marks and for messages that are deleted.
pub(in crate::http) fn push_message(out: &mut Vec<u8>, item: &ChatItem, calendar: &mut Calendar) -> bool {
    let Some(content) = item.content() else { return false };
    let id: MessageId = item.id();
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&id.characters());
    out.extend_from_slice(b"\",\"text\":");
    push_text(out, &content.text);
    if let Some(from) = &content.from {
        out.extend_from_slice(b",\"from\":");
        push_text(out, from);
    }
    out.extend_from_slice(b",\"sent_at\":\"");
    out.extend_from_slice(&calendar.write(id.time_ms()));
    out.extend_from_slice(b"\"}");
    true
}

/// Appends a text as a JSON string.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    let needs_escape = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without a way out in the middle the compiler looks at many bytes at once.
    if text.bytes().fold(false, |any, byte| any | needs_escape(byte)) {
        // A text can always be written, and there is always room.
        let _ = serde_json::to_writer(&mut *out, text);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringwork_chat::Content;
    use ringwork_core::clock::hybrid::{HybridTime, Stamp};
    use ringwork_core::ids::{Boot, NodeId};
    use serde_json::{Value, json};

    fn time(ms: u64, calendar: &mut Calendar) -> String {
        String::from_utf8(calendar.write(ms).to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn a_message_is_what_a_library_reads_back(
            messages in prop::collection::vec((any::<String>(), prop::option::of("\\PC{0,20}"), 0..1u64 << 48), 0..5),
        ) {
            let (mut out, mut calendar) = (Vec::new(), Calendar::new());
            for (text, from, ms) in messages {
                let stamp = Stamp { time: HybridTime::at_ms(ms), node: NodeId([7; 16]), boot: Boot(1) };
                let id = MessageId::from_stamp(stamp);
                let content = Content { text: text.clone(), from: from.clone() };
                out.clear();
                let item = ChatItem::Message { user: "ann".into(), id, content };
                prop_assert!(push_message(&mut out, &item, &mut calendar));
                let sent_at = time(id.time_ms(), &mut Calendar::new());
                let mut expected = json!({"id": id.to_string(), "text": text, "sent_at": sent_at});
                if let Some(from) = from {
                    expected["from"] = json!(from);
                }
                prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
            }
        }

        #[test]
        fn a_text_is_written_as_the_library_writes_it(text in any::<String>(), plain in "[ -~äö😀]{0,40}") {
            for text in [text, plain] {
                let mut out = Vec::new();
                push_text(&mut out, &text);
                prop_assert_eq!(out, serde_json::to_vec(&text).unwrap());
            }
        }

        #[test]
        fn a_time_is_written_as_the_library_writes_it(times in prop::collection::vec(0..=WRITABLE_MS_MAX, 1..8)) {
            let mut calendar = Calendar::new();
            for ms in times {
                let at = std::time::UNIX_EPOCH + Duration::from_millis(ms);
                prop_assert_eq!(time(ms, &mut calendar), humantime::format_rfc3339_millis(at).to_string());
            }
        }
    }

    #[test]
    fn a_time_beyond_four_digits_of_a_year_is_the_last_that_has_four() {
        let mut calendar = Calendar::new();
        assert_eq!(time(u64::MAX, &mut calendar), "9999-12-31T23:59:59.999Z");
        assert_eq!(time(0, &mut calendar), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_character_that_json_escapes_is_escaped() {
        for byte in 0..0x80u8 {
            let text = char::from(byte).to_string();
            let mut out = Vec::new();
            push_text(&mut out, &text);
            assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{byte}");
        }
    }
}
