//! Handoff: transfers of partitions between this node and others. The rules are core's
//! ([`ringwork_core::transfer`]); here they are carried out.
//!
//! Reading order: [`generations`] (what lies on this node, and as what), `service` (one service as transfers see it),
//! `switch` (changes of generation under requests), `sender` and `receiver` (the two ends of a transfer), `manager`
//! (which transfers run), `sealed_read` (reads while hints wait), [`board`] (what operators see and set), `status` and
//! [`metrics`] (the same by names, and as numbers).

pub mod board;
mod foreground;
pub mod generations;
pub(crate) mod manager;
pub mod metrics;
mod receiver;
pub(crate) mod sealed_read;
mod sender;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod switch;
