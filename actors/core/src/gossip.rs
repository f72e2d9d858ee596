//! How nodes learn of each other: who is up ([`detector`], over the bytes of [`datagram`]), what the cluster
//! has agreed on ([`spread`]), and whether a module of this node is well ([`health`]). [`simulation`] runs a
//! thousand such nodes from one seed. Nothing here opens a connection, reads a clock or draws a seed: each is
//! a function from (state, now, event) to effects that the caller carries out in their order.
//!
//! Being down never changes ownership; it only decides who stands in for whom.

pub mod datagram;
pub mod detector;
pub mod health;
pub mod simulation;
pub mod spread;
