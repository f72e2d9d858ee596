//! What leaves a vnode has been committed, also what leaves it for another replica's sake. Under `sync` an actor goes
//! on after a crash: whatever another node had of a dot that was lost here would be given out a second time.

use crate::sharing::two_that_are_equal;
use crate::summit::{Ask, NOW, Summit, Told};
use crate::{eventually, run, stop};
use ringwork_core::quorum::{Count, QuorumOptions};
use ringwork_core::ring::KeyHash;
use ringwork_core::vnode::Vnode;
use ringwork_runtime::node::Node;

const NAMES: usize = 16;

/// Names whose commands this node's own vnodes run.
fn names_of(node: &Node) -> Vec<String> {
    let (core, view) = (node.core(), node.core().ring.load());
    let is_first = |name: &String| {
        let hash = KeyHash::of(Summit::<NOW>::SERVICE, name.as_bytes());
        view.primary_preflist(&hash, core.quorum.n_val).first().is_some_and(|place| place.node == core.id)
    };
    (0..).map(|number| format!("peak {number}")).filter(is_first).take(NAMES).collect()
}

/// What the node's own replicas have.
async fn own(node: &Node, names: &[String]) -> Vec<u64> {
    let summit = node.service::<Summit>().unwrap();
    let one = QuorumOptions { r: Some(Count::One), ..QuorumOptions::default() };
    let mut found = Vec::new();
    for name in names {
        let read = summit.key(name.as_bytes()).quorum(one).read(Ask::Get(name.clone())).await.unwrap();
        let Told::Number(height) = read.unwrap().reply else { panic!("no number") };
        found.push(height);
    }
    found
}

#[test]
fn a_comparison_gives_another_node_nothing_that_is_not_committed() {
    run(async {
        let (machines, nodes) = two_that_are_equal(16).await;

        let names = names_of(&nodes[0]);
        machines[0].gate.close();
        let summit = nodes[0].service::<Summit>().unwrap();
        let raise = |name: String| {
            let summit = summit.clone();
            actix_rt::spawn(async move {
                summit.key(name.as_bytes()).run(Ask::Raise(name.clone())).await.unwrap()
            })
        };
        let raises: Vec<_> = names.iter().cloned().map(raise).collect();
        // Trees say already what is not committed yet, so replicas differ, and this node compares all that do at once.
        // While it waits for its disk, the other node's comparisons go on.
        let line = |node: usize| nodes[node].core().repair.snapshot()["summit"].clone();
        eventually("differences are met", async || line(0).running > 0 || line(0).differed > 0).await;
        let before = line(1);
        eventually("others have ended", async || line(1).equal >= before.equal + 3 * before.pairs as u64)
            .await;
        assert_eq!(own(&nodes[1], &names).await, [0; NAMES], "nothing of it is anywhere but here");

        machines[0].gate.open();
        for raise in raises {
            let written = raise.await.unwrap();
            assert!(matches!(written.reply, Some(Told::Dot(_, _))), "{written:?}");
        }
        eventually("the other has it", async || own(&nodes[1], &names).await == [1; NAMES]).await;
        for node in nodes {
            stop(node).await;
        }
    });
}
