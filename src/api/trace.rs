//! `GET /api/cluster/peers/{node}/trace`: the messages between our node and another, as server-sent
//! events. A client that reads too slowly misses events and receives their number. The node never
//! waits for a client.

use beam::name::NodeName;
use beam::trace::{self, Subscription, Traced};
use bytes::Bytes;
use http_body_util::Either;
use http_body_util::channel::{Channel, SendError, Sender};

use super::answer::HttpResponse;
use super::connection::Place;
use super::events::Streams;
use super::problem::Problem;
use super::sse;
use crate::wire::{TraceDropped, TraceEvent, TraceStarted};

/// Starts a stream. It ends with its connection.
pub(super) fn open(streams: &Streams, place: &Place, node: NodeName) -> Result<HttpResponse, Problem> {
    let started = sse::encode("trace_started_v1", None, &TraceStarted::now(&node));
    let subscription = trace::subscribe(node).map_err(|error| {
        let detail = format!("{error}: stop one and retry");
        Problem::unavailable("too_many_traces", detail, sse::LATER)
    })?;
    sse::admit(place)?;
    let (sender, body) = Channel::new(1);
    streams.spawn(place, follow(subscription, sender, started, streams.heartbeat()));
    Ok(sse::response(Either::Right(body)))
}

async fn follow(
    mut subscription: Subscription,
    mut sender: Sender<Bytes>,
    started: Bytes,
    heartbeat: std::time::Duration,
) -> Result<(), SendError> {
    sender.send_data(started).await?;
    let mut heartbeats = sse::heartbeats(heartbeat);
    loop {
        let bytes = tokio::select! {
            traced = subscription.next() => match traced {
                Traced::Event(event) => sse::encode("traced_v1", None, &TraceEvent::new(&event)),
                Traced::Dropped(dropped) => sse::encode("trace_dropped_v1", None, &TraceDropped { dropped }),
            },
            _ = heartbeats.tick() => sse::HEARTBEAT,
        };
        sender.send_data(bytes).await?;
    }
}
