//! Clients of the requests that only one service knows: one more client in a run that hosts such a service, and a last
//! look at their keys. It decides when and where they are asked; what they are, and what their answers mean, is the
//! service's. They draw from a source of their own, so that what the other clients ask is the same with and without.

use crate::service::{OwnBeginning, OwnRequest, OwnRequests};
use crate::world::{WITHIN, World};
use ringwork_core::testing::Draw;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Makes their source another than the run's.
const APART: u64 = 0x006f_776e;
/// Clients with one request at a time each.
const CLIENTS: u64 = 3;
/// Time for a request of the last look.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

impl World {
    /// The clients beside the plan's: who lists, and who asks what only this service knows.
    pub fn further_clients(self: &Rc<Self>, stopped: &Rc<Cell<bool>>) -> Vec<JoinHandle<()>> {
        let mut clients = vec![tokio::task::spawn_local(self.clone().lister(stopped.clone()))];
        if let Some(own) = self.around.service.own() {
            for number in 0..CLIENTS {
                let draw = Draw::from_seed(self.plan().seed ^ APART ^ (number << 32));
                let client = self.clone().own_client(own.clone(), draw, stopped.clone());
                clients.push(tokio::task::spawn_local(client));
            }
        }
        clients
    }

    async fn own_client(self: Rc<Self>, own: Rc<dyn OwnRequests>, mut draw: Draw, stopped: Rc<Cell<bool>>) {
        let pause_max_us = self.plan().pause_max.as_micros() as u64;
        while !stopped.get() {
            sleep(Duration::from_micros(draw.below(pause_max_us))).await;
            let request = own.next(&mut draw);
            let node = 1 + draw.below(u64::from(self.plan().nodes())) as u8;
            let (shortest, longest) = self.plan().within;
            let span_ms = (longest - shortest).as_millis() as u64;
            let within = shortest + Duration::from_millis(draw.below(span_ms + 1));
            if self.invited.borrow().contains(&node) {
                self.ask_own(&*own, node, request, within).await;
            }
        }
    }

    async fn ask_own(&self, own: &dyn OwnRequests, node: u8, request: OwnRequest, within: Duration) {
        let primaries = self.primaries(node, &request.key);
        let places = self.places(node, &request.key);
        let beginning = OwnBeginning { request: request.clone(), node, at: self.now(), primaries };
        let number = own.begun(beginning);
        self.note(&format!("own #{number} at n{node} within {within:?}: {request:?}; it would ask {places}"));
        let told = self.machine(node).ask_own(number, within).await;
        self.note(&format!("own #{number} ends: {told}"));
        own.ended(number, self.now(), self.all_up_since());
    }

    /// Every node is asked for every such key, again and again until all that must hold does, or it is too late.
    pub async fn last_look_at_own(&self) {
        let Some(own) = self.around.service.own() else { return };
        let until = self.now() + WITHIN;
        loop {
            for request in own.last_looks() {
                for node in self.serving() {
                    self.ask_own(&*own, node, request.clone(), LOOK_WITHIN).await;
                }
            }
            let held = own.held(&self.history.borrow());
            if held.is_ok() || self.now() > until {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}
