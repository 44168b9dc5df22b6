//! `GET /api/events`: server-sent events (the WHATWG's HTML standard, section 9.2), as the contract and hecate-web's reader
//! have them: one event a chunk of the body, one `data:` line of JSON an event, a comment as a heartbeat.
//!
//! What is stored carries the registry's revision as `id:`; a client that comes back with `Last-Event-ID` gets what it
//! missed. Nodes' coming and going isn't stored and has no id. Nothing gathers for a slow reader: it is read on for as its
//! connection takes what is written, and a connection that takes nothing for a while is closed (see `stall`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::header::{HeaderMap, HeaderName};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::HttpResponse;
use super::changes::{Changes, Reported};
use super::connection::Place;
use super::context::Context;
use super::listing::{Listing, Snapshot};
use super::problem::Problem;
use super::sse;
use super::whole::Whole;
use crate::cluster::view::ClusterView;
use crate::metrics;
use crate::plugin::Event;
use crate::registry::{Follower, Next, View};
use crate::wire;

/// What all streams share.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    listing: Listing,
    changes: Changes,
    heartbeat: Duration,
    stop: CancellationToken,
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

impl Streams {
    /// Streams that end with `stop`.
    pub(super) fn new(listing: Listing, heartbeat: Duration, stop: CancellationToken) -> Self {
        Self { listing, changes: Changes::default(), heartbeat, stop }
    }

    /// Begins a stream, which ends with its connection.
    pub(super) fn open(&self, context: &Context, place: &Place, headers: &HeaderMap) -> Result<HttpResponse, Problem> {
        sse::admit(place)?;
        let known = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.trim().parse().ok());
        let (sender, body) = Channel::new(1);
        let cluster = context.cluster();
        let stream = Stream {
            sender,
            context: context.clone(),
            listing: self.listing.clone(),
            shown: None,
            told: self.changes.told(&cluster),
            changes: self.changes.clone(),
            _counted: metrics::Subscriber::count(),
        };
        self.spawn(place, stream.run(known, self.heartbeat));
        Ok(sse::response(Either::Right(body)))
    }

    /// Runs a stream until it ends, its connection is closed, or the daemon stops.
    pub(super) fn spawn<T: Send>(&self, place: &Place, stream: impl Future<Output = T> + Send + 'static) {
        let (stop, closed) = (self.stop.clone(), place.closed().clone());
        tokio::spawn(async move {
            // Why it ends is of no interest: the client is gone, or we are.
            tokio::select! {
                _ = stream => {}
                () = closed.cancelled() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// How often a stream shows that it is alive.
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// The head of a stream alone, for `HEAD`.
    pub(super) fn head() -> HttpResponse {
        sse::response(Either::Left(Whole::default()))
    }
}

/// The stream of one client.
struct Stream {
    sender: Sender<Bytes>,
    context: Context,
    listing: Listing,
    /// The revision of the last snapshot.
    shown: Option<u64>,
    changes: Changes,
    /// The state of the cluster that was last reported to the client.
    told: Reported,
    _counted: metrics::Subscriber,
}

/// The stream has ended.
struct Ended;

impl Stream {
    async fn run(mut self, known: Option<u64>, heartbeat: Duration) -> Result<(), Ended> {
        let mut follower = self.begin(known).await?;
        let mut cluster = self.context.cluster.clone();
        let mut heartbeats = sse::heartbeats(heartbeat);
        loop {
            tokio::select! {
                next = follower.next() => match next.map_err(|_| Ended)? {
                    Next::Event(event) => self.stored(&event).await?,
                    Next::Missed(view) => follower = self.snapshot(&view).await?,
                },
                changed = cluster.changed() => {
                    changed.map_err(|_| Ended)?;
                    self.cluster(&mut cluster).await?;
                }
                _ = heartbeats.tick() => self.send(sse::HEARTBEAT).await?,
            }
        }
    }

    /// A client that tells what it knows gets what came since; any other first gets the whole.
    async fn begin(&mut self, known: Option<u64>) -> Result<Follower, Ended> {
        if let Some(revision) = known {
            return Ok(Follower::new(self.context.registry.clone(), revision));
        }
        let view = self.context.registry.view();
        self.snapshot(&view).await
    }

    /// Sends a snapshot, whose bytes all streams share, and continues after it.
    async fn snapshot(&mut self, view: &Arc<View>) -> Result<Follower, Ended> {
        let Snapshot { bytes, revision, nodes } =
            self.listing.snapshot(view, &self.context.plugin_nodes(), &self.context.home);
        if self.shown == Some(revision) {
            // Too old to continue from: the client reconnects when slower streams have read on.
            return Err(Ended);
        }
        self.shown = Some(revision);
        self.told.plugin_nodes = nodes;
        self.send(bytes).await?;
        Ok(Follower::new(self.context.registry.clone(), revision))
    }

    async fn stored(&mut self, event: &Event) -> Result<(), Ended> {
        let namespace = self.context.home.namespace(&event.plugin.name);
        let stored = wire::StoredEvent::new(event, &namespace, &self.context.plugin_nodes());
        self.event(event.kind.name(), Some(event.revision), &stored).await
    }

    async fn cluster(&mut self, cluster: &mut watch::Receiver<Arc<ClusterView>>) -> Result<(), Ended> {
        let view = cluster.borrow_and_update().clone();
        let (events, told) = self.changes.since(&self.told, &view);
        self.told = told;
        for event in events.iter() {
            self.send(event.clone()).await?;
        }
        Ok(())
    }

    async fn event(&mut self, name: &str, id: Option<u64>, data: &impl Serialize) -> Result<(), Ended> {
        self.send(sse::encode(name, id, data)).await
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Ended> {
        self.sender.send_data(bytes).await.map_err(|_| Ended)
    }
}
