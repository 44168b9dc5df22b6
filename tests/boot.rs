//! The start of the daemon, and what can disturb it: a missing or lost EPMD, another daemon, a name
//! in use, files of a killed daemon, a node with another name, a wrong cookie, and strangers on its
//! ports.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hecate_daemon::limits;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::erl::{Erl, Start};
use support::{Host, PATIENCE, epmd, http, program, wait_for};

/// Returns the codes of the problems in `/health`.
fn problems(health: &Value) -> Vec<&str> {
    let problems = health["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem["code"].as_str().unwrap()).collect()
}

/// Waits until the socket answers, and returns `/health`.
fn health(host: &Host) -> Value {
    wait_for("the socket answers", || http::ask(&host.socket(), "GET", "/livez", None).is_ok());
    let answer = host.ask("GET", "/health");
    assert_eq!(answer.status, 200, "/health always succeeds");
    answer.body
}

/// Waits until the daemon has joined the cluster under this name.
fn joined(host: &Host, node: &str) {
    wait_for(&format!("the daemon's node is {node}"), || health(host)["node_name"] == node);
}

/// Starts a node that connects to the daemon by itself.
fn connects(host: &Host, name: &str) -> Erl {
    let mut erl = host.erl(name);
    let us = host.node("hecate");
    erl.pings(&us);
    erl
}

/// Returns the daemon's process `hecate_plugins`, whose pid contains the creation of the daemon's
/// node.
fn our_pid(host: &Host, erl: &mut Erl) -> String {
    let us = host.node("hecate");
    erl.eval("case whereis(pg) of undefined -> pg:start_link(); _ -> started end");
    erl.eval_until("length(pg:get_members(hecate_daemons))", "1", PATIENCE);
    erl.eval(&format!("[P] = pg:get_members(hecate_daemons), '{us}' = node(P), binary:encode_hex(term_to_binary(P))"))
}

// ---- EPMD -----------------------------------------------------------------------------------

#[test]
fn http_is_served_without_epmd_and_the_cluster_joined_once_epmd_runs() {
    let host = Host::new();
    // Another process listens on EPMD's port, and does not answer.
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, host.epmd_port)).unwrap();
    let daemon = host.daemon(&[]);
    assert!(daemon.ready().starts_with("none yet"), "{:?}", daemon.ready_line());
    let health = health(&host);
    assert_eq!(health["ready"], true, "a missing EPMD does not make the daemon unready");
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["node_name"], Value::Null);
    assert_eq!(problems(&health), ["epmd_unavailable"]);
    assert!(
        health["problems"][0]["detail"].as_str().unwrap().contains("ERL_EPMD_PORT"),
        "the detail contains a remedy"
    );
    host.register_named("hecate-traderd");

    drop(other);
    joined(&host, &host.node("hecate"));
    assert_eq!(problems(&self::health(&host)), Vec::<&str>::new());
    let mut erl = connects(&host, "visitor");
    assert_eq!(erl.eval("element(1, pg:start_link())"), "ok");
    erl.eval_until("length(pg:get_members(hecate_plugins))", "1", PATIENCE);
    let lines = daemon.log_lines(&["not in the cluster"]);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("free its port"), "{lines:#?}");
}

/// Returns the process of `epmd -daemon` for this port.
fn daemon_of(port: u16) -> Option<rustix::process::Pid> {
    let wanted = format!("epmd\0-daemon\0-port\0{port}\0");
    let numbers =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number: &i32| {
            std::fs::read(format!("/proc/{number}/cmdline")).is_ok_and(|line| line.ends_with(wanted.as_bytes()))
        })
        .find_map(rustix::process::Pid::from_raw)
}

/// Stops the EPMD at a port. An EPMD that the daemon started is not a child of the test. It agrees to
/// stop because no node is registered any more.
struct Stop(u16);

impl Drop for Stop {
    fn drop(&mut self) {
        let mut kill = Command::new("epmd");
        let _ = kill.args(["-port", &self.0.to_string(), "-kill"]).output();
    }
}

