//! What removed members still hold, or are to hold, because two claimants acted who did not know of each other: the
//! claimant takes it back without being told to. Which that is, and when, core decides; see
//! [`ringwork_core::membership::ClusterState::wishes_to_removed`]. How a plan is made it does not know.

use super::RingManager;
use crate::claimant;
use std::time::Duration;

/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl RingManager {
    pub(super) fn take_back_from_removed(&mut self) {
        let me = self.node.id;
        for taken in self.state.take_from_removed(me) {
            tracing::warn!(
                partition = taken.partition.0,
                from = %taken.from,
                to = %taken.possession.holder,
                "a partition was left to a removed member; its owner holds it now and fetches what others have"
            );
        }
        let Some(postbox) =
            self.me.clone().filter(|_| !self.claiming.get() && self.state.wishes_to_removed(me))
        else {
            return;
        };
        let (node, claiming) = (self.node.clone(), self.claiming.clone());
        claiming.set(true);
        actix_rt::spawn(async move {
            let claimed = claimant::claim_anew(&node, &postbox).await;
            match &claimed {
                Ok(()) => tracing::warn!(
                    "partitions were to go to members that another claimant had removed; they were claimed anew"
                ),
                Err(refused) => {
                    tracing::warn!(
                        refused = %refused.detail,
                        "partitions of removed members cannot be claimed anew yet"
                    );
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
            claiming.set(false);
            if claimed.is_err() {
                // Has the duties looked at again, whether or not anything changes.
                let _ = claimant::change(&postbox, |_| Ok(())).await;
            }
        });
    }
}
