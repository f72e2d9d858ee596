//! `ringwork kv`: gets, puts and deletes an object, lists keys. It decides what a person sees of an answer; what is
//! stored, and what becomes of siblings, the node knows. It speaks the routes that Riak's clients speak.

use crate::cli::client::{
    Answer, CliError, NodeArguments, NodeClient, json_line, percent_encode, printable, query_string,
    write_line,
};
use awc::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

mod keys;
#[cfg(test)]
mod tests;

/// What the client waits for beyond the deadline that the node was given, so that the node's own answer wins.
const GRACE: Duration = Duration::from_secs(5);
/// Longest value that is read from a file; the node's own bound is lower unless set to its most.
const VALUE_BYTES_MAX: u64 = ringwork_kv::limits::OBJECT_BYTES_MAX as u64;
/// Said of a write of which one node has all copies.
const ALONE: &str = "x-ringwork-alone";
const DEGRADED: &str = "x-ringwork-degraded";
const SIBLINGS: &str = "x-ringwork-siblings";
/// The header with the causal context.
const CONTEXT: &str = "x-riak-vclock";
const ANY: (&str, &str) = ("accept", "text/plain, */*;q=0.5");

const GET_HELP: &str = "\
Writes the value, and nothing else; on a terminal what would command it is spelled out. An object with
siblings is an error that names them: show one with --vtag, or all with --json, and write one value
under the causal context that --json shows.

Examples:
  ringwork kv get fruit apple
  ringwork kv get fruit apple --json | jq -r .context";

const PUT_HELP: &str = "\
In a bucket that keeps siblings, hand back with --context what was read, or the value becomes a sibling
of what is there.

Examples:
  ringwork kv put fruit apple red
  ringwork kv put fruit apple --file apple.json --content-type application/json --w all";

const DELETE_HELP: &str = "\
Deletes what a read finds, or, with --context, what was read before. It is an error when there is
nothing.

Example:
  ringwork kv delete fruit apple";

const KEYS_HELP: &str = "\
One key a line, in ascending order. The command fails when the list is not whole, whatever it has shown
until then.

Example:
  ringwork kv keys fruit --type carts";

/// Arguments of `ringwork kv`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ringwork kv put fruit apple red && ringwork kv get fruit apple")]
pub struct KvArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: KvCommand,
}

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub enum KvCommand {
    /// Read an object.
    Get(GetArguments),
    /// Write an object.
    Put(PutArguments),
    /// Delete an object.
    Delete(DeleteArguments),
    /// List the keys of a bucket.
    Keys(KeysArguments),
}

