//! `GET /api/events`, read as hecate-web reads it: each chunk of the body is one event with one
//! `data:` line.

#![allow(clippy::expect_used, reason = "a failed expectation fails the test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use beam::connect::dial::DialCode;
use beam::node::view::PeerReason;
use hecate_daemon::api::Limits;
use hecate_daemon::cluster::view::{ClusterView, NodeState, PeerDetails, PeerState, PeerView, PluginNode};
use hecate_daemon::limits;
use hecate_daemon::plugin::PluginName;
use serde_json::{Value, json};
use support::PATIENCE;
use support::client::{Client, delete, get, in_time, register};
use support::world::World;
use tokio::io::AsyncReadExt;

/// One event, or a comment.
#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

/// A client that reads an event stream.
struct Follower(Client);

impl Follower {
    async fn begin(world: &World, last: Option<&str>) -> Self {
        let mut client = Client::new(world).await;
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        client.send(&format!("GET /api/events HTTP/1.1\r\nHost: localhost\r\n{last}\r\n")).await;
        assert_eq!(client.line().await, "HTTP/1.1 200 OK");
        let mut head = Vec::new();
        loop {
            match client.line().await {
                line if line.is_empty() => break,
                line => head.push(line),
            }
        }
        for field in ["content-type: text/event-stream", "cache-control: no-store", "transfer-encoding: chunked"] {
            assert!(head.iter().any(|line| line == field), "{field} is missing in {head:?}");
        }
        Self(client)
    }

    /// Returns the next chunk of the body, or `None` at its end.
    async fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(&self.0.line().await, 16).expect("the length of a chunk");
        let mut chunk = vec![0; length + 2];
        in_time(self.0.0.read_exact(&mut chunk)).await.expect("whole");
        chunk.truncate(length);
        (length > 0).then(|| String::from_utf8(chunk).expect("text"))
    }

    async fn next(&mut self) -> Event {
        let chunk = self.chunk().await.expect("an event");
        let event = chunk.strip_suffix("\n\n").expect("an event is whole");
        assert!(!event.contains("\n\n"), "one event a chunk: {chunk:?}");
        let mut fields = event.lines().map(|line| line.split_once(": ").expect("a field"));
        let (mut name, mut id, mut data) = (None, None, None);
        for (key, value) in &mut fields {
            let slot = match key {
                "event" => &mut name,
                "id" => &mut id,
                "data" => &mut data,
                other => panic!("{other} in {chunk:?}"),
            };
            assert_eq!(slot.replace(value), None, "{key} twice in {chunk:?}");
        }
        Event {
            name: name.expect("a name").to_owned(),
            id: id.map(|id| id.parse().expect("a number")),
            data: serde_json::from_str(data.expect("data")).expect("JSON"),
        }
    }

    async fn expect(&mut self, name: &str, id: Option<u64>) -> Value {
        let event = self.next().await;
        assert_eq!((event.name.as_str(), event.id), (name, id), "{event:?}");
        event.data
    }
}

#[tokio::test]
async fn a_client_gets_a_snapshot_and_then_each_change() {
    let world = World::start(Limits::default()).await;
    register(&world, json!({"name": "hecate-traderd"})).await;
    let mut web = Follower::begin(&world, None).await;
    let snapshot = web.expect("snapshot_v1", Some(1)).await;
    let list = get(&world, "/api/plugins").await.body;
    assert_eq!(snapshot, json!({"revision": 1, "plugins": list}));

    register(&world, json!({"name": "hecate-marthad", "description": "Another"})).await;
    let registered = web.expect("plugin_registered_v1", Some(2)).await;
    let entry = &get(&world, "/api/plugins").await.body[0];
    for (key, value) in entry.as_object().expect("an object") {
        assert_eq!(&registered[key], value, "{key}");
    }
    assert_eq!(registered["revision"], 2);
    assert_eq!(registered["at"], registered["since"], "RFC 3339");

    delete(&world, "/api/plugins/hecate-traderd").await;
    delete(&world, "/api/plugins/hecate-traderd/data").await;
    assert_eq!(web.expect("plugin_deregistered_v1", Some(3)).await["name"], "hecate-traderd");
    assert_eq!(web.expect("plugin_data_purged_v1", Some(4)).await["status"], "stopped");
}

