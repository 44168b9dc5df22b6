//! The HTTP API on a Unix socket, a thin layer over the registry's handle and the views that the
//! daemon publishes.
//!
//! A call passes through `socket`, `server`, `route` and `handlers`. The JSON of each response is a
//! type of `wire` or a `problem`. This module keeps no state of plugins and makes no decision about
//! them.

mod answer;
mod body;
mod borrowed;
mod bounds;
mod changes;
mod connection;
mod context;
mod events;
mod handlers;
mod listing;
mod metrics;
mod places;
pub mod problem;
pub mod registration;
mod render;
pub mod route;
mod server;
mod socket;
mod sse;
mod stall;
mod status;
mod trace;
mod whole;

pub use bounds::Limits;
pub use context::Context;
pub use server::serve;
pub use socket::{BindError, Listener, SocketFile, bind};
pub use status::{DaemonStatus, EpmdOwner, Phase, Problem, Severity};
