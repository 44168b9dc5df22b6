use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::cluster::view::{DialFailure, Introduction, LinkView, PeerDetails, PluginNode};
use crate::layout::Home;
use crate::limits;
use crate::plugin::Field;

fn refusal(body: &str) -> (u16, &'static str) {
    let problem = registration(body.as_bytes()).expect_err(body);
    (problem.status.as_u16(), problem.code)
}

fn name(text: &str) -> PluginName {
    PluginName::parse(text).expect("valid")
}

fn namespace() -> Namespace {
    let home = Home::new(PathBuf::from("/home/user/.hecate")).expect("absolute");
    home.namespace(&name("hecate-traderd"))
}

fn plugin() -> Plugin {
    Plugin {
        name: name("hecate-traderd"),
        version: Some("0.1.0".to_owned()),
        description: None,
        node: Some("hecate_traderd@beam00".to_owned()),
        node_given: true,
        status: Status::Running,
        since: UNIX_EPOCH + Duration::from_millis(1_500),
        reason: "it registered".to_owned(),
        registered_at: UNIX_EPOCH,
        incarnation: 1,
    }
}

// ---- The registration -----------------------------------------------------------------------

#[test]
fn the_convention_s_own_request() {
    let body = br#"{
      "name": "hecate-traderd",
      "version": "0.1.0",
      "description": "Trading daemon for Hecate"
    }"#;
    let expected = Registration {
        name: name("hecate-traderd"),
        version: Field::Set("0.1.0".to_owned()),
        description: Field::Set("Trading daemon for Hecate".to_owned()),
        node: Field::Absent,
    };
    assert_eq!(registration(body), Ok(expected));
}

#[test]
fn absent_null_and_set_are_three_things() {
    let body = br#"{"name": "hecate-traderd", "version": null, "node": "a@b"}"#;
    let registration = registration(body).expect("valid");
    assert_eq!(registration.version, Field::Clear);
    assert_eq!(registration.description, Field::Absent);
    assert_eq!(registration.node, Field::Set("a@b".to_owned()));
}

#[test]
fn unknown_keys_are_ignored_whatever_they_hold() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for more in [r#""icon": {"a": [1]}"#, r#""icon": 1, "icon": 2"#, &format!("\"icon\": {deep}")] {
        let body = format!(r#"{{"name": "hecate-traderd", {more}}}"#);
        assert!(registration(body.as_bytes()).is_ok(), "{}", body.get(..60).unwrap_or(&body));
    }
}

#[test]
fn what_is_no_object_is_a_bad_request() {
    for body in ["", " ", "{", "{\"name\": }", "name=hecate-traderd", "{} {}", "{\"name\": \"\\ud800\"}", "\u{feff}{}"]
    {
        assert_eq!(refusal(body), (400, "not_json"), "{body:?}");
    }
    for body in ["[]", "null", "1", "\"hecate-traderd\"", "[\"hecate-traderd\", null, null, null]"] {
        assert_eq!(refusal(body), (400, "not_an_object"), "{body:?}");
    }
    assert_eq!(registration(b"{\"name\": \"hecate-\xff-d\"}").map_err(|problem| problem.code), Err("not_json"));
    let twice = r#"{"name": "hecate-traderd", "name": "hecate-marthad"}"#;
    assert_eq!(refusal(twice), (400, "key_twice"));
    let deep = format!("{{\"version\": {}", "[".repeat(20_000));
    assert_eq!(refusal(&deep).0, 400, "and no stack is used up by it");
}

