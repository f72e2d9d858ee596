//! `ringwork bucket-type`: what buckets of a kind are like. It decides how types are shown, and that one that was
//! created can be waited for; what a type may be, the node knows.

use crate::cli::client::{
    CliError, NodeArguments, NodeClient, json_line, percent_encode, printable, write_line,
};
use crate::cli::table::{Align, Table};
use awc::http::Method;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::time::Duration;

#[cfg(test)]
mod tests;

const CREATE_HELP: &str = "\
A type is created, then known by every member, then brought into use with 'activate'; --activate waits
for that and does it. Properties are those of Riak; what is not given is as Riak has it for types, so
siblings are kept.

Examples:
  ringwork bucket-type create carts
  ringwork bucket-type create logs allow_mult=false n_val=2 --activate
  ringwork bucket-type create once --props '{\"write_once\": true}' --activate";

const ACTIVATE_HELP: &str = "\
Waits until every member has the type, 60 s at most; if some member still does not have it, the type stays
as it is, and the command says so and fails.

Example:
  ringwork bucket-type activate carts";

const UPDATE_HELP: &str = "\
Changes properties of a type that is in use, for all of its buckets that were given none of their own.

Example:
  ringwork bucket-type update carts w=all";

/// How long is waited for the members; the help says so.
const READY_WITHIN: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Arguments of `ringwork bucket-type`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ringwork bucket-type create carts --activate && ringwork bucket-type list"
)]
pub struct BucketTypeArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: BucketTypeCommand,
}

/// What can be done with types.
#[derive(Debug, clap::Subcommand)]
pub enum BucketTypeCommand {
    /// Create a type.
    Create(CreateArguments),
    /// Bring a type into use, once every member has it.
    #[command(after_help = ACTIVATE_HELP)]
    Activate(NameArguments),
    /// Change a type that is in use.
    Update(UpdateArguments),
    /// Show how far a type is, and its properties.
    #[command(after_help = "Example:\n  ringwork bucket-type status carts --json | jq .props.n_val")]
    Status(NameArguments),
    /// List the types that were created.
    #[command(after_help = "Example:\n  ringwork bucket-type list")]
    List(ListArguments),
}

/// Arguments of `ringwork bucket-type create`.
#[derive(Debug, clap::Args)]
#[command(after_help = CREATE_HELP)]
pub struct CreateArguments {
    /// The type's name.
    #[arg(value_name = "TYPE")]
    pub name: String,
    /// Properties, such as n_val=2.
    #[command(flatten)]
    pub props: PropsArguments,
    /// Wait until every member has it, 60 s at most, and bring it into use.
    #[arg(long)]
    pub activate: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork bucket-type update`.
#[derive(Debug, clap::Args)]
#[command(after_help = UPDATE_HELP)]
pub struct UpdateArguments {
    /// The type's name.
    #[arg(value_name = "TYPE")]
    pub name: String,
    /// Properties, such as n_val=2.
    #[command(flatten)]
    pub props: PropsArguments,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Properties, in two ways to write them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PropsArguments {
    /// Properties, such as allow_mult=false.
    #[arg(value_name = "PROPERTY=VALUE")]
    pub assigned: Vec<String>,
    /// Properties as JSON, with or without {"props": …} around them.
    #[arg(long, value_name = "JSON")]
    pub props: Option<String>,
}

/// Arguments of commands that take a type.
#[derive(Debug, clap::Args)]
pub struct NameArguments {
    /// The type's name.
    #[arg(value_name = "TYPE")]
    pub name: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork bucket-type list`.
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

impl PropsArguments {
    fn read(&self) -> Result<Map<String, Value>, CliError> {
        let mut props = match &self.props {
            None => Map::new(),
            Some(text) => match serde_json::from_str(text) {
                Ok(Value::Object(mut given)) => match given.remove("props") {
                    Some(Value::Object(props)) if given.is_empty() => props,
                    Some(other) => {
                        given.insert("props".to_owned(), other);
                        given
                    }
                    None => given,
                },
                _ => {
                    let what = "--props takes a JSON object, such as '{\"n_val\": 2}'";
                    return Err(CliError::Usage(what.to_owned()));
                }
            },
        };
        for assigned in &self.assigned {
            let Some((name, value)) = assigned.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                let shown = printable(assigned);
                return Err(CliError::Usage(format!("`{shown}` is no property; write it like n_val=2")));
            };
            // A number or a truth where it is one, else a word.
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            props.insert(name.to_owned(), value);
        }
        Ok(props)
    }
}

