//! A value with one winner: the greatest (counter, value, writer) of all that were ever written. It decides
//! which of two concurrent writes stands; it does not know what the value means, but for one thing: a value may
//! be *final*, and then no counter beats it.
//!
//! Not version vectors with a table for conflicts: such a rule is not associative. Three writers x, y, z with
//! x > y, y > z, z > x in the table end differently by the order in which they meet (see the tests of
//! [`crate::membership`]). A total order cannot do that.

use crate::ids::NodeId;
use serde::{Deserialize, Serialize};

/// What a register can hold.
pub trait RegisterValue: Clone + Ord {
    /// Whether this value stands against every later write.
    fn is_final(&self) -> bool {
        false
    }
}

impl RegisterValue for String {}
impl RegisterValue for bool {}
impl<T: Clone + Ord> RegisterValue for Option<T> {}

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Register<T> {
    counter: u64,
    value: T,
    writer: NodeId,
}

impl<T: RegisterValue> Register<T> {
    /// The first value.
    pub fn new(value: T, writer: NodeId) -> Self {
        Self { counter: 1, value, writer }
    }

    /// The value that stands.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Writes a value over what stands here. A final value stays; says whether the value now stands.
    pub fn set(&mut self, value: T, writer: NodeId) -> bool {
        if self.value == value {
            return true;
        }
        if self.value.is_final() {
            return false;
        }
        *self = Self { counter: self.counter.saturating_add(1), value, writer };
        true
    }

    /// The least register that contains both; says whether this one grew.
    pub fn merge(&mut self, other: &Self) -> bool {
        let grows = other.key() > self.key();
        if grows {
            *self = other.clone();
        }
        grows
    }

    fn key(&self) -> (bool, u64, &T, NodeId) {
        (self.value.is_final(), self.counter, &self.value, self.writer)
    }
}
