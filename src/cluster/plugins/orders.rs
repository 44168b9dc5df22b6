//! Executes the requests of peers that take longer than the node's task may wait: one at a time, in
//! the order in which they arrived.

use std::sync::Arc;

use beam::etf::Term;
use beam::limited;
use beam::node::CallId;
use beam::node::handle::{Handle, Stopped};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::cluster::plugins::proxy::Registered;
use crate::cluster::terms::{error, ok};
use crate::layout::Layout;
use crate::limits;
use crate::log::limit;
use crate::plugin::{Plugin, PluginName, Registration};
use crate::registry::{self, Refusal};

/// A request, with the call to answer.
#[derive(Debug)]
pub enum Order {
    /// Register a plugin.
    Register(CallId, Registration),
    /// Deregister a plugin.
    Deregister(CallId, PluginName),
    /// Create the missing directories of our own namespace.
    EnsureLayout(CallId),
}

/// Returns the two ends of the queue of orders. [`limits::ORDERS`] bounds it.
#[must_use]
pub fn queue() -> (mpsc::Sender<Order>, mpsc::Receiver<Order>) {
    mpsc::channel(limits::ORDERS)
}

/// Executes orders until the node stops.
///
/// # Errors
/// The node has stopped.
pub async fn run(
    mut orders: mpsc::Receiver<Order>,
    registry: registry::Handle,
    layout: Arc<Layout>,
    registered: Registered,
    node: Handle,
) -> Result<(), Stopped> {
    let plugin = |result: Result<Arc<Plugin>, Refusal>| match result {
        Ok(plugin) => ok(registered.info(&plugin)),
        Err(refusal) => error(refusal.code(), &refusal.to_string()),
    };
    while let Some(order) = orders.recv().await {
        let (call, answer) = match order {
            // A peer has no uid, so the new directories belong to our own user.
            Order::Register(call, registration) => (call, plugin(registry.register(registration, None).await)),
            Order::Deregister(call, name) => (call, plugin(registry.deregister(name).await)),
            Order::EnsureLayout(call) => {
                let layout = layout.clone();
                let made = match spawn_blocking(move || layout.ensure_own().map(drop)).await {
                    Ok(Ok(())) => Term::atom("ok"),
                    Ok(Err(e)) => {
                        limited!(limit::DISK, warn, "a peer asked for our directories: {e}");
                        error("layout_failed", &e.to_string())
                    }
                    Err(e) => error("internal", &e.to_string()),
                };
                (call, made)
            }
        };
        node.answer(call, answer).await?;
    }
    Ok(())
}

/// Returns the answer to a call while the queue of orders is full.
pub(super) fn queue_is_full() -> Term {
    error("system_limit", "too many requests wait in this daemon; try again")
}
