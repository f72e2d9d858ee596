//! The families of messages between nodes, one number each, for ever. What a family's bodies look like is with
//! whoever sends it.

/// A request to a vnode, and its answer: `remote`. Request channel.
pub const VNODE: u16 = 1;
/// A datagram of the failure detector. Control channel, one way.
pub const DETECTOR: u16 = 2;
/// State on its way: `gossip_agent`. Control channel, one way.
pub const GOSSIP: u16 = 3;
/// A node that is no member yet asks to be taken in: `joining`. Guests may.
pub const JOIN: u16 = 4;
/// What an operator asks of the claimant: `claimant`. Control channel.
pub const ADMINISTRATION: u16 = 5;
/// "Which partitions do you have data of that you do not hold?" Control channel.
pub const STRAYS: u16 = 6;
/// "These partitions are yours now, and were complete with me." Control channel, one way.
pub const BEQUEST: u16 = 7;

/// Everything that is said on the connection of a transfer: `handoff`, core's transfer messages.
pub const TRANSFER: u16 = 8;
/// "Send me again what both of us should have": `handoff`. Control channel.
pub const REPAIR: u16 = 9;
/// A page of a listing, asked of a vnode, and the page: `remote/listing`. Request channel.
pub const COVERAGE: u16 = 11;
/// Metadata on its way: `metadata_manager`. Control channel, one way; a release that does not know it drops it.
pub const METADATA: u16 = 12;

/// "What do your trees say, and which items are these?" `antientropy`. Request channel.
pub const TREES: u16 = 10;

/// "You do not know me, but I am a member of your cluster: here is its state." `introduction`. Guests may.
pub const INTRODUCTION: u16 = 13;

/// "What are the roots of these trees?" `antientropy`. Request channel; a release that does not know it drops it.
pub const ROOTS: u16 = 14;

/// The one version of all bodies so far.
pub const VERSION: u16 = 1;
