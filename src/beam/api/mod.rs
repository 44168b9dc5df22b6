//! The node as programs use it: one builder, one handle, typed errors.
//!
//! [`Builder`] starts a node, [`Node`] is its handle. Both are built on [`node`](crate::node) and
//! add the parts that a whole program needs: the listening socket, the registration with EPMD, and
//! terms instead of encoded messages.

mod builder;
mod epmd;
mod functions;
mod handle;
mod server;

#[cfg(test)]
mod tests;

pub use builder::{Builder, StartError};
pub use handle::{ConnectError, Members, Monitor, Node, RequestError, Spawn};
pub use server::GenServer;
