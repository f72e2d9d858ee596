//! Who is in the cluster, who holds what and who is to: the state that all members gossip, and the rules by which
//! it changes. Pure: who is reachable, when something is sent and where it is kept, others decide.
//!
//! Reading order: [`register`], [`member`], [`target`] (wish and fact), [`staging`], [`report`], then [`state`]
//! (the whole and its merge), [`section`] (how it travels), [`change`], [`introduction`], [`replacement`] and
//! [`plan`] (who may change what).

pub mod change;
pub mod introduction;
pub mod member;
pub mod plan;
pub mod register;
pub mod replacement;
pub mod report;
pub mod section;
pub mod staging;
pub mod state;
pub mod target;

pub use change::{ChangeRefusal, Joiner};
pub use member::{Before, Member, Status};
pub use plan::Plan;
pub use replacement::Forced;
pub use report::Report;
pub use section::{Section, SectionContent, StatePart};
pub use staging::{ChangeDetail, ChangeKind, Round, Staging};
pub use state::{ClusterState, StateError};
pub use target::{Possession, Target, TargetKey};

#[cfg(test)]
mod tests;
