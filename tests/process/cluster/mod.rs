//! Several nodes on one machine, as an operator would run them: how they become a cluster, what they serve when some
//! of them are dead, stopped or cut off, and what is there afterwards.

mod by_hand;
mod changes;
mod cut;
mod deaths;
mod disks;
mod fill;
mod harness;
mod kv_client;
mod kv_listing;
mod large;
mod listing;
mod load;
mod moving;
mod namespaces;
mod objects;
mod quorums;
mod repair;
mod replacement;
mod restart;
mod settings;

pub(crate) use self::harness::take_turn;
