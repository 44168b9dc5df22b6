//! Finding and reaching other nodes: resolves their hosts, asks their EPMD, checks whose process
//! listens on a port of this host, and shakes hands.
//!
//! Makes one attempt at a time. The owner of the node decides when to dial.

pub mod dial;
pub mod owners;
pub mod resolve;
mod sock_diag;
mod socket_holder;

pub use socket_holder::Holder;
