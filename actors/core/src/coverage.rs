//! Listing everything that a service keeps: which vnodes together answer for every key exactly once ([`plan`]), what
//! one of them is asked and answers ([`question`], [`page`]), and the whole from the first page to the last
//! ([`course`]). It does not know how a vnode is reached.
//!
//! Pages are pulled. Nothing is kept at a vnode between two of them, so there is nothing to cancel, and whoever fails
//! is replaced by a vnode that goes on behind the last key that was received.

pub mod course;
pub mod page;
pub mod plan;
pub mod question;

#[cfg(test)]
mod bed;
