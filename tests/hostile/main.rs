//! The whole server on a real socket against those who mean it ill, or well and too many at once: wrong input of
//! every kind, noise, slow clients, overload, streams, and a node that stops under load. What is asserted is what
//! every client may rely on: an answer that says what was wrong, never a crash, and an acknowledgement that holds.
//!
//! Reading order: `server` (how a node is started here), `client` (HTTP/1.1 by hand, so that every byte can be
//! wrong), then one file for each kind of hostility.

#![allow(clippy::disallowed_methods, reason = "servers and clients of tests have threads of their own")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests, which may fail like tests")]

mod client;
mod noise;
mod overload;
mod rows;
mod server;
mod slow;
mod stopping;
mod stream;
mod table;
