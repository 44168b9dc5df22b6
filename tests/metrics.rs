//! `GET /metrics`, read by a parser of Prometheus' text format. The tests compare it with requests,
//! a plugin, and real nodes that connect, send messages, join groups, are suspended and return.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use hecate_daemon::api::Limits;
use openmetrics_parser::prometheus::parse_prometheus;
use openmetrics_parser::{MetricNumber, MetricsExposition, PrometheusType, PrometheusValue};
use serde_json::json;
use support::erl::{Erl, Start};
use support::http::Client;
use support::world::World;
use support::{Host, PATIENCE, wait_for};

/// The parsed page.
struct Page(MetricsExposition<PrometheusType, PrometheusValue>);

impl Page {
    fn parse(text: &str) -> Self {
        Self(parse_prometheus(text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    fn of(host: &Host) -> Self {
        Self::parse(&host.ask("GET", "/metrics").text)
    }

    /// Returns the value of a sample, or the count of a histogram.
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = self.0.families.get(name)?;
        let matches = |sample: &&openmetrics_parser::Sample<PrometheusValue>| {
            let set = sample.get_labelset().expect("labels");
            set.iter().count() == labels.len()
                && labels.iter().all(|(label, value)| set.get_label_value(label) == Some(value))
        };
        let number = |number: &MetricNumber| number.as_f64();
        Some(match &family.iter_samples().find(matches)?.value {
            PrometheusValue::Counter(counter) => number(&counter.value),
            PrometheusValue::Gauge(gauge) => number(gauge),
            PrometheusValue::Histogram(histogram) => {
                let counts: Vec<f64> = histogram.buckets.iter().map(|bucket| bucket.count.as_f64()).collect();
                assert!(counts.is_sorted(), "{name} {counts:?}");
                assert_eq!(histogram.buckets.last().expect("a bucket").upper_bound, f64::INFINITY, "{name}");
                let count = counts.last().copied().expect("a bucket");
                let total = histogram.count.expect("a count");
                assert_eq!(total.to_string(), count.to_string(), "{name}");
                count
            }
            other => panic!("{name} is {other:?}"),
        })
    }

    /// Returns the same value, which must exist.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in {}", self.0))
    }
}

#[test]
fn metrics_count_requests_plugins_and_process_resources() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    host.register_named("hecate-traderd");
    host.ask("GET", "/api/plugins/hecate-traderd");
    host.ask("GET", "/api/plugins/hecate-nobodyd");
    host.ask("PATCH", "/api/plugins/hecate-traderd");
    host.ask("GET", "/there/is/nothing");

    let page = Page::of(&host);
    let requests = |route, code| page.get("hecate_http_requests_total", &[("route", route), ("code", code)]);
    assert_eq!(requests("POST /api/plugins/register", "201"), Some(1.0));
    assert_eq!(requests("GET /api/plugins/{name}", "200"), Some(1.0));
    assert_eq!(requests("GET /api/plugins/{name}", "404"), Some(1.0));
    assert_eq!(requests("none", "405"), Some(1.0));
    assert_eq!(requests("none", "404"), Some(1.0));
    let times = |route| page.value("hecate_http_request_duration_seconds", &[("route", route)]);
    assert_eq!(times("GET /api/plugins/{name}"), 2.0);
    assert_eq!(times("none"), 2.0);

    for (status, count) in [("running", 1.0), ("stopped", 0.0), ("unjudged", 0.0)] {
        assert_eq!(page.value("hecate_plugins", &[("status", status)]), count, "{status}");
    }
    assert_eq!(page.value("hecate_store_commit_duration_seconds", &[]), 1.0, "one registration, one commit");
    assert_eq!(page.value("hecate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(page.value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(page.value("process_open_fds", &[]) > 5.0);
    let started = page.value("process_start_time_seconds", &[]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - started).abs() < 120.0, "{started} {now}");

    // Checks the naming conventions for all metrics.
    for (name, family) in &page.0.families {
        assert!(name.starts_with("hecate_") || name.starts_with("process_"), "{name}");
        assert!(!family.help.is_empty(), "{name} has no HELP");
        let counts = matches!(family.family_type, PrometheusType::Counter);
        assert_eq!(name.ends_with("_total"), counts, "{name} is a {:?}", family.family_type);
        assert_ne!(family.family_type, PrometheusType::Unknown, "{name} has no TYPE");
    }
}

#[test]
fn metrics_count_event_streams() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let followers = || Page::of(&host).value("hecate_event_subscribers", &[]);
    assert_eq!(followers(), 0.0);
    let stream = Client::connect(&host.socket()).unwrap().follow(None);
    assert_eq!(followers(), 1.0);
    drop(stream);
    // The next event finds the stream closed.
    wait_for("the stream is no longer counted", || {
        host.register(&json!({"name": "hecate-traderd"}));
        followers() == 0.0
    });
}

