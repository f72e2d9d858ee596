//! The ring verbs against the real admin routes with a fake cluster behind them.

use super::*;
use crate::http::admin::fake_cluster::{FakeCluster, stray};
use clap::Parser;
use std::sync::Arc;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    ring: RingArguments,
}

async fn said(url: &str, words: &[&str]) -> Result<String, CliError> {
    let node = ["--node", url];
    let words = ["ring"].iter().chain(words).chain(&node);
    let mut output = Vec::new();
    run(Line::try_parse_from(words).unwrap().ring, &mut output).await?;
    Ok(String::from_utf8(output).unwrap().replace(url, "URL"))
}

#[actix_rt::test]
async fn the_state_of_the_ring_fits_on_a_screen() {
    let cluster: Arc<FakeCluster> = Arc::default();
    let url = cluster.clone().serve().await;
    let calm = said(&url, &["status"]).await.unwrap();
    assert!(
        calm.contains("to move     none\nmisplaced   none\ncomplete    yes\n64 of 64 windows of two"),
        "{calm}"
    );
    {
        let ring = &mut cluster.state().ring;
        let pending = |partition: u16| PartitionStatus {
            partition,
            index: "1".to_owned(),
            holder: "n1".to_owned(),
            target: "n2".to_owned(),
            fence: 0,
            hop: 0,
        };
        ring.pending = (0..30).map(pending).collect();
        ring.strays = vec![stray("n3", 5, "n1")];
        (ring.settled, ring.incomplete, ring.node_violations) = (false, vec![4], vec![0, 0]);
    }
    assert_eq!(
        said(&url, &["status"]).await.unwrap().lines().take(14).collect::<Vec<_>>(),
        [
            "partitions  64",
            "epoch       1",
            "claimant    n1",
            "ring        ready",
            "settled     no",
            "to move     30",
            "misplaced   1",
            "complete    no: 1 partition waits for members' word that they hold nothing for it",
            "no node occurs twice among three neighbours",
            "",
            "partitions that are to move:",
            "  0: n1 → n2",
            "  1: n1 → n2",
            "  2: n1 → n2",
        ]
    );
    let ending = "  and 10 more; see ringwork ring partitions\n\ndata in the wrong place:\n  n3 has some of \
                  partition 5, which is n1's\n";
    assert!(said(&url, &["status"]).await.unwrap().ends_with(ending));
}

#[actix_rt::test]
async fn partitions_and_preference_lists_are_tables() {
    let url = Arc::<FakeCluster>::default().serve().await;
    assert_eq!(
        said(&url, &["partitions", "--of", "n1"]).await.unwrap(),
        "\
partition  holder  to be held by  fence  hop   index
        0  n1      -                  0    2  000000
        7  n1      n2                 0    2  700000
2 partitions
"
    );
    assert_eq!(
        said(&url, &["preflist", "chat", "ann & bob"]).await.unwrap(),
        "\
partition  node  role             seen     address
       41  n1    primary          up       10.0.0.1:8099
       42  n2    primary          suspect  10.0.0.2:8099
       43  n3    fallback for n9  up       10.0.0.3:8099
"
    );
    let json: Value = serde_json::from_str(
        &said(&url, &["preflist", "chat", "ann & bob", "-n", "1", "--json"]).await.unwrap(),
    )
    .unwrap();
    assert_eq!((&json["key"], json["places"].as_array().map(Vec::len)), (&"ann & bob".into(), Some(1)));
    let refused = said(&url, &["partitions", "--of", "n9"]).await.unwrap_err().to_string();
    assert!(refused.contains("404 unknown-node"), "{refused}");
}
