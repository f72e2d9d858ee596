//! Two nodes whose releases lay items out differently, and so fingerprint them differently: they do not compare. Until
//! the older one is upgraded they say so; after that nothing is sent that both have.

use crate::sharing::{Machine, become_one};
use crate::summit::{BEFORE, Highest, NOW, Summit};
use crate::{eventually, run, stop};
use ringwork_core::metadata::features;
use ringwork_core::quorum::{Count, QuorumOptions, Verdict};
use ringwork_runtime::antientropy::board::RepairLine;
use ringwork_runtime::node::Node;

const NAMES: u64 = 40;

/// Gives the node's own vnodes all items; another release's refuse them.
async fn climb<const RELEASE: u16>(node: &Node) {
    let summit = node.service::<Summit<RELEASE>>().unwrap();
    let one = QuorumOptions { w: Some(Count::Exactly(1)), ..QuorumOptions::default() };
    for number in 1..=NAMES {
        let name = format!("peak {number}");
        let item = Highest { name: name.clone(), number };
        let written = summit.key(name.as_bytes()).quorum(one).merge(item).await.unwrap();
        assert_eq!((written.verdict, written.nodes), (Verdict::Done, vec![node.core().id]));
    }
}

fn line(node: &Node) -> RepairLine {
    node.core().repair.snapshot()["summit"].clone()
}

#[test]
fn nodes_of_releases_that_fingerprint_differently_compare_nothing_and_send_nothing_until_they_are_alike() {
    run(async {
        let (mut one, mut two) = (Machine::new(1), Machine::new(2));
        let first = one.start_with::<Summit<NOW>>(None, features::own()).await;
        let second = two.start_with::<Summit<BEFORE>>(Some(one.listen), features::own()).await;
        let nodes = [first, second];
        become_one(&nodes).await;
        climb::<NOW>(&nodes[0]).await;
        climb::<BEFORE>(&nodes[1]).await;
        for node in &nodes {
            eventually("it has tried", async || line(node).failed > 0).await;
            let line = line(node);
            let why = line.last_problem.clone().unwrap_or_default();
            assert!(why.contains("items of summit are laid out differently there and here"), "{why}");
            assert_eq!((line.differed, line.items_sent, line.items_fetched), (0, 0, 0), "{line:?}");
        }
        let [first, second] = nodes;
        let builds = line(&second).builds;
        assert_eq!(builds, 0, "what was said of each change is in the trees, which are kept over the stop");
        stop(second).await;

        // Upgraded. Its trees are sums of what the items were to the release before.
        let second = two.start_with::<Summit<NOW>>(None, features::own()).await;
        for node in [&first, &second] {
            eventually("all pairs are equal", async || {
                let line = line(node);
                line.pairs > 0 && line.never_equal == 0 && line.trees_ready > 0
            })
            .await;
            let line = line(node);
            assert_eq!((line.differed, line.items_sent, line.items_fetched), (0, 0, 0), "{line:?}");
        }
        assert!(line(&second).builds > 0, "its trees were built anew");
        stop(first).await;
        stop(second).await;
    });
}
