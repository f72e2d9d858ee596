//! `ringwork chat users`: who has messages. It shows the users as they come, and fails when the list is not whole,
//! however much of it was shown. It does not know which nodes were asked.

use super::UsersArguments;
use crate::cli::client::{
    CliError, NodeClient, NodeStream, explanation, json_line, printable, query_string, write_line,
};
use bytes::BytesMut;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

const PATH: &str = "/chat/users";
/// A node that lists says something at least this often, unless it hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of one line: a user's name has 128 at most, a reason a few hundred.
const LINE_BYTES_MAX: usize = 64 * 1024;

pub(super) async fn run(arguments: UsersArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let client = arguments.node.client()?;
    let prefix = arguments.prefix.clone().map(|prefix| ("prefix", prefix));
    let parameters: Vec<_> = prefix.into_iter().collect();
    let path = PATH.to_owned() + &query_string(&parameters);
    let headers = [("accept", "application/x-ndjson")];
    let Some(stream) = client.open_stream(&path, &headers).await? else {
        return Err(not_a_list(&client));
    };
    let mut lines = Lines { stream, rest: BytesMut::new() };
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(line) = lines.next().await? else {
            let url = client.url();
            return Err(CliError::Failed(format!(
                "{url} ended the list before its end; it is not whole: ask again"
            )));
        };
        let value: Value = serde_json::from_slice(&line).map_err(|_| not_a_list(&client))?;
        if let Some(user) = value.get("user").and_then(Value::as_str) {
            let shown = if arguments.node.json { json_line(&value) } else { printable(user).into_owned() };
            write_line(output, &shown)?;
            left -= 1;
            continue;
        }
        return match value.get("complete").and_then(Value::as_bool) {
            Some(true) => {
                if arguments.node.json {
                    write_line(output, &json_line(&value))?;
                }
                output.flush().map_err(CliError::writing)
            }
            Some(false) => {
                let why = value.get("detail").and_then(Value::as_str).unwrap_or("without a reason");
                Err(CliError::Failed(format!("the list is not whole: {}", explanation(why))))
            }
            None => Err(not_a_list(&client)),
        };
    }
    output.flush().map_err(CliError::writing)
}

fn not_a_list(client: &NodeClient) -> CliError {
    CliError::Failed(format!("{} answered what is no list of users; is this a ringwork node?", client.url()))
}

struct Lines {
    stream: NodeStream,
    rest: BytesMut,
}

impl Lines {
    /// The next line without its end; none when the stream has ended.
    async fn next(&mut self) -> Result<Option<BytesMut>, CliError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line = self.rest.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line));
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(CliError::Failed("the node sends a line without an end".to_owned()));
            }
            match self.stream.next(SILENCE_MAX).await? {
                Some(piece) => self.rest.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}
