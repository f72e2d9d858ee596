//! The vnode as a whole: the laws, and each promise of the chat on one replica.

mod laws;
mod reading;
mod sending;
mod sweeping;
mod telling;
