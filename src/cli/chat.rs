//! `ringwork chat`: sends a message, reads a user's messages, follows them, lists who has some. It decides what a
//! person sees of an answer, and shows no message in a way that could command a terminal. It does not know where
//! messages live, nor what a cursor means: what the node hands out is handed back.

use crate::cli::client::{
    CliError, NodeArguments, json_line, percent_encode, printable, query_string, write_line,
};
use awc::http::Method;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

mod events;
mod tail;
#[cfg(test)]
mod tests;
mod users;

/// What the client waits for beyond the deadline that the node was given, so that the node's own answer wins.
const GRACE: Duration = Duration::from_secs(5);
/// Idempotency keys are this long at most; the node refuses longer ones.
const KEY_BYTES_MAX: usize = 128;

const SEND_HELP: &str = "\
Done when enough replicas have it (see --w). When no answer comes, the message may still have been
stored: with --key, sending it again stores it once.

Example:
  ringwork chat send ann 'see you at eight' --from bob --key bobs-message-17";

const GET_HELP: &str = "\
A message is one line: time, sender, text. A user nobody wrote to has no messages, which is no error.
With --before alone, pages come from the newest to the oldest, each of them oldest first.

Examples:
  ringwork chat get ann --limit 20
  ringwork chat get ann --all --json";

const TAIL_HELP: &str = "\
A lost connection is taken up again after the last message shown; what happens is said on standard
error. Ends when it is interrupted, when the node refuses for good, or after --retries attempts.

Example:
  ringwork chat tail ann --json | jq -r .text";

const USERS_HELP: &str = "\
One user a line, in the order of their names. The command fails when the list is not whole, whatever it
has shown until then.

Examples:
  ringwork chat users --prefix team-
  ringwork chat users --json | jq -r 'select(.user) | .user'";

/// Arguments of `ringwork chat`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ringwork chat send ann 'hello' --from bob && ringwork chat get ann")]
pub struct ChatArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ChatCommand,
}

/// The chat verbs.
#[derive(Debug, clap::Subcommand)]
pub enum ChatCommand {
    /// Send a message to a user.
    Send(SendArguments),
    /// Read a user's messages, oldest first.
    Get(GetArguments),
    /// Follow a user's messages as they come, over reconnects.
    Tail(TailArguments),
    /// List the users that have messages.
    Users(UsersArguments),
}

