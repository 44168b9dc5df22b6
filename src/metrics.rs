//! The counters and histograms of the process. Modules update them, and the API serves them
//! together with values that it reads from views.
//!
//! The metrics belong to the process, as its memory and file descriptors do. So they are static,
//! and no module passes them to another.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts};

/// The upper bounds of the buckets of every histogram, in seconds. The lowest are for calls that
/// only read memory, the highest for calls that wait for the disk or for the daemon to become
/// ready.
const BOUNDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The metrics, or the error that [`families`] returns. After an error, nothing is counted.
static METRICS: LazyLock<prometheus::Result<Metrics>> = LazyLock::new(Metrics::new);

struct Metrics {
    requests: IntCounterVec,
    request_times: HistogramVec,
    evictions: IntCounter,
    subscribers: IntGauge,
    commit_times: Histogram,
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let times = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BOUNDS.to_vec());
        Ok(Self {
            requests: IntCounterVec::new(
                Opts::new("hecate_http_requests_total", "Requests to the API, by route pattern and status code."),
                &["route", "code"],
            )?,
            request_times: HistogramVec::new(
                times(
                    "hecate_http_request_duration_seconds",
                    "Time from the head of a request to the head of its response, by route pattern.",
                ),
                &["route"],
            )?,
            evictions: IntCounter::new(
                "hecate_http_evictions_total",
                "Connections to the API that were closed to make room for new ones.",
            )?,
            subscribers: IntGauge::new("hecate_event_subscribers", "Open event streams.")?,
            commit_times: Histogram::with_opts(times(
                "hecate_store_commit_duration_seconds",
                "Duration of the commits that save the registry.",
            ))?,
        })
    }
}

/// Counts a request: the pattern of its route, the status code of the response, and the time until
/// the head of the response was ready.
pub fn count_request(pattern: &str, code: &str, took: Duration) {
    let Ok(metrics) = &*METRICS else { return };
    if let Ok(requests) = metrics.requests.get_metric_with_label_values(&[pattern, code]) {
        requests.inc();
    }
    if let Ok(times) = metrics.request_times.get_metric_with_label_values(&[pattern]) {
        times.observe(took.as_secs_f64());
    }
}

/// Counts a connection to the API that was closed to make room for a new one.
pub fn count_eviction() {
    if let Ok(metrics) = &*METRICS {
        metrics.evictions.inc();
    }
}

/// Counts a commit of the registry to its store, including one that failed.
pub fn count_commit(took: Duration) {
    if let Ok(metrics) = &*METRICS {
        metrics.commit_times.observe(took.as_secs_f64());
    }
}

/// An open event stream, counted until this is dropped.
#[derive(Debug)]
pub struct Subscriber(());

impl Subscriber {
    /// Counts one more stream.
    #[must_use]
    pub fn count() -> Self {
        if let Ok(metrics) = &*METRICS {
            metrics.subscribers.inc();
        }
        Self(())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Ok(metrics) = &*METRICS {
            metrics.subscribers.dec();
        }
    }
}

/// Returns the current values. A family without samples has not counted anything yet.
///
/// # Errors
/// A metric has a name that Prometheus does not allow.
pub fn families() -> Result<Vec<MetricFamily>, &'static prometheus::Error> {
    let Metrics { requests, request_times, evictions, subscribers, commit_times } = METRICS.as_ref()?;
    Ok([
        requests.collect(),
        request_times.collect(),
        evictions.collect(),
        subscribers.collect(),
        commit_times.collect(),
    ]
    .concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_subscriber_is_no_longer_counted() {
        let gauge = || METRICS.as_ref().map(|metrics| metrics.subscribers.get()).ok();
        let (first, second) = (Subscriber::count(), Subscriber::count());
        assert_eq!(gauge(), Some(2));
        drop(first);
        assert_eq!(gauge(), Some(1));
        drop(second);
        assert_eq!(gauge(), Some(0));
    }
}
