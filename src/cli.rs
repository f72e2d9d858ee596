//! The command line, one file per family of commands. All but `start` and `config` ask a node over HTTP; none
//! opens a node's data.

pub mod bench;
pub mod bucket_type;
pub mod chat;
pub mod client;
pub mod cluster;
pub mod config;
pub mod dev;
pub mod handoff;
pub mod kv;
pub mod repair;
pub mod ring;
pub mod setting;
pub mod start;
pub mod status;
pub(crate) mod table;
