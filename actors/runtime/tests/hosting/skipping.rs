//! Rows that cannot be read: a handoff takes the others, and says how many it left behind.

use crate::sharing::{Machine, become_one};
use crate::summit::{Ask, NOW, Summit, Told};
use crate::{complete, eventually, get, run, stop};
use ringwork_core::metadata::features;
use ringwork_core::quorum::Verdict;
use ringwork_core::ring::KeyHash;
use ringwork_core::vnode::Vnode;
use ringwork_runtime::handoff::board::Direction;
use ringwork_runtime::node::Node;

/// So many that partitions which go to the second node have some of either kind, in several batches.
const NAMES: u64 = 80;

fn is_spoiled(number: u64) -> bool {
    number.is_multiple_of(2)
}

/// How many ownership transfers out of the node have completed, and how many rows they skipped.
fn given(node: &Node) -> (u64, u64) {
    let totals = node.core().handoff.snapshot().totals[&(Direction::Out, "ownership")];
    (totals.completed, totals.unreadable)
}

#[test]
fn a_transfer_leaves_rows_that_cannot_be_read_behind_and_says_how_many() {
    run(async {
        let (mut one, mut two) = (Machine::new(1), Machine::new(2));
        one.limits.handoff_batch_items_max = 2;
        let first = one.start_with::<Summit>(None, features::own()).await;
        let summit = first.service::<Summit>().unwrap();
        for number in 1..=NAMES {
            let name = format!("peak {number}");
            let key = || summit.key(name.as_bytes());
            assert_eq!(key().run(Ask::Raise(name.clone())).await.unwrap().verdict, Verdict::Done);
            if is_spoiled(number) {
                let spoiled = key().run(Ask::Spoil(name.clone())).await.unwrap();
                assert_eq!(spoiled.reply, Some(Told::Number(1)));
            }
        }
        let second = two.start_with::<Summit>(Some(one.listen), features::own()).await;
        let nodes = [first, second];
        become_one(&nodes).await;
        eventually("half of the partitions are given", async || {
            let counts = nodes[0].core().handoff.counts();
            given(&nodes[0]).0 == 4 && counts.running_out + counts.waiting == 0
        })
        .await;
        let view = nodes[1].core().ring.load();
        let is_given = |number: &u64| {
            let hash = KeyHash::of(Summit::<NOW>::SERVICE, format!("peak {number}").as_bytes());
            view.state().holder(view.state().size().partition_of(&hash)) == Some(nodes[1].core().id)
        };
        let left_behind = (1..=NAMES).filter(|number| is_spoiled(*number)).filter(is_given).count() as u64;
        assert!(left_behind > 0);
        assert_eq!(given(&nodes[0]).1, left_behind, "each once, wherever a batch ends");
        drop(view);
        let summit = nodes[1].service::<Summit>().unwrap();
        for number in (1..=NAMES).filter(|number| !is_spoiled(*number)) {
            let name = format!("peak {number}");
            eventually("it is found by both", async || {
                get(&summit, &name).await.is_ok_and(|found| found == complete(Told::Number(1)))
            })
            .await;
        }
        for node in nodes {
            stop(node).await;
        }
    });
}
