//! Names and texts of others cannot control a terminal through the log, the commands or the API.
//! Invalid names are neither dialled nor shown, and control characters are escaped.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use hecate_daemon::escape;
use rusqlite::Connection;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::{Host, database};

#[track_caller]
fn is_harmless(text: &str) {
    assert!(!text.contains(|c| c != '\n' && escape::is_escaped(c)), "{text:?}");
}

/// Returns the output of a command.
fn printed(host: &Host, arguments: &[&str]) -> String {
    let output = Daemon::command(host, &[("HECATE_LISTEN", "127.0.0.1")]).args(arguments).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    is_harmless(&text);
    text
}

#[test]
fn odd_names_in_epmd_and_in_handshakes_are_neither_dialled_nor_shown() {
    let host = Host::new();
    let epmd = host.epmd();
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (odd, valid) = (listener(), listener());
    let port = odd.local_addr().unwrap().port();
    let _odd = ["hecate_\u{1b}[2J", "hecate_\u{202e}x", "hecate_\u{9b}2J"].map(|name| epmd.register(name, port));
    let _valid = epmd.register("hecate_valid", valid.local_addr().unwrap().port());
    let daemon = host.daemon(&[]);
    daemon.ready();
    // One answer of EPMD contains all names. At the second attempt to the valid one, the daemon
    // would have dialled the others.
    for _ in 0..2 {
        drop(valid.accept().unwrap());
    }
    odd.set_nonblocking(true).unwrap();
    assert_eq!(odd.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, epmd.port_of("hecate"))).unwrap();
    let name = host.node("evil\u{1b}]0;\u{202e}");
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let packet = [&[b'N'][..], &[0xff; 8], &[0, 0, 0, 7], &length(name.len()), name.as_bytes()].concat();
    stream.write_all(&[&length(packet.len())[..], &packet].concat()).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the handshake must be refused");
    daemon.logs(&["WARN", "the peer sent an invalid node name"]);

    for arguments in [&["cluster"][..], &["cluster", "--json"], &["doctor"], &["doctor", "--json"], &["status"]] {
        let text = printed(&host, arguments);
        assert!(!text.contains("2J") && !text.contains("evil"), "{text}");
    }
    let shown = printed(&host, &["diagnose", &host.node("unknown")]);
    assert!(shown.contains("hecate_valid") && !shown.contains("2J"), "{shown}");
    is_harmless(&daemon.log());
    assert!(!daemon.log().contains("2J") && !daemon.log().contains("evil"), "{}", daemon.log());
}

#[test]
fn texts_that_an_older_version_stored_load_and_are_shown_escaped() {
    const ODD: &str = "a\u{202e}b\u{9b}2J\u{200b}c";
    let (host, _epmd, daemon) = Host::running(&[]);
    assert_eq!(host.register(&json!({"name": "hecate-traderd", "version": "1"})).status, 201);
    assert_eq!(daemon.terminate().0.code(), Some(0));
    for table in ["plugins", "events"] {
        let connection = Connection::open(database::path(&host)).unwrap();
        let statement = format!("UPDATE {table} SET version = ?1, description = ?1, node = ?2");
        connection.execute(&statement, [ODD, "x@-o\u{1b}[2J"]).unwrap();
    }

    let daemon = host.daemon(&[]);
    daemon.ready();
    assert_eq!(host.plugin("hecate-traderd")["description"], ODD, "the text was changed");
    for arguments in [
        &["plugins", "--json"][..],
        &["plugins"],
        &["plugin", "hecate-traderd"],
        &["plugin", "hecate-traderd", "--json"],
        &["plugins", "--cluster"],
        &["cluster", "--json"],
        &["status"],
    ] {
        printed(&host, arguments);
    }
    let listed: Value = serde_json::from_str(&printed(&host, &["plugins", "--json"])).unwrap();
    assert_eq!(listed[0]["version"], ODD, "the JSON value was changed");
    assert!(printed(&host, &["plugin", "hecate-traderd"]).contains(r"a\u{202e}b\u{9b}2J\u{200b}c"));
    is_harmless(&daemon.log());

    for (key, value) in [("version", "1\u{2028}"), ("description", "a\u{202e}"), ("description", "\u{85}")] {
        let refused = host.register(&json!({"name": "hecate-traderd", key: value}));
        assert_eq!((refused.status, &refused.body["code"]), (422, &json!("field_bad_character")), "{key} {value:?}");
    }
}

#[test]
fn nodes_that_no_plugin_can_run_as_are_refused() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    for (node, status, code) in [
        (us.as_str(), 409, "node_is_daemon"),
        ("hecate@localhost", 409, "node_is_daemon"),
        ("x@-oProxyCommand", 422, "node_malformed"),
        ("x@h\u{202e}", 422, "field_bad_character"),
    ] {
        let refused = host.register(&json!({"name": "hecate-traderd", "node": node}));
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)), "{node}");
    }
    let mut erl = host.erl("hecate_traderd");
    let register = format!(
        "element(1, element(2, gen_server:call({{hecate_plugins, '{us}'}}, {{register, #{{name => <<\"hecate-traderd\">>, \
         node => '{us}'}}}})))"
    );
    assert_eq!(erl.eval(&register), "node_is_daemon");
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]));
}

#[test]
fn the_node_name_of_the_daemon_is_refused_before_it_has_joined() {
    let host = Host::new();
    let epmd = host.epmd();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = epmd.register("hecate_mine", other.local_addr().unwrap().port());
    let daemon = host.daemon(&[("HECATE_NODE_NAME", "hecate_mine")]);
    support::wait_for("the name is taken", || {
        host.socket().exists() && host.ask("GET", "/health").body["problems"].to_string().contains("node_name_taken")
    });
    for node in [host.node("hecate_mine"), "hecate_mine@localhost".to_owned()] {
        let refused = host.register(&json!({"name": "hecate-traderd", "node": node}));
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("node_is_daemon")), "{node}");
    }
    // A name that the daemon gets only after its next start.
    let node = host.node("hecate_next");
    assert_eq!(host.register(&json!({"name": "hecate-traderd", "node": node})).status, 201);
    daemon.kill();
    drop(taken);
    let daemon = host.daemon(&[("HECATE_NODE_NAME", "hecate_next")]);
    daemon.ready();
    support::wait_for("the stored node is cleared", || host.plugin("hecate-traderd")["node"].is_null());
    daemon.logs(&["WARN", "hecate-traderd", &node, "register the plugin again without `node`"]);
}

#[test]
fn a_refused_argument_is_shown_escaped() {
    let host = Host::new();
    for arguments in [["diagnose", "hecate\u{1b}[2J\u{9b}\u{202e}@vm"], ["plugin", "--\u{1b}[2J"], ["\u{202e}", "x"]] {
        let output = Daemon::command(&host, &[]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let shown = String::from_utf8(output.stderr).unwrap();
        assert!(shown.contains(r"\u{") && !shown.is_empty(), "{shown}");
        is_harmless(&shown);
    }
}
