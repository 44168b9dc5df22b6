//! Delivers events to the subscribers of a peer. The task that traces never waits. If the queue of
//! a subscription is full, an event is dropped, and its place in the queue holds the number of
//! dropped events.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::{Direction, Layer};
use crate::limits;
use crate::name::NodeName;

/// An event between this node and another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// The time of the event.
    pub at: SystemTime,
    /// The full name of the peer, if known. It is not proved before the handshake is complete.
    pub peer: Option<NodeName>,
    /// The number of the connection, if there is one.
    pub connection: Option<u64>,
    /// The subject of the event.
    pub layer: Layer,
    /// The origin of the event.
    pub direction: Direction,
    /// The description, of at most [`limits::TRACE_TEXT`] bytes.
    pub text: String,
}

impl TraceEvent {
    pub(super) fn new(
        subject: &Subject<'_>,
        connection: Option<u64>,
        layer: Layer,
        direction: Direction,
        text: String,
    ) -> Self {
        let peer = match subject {
            Subject::Node(name) => Some((*name).clone()),
            Subject::ShortName(_) | Subject::Unknown => None,
        };
        Self { at: SystemTime::now(), peer, connection, layer, direction, text }
    }
}

/// The node that an event is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// A node by its full name.
    Node(&'a NodeName),
    /// A node by its short name, as in EPMD messages, which do not name the host.
    ShortName(&'a [u8]),
    /// An unknown node, or none.
    Unknown,
}

impl Subject<'_> {
    fn is(&self, node: &NodeName) -> bool {
        match self {
            Self::Node(name) => *name == node,
            Self::ShortName(name) => *name == node.short_name().as_bytes(),
            Self::Unknown => false,
        }
    }
}

/// The next part of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// An event.
    Event(Arc<TraceEvent>),
    /// This number of events was dropped here, because the queue was full.
    Dropped(u64),
}

/// The events that wait for a subscriber.
#[derive(Debug, Default)]
pub(super) struct SubscriberQueue {
    waiting: Mutex<VecDeque<Traced>>,
    more: Notify,
}

impl SubscriberQueue {
    fn push(&self, event: &Arc<TraceEvent>) {
        let mut waiting = lock(&self.waiting);
        let is_full = waiting.len() >= limits::TRACE_QUEUE;
        match waiting.back_mut() {
            Some(Traced::Dropped(dropped)) if is_full => *dropped = dropped.saturating_add(1),
            _ if is_full => waiting.push_back(Traced::Dropped(1)),
            _ => waiting.push_back(Traced::Event(Arc::clone(event))),
        }
        self.more.notify_one();
    }
}

/// The subscriptions of this process, and their number, which is read without the lock.
static SUBSCRIPTIONS: Mutex<Vec<(NodeName, Arc<SubscriberQueue>)>> = Mutex::new(Vec::new());
static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds a lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// There are [`limits::TRACE_SUBSCRIPTIONS`] subscriptions already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many traces are running (limit {max})", max = limits::TRACE_SUBSCRIPTIONS)]
pub struct TooMany;

/// A subscription to what the nodes of this process exchange with a peer, until it is dropped.
#[derive(Debug)]
pub struct Subscription(Arc<SubscriberQueue>);

/// Subscribes to what the nodes of this process exchange with the node `peer`, connected or not.
/// EPMD messages about any node of the same short name are included, because they do not name the
/// host.
///
/// # Errors
/// [`TooMany`].
pub fn subscribe(peer: NodeName) -> Result<Subscription, TooMany> {
    let mut subscriptions = lock(&SUBSCRIPTIONS);
    if subscriptions.len() >= limits::TRACE_SUBSCRIPTIONS {
        return Err(TooMany);
    }
    let queue = Arc::new(SubscriberQueue::default());
    subscriptions.push((peer, Arc::clone(&queue)));
    NUMBER.store(subscriptions.len(), Ordering::Relaxed);
    Ok(Subscription(queue))
}

impl Subscription {
    /// Waits for the next part. No event is lost if the future is dropped.
    pub async fn next(&mut self) -> Traced {
        loop {
            let more = self.0.more.notified();
            if let Some(next) = lock(&self.0.waiting).pop_front() {
                return next;
            }
            more.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscriptions = lock(&SUBSCRIPTIONS);
        subscriptions.retain(|(_, queue)| !Arc::ptr_eq(queue, &self.0));
        NUMBER.store(subscriptions.len(), Ordering::Relaxed);
    }
}

/// Returns the queues of the subscribers of a node.
pub(super) fn subscribers(subject: &Subject<'_>) -> Vec<Arc<SubscriberQueue>> {
    if NUMBER.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    let subscriptions = lock(&SUBSCRIPTIONS);
    let wanted = subscriptions.iter().filter(|(node, _)| subject.is(node));
    wanted.map(|(_, queue)| Arc::clone(queue)).collect()
}

pub(super) fn publish(subscribers: &[Arc<SubscriberQueue>], event: TraceEvent) {
    let event = Arc::new(event);
    for queue in subscribers {
        queue.push(&event);
    }
}
