//! Who follows a key hears of it, however it came to the node's own replica.

use crate::sharing::two_that_are_equal;
use crate::summit::{Ask, Summit};
use crate::{eventually, run, stop};
use ringwork_runtime::watch::Heard;
use std::time::Duration;

/// Far longer than a comparison takes; nothing is asserted about how long it did.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_a_comparison_brings_is_heard_as_what_was_sent_here_is() {
    run(async {
        let (_machines, nodes) = two_that_are_equal(2).await;

        let (name, summit) = ("peak".to_owned(), nodes[1].service::<Summit>().unwrap());
        let mut watch = nodes[0].service::<Summit>().unwrap().watch(name.as_bytes()).unwrap();
        // At one replica alone: no write of a coordinator's brings it to the other. Partitions may be moving yet.
        eventually("it is written", async || {
            let places = summit.preflist(name.as_bytes(), nodes[1].core().quorum.n_val);
            let Some(own) = places.iter().find(|place| place.node == nodes[1].core().id) else {
                return false;
            };
            summit.sync_command(own, &Ask::Raise(name.clone()), PATIENCE).await.is_ok()
        })
        .await;
        let heard = tokio::time::timeout(PATIENCE, watch.next()).await.expect("it is heard");
        assert!(matches!(heard, Heard::Item(item) if item.name == name && item.number >= 1));
        for node in nodes {
            stop(node).await;
        }
    });
}
