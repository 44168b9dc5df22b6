//! `GET /api/events`: events of plugins and nodes, as server-sent events (WHATWG HTML standard,
//! section 9.2).
//!
//! As hecate-web's reader expects, each event is one chunk of the body and has one `data:` line of
//! JSON, and the heartbeat is a comment. A stored event has the registry's revision as its `id:`,
//! so a client that reconnects with `Last-Event-ID` receives the events that it missed. Events of
//! nodes are not stored and have no id. Nothing is queued for a slow client: a stream reads the
//! next event when the previous one is written. `stall` closes a connection whose client stops
//! reading.

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

/// The state that all streams share.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    listing: Listing,
    changes: Changes,
    heartbeat: Duration,
    stop: CancellationToken,
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

impl Streams {
    /// Creates the shared state. The streams end when `stop` is cancelled.
    pub(super) fn new(listing: Listing, heartbeat: Duration, stop: CancellationToken) -> Self {
        Self { listing, changes: Changes::default(), heartbeat, stop }
    }

    /// Starts a stream. It ends with its connection.
    pub(super) fn open(&self, context: &Context, place: &Place, headers: &HeaderMap) -> Result<HttpResponse, Problem> {
        sse::admit(place)?;
        let known = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.trim().parse().ok());
        let (sender, body) = Channel::new(1);
        let cluster = context.cluster();
        let stream = Stream {
            sender,
            context: context.clone(),
            listing: self.listing.clone(),
            sent_snapshot: None,
            reported: self.changes.reported(&cluster),
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
            tokio::select! {
                _ = stream => {}
                () = closed.cancelled() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Returns the time between two heartbeats.
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Returns the response to `HEAD`.
    pub(super) fn head() -> HttpResponse {
        sse::response(Either::Left(Whole::default()))
    }
}

/// The stream of one client.
struct Stream {
    sender: Sender<Bytes>,
    context: Context,
    listing: Listing,
    /// The revision of the last snapshot that was sent.
    sent_snapshot: Option<u64>,
    changes: Changes,
    /// The state of the cluster that was last reported to the client.
    reported: Reported,
    _counted: metrics::Subscriber,
}

/// Means that a stream has ended.
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

    /// Continues after the revision that the client knows. Without one, sends a snapshot first.
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
        if self.sent_snapshot == Some(revision) {
            // Slower streams still read this snapshot, and it is too old to continue from. The
            // client reconnects later.
            return Err(Ended);
        }
        self.sent_snapshot = Some(revision);
        self.reported.plugin_nodes = nodes;
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
        let (events, reported) = self.changes.since(&self.reported, &view);
        self.reported = reported;
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
