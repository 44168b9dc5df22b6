//! The JSON of a trace.

use std::time::SystemTime;

use beam::name::NodeName;
use beam::trace::{self, Direction, Layer};

use super::time;
use crate::wire::{TraceDirection, TraceEvent, TraceLayer, TraceStarted};

impl TraceStarted {
    /// Describes a trace that starts now.
    #[must_use]
    pub fn now(node: &NodeName) -> Self {
        Self { at: time(SystemTime::now()), node: node.to_string() }
    }
}

impl TraceEvent {
    /// Describes a traced event.
    #[must_use]
    pub fn new(event: &trace::TraceEvent) -> Self {
        Self {
            at: time(event.at),
            node: event.peer.as_deref().map(str::to_owned),
            connection: event.connection,
            layer: match event.layer {
                Layer::Epmd => TraceLayer::Epmd,
                Layer::Connection => TraceLayer::Connection,
                Layer::Handshake => TraceLayer::Handshake,
                Layer::Frame => TraceLayer::Frame,
            },
            direction: match event.direction {
                Direction::Received => TraceDirection::Received,
                Direction::Sent => TraceDirection::Sent,
                Direction::Local => TraceDirection::Local,
            },
            text: event.text.clone(),
        }
    }
}
