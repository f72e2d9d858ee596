//! The verbs of transfers against the real admin routes with a fake cluster behind them: what a person reads, what a
//! script reads, what is asked for.

use super::*;
use crate::cli::client::fake_node::FakeNode;
use crate::http::admin::fake_cluster::{FakeCluster, transfer};
use clap::Parser;
use ringwork_runtime::administration::{
    AdministrationRefusal, EndedTransfer, RepairSource, RepairStatus, TransferTotals, WaitingTransfer,
};
use std::sync::Arc;

#[derive(Parser, Debug)]
struct Line {
    #[command(flatten)]
    handoff: HandoffArguments,
}

fn line(url: &str, words: &[&str]) -> Result<HandoffArguments, clap::Error> {
    let node = ["--node", url];
    let words = ["handoff"].iter().chain(words).chain(&node);
    Line::try_parse_from(words).map(|line| line.handoff)
}

/// What a command line writes, with the node's URL made readable.
async fn said(url: &str, words: &[&str]) -> Result<String, CliError> {
    let mut output = Vec::new();
    run(line(url, words).unwrap(), false, &mut output, &mut Vec::new()).await?;
    Ok(String::from_utf8(output).unwrap().replace(url, "URL"))
}

async fn bed() -> (Arc<FakeCluster>, String) {
    let cluster: Arc<FakeCluster> = Arc::default();
    (cluster.clone(), cluster.serve().await)
}

fn waiting(partition: u16) -> WaitingTransfer {
    let (kind, peer, why) = ("hinted".to_owned(), "n3".to_owned(), "the receiver is down".to_owned());
    WaitingTransfer { kind, partition, peer, why }
}

