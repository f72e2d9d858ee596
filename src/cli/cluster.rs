//! `ringwork cluster`: stages changes of the cluster, shows what a commit would do, does it, and shows who the
//! members are. It decides what an operator is told and what to type next; it asks one node, and does not know
//! which node carries a request out.

use crate::cli::client::{
    CliError, DEFAULT_NODE_URL, NodeArguments, NodeClient, explanation, json_line, write_line,
};
use crate::cli::table::counted;
use ringwork_runtime::administration::{ClusterStatus, PlanStatus, StagedChange};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

mod members;
mod plan;
#[cfg(test)]
mod tests;
mod violations;

pub(crate) use members::{availability, claimant, members_table, obstacles, ring_line};
pub(crate) use violations::{Alike, violations};

/// What a request to the claimant may take, its own deadlines included: longer than the node's.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

const CLUSTER_HELP: &str = "\
Changes are staged, looked at as a plan, and committed together. Any member may be asked.

Example:
  ringwork cluster join 10.0.0.1:8099 --node http://10.0.0.2:8098
  ringwork cluster plan && ringwork cluster commit && ringwork wait settled";

const JOIN_HELP: &str = "\
The node that is asked (--node) joins, not the seed. SEED is the cluster address of any member, not
its HTTP address. The node must not hold data of its own.

Example:
  ringwork cluster join 10.0.0.1:8099 --node http://10.0.0.2:8098";

const LEAVE_HELP: &str = "\
The member gives its partitions to the others and ends its membership when they have them. Without
a name it is the node that is asked.

Example:
  ringwork cluster leave n3";

const REPLACE_HELP: &str = "\
For a machine that still runs and is to go: OLD passes all it has to NEW and ends its membership
when NEW has it. No other partition moves. NEW is a node that waits to join (started with a seed of
this cluster), or a member without partitions. Nothing is lost, and both serve meanwhile.

For a machine that is gone for good there is force-replace.

Example:
  ringwork cluster replace n1 n4 && ringwork cluster plan && ringwork cluster commit";

const FORCE_REPLACE_HELP: &str = "\
For a machine that is gone for good, with its disk: OLD is removed, and NEW takes its place at
once, without data, and gets that from the other replicas. NEW is a node that waits to join, or a
member without partitions.

Lost is what only OLD had: writes that no other replica has acknowledged, what it kept for others
that were down, and everything where each key has one replica. The plan says how much has no
replica left. OLD must be down, and cannot come back: its id is removed, its data stays unread.

While OLD still runs, or can be started again, even for an hour, take replace: it loses nothing.
When it only stays away for a while do nothing, or mark it with down.

Example:
  ringwork cluster force-replace n1 n4 && ringwork cluster plan";

const FORCE_REMOVE_HELP: &str = "\
For a machine that is gone for good, with its disk, and has no successor: NODE is removed, and the
others take over its partitions at once, without its data, and get that from the other replicas.

Lost is what only NODE had: writes that no other replica has acknowledged, what it kept for others
that were down, and everything where each key has one replica. The plan says how much has no
replica left. NODE must be down, and cannot come back: its id is removed, its data stays unread.

While NODE still runs, or can be started again, take leave: it loses nothing. When there is a new
machine in its place take force-replace: less moves.

Example:
  ringwork cluster force-remove n3 && ringwork cluster plan";

const DOWN_HELP: &str = "\
For a member that does not answer and will not for a while: it is no longer waited for. This takes
effect at once, without plan and commit. Its partitions stay its own, and when it is started again
it is a member as before.

Example:
  ringwork cluster down n3";

const LOCATION_HELP: &str = "\
Copies of one thing are put at different locations where there are enough. An empty name removes
the location. Without --of it is the node that is asked.

Examples:
  ringwork cluster location 'rack 1' --of n3
  ringwork cluster location '' --of n3";

const PLAN_HELP: &str = "\
Works out what a commit would do, and does nothing: who would hold how much, what would move, and
what an operator should know. A commit does just what the last plan showed, or refuses.

Example:
  ringwork cluster plan";

/// Arguments of `ringwork cluster`.
#[derive(Debug, clap::Args)]
#[command(after_help = CLUSTER_HELP)]
pub struct ClusterArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// The cluster verbs.
#[derive(Debug, clap::Subcommand)]
pub enum ClusterCommand {
    /// Stages that the asked node joins the cluster of a seed.
    Join(JoinArguments),
    /// Stages that a member gives away what it has and leaves.
    Leave(LeaveArguments),
    /// Stages that a node takes the place of a member that runs.
    Replace(ReplaceArguments),
    /// Stages that a node takes the place of a member that is lost with its data.
    ForceReplace(ForceReplaceArguments),
    /// Stages that a member that is lost with its data is removed.
    ForceRemove(ForceRemoveArguments),
    /// Marks a member that does not answer as down, at once.
    Down(DownArguments),
    /// Stages a member's location.
    Location(LocationArguments),
    /// Stages that partitions are claimed anew, to even out shares.
    #[command(after_help = "Example:\n  ringwork cluster rebalance && ringwork cluster plan")]
    Rebalance(NodeArguments),
    /// Shows what a commit would do.
    #[command(after_help = PLAN_HELP)]
    Plan(NodeArguments),
    /// Does what the last plan showed.
    #[command(after_help = "Example:\n  ringwork cluster commit && ringwork wait settled")]
    Commit(NodeArguments),
    /// Forgets what is staged.
    #[command(after_help = "Example:\n  ringwork cluster clear")]
    Clear(NodeArguments),
    /// Shows the members, who is waited for, and what is staged.
    #[command(after_help = "Example:\n  ringwork cluster status --node http://10.0.0.2:8098")]
    Status(NodeArguments),
}