/// Arguments of `ringwork chat send`.
#[derive(Debug, clap::Args)]
#[command(after_help = SEND_HELP)]
pub struct SendArguments {
    /// Who the message is for.
    pub user: String,
    /// The message.
    pub text: String,
    /// Who it is from.
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// A name for this sending: repeated with the same key, it stays one message.
    #[arg(long, value_name = "IDEMPOTENCY_KEY")]
    pub key: Option<String>,
    /// Replicas that have to confirm: a number, `quorum`, `all` or `one`.
    #[arg(long, value_name = "N")]
    pub w: Option<String>,
    /// Replicas that have to have it on disk.
    #[arg(long, value_name = "N")]
    pub dw: Option<String>,
    /// Replicas that have to be primary ones, not stand-ins.
    #[arg(long, value_name = "N")]
    pub pw: Option<String>,
    /// Different nodes that have to confirm.
    #[arg(long, value_name = "N")]
    pub node_confirms: Option<String>,
    /// What sending and reading have in common.
    #[command(flatten)]
    pub quorum: QuorumArguments,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork chat get`.
#[derive(Debug, clap::Args)]
#[command(after_help = GET_HELP)]
pub struct GetArguments {
    /// Whose messages.
    pub user: String,
    /// Only messages after this id or cursor.
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// Only messages before this id or cursor.
    #[arg(long, value_name = "ID")]
    pub before: Option<String>,
    /// Most messages of one page; the node's default is 100.
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// Read page after page until there are no more.
    #[arg(long)]
    pub all: bool,
    /// Replicas that have to answer: a number, `quorum`, `all` or `one`.
    #[arg(long, value_name = "N")]
    pub r: Option<String>,
    /// Replicas that have to be primary ones, not stand-ins.
    #[arg(long, value_name = "N")]
    pub pr: Option<String>,
    /// What sending and reading have in common.
    #[command(flatten)]
    pub quorum: QuorumArguments,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork chat tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = TAIL_HELP)]
pub struct TailArguments {
    /// Whose messages.
    pub user: String,
    /// Begin after this id.
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// Give up after this many failed attempts in a row; without it, never.
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork chat users`.
#[derive(Debug, clap::Args)]
#[command(after_help = USERS_HELP)]
pub struct UsersArguments {
    /// Only users whose names begin like this.
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Stop after so many users.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Quorum flags that sending and reading share.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct QuorumArguments {
    /// Replicas of the message, if other than the node's default.
    #[arg(long, value_name = "N")]
    pub n_val: Option<String>,
    /// Whether stand-ins may take the place of replicas that are down.
    #[arg(long, value_name = "true|false")]
    pub sloppy: Option<bool>,
    /// How long the node may take, as in 500ms.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

impl QuorumArguments {
    fn parameters(&self, own: &[(&'static str, &Option<String>)]) -> Vec<(&'static str, String)> {
        let sloppy = self.sloppy.map(|sloppy| sloppy.to_string());
        let timeout = self.timeout.map(|timeout| timeout.as_millis().to_string());
        let shared = [("n_val", &self.n_val), ("sloppy", &sloppy), ("timeout", &timeout)];
        own.iter().chain(&shared).filter_map(|(name, value)| Some((*name, (*value).clone()?))).collect()
    }
}

/// Runs a chat verb. What it says goes to `output`, what happens meanwhile to `errors`.
pub async fn run(
    arguments: ChatArguments,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    match arguments.command {
        ChatCommand::Send(arguments) => send(arguments, output).await,
        ChatCommand::Get(arguments) => get(arguments, output, errors).await,
        ChatCommand::Tail(arguments) => tail::run(arguments, output, errors).await,
        ChatCommand::Users(arguments) => users::run(arguments, output).await,
    }
}

/// The path of something of a user's.
fn user_path(user: &str, what: &str) -> Result<String, CliError> {
    if user.is_empty() {
        return Err(CliError::Usage("the user's name is empty; say whose messages are meant".to_owned()));
    }
    Ok(format!("/chat/users/{}/{what}", percent_encode(user)))
}

async fn send(arguments: SendArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let own = [
        ("w", &arguments.w),
        ("dw", &arguments.dw),
        ("pw", &arguments.pw),
        ("node_confirms", &arguments.node_confirms),
    ];
    let path = user_path(&arguments.user, "messages")? + &query_string(&arguments.quorum.parameters(&own));
    let mut headers = Vec::new();
    if let Some(key) = &arguments.key {
        // A header takes no other characters; without this check the message would be the HTTP library's.
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what =
                format!("--key takes 1 to {KEY_BYTES_MAX} visible ASCII characters, for example a UUID");
            return Err(CliError::Usage(what));
        }
        headers.push(("idempotency-key", key.as_str()));
    }
    let mut body = json!({ "text": arguments.text });
    if let Some(from) = &arguments.from {
        body["from"] = Value::from(from.as_str());
    }
    let client = patient(&arguments.node, &arguments.quorum)?;
    let answer = client.ask(Method::POST, &path, &headers, Some(&body)).await?;
    let line = if arguments.node.json { json_line(&answer) } else { sent_line(&answer) };
    write_line(output, &line)
}

/// A client that waits longer than the node was told to.
fn patient(
    node: &NodeArguments,
    quorum: &QuorumArguments,
) -> Result<crate::cli::client::NodeClient, CliError> {
    let client = node.client()?;
    Ok(match quorum.timeout {
        Some(timeout) => client.with_answer_timeout(timeout.saturating_add(GRACE)),
        None => client,
    })
}

/// `sent <id> (2 replicas confirmed, on node1, node2)`. The node says how many confirmed; where it also says
/// of how many, that is shown too.
fn sent_line(answer: &Value) -> String {
    let id = field(answer, "id");
    let mut names: Vec<Cow<'_, str>> = Vec::new();
    for node in answer.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        let name = node.as_str().or_else(|| node.get("name").and_then(Value::as_str)).unwrap_or("?");
        if !names.contains(&Cow::Borrowed(name)) {
            names.push(printable(name));
        }
    }
    let confirmed =
        match (answer.get("acks").and_then(Value::as_u64), answer.get("n_val").and_then(Value::as_u64)) {
            (Some(acks), Some(all)) => format!("{acks} of {all} replicas confirmed"),
            (Some(1), None) => "1 replica confirmed".to_owned(),
            (Some(acks), None) => format!("{acks} replicas confirmed"),
            (None, _) => "confirmed".to_owned(),
        };
    let on = if names.is_empty() { String::new() } else { format!(", on {}", names.join(", ")) };
    format!("sent {id} ({confirmed}{on})")
}

async fn get(
    arguments: GetArguments,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    // With nothing but an end, pages go backward from it, and a cursor is the next end. Otherwise they go
    // forward.
    let backward = arguments.before.is_some() && arguments.after.is_none();
    let (onward, mut place, bound) = if backward {
        ("before", arguments.before.clone(), ("after", None))
    } else {
        ("after", arguments.after.clone(), ("before", arguments.before.clone()))
    };
    let own = [("r", &arguments.r), ("pr", &arguments.pr), (bound.0, &bound.1)];
    let mut fixed = arguments.quorum.parameters(&own);
    fixed.extend(arguments.limit.map(|limit| ("limit", limit.to_string())));
    let client = patient(&arguments.node, &arguments.quorum)?;
    let path = user_path(&arguments.user, "messages")?;
    let mut degraded = false;
    loop {
        let mut parameters = fixed.clone();
        parameters.extend(place.clone().map(|place| (onward, place)));
        let page = client.get(&(path.clone() + &query_string(&parameters))).await?;
        let Some(messages) = page.get("messages").and_then(Value::as_array) else {
            let url = client.url();
            return Err(CliError::Failed(format!(
                "{url} answered without messages; is this a ringwork node?"
            )));
        };
        if arguments.node.json {
            write_line(output, &json_line(&page))?;
        } else {
            messages.iter().try_for_each(|message| write_line(output, &message_line(message)))?;
        }
        degraded |= page.get("degraded").and_then(Value::as_bool) == Some(true);
        let next = page.get("next").and_then(Value::as_str);
        if arguments.all && next.is_some() {
            // A node that hands out the same cursor again would keep us here for ever.
            if next == place.as_deref() {
                return Err(CliError::Failed(format!(
                    "{} does not get past {}",
                    client.url(),
                    field(&page, "next")
                )));
            }
            place = next.map(str::to_owned);
            continue;
        }
        output.flush().map_err(CliError::writing)?;
        if !arguments.node.json {
            if degraded {
                let _ = writeln!(
                    errors,
                    "fewer complete replicas than asked for could answer, so messages that were sent may be missing"
                );
            }
            hint(onward, &page, errors);
        }
        return Ok(());
    }
}

/// How to go on, said where it does not get in the way of the messages.
fn hint(onward: &str, page: &Value, errors: &mut dyn Write) {
    let cursor = |name: &str| page.get(name).and_then(Value::as_str).map(shell_word);
    let _ = if let Some(next) = cursor("next") {
        writeln!(errors, "there is more: read on with --{onward}={next}, or all of it with --all")
    } else if page.get("messages").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        writeln!(errors, "no messages")
    } else if let Some(resume) = cursor("resume") {
        writeln!(errors, "no more yet: read what comes later with --after={resume}")
    } else {
        Ok(())
    };
}

/// A word from outside as it can be pasted into a shell and stays a word.
fn shell_word(text: &str) -> String {
    let shown = printable(text);
    if !shown.is_empty()
        && shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~:@%+/=".contains(&byte))
    {
        return shown.into_owned();
    }
    format!("'{}'", shown.replace('\'', r"'\''"))
}

/// One message on one line: when, from whom, what.
fn message_line(message: &Value) -> String {
    let sent_at = match message.get("sent_at").and_then(Value::as_u64) {
        Some(milliseconds) => rfc3339(milliseconds),
        None => field(message, "sent_at"),
    };
    format!("{sent_at}  {}  {}", field(message, "from"), field(message, "text"))
}

fn rfc3339(milliseconds: u64) -> String {
    // Beyond the year 9999 humantime panics; a number that large is shown as it is.
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    if milliseconds >= YEAR_10000_MS {
        return milliseconds.to_string();
    }
    let moment = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
    humantime::format_rfc3339_millis(moment).to_string()
}

/// A field as text that is safe to show, `-` when there is none.
fn field(object: &Value, name: &str) -> String {
    match object.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text).into_owned(),
        Some(other) => json_line(other),
    }
}
