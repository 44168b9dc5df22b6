//! The stored events, one after the other, each once: first those that lie back, from the store, then each as it comes.
//!
//! A reader that falls behind reads on in the store, so nothing gathers in memory on its account. Never changes anything.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::View;
use super::handle::Handle;
use super::refusal::Refusal;
use crate::limits;
use crate::plugin::Event;

/// What a follower is told next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The event after the last one.
    Event(Event),
    /// The log doesn't reach back that far, or has never come that far: this is what holds now, and what comes next is what
    /// happens after it.
    Missed(Arc<View>),
}

/// A reader of the stored events.
#[derive(Debug)]
pub struct Follower {
    registry: Handle,
    live: Receiver<Event>,
    /// The revision that it has been told of.
    told: u64,
    /// What was read ahead from the store.
    page: VecDeque<Event>,
    /// Whether the store may have events after `told` and `page` that `live` has not.
    behind: bool,
}

impl Follower {
    /// Follows the stored events after a revision, each once and in order.
    #[must_use]
    pub fn new(registry: Handle, after: u64) -> Self {
        // Subscribed before the store is read: between the two nothing is lost.
        let live = registry.events();
        Self { registry, live, told: after, page: VecDeque::new(), behind: true }
    }

    /// The revision of what was told last.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Waits for what is next. Nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// The store can't be read, or the registry has stopped.
    pub async fn next(&mut self) -> Result<Next, Refusal> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.told = event.revision;
                return Ok(Next::Event(event));
            }
            if self.behind {
                match self.registry.events_after(self.told).await? {
                    Some(page) => {
                        // One that is not full has all that there was, and what came since is told live.
                        self.behind = page.len() >= limits::EVENTS_PAGE;
                        self.page = page.into();
                    }
                    None => {
                        let view = self.registry.view();
                        self.told = view.revision;
                        return Ok(Next::Missed(view));
                    }
                }
                continue;
            }
            match self.live.recv().await {
                Ok(event) if event.revision <= self.told => {}
                Ok(event) => {
                    self.told = event.revision;
                    return Ok(Next::Event(event));
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Err(Refusal::Stopping),
            }
        }
    }
}
