//! The Erlang port mapper daemon: which node of a host listens on which port.
//!
//! This room is a leaf: it speaks the protocol ("EPMD Protocol" in OTP's erts documentation) and decides nothing about
//! whom to ask or when to try again.

pub mod client;
