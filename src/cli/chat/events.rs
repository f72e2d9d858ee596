//! Server-sent events out of bytes that arrive in any pieces (the rules are WHATWG HTML's, section 9.2.6). It
//! decides where an event ends and how large one may be. It does not know what is in an event, nor how to
//! reconnect.

/// Most bytes of one line, and of one event's data: far above the longest message, far below memory.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// What to resume after: the last `id:` seen up to here, also in earlier events.
    pub(super) last_id: Option<String>,
    /// What `event:` said; empty for an ordinary message.
    pub(super) kind: String,
    /// The `data:` lines.
    pub(super) data: String,
}

/// A line or an event exceeds what is taken; the stream cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {} MiB came", EVENT_BYTES_MAX >> 20)]
pub(super) struct Oversized;

/// The state between two pieces.
#[derive(Default)]
pub(super) struct EventParser {
    line: Vec<u8>,
    /// The last byte was a carriage return, so a line feed that follows belongs to it.
    after_return: bool,
    past_first_line: bool,
    last_id: Option<String>,
    /// What `last_id` was at the end of the last event, with data or without.
    resume_after: Option<String>,
    kind: String,
    data: String,
    has_data: bool,
}

impl EventParser {
    /// What to resume after when the stream ends here: the last `id:` of all that is complete, also of what had no data
    /// and so was no event.
    pub(super) fn resume_after(&self) -> Option<&str> {
        self.resume_after.as_deref()
    }

    /// Takes the next piece and appends the events that it completes.
    pub(super) fn feed(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), Oversized> {
        for &byte in piece {
            let continues_return = std::mem::replace(&mut self.after_return, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if continues_return => {}
                b'\r' | b'\n' => self.end_line(events)?,
                _ if self.line.len() >= EVENT_BYTES_MAX => return Err(Oversized),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), Oversized> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let mut line = text.as_ref();
        if !std::mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.end_event(events);
            return Ok(());
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if self.data.len() + value.len() >= EVENT_BYTES_MAX {
                    return Err(Oversized);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.kind),
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            // `retry:` too: how fast to reconnect is bounded by us and not by whom we follow.
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self, events: &mut Vec<Event>) {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        self.resume_after.clone_from(&self.last_id);
        if std::mem::take(&mut self.has_data) {
            events.push(Event { last_id: self.last_id.clone(), kind, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = EventParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.feed(piece, &mut events).unwrap();
        }
        events
    }

    fn event(last_id: Option<&str>, kind: &str, data: &str) -> Event {
        Event { last_id: last_id.map(str::to_owned), kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn fields_comments_and_line_ends_are_understood() {
        let bytes =
            b"\xef\xbb\xbf: hi\n\nid: 1\ndata: a\ndata:b\n\nevent: note\r\ndata\r\n\r\nid\rdata: c\r\rdata: x";
        let expected = [event(Some("1"), "", "a\nb"), event(Some("1"), "note", ""), event(Some(""), "", "c")];
        assert_eq!(all(&[bytes]), expected);
    }

    #[test]
    fn an_id_without_data_moves_the_place_to_resume_but_is_no_event() {
        assert_eq!(all(&[b"id: 7\n\nid: 8\0\n\ndata: x\n\n"]), [event(Some("7"), "", "x")]);
        let mut parser = EventParser::default();
        for (piece, place) in
            [(": hi\n\n", None), ("id: 7\n", None), ("\n", Some("7")), ("id: 9\ndat", Some("7"))]
        {
            parser.feed(piece.as_bytes(), &mut Vec::new()).unwrap();
            assert_eq!(parser.resume_after(), place, "{piece:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_collected_for_ever() {
        let mut parser = EventParser::default();
        let piece = vec![b'x'; 1 << 20];
        let outcome: Result<(), Oversized> = (0..6).try_for_each(|_| parser.feed(&piece, &mut Vec::new()));
        assert_eq!(outcome, Err(Oversized));
        let mut parser = EventParser::default();
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        let outcome: Result<(), Oversized> = (0..6).try_for_each(|_| parser.feed(&line, &mut Vec::new()));
        assert_eq!(outcome, Err(Oversized));
    }

    proptest! {
        #[test]
        fn any_cut_of_any_bytes_gives_the_same_events(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "id", "data", "event", ":", " ", "\r", "\n", "\r\n", "\n\n", "ä", "\u{feff}", "x"]), 0..40),
            cut in 0usize..80,
        ) {
            let bytes = tokens.concat().into_bytes();
            let cut = cut.min(bytes.len());
            prop_assert_eq!(all(&[&bytes]), all(&[&bytes[..cut], &bytes[cut..]]));
        }
    }
}
