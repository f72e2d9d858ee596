//! The services that are simulated: one file each.

pub mod chat;
pub mod counter;
pub mod kv;
pub mod presence;
