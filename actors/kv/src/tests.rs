//! The vnode under test, by subject.

mod laws;
mod reaping;
mod writing;
