//! One connection to one peer: flags, handshake, frames, control messages, and the tasks that carry them.
//!
//! Follows the "Distribution Protocol" chapter of OTP's erts documentation. Everything but [`setup`] and [`link`] is pure: bytes in,
//! bytes and values out, so that each rule can be tested without a socket or a clock.
//!
//! This room knows nothing of processes or groups, and decides nothing about peers: whom to dial and which
//! of two connections wins is the node's business.

pub mod budget;
pub mod challenges;
pub mod control;
pub mod flags;
pub mod frames;
pub mod framing;
pub mod given_names;
pub mod handshake;
pub mod header;
pub mod link;
pub mod setup;
