//! `GET /metrics`: what the process counts and what views show, in Prometheus' text format (version 0.0.4), under the names
//! that stand here and nowhere else.
//!
//! Follows Prometheus' conventions for names: base units, `_total` for what only grows, `process_` for what every process
//! has. Labels take few values: the patterns of routes, codes, states, the configured scopes. It reads, and waits for
//! nobody: so it answers in every state of the daemon.

use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use beam::stats::{self, Counter};
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{self, Bucket, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

use super::route::PATTERNS;
use crate::cluster::view::{ClusterView, PeerState, ScopeView};
use crate::metrics::{self, BOUNDS, Histogram};
use crate::registry;

/// What the text is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a request counts under that no route is for.
const NO_ROUTE: &str = "none";

/// The codes that an answer may have.
const CODES: Range<u16> = 100..600;

/// The requests to each route so far.
static REQUESTS: LazyLock<Vec<(&'static str, Requests)>> =
    LazyLock::new(|| PATTERNS.iter().chain(&[NO_ROUTE]).map(|pattern| (*pattern, Requests::new())).collect());

/// The requests to one route so far.
struct Requests {
    times: Histogram,
    /// One for each of [`CODES`].
    codes: Vec<Counter>,
}

impl Requests {
    fn new() -> Self {
        Self { times: Histogram::new(), codes: CODES.map(|_| Counter::new()).collect() }
    }
}

/// Counts a request: the pattern of its route, the code of the answer, and the time until its head was there.
pub(super) fn requested(pattern: Option<&'static str>, code: u16, took: Duration) {
    let pattern = pattern.unwrap_or(NO_ROUTE);
    let Some((_, requests)) = REQUESTS.iter().find(|(route, _)| *route == pattern) else { return };
    requests.times.observe(took);
    let index = usize::from(code.saturating_sub(CODES.start));
    if let Some(counter) = requests.codes.get(index) {
        counter.add(1);
    }
}

/// The whole page.
///
/// # Errors
/// It can't be written, which is our fault.
pub(super) fn page(registry: &registry::View, cluster: &ClusterView) -> prometheus::Result<Vec<u8>> {
    let mut families = process();
    families.extend(http());
    families.extend(plugins(registry));
    families.extend(links(cluster));
    families.extend(groups(cluster));
    // Without a sample there is nothing to tell, and the encoder refuses it.
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

fn process() -> Vec<MetricFamily> {
    let version = [sample(&[("version", env!("CARGO_PKG_VERSION"))], Value::Gauge(1.0))];
    let mut families =
        vec![family("hecate_build_info", "The release that runs, as a label.", MetricType::GAUGE, version)];
    // A new one each time: what it remembers of the last time is wrong where two ask at once.
    families.extend(ProcessCollector::for_self().collect());
    families
}

fn http() -> Vec<MetricFamily> {
    let asked = || REQUESTS.iter().filter(|(_, requests)| requests.times.cumulative().last() > Some(&0));
    let codes = asked().flat_map(|(route, requests)| {
        let counted = CODES.zip(&requests.codes).filter(|(_, counter)| counter.get() > 0);
        counted.map(|(code, counter)| {
            sample(&[("route", route), ("code", &code.to_string())], Value::Counter(counter.get()))
        })
    });
    let times = asked().map(|(route, requests)| sample(&[("route", route)], Value::Histogram(&requests.times)));
    vec![
        family(
            "hecate_http_requests_total",
            "Requests to the API, by the pattern of their route and the code of the answer.",
            MetricType::COUNTER,
            codes,
        ),
        family(
            "hecate_http_request_duration_seconds",
            "Time from a request's head to its answer's, by the pattern of the route.",
            MetricType::HISTOGRAM,
            times,
        ),
        family(
            "hecate_http_evictions_total",
            "Connections to the API that were closed to make room for others.",
            MetricType::COUNTER,
            [sample(&[], Value::Counter(metrics::HTTP_EVICTIONS.get()))],
        ),
        family(
            "hecate_event_subscribers",
            "Clients that follow the events.",
            MetricType::GAUGE,
            [sample(&[], Value::gauge(metrics::EVENT_SUBSCRIBERS.get()))],
        ),
    ]
}

fn plugins(registry: &registry::View) -> Vec<MetricFamily> {
    let (all, running) = (registry.plugins.size(), registry.running);
    let [running, stopped, unjudged] = if registry.ready { [running, all - running, 0] } else { [0, 0, all] };
    let plugins = [("running", running), ("stopped", stopped), ("unjudged", unjudged)];
    vec![
        family(
            "hecate_plugins",
            "Registered plugins by status; unjudged while the daemon starts.",
            MetricType::GAUGE,
            plugins.map(|(name, count)| sample(&[("status", name)], Value::gauge(count))),
        ),
        family(
            "hecate_store_commit_duration_seconds",
            "Time of the commits that save the registry.",
            MetricType::HISTOGRAM,
            [sample(&[], Value::Histogram(&metrics::STORE_COMMITS))],
        ),
    ]
}

fn links(cluster: &ClusterView) -> Vec<MetricFamily> {
    let count = |state| Value::gauge(cluster.peers.iter().filter(|peer| peer.state == state).count());
    let states = [
        ("connected", PeerState::Connected),
        ("connecting", PeerState::Connecting),
        ("disconnected", PeerState::Disconnected),
    ];
    let counter = |name, help, counter: &Counter| {
        family(name, help, MetricType::COUNTER, [sample(&[], Value::Counter(counter.get()))])
    };
    vec![
        family(
            "hecate_links",
            "Connections to nodes of the cluster by state.",
            MetricType::GAUGE,
            states.map(|(name, state)| sample(&[("state", name)], count(state))),
        ),
        counter(
            "hecate_link_reconnects_total",
            "Connections to nodes that had been connected before.",
            &stats::LINK_RECONNECTS,
        ),
        counter(
            "hecate_link_tick_timeouts_total",
            "Nodes given up as nothing, not even a tick, came from them for the whole tick time.",
            &stats::LINK_TICK_TIMEOUTS,
        ),
        counter(
            "hecate_link_received_messages_total",
            "Messages from nodes, control messages included, ticks not.",
            &stats::LINK_RECEIVED_MESSAGES,
        ),
        counter(
            "hecate_link_sent_messages_total",
            "Messages to nodes, control messages included, ticks not.",
            &stats::LINK_SENT_MESSAGES,
        ),
        counter(
            "hecate_link_received_bytes_total",
            "Bytes from nodes, ticks included, handshakes not.",
            &stats::LINK_RECEIVED_BYTES,
        ),
        counter(
            "hecate_link_sent_bytes_total",
            "Bytes to nodes, ticks included, handshakes not.",
            &stats::LINK_SENT_BYTES,
        ),
    ]
}

fn groups(cluster: &ClusterView) -> Vec<MetricFamily> {
    let sides = |own: fn(&ScopeView) -> (usize, usize)| {
        let each = cluster.scopes.iter().flat_map(move |scope| {
            let (ours, theirs) = own(scope);
            [("own", ours), ("peers", theirs)]
                .map(|(side, n)| sample(&[("scope", &scope.name), ("side", side)], Value::gauge(n)))
        });
        each.collect::<Vec<_>>()
    };
    vec![
        family(
            "hecate_pg_groups",
            "Groups by scope: those that processes of ours are in, and those of peers, once for each peer.",
            MetricType::GAUGE,
            sides(|scope| (scope.own_groups, scope.peer_groups)),
        ),
        family(
            "hecate_pg_members",
            "Members of groups by scope, once for each group that they are in.",
            MetricType::GAUGE,
            sides(|scope| (scope.own_members, scope.peer_members)),
        ),
    ]
}

// ---- The model of the encoder -----------------------------------------------------------------

enum Value<'a> {
    Counter(u64),
    Gauge(f64),
    Histogram(&'a Histogram),
}

impl Value<'_> {
    /// A number of things, far below where a float is no longer exact.
    fn gauge(n: impl TryInto<u32>) -> Self {
        Self::Gauge(f64::from(n.try_into().unwrap_or(u32::MAX)))
    }
}

fn family(name: &str, help: &str, kind: MetricType, samples: impl IntoIterator<Item = Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples.into_iter().collect());
    family
}

fn sample(labels: &[(&str, &str)], value: Value<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut metric = Metric::from_label(labels.iter().map(pair).collect());
    match value {
        Value::Counter(value) => {
            let mut counter = proto::Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
        }
        Value::Gauge(value) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        Value::Histogram(times) => metric.set_histogram(histogram(times)),
    }
    metric
}

fn histogram(times: &Histogram) -> proto::Histogram {
    let cumulative = times.cumulative();
    let bucket = |(bound, count): (&Duration, &u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(*count);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(BOUNDS.iter().zip(&cumulative).map(bucket).collect());
    histogram.set_sample_count(cumulative.last().copied().unwrap_or(0));
    histogram.set_sample_sum(times.total().as_secs_f64());
    histogram
}