/// Arguments of `ringwork cluster join`.
#[derive(Debug, clap::Args)]
#[command(after_help = JOIN_HELP)]
pub struct JoinArguments {
    /// The cluster address (host:port) of a member.
    pub seed: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork cluster leave`.
#[derive(Debug, clap::Args)]
#[command(after_help = LEAVE_HELP)]
pub struct LeaveArguments {
    /// The member's name or id.
    #[arg(value_name = "NODE")]
    pub member: Option<String>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork cluster replace`.
#[derive(Debug, clap::Args)]
#[command(after_help = REPLACE_HELP)]
pub struct ReplaceArguments {
    /// Who is replaced by whom.
    #[command(flatten)]
    pub pair: PairArguments,
}

/// Arguments of `ringwork cluster force-replace`.
#[derive(Debug, clap::Args)]
#[command(after_help = FORCE_REPLACE_HELP)]
pub struct ForceReplaceArguments {
    /// Who is replaced by whom.
    #[command(flatten)]
    pub pair: PairArguments,
}

/// One node in the place of another.
#[derive(Debug, clap::Args)]
pub struct PairArguments {
    /// The name or id of the member that goes.
    pub old: String,
    /// The name or id of the node that takes its place.
    pub new: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork cluster force-remove`.
#[derive(Debug, clap::Args)]
#[command(after_help = FORCE_REMOVE_HELP)]
pub struct ForceRemoveArguments {
    /// The member's name or id.
    #[arg(value_name = "NODE")]
    pub member: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork cluster down`.
#[derive(Debug, clap::Args)]
#[command(after_help = DOWN_HELP)]
pub struct DownArguments {
    /// The member's name or id.
    #[arg(value_name = "NODE")]
    pub member: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork cluster location`.
#[derive(Debug, clap::Args)]
#[command(after_help = LOCATION_HELP)]
pub struct LocationArguments {
    /// The location; empty for none.
    pub name: String,
    /// The member's name or id.
    #[arg(long, value_name = "NODE")]
    pub of: Option<String>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Runs a verb.
pub async fn run(arguments: ClusterArguments, output: &mut dyn Write) -> Result<(), CliError> {
    match arguments.command {
        ClusterCommand::Join(JoinArguments { seed, node }) => {
            stage("join", Some(json!({ "seed": seed })), &node, output).await
        }
        ClusterCommand::Leave(LeaveArguments { member, node }) => {
            stage("leave", member.map(|member| json!({ "node": member })), &node, output).await
        }
        ClusterCommand::Location(LocationArguments { name, of, node }) => {
            let location = (!name.trim().is_empty()).then_some(name);
            let mut body = json!({ "location": location });
            if let Some(of) = of {
                body["node"] = json!(of);
            }
            stage("location", Some(body), &node, output).await
        }
        ClusterCommand::Rebalance(node) => stage("rebalance", None, &node, output).await,
        ClusterCommand::Replace(ReplaceArguments { pair }) => stage_pair("replace", pair, output).await,
        ClusterCommand::ForceReplace(ForceReplaceArguments { pair }) => {
            stage_pair("force-replace", pair, output).await
        }
        ClusterCommand::ForceRemove(ForceRemoveArguments { member, node }) => {
            stage("force-remove", Some(json!({ "node": member })), &node, output).await
        }
        ClusterCommand::Down(arguments) => down(arguments, output).await,
        ClusterCommand::Plan(node) => make_plan(&node, output).await,
        ClusterCommand::Commit(node) => commit(&node, output).await,
        ClusterCommand::Clear(node) => {
            let answer = client(&node)?.post("/admin/cluster/clear", None).await?;
            match node.json {
                true => write_line(output, &json_line(&answer)),
                false => write_line(output, "nothing is staged any more"),
            }
        }
        ClusterCommand::Status(node) => status(&node, output).await,
    }
}

fn client(node: &NodeArguments) -> Result<NodeClient, CliError> {
    Ok(node.client()?.with_answer_timeout(ANSWER_TIMEOUT))
}

/// An answer in the form that this release knows. A node of another release may answer otherwise.
pub(crate) fn understood<T: DeserializeOwned>(answer: &Value, url: &str) -> Result<T, CliError> {
    T::deserialize(answer).map_err(|error| {
        CliError::Failed(format!(
            "{url} answered what this release does not understand ({}); is it a node of the same release? --json \
             shows the answer as it is",
            explanation(&error.to_string())
        ))
    })
}

/// A command to type next, at the same node.
pub(crate) fn next_command(command: &str, node: &NodeArguments) -> String {
    let url = node.node.trim_end_matches('/');
    if url == DEFAULT_NODE_URL {
        command.to_owned()
    } else {
        format!("{command} --node {}", explanation(url))
    }
}

async fn stage(
    verb: &str,
    body: Option<Value>,
    node: &NodeArguments,
    output: &mut dyn Write,
) -> Result<(), CliError> {
    let client = client(node)?;
    let answer = client.post(&format!("/admin/cluster/{verb}"), body.as_ref()).await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let staged: Vec<StagedChange> = understood(answer.get("staged").unwrap_or(&Value::Null), client.url())?;
    write_staged(&staged, output)?;
    if verb == "join" {
        // The asked node is no member yet, so it is another that is to be asked next.
        return write_line(output, "see what a commit would do, at any member: ringwork cluster plan");
    }
    write_line(
        output,
        &format!("see what a commit would do: {}", next_command("ringwork cluster plan", node)),
    )
}

async fn stage_pair(verb: &str, pair: PairArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let PairArguments { old, new, node } = pair;
    stage(verb, Some(json!({ "old": old, "new": new })), &node, output).await
}

fn write_staged(staged: &[StagedChange], output: &mut dyn Write) -> Result<(), CliError> {
    if staged.is_empty() {
        return write_line(output, "nothing is staged");
    }
    write_line(output, "staged:")?;
    staged.iter().try_for_each(|change| write_line(output, &format!("  {}", change_line(change))))
}

/// A staged change as a sentence.
fn change_line(change: &StagedChange) -> String {
    let node = explanation(&change.node);
    let with = explanation(change.with.as_deref().unwrap_or("a node that is not named"));
    match (change.kind.as_str(), &change.location) {
        ("join", _) => format!("{node} joins"),
        ("leave", _) => format!("{node} leaves"),
        ("location", Some(location)) => format!("{node} is at location '{}'", explanation(location)),
        ("location", None) => format!("{node} is at no location"),
        ("rebalance", _) => "partitions are claimed anew".to_owned(),
        ("replace", _) => format!("{with} takes the place of {node}, which passes on what it has"),
        ("force-replace", _) => format!("{with} takes the place of {node}, which is lost with its data"),
        ("force-remove", _) => format!("{node} is removed, and is lost with its data"),
        (other, _) => format!("{} {node}", explanation(other)).trim_end().to_owned(),
    }
}

async fn down(arguments: DownArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let DownArguments { member, node } = arguments;
    let answer = client(&node)?.post("/admin/cluster/down", Some(&json!({ "node": member }))).await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let member = explanation(&member);
    write_line(
        output,
        &format!("{member} is marked down: nobody waits for it any more; its partitions stay its own"),
    )
}

async fn make_plan(node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let client = client(node)?;
    let answer = client.post("/admin/cluster/plan", None).await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let plan: PlanStatus = understood(&answer, client.url())?;
    plan::write(&plan, output)?;
    write_line(output, "")?;
    write_line(output, "nothing is done yet")?;
    write_line(output, &format!("do just this:          {}", next_command("ringwork cluster commit", node)))?;
    write_line(output, &format!("forget what is staged: {}", next_command("ringwork cluster clear", node)))
}

async fn commit(node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let client = client(node)?;
    let answer = client.post("/admin/cluster/commit", None).await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let plan: PlanStatus = understood(&answer, client.url())?;
    let what = match plan.passed_on() {
        0 => "no partition has to move".to_owned(),
        moving => format!("{} now on the way", counted(moving, "partition is", "partitions are")),
    };
    write_line(output, &format!("committed, epoch {}: {what}", plan.epoch))?;
    let wait = next_command("ringwork wait settled", node);
    write_line(output, &format!("wait until everything is in its place: {wait}"))
}

async fn status(node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let client = client(node)?;
    let answer = client.get("/admin/members").await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let cluster: ClusterStatus = understood(&answer, client.url())?;
    members_table(&cluster.members).write(output)?;
    write_line(output, "")?;
    for (name, value) in members::cluster_lines(&cluster) {
        write_line(output, &format!("{name:<9}  {}", explanation(&value)))?;
    }
    if !cluster.staged.is_empty() {
        write_line(output, "")?;
        write_staged(&cluster.staged, output)?;
        let plan = next_command("ringwork cluster plan", node);
        write_line(output, &format!("see what a commit would do: {plan}"))?;
    }
    Ok(())
}
