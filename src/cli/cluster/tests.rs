//! The cluster verbs against the real admin routes with a fake cluster behind them: what a person reads, what a
//! script reads, and what to type next.

use super::*;
use crate::http::admin::fake_cluster::{FakeCluster, member, staged};
use clap::Parser;
use ringwork_runtime::administration::{AdministrationRefusal, Availability};
use std::sync::Arc;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What a command line writes, with the node's URL made readable.
async fn said(url: &str, words: &[&str]) -> Result<String, CliError> {
    let node = ["--node", url];
    let words = ["cluster"].iter().chain(words).chain(&node);
    let mut output = Vec::new();
    run(Line::try_parse_from(words).unwrap().cluster, &mut output).await?;
    Ok(String::from_utf8(output).unwrap().replace(url, "URL"))
}

async fn bed() -> (Arc<FakeCluster>, String) {
    let cluster: Arc<FakeCluster> = Arc::default();
    (cluster.clone(), cluster.serve().await)
}

#[actix_rt::test]
async fn three_nodes_are_joined_with_the_command_line_alone() {
    let (cluster, url) = bed().await;
    assert_eq!(
        said(&url, &["join", "10.0.0.1:8099"]).await.unwrap(),
        "staged:\n  n2 joins\nsee what a commit would do, at any member: ringwork cluster plan\n"
    );
    cluster.state().cluster.staged.push(staged("join", "n3", None));
    assert_eq!(
        said(&url, &["plan"]).await.unwrap(),
        "\
a commit would begin epoch 2 with these changes:
  n2 joins
  n3 joins

node  status  partitions now    share  afterwards   share
n1    valid               64  100.0 %          22  34.4 %
n2    valid                0    0.0 %          21  32.8 %
n3    valid                0    0.0 %          21  32.8 %

n1 → n2: 21 partitions
n1 → n3: 21 partitions
42 partitions move (at least 42 must)
2 of 64 windows of three neighbours have a node twice
64 of 64 windows of four neighbours have a node twice (unavoidable with 3 nodes)
warning: n3 has no location

nothing is done yet
do just this:          ringwork cluster commit --node URL
forget what is staged: ringwork cluster clear --node URL
"
    );
    assert_eq!(
        said(&url, &["commit"]).await.unwrap(),
        "committed, epoch 2: 42 partitions are now on the way\n\
         wait until everything is in its place: ringwork wait settled --node URL\n"
    );
    assert_eq!(cluster.state().asked, [r#"Join { seed: "10.0.0.1:8099" }"#, "plan", "commit"]);
    let refused = said(&url, &["commit"]).await.unwrap_err();
    assert_eq!(
        (refused.exit_code(), refused.to_string().replace(&url, "URL").as_str()),
        (1, "URL refused (409 no-plan): there is no plan; make one")
    );
}

#[actix_rt::test]
async fn the_members_are_a_table_and_what_is_not_in_order_is_said_below() {
    let (cluster, url) = bed().await;
    {
        let status = &mut cluster.state().cluster;
        status.members = vec![member("n1", "valid", 43, 22), member("n2", "valid", 21, 42)];
        status.members[0].location = Some("rack 1\u{1b}[2J".to_owned());
        status.members[1].available = Availability::Suspect;
        (status.ring_ready, status.settled, status.waiting_for) = (false, false, vec!["n2".to_owned()]);
        status.staged =
            vec![staged("leave", "n2", None), staged("location", "n1", None), staged("rebalance", "", None)];
    }
    assert_eq!(
        said(&url, &["status"]).await.unwrap(),
        "\
node  status  seen      share   to be  location         address        services
n1    valid   up       67.2 %  34.4 %  rack 1\\u{1b}[2J  10.0.0.1:8099  chat
n2    valid   suspect  32.8 %  65.6 %  -                10.0.0.2:8099  chat

cluster    75100423-89f5-4467-850c-db2e3f0aa268
seen by    n1
claimant   n1
epoch      1
ring       waiting for n2
settled    no: 21 partitions have yet to move (21 to n2); n2 has not seen the newest state of the cluster; not \
         answering: n2 (suspect)

staged:
  n2 leaves
  n1 is at no location
  partitions are claimed anew
see what a commit would do: ringwork cluster plan --node URL
"
    );
    let json: Value = serde_json::from_str(&said(&url, &["status", "--json"]).await.unwrap()).unwrap();
    assert_eq!((&json["waiting_for"], &json["members"][1]["available"]), (&json!(["n2"]), &json!("suspect")));
}

#[actix_rt::test]
async fn every_verb_asks_for_what_it_says() {
    let (cluster, url) = bed().await;
    for (words, asked, output) in [
        (&["leave"][..], "Leave { node: None }", "  n1 leaves\n"),
        (&["leave", "n3"], r#"Leave { node: Some("n3") }"#, "  n3 leaves\n"),
        (
            &["location", "rack 1", "--of", "n3"],
            r#"Location { node: Some("n3"), location: Some("rack 1") }"#,
            "  n3 is at location 'rack 1'\n",
        ),
        (&["location", ""], "Location { node: None, location: None }", "  n1 is at no location\n"),
        (&["rebalance"], "Rebalance", "  partitions are claimed anew\n"),
        (
            &["replace", "n1", "n4"],
            r#"Replace { old: "n1", new: "n4" }"#,
            "  n4 takes the place of n1, which passes on what it has\n",
        ),
        (
            &["force-replace", "n1", "n4"],
            r#"ForceReplace { old: "n1", new: "n4" }"#,
            "  n4 takes the place of n1, which is lost with its data\n",
        ),
        (
            &["force-remove", "n3"],
            r#"ForceRemove { node: "n3" }"#,
            "  n3 is removed, and is lost with its data\n",
        ),
        (&["down", "n3"], "down n3", "n3 is marked down"),
        (&["clear"], "clear", "nothing is staged any more\n"),
    ] {
        let said = said(&url, words).await.unwrap();
        assert_eq!(cluster.state().asked.last().unwrap(), asked);
        assert!(said.contains(output), "{words:?}: {said}");
        assert!(said.contains("ringwork cluster plan") == said.contains("staged:"), "{words:?}: {said}");
    }
    for words in [
        &["leave"][..],
        &["replace", "n1", "n4"],
        &["force-remove", "n3"],
        &["plan"],
        &["commit"],
        &["clear"],
        &["down", "n3"],
        &["rebalance"],
    ] {
        let json = said(&url, &[words, &["--json"]].concat()).await.unwrap();
        assert!(serde_json::from_str::<Value>(&json).unwrap().is_object(), "{words:?}");
        assert_eq!(json.lines().count(), 1);
    }
}

#[actix_rt::test]
async fn a_refusal_is_one_line_with_the_way_out() {
    let (cluster, url) = bed().await;
    for (code, ending) in [
        ("different-ring-size", "(409 different-ring-size): why"),
        ("claimant-unreachable", "(503 claimant-unreachable): why; nothing was written, try again in 1 s"),
        (
            "deadline",
            "(504 deadline): why; it may still take effect, `ringwork cluster status` shows whether it did",
        ),
    ] {
        cluster.state().refusal = Some(AdministrationRefusal::new(code, "why"));
        let refused = said(&url, &["join", "10.0.0.1:8099"]).await.unwrap_err();
        assert!(refused.to_string().ends_with(ending), "{refused}");
    }
}

#[actix_rt::test]
async fn what_is_taken_is_not_said_to_be_on_the_way() {
    let (cluster, url) = bed().await;
    said(&url, &["force-replace", "n1", "n2"]).await.unwrap();
    {
        let plan = &mut cluster.state().plan;
        plan.forced = vec![plan.moves[0].clone()];
    }
    let planned = said(&url, &["plan"]).await.unwrap();
    assert!(planned.contains("\nn2 has 21 partitions of n1 at once, without the data\n"), "{planned}");
    let committed = said(&url, &["commit"]).await.unwrap();
    assert!(committed.starts_with("committed, epoch 2: 21 partitions are now on the way\n"), "{committed}");
}

#[test]
fn a_forced_change_is_never_made_without_naming_the_node() {
    for words in [
        &["cluster", "replace", "n1"][..],
        &["cluster", "force-replace"],
        &["cluster", "force-replace", "n1"],
        &["cluster", "force-remove"],
        &["cluster", "force-remove", "n1", "n2"],
    ] {
        assert!(Line::try_parse_from(words).is_err(), "{words:?}");
    }
    for verb in ["replace", "force-replace", "force-remove"] {
        let help = Line::try_parse_from(["cluster", verb, "--help"]).unwrap_err().to_string();
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert_eq!(help.contains("Lost is what only"), verb.starts_with("force"), "{help}");
    }
}

#[test]
fn violations_are_sentences() {
    let of = |counts: &[usize], nodes| violations(counts, 64, Alike::Node { nodes });
    assert_eq!(of(&[], 3), [""; 0]);
    assert_eq!(of(&[0, 0, 0], 5), ["no node occurs twice among four neighbours"]);
    assert_eq!(of(&[1, 0], 5), ["1 of 64 windows of two neighbours has a node twice"]);
    assert_eq!(
        of(&[64], 1),
        ["64 of 64 windows of two neighbours have a node twice (unavoidable with 1 node)"]
    );
    assert_eq!(
        violations(&[0, 3], 8, Alike::Location),
        ["3 of 8 windows of three neighbours have a location twice"]
    );
}

#[test]
fn what_stands_in_the_way_is_named() {
    let many: Vec<_> = (1..=12).map(|i| member(&format!("n{i}"), "valid", 1, 2)).collect();
    let said = obstacles(&many, true, &[]);
    assert!(
        said.starts_with("12 partitions have yet to move (1 to n1, ") && said.ends_with("and 4 more)"),
        "{said}"
    );
    let waiting = ["n1".to_owned(), "n2".to_owned()];
    assert_eq!(obstacles(&[], false, &waiting), "n1, n2 have not seen the newest state of the cluster");
    let mut gone = member("n3", "valid", 1, 1);
    gone.available = Availability::Down;
    assert_eq!(obstacles(&[gone.clone()], true, &[]), "not answering: n3 (down)");
    gone.status = "down".to_owned();
    assert!(obstacles(&[gone], true, &[]).contains("holds data of another"));
}