#[test]
fn a_wrong_field_is_told_by_its_code() {
    let long = |key: &str, length: usize| format!(r#"{{"name": "hecate-traderd", "{key}": "{}"}}"#, "x".repeat(length));
    let table = [
        ("{}".to_owned(), "name_missing"),
        (r#"{"name": null}"#.to_owned(), "field_type"),
        (r#"{"name": 1}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderw"}"#.to_owned(), "name_is_frontend"),
        (r#"{"name": "hecate-daemon"}"#.to_owned(), "name_reserved"),
        (r#"{"name": "../x-d"}"#.to_owned(), "name_bad_character"),
        (r#"{"name": "hecate-traderd", "version": 1}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderd", "description": ["x"]}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderd", "node": {}}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderd", "node": ""}"#.to_owned(), "node_malformed"),
        (r#"{"name": "hecate-traderd", "node": "hecate_traderd"}"#.to_owned(), "node_malformed"),
        (r#"{"name": "hecate-traderd", "version": "1\u0000"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "version": "1\n2"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "\u001b[2J"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "two\nlines"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "\u009b2J"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "a\u202eb"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "version": "1\u2028"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "version": "1\u2066"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "node": "x@-oProxyCommand"}"#.to_owned(), "node_malformed"),
        (long("version", limits::PLUGIN_VERSION + 1), "field_too_long"),
        (long("description", limits::PLUGIN_DESCRIPTION + 1), "field_too_long"),
        (long("node", beam::limits::NODE_NAME + 1), "field_too_long"),
    ];
    for (body, code) in table {
        assert_eq!(refusal(&body), (422, code), "{}", body.get(..60).unwrap_or(&body));
    }
    for (key, length) in [("version", limits::PLUGIN_VERSION), ("description", limits::PLUGIN_DESCRIPTION)] {
        assert!(registration(long(key, length).as_bytes()).is_ok(), "{key} as long as allowed");
    }
}

// ---- Answers --------------------------------------------------------------------------------

#[test]
fn a_registration_is_answered_with_exactly_the_convention_s_body() {
    let answer = encode(&Registered::new(&name("hecate-traderd"), &namespace()));
    let expected = concat!(
        r#"{"name":"hecate-traderd","base_dir":"/home/user/.hecate/hecate-traderd","paths":{"#,
        r#""sqlite":"/home/user/.hecate/hecate-traderd/sqlite","#,
        r#""reckon_db":"/home/user/.hecate/hecate-traderd/reckon-db","#,
        r#""sockets":"/home/user/.hecate/hecate-traderd/sockets","#,
        r#""run":"/home/user/.hecate/hecate-traderd/run","#,
        r#""connectors":"/home/user/.hecate/hecate-traderd/connectors"}}"#
    );
    assert_eq!(answer, expected);
}

/// A wrong cookie.
fn nodes() -> NodeStates {
    let mut nodes = NodeStates::default();
    let state = NodeState::NotConnected(Some("cookie_mismatch"));
    let plugins = std::sync::Arc::from([plugin().name]);
    nodes.set("hecate_traderd@beam00".into(), Some(PluginNode { state, plugins }));
    nodes
}

#[test]
fn an_entry_begins_with_the_convention_s_four_keys() {
    let unknown = PluginEntry::new(&plugin(), &namespace()).with_node(&NodeStates::default());
    assert_eq!((unknown.node_state.as_deref(), unknown.node_failure), (Some("unknown"), None));
    let nodeless = Plugin { node: None, ..plugin() };
    let nodeless = PluginEntry::new(&nodeless, &namespace()).with_node(&NodeStates::default());
    assert_eq!((nodeless.node_state, nodeless.node_failure), (None, None));
    let entry = encode(&PluginEntry::new(&plugin(), &namespace()).with_node(&nodes()));
    let expected = concat!(
        r#"{"name":"hecate-traderd","version":"0.1.0","#,
        r#""socket":"/home/user/.hecate/hecate-traderd/sockets/api.sock","status":"running","#,
        r#""description":null,"node":"hecate_traderd@beam00","since":"1970-01-01T00:00:01.500Z","reason":"it registered","#,
        r#""node_state":"not_connected","node_failure":"cookie_mismatch"}"#
    );
    assert_eq!(entry, expected);
}

#[test]
fn what_we_write_our_commands_read() {
    let socket = namespace().connectors().join("mail.sock");
    let connectors = vec![layout::Connector { id: "mail".to_owned(), socket, answers: true }];
    let contents = layout::Contents { connectors, extra_directories: vec!["hecate-agents".to_owned()] };
    let detail = PluginDetail::new(&plugin(), &namespace(), &nodes(), contents);
    assert_eq!(serde_json::from_slice::<PluginDetail>(&encode(&detail)).expect("read"), detail);
    assert_eq!(encode(&Done { ok: true }), r#"{"ok":true}"#);
}

#[test]
fn the_cluster_in_words() {
    let peer = |name: &str, on_this_host, state| PeerView {
        name: name.to_owned(),
        on_this_host,
        state,
        since: UNIX_EPOCH,
        reason: "it called".to_owned(),
        details: PeerDetails::default(),
    };
    let failure = DialFailure { code: "tcp_refused", detail: "nobody".to_owned(), at: UNIX_EPOCH };
    let link = LinkView {
        published: true,
        flags: vec!["SPAWN"],
        otp_release: Some("25".to_owned()),
        tick_time: Some(Duration::from_secs(60)),
        round_trip: Some(Duration::from_micros(1_500)),
    };
    let details = PeerDetails {
        introduced_by: Some(Introduction::Peer("z@y".to_owned())),
        attempts: 3,
        last_failure: Some(failure),
        link: Some(link),
    };
    let scope = ScopeView { name: "pg".to_owned(), own_groups: 1, own_members: 2, peer_groups: 3, peer_members: 4 };
    let view = ClusterView {
        node: Some("hecate@beam00".to_owned()),
        epmd: EpmdState::Unavailable { reason: "refused".to_owned() },
        peers: vec![
            peer("w@y", true, PeerState::Connecting),
            PeerView { details, ..peer("x@y", true, PeerState::Connected) },
        ],
        scopes: vec![scope],
        cookie_hash: "hash".to_owned(),
        ..ClusterView::default()
    };
    let expected = concat!(
        r#"{"node":"hecate@beam00","epmd":{"state":"unavailable","reason":"refused"},"peers":[{"#,
        r#""name":"w@y","state":"connecting","since":"1970-01-01T00:00:00.000Z","reason":"it called","#,
        r#""introduced_by":null,"attempts":0,"last_failure":null,"hidden":null,"flags":null,"otp_release":null,"#,
        r#""net_ticktime":null,"round_trip_ms":null},{"#,
        r#""name":"x@y","state":"connected","since":"1970-01-01T00:00:00.000Z","reason":"it called","#,
        r#""introduced_by":"z@y","attempts":3,"#,
        r#""last_failure":{"code":"tcp_refused","detail":"nobody","at":"1970-01-01T00:00:00.000Z"},"hidden":false,"#,
        r#""flags":["SPAWN"],"otp_release":"25","net_ticktime":60,"round_trip_ms":1.5}],"#,
        r#""scopes":[{"name":"pg","own_groups":1,"own_members":2,"peer_groups":3,"peer_members":4}],"#,
        r#""unregistered":[],"cookie_hash":"hash"}"#
    );
    assert_eq!(encode(&Cluster::new(&view, &registry::View::default())), expected);

    // Only what is connected, here, called like a plugin's node, and nobody's.
    let traderd = plugin();
    let registry = registry::View {
        plugins: [(traderd.name.clone(), Arc::new(traderd))].into_iter().collect(),
        ..registry::View::default()
    };
    let peers = vec![
        peer("hecate_traderd@beam00", true, PeerState::Connected),
        peer("hecate_goned@beam00", true, PeerState::Disconnected),
        peer("hecate_fard@beam01", false, PeerState::Connected),
        peer("hecate@beam00", true, PeerState::Connected),
        peer("hecate_1000@beam00", true, PeerState::Connected),
        peer("others_traderd@beam00", true, PeerState::Connected),
        peer("hecate_newd@beam00", true, PeerState::Connected),
    ];
    let cluster = Cluster::new(&ClusterView { peers, ..ClusterView::default() }, &registry);
    assert_eq!(cluster.unregistered, ["hecate_newd@beam00"]);
}
