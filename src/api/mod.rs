//! The front door: HTTP on a Unix socket, a thin skin over the registry's handle and what the daemon publishes.
//!
//! A call goes `socket -> server -> route -> handlers`, and every answer is made of `wire` or `problem`. The room keeps
//! no state of its own and decides nothing about plugins: it reads, asks, and words the answer.

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
