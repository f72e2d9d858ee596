//! stub
use super::*;
use crate::randomness::Randomness;
use crate::spawner::Spawner;
use crate::telemetry::Telemetry;
use crate::time::Clock;
use bytes::Bytes;
use ringwork_core::ids::{Boot, NodeId};
use ringwork_core::wire::WireError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Which other node there is, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSpec {
    /// The node.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Host and port; a name is resolved anew at each dial.
    pub address: String,
}

/// Bounds of a network.
#[derive(Clone, Copy, Debug)]
pub struct NetworkLimits {}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {}
    }
}

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// Where to listen for other nodes; port 0 takes any.
    pub listen: SocketAddr,
    /// This node.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Which of its lives this is.
    pub boot: Boot,
    /// Bounds.
    pub limits: NetworkLimits,
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {}

#[allow(unused_variables)]
impl Network {
    /// Listens on the address and starts. Has no peers yet.
    pub fn start(
        options: NetworkOptions,
        handler: Arc<dyn NetworkHandler>,
        spawner: Spawner,
        clock: Clock,
        randomness: Randomness,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, NetworkError> {
        Ok(Self(Arc::new(Inner {})))
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// Who the other members are. New ones are connected to, those no longer listed are said goodbye to.
    pub fn set_peers(&self, peers: Vec<PeerSpec>) {}

    /// Dials at once those that are waiting to be dialled again.
    pub fn nudge(&self, node: NodeId) {}

    /// Whether a connection stands.
    pub fn is_connected(&self, node: NodeId, channel: Channel) -> bool {
        false
    }

    /// Why there is no connection: what the last attempt of this node, or the end of the last connection, said.
    pub fn last_failure(&self, node: NodeId, channel: Channel) -> Option<String> {
        None
    }

    /// Sends a one-way message. `encode` appends the body and must not use the network.
    pub fn send(
        &self,
        to: NodeId,
        channel: Channel,
        family: u16,
        version: u16,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        Err(SendError::NotConnected)
    }

    /// Asks. `on_reply` is called once if this returns `Ok`, never otherwise, on the connection's thread, and must be
    /// short.
    #[allow(clippy::too_many_arguments)]
    pub fn request(
        &self,
        to: NodeId,
        channel: Channel,
        family: u16,
        version: u16,
        remaining: Duration,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        on_reply: impl FnOnce(Result<Incoming, LinkError>) + Send + 'static,
    ) -> Result<(), SendError> {
        Err(SendError::NotConnected)
    }

    /// Asks and waits.
    pub async fn call(
        &self,
        to: NodeId,
        channel: Channel,
        family: u16,
        version: u16,
        remaining: Duration,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<Incoming, CallError> {
        Err(SendError::NotConnected.into())
    }

    /// Dials an address as a guest, asks once, waits, and hangs up. For whoever knows no more than an address.
    pub async fn call_address(
        &self,
        address: &str,
        family: u16,
        version: u16,
        within: Duration,
        body: Bytes,
    ) -> Result<(Welcome, Incoming), CallError> {
        Err(SendError::NotConnected.into())
    }

    /// Says goodbye to all and stops. What was queued before is written first, for a second at most.
    pub async fn close(&self) {}
}