#[test]
fn metrics_count_links_messages_and_group_members() {
    let (host, _epmd, _daemon) = Host::running(&[("HECATE_NET_TICKTIME", "4"), ("HECATE_PG_SCOPES", "pg,other")]);
    let args = ["-kernel", "net_ticktime", "4"];
    let mut erl = Erl::start(&host, Start { name: Some("hecate_traderd"), args: &args, ..Start::default() });
    let us = host.node("hecate");
    erl.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    let value = |name: &str, labels: &[(&str, &str)]| Page::of(&host).value(name, labels);
    // The node sees the connection a moment before the daemon publishes it.
    wait_for("the node is connected", || value("hecate_links", &[("state", "connected")]) == 1.0);
    assert_eq!(value("hecate_link_reconnects_total", &[]), 0.0);

    let before = Page::of(&host);
    let received = "hecate_link_received_messages_total";
    erl.eval(&format!("[{{net_kernel, '{us}'}} ! {{nothing, lists:duplicate(100, 0)}} || _ <- lists:seq(1, 500)], ok"));
    wait_for("the messages are counted", || value(received, &[]) >= before.value(received, &[]) + 500.0);
    let grown = |name: &str| value(name, &[]) - before.value(name, &[]);
    assert!(grown("hecate_link_received_bytes_total") > 50_000.0);
    erl.eval(&format!("pong = net_adm:ping('{us}')"));
    assert!(grown("hecate_link_sent_messages_total") >= 1.0);
    assert!(grown("hecate_link_sent_bytes_total") >= 20.0);

    // Our members in each scope: `hecate_plugins` is a member of `hecate_daemons` and of the groups
    // of four kinds of events.
    for scope in ["pg", "other"] {
        let own = |name: &str| value(name, &[("scope", scope), ("side", "own")]);
        wait_for("both are members", || (own("hecate_pg_groups"), own("hecate_pg_members")) == (5.0, 5.0));
        assert_eq!(value("hecate_pg_members", &[("scope", scope), ("side", "peers")]), 0.0, "{scope}");
    }
    erl.eval("{ok, _} = pg:start(pg), ok = pg:join(a, [self(), self()]), ok = pg:join(b, self())");
    let theirs = |name: &str| value(name, &[("scope", "pg"), ("side", "peers")]);
    wait_for("three in two groups", || (theirs("hecate_pg_groups"), theirs("hecate_pg_members")) == (2.0, 3.0));
    erl.eval("ok = pg:leave(a, self())");
    wait_for("two in two groups", || (theirs("hecate_pg_groups"), theirs("hecate_pg_members")) == (2.0, 2.0));

    erl.stop();
    wait_for("the connection times out", || value("hecate_links", &[("state", "disconnected")]) == 1.0);
    assert_eq!(value("hecate_link_tick_timeouts_total", &[]), 1.0);
    wait_for("its members are removed", || (theirs("hecate_pg_groups"), theirs("hecate_pg_members")) == (0.0, 0.0));
    erl.resume();
    wait_for("the node reconnects", || value("hecate_links", &[("state", "connected")]) == 1.0);
    assert!(value("hecate_link_reconnects_total", &[]) >= 1.0);
}

#[tokio::test]
async fn metrics_are_served_while_the_daemon_starts() {
    let world = World::starting(Limits::default()).await;
    let answer = support::client::get(&world, "/metrics").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let page = Page::parse(&answer.text);
    assert_eq!(page.value("hecate_plugins", &[("status", "unjudged")]), 0.0);
}
