//! What happened before what. [`hybrid`] orders events by time without trusting it, [`vector`] and
//! [`dotted`] order them by cause. None of them reads a clock.

pub mod dotted;
pub mod hybrid;
pub mod vector;
