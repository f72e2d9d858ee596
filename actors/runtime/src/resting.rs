//! Which vnodes rest after a panic or a start that failed, and until when: for operators, and for whoever checks that
//! they come back. It decides nothing; the vnode masters keep it.

use ringwork_core::ids::Partition;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See the module's head.
#[derive(Default)]
pub struct Resting(Mutex<BTreeMap<(&'static str, Partition), Duration>>);

impl Resting {
    fn table(&self) -> MutexGuard<'_, BTreeMap<(&'static str, Partition), Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vnode has ended and is started again at that moment of the node's clock.
    pub(crate) fn rests(&self, service: &'static str, partition: Partition, until: Duration) {
        self.table().insert((service, partition), until);
    }

    /// It runs, or is held back by somebody who begins its next life, or has nothing to do here any more.
    pub(crate) fn is_over(&self, service: &'static str, partition: Partition) {
        self.table().remove(&(service, partition));
    }

    /// Vnodes that do not run, by service and partition, with the moment of the node's clock when each is to be
    /// started again.
    pub fn all(&self) -> Vec<(&'static str, Partition, Duration)> {
        self.table().iter().map(|((service, partition), until)| (*service, *partition, *until)).collect()
    }
}
