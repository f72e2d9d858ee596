//! Handoff: transfers of partitions between this node and others. The rules are core's
//! ([`ringwork_core::transfer`]); here they are carried out.
//!
//! Reading order: [`generations`] (what lies on this node, and as what), `service` (one service as transfers see it),
//! `switch` (changes of generation under requests), `sender` and `receiver` (the two ends of a transfer), `manager` (which
//! transfers run), `sealed_read` (reads while hints wait), [`board`] (what operators see and set).

pub mod board;
pub mod generations;
pub(crate) mod manager;
mod receiver;
pub(crate) mod sealed_read;
mod sender;
pub(crate) mod service;
pub(crate) mod switch;
