//! What a start does about the keyspaces of vnodes before any vnode runs: creates those that are going to be needed,
//! and finds out whose data lies in those that are there. It decides nothing about who holds what.

use crate::node_core::NodeCore;
use crate::vnode_master::has_no_rows;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::store::{KeyspaceId, StoreError};
use std::time::Duration;

/// How long a start may take for keyspaces that are not there yet. Enough for the 64 of a default ring on any
/// disk.
const CREATE_KEYSPACES_WITHIN: Duration = Duration::from_secs(2);
/// How many keyspaces of a service a start creates, the 64 of a default ring. Whoever holds more of a large ring gets
/// the others as they are needed: each takes memory, and files that are audited, whether anything is in it or not.
const CREATE_KEYSPACES_MAX: usize = 64;

/// Finds out of which partitions there is data here that others hold: what was taken in for them in an earlier life.
pub(super) fn mark_strays(core: &NodeCore) -> Result<(), StoreError> {
    if planted(Mutant::ForgetStrays) {
        return Ok(());
    }
    let view = core.ring.load();
    for keyspace in core.store.keyspaces()? {
        if let KeyspaceId::Vnode { partition, generation, .. } = &keyspace
            && !core.generations.is_inbound(*partition, *generation)
            && view.state().holder(*partition) != Some(core.id)
            && !has_no_rows(core, &keyspace)
        {
            core.strays.mark(*partition);
        }
    }
    Ok(())
}

/// Creates the keyspaces of a service that a node is going to need, before it serves: creating one takes several
/// syncs, during which an engine may let nobody write. What does not fit into the time is created when its vnode
/// is first asked.
pub(super) fn create_keyspaces(core: &NodeCore, service: &str) -> Result<(), StoreError> {
    let begun = core.clock.moment();
    for (number, partition) in core.ring.load().state().held_by(core.id).enumerate() {
        if number == CREATE_KEYSPACES_MAX || core.clock.moment() - begun > CREATE_KEYSPACES_WITHIN {
            tracing::info!(service, "the other keyspaces are created when they are needed");
            break;
        }
        let generation = core.generation_of(partition);
        core.store.open(&KeyspaceId::Vnode { service: service.to_owned(), partition, generation })?;
    }
    Ok(())
}
