//! The Erlang port mapper daemon: which node of a host listens on which port.
//!
//! This room is a leaf: it speaks the protocol ("EPMD Protocol" in OTP's erts documentation), as a client and as a server, and
//! decides nothing about whom to ask, when to try again, or when to serve.

pub mod client;
#[cfg(not(feature = "internals"))]
pub(crate) mod protocol;
#[cfg(feature = "internals")]
pub mod protocol;
pub(crate) mod server;