/// Which object.
#[derive(Debug, clap::Args)]
pub struct ObjectArguments {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The bucket's type.
    #[arg(long = "type", value_name = "TYPE")]
    pub bucket_type: Option<String>,
    /// How long the node may take, as in 500ms.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork kv get`.
#[derive(Debug, clap::Args)]
#[command(after_help = GET_HELP)]
pub struct GetArguments {
    /// Which object.
    #[command(flatten)]
    pub object: ObjectArguments,
    /// The sibling to show.
    #[arg(long, value_name = "VTAG")]
    pub vtag: Option<String>,
    /// Replicas that have to answer: a number, `one`, `quorum` or `all`.
    #[arg(long, value_name = "N")]
    pub r: Option<String>,
    /// Replicas that have to be primary ones, not stand-ins.
    #[arg(long, value_name = "N")]
    pub pr: Option<String>,
}

/// Arguments of `ringwork kv put`.
#[derive(Debug, clap::Args)]
#[command(after_help = PUT_HELP)]
pub struct PutArguments {
    /// Which object.
    #[command(flatten)]
    pub object: ObjectArguments,
    /// The value.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub value: Option<String>,
    /// A file with the value; - is the standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What kind of value it is; text/plain, or application/octet-stream of a file.
    #[arg(long, value_name = "TYPE/SUBTYPE")]
    pub content_type: Option<String>,
    /// What was read, as --json of 'get' shows it.
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Replicas that have to confirm: a number, `one`, `quorum` or `all`.
    #[arg(long, value_name = "N")]
    pub w: Option<String>,
    /// Replicas that have to be primary ones, not stand-ins.
    #[arg(long, value_name = "N")]
    pub pw: Option<String>,
}

/// Arguments of `ringwork kv delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = DELETE_HELP)]
pub struct DeleteArguments {
    /// Which object.
    #[command(flatten)]
    pub object: ObjectArguments,
    /// What was read, as --json of 'get' shows it.
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Replicas that have to confirm: a number, `one`, `quorum` or `all`.
    #[arg(long, value_name = "N")]
    pub w: Option<String>,
}

/// Arguments of `ringwork kv keys`.
#[derive(Debug, clap::Args)]
#[command(after_help = KEYS_HELP)]
pub struct KeysArguments {
    /// The bucket.
    pub bucket: String,
    /// The bucket's type.
    #[arg(long = "type", value_name = "TYPE")]
    pub bucket_type: Option<String>,
    /// How long the node may take, as in 30s.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

fn bucket_path(bucket_type: Option<&str>, bucket: &str) -> Result<String, CliError> {
    if bucket.is_empty() || bucket_type == Some("") {
        return Err(CliError::Usage("the name of a bucket or a type is empty".to_owned()));
    }
    let typed = bucket_type.map(|of| format!("/types/{}", percent_encode(of))).unwrap_or_default();
    Ok(format!("{typed}/buckets/{}", percent_encode(bucket)))
}

impl ObjectArguments {
    fn path(&self, own: &[(&'static str, &Option<String>)]) -> Result<String, CliError> {
        if self.key.is_empty() {
            return Err(CliError::Usage("the key is empty".to_owned()));
        }
        let timeout = self.timeout.map(|timeout| timeout.as_millis().to_string());
        let all = own.iter().copied().chain([("timeout", &timeout)]);
        let given: Vec<(&str, String)> =
            all.filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        let bucket = bucket_path(self.bucket_type.as_deref(), &self.bucket)?;
        Ok(format!("{bucket}/keys/{}{}", percent_encode(&self.key), query_string(&given)))
    }

    /// A client that waits longer than the node was told to.
    fn client(&self) -> Result<NodeClient, CliError> {
        let client = self.node.client()?;
        // Riak's minute where nobody says otherwise.
        let patience = self.timeout.unwrap_or(crate::kv::WITHIN_DEFAULT);
        Ok(client.with_answer_timeout(patience.saturating_add(GRACE)))
    }

    /// As a person would write it.
    fn shown(&self) -> String {
        let typed = self.bucket_type.as_ref().map(|of| format!("{of}/")).unwrap_or_default();
        printable(&format!("{typed}{}/{}", self.bucket, self.key)).into_owned()
    }
}

/// Runs a verb. `terminal`: the output is one, so values are shown and not handed out as they are.
pub async fn run(
    arguments: KvArguments,
    terminal: bool,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    match arguments.command {
        KvCommand::Get(arguments) => get(arguments, terminal, output, errors).await,
        KvCommand::Put(arguments) => put(arguments, output, errors).await,
        KvCommand::Delete(arguments) => delete(arguments, output).await,
        KvCommand::Keys(arguments) => keys::run(arguments, output).await,
    }
}

/// Says beside the output what a reader must know of a read that may lack something.
fn note_degraded(degraded: bool, errors: &mut dyn Write) {
    if degraded {
        let _ = writeln!(
            errors,
            "fewer complete replicas than asked for could answer, so something that was written may be missing"
        );
    }
}

async fn get(
    arguments: GetArguments,
    terminal: bool,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    let GetArguments { object, vtag, r, pr } = arguments;
    let client = object.client()?;
    let quorums = [("r", &r), ("pr", &pr)];
    let of_tag = |vtag: &Option<String>| object.path(&[quorums[0], quorums[1], ("vtag", vtag)]);
    let answer = client.request(Method::GET, &of_tag(&vtag)?, &[ANY], None).await?;
    let degraded = answer.header(DEGRADED).is_some();
    let shown = |siblings: Vec<Value>| {
        let mut shown = json!({ "context": answer.header(CONTEXT), "siblings": siblings });
        if degraded {
            shown["degraded"] = json!(true);
        }
        json_line(&shown)
    };
    if !object.node.json && answer.status != 404 {
        note_degraded(degraded, errors);
    }
    match answer.status {
        200 if object.node.json => write_line(output, &shown(vec![sibling(&answer)])),
        200 if terminal => write_line(output, &printable(&String::from_utf8_lossy(&answer.body))),
        200 => output.write_all(&answer.body).and_then(|()| output.flush()).map_err(CliError::writing),
        300 => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let tags: Vec<&str> = text.lines().skip(1).filter(|line| !line.is_empty()).collect();
            if !object.node.json {
                let tags: Vec<String> = tags.iter().map(|tag| printable(tag).into_owned()).collect();
                return Err(CliError::Failed(format!(
                    "{} has {} siblings; show one with --vtag ({}) or all with --json, and write one value under \
                     their context",
                    object.shown(),
                    tags.len(),
                    tags.join(", ")
                )));
            }
            let mut siblings = Vec::new();
            for tag in &tags {
                let one =
                    client.request(Method::GET, &of_tag(&Some((*tag).to_owned()))?, &[ANY], None).await?;
                match one.status {
                    200 => siblings.push(sibling(&one)),
                    // A tombstone, or it was replaced just now.
                    404 => siblings.push(json!({ "vtag": tag, "deleted": true })),
                    _ => return Err(client.refusal(&one)),
                }
            }
            write_line(output, &shown(siblings))
        }
        404 => Err(not_found(&object, &answer)),
        _ => Err(client.refusal(&answer)),
    }
}

fn not_found(object: &ObjectArguments, answer: &Answer) -> CliError {
    let text = String::from_utf8_lossy(&answer.body);
    let said = text.trim();
    let message = match said {
        "not found" if answer.header(DEGRADED).is_some() => format!(
            "no {} was found, but fewer complete replicas than asked for could answer: it may be there",
            object.shown()
        ),
        "not found" => format!("there is no {}", object.shown()),
        other => printable(&other.chars().take(200).collect::<String>()).into_owned(),
    };
    CliError::Refused { status: 404, code: None, message }
}

/// A value as JSON: text as it is, other bytes in base 64.
fn sibling(answer: &Answer) -> Value {
    let mut shown = json!({
        "vtag": answer.header("etag").map(|tag| tag.trim_matches('"')),
        "content_type": answer.header("content-type"),
        "last_modified": answer.header("last-modified"),
    });
    match std::str::from_utf8(&answer.body) {
        Ok(text) => shown["value"] = json!(text),
        Err(_) => shown["value_base64"] = json!(crate::kv::context::to_base64(&answer.body)),
    }
    shown
}

async fn put(
    arguments: PutArguments,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    let PutArguments { object, value, file, content_type, context, w, pw } = arguments;
    let (value, usual) = match (value, file) {
        (Some(value), _) => (Bytes::from(value), "text/plain"),
        (None, Some(file)) => (read(&file)?, "application/octet-stream"),
        (None, None) => return Err(CliError::Usage("give a value, or a file with --file".to_owned())),
    };
    let kind = content_type.unwrap_or_else(|| usual.to_owned());
    let mut headers = vec![("content-type", header("--content-type", &kind)?)];
    if let Some(context) = &context {
        headers.push((CONTEXT, header("--context", context)?));
    }
    let path = object.path(&[("w", &w), ("pw", &pw)])?;
    let client = object.client()?;
    let answer = client.request_with(Method::PUT, &path, &headers, Some(value)).await?;
    if !answer.is_success() {
        return Err(client.refusal(&answer));
    }
    if let Some(siblings) = answer.header(SIBLINGS) {
        let (shown, siblings) = (object.shown(), printable(siblings));
        let _ = writeln!(
            errors,
            "{shown} has {siblings} siblings now: write one value under their context, which a read with --json shows"
        );
    }
    let alone = answer.header(ALONE).is_some();
    done("stored", &object, alone, output)
}

/// What was done, in a line. `alone`: several copies were wanted, and one node has all there are.
fn done(what: &str, object: &ObjectArguments, alone: bool, output: &mut dyn Write) -> Result<(), CliError> {
    if object.node.json {
        let ObjectArguments { bucket, key, bucket_type, .. } = object;
        let mut shown = json!({ "done": what, "type": bucket_type, "bucket": bucket, "key": key });
        if alone {
            shown["alone"] = json!(true);
        }
        return write_line(output, &json_line(&shown));
    }
    let where_to = if alone { ", on one node alone" } else { "" };
    write_line(output, &format!("{what} {}{where_to}", object.shown()))
}

/// A text that a header takes; without this check the message would be the HTTP library's.
fn header<'a>(flag: &str, text: &'a str) -> Result<&'a str, CliError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(CliError::Usage(format!("{flag} takes visible ASCII characters")));
    }
    Ok(text)
}

fn read(file: &std::path::Path) -> Result<Bytes, CliError> {
    let shown = printable(&file.display().to_string()).into_owned();
    let cannot = |error: std::io::Error| CliError::Failed(format!("cannot read {shown}: {error}"));
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(file).map_err(cannot)?),
    };
    source.take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > VALUE_BYTES_MAX {
        let mib = VALUE_BYTES_MAX >> 20;
        return Err(CliError::Failed(format!("{shown} has more than {mib} MiB, which no object may have")));
    }
    Ok(bytes.into())
}

async fn delete(arguments: DeleteArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let DeleteArguments { object, context, w } = arguments;
    let path = object.path(&[("w", &w)])?;
    let mut headers = Vec::new();
    if let Some(context) = &context {
        headers.push((CONTEXT, header("--context", context)?));
    }
    let client = object.client()?;
    let answer = client.request(Method::DELETE, &path, &headers, None).await?;
    match answer.status {
        404 => Err(not_found(&object, &answer)),
        _ if answer.is_success() => done("deleted", &object, answer.header(ALONE).is_some(), output),
        _ => Err(client.refusal(&answer)),
    }
}
