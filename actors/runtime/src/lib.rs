//! The actors of ringwork: thin shells round the state machines of `ringwork-core`. The runtime carries: it
//! owns threads, time, the store and the addresses of actors, and leaves every decision that is a rule to
//! core.
//!
//! Reading order: [`node`] (what is started, and how it stops), [`coordinator`] (the life of a request),
//! [`vnode`] (a turn), [`storage`] (group commit), [`vnode_master`] (who lives, who is restarted), [`net`] (the
//! wire to other nodes).
//!
//! **Invariant:** no actor registry and no global. Addresses are passed in; [`post::Postbox`] is the only way
//! to an actor's mailbox; [`spawner::Spawner`] decides on which thread an actor starts; [`time`] and
//! [`randomness`] are the only sources of either.

pub mod administration;
pub mod antientropy;
mod beat;
mod claimant;
mod cluster_administration;
pub mod coordinator;
pub mod families;
pub mod files;
mod gossip_agent;
pub mod handoff;
mod identity;
mod introduction;
mod joining;
mod latencies;
pub mod messages;
pub mod metadata;
mod metadata_manager;
pub mod net;
pub mod node;
pub mod node_core;
mod node_options;
pub mod post;
pub mod randomness;
mod rebuild;
mod remote;
pub mod resting;
pub mod ring_manager;
pub mod run_time_settings;
pub mod service_core;
mod setting_administration;
pub mod spawner;
pub mod start_error;
pub mod storage;
pub mod store;
pub mod strays;
pub mod telemetry;
pub mod time;
pub mod vnode;
pub mod vnode_master;
pub mod watch;
mod wiring;
