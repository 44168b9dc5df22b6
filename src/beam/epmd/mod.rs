//! The Erlang port mapper daemon (EPMD), which maps the names of a host's nodes to ports.
//!
//! This module implements the protocol ("EPMD Protocol" in OTP's erts documentation) as a client
//! and as a server. It does not decide which EPMD to query, when to retry, or when to serve.

pub mod client;
#[cfg(not(feature = "internals"))]
pub(crate) mod protocol;
#[cfg(feature = "internals")]
pub mod protocol;
pub(crate) mod server;
