//! The plugins of this host in the cluster: their proxies in process groups, their status according
//! to the connected nodes, and the calls of Erlang nodes.
//!
//! [`membership`], [`nodes`] and [`refusing`] are pure. [`server`] and [`shared_paths`] answer
//! calls at once, or pass them to [`orders`].

pub mod changes;
pub mod membership;
pub mod nodes;
pub mod orders;
pub mod proxy;
pub mod refusing;
pub mod server;
pub mod shared_paths;
