//! Storage engines behind core's `Store` trait. `disk` is the one that survives; the one in memory lives in
//! core, because it is pure.

pub mod audit;
pub mod disk;
mod pace;
pub mod rescue;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod damage;
