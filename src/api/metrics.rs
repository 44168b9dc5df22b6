//! `GET /metrics`: the counters of the process and numbers from the published views, in Prometheus'
//! text format (version 0.0.4), written by the crate `prometheus`.
//!
//! Names follow Prometheus' conventions: base units, `_total` for counters, `process_` for metrics
//! of any process. Labels have few values: patterns of routes, codes, states, configured scopes.
//! The page only reads, so it is served in every state of the daemon.

use std::time::Duration;

use beam::stats;
use hyper::StatusCode;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder as _, IntCounter, IntGaugeVec, Opts, TextEncoder};

use crate::cluster::view::{ClusterView, PeerState, ScopeView};
use crate::metrics;
use crate::registry;

/// The `Content-Type` of the page.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label of requests that match no route.
const NO_ROUTE: &str = "none";

type Families = prometheus::Result<Vec<MetricFamily>>;

/// Counts a request: the pattern of its route, the status code of the response, and the time until
/// the head of the response was ready.
pub(super) fn requested(pattern: Option<&'static str>, code: StatusCode, took: Duration) {
    metrics::count_request(pattern.unwrap_or(NO_ROUTE), code.as_str(), took);
}

/// Returns the page.
///
/// # Errors
/// The page cannot be written, which is a bug in the daemon.
pub(super) fn page(registry: &registry::View, cluster: &ClusterView) -> prometheus::Result<Vec<u8>> {
    let counted = metrics::families().map_err(|error| prometheus::Error::Msg(error.to_string()))?;
    // Each page has a new collector, because a collector keeps state between calls.
    let process = ProcessCollector::for_self().collect();
    let mut families = [build()?, process, counted, plugins(registry)?, links(cluster)?, groups(cluster)?].concat();
    // The encoder refuses a family without a sample.
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

fn build() -> Families {
    let version = env!("CARGO_PKG_VERSION");
    gauges("hecate_build_info", "Version of the daemon, as a label.", ["version"], [([version], 1)])
}

fn plugins(registry: &registry::View) -> Families {
    let (all, running) = (registry.plugins.size(), registry.running);
    let [running, stopped, unjudged] = if registry.ready { [running, all - running, 0] } else { [0, 0, all] };
    gauges(
        "hecate_plugins",
        "Registered plugins by status. All are unjudged until the daemon is ready.",
        ["status"],
        [(["running"], running), (["stopped"], stopped), (["unjudged"], unjudged)],
    )
}

fn links(cluster: &ClusterView) -> Families {
    let count = |state| cluster.peers.iter().filter(|peer| peer.state == state).count();
    let states = [
        (["connected"], count(PeerState::Connected)),
        (["connecting"], count(PeerState::Connecting)),
        (["disconnected"], count(PeerState::Disconnected)),
    ];
    Ok([
        gauges("hecate_links", "Connections to nodes of the cluster by state.", ["state"], states)?,
        counter(
            "hecate_link_reconnects_total",
            "Connections to nodes that were connected before.",
            &stats::LINK_RECONNECTS,
        )?,
        counter(
            "hecate_link_tick_timeouts_total",
            "Connections closed because the node sent no data for the tick time.",
            &stats::LINK_TICK_TIMEOUTS,
        )?,
        counter(
            "hecate_link_received_messages_total",
            "Messages received from nodes, including control messages, without ticks.",
            &stats::LINK_RECEIVED_MESSAGES,
        )?,
        counter(
            "hecate_link_sent_messages_total",
            "Messages sent to nodes, including control messages, without ticks.",
            &stats::LINK_SENT_MESSAGES,
        )?,
        counter(
            "hecate_link_received_bytes_total",
            "Bytes received from nodes, including ticks, without handshakes.",
            &stats::LINK_RECEIVED_BYTES,
        )?,
        counter(
            "hecate_link_sent_bytes_total",
            "Bytes sent to nodes, including ticks, without handshakes.",
            &stats::LINK_SENT_BYTES,
        )?,
    ]
    .concat())
}

fn groups(cluster: &ClusterView) -> Families {
    let sides = |count: fn(&ScopeView) -> (usize, usize)| {
        cluster.scopes.iter().flat_map(move |scope| {
            let (own, peers) = count(scope);
            [([&*scope.name, "own"], own), ([&*scope.name, "peers"], peers)]
        })
    };
    Ok([
        gauges(
            "hecate_pg_groups",
            "Groups by scope. Side own: groups of own processes. Side peers: groups of peers, counted per peer.",
            ["scope", "side"],
            sides(|scope| (scope.own_groups, scope.peer_groups)),
        )?,
        gauges(
            "hecate_pg_members",
            "Members of groups by scope, counted once per group.",
            ["scope", "side"],
            sides(|scope| (scope.own_members, scope.peer_members)),
        )?,
    ]
    .concat())
}

/// Returns a family of gauges, each with the values of its labels.
fn gauges<'a, const LABELS: usize>(
    name: &str,
    help: &str,
    labels: [&str; LABELS],
    values: impl IntoIterator<Item = ([&'a str; LABELS], usize)>,
) -> Families {
    let family = IntGaugeVec::new(Opts::new(name, help), &labels)?;
    for (labels, value) in values {
        family.get_metric_with_label_values(&labels)?.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    Ok(family.collect())
}

fn counter(name: &str, help: &str, value: &stats::Counter) -> Families {
    let family = IntCounter::new(name, help)?;
    family.inc_by(value.get());
    Ok(family.collect())
}
