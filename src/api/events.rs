//! `GET /api/events`: server-sent events (the WHATWG's HTML standard, section 9.2), as the contract and hecate-web's reader
//! have them: one event a chunk of the body, one `data:` line of JSON an event, a comment as a heartbeat.
//!
//! What is stored carries the registry's revision as `id:`; a client that comes back with `Last-Event-ID` gets what it
//! missed. Nodes' coming and going isn't stored and has no id. Nothing gathers for a slow reader: it is read on for as its
//! connection takes what is written, and a connection that takes nothing for a while is closed (see `stall`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::connection::Place;
use super::handlers::{Answer, Context};
use super::listing::{Listing, Snapshot};
use super::places::NoStream;
use super::problem::Problem;
use super::whole::Whole;
use super::wire;
use crate::cluster::view::{ClusterView, NodeStates, PeerState};
use crate::metrics;
use crate::registry::{Event, Follower, Next, View};

/// What all streams share.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    listing: Listing,
    heartbeat: Duration,
    stop: CancellationToken,
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// When to come back, where there are too many.
const LATER: Duration = Duration::from_secs(3);

impl Streams {
    /// Streams that end with `stop`.
    pub(super) fn new(listing: Listing, heartbeat: Duration, stop: CancellationToken) -> Self {
        Self { listing, heartbeat, stop }
    }

    /// Begins a stream, which ends with its connection.
    pub(super) fn open(&self, context: &Context, place: &Place, headers: &HeaderMap) -> Result<Answer, Problem> {
        place.streams().map_err(|refused| {
            let detail = match refused {
                NoStream::Full => "too many event streams are open: retry later",
                NoStream::Share => "your process has too many event streams open: close unused ones and retry",
            };
            Problem::unavailable("too_many_streams", detail, LATER)
        })?;
        let known = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.trim().parse().ok());
        let (sender, body) = Channel::new(1);
        let cluster = context.cluster();
        let stream = Stream {
            sender,
            context: context.clone(),
            listing: self.listing.clone(),
            shown: None,
            nodes: nodes(&cluster),
            plugin_nodes: cluster.plugin_nodes.clone(),
            _counted: metrics::EVENT_SUBSCRIBERS.one(),
        };
        let (heartbeat, stop, closed) = (self.heartbeat, self.stop.clone(), place.closed().clone());
        tokio::spawn(async move {
            // Why it ends is of no interest: the client is gone, or we are.
            tokio::select! {
                _ = stream.run(known, heartbeat) => {}
                () = closed.cancelled() => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(answer(Either::Right(body)))
    }

    /// The head of a stream alone, for `HEAD`.
    pub(super) fn head() -> Answer {
        answer(Either::Left(Whole::default()))
    }
}

fn answer(body: super::handlers::Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The connected nodes, each with since when.
type Nodes = BTreeMap<String, SystemTime>;

fn nodes(view: &ClusterView) -> Nodes {
    let connected = view.peers.iter().filter(|peer| peer.state == PeerState::Connected);
    connected.map(|peer| (peer.name.clone(), peer.since)).collect()
}

/// The stream of one client.
struct Stream {
    sender: Sender<Bytes>,
    context: Context,
    listing: Listing,
    /// The revision of the last snapshot.
    shown: Option<u64>,
    /// The nodes that it was last told of.
    nodes: Nodes,
    /// The last states of plugins' nodes that it was sent.
    plugin_nodes: NodeStates,
    _counted: metrics::One,
}

/// The stream has ended.
struct Ended;

impl Stream {
    async fn run(mut self, known: Option<u64>, heartbeat: Duration) -> Result<(), Ended> {
        let mut follower = self.begin(known).await?;
        let mut cluster = self.context.cluster.clone();
        let mut heartbeat = interval_at(Instant::now() + heartbeat, heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                _ = heartbeat.tick() => self.send(Bytes::from_static(b": heartbeat\n\n")).await?,
            }
        }
    }

    /// A client that tells what it knows gets what came since; any other first gets the whole.
    async fn begin(&mut self, known: Option<u64>) -> Result<Follower, Ended> {
        if let Some(revision) = known {
            return Ok(self.context.registry.follow(revision));
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
        self.plugin_nodes = nodes;
        self.send(bytes).await?;
        Ok(self.context.registry.follow(revision))
    }

    async fn stored(&mut self, event: &Event) -> Result<(), Ended> {
        let namespace = self.context.home.namespace(&event.plugin.name);
        let stored = wire::StoredEvent::new(event, &namespace, &self.context.plugin_nodes());
        self.event(event.kind.name(), Some(event.revision), &stored).await
    }

    /// Whoever was away in between has gone and come.
    async fn cluster(&mut self, cluster: &mut watch::Receiver<Arc<ClusterView>>) -> Result<(), Ended> {
        let view = cluster.borrow_and_update().clone();
        let (before, now) = (std::mem::take(&mut self.nodes), nodes(&view));
        let peer = |node: &str| view.peers.iter().find(|peer| peer.name == node);
        for node in before.keys().filter(|node| before.get(*node) != now.get(*node)) {
            let event = wire::NodeEvent::new(node, peer(node));
            self.event("node_down_v1", None, &event).await?;
        }
        for node in now.keys().filter(|node| before.get(*node) != now.get(*node)) {
            let event = wire::NodeEvent::new(node, peer(node));
            self.event("node_up_v1", None, &event).await?;
        }
        self.nodes = now;
        let before = std::mem::replace(&mut self.plugin_nodes, view.plugin_nodes.clone());
        for (node, state) in view.plugin_nodes.changed_since(&before) {
            self.event("node_state_changed_v1", None, &wire::NodeStateEvent::new(node, state)).await?;
        }
        Ok(())
    }

    async fn event(&mut self, name: &str, id: Option<u64>, data: &impl Serialize) -> Result<(), Ended> {
        self.send(encode(name, id, data)).await
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Ended> {
        self.sender.send_data(bytes).await.map_err(|_| Ended)
    }
}

/// An event as it is sent.
pub(super) fn encode(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data = wire::encode(data);
    // JSON has no newline outside of its strings, and in them it is written `\n`.
    let head = format!("event: {name}\n{id}data: ");
    [head.as_bytes(), &data, b"\n\n"].concat().into()
}
