//! How nodes that serve become one cluster: asked through the first, as an operator would. It stages, plans and
//! commits what is missing and nothing else, and waits until all is in its place.

use super::DevNode;
use crate::cli::client::CliError;
use crate::cli::cluster::{ANSWER_TIMEOUT, understood};
use awc::http::Method;
use ringwork_runtime::administration::{ClusterStatus, StagedChange};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// How long nodes may take to serve, to become members, and to settle; each by itself.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often is asked.
const POLL: Duration = Duration::from_millis(100);
/// How long one question may take, so that a node that hangs is asked again.
const POLL_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How many polls a new node has to stage its own join, which it was started for, before it is told to.
const OWN_JOIN_POLLS: usize = 30;

/// Makes them one cluster. What is not as it should be, though all serve, is returned in words.
pub(super) async fn form(nodes: &[DevNode], errors: &mut dyn Write) -> Result<Option<String>, CliError> {
    let Some(first) = nodes.first() else { return Ok(None) };
    for node in nodes {
        let mut obstacle = "it has not answered yet".to_owned();
        let serves = tokio::time::timeout(STEP_TIMEOUT, until_ready(node, &mut obstacle)).await;
        serves.map_err(|_| late(&format!("{} does not serve", node.name), &obstacle))??;
    }
    let mut obstacle = String::new();
    let joining = tokio::time::timeout(STEP_TIMEOUT, join(nodes, first, errors, &mut obstacle)).await;
    let doubt = joining.map_err(|_| late("the nodes are not one cluster", &obstacle))??;
    if doubt.is_some() {
        return Ok(doubt);
    }
    let settling = tokio::time::timeout(STEP_TIMEOUT, until_settled(nodes, &mut obstacle)).await;
    Ok(match settling {
        Ok(settled) => settled.map(|()| None)?,
        Err(_) => Some(late("all serve, but the cluster is not settled", &obstacle).to_string()),
    })
}

fn late(what: &str, obstacle: &str) -> CliError {
    CliError::Failed(format!("{what} after {} s: {obstacle}", STEP_TIMEOUT.as_secs()))
}