#[actix_rt::test]
async fn a_screen_shows_what_runs_what_waits_and_what_has_ended() {
    let (cluster, url) = bed().await;
    assert_eq!(
        said(&url, &["status"]).await.unwrap(),
        "transfers of n1: 0 in, 0 out, 0 waiting\nat most 4 in and 4 out at a time; their rate is not limited\n"
    );
    {
        let handoff = &mut cluster.state().handoff;
        let mut stalled = transfer("in", 3, "n2\u{1b}[2J");
        (stalled.bytes_per_second, stalled.eta_s, stalled.idle_s, stalled.unreadable) = (0, None, 61, 2);
        handoff.running = vec![stalled, transfer("out", 17, "n3")];
        handoff.waiting = (4..15).map(waiting).collect();
        handoff.recent = vec![EndedTransfer {
            direction: "in".to_owned(),
            kind: "hinted".to_owned(),
            partition: 9,
            peer: "n2".to_owned(),
            completed: true,
            outcome: "completed".to_owned(),
            items: 1,
            bytes: 100,
            unreadable: 0,
            ago_s: 75,
        }];
        let from = vec![RepairSource { partition: 19, node: "n3".to_owned() }];
        handoff.repairing = vec![RepairStatus { partition: 20, from, text: "one of two".to_owned() }];
        let totals = |direction: &str, items| TransferTotals {
            direction: direction.to_owned(),
            kind: "repair".to_owned(),
            completed: items,
            ended: 0,
            items,
            bytes: items * 512,
            items_sent: items,
            bytes_sent: items * 512,
            unreadable: items / 2,
        };
        handoff.totals = vec![totals("in", 0), totals("out", 2)];
        (handoff.bytes_per_second, handoff.paused) = (Some(50_000_000), true);
    }
    let waiting: String = (4..14).map(|n| format!("  hinted {n} → n3: the receiver is down\n")).collect();
    assert_eq!(
        said(&url, &["status"]).await.unwrap(),
        format!(
            "\
transfers of n1: 1 in, 1 out, 11 waiting
at most 4 in and 4 out at a time; each out at most 47.7 MiB a second
paused: none begins, none is taken in; go on with: ringwork handoff resume --node URL

way  kind       partition  peer         progress                  items                 bytes         rate  left
in   ownership          3  n2\\u{{1b}}[2J  [#####.....]  50 %  512 of 1024  512.0 KiB of 1.0 MiB        0 B/s     \
-  nothing has moved for 1m 1s, 2 skipped: unreadable
out  ownership         17  n3           [#####.....]  50 %  512 of 1024  512.0 KiB of 1.0 MiB  100.0 KiB/s    6s

waiting:
{waiting}  and 1 more; see --json

repairs:
  partition 20: one of two; awaited from n3 (19)

ended lately:
  hinted 9 ← n2: completed (1 item, 100 B), 1m 15s ago

since the node's start:
  repair out: 2 completed, 0 ended otherwise; 2 items, 1.0 KiB, 1 skipped: unreadable
"
        )
    );
    let json: Value = serde_json::from_str(&said(&url, &["status", "--json"]).await.unwrap()).unwrap();
    assert_eq!((&json["running"][1]["eta_s"], json["waiting"].as_array().unwrap().len()), (&json!(6), 11));
}

#[test]
fn a_bar_is_as_long_as_it_is_whatever_a_node_says() {
    for (share, shown) in [
        (0.0, "[..........]   0 %"),
        (0.529, "[#####.....]  52 %"),
        (0.999, "[#########.]  99 %"),
        (1.0, "[##########] 100 %"),
        (-3.0, "[..........]   0 %"),
        (1e300, "[##########] 100 %"),
        (f64::NAN, "[..........]   0 %"),
    ] {
        assert_eq!(screen::bar(share), shown);
    }
}

#[actix_rt::test]
async fn every_verb_asks_for_what_it_says() {
    let (cluster, url) = bed().await;
    for (words, asked, output) in [
        (
            &["limit", "8"][..],
            "limit Some(8) None",
            "at most 8 in and 8 out at a time; their rate is not limited\n",
        ),
        (
            &["limit", "--bytes-per-second", "64MiB"],
            "limit None Some(Some(67108864))",
            "at most 8 in and 8 out at a time; each out at most 64.0 MiB a second\n",
        ),
        (
            &["limit", "2", "--bytes-per-second", "none"],
            "limit Some(2) Some(None)",
            "at most 2 in and 2 out at a time; their rate is not limited\n",
        ),
        (
            &["pause"],
            "pause",
            "transfers rest: none begins, none is taken in; go on with: ringwork handoff resume --node URL\n",
        ),
        (&["resume"], "resume", "transfers go on\n"),
        (
            &["repair", "17", "3"],
            "repair Some([17, 3])",
            "to be repaired: 2 partitions (17, 3)\nsee how it goes: ringwork handoff status --watch --node URL\n",
        ),
    ] {
        assert_eq!(said(&url, words).await.unwrap(), output);
        assert_eq!(cluster.state().asked.last().unwrap(), asked);
    }
    let all = said(&url, &["repair", "--all"]).await.unwrap();
    assert!(all.starts_with("to be repaired: 43 partitions, all that the asked node holds (0, 1, "), "{all}");
    assert!(
        all.contains(", 19 and 23 more)") && cluster.state().asked.last().unwrap() == "repair None",
        "{all}"
    );
    let asked = cluster.state().asked.len();
    let shown = said(&url, &["limit"]).await.unwrap();
    assert!(shown.starts_with("at most 2 in") && cluster.state().asked.len() == asked, "nothing is changed");
    for words in
        [&["limit", "5"][..], &["limit"], &["pause"], &["resume"], &["repair", "1"], &["repair", "--all"]]
    {
        let json = said(&url, &[words, &["--json"]].concat()).await.unwrap();
        assert!(
            serde_json::from_str::<Value>(&json).unwrap().is_object() && json.lines().count() == 1,
            "{json}"
        );
    }
    let detail = "partition 9 is held by n2, not by this node: ask n2 to repair it";
    cluster.state().refusal = Some(AdministrationRefusal::new("not-the-holder", detail));
    let refused = said(&url, &["repair", "9"]).await.unwrap_err();
    assert!(refused.to_string().ends_with(&format!("(409 not-the-holder): {detail}")), "{refused}");
    assert_eq!(refused.exit_code(), 1);
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_way_out() {
    for (words, word) in [
        (&["limit", "0"][..], "ringwork handoff pause"),
        (&["limit", "65"], "1 to 64"),
        (&["limit", "many"], "1 to 64"),
        (&["limit", "--bytes-per-second", "64MB"], "64MiB"),
        (&["limit", "--bytes-per-second", "1KiB"], "256.0 KiB"),
        (&["repair"], "--all"),
        (&["repair", "3", "--all"], "--all"),
        (&["repair", "65536"], "65535"),
    ] {
        let refused = line("http://127.0.0.1:1", words).unwrap_err();
        assert!(refused.to_string().contains(word) && refused.exit_code() == 2, "{words:?}: {refused}");
    }
}

/// Takes so many writes; then nobody reads any more.
struct Reader {
    text: String,
    left: usize,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.left -= 1;
        self.text.push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[actix_rt::test]
async fn a_watch_shows_it_again_in_place_or_block_by_block() {
    let (_, url) = bed().await;
    let watched = async |terminal, json| {
        let node = NodeArguments { node: url.clone(), json };
        let (mut reader, interval) = (Reader { text: String::new(), left: 3 }, Duration::from_millis(5));
        let ended = watch(&node, terminal, interval, &mut reader, &mut Vec::new()).await;
        assert!(matches!(ended, Err(CliError::OutputClosed)));
        reader.text
    };
    let block = "transfers of n1: 0 in, 0 out, 0 waiting\n\
                 at most 4 in and 4 out at a time; their rate is not limited\n";
    assert_eq!(watched(false, false).await, format!("{block}\n").repeat(3));
    assert_eq!(watched(true, false).await, format!("{CLEAR}{block}").repeat(3));
    let lines = watched(true, true).await;
    assert!(lines.lines().count() == 3 && !lines.contains('\u{1b}'), "{lines}");
}

#[actix_rt::test]
async fn a_watch_outlasts_a_node_that_is_away_for_a_while_but_not_one_that_never_was() {
    let node = FakeNode::start().await;
    let arguments = NodeArguments { node: node.url.clone(), json: false };
    let status = json!({
        "node": "n1", "limit": 4, "paused": false, "bytes_per_second": null, "running": [], "waiting": [],
        "recent": [], "repairing": [], "totals": [],
    });
    let ok = || (200, "application/json", status.to_string());
    node.state().refusals.push_back(ok());
    node.refuse(503, "stopping", "the node is about to end");
    node.state().refusals.push_back(ok());
    let (mut reader, mut errors) = (Reader { text: String::new(), left: 2 }, Vec::new());
    let watching = watch(&arguments, false, Duration::from_millis(5), &mut reader, &mut errors);
    // In the end the node answers something else for ever.
    let _ = tokio::time::timeout(Duration::from_millis(500), watching).await;
    assert_eq!(reader.text.matches("transfers of n1").count(), 2);
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.lines().next().unwrap().contains("503 stopping"), "{errors}");
    let first = watch(&arguments, false, Duration::from_millis(5), &mut Vec::new(), &mut Vec::new()).await;
    assert!(matches!(first, Err(CliError::Refused { status: 404, .. })));
}
