use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use beam::connect::dial::DialCode;
use beam::node::view::PeerReason;

use crate::cluster::view::*;
use crate::layout::{self, Home, Namespace};
use crate::plugin::{
    Plugin,
    sample::{self, name},
};
use crate::registry;
use crate::wire::{self, Cluster, Done, PluginDetail, PluginEntry, Registered, encode};

fn namespace() -> Namespace {
    let home = Home::new(PathBuf::from("/home/user/.hecate")).expect("absolute");
    home.namespace(&name("hecate-traderd"))
}

fn plugin() -> Plugin {
    Plugin {
        version: Some("0.1.0".to_owned()),
        node: Some("hecate_traderd@beam00".parse().unwrap()),
        node_given: true,
        since: UNIX_EPOCH + Duration::from_millis(1_500),
        ..sample::plugin("hecate-traderd")
    }
}

#[test]
fn the_response_to_a_registration_is_exactly_that_of_the_convention() {
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

/// Returns states in which the node refused our cookie.
fn nodes() -> NodeStates {
    let mut nodes = NodeStates::default();
    let state = NodeState::NotConnected(Some(DialCode::CookieMismatch));
    let plugins = std::sync::Arc::from([plugin().name]);
    nodes.set("hecate_traderd@beam00".parse().unwrap(), Some(PluginNode { state, plugins }));
    nodes
}

#[test]
fn an_entry_begins_with_the_four_keys_of_the_convention() {
    let unknown = PluginEntry::new(&plugin(), &namespace()).with_node(&NodeStates::default());
    assert_eq!((unknown.node_state, unknown.node_failure), (Some(wire::NodeState::Unknown), None));
    let nodeless = Plugin { node: None, ..plugin() };
    let nodeless = PluginEntry::new(&nodeless, &namespace()).with_node(&NodeStates::default());
    assert_eq!((nodeless.node_state, nodeless.node_failure), (None, None));
    let entry = encode(&PluginEntry::new(&plugin(), &namespace()).with_node(&nodes()));
    let expected = concat!(
        r#"{"name":"hecate-traderd","version":"0.1.0","#,
        r#""socket":"/home/user/.hecate/hecate-traderd/sockets/api.sock","status":"running","#,
        r#""description":null,"node":"hecate_traderd@beam00","since":"1970-01-01T00:00:01.500Z","reason":"it registered","reason_code":"registered","#,
        r#""node_state":"not_connected","node_failure":"cookie_mismatch"}"#
    );
    assert_eq!(entry, expected);
}

#[test]
fn a_written_detail_can_be_read_again() {
    let socket = namespace().connectors().join("mail.sock");
    let connectors = vec![layout::Connector { id: "mail".to_owned(), socket, answers: true }];
    let contents = layout::Contents { connectors, extra_directories: vec!["hecate-agents".to_owned()] };
    let detail = PluginDetail::new(&plugin(), &namespace(), &nodes(), contents);
    assert_eq!(serde_json::from_slice::<PluginDetail>(&encode(&detail)).expect("read"), detail);
    assert_eq!(encode(&Done { ok: true }), r#"{"ok":true}"#);
}

#[test]
fn the_cluster_is_described_and_unregistered_nodes_are_listed() {
    let peer = |name: &str, on_this_host, state| PeerView {
        name: name.parse().unwrap(),
        on_this_host,
        state,
        since: UNIX_EPOCH,
        reason: PeerReason::new("connected", "it called"),
        details: PeerDetails::default(),
    };
    let failure = DialFailure { code: DialCode::TcpRefused, detail: "nobody".to_owned(), at: UNIX_EPOCH };
    let link = LinkView {
        published: true,
        flags: vec!["SPAWN"],
        otp_release: Some("25".to_owned()),
        tick_time: Some(Duration::from_secs(60)),
        round_trip: Some(Duration::from_micros(1_500)),
    };
    let details = PeerDetails {
        introduced_by: Some(Introduction::Peer("z@y".parse().unwrap())),
        attempts: 3,
        last_failure: Some(failure),
        link: Some(link),
    };
    let scope = ScopeView { name: "pg".to_owned(), own_groups: 1, own_members: 2, peer_groups: 3, peer_members: 4 };
    let view = ClusterView {
        node: Some("hecate@beam00".parse().unwrap()),
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
        r#""name":"w@y","state":"connecting","since":"1970-01-01T00:00:00.000Z","reason":"it called","reason_code":"connected","#,
        r#""introduced_by":null,"attempts":0,"last_failure":null,"hidden":null,"flags":null,"otp_release":null,"#,
        r#""net_ticktime":null,"round_trip_ms":null},{"#,
        r#""name":"x@y","state":"connected","since":"1970-01-01T00:00:00.000Z","reason":"it called","reason_code":"connected","#,
        r#""introduced_by":"z@y","attempts":3,"#,
        r#""last_failure":{"code":"tcp_refused","detail":"nobody","at":"1970-01-01T00:00:00.000Z"},"hidden":false,"#,
        r#""flags":["SPAWN"],"otp_release":"25","net_ticktime":60,"round_trip_ms":1.5}],"#,
        r#""scopes":[{"name":"pg","own_groups":1,"own_members":2,"peer_groups":3,"peer_members":4}],"#,
        r#""unregistered":[],"cookie_hash":"hash"}"#
    );
    assert_eq!(encode(&Cluster::new(&view, &registry::View::default())), expected);

    // Only nodes that are connected, on this host, named like a plugin's, and not registered.
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
