//! The rules of ringwork. Everything here is a function of its arguments: no clock is read, no random
//! number drawn, no socket, file or thread touched. Time and randomness come in as values, decisions go
//! out as values, and so a whole cluster can be run from one seed.
//!
//! Reading order: [`ids`] and [`limits`], then [`ring`] (a key's first partition), [`membership`] (the state
//! that all nodes share), [`claim`] (who should own what), [`metadata`] (what else all nodes share),
//! [`preflist`] (who answers for a key), [`gossip`] (who is up, and how the state spreads), [`vnode`] (the contract a
//! module fulfils), [`store`] and [`keyspace`] (what a vnode keeps), [`quorum`] (when a request has
//! ended), [`coverage`] (listing what all vnodes keep), [`transfer`] (how data goes where it belongs), [`antientropy`]
//! (how replicas become equal), [`clock`] (what happened before what), [`wire`] (bytes), [`testing`] (the laws, for
//! module authors), [`prelude`] (what they import).
//!
//! **Invariant:** core does not know actix, tokio, HTTP or any storage engine.

pub mod antientropy;
pub mod claim;
pub mod clock;
pub mod completeness;
pub mod coverage;
pub mod gossip;
pub mod ids;
pub mod keyspace;
pub mod latency;
pub mod limits;
pub mod membership;
pub mod metadata;
#[cfg(test)]
mod model;
pub mod mutant;
pub mod preflist;
pub mod prelude;
pub mod quorum;
pub mod ring;
pub mod store;
pub mod testing;
pub mod transfer;
pub mod vnode;
pub mod wire;