async fn until_ready(node: &DevNode, obstacle: &mut String) -> Result<(), CliError> {
    let client = node.client()?.with_answer_timeout(POLL_ANSWER_TIMEOUT);
    loop {
        match client.request(Method::GET, "/health/ready", &[], None).await {
            Ok(answer) if answer.is_success() => return Ok(()),
            Ok(answer) => *obstacle = format!("it answers {}", answer.status),
            Err(error) => *obstacle = error.to_string(),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What a look at the cluster says is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// All are members.
    Done,
    /// These have not staged their joins.
    Stage(Vec<&'a DevNode>),
    /// Every join that is missing is staged, and nothing else.
    Commit,
    /// Somebody staged something else, which is not ours to commit.
    Foreign,
}

fn next_step<'a>(cluster: &ClusterStatus, nodes: &'a [DevNode]) -> Step<'a> {
    let is_member = |node: &&DevNode| {
        cluster.members.iter().any(|member| member.name == node.name && member.status != "joining")
    };
    let is_staged = |node: &&DevNode| {
        cluster.staged.iter().any(|change| change.kind == "join" && change.node == node.name)
    };
    let missing: Vec<_> = nodes.iter().filter(|node| !is_member(node)).collect();
    if missing.is_empty() {
        return Step::Done;
    }
    let ours =
        |change: &StagedChange| change.kind == "join" && missing.iter().any(|node| node.name == change.node);
    if !cluster.staged.iter().all(ours) {
        return Step::Foreign;
    }
    let unstaged: Vec<_> = missing.into_iter().filter(|node| !is_staged(node)).collect();
    if unstaged.is_empty() { Step::Commit } else { Step::Stage(unstaged) }
}

async fn join(
    nodes: &[DevNode],
    first: &DevNode,
    errors: &mut dyn Write,
    obstacle: &mut String,
) -> Result<Option<String>, CliError> {
    let client = first.client()?.with_answer_timeout(ANSWER_TIMEOUT);
    let mut polls = 0;
    loop {
        let members = match client.get("/admin/members").await {
            Ok(members) => members,
            Err(error) => {
                *obstacle = error.to_string();
                tokio::time::sleep(POLL).await;
                continue;
            }
        };
        let cluster: ClusterStatus = understood(&members, client.url())?;
        match next_step(&cluster, nodes) {
            Step::Done => return Ok(absent(&cluster, nodes)),
            Step::Foreign => {
                return Ok(Some(format!(
                    "not all nodes are members, and other changes are staged: look at them with `ringwork cluster plan \
                     --node {0}`, then commit or clear them",
                    first.url()
                )));
            }
            Step::Stage(unstaged) => {
                for node in unstaged {
                    *obstacle = format!("{} has not staged its join", node.name);
                    if polls >= OWN_JOIN_POLLS || !node.is_new {
                        let asked = node.client()?.with_answer_timeout(ANSWER_TIMEOUT);
                        let seed = json!({ "seed": first.cluster.to_string() });
                        if let Err(error) = asked.post("/admin/cluster/join", Some(&seed)).await {
                            *obstacle = error.to_string();
                        }
                    }
                }
            }
            Step::Commit => {
                let _ = writeln!(errors, "joining {}", names(&cluster.staged));
                // Refused where something has changed since; the next look finds out what.
                let committed = async {
                    client.post("/admin/cluster/plan", None).await?;
                    client.post("/admin/cluster/commit", None).await
                };
                if let Err(error) = committed.await {
                    *obstacle = error.to_string();
                }
            }
        }
        polls += 1;
        tokio::time::sleep(POLL).await;
    }
}

fn names(staged: &[StagedChange]) -> String {
    staged.iter().map(|change| change.node.as_str()).collect::<Vec<_>>().join(", ")
}

/// Members of earlier runs that are not started in this one.
fn absent(cluster: &ClusterStatus, nodes: &[DevNode]) -> Option<String> {
    let is_started = |name: &str| nodes.iter().any(|node| node.name == name);
    let absent: Vec<&str> =
        cluster.members.iter().map(|member| member.name.as_str()).filter(|name| !is_started(name)).collect();
    let are = if absent.len() == 1 { "is a member and is" } else { "are members and are" };
    (!absent.is_empty())
        .then(|| format!("{} {are} not started; take more --nodes, or another --data-dir", absent.join(", ")))
}

async fn until_settled(nodes: &[DevNode], obstacle: &mut String) -> Result<(), CliError> {
    for node in nodes {
        let client = node.client()?.with_answer_timeout(POLL_ANSWER_TIMEOUT);
        loop {
            // A node that was just committed may answer before it knows that it is a member of all this.
            let status = client.get("/admin/members").await;
            let (settled, members) = match &status {
                Ok(status) => {
                    let members = status.get("members").and_then(Value::as_array);
                    let up = |member: &&Value| member.get("available") == Some(&Value::from("up"));
                    let up = members.map_or(0, |members| members.iter().filter(up).count());
                    (status.get("settled") == Some(&Value::Bool(true)), up)
                }
                Err(error) => {
                    *obstacle = error.to_string();
                    (false, 0)
                }
            };
            if settled && members >= nodes.len() {
                break;
            }
            if let Ok(cluster) = status.and_then(|status| understood::<ClusterStatus>(&status, client.url()))
            {
                let why = crate::cli::cluster::obstacles(
                    &cluster.members,
                    cluster.ring_ready,
                    &cluster.waiting_for,
                );
                *obstacle = format!("at {}: {why}", node.name);
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{DevArguments, layout};
    use super::*;
    use crate::http::admin::fake_cluster::{FakeCluster, member, staged};
    use std::path::PathBuf;
    use std::sync::Arc;

    /// Three nodes that are all asked at one place, as new as can be.
    fn nodes(url: &str) -> Vec<DevNode> {
        let data_dir = PathBuf::from("/nowhere");
        let mut nodes = layout(&DevArguments { nodes: 3, base_port: 8100, data_dir, set: Vec::new() });
        let address = url.trim_start_matches("http://").parse().unwrap();
        nodes.iter_mut().for_each(|node| node.http = address);
        nodes
    }

    #[actix_rt::test]
    async fn what_is_missing_is_committed_once_and_then_nothing_is() {
        let cluster: Arc<FakeCluster> = Arc::default();
        let nodes = nodes(&cluster.clone().serve().await);
        cluster.state().cluster.staged = vec![staged("join", "n3", None), staged("join", "n2", None)];
        assert_eq!(form(&nodes, &mut Vec::new()).await.unwrap(), None);
        assert_eq!(cluster.state().asked, ["plan", "commit"]);
        assert_eq!(form(&nodes, &mut Vec::new()).await.unwrap(), None);
        assert_eq!(cluster.state().asked.len(), 2, "all are members already");
        let said = form(&nodes[..2], &mut Vec::new()).await.unwrap().unwrap();
        assert!(said.starts_with("n3 is a member and is not started"), "{said}");
    }

    #[actix_rt::test]
    async fn a_node_that_does_not_stage_its_join_is_told_to() {
        let cluster: Arc<FakeCluster> = Arc::default();
        let nodes = nodes(&cluster.clone().serve().await);
        let mut nodes = nodes;
        nodes[1].is_new = false;
        cluster.state().cluster.members.retain(|member| member.name != "n3");
        assert_eq!(form(&nodes[..2], &mut Vec::new()).await.unwrap(), None);
        assert_eq!(cluster.state().asked, [r#"Join { seed: "127.0.0.1:8111" }"#, "plan", "commit"]);
    }

    #[actix_rt::test]
    async fn what_somebody_else_staged_is_not_committed() {
        let cluster: Arc<FakeCluster> = Arc::default();
        let nodes = nodes(&cluster.clone().serve().await);
        cluster.state().cluster.staged = vec![staged("join", "n2", None), staged("leave", "n1", None)];
        let said = form(&nodes, &mut Vec::new()).await.unwrap().unwrap();
        assert!(said.contains("other changes are staged") && cluster.state().asked.is_empty(), "{said}");
    }

    #[test]
    fn the_next_step_follows_from_what_is_seen() {
        let cluster = FakeCluster::default().state().cluster.clone();
        let nodes = nodes("http://127.0.0.1:1");
        let staging = |step: Step<'_>| match step {
            Step::Stage(nodes) => nodes.iter().map(|node| node.name.clone()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(staging(next_step(&cluster, &nodes)), ["n2", "n3"]);
        let with = |change: fn(&mut ClusterStatus)| {
            let mut cluster = cluster.clone();
            change(&mut cluster);
            cluster
        };
        let half = with(|cluster| cluster.staged = vec![staged("join", "n2", None)]);
        assert_eq!(staging(next_step(&half, &nodes)), ["n3"]);
        assert_eq!(next_step(&half, &nodes[..2]), Step::Commit);
        assert_eq!(next_step(&half, &nodes[..1]), Step::Done);
        let all =
            with(|cluster| cluster.members = ["n1", "n2", "n3"].map(|n| member(n, "valid", 1, 1)).to_vec());
        assert_eq!(next_step(&all, &nodes), Step::Done);
        let other = with(|cluster| cluster.staged = vec![staged("join", "n7", None)]);
        assert_eq!(next_step(&other, &nodes), Step::Foreign);
    }
}
