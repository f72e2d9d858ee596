//! `ringwork chat tail`: shows every message once, over as many connections as it takes. It decides when to
//! try again and when to give up. It does not know which node's replica feeds the stream; any node takes it
//! up where it broke.

use super::events::{Event, EventParser};
use super::{TailArguments, message_line, user_path};
use crate::cli::client::{CliError, NodeClient, explanation, json_line, query_string, write_line};
use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::time::Duration;

/// Back-off between two attempts: long enough not to load a node that struggles, short enough not to be
/// noticed.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A node sends comments to keep a stream alive; one that says nothing at all for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Ids of the latest messages, kept because a node that takes the stream up may repeat some of the last
/// seconds.
const RECENT_MAX: usize = 4096;

/// The ids seen last.
#[derive(Default)]
struct Recent {
    order: VecDeque<String>,
    ids: HashSet<String>,
}

impl Recent {
    /// Whether `id` is new.
    fn insert(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

struct Tail<'a> {
    client: NodeClient,
    path: String,
    json: bool,
    last_id: Option<String>,
    recent: Recent,
    /// Whether the connection brought anything: then the next failure is the first of its row.
    progressed: bool,
    output: &'a mut dyn Write,
    errors: &'a mut dyn Write,
}

pub(super) async fn run(
    arguments: TailArguments,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    let mut tail = Tail {
        client: arguments.node.client()?,
        path: user_path(&arguments.user, "stream")?,
        json: arguments.node.json,
        last_id: arguments.after.clone(),
        recent: Recent::default(),
        progressed: false,
        output,
        errors,
    };
    let mut failures = 0_u32;
    loop {
        let ended = tail.follow().await;
        if std::mem::take(&mut tail.progressed) {
            failures = 0;
        }
        let reason = match ended {
            Ok(Ended::ForGood) => return Ok(()),
            Ok(Ended::Closed) => CliError::Failed("the node ended the stream".to_owned()),
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => error,
        };
        if arguments.retries.is_some_and(|retries| failures >= retries) {
            let attempts = failures + 1;
            return Err(CliError::Failed(format!("gave up after {attempts} attempts in a row: {reason}")));
        }
        let wait = back_off(failures);
        failures = failures.saturating_add(1);
        let from = tail.last_id.as_deref().map(|id| format!(", after message {}", explanation(id)));
        let from = from.unwrap_or_default();
        let _ = writeln!(tail.errors, "{reason}; trying again in {} ms{from}", wait.as_millis());
        tokio::time::sleep(wait).await;
    }
}

/// The wait before the attempt that follows `failures` failed ones.
fn back_off(failures: u32) -> Duration {
    BACK_OFF_MIN.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(BACK_OFF_MAX)
}

/// Whether trying again cannot help: the request itself is wrong, or there is nobody to show messages to.
fn is_final(error: &CliError) -> bool {
    match error {
        CliError::Refused { status, .. } => *status < 500 && !matches!(status, 408 | 429),
        CliError::Failed(_) => false,
        CliError::Usage(_) | CliError::OutputClosed => true,
    }
}

enum Ended {
    /// The node says that nothing will ever come.
    ForGood,
    Closed,
}

impl Tail<'_> {
    async fn follow(&mut self) -> Result<Ended, CliError> {
        // The id goes into both: the header is what the standard asks for, the query also takes ids of any
        // characters.
        let after: Vec<_> = self.last_id.clone().map(|id| ("after", id)).into_iter().collect();
        let mut headers = vec![("accept", "text/event-stream")];
        if let Some(id) = self.last_id.as_deref().filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            headers.push(("last-event-id", id));
        }
        let path = self.path.clone() + &query_string(&after);
        let Some(mut stream) = self.client.open_stream(&path, &headers).await? else {
            return Ok(Ended::ForGood);
        };
        let mut parser = EventParser::default();
        let mut events = Vec::new();
        while let Some(piece) = stream.next(SILENCE_MAX).await? {
            self.progressed = true;
            parser.feed(&piece, &mut events).map_err(|error| CliError::Failed(error.to_string()))?;
            for event in events.drain(..) {
                self.show(&event)?;
            }
            // A node tells where the stream begins before there is a message. An empty id means "from the beginning" in
            // the standard; we would rather resume after what we have shown.
            if let Some(id) = parser.resume_after().filter(|id| !id.is_empty()) {
                self.last_id = Some(id.to_owned());
            }
        }
        Ok(Ended::Closed)
    }

    fn show(&mut self, event: &Event) -> Result<(), CliError> {
        let id = event.last_id.as_deref().filter(|id| !id.is_empty());
        let is_new = id.is_none_or(|id| self.recent.insert(id));
        if !matches!(event.kind.as_str(), "" | "message") {
            let (kind, said) = (explanation(&event.kind), explanation(&event.data));
            let _ = writeln!(self.errors, "the node says ({kind}): {said}");
            return Ok(());
        }
        if !is_new {
            return Ok(());
        }
        match serde_json::from_str::<Value>(&event.data) {
            Ok(message) => {
                let line = if self.json { json_line(&message) } else { message_line(&message) };
                write_line(self.output, &line)?;
                // Whoever reads us through a pipe wants each message when it comes.
                self.output.flush().map_err(CliError::writing)
            }
            Err(_) => {
                let _ = writeln!(self.errors, "skipped what is no message: {}", explanation(&event.data));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_a_tenth_of_a_second_to_five_seconds() {
        let waits: Vec<u128> = (0..8).map(|failures| back_off(failures).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(back_off(u32::MAX), BACK_OFF_MAX);
    }

    #[test]
    fn what_was_shown_is_known_until_four_thousand_came_after_it() {
        let mut recent = Recent::default();
        assert!(recent.insert("first"));
        assert!(!recent.insert("first"));
        (0..RECENT_MAX).for_each(|number| assert!(recent.insert(&number.to_string())));
        assert!(recent.insert("first"));
        assert_eq!(recent.ids.len(), RECENT_MAX);
    }
}