#[test]
fn the_systems_epmd_is_started_if_none_answers() {
    let host = Host::new();
    let _stop = Stop(host.epmd_port);
    let path = std::env::var("PATH").unwrap();
    let daemon = host.daemon(&[("PATH", &path)]);
    assert_eq!(daemon.ready(), host.node("hecate"));
    assert!(epmd::names(host.epmd_port).contains_key("hecate"));
    // After it is killed, the daemon starts another one.
    let started = daemon_of(host.epmd_port).expect("an epmd process");
    rustix::process::kill_process(started, rustix::process::Signal::KILL).unwrap();
    daemon.logs(&["registered with EPMD again"]);
    assert_eq!(daemon.log_lines(&["started the system's epmd"]).len(), 2, "{}", daemon.log());
    connects(&host, "visitor");
    assert_eq!(daemon.terminate().0.code(), Some(0));
    wait_for("the daemon's name is removed from the EPMD that it started", || {
        !epmd::names(host.epmd_port).contains_key("hecate")
    });
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, host.epmd_port)).is_ok());
}

#[test]
fn the_systems_epmd_listens_on_the_configured_addresses() {
    // Each `127.0.0.N` accepts connections if the program listens on it or on all addresses.
    let cases = [
        (None, None, [true, true, true]),
        (Some("127.0.0.2"), None, [true, true, false]),
        (None, Some("127.0.0.3"), [true, false, true]),
        (Some("127.0.0.2, 127.0.0.1,::1"), Some("0.0.0.0"), [true, true, false]),
        (Some("0.0.0.0"), None, [true, true, true]),
    ];
    for (variable, key, expected) in cases {
        let host = Host::new();
        let _stop = Stop(host.epmd_port);
        let mut environment = vec![("PATH", std::env::var("PATH").unwrap())];
        environment.extend(variable.map(|addresses| ("ERL_EPMD_ADDRESS", addresses.to_owned())));
        if let Some(addresses) = key {
            let file = host.home().join("sys.config");
            std::fs::write(&file, format!("[{{hecate, [{{epmd_address, \"{addresses}\"}}]}}].")).unwrap();
            environment.push(("HECATE_CONFIG", file.to_str().unwrap().to_owned()));
        }
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let daemon = host.daemon(&environment);
        daemon.logs(&["started the system's epmd"]);
        joined(&host, &host.node("hecate"));
        let accepts =
            [1, 2, 3].map(|last| TcpStream::connect((Ipv4Addr::new(127, 0, 0, last), host.epmd_port)).is_ok());
        assert_eq!(accepts, expected, "{environment:?}");
        assert_eq!(daemon.terminate().0.code(), Some(0));
        wait_for("the name is free", || !epmd::names(host.epmd_port).contains_key("hecate"));
    }
}

#[test]
fn the_daemon_registers_as_the_same_node_after_a_restart_of_epmd() {
    let (host, epmd, daemon) = Host::running(&[]);
    let mut peer = connects(&host, "peer");
    let before = our_pid(&host, &mut peer);
    peer.eval("net_kernel:monitor_nodes(true)");

    epmd.kill();
    let epmd = host.epmd();
    epmd.port_of("hecate");
    daemon.logs(&["registered with EPMD again"]);
    let mut newcomer = connects(&host, "newcomer");
    assert_eq!(our_pid(&host, &mut newcomer), before, "the creation has changed");
    let us = host.node("hecate");
    let disturbed = format!("receive {{nodedown, '{us}'}} -> disturbed after 0 -> not_disturbed end");
    assert_eq!(peer.eval(&disturbed), "not_disturbed");
    assert_eq!(our_pid(&host, &mut peer), before);
}