fn path(name: &str) -> Result<String, CliError> {
    if name.is_empty() {
        return Err(CliError::Usage("the name of the bucket type is empty".to_owned()));
    }
    Ok(format!("/admin/bucket-types/{}", percent_encode(name)))
}

/// Runs a command.
pub async fn run(arguments: BucketTypeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    match arguments.command {
        BucketTypeCommand::Create(arguments) => create(arguments, output).await,
        BucketTypeCommand::Activate(NameArguments { name, node }) => {
            show(&activated(&node.client()?, &path(&name)?, READY_WITHIN).await?, &node, output)
        }
        BucketTypeCommand::Update(UpdateArguments { name, props, node }) => {
            let body = json!({ "props": props.read()? });
            let answer = node.client()?.ask(Method::PATCH, &path(&name)?, &[], Some(&body)).await?;
            show(&answer, &node, output)
        }
        BucketTypeCommand::Status(NameArguments { name, node }) => {
            show(&node.client()?.get(&path(&name)?).await?, &node, output)
        }
        BucketTypeCommand::List(ListArguments { node }) => list(&node, output).await,
    }
}

async fn create(arguments: CreateArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let CreateArguments { name, props, activate, node } = arguments;
    let (client, path) = (node.client()?, path(&name)?);
    let body = json!({ "props": props.read()? });
    let mut answer = client.ask(Method::PUT, &path, &[], Some(&body)).await?;
    if activate {
        answer = activated(&client, &path, READY_WITHIN).await?;
    }
    show(&answer, &node, output)
}

/// Brings a type into use as soon as every member has it.
async fn activated(client: &NodeClient, path: &str, within: Duration) -> Result<Value, CliError> {
    let mut awaited = String::new();
    let activating = async {
        loop {
            match client.post(&format!("{path}/activate"), None).await {
                Err(CliError::Refused { code: Some(code), message, .. })
                    if code == "bucket-type-not-ready" =>
                {
                    awaited = message;
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    };
    tokio::time::timeout(within, activating).await.unwrap_or_else(|_| {
        let waited = within.as_secs();
        Err(CliError::Failed(format!(
            "waited {waited} s for every member to have the type, and the last answer was: {awaited}; `ringwork \
             cluster status` shows who is missing, `ringwork bucket-type activate` goes on"
        )))
    })
}

fn show(answer: &Value, node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    if node.json {
        return write_line(output, &json_line(answer));
    }
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    write_line(output, &printable(&format!("{} is {}", text("name"), text("stage"))))?;
    let props = answer.get("props").and_then(Value::as_object);
    for (name, value) in props.into_iter().flatten() {
        write_line(output, &printable(&format!("  {name}: {}", word(value))))?;
    }
    Ok(())
}

/// A value without quotes where it is a word.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn list(node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let answer = node.client()?.get("/admin/bucket-types").await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let columns = [
        ("type", Align::Left),
        ("stage", Align::Left),
        ("n_val", Align::Right),
        ("allow_mult", Align::Left),
        ("datatype", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for listed in answer.get("types").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| word(listed.get(name).unwrap_or(&Value::from("-")));
        let prop = |name: &str| word(listed.pointer(&format!("/props/{name}")).unwrap_or(&Value::from("-")));
        table.row([text("name"), text("stage"), prop("n_val"), prop("allow_mult"), prop("datatype")]);
    }
    table.write(output)
}
