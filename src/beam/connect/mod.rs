//! Finding and reaching other nodes: resolves their hosts, asks their EPMD, checks whose process
//! listens on a port of this host, and shakes hands.
//!
//! Decides nothing about when to dial. [`crate::node::task`] and its owner do.

pub mod dial;
pub mod owners;
pub mod resolve;
mod sock_diag;
pub mod socket_holder;
