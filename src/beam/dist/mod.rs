//! One connection to one peer: flags, handshake, frames, control messages, and the tasks that
//! transport them.
//!
//! Follows the "Distribution Protocol" chapter of OTP's erts documentation. All modules except
//! [`setup`] and `link` are pure: they turn bytes into bytes and values, so tests need neither a
//! socket nor a clock.
//!
//! The module has no processes or groups, and decides nothing about peers: the node decides which
//! nodes to dial and which of two connections wins.

#[cfg(not(feature = "internals"))]
pub(crate) mod budget;
#[cfg(feature = "internals")]
pub mod budget;
pub mod challenges;
#[cfg(not(feature = "internals"))]
pub(crate) mod control;
#[cfg(feature = "internals")]
pub mod control;
pub mod flags;
#[cfg(not(feature = "internals"))]
pub(crate) mod frames;
#[cfg(feature = "internals")]
pub mod frames;
#[cfg(not(feature = "internals"))]
pub(crate) mod framing;
#[cfg(feature = "internals")]
pub mod framing;
#[cfg(not(feature = "internals"))]
pub(crate) mod given_names;
#[cfg(feature = "internals")]
pub mod given_names;
#[cfg(not(feature = "internals"))]
pub(crate) mod handshake;
#[cfg(feature = "internals")]
pub mod handshake;
#[cfg(not(feature = "internals"))]
pub(crate) mod header;
#[cfg(feature = "internals")]
pub mod header;
#[cfg(not(feature = "internals"))]
pub(crate) mod link;
#[cfg(feature = "internals")]
pub mod link;
pub mod setup;

pub use handshake::{Established, HandshakeError, Identity};
