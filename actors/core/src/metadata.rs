//! What all members know alike beside the cluster state: settings that operators change at run time, properties of
//! services, and whatever else is small and needed everywhere. Pure: who is reachable, when something is sent and
//! where it is kept, others decide.
//!
//! Reading order: [`causal`] (what a replica has seen), [`namespace`] (entries with one such history),
//! [`lifecycle`] (what must be known everywhere before it is used), [`statement`] (what a node says of itself),
//! [`store`] (the whole), [`section`] (how it travels), [`features`] (what every member can do),
//! [`setting`] (the first user).

pub mod causal;
pub mod features;
pub mod lifecycle;
pub mod namespace;
pub mod section;
pub mod setting;
pub mod statement;
pub mod store;

pub use causal::{Life, LifeDot, Seen};
pub use lifecycle::Stage;
pub use namespace::{EntryRefusal, Namespace, NamespaceName, Version};
pub use section::{MetadataDigest, MetadataPart, MetadataSection, SharedMetadata};
pub use setting::{Family, SetFor};
pub use statement::{Said, Statement};
pub use store::{At, Metadata, MetadataError};

#[cfg(test)]
mod tests;
