//! Connects to other nodes: resolves their hosts, queries their EPMD, checks which user owns a port
//! of this host, and performs the handshake.
//!
//! A call makes one attempt. The caller decides when to dial.

pub mod dial;
pub mod owners;
pub mod resolve;
mod sock_diag;
mod socket_holder;

pub use socket_holder::Holder;