#[test]
fn an_epmd_that_stops_answering_is_a_problem_until_it_answers() {
    let (host, epmd, daemon) = Host::running(&[]);
    let codes = || {
        let health = host.ask("GET", "/health").body;
        let problems = health["problems"].as_array().expect("problems").clone();
        problems.into_iter().map(|problem| problem["code"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(codes(), Vec::<String>::new());
    epmd.stop();
    wait_for("the problem is reported", || codes() == ["epmd_unavailable"]);
    daemon.logs(&["WARN", "did not answer within", "no Erlang node of this host can be found"]);
    epmd.resume();
    wait_for("the problem is over", || codes().is_empty());
}

// ---- Other daemons and old files --------------------------------------------------------------

#[test]
fn a_second_daemon_on_the_same_home_is_refused() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut first = host.daemon(&[]);
    first.ready();
    let pid = std::fs::read_to_string(host.run_file("daemon.pid")).unwrap();
    let mut second = host.daemon(&[]);
    assert_eq!(second.ended(), Some(1));
    second.logs(&["another hecate-daemon serves", &format!("process {pid}")]);
    assert_eq!(second.ready_line(), None);
    assert!(first.runs());
    assert_eq!(host.ask("GET", "/readyz").status, 200, "the first still serves");
    assert_eq!(std::fs::read_to_string(host.run_file("daemon.pid")).unwrap(), pid);
    assert_eq!(std::fs::read_to_string(host.run_file("daemon.state")).unwrap(), "running");
}

#[test]
fn a_failed_start_leaves_no_run_files() {
    let host = Host::new();
    let sqlite = host.namespace("hecate-daemon").join("sqlite");
    std::fs::create_dir_all(&sqlite).unwrap();
    let database = rusqlite::Connection::open(sqlite.join("plugins.db")).unwrap();
    // A database that a later release would have written.
    database.pragma_update(None, "user_version", 9_999).unwrap();
    drop(database);
    let mut daemon = host.daemon(&[]);
    assert_eq!(daemon.ended(), Some(1));
    daemon.logs(&["ERROR", "schema version 9999"]);
    for file in ["daemon.pid", "daemon.state"] {
        assert!(!host.run_file(file).exists(), "{file} would look like a crash");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_slow_disk() {
    let (host, _epmd, daemon) = Host::running(&[]);
    // A lock of another writer makes the registry wait, for longer than a stop may take.
    let database = rusqlite::Connection::open(host.namespace("hecate-daemon").join("sqlite/plugins.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let socket = host.socket();
    let caller = std::thread::spawn(move || {
        http::ask(&socket, "POST", "/api/plugins/register", Some(&json!({"name": "hecate-slowd"})))
    });
    wait_for("the registry begins to save", || host.namespace("hecate-slowd").join("connectors").exists());
    let (status, _, log) = daemon.terminate();
    assert!(status.success() && log.contains("was cut short"), "{log}");
    for left in [host.run_file("daemon.pid"), host.run_file("daemon.state"), host.socket()] {
        assert!(!left.exists(), "{} is left", left.display());
    }
    assert!(!matches!(caller.join().unwrap(), Ok(answer) if answer.status == 201), "the registration was not saved");
}

#[test]
fn a_closed_terminal_stops_the_daemon_cleanly() {
    let host = Host::new();
    let mut daemon = host.daemon(&[]);
    daemon.ready();
    let pid = rustix::process::Pid::from_raw(daemon.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    assert_eq!(daemon.ended(), Some(0));
    for left in [host.run_file("daemon.pid"), host.run_file("daemon.state"), host.socket()] {
        assert!(!left.exists(), "{} is left", left.display());
    }
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_allowed() {
    let host = Host::new();
    let limited = r#"ulimit -Sn 1024 && ulimit -Hn 2048 && exec "$0""#;
    let daemon = Daemon::start_as(&host, &[&program("sh"), "-c", limited], &[]);
    daemon.ready();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let limits = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(limits.split_whitespace().next(), Some("2048"));
}

#[test]
fn files_of_a_killed_daemon_do_not_prevent_the_next_start() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let pid = std::fs::read_to_string(host.run_file("daemon.pid")).unwrap();
    daemon.kill();
    assert!(host.socket().exists());
    assert!(host.run_file("daemon.pid").exists() && host.run_file("daemon.state").exists());

    let daemon = host.daemon(&[]);
    daemon.ready();
    assert_ne!(std::fs::read_to_string(host.run_file("daemon.pid")).unwrap(), pid);
    assert_eq!(host.ask("GET", "/readyz").status, 200);
    daemon.terminate();
    assert_eq!(files_in(&host.namespace("hecate-daemon").join("sockets")), Vec::<String>::new());
    assert_eq!(files_in(&host.namespace("hecate-daemon").join("run")), Vec::<String>::new());
}

fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_default_name_that_is_in_use_is_replaced_by_another() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut holder = host.erl("hecate");
    let start = Instant::now();
    let daemon = host.daemon(&[]);
    let uid = rustix::process::getuid().as_raw();
    let ours = host.node(&format!("hecate_{uid}"));
    assert_eq!(daemon.ready(), ours);
    assert!(start.elapsed() >= limits::NAME_PATIENCE, "the daemon waits for a previous daemon to end");
    assert_eq!(host.ask("GET", "/readyz").status, 200);
    assert_eq!(problems(&health(&host)), Vec::<&str>::new());
    holder.eval_until(&format!("nodes() =:= ['{ours}']"), "true", PATIENCE);
}

#[test]
fn a_user_who_registers_the_default_names_cannot_block_the_daemon() {
    let host = Host::new();
    let epmd = host.epmd();
    let uid = rustix::process::getuid().as_raw();
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let with_uid = format!("hecate_{uid}");
    let _taken = ["hecate", &with_uid].map(|name| epmd.register(name, port));
    let is_fallback = |node: &str| {
        let short = node.strip_suffix(&format!("@{}", host.name)).unwrap();
        let digits = short.strip_prefix(&format!("{with_uid}_")).expect(node);
        digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let daemon = host.daemon(&[]);
    let node = daemon.ready();
    assert!(is_fallback(&node), "{node}");
    let health = health(&host);
    assert_eq!(
        (problems(&health), &health["status"], &health["ready"]),
        (vec!["node_name_fallback"], &json!("healthy"), &json!(true))
    );
    let detail = health["problems"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(&node) && detail.contains(&format!("hecate, {with_uid}")), "{detail}");
    let owner = &health["epmd_owners"][0];
    assert_eq!((&owner["uid"], &owner["program"]), (&json!(uid), &json!("epmd")), "{owner}");
    assert_eq!(owner["pid"], json!(epmd.pid()), "{owner}");
    let mut erl = host.erl("visitor");
    erl.pings(&node);

    assert_eq!(daemon.terminate().0.code(), Some(0));
    let daemon = host.daemon(&[]);
    assert_eq!(daemon.ready(), node, "the fallback name is the same at each start");
    assert_eq!(daemon.terminate().0.code(), Some(0));
    // Another user reads this name in EPMD, and registers it too.
    let _too = epmd.register(node.split('@').next().unwrap(), port);
    let daemon = host.daemon(&[]);
    let another = daemon.ready();
    assert!(is_fallback(&another) && another != node, "{another}");
}

#[test]
fn the_daemon_waits_for_an_explicit_name_that_is_in_use() {
    let host = Host::new();
    let _epmd = host.epmd();
    let holder = host.erl("hecate_mine");
    let daemon = host.daemon(&[("HECATE_NODE_NAME", "hecate_mine")]);
    wait_for("the problem is reported", || problems(&health(&host)) == ["node_name_taken"]);
    assert_eq!(health(&host)["ready"], false);
    let unready = host.ask("GET", "/readyz");
    assert_eq!((unready.status, &unready.body["code"]), (503, &json!("node_name_taken")));
    assert_eq!(host.ask("GET", "/livez").status, 200);
    assert_eq!(host.ask("GET", "/api/plugins").status, 200, "HTTP is served");
    assert_eq!(daemon.ready_line(), None);

    holder.kill();
    assert_eq!(daemon.ready(), host.node("hecate_mine"));
    assert_eq!(host.ask("GET", "/readyz").status, 200);
    assert_eq!(daemon.log_lines(&["WARN", "is taken"]).len(), 1, "{}", daemon.log());
}

#[test]
fn a_daemon_that_waits_for_its_name_can_be_stopped() {
    let host = Host::new();
    let _epmd = host.epmd();
    let _holder = host.erl("hecate_mine");
    let daemon = host.daemon(&[("HECATE_NODE_NAME", "hecate_mine")]);
    wait_for("the problem is reported", || problems(&health(&host)) == ["node_name_taken"]);
    let (status, _, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!host.socket().exists() && !host.run_file("daemon.pid").exists());
}

// ---- Other nodes ------------------------------------------------------------------------------

#[test]
fn a_node_named_after_localhost_is_found_by_that_name() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    host.register_named("hecate-traderd");
    let mut plugin = host.erl("hecate_traderd@localhost");
    let us = host.node("hecate");
    plugin.eval_until(&format!("nodes() =:= ['{us}']"), "true", PATIENCE);
    wait_for("the plugin has its node", || host.plugin("hecate-traderd")["node"] == "hecate_traderd@localhost");
    wait_for("the node is connected", || host.peer("hecate_traderd@localhost").as_deref() == Some("connected"));
    plugin.kill();
    host.plugin_until("hecate-traderd", "stopped");
}

#[test]
fn a_wrong_cookie_causes_one_warning_and_is_never_logged() {
    let (host, _epmd, daemon) = Host::running(&[("HECATE_LOG", "trace")]);
    let start = Start { name: Some("hecate_traderd"), cookie: Some("another-cookie"), ..Start::default() };
    let mut stranger = Erl::start(&host, start);
    daemon.logs(&["WARN", &host.node("hecate_traderd"), "cookie"]);
    // A node that started later was dialled, so the stranger would have been dialled again by now.
    let mut friend = host.erl("hecate_marthad");
    let us = host.node("hecate");
    friend.eval_until(&format!("nodes() =:= ['{us}']"), "true", PATIENCE);
    assert_eq!(stranger.eval(&format!("net_adm:ping('{us}')")), "pang");
    assert_eq!(stranger.eval("nodes()"), "[]");
    assert_ne!(host.peer(&host.node("hecate_traderd")).as_deref(), Some("connected"));
    let warnings = daemon.log_lines(&["WARN", "hecate_traderd", "not connected"]);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(!daemon.log().contains(&host.cookie), "the cookie is logged");
}

// ---- Strangers ----------------------------------------------------------------------------------

#[test]
fn idle_connections_do_not_prevent_nodes_from_connecting() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let port = epmd.port_of("hecate");
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let idle: Vec<TcpStream> = (0..=beam::limits::HANDSHAKES).map(|_| connect()).collect();
    let start = Instant::now();
    connects(&host, "visitor");
    assert!(start.elapsed() < beam::limits::HANDSHAKE_TIME, "the idle connections did not time out first");
    drop(idle);
}

#[test]
fn garbage_on_either_port_does_not_harm_the_daemon() {
    let (host, epmd, mut daemon) = Host::running(&[]);
    let port = epmd.port_of("hecate");
    for garbage in garbage() {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        send_garbage(&garbage, &tcp, &tcp);
        let _ = tcp.shutdown(std::net::Shutdown::Both);
        let unix = UnixStream::connect(host.socket()).unwrap();
        unix.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        send_garbage(&garbage, &unix, &unix);
    }
    assert!(daemon.runs());
    connects(&host, "visitor");
    assert_eq!(host.ask("GET", "/readyz").status, 200);
    assert!(daemon.log_lines(&["panic"]).is_empty(), "{}", daemon.log());
}

/// Writes the garbage, and reads the response if there is one.
fn send_garbage(garbage: &[u8], mut to: impl Write, mut from: impl Read) {
    // The daemon may close the connection at once.
    let _ = to.write_all(garbage);
    let _ = from.read(&mut [0; 256]);
}

/// Returns first bytes of other protocols, handshake packets with each tag and odd lengths, and
/// noise.
fn garbage() -> Vec<Vec<u8>> {
    let mut all = vec![
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"SSH-2.0-scan\r\n".to_vec(),
        [0x16, 0x03, 0x01, 0x02, 0x00, 0x01].to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        vec![0, 0],
        vec![0xff, 0xff],
        b"POST /api/plugins/register HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
    ];
    let mut noise: u32 = 0x2545_f491;
    for tag in *b"Nnsrac\0\xff" {
        for length in [1_u16, 2, 16, 300, 1100] {
            let mut packet = length.to_be_bytes().to_vec();
            packet.push(tag);
            for _ in 1..length {
                noise ^= noise << 13;
                noise ^= noise >> 17;
                noise ^= noise << 5;
                packet.push(noise.to_le_bytes()[0]);
            }
            all.push(packet);
        }
    }
    all
}

#[test]
fn a_silent_port_times_out_and_the_next_node_is_dialled() {
    let host = Host::new();
    let epmd = host.epmd();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let _registered = epmd.register("hecate_silentd", silent.local_addr().unwrap().port());
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let (mut dialled, _) = silent.accept().unwrap();
    let mut erl = host.erl("hecate_traderd");
    erl.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    // The daemon closes the silent connection within the time limit of a handshake.
    dialled.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut read = Vec::new();
    dialled.read_to_end(&mut read).unwrap();
    assert_eq!(read.get(2), Some(&b'N'), "the silent port received more than the daemon's name");
}
