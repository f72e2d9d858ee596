//! When something may leave a vnode that was read outside a turn: once it is committed, as what a turn has read is. It
//! does not know what leaves, nor for whom.

use super::VnodeActor;
use crate::storage::Committed;
use ringwork_core::store::StoreError;
use ringwork_core::vnode::Vnode;

impl<V: Vnode> VnodeActor<V> {
    /// Runs `then` once all is committed that was seen of the keyspace since the last turn.
    pub(super) fn after_what_is_seen(
        &self,
        then: impl FnOnce(Result<Committed, StoreError>) + Send + 'static,
    ) {
        let Some(state) = &self.state else { return };
        // Nothing was staged: this only says for which writes the answer has to wait.
        self.after_commit(state.host.seal(), false, then);
    }

    /// The same, and nothing where the store fails. Another node must have nothing that this one can still lose: under
    /// `sync` an actor goes on after a crash, and would give a dot out twice.
    pub(super) fn once_seen_is_committed(&self, then: impl FnOnce() + Send + 'static) {
        self.after_what_is_seen(|result| {
            if result.is_ok() {
                then();
            }
        });
    }
}
