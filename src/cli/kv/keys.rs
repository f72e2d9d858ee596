//! `ringwork kv keys`: shows keys as they come, and fails when the list is not whole. It does not know which nodes were
//! asked.

use super::{KeysArguments, bucket_path};
use crate::cli::client::{CliError, explanation, json_line, printable, query_string, write_line};
use bytes::{Buf, BytesMut};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// A node that lists says something at least this often, unless it hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of one object of the stream: a page of keys.
const OBJECT_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) async fn run(arguments: KeysArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let KeysArguments { bucket, bucket_type, timeout, node } = arguments;
    let client = node.client()?;
    let mut parameters = vec![("keys", "stream".to_owned())];
    parameters.extend(timeout.map(|timeout| ("timeout", timeout.as_millis().to_string())));
    let bucket = bucket_path(bucket_type.as_deref(), &bucket)?;
    let path = format!("{bucket}/keys{}", query_string(&parameters));
    let no_list = || {
        CliError::Failed(format!(
            "{} answered what is no list of keys; is this a ringwork node?",
            client.url()
        ))
    };
    let mut stream = client.open_stream(&path, &[]).await?.ok_or_else(no_list)?;
    let mut rest = BytesMut::new();
    while let Some(piece) = stream.next(SILENCE_MAX).await? {
        rest.extend_from_slice(&piece);
        while let Some((object, length)) = first(&rest).map_err(|()| no_list())? {
            rest.advance(length);
            if let Some(why) = object.get("error").and_then(Value::as_str) {
                return Err(CliError::Failed(format!("the list is not whole: {}", explanation(why))));
            }
            let keys = object.get("keys").and_then(Value::as_array).ok_or_else(no_list)?;
            for key in keys.iter().filter_map(Value::as_str) {
                let line =
                    if node.json { json_line(&json!({ "key": key })) } else { printable(key).into_owned() };
                write_line(output, &line)?;
            }
        }
        if rest.len() > OBJECT_BYTES_MAX {
            return Err(no_list());
        }
    }
    if !rest.is_empty() {
        return Err(CliError::Failed(
            "the node ended the list before its end; it is not whole: ask again".to_owned(),
        ));
    }
    output.flush().map_err(CliError::writing)
}

/// The first object of some bytes, and its length; none where it is not all there.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Value, usize)>, ()> {
    let mut objects = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    match objects.next() {
        None => Ok(None),
        Some(Ok(object)) => Ok(Some((object, objects.byte_offset()))),
        Some(Err(error)) if error.is_eof() => Ok(None),
        Some(Err(_)) => Err(()),
    }
}
