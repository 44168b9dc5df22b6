//! A BEAM node for Rust programs: it joins a cluster of Erlang nodes over the distribution
//! protocol.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`node`] | the node: peers, processes, monitors, links, process groups, and the services that Erlang nodes expect |
//! | [`dist`] | one connection: flags, frames, headers and fragments, handshake, control messages, the task that reads, writes and ticks |
//! | [`epmd`] | a client of EPMD, and an EPMD for hosts that have none |
//! | [`etf`] | the external term format, within bounds |
//! | [`fair`] | slots of a port, shared fairly among the addresses and users that connect to it |
//! | [`limits`] | every bound, with its unit and the test that crosses it |
//! | [`log_limit`] | limits on log lines that outsiders can cause |
//! | [`name`], [`cookie`] | node names, parsed once; the cookie, which is never printed |
//! | [`stats`] | counters of traffic |

#[warn(clippy::indexing_slicing)]
pub mod dist;
#[warn(clippy::indexing_slicing)]
pub mod epmd;
#[warn(clippy::indexing_slicing)]
pub mod etf;
#[warn(clippy::indexing_slicing)]
pub mod node;

pub mod cookie;
pub mod fair;
pub mod limits;
pub mod log_limit;
pub mod name;
pub mod stats;
