//! The vnode under test, by subject.

mod large;
mod laws;
mod reaping;
mod unreadable;
mod writing;
