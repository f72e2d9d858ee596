//! What a node says of itself beside its report: which protocols it speaks, what it can do, and what of the metadata it
//! has. Written by that node alone, each later one in place of the one before. It travels as bytes under the number of
//! their layout, so that a release that does not know a layout passes it on all the same, and takes its node for one
//! that can do nothing new.

use crate::ids::Boot;
use crate::limits::{FEATURE_NAME_BYTES_MAX, FEATURES_MAX};
use crate::wire::{WireError, codec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most bytes of what a statement says: all features and all marks with room to spare.
pub const STATEMENT_BYTES_MAX: usize = 8 * 1024;
/// Most entries that wait until every member has them, and so the most that a node says it has of those.
pub const HAVING_MAX: usize = 512;
/// The layout of [`Said`].
const LAYOUT: u16 = 1;

/// What a statement says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Said {
    /// The oldest protocol that the node speaks.
    pub protocol_min: u16,
    /// The newest.
    pub protocol_max: u16,
    /// What it can do.
    pub features: BTreeSet<String>,
    /// Stands for all entries that it has on its disk: see [`super::Metadata::stamp`].
    pub seen: u64,
    /// What it has of the entries that wait for everybody: see [`super::Metadata::having`].
    pub having: BTreeSet<u64>,
}

/// A statement on its way. Of two the greater one stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// In which life of the node it was made.
    pub boot: Boot,
    /// Which one of that life.
    pub sequence: u64,
    layout: u16,
    body: Vec<u8>,
}

impl Statement {
    /// A statement that says `said`.
    pub fn of(boot: Boot, sequence: u64, said: &Said) -> Result<Self, WireError> {
        let body = codec::encode(said)?;
        if body.len() > STATEMENT_BYTES_MAX {
            return Err(WireError::TooLarge { limit: STATEMENT_BYTES_MAX, found: body.len() });
        }
        Ok(Self { boot, sequence, layout: LAYOUT, body })
    }

    /// What it says; none when its layout is a later release's, or it says what cannot be.
    pub fn said(&self) -> Option<Said> {
        let said: Said = (self.layout == LAYOUT).then(|| codec::decode(&self.body).ok()).flatten()?;
        let lawful = said.features.len() <= FEATURES_MAX
            && said.features.iter().all(|name| name.len() <= FEATURE_NAME_BYTES_MAX)
            && said.having.len() <= HAVING_MAX;
        lawful.then_some(said)
    }

    /// About as many bytes as it takes.
    pub fn bytes(&self) -> usize {
        self.body.len() + 32
    }

    /// Whether it may be kept.
    pub fn is_sound(&self) -> bool {
        self.body.len() <= STATEMENT_BYTES_MAX
    }

    /// The later of both; says whether this one was replaced.
    pub fn merge(&mut self, other: &Self) -> bool {
        // One node makes one statement under a number; comparing the rest only keeps the order total.
        let grows = other > self;
        if grows {
            *self = other.clone();
        }
        grows
    }
}
