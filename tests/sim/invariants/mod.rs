//! What must hold: a file for each promise, and no list to keep. An invariant is asked several times a second whether
//! it holds, and once at the end, when everything has healed, whether it held.

use crate::last_look::End;
use crate::world::World;

automod::dir!("tests/sim/invariants");

/// One promise.
pub trait Invariant {
    /// Its name, in reports.
    fn name(&self) -> &'static str;

    /// Whether it holds now, while anything may be wrong. The error says what was seen.
    fn holds(&mut self, world: &World) -> Result<(), String> {
        let _ = world;
        Ok(())
    }

    /// Whether it held, now that all faults are over and everybody was asked for everything.
    fn held(&mut self, world: &World, end: &End) -> Result<(), String> {
        let _ = (world, end);
        Ok(())
    }
}

/// An invariant that its file has submitted: makes a fresh one for each run.
pub struct Promise(pub fn() -> Box<dyn Invariant>);

inventory::collect!(Promise);

/// A fresh one of each, by name.
pub fn all() -> Vec<Box<dyn Invariant>> {
    let mut all: Vec<Box<dyn Invariant>> =
        inventory::iter::<Promise>.into_iter().map(|new| (new.0)()).collect();
    all.sort_by_key(|invariant| invariant.name());
    all
}
