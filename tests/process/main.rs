//! Real nodes on real disks and sockets: the `ringwork` program as a user runs it. What cannot be shown inside
//! one process is shown here: kill -9, damaged files, signals, two nodes on one directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on has failed
#![allow(clippy::disallowed_methods)] // the tests' own clock and threads, not the node's
#![allow(clippy::print_stdout, clippy::print_stderr)] // what was measured, and what could not be tested here

mod cluster;
mod commands;
mod damage;
mod dev;
mod durability;
mod endings;
mod node;
