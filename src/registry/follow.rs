//! Reads the stored events in order and exactly once: first past events from the store, then new
//! ones as they are published.
//!
//! A reader that falls behind continues from the store, so no events pile up in memory for it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::View;
use super::handle::Handle;
use super::refusal::Refusal;
use crate::limits;
use crate::plugin::Event;

/// The next item for a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The event after the previous one.
    Event(Event),
    /// The store does not have the next event: it was deleted, or the revision is from another
    /// database. This is the current view, and the events after it follow.
    Missed(Arc<View>),
}

/// A reader of the stored events.
#[derive(Debug)]
pub struct Follower {
    registry: Handle,
    live: Receiver<Event>,
    /// The revision of the last item that was returned.
    delivered: u64,
    /// Events that were read from the store and not yet returned.
    page: VecDeque<Event>,
    /// Whether the store may have events that are in neither `page` nor `live`.
    is_behind: bool,
}

impl Follower {
    /// Follows the stored events after a revision, each once and in order.
    #[must_use]
    pub fn new(registry: Handle, after: u64) -> Self {
        // Subscribed before the store is read, so that no event is lost between the two.
        let live = registry.events();
        Self { registry, live, delivered: after, page: VecDeque::new(), is_behind: true }
    }

    /// Returns the revision of the last item that was returned.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Waits for the next item. Cancel safe: no item is lost.
    ///
    /// # Errors
    /// The store cannot be read, or the registry has stopped.
    pub async fn next(&mut self) -> Result<Next, Refusal> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.delivered = event.revision;
                return Ok(Next::Event(event));
            }
            if self.is_behind {
                match self.registry.events_after(self.delivered).await? {
                    Some(page) => {
                        // A page that is not full was the last one, and `live` has all later
                        // events.
                        self.is_behind = page.len() >= limits::EVENTS_PAGE;
                        self.page = page.into();
                    }
                    None => {
                        let view = self.registry.view();
                        self.delivered = view.revision;
                        return Ok(Next::Missed(view));
                    }
                }
                continue;
            }
            match self.live.recv().await {
                Ok(event) if event.revision <= self.delivered => {}
                Ok(event) => {
                    self.delivered = event.revision;
                    return Ok(Next::Event(event));
                }
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return Err(Refusal::Stopping),
            }
        }
    }
}
