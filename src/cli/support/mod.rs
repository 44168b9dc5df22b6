//! The parts that commands share: the client of the socket, flags, tables, output and exit codes.

pub(super) mod client;
pub(super) mod command;
pub(super) mod exit;
pub(super) mod flags;
pub(super) mod follow;
pub(super) mod output;
pub(super) mod page;
pub(super) mod refusal;
pub(super) mod sse;
mod states;
pub(super) mod suggest;
