//! What a module is written with, in one import: `use ringwork_core::prelude::*`. It decides nothing; each name is
//! explained where it lives.

pub use crate::clock::hybrid::HybridTime;
pub use crate::coverage::question::{EveryItem, ItemRow, NoQuestion, Question, Row};
pub use crate::ids::Partition;
pub use crate::keyspace::items::{Items, ItemsError};
pub use crate::keyspace::{Keyspace, Read, Snapshot};
pub use crate::store::{Direction, Flow, KeyRange, StoreError};
pub use crate::vnode::{After, Item, Merged, Outcome, Resolution, Turn, VisitItem, Vnode};
pub use crate::wire::Wire;
