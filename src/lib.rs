#![doc = include_str!("ARCHITECTURE.md")]
//!
//! ## Where to look first
//!
//! | what happens | file |
//! | --- | --- |
//! | a peer joins a process group | `src/beam/node/services/pg.rs` |
//! | a peer has a wrong cookie | `src/beam/dist/handshake.rs` |
//! | two nodes dial each other at the same moment | `src/beam/node/machine.rs` (`accept_status`); `node/machine/connections.rs` if both connections are up; `node/giving_way.rs` ends our own attempt |
//! | a frame has an impossible length | `src/beam/dist/framing.rs` |
//! | a term is too deep, or malformed | `src/beam/etf/walk.rs` for any term, `src/beam/etf/reader.rs` for messages of known shape |
//! | a peer calls a function that the node does not have | `src/beam/node/machine/served.rs` |
//! | a node is dialled again | `src/cluster/peers/redial.rs`, which decides when; `src/beam/connect/dial.rs` makes one attempt |
//! | two peers are introduced | `src/cluster/peers/introduce.rs` |
//! | another node has our name | `src/cluster/own_name.rs` |
//! | no EPMD answers | `src/beam/node/registrar.rs` |
//! | EPMD ends while the daemon runs | `src/cluster/machine.rs` decides when to register again, `src/cluster/own_name.rs` does it |
//! | a probe of a plugin's socket fails | `src/registry/state/sockets.rs` for its status, `src/layout/socket/dead.rs` for its file |
//! | a registration arrives, over HTTP | `src/api/registration.rs`, then `src/plugin/request.rs` |
//! | a plugin is deregistered or purged over HTTP | `src/api/handlers.rs`, then `src/registry/state.rs` |
//! | a setting, such as the node name, is read and checked | `src/config/fields.rs`; the rules for characters are in `src/beam/name.rs` |
//! | a client lists the plugins | `src/api/listing.rs`, with the rows of `src/api/render/plugins.rs` |
//! | another host's plugins are fetched and kept | `src/cluster/hosts/tracker.rs` |
//! | `diagnose` reports a stage | `src/cluster/diagnosis/` |
//! | an event reaches a slow client | `src/api/events.rs`, and `src/api/stall.rs` if it is too slow |
//! | the database is damaged at the start | `src/store/database.rs`, then `src/store/salvage.rs` |
//! | the daemon's own files vanish | `src/daemon/own_files.rs`, for the database `src/store/vanished.rs` |
//! | `doctor` reports something | `src/cli/doctor/` |
//! | a peer needs too much memory | `src/beam/dist/budget.rs` |

// In the order in which data flows, from the socket to the cluster, then the leaf modules.
pub mod daemon;
pub mod runtimes;

pub mod cli;
pub mod config;

pub mod api;
pub mod layout;
pub mod registry;
pub mod store;

pub mod cluster;

pub mod escape;
pub mod files;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod plugin;
pub mod similar;
pub mod systemd;
pub mod timestamp;
pub mod wire;
