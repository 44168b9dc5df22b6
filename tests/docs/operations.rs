//! `docs/operations.md` has every metric, and its limits are those of the source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use beam::limits as node;
use hecate_daemon::api::Limits;
use hecate_daemon::cluster::view::{ClusterView, ScopeView};
use hecate_daemon::limits;
use serde_json::json;

use super::page;
use super::support::client::{get, register};
use super::support::world::World;

const PAGE: &str = "operations.md";

/// Returns the rows whose cell `at` is code, by that code.
fn rows_with_code(at: usize) -> Vec<(String, Vec<String>)> {
    let rows = page::rows(PAGE).into_iter();
    let with_code = rows.filter_map(|row| Some((row.get(at)?.strip_prefix('`')?.strip_suffix('`')?.to_owned(), row)));
    with_code.collect()
}

#[tokio::test]
async fn every_metric_is_described_with_its_type() {
    let world = World::start(Limits::default()).await;
    register(&world, json!({"name": "hecate-traderd"})).await;
    let scope = ScopeView { name: "pg".into(), own_groups: 1, own_members: 1, peer_groups: 0, peer_members: 0 };
    world.cluster.send_replace(Arc::new(ClusterView { scopes: vec![scope], ..ClusterView::default() }));
    // The first response is counted only after it.
    get(&world, "/metrics").await;
    let text = get(&world, "/metrics").await.text;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let served: BTreeSet<(String, String)> = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    let described: BTreeSet<(String, String)> = rows_with_code(0)
        .into_iter()
        .filter(|(name, _)| name.starts_with("hecate_") || name.starts_with("process_"))
        .map(|(name, row)| (name, row[1].clone()))
        .collect();
    assert_eq!(described, served);
    assert!(served.len() > 20, "{text}");
}

fn count(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or_default().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn characters(number: usize) -> String {
    format!("{} characters", count(number))
}

/// The largest unit of which there is a whole number.
fn bytes(number: usize) -> String {
    match number {
        _ if number.is_multiple_of(1 << 20) => format!("{} MiB", number >> 20),
        _ if number.is_multiple_of(1 << 10) => format!("{} KiB", number >> 10),
        _ => format!("{number} bytes"),
    }
}

/// Returns a size as the page writes it.
fn mebibytes(number: usize) -> String {
    format!("{} MiB", number >> 20)
}

fn time(duration: Duration) -> String {
    match duration.as_secs() {
        hours if hours.is_multiple_of(3600) => format!("{} h", hours / 3600),
        seconds => format!("{seconds} s"),
    }
}

/// The name of each constant, and its value as the page shows it.
macro_rules! limits {
    ($($module:ident::$name:ident $show:ident,)+) => { vec![$((stringify!($name), $show($module::$name))),+] };
}

#[test]
fn the_limits_are_those_of_the_source() {
    let expected = limits![
        limits::PLUGINS count,
        limits::PLUGIN_NAME bytes,
        limits::PLUGIN_VERSION characters,
        limits::PLUGIN_DESCRIPTION characters,
        limits::SUN_PATH bytes,
        limits::CONTENTS count,
        limits::UNREGISTERED count,
        limits::EVENTS_KEPT count,
        limits::HTTP_BODY bytes,
        limits::HTTP_BODY_TIME time,
        limits::HTTP_HEAD bytes,
        limits::HTTP_HEADERS count,
        limits::HTTP_HEAD_TIME time,
        limits::HTTP_CALL time,
        limits::HTTP_READY time,
        limits::HTTP_STALL time,
        limits::HTTP_CONNECTIONS count,
        limits::HTTP_SHARE count,
        limits::HTTP_USER_SHARE count,
        limits::HTTP_LIMITED count,
        limits::HTTP_BACKLOG count,
        limits::HTTP_STREAMS count,
        limits::HTTP_STREAM_SHARE count,
        node::TRACE_SUBSCRIPTIONS count,
        limits::DIAGNOSES count,
        limits::DIAGNOSIS_TIME time,
        node::PEERS count,
        node::PEER_BYTES bytes,
        node::FRAME mebibytes,
        node::FRAGMENTED_BYTES mebibytes,
        node::LINK_QUEUE mebibytes,
        node::HANDSHAKE_TIME time,
        node::HANDSHAKES count,
        node::TIES count,
        node::PG_MEMBERS count,
        node::PG_RECEIVERS count,
        node::PG_GROUP bytes,
        node::CALL_ARGUMENTS bytes,
        node::TERM_DEPTH count,
        node::TERM_NODES count,
        node::SERVED count,
        limits::ORDERS count,
        limits::HOSTS count,
        limits::HOST_REPORTS bytes,
        limits::HOST_LOST time,
        limits::DNS_ADDRESSES count,
        limits::OPEN_FILES count,
        limits::SYS_CONFIG bytes,
        limits::CONFIG_LIST count,
    ];
    let shown: Vec<(String, String)> =
        rows_with_code(2).into_iter().map(|(constant, row)| (constant, row[1].clone())).collect();
    let expected: Vec<(String, String)> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(shown, expected);
}
