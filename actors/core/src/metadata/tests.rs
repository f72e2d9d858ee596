//! The metadata's tests: its laws against a plain account of what was written, its bounds, the lives of entries, and
//! a cluster in which it spreads.

mod bounds;
mod laws;
mod lives;
mod spreading;

use super::*;
use crate::clock::hybrid::HybridTime;
use crate::ids::{Boot, ClusterId, NodeId};
use std::collections::BTreeSet;

fn node(number: usize) -> NodeId {
    NodeId([number as u8 + 1; 16])
}

fn name(text: &str) -> NamespaceName {
    NamespaceName::try_from(text).unwrap()
}

fn fresh() -> Metadata {
    Metadata::new(ClusterId([7; 16]))
}

fn joined(left: &Metadata, right: &Metadata) -> Metadata {
    let mut both = left.clone();
    both.join(right, |_| true).unwrap();
    both
}

fn at(metadata: &Metadata, number: usize, now: u64) -> At {
    let now = HybridTime::at_ms(now);
    At { life: metadata.begin_life(node(number), now), now }
}

/// `number` says what it has.
fn speak(metadata: &mut Metadata, number: usize, features: &[&str]) -> bool {
    let said = Said {
        protocol_min: 1,
        protocol_max: 1,
        features: features.iter().map(|text| (*text).to_owned()).collect(),
        seen: metadata.stamp(),
        having: metadata.having(),
    };
    metadata.state(node(number), Boot(1), &said).unwrap()
}
