//! The command `diagnose`, and its independent mode.

use super::*;

fn command(host: &Host, cookie: &str, arguments: &[&str]) -> Output {
    Daemon::command(host, &[("HECATE_COOKIE", cookie)]).arg("diagnose").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_prints_for_people_and_for_scripts() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let unknown = host.node("unknown");
    let output = command(&host, &host.cookie, &[&unknown]);
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &b""[..]), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("ok    name"), "{shown}");
    assert!(lines[3].starts_with("FAIL  registered  unknown is not registered there; other names: hecate"), "{shown}");
    assert!(lines.last().unwrap().starts_with("verdict: not_registered: start a node named unknown"), "{shown}");

    let output = command(&host, &host.cookie, &[&unknown, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let path = format!("/api/cluster/peers/{unknown}/diagnosis");
    assert_eq!(text(&output.stdout), format!("{}\n", host.ask("GET", &path).text));

    let _erl = host.erl("visitor");
    let output = command(&host, &host.cookie, &[&host.node("visitor")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert_eq!(command(&host, &host.cookie, &["nonsense"]).status.code(), Some(2));
}

#[test]
fn the_independent_mode_needs_no_daemon() {
    let host = Host::new();
    let epmd = host.epmd();
    let mut erl = host.erl("visitor@localhost");
    let node = "visitor@localhost";
    let release = erl.eval("erlang:system_info(otp_release)").trim_matches('"').to_owned();
    // There is no daemon.
    let output = command(&host, &host.cookie, &[node, "--independent", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap();
    let peer = &whole["peer"];
    assert_eq!(
        (&whole["node"], &peer["otp_release"], &peer["net_ticktime"]),
        (&json!(node), &json!(release), &json!(60))
    );
    assert_eq!(peer["scopes"], json!([{"name": "pg", "runs": false}]));
    assert_eq!(peer["nodes"], json!([]), "without the node of the command: {peer:#}");
    erl.eval("pg:start_link()");
    let output = command(&host, &host.cookie, &[node, "--independent"]);
    let shown = text(&output.stdout);
    assert!(shown.contains(&format!("OTP release   {release}\n")) && shown.contains("scope pg      runs\n"), "{shown}");
    assert!(shown.ends_with("verdict: visitor@localhost accepts a connection with this cookie\n"), "{shown}");

    for (cookie, node, words) in [
        (
            "another-cookie",
            node,
            "visitor@localhost closed the connection during the handshake: probably it has another cookie",
        ),
        (&host.cookie, "unknown@localhost", "not_registered"),
        (&host.cookie, "x@no-such-host-anywhere", "host_unresolved"),
    ] {
        let output = command(&host, cookie, &[node, "--independent"]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{node}");
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains(&host.cookie));
    }
    drop(epmd);
}

#[test]
fn the_independent_mode_diagnoses_a_daemon_and_an_unused_port() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[("HECATE_HOSTNAME", "localhost")]);
    let us = daemon.ready();
    let mut erl = host.erl("hecate_traderd@localhost");
    erl.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    let output = command(&host, &host.cookie, &[&us, "--independent", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(whole["peer"]["nodes"], json!(["hecate_traderd@localhost"]), "{whole:#}");

    let (free, port) = listener();
    drop(free);
    let _refusing = epmd.register("refusing", port);
    let output = command(&host, &host.cookie, &["refusing@localhost", "--independent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("tcp_refused"), "{}", text(&output.stderr));
}

#[test]
fn a_silent_node_delays_the_independent_mode_for_a_limited_time() {
    let host = Host::new();
    let epmd = host.epmd();
    let (_listener, port) = listener();
    let _name = epmd.register("silent", port);
    let start = std::time::Instant::now();
    let output = command(&host, &host.cookie, &["silent@localhost", "--independent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did not answer within"), "{}", text(&output.stderr));
    assert!(start.elapsed() >= limits::INDEPENDENT_TIME);
}
