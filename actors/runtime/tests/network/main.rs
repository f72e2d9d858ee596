//! Networks on loopback in one process: what is sent arrives, what cannot be sent is said, what ends is noticed, and
//! who has no business here is told so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on has failed

mod calls;
mod ends;
mod large;
mod stand;
mod strangers;
