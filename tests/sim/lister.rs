//! A client that asks, now and then and wherever, under which keys there is something, while faults go on. It draws
//! from a source of its own, so that what the other clients ask in a run is the same with and without it.

use crate::history::Operation;
use crate::world::World;
use ringwork_core::testing::Draw;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// Makes its source another than the run's.
const APART: u64 = 0x6c69_7374;
/// The longest pause between two lists.
const PAUSE_MAX_MS: u64 = 2000;

impl World {
    /// Lists until told to stop, where the service can.
    pub async fn lister(self: Rc<Self>, stopped: Rc<Cell<bool>>) {
        let mut draw = Draw::from_seed(self.plan().seed ^ APART);
        while self.around.service.lists() && !stopped.get() {
            sleep(Duration::from_millis(draw.below(PAUSE_MAX_MS))).await;
            let node = 1 + draw.below(u64::from(self.plan().nodes())) as u8;
            if self.invited.borrow().contains(&node) {
                let within = Duration::from_millis(500 + draw.below(8000));
                self.ask(node, Operation::List, within).await;
            }
        }
    }
}
