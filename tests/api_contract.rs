//! Tests the API's contract with real connections: the three calls of the convention, the problem
//! document of each refusal, and the daemon's reports about itself.

#![allow(clippy::expect_used, reason = "a failed expectation fails the test")]

mod support;

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use beam::node::view::PeerReason;
use hecate_daemon::api::{Limits, Phase, Problem, Severity};
use hecate_daemon::cluster::view::{ClusterView, EpmdState, PeerDetails, PeerState, PeerView};
use hecate_daemon::registry::Membership;
use serde_json::{Value, json};
use support::client::{ask, delete, get, post, register};
use support::world::World;

// ---- The convention's three calls -----------------------------------------------------------

#[tokio::test]
async fn the_life_of_a_registration() {
    let world = World::start(Limits::default()).await;
    assert_eq!(get(&world, "/api/plugins").await.text, "[]");

    let request = json!({"name": "hecate-traderd", "version": "0.1.0", "description": "Trading daemon for Hecate"});
    let first = register(&world, request).await;
    let base = world.directory.path().join("home/hecate-traderd").display().to_string();
    let expected = format!(
        r#"{{"name":"hecate-traderd","base_dir":"{base}","paths":{{"sqlite":"{base}/sqlite","reckon_db":"{base}/reckon-db","sockets":"{base}/sockets","run":"{base}/run","connectors":"{base}/connectors"}}}}"#
    );
    assert_eq!((first.status, first.text.as_str()), (201, expected.as_str()));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("location"), Some("/api/plugins/hecate-traderd"));
    for directory in ["sqlite", "reckon-db", "sockets", "run", "connectors"] {
        assert!(std::path::Path::new(&base).join(directory).is_dir(), "{directory}");
    }
    let precious = std::path::Path::new(&base).join("sqlite/precious.db");
    std::fs::write(&precious, "data").expect("written");

    let again = register(&world, json!({"name": "hecate-traderd", "description": null})).await;
    assert_eq!((again.status, again.text.as_str()), (201, expected.as_str()));

    register(&world, json!({"name": "hecate-app-scribed"})).await;
    let list = get(&world, "/api/plugins").await;
    assert_eq!(list.status, 200);
    let names: Vec<Value> = list.body.as_array().expect("a list").iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(names, ["hecate-app-scribed", "hecate-traderd"], "in name order");
    let head =
        format!(r#"{{"name":"hecate-traderd","version":"0.1.0","socket":"{base}/sockets/api.sock","status":"running""#);
    assert!(list.text.contains(&head), "{}", list.text);
    assert_eq!(list.body[1]["description"], Value::Null, "null clears the field");

    let detail = get(&world, "/api/plugins/hecate-traderd").await.body;
    assert_eq!(detail["paths"], first.body["paths"]);
    assert_eq!(detail["version"], "0.1.0", "an absent field keeps its value");

    let gone = delete(&world, "/api/plugins/hecate-traderd").await;
    assert_eq!((gone.status, gone.text.as_str()), (200, r#"{"ok":true}"#));
    assert_eq!(delete(&world, "/api/plugins/hecate-traderd").await.refusal(), (404, "not_found".to_owned()));
    assert_eq!(get(&world, "/api/plugins/hecate-traderd").await.refusal(), (404, "not_found".to_owned()));
    assert_eq!(std::fs::read_to_string(precious).expect("kept"), "data");
}

#[tokio::test]
async fn only_a_separate_purge_deletes_data() {
    let world = World::start(Limits::default()).await;
    let base = world.directory.path().join("home/hecate-traderd");
    let data = "/api/plugins/hecate-traderd/data";
    assert_eq!(get(&world, data).await.refusal(), (404, "no_data".to_owned()));
    assert_eq!(delete(&world, data).await.refusal(), (404, "no_data".to_owned()));
    register(&world, json!({"name": "hecate-traderd"})).await;
    std::fs::write(base.join("sqlite/precious.db"), "data").expect("written");
    assert_eq!(get(&world, data).await.refusal(), (409, "registered".to_owned()));
    assert_eq!(delete(&world, data).await.refusal(), (409, "registered".to_owned()));
    delete(&world, "/api/plugins/hecate-traderd").await;
    let sign = UnixListener::bind(base.join("sockets/api.sock")).expect("bound");
    assert_eq!(get(&world, data).await.refusal(), (409, "still_running".to_owned()));
    drop(sign);
    let revision = world.registry.view().revision;
    let check = get(&world, data).await;
    let expected = json!({"name": "hecate-traderd", "base_dir": base.display().to_string()});
    assert_eq!((check.status, check.body), (200, expected), "a dead socket does not prevent a purge");
    assert!(base.join("sqlite/precious.db").exists() && base.join("sockets/api.sock").exists());
    assert_eq!(world.registry.view().revision, revision, "a check changes nothing");
    let purged = delete(&world, data).await;
    let expected = json!({
        "ok": true, "name": "hecate-traderd", "base_dir": base.display().to_string(),
        "removed": {"directories": 6, "files": 1, "bytes": 4},
    });
    assert_eq!((purged.status, purged.body), (200, expected));
    assert!(!base.exists());
    for never in ["hecate-daemon", "gitops", "..", "hecate-traderw"] {
        let path = format!("/api/plugins/{never}/data");
        assert_eq!(get(&world, &path).await.refusal(), (404, "not_found".to_owned()), "{never}");
        assert_eq!(delete(&world, &path).await.refusal(), (404, "not_found".to_owned()), "{never}");
    }
    assert!(world.directory.path().join("home/hecate-daemon/sqlite").is_dir());
}

#[tokio::test]
async fn extra_directories_and_connectors_are_listed() {
    let world = World::start(Limits::default()).await;
    register(&world, json!({"name": "hecate-marthad"})).await;
    let base = world.directory.path().join("home/hecate-marthad");
    std::fs::create_dir(base.join("hecate-agents")).expect("made");
    let _mail = std::os::unix::net::UnixListener::bind(base.join("connectors/mail.sock")).expect("bound");
    let detail = get(&world, "/api/plugins/hecate-marthad").await.body;
    assert_eq!(detail["extra_directories"], json!(["hecate-agents"]));
    let socket = base.join("connectors/mail.sock").display().to_string();
    assert_eq!(detail["connectors"], json!([{"id": "mail", "socket": socket, "answers": true}]));
}

#[tokio::test]
async fn another_node_conflicts_while_the_plugins_node_is_connected() {
    let world = World::start(Limits::default()).await;
    let node = "hecate_traderd@here".to_owned();
    register(&world, json!({"name": "hecate-traderd", "node": node})).await;
    let up = Membership::NodeUp { node: node.parse().unwrap(), on_this_host: true };
    world.registry.membership(up).await;
    // The registry handles messages in order, so it has handled the node's connection before this
    // request.
    let other = register(&world, json!({"name": "hecate-traderd", "node": "other@here"})).await;
    assert_eq!(other.refusal(), (409, "node_conflict".to_owned()));
    assert!(other.text.contains("hecate_traderd@here"), "{}", other.text);
}

#[tokio::test]
async fn a_namespace_that_cannot_be_created_fails_with_its_path() {
    let world = World::start(Limits::default()).await;
    std::fs::write(world.directory.path().join("home/hecate-traderd"), "in the way").expect("written");
    let answer = register(&world, json!({"name": "hecate-traderd"})).await;
    assert_eq!(answer.refusal(), (500, "layout_failed".to_owned()));
    assert!(answer.text.contains("home/hecate-traderd"), "{}", answer.text);
}

// ---- Refusals -------------------------------------------------------------------------------

#[tokio::test]
async fn every_refusal_has_its_code_and_the_same_shape() {
    let world = World::start(Limits::default()).await;
    let typed = |content_type: &str| {
        let body = r#"{"name":"hecate-traderd"}"#;
        let head = "POST /api/plugins/register HTTP/1.1\r\nHost: localhost";
        format!("{head}\r\n{content_type}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let table = [
        (plain("GET /"), 404, "not_found"),
        (plain("GET /api/plugins/"), 404, "not_found"),
        (plain("GET /api/plugins/hecate-unknownd"), 404, "not_found"),
        (plain("GET /api/plugins/..%2F..%2Fetc"), 404, "not_found"),
        (plain("DELETE /api/plugins/hecate-daemon"), 404, "not_found"),
        (plain("GET /api/plugins/%zz"), 400, "path_malformed"),
        (plain("OPTIONS /health"), 405, "method_not_allowed"),
        (plain("BREW /api/plugins"), 405, "method_not_allowed"),
        (plain("GET /api/plugins/register"), 405, "method_not_allowed"),
        (typed("Content-Type: application/x-www-form-urlencoded\r\n"), 415, "not_json_type"),
        (typed("Content-Type: text/json\r\n"), 415, "not_json_type"),
        (typed("Content-Type: \u{e4}\r\n"), 415, "not_json_type"),
        (post(""), 400, "not_json"),
        (post("{"), 400, "not_json"),
        (post("[]"), 400, "not_an_object"),
        (post("{}"), 422, "name_missing"),
        (post(r#"{"name":7}"#), 422, "field_type"),
        (post(r#"{"name":"hecate-traderw"}"#), 422, "name_is_frontend"),
        (post(r#"{"name":"gitops"}"#), 422, "name_is_infrastructure"),
        (post(r#"{"name":"hecate-traderd","node":"x"}"#), 422, "node_malformed"),
    ];
    for (request, status, code) in table {
        assert_eq!(ask(&world, &request).await.refusal(), (status, code.to_owned()), "{request}");
    }
    for content_type in ["", "Content-Type: application/json\r\n", "Content-Type: Application/JSON ; charset=utf-8\r\n"]
    {
        assert_eq!(ask(&world, &typed(content_type)).await.status, 201, "{content_type}");
    }
    let advice = ask(&world, &typed("Content-Type: application/x-www-form-urlencoded\r\n")).await;
    assert!(advice.text.contains("add -H 'Content-Type: application/json'"), "{}", advice.text);
}

#[tokio::test]
async fn a_405_lists_the_allowed_methods() {
    let world = World::start(Limits::default()).await;
    let answer = ask(&world, "PATCH /api/plugins/hecate-traderd HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, DELETE")));
}

#[tokio::test]
async fn invalid_http_is_refused_and_harms_no_other_client() {
    let world = World::start(Limits::default()).await;
    for request in ["\r\n\r\nnonsense\r\n\r\n", "GET /health HTTP/9.9\r\n\r\n", "GET /health HTTP/1.1\r\nA : b\r\n\r\n"]
    {
        assert_eq!(ask(&world, request).await.status, 400, "{request}");
    }
    let chunks = "POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(ask(&world, chunks).await.refusal(), (400, "body_incomplete".to_owned()));
    assert_eq!(get(&world, "/livez").await.status, 200);
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let world = World::start(Limits::default()).await;
    let body = r#"{"name":"hecate-traderd"}"#;
    let register = format!("POST /api/plugins/register HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let missing = (400, "host_missing".to_owned());
    for request in ["GET /livez HTTP/1.1\r\n\r\n", "GET http://x/livez HTTP/1.1\r\n\r\n", &register] {
        assert_eq!(ask(&world, request).await.refusal(), missing, "{request}");
    }
    for version in ["1.0", "1.1"] {
        let request = format!("GET /api/plugins HTTP/{version}\r\nHost: x\r\nHost: x\r\n\r\n");
        assert_eq!(ask(&world, &request).await.refusal(), (400, "host_twice".to_owned()));
    }
    assert!(world.registry.view().plugins.is_empty());
    for request in ["GET /livez HTTP/1.1\r\nhost:\r\n\r\n", "GET /livez HTTP/1.0\r\n\r\n"] {
        assert_eq!(ask(&world, request).await.status, 200, "{request}");
    }
}

// ---- Health and cluster ---------------------------------------------------------------------

#[tokio::test]
async fn health_has_the_documented_fields() {
    let world = World::start(Limits::default()).await;
    register(&world, json!({"name": "hecate-traderd"})).await;
    world.status.send_modify(|status| status.node_name = Some("hecate@beam00".parse().unwrap()));
    let answer = get(&world, "/health").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let mut health = answer.body;
    assert!(health["uptime_seconds"].take().as_u64().expect("a number") < 3600);
    let expected = json!({
        "status": "healthy", "ready": true, "service": "hecate", "version": env!("CARGO_PKG_VERSION"),
        "node_name": "hecate@beam00", "uptime_seconds": null, "identity": "not_initialized",
        "plugins": {"hecate-traderd": "ok"}, "epmd_owners": [], "problems": []
    });
    assert_eq!(health, expected);
}

#[tokio::test]
async fn the_severity_of_a_problem_sets_status_and_readiness() {
    let world = World::start(Limits::default()).await;
    for (severity, word, ready) in [
        (Severity::Notice, "healthy", true),
        (Severity::Unhealthy, "unhealthy", true),
        (Severity::NotReady, "unhealthy", false),
    ] {
        let problem = Problem { code: "some_code", detail: "Some detail.".to_owned(), severity };
        world.status.send_modify(|status| status.problems = vec![problem]);
        let health = get(&world, "/health").await.body;
        assert_eq!((&health["status"], &health["ready"]), (&json!(word), &json!(ready)), "{severity:?}");
        assert_eq!(health["problems"], json!([{"code": "some_code", "detail": "Some detail."}]));
        let readyz = get(&world, "/readyz").await;
        match ready {
            true => assert_eq!(readyz.text, r#"{"status":"ok"}"#),
            false => assert_eq!(readyz.refusal(), (503, "some_code".to_owned())),
        }
        assert_eq!(get(&world, "/api/plugins").await.status, 200, "the API serves despite the problem");
    }
    world.status.send_modify(|status| status.phase = Phase::Stopping);
    assert_eq!(get(&world, "/readyz").await.refusal(), (503, "stopping".to_owned()));
    assert_eq!(get(&world, "/health").await.body["ready"], false);
}

#[tokio::test]
async fn the_cluster_endpoint_shows_the_view_of_the_node() {
    let world = World::start(Limits::default()).await;
    let unknown = json!({
        "node": null, "epmd": {"state": "unknown", "reason": null}, "peers": [], "scopes": [], "unregistered": [],
        "cookie_hash": "",
    });
    assert_eq!(get(&world, "/api/cluster").await.body, unknown);
    let peer = PeerView {
        name: "x@y".parse().unwrap(),
        on_this_host: false,
        state: PeerState::Disconnected,
        since: std::time::UNIX_EPOCH,
        reason: PeerReason::new("closed_by_peer", "it left"),
        details: PeerDetails::default(),
    };
    let view = ClusterView {
        node: Some("a@b".parse().unwrap()),
        epmd: EpmdState::Registered,
        peers: vec![peer],
        ..ClusterView::default()
    };
    world.cluster.send_replace(Arc::new(view));
    let answer = get(&world, "/api/cluster").await.body;
    assert_eq!((&answer["node"], &answer["epmd"]["state"]), (&json!("a@b"), &json!("registered")));
    let peer = &answer["peers"][0];
    let seen = [&peer["state"], &peer["reason"], &peer["reason_code"]];
    assert_eq!(seen, ["disconnected", "it left", "closed_by_peer"]);
}

#[tokio::test]
async fn the_plugins_of_all_hosts_are_listed_and_lost_ones_are_marked() {
    let world = World::start(Limits::default()).await;
    register(&world, json!({"name": "hecate-traderd"})).await;
    let own = get(&world, "/api/plugins").await.body[0].clone();
    let with = |mut plugin: Value, host: &str, daemon: Value, lost_since: Value| {
        plugin["host"] = host.into();
        (plugin["daemon"], plugin["lost_since"]) = (daemon, lost_since);
        plugin
    };
    let alone = json!({
        "hosts": [{"daemon": null, "host": "", "state": "connected", "since": null, "plugins": 1, "left_out": 0}],
        "plugins": [with(own.clone(), "", Value::Null, Value::Null)],
    });
    assert_eq!(
        get(&world, "/api/cluster/plugins").await.body,
        alone,
        "without a cluster, only the plugins of this host"
    );

    world.cluster.send_replace(Arc::new(support::world::with_a_lost_host("hecate-traderd")));
    let (epoch, later) = ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.500Z");
    let theirs = json!({
        "name": "hecate-traderd", "version": "0.1.0", "socket": "/there/api.sock", "status": "running", "description": null,
        "node": "hecate_traderd@beam01", "since": epoch, "reason": "it registered",
        "reason_code": "registered",
    });
    let both = json!({
        "hosts": [
            {"daemon": "hecate@beam00", "host": "beam00", "state": "connected", "since": epoch, "plugins": 1, "left_out": 0},
            {"daemon": "hecate@beam01", "host": "beam01", "state": "lost", "since": later, "plugins": 1, "left_out": 2},
        ],
        "plugins": [
            with(own, "beam00", "hecate@beam00".into(), Value::Null),
            with(theirs, "beam01", "hecate@beam01".into(), later.into()),
        ],
    });
    assert_eq!(get(&world, "/api/cluster/plugins").await.body, both);
}
