//! Which nodes of its host the daemon dials, and how long it shows nodes that are gone. Uses real
//! nodes.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::erl::{Erl, Start};
use support::{Host, PATIENCE, wait_for, wait_within};

#[test]
fn only_nodes_with_configured_names_are_connected() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut rabbit = host.erl(&host.node("rabbit"));
    let daemon = host.daemon(&[]);
    daemon.ready();
    let mut ours = host.erl(&host.node("hecate_traderd"));
    let with_us = format!("nodes() =:= ['{}']", host.node("hecate"));
    ours.eval_until(&with_us, "true", PATIENCE);
    // The node was there first, and the daemon has seen its name many times by now.
    assert_eq!((rabbit.eval("nodes()").as_str(), host.peer(&host.node("rabbit"))), ("[]", None));

    daemon.terminate();
    let daemon = host.daemon(&[("HECATE_EPMD_NAMES", "rabbit,my_*")]);
    daemon.ready();
    rabbit.eval_until(&with_us, "true", PATIENCE);
    let mut mine = host.erl(&host.node("my_node"));
    mine.eval_until(&format!("lists:member('{}', nodes())", host.node("hecate")), "true", PATIENCE);
    assert_eq!((ours.eval("nodes()").as_str(), host.peer(&host.node("hecate_traderd"))), ("[]", None));
}

#[test]
fn a_registered_node_is_dialled_whatever_its_name() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut rabbit = host.erl(&host.node("rabbit"));
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    host.register(&json!({"name": "hecate-rabbitd", "node": host.node("rabbit")}));
    rabbit.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    wait_for("the node is shown as connected", || host.peer(&host.node("rabbit")).as_deref() == Some("connected"));
}

/// Such a node logs each attempt, so the daemon waits as long as after a wrong cookie.
#[test]
fn a_node_that_expects_tls_is_dialled_once_until_it_restarts() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let (pem, options) = (host.home().join("tls.pem"), host.home().join("tls.conf"));
    let make = format!(
        "#{{cert := Cert, key := Key}} = public_key:pkix_test_root_cert(\"root\", [{{key, {{namedCurve, secp256r1}}}}]), \
         Entries = [{{'Certificate', Cert, not_encrypted}}, public_key:pem_entry_encode('ECPrivateKey', Key)], \
         file:write_file({pem:?}, public_key:pem_encode(Entries))"
    );
    assert_eq!(Erl::start(&host, Start::default()).eval(&make), "ok");
    std::fs::write(&options, format!("[{{server, [{{certfile, {pem:?}}}]}}].")).unwrap();
    let args = ["-proto_dist", "inet_tls", "-ssl_dist_optfile", options.to_str().unwrap()];
    let start = |name| Start { name: Some(name), args: &args, ..Start::default() };
    // The daemon does not look for the first one. It finds and dials the second one, then waits.
    let _visitor = Erl::start(&host, start("visitor"));
    let diagnosis = host.ask("GET", &format!("/api/cluster/peers/{}/diagnosis", host.node("visitor"))).body;
    assert_eq!(diagnosis["code"], "tls_expected", "{diagnosis:#}");
    assert!(diagnosis["verdict"].as_str().unwrap().contains("inet_tls"), "{diagnosis:#}");

    let trader = Erl::start(&host, start("hecate_traderd"));
    let node = host.node("hecate_traderd");
    daemon.logs(&[
        "WARN",
        &node,
        "the peer expects TLS; retrying after 5 min, or when the node registers with EPMD again",
    ]);
    let details = || {
        let peers = host.ask("GET", "/api/cluster").body["peers"].as_array().expect("peers").clone();
        peers.into_iter().find(|peer| peer["name"] == *node)
    };
    let peer = wait_within(PATIENCE, "the node is shown", || details().filter(|peer| peer["attempts"] == 1));
    assert_eq!((&peer["state"], &peer["last_failure"]["code"]), (&json!("disconnected"), &json!("tls_expected")));
    // The daemon dials another node that starts later, and not this one.
    let _later = host.erl("hecate_marthad");
    wait_for("the later one is connected", || host.peer(&host.node("hecate_marthad")).as_deref() == Some("connected"));
    assert_eq!(details().unwrap()["attempts"], 1);
    // After its restart without TLS, it is connected at once.
    trader.kill();
    let _plain = host.erl("hecate_traderd");
    wait_for("the node is connected", || host.peer(&node).as_deref() == Some("connected"));
}

#[test]
fn a_node_that_is_gone_for_good_is_forgotten() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let trader = host.node("hecate_traderd");
    let found = host.erl(&trader);
    let mut nameless = Erl::start(&host, Start { name: Some("undefined"), ..Start::default() });
    assert_eq!(nameless.eval(&format!("net_kernel:connect_node('{us}')")), "true");
    let given = nameless.eval("node()");
    wait_for("the node is found", || host.peer(&trader).as_deref() == Some("connected"));
    nameless.kill();
    found.kill();
    for node in [&given, &trader] {
        wait_for("the node is shown as disconnected", || host.peer(node).as_deref() == Some("disconnected"));
    }
    let mut there = host.erl(&host.node("hecate_marthad"));
    for node in [&given, &trader] {
        wait_within(Duration::from_secs(90), "the node is forgotten", || host.peer(node).is_none().then_some(()));
    }
    assert_eq!(there.eval("nodes()"), format!("[{us}]"));
    assert_eq!(host.peer(&host.node("hecate_marthad")).as_deref(), Some("connected"));
}
