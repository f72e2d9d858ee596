//! What goes wrong: a file for each kind, and no list to keep. A kind says what it does once, and mends it after a
//! while; when, where and how often is drawn from the seed.

use crate::world::World;
use ringwork_core::testing::Draw;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

automod::dir!("tests/sim/faults");

/// One kind of fault.
pub trait Fault: Sync {
    /// Its name, in plans and in reports.
    fn name(&self) -> &'static str;
    /// Whether a run in which only this kind happened shows that it did.
    fn is_seen_in(&self, evidence: &Evidence) -> bool;
    /// Does it, waits as long as it is to last or until [`World::while_faults`] says that faults are over, and mends
    /// it. False: it could not be done now, and nothing was changed.
    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a>;
}

/// What can be counted of a run's faults, by what it is.
pub type Evidence = BTreeMap<&'static str, u64>;

/// A fault that goes on.
pub type Happening<'a> = std::pin::Pin<Box<dyn Future<Output = bool> + 'a>>;

/// A kind that its file has submitted.
pub struct Kind(pub &'static dyn Fault);

inventory::collect!(Kind);

/// All kinds, by name.
pub fn all() -> Vec<&'static dyn Fault> {
    let mut all: Vec<&'static dyn Fault> = inventory::iter::<Kind>.into_iter().map(|kind| kind.0).collect();
    all.sort_by_key(|fault| fault.name());
    all
}

/// Some time between these.
pub fn between(draw: &mut Draw, least_ms: u64, most_ms: u64) -> Duration {
    Duration::from_millis(least_ms + draw.below(most_ms - least_ms + 1))
}
