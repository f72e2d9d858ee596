//! `ringwork set`, `get` and `unset`: settings that can be changed while nodes run. It decides how they are shown;
//! which there are, what they take and whom they reach, the node that is asked knows.

use crate::cli::client::{
    CliError, NodeArguments, json_line, percent_encode, printable, query_string, write_line,
};
use crate::cli::cluster::understood;
use crate::cli::table::{Align, Table};
use awc::http::Method;
use ringwork_runtime::administration::ClusterSetting;
use serde_json::{Value, json};
use std::io::Write;

#[cfg(test)]
mod tests;

const SET_HELP: &str = "\
For the whole cluster: every node takes the value within seconds, one that is away when it is back,
and keeps it over its starts. It counts before the node's configuration. --of sets it for one node
alone, before the cluster's. 'ringwork get' lists what can be set.

Examples:
  ringwork set handoff.limit 8
  ringwork set handoff.bytes_per_second 64MiB --of n3
  ringwork set log.level debug --of n3
  ringwork set chat.w all";

const GET_HELP: &str = "\
Shows what is in force on the asked node, and why: it is set for the node, for the cluster, or comes
from the node's configuration.

Examples:
  ringwork get
  ringwork get handoff.limit --json | jq -r .value";

const UNSET_HELP: &str = "\
What counts then is, for one node, what is set for the cluster, and else what each node's own
configuration says.

Examples:
  ringwork unset handoff.limit
  ringwork unset log.level --of n3";

/// Arguments of `ringwork set`.
#[derive(Debug, clap::Args)]
#[command(after_help = SET_HELP)]
pub struct SetArguments {
    /// The setting's name.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Its value.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub value: String,
    /// The node that is to differ, by name or id.
    #[arg(long, value_name = "NODE")]
    pub of: Option<String>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork get`.
#[derive(Debug, clap::Args)]
#[command(after_help = GET_HELP)]
pub struct GetArguments {
    /// The setting's name; without it all are shown.
    #[arg(value_name = "KEY")]
    pub key: Option<String>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork unset`.
#[derive(Debug, clap::Args)]
#[command(after_help = UNSET_HELP)]
pub struct UnsetArguments {
    /// The setting's name.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The node that is to differ no more, by name or id.
    #[arg(long, value_name = "NODE")]
    pub of: Option<String>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

fn path(key: &str) -> String {
    format!("/admin/settings/{}", percent_encode(key))
}

/// `ringwork set`.
pub async fn set(arguments: SetArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let SetArguments { key, value, of, node } = arguments;
    let mut body = json!({ "value": value });
    if let Some(of) = of {
        body["of"] = json!(of);
    }
    let client = node.client()?;
    let answer = client.ask(Method::PUT, &path(&key), &[], Some(&body)).await?;
    changed(&answer, client.url(), &node, output)
}

/// `ringwork unset`.
pub async fn unset(arguments: UnsetArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let UnsetArguments { key, of, node } = arguments;
    let query = of.map(|of| query_string(&[("of", of)])).unwrap_or_default();
    let client = node.client()?;
    let answer = client.ask(Method::DELETE, &format!("{}{query}", path(&key)), &[], None).await?;
    changed(&answer, client.url(), &node, output)
}

fn changed(answer: &Value, url: &str, node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    if node.json {
        return write_line(output, &json_line(answer));
    }
    let setting: ClusterSetting = understood(answer, url)?;
    for line in lines(&setting) {
        write_line(output, &line)?;
    }
    Ok(())
}

/// `ringwork get`.
pub async fn get(arguments: GetArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let GetArguments { key, node } = arguments;
    let client = node.client()?;
    if let Some(key) = key {
        let answer = client.get(&path(&key)).await?;
        return changed(&answer, client.url(), &node, output);
    }
    let answer = client.get("/admin/settings").await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let settings: Vec<ClusterSetting> =
        understood(answer.get("settings").unwrap_or(&Value::Null), client.url())?;
    let columns = [
        ("setting", Align::Left),
        ("in force", Align::Left),
        ("set for", Align::Left),
        ("other nodes", Align::Left),
        ("takes", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for setting in &settings {
        table.row([
            setting.key.clone(),
            setting.value.clone(),
            setting.source.clone(),
            of_nodes(setting),
            setting.takes.clone(),
        ]);
    }
    table.write(output)
}

fn of_nodes(setting: &ClusterSetting) -> String {
    let each: Vec<String> = setting.nodes.iter().map(|(node, value)| format!("{node}: {value}")).collect();
    each.join(", ")
}

/// A setting as a person reads it.
fn lines(setting: &ClusterSetting) -> Vec<String> {
    let source = match setting.source.as_str() {
        "node" => "set for this node".to_owned(),
        "cluster" => "set for the cluster".to_owned(),
        "configuration" => "as this node's configuration says".to_owned(),
        other => other.to_owned(),
    };
    let mut lines = match setting.source.is_empty() {
        true => vec![format!("{} is not set", setting.key)],
        false => vec![format!("{} = {} on the asked node, {source}", setting.key, setting.value)],
    };
    if let Some(cluster) = setting.cluster.as_ref().filter(|_| setting.source != "cluster") {
        lines.push(format!("the cluster: {cluster}"));
    }
    lines.extend(setting.nodes.iter().map(|(node, value)| format!("{node}: {value}")));
    lines.iter().map(|line| printable(line).into_owned()).collect()
}