#[tokio::test]
async fn a_client_that_reconnects_gets_missed_events() {
    let world = World::start(Limits::default()).await;
    for number in 1..=5 {
        register(&world, json!({"name": format!("hecate-x{number}d")})).await;
    }
    let mut back = Follower::begin(&world, Some("2")).await;
    for id in 3..=5 {
        back.expect("plugin_registered_v1", Some(id)).await;
    }
    register(&world, json!({"name": "hecate-lastd"})).await;
    back.expect("plugin_registered_v1", Some(6)).await;
    // With the current id, the client gets only new events.
    let mut current = Follower::begin(&world, Some("6")).await;
    register(&world, json!({"name": "hecate-lastd"})).await;
    current.expect("plugin_registered_v1", Some(7)).await;

    // An id older than the log, a future id and an invalid id: the stream starts with a snapshot or
    // the oldest event.
    let database = world.directory.path().join("home/hecate-daemon/sqlite/plugins.db");
    let database = rusqlite::Connection::open(database).expect("opened");
    database.execute("DELETE FROM events WHERE revision <= 3", ()).expect("shortened");
    for (id, is_known) in [("3", true), ("2", false), ("1000", false), ("x", false), ("-1", false), ("", false)] {
        let mut client = Follower::begin(&world, Some(id)).await;
        if is_known {
            client.expect("plugin_registered_v1", Some(4)).await;
        } else {
            let snapshot = client.expect("snapshot_v1", Some(7)).await;
            assert_eq!(snapshot["plugins"].as_array().map(Vec::len), Some(6), "{id:?}");
        }
    }
}

#[tokio::test]
async fn events_of_nodes_have_no_id() {
    let world = World::start(Limits::default()).await;
    let peer = |name: &str, state, since| PeerView {
        name: name.parse().unwrap(),
        on_this_host: true,
        state,
        since: UNIX_EPOCH + Duration::from_secs(since),
        reason: PeerReason::new("connected", "because"),
        details: PeerDetails::default(),
    };
    let show = |peers: Vec<PeerView>| {
        world.cluster.send_replace(Arc::new(ClusterView { peers, ..ClusterView::default() }));
    };
    show(vec![peer("a@h", PeerState::Connected, 1)]);
    let mut client = Follower::begin(&world, None).await;
    client.expect("snapshot_v1", Some(0)).await;
    show(vec![peer("a@h", PeerState::Connected, 1), peer("b@h", PeerState::Connected, 2)]);
    let up = client.expect("node_up_v1", None).await;
    assert_eq!(
        up,
        json!({"node": "b@h", "at": "1970-01-01T00:00:02.000Z", "reason": "because", "reason_code": "connected"})
    );
    show(vec![peer("a@h", PeerState::Disconnected, 3), peer("b@h", PeerState::Connected, 2)]);
    assert_eq!(client.expect("node_down_v1", None).await["at"], "1970-01-01T00:00:03.000Z");
    // The node disconnects and reconnects before the daemon checks.
    show(vec![peer("b@h", PeerState::Connected, 4)]);
    assert_eq!(client.expect("node_down_v1", None).await["node"], "b@h");
    assert_eq!(client.expect("node_up_v1", None).await["node"], "b@h");
}

#[tokio::test]
async fn changes_of_the_states_of_plugins_nodes_are_sent() {
    let world = World::start(Limits::default()).await;
    register(&world, json!({"name": "hecate-traderd", "node": "t@h"})).await;
    let show = |state: NodeState| {
        let plugins = Arc::from([PluginName::parse("hecate-traderd").expect("valid")]);
        world.cluster.send_modify(|view| {
            Arc::make_mut(view).plugin_nodes.set("t@h".parse().unwrap(), Some(PluginNode { state, plugins }));
        });
    };
    let mut client = Follower::begin(&world, None).await;
    let snapshot = client.expect("snapshot_v1", Some(1)).await;
    assert_eq!(snapshot["plugins"][0]["node_state"], "unknown");
    show(NodeState::NotConnected(Some(DialCode::CookieMismatch)));
    let event = client.expect("node_state_changed_v1", None).await;
    assert_eq!(event, json!({"node": "t@h", "node_state": "not_connected", "node_failure": "cookie_mismatch"}));
    register(&world, json!({"name": "hecate-traderd"})).await;
    let event = client.expect("plugin_registered_v1", Some(2)).await;
    assert_eq!((&event["node_state"], &event["node_failure"]), (&json!("not_connected"), &json!("cookie_mismatch")));
    show(NodeState::Connected);
    let event = client.expect("node_state_changed_v1", None).await;
    assert_eq!(event, json!({"node": "t@h", "node_state": "connected"}));
}

