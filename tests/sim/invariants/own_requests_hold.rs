//! What a service says itself of the requests that only it knows.

use super::{Invariant, Promise};
use crate::last_look::End;
use crate::world::World;

#[derive(Default)]
struct OwnRequestsHold;

inventory::submit!(Promise(|| Box::new(OwnRequestsHold)));

impl Invariant for OwnRequestsHold {
    fn name(&self) -> &'static str {
        "what a service promises of its own requests"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        world.around.service.own().map_or(Ok(()), |own| own.holds())
    }

    fn held(&mut self, world: &World, _: &End) -> Result<(), String> {
        world.around.service.own().map_or(Ok(()), |own| own.held(&world.history.borrow()))
    }
}