#[tokio::test]
async fn a_hundred_streams_run_at_once_and_more_are_refused() {
    // All streams come from one process here, and a process may have fewer by default.
    let world = World::start(Limits { stream_share: limits::HTTP_STREAMS, ..Limits::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..limits::HTTP_STREAMS {
        clients.push(Follower::begin(&world, None).await);
    }
    let refused = get(&world, "/api/events").await;
    assert_eq!(refused.refusal(), (503, "too_many_streams".to_owned()));
    assert!(refused.header("retry-after").is_some());
    for number in 1..=3 {
        register(&world, json!({"name": format!("hecate-x{number}d")})).await;
    }
    for client in &mut clients {
        client.expect("snapshot_v1", Some(0)).await;
        for id in 1..=3 {
            client.expect("plugin_registered_v1", Some(id)).await;
        }
    }
    // A client that leaves frees its stream.
    clients.pop();
    in_time(until_a_stream_begins(&world)).await;
}

#[tokio::test]
async fn one_process_cannot_occupy_all_streams() {
    let world = World::start(Limits { stream_share: 2, ..Limits::default() }).await;
    let _clients = [Follower::begin(&world, None).await, Follower::begin(&world, None).await];
    let refused = get(&world, "/api/events").await;
    assert_eq!(refused.refusal(), (503, "too_many_streams".to_owned()));
    assert!(refused.text.contains("your process"), "{}", refused.text);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_stream_at_once() {
    let hour = Duration::from_secs(3600);
    let world = World::start(Limits { streams: 1, stream_share: 1, heartbeat: hour, ..Limits::default() }).await;
    let mut follower = Follower::begin(&world, None).await;
    follower.expect("snapshot_v1", Some(0)).await;
    assert_eq!(get(&world, "/api/events").await.status, 503);
    drop(follower);
    // No event is written to the stream.
    in_time(until_a_stream_begins(&world)).await;
}

/// Retries until a stream starts.
async fn until_a_stream_begins(world: &World) {
    loop {
        let mut client = Client::new(world).await;
        client.send("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        if client.line().await == "HTTP/1.1 200 OK" {
            break;
        }
    }
}

#[tokio::test]
async fn a_stalled_client_is_disconnected_and_delays_no_other() {
    let stall = Duration::from_millis(200);
    let world = World::start(Limits { stall, ..Limits::default() }).await;
    let mut stalled = Follower::begin(&world, None).await;
    let mut reader = Follower::begin(&world, None).await;
    stalled.expect("snapshot_v1", Some(0)).await;
    reader.expect("snapshot_v1", Some(0)).await;
    let description = "x".repeat(limits::PLUGIN_DESCRIPTION);
    // More than a socket buffers, and far more events than are kept for a slow client.
    let last = 400;
    for id in 1..=last {
        register(&world, json!({"name": "hecate-traderd", "description": description})).await;
        reader.expect("plugin_registered_v1", Some(id)).await;
    }
    // The client reads again, too late. It gets what was sent, and then the connection ends,
    // perhaps within an event.
    let mut rest = Vec::new();
    in_time(stalled.0.0.read_to_end(&mut rest)).await.expect("readable");
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("id: 1\n") && !text.contains(&format!("id: {last}\n")), "it got {} bytes", rest.len());
    assert!(!text.ends_with("0\r\n\r\n"), "the stream must not end normally");
    register(&world, json!({"name": "hecate-lastd"})).await;
    reader.expect("plugin_registered_v1", Some(last + 1)).await;
}

#[tokio::test]
async fn an_idle_stream_sends_heartbeats() {
    let heartbeat = Duration::from_millis(20);
    let world = World::start(Limits { heartbeat, ..Limits::default() }).await;
    let mut client = Follower::begin(&world, None).await;
    client.expect("snapshot_v1", Some(0)).await;
    for _ in 0..3 {
        assert_eq!(client.chunk().await.as_deref(), Some(": heartbeat\n\n"));
    }
}

#[tokio::test]
async fn streams_end_cleanly_when_the_daemon_stops() {
    let world = World::start(Limits { drain: PATIENCE, ..Limits::default() }).await;
    let mut client = Follower::begin(&world, None).await;
    client.expect("snapshot_v1", Some(0)).await;
    world.stop.cancel();
    assert_eq!(client.chunk().await, None, "the body has an end");
    in_time(world.server).await.expect("the server ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_begin_while_the_cluster_changes() {
    let world = World::start(Limits { stream_share: limits::HTTP_STREAMS, ..Limits::default() }).await;
    let stop = world.stop.clone();
    let cluster = world.cluster.clone();
    let changing = std::thread::spawn(move || {
        while !stop.is_cancelled() {
            cluster.send_modify(|view| *view = Arc::new(ClusterView::default()));
        }
    });
    let mut followers = Vec::new();
    for _ in 0..limits::HTTP_STREAMS {
        followers.push(in_time(Follower::begin(&world, None)).await);
    }
    world.stop.cancel();
    changing.join().expect("no panic");
}

#[tokio::test]
async fn head_starts_no_stream() {
    let world = World::start(Limits::default()).await;
    let mut client = Client::new(&world).await;
    client.send("HEAD /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.line().await, "HTTP/1.1 200 OK");
    assert_eq!(client.line().await, "content-type: text/event-stream");
    while !client.line().await.is_empty() {}
    // The connection stays open, because the response has no body.
    client.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.answer(true).await.status, 200);
    assert_eq!(get(&world, "/api/plugins").await.status, 200);
}
