//! `doctor` with real homes, daemons and EPMDs: it reports each known problem with what to do, and
//! changes nothing.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};
use serde_json::{Value, json};
use support::Host;
use support::daemon::Daemon;
use support::erl::{Erl, Start};

/// The findings of `doctor`.
struct Found {
    code: i32,
    report: Value,
}

impl Found {
    fn of(host: &Host, environment: &[(&str, &str)]) -> Self {
        // Does not listen on other addresses of this machine.
        let environment = [&[("HECATE_LISTEN", "127.0.0.1")], environment].concat();
        let mut command = Daemon::command(host, &environment);
        let output = command.args(["doctor", "--json"]).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains(&host.cookie), "the cookie is shown");
        let report: Value = serde_json::from_str(&text).unwrap();
        let code = output.status.code().unwrap();
        assert_eq!(report["ok"] == true, code == 0, "{report}");
        Self { code, report }
    }

    /// Returns the findings of a check, each as `level: detail; advice`.
    fn about(&self, check: &str) -> Vec<String> {
        let findings = self.report["findings"].as_array().unwrap();
        let line = |finding: &Value| {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            format!("{}: {}; {}", text("level"), text("detail"), text("advice"))
        };
        findings.iter().filter(|finding| finding["check"] == check).map(line).collect()
    }

    /// Returns the checks that failed or warn, except of `HOME`, which is not the account's in
    /// these tests.
    fn problems(&self) -> BTreeSet<&str> {
        let findings = self.report["findings"].as_array().unwrap();
        let problems = findings.iter().filter(|finding| finding["level"] != "ok" && finding["check"] != "HOME");
        problems.map(|finding| finding["check"].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn has(&self, check: &str, level: &str, words: &[&str]) {
        let lines = self.about(check);
        let found = lines.iter().any(|line| line.starts_with(level) && words.iter().all(|word| line.contains(word)));
        assert!(found, "no {level} with {words:?} about {check}: {:#}", self.report);
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_host_has_no_errors_and_stays_unchanged() {
    let host = Host::new();
    let before = entries(host.home());
    let found = Found::of(&host, &[("HECATE_COOKIE", "")]);
    assert_eq!(found.code, 0);
    found.has("configuration", "ok", &[]);
    found.has("home", "ok", &["does not exist yet"]);
    found.has("cookie", "ok", &["none yet", ".erlang.cookie"]);
    found.has("socket", "warn", &["no daemon runs", "start one with `hecate-daemon`"]);
    found.has("epmd", "ok", &["no EPMD answers"]);
    found.has("port", "ok", &["is free"]);
    assert_eq!(entries(host.home()), before, "doctor creates nothing");
}

#[test]
fn a_running_daemon_has_no_problems() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[("HECATE_LISTEN", "127.0.0.1")]);
    let node = daemon.ready();
    let found = Found::of(&host, &[]);
    assert_eq!(found.code, 0, "{:#}", found.report);
    found.has("socket", "ok", &["a daemon answers"]);
    found.has("daemon", "ok", &["healthy", "ready", &node]);
    found.has("home", "ok", &["7 directories"]);
    found.has("files", "ok", &[&daemon.id().to_string()]);
    found.has("cookie", "ok", &["HECATE_COOKIE"]);
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    found.has("epmd", "ok", &["answers", "hecate at", &uid]);
    found.has("name", "ok", &[&node, "registered"]);
    found.has("port", "ok", &["accepts connections"]);

    let mut command = Daemon::command(&host, &[]);
    let output = command.arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().last().unwrap().starts_with("verdict: "), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour where no terminal reads");
    assert_eq!(output.status.code(), Some(0));
    // The lock was left alone: the daemon serves on, and a second is still refused.
    assert_eq!(host.daemon(&[]).ended(), Some(1));
}

#[test]
fn files_that_a_running_daemon_lost_are_reported() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let pid = daemon.id().to_string();
    // Stopped, so that it makes no file again.
    daemon.stop();
    let only_files = |words: &[&str]| {
        let found = Found::of(&host, &[]);
        found.has("files", "fail", words);
        assert_eq!(found.problems(), BTreeSet::from(["files"]), "{:#}", found.report);
        assert_eq!(found.code, 1);
        found
    };
    let socket = host.socket();
    let shown = socket.to_str().unwrap();
    fs::remove_file(&socket).unwrap();
    let found = only_files(&[&pid, "no socket", shown, "HECATE_SOCKET_PATH"]);
    assert_eq!(found.about("files").len(), 1, "{:#}", found.report);

    // A socket on which nothing has listened, and a file.
    let dead = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    net::bind(&dead, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
    only_files(&[&pid, shown, "is not the socket of process", "remove the file"]);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "another's").unwrap();
    only_files(&[&pid, shown, "is not the socket of process", "remove the file"]);
    fs::remove_file(&socket).unwrap();

    let other = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || other.incoming().for_each(drop));
    let other = std::process::id().to_string();
    only_files(&[&other, "answers at", &format!("process {pid} serves this home")]);
    fs::remove_file(&socket).unwrap();

    let database = support::database::path(&host);
    fs::rename(&database, host.home().join("moved")).unwrap();
    only_files(&["database", database.to_str().unwrap(), "was removed"]);
    fs::write(&database, "another's").unwrap();
    only_files(&["another file is at", database.to_str().unwrap()]);
    fs::remove_file(database.with_file_name("plugins.db-wal")).unwrap();
    let found = only_files(&["another file is at", database.to_str().unwrap()]);
    assert!(
        !found.report.to_string().contains("write-ahead log"),
        "it follows from the other file: {:#}",
        found.report
    );
    fs::rename(host.home().join("moved"), &database).unwrap();
    only_files(&["write-ahead log", "was removed"]);

    fs::remove_dir_all(host.home().join(".hecate")).unwrap();
    only_files(&[&pid, "is gone from"]);
    fs::create_dir(host.home().join(".hecate")).unwrap();
    only_files(&[&pid, "is gone from"]);
}

/// The daemon itself reports `store_failed` after a request that it refused.
#[test]
fn a_foreign_database_is_reported_once() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let database = support::database::path(&host);
    fs::rename(&database, host.home().join("moved")).unwrap();
    fs::write(&database, "another's").unwrap();
    assert_eq!(host.register(&json!({"name": "hecate-oned"})).body["code"], "store_failed");
    support::wait_for("the daemon reports it", || {
        host.ask("GET", "/health").body["problems"].to_string().contains("store_failed")
    });
    let found = Found::of(&host, &[]);
    found.has("files", "fail", &["another file is at", database.to_str().unwrap()]);
    assert_eq!((found.problems(), found.code), (BTreeSet::from(["files"]), 1), "{:#}", found.report);
}

#[test]
fn files_that_a_crash_left_are_reported_and_kept() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let pid = fs::read_to_string(host.run_file("daemon.pid")).unwrap();
    daemon.kill();
    let found = Found::of(&host, &[]);
    assert_eq!(found.code, 0, "a start puts it right");
    found.has("socket", "warn", &["one that crashed", "replaces it"]);
    found.has("lock", "warn", &[&pid, "removes the file"]);
    assert!(host.socket().exists() && host.run_file("daemon.pid").exists());
}

#[test]
fn a_daemon_that_serves_another_socket_is_reported() {
    let host = Host::new();
    let elsewhere = host.home().join("other.sock");
    let daemon = host.daemon(&[("HECATE_SOCKET_PATH", elsewhere.to_str().unwrap())]);
    daemon.ready();
    let found = Found::of(&host, &[]);
    assert_eq!(found.code, 1);
    let pid = fs::read_to_string(host.run_file("daemon.pid")).unwrap();
    found.has("files", "fail", &[&format!("process {pid} serves this home"), "HECATE_SOCKET_PATH"]);
}

#[test]
fn a_daemon_that_is_not_ready_reports_why() {
    let host = Host::new();
    let epmd = host.epmd();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let _taken = epmd.register("hecate_mine", other.local_addr().unwrap().port());
    let named = [("HECATE_NODE_NAME", "hecate_mine")];
    let before = Found::of(&host, &named);
    assert_eq!(before.code, 1);
    before.has("name", "fail", &["is in use", "HECATE_NODE_NAME"]);
    let by_default = Found::of(&host, &[]);
    by_default.has("name", "ok", &["is free"]);

    let _daemon = host.daemon(&named);
    support::wait_for("the reason is known", || {
        host.socket().exists() && host.ask("GET", "/health").body["problems"] != serde_json::json!([])
    });
    let found = Found::of(&host, &named);
    assert_eq!(found.code, 1);
    found.has("daemon", "fail", &["node_name_taken", "is in use"]);
    assert_eq!(found.about("daemon").len(), 1, "reported once: {:#}", found.report);
}

#[test]
fn a_taken_default_name_is_a_warning() {
    let host = Host::new();
    let epmd = host.epmd();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let _taken = epmd.register("hecate", other.local_addr().unwrap().port());
    let found = Found::of(&host, &[]);
    assert_eq!(found.code, 0);
    let expected = format!("hecate_{}", rustix::process::getuid().as_raw());
    found.has("name", "warn", &["is in use", &expected]);
}

#[test]
fn unusable_homes_are_reported() {
    let host = Host::new();
    let own = host.namespace("hecate-daemon");
    fs::create_dir_all(own.join("run")).unwrap();
    symlink("/tmp", host.namespace("hecate-traderd")).unwrap();
    fs::write(own.join("sqlite"), "").unwrap();
    fs::create_dir(own.join("connectors")).unwrap();
    fs::set_permissions(own.join("connectors"), Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(own.join("run"), Permissions::from_mode(0o777)).unwrap();
    let found = Found::of(&host, &[]);
    assert_eq!(found.code, 1);
    found.has("home", "fail", &["hecate-traderd is a symbolic link"]);
    found.has("home", "fail", &["sqlite is not a directory", "move it away"]);
    found.has("home", "fail", &["connectors has mode 0500", "chmod u+rwx"]);
    found.has("home", "warn", &["run has mode 0777", "chmod o-w"]);

    for (home, words) in [("/", "not a home directory"), ("", "HOME is not set")] {
        let found = Found::of(&host, &[("HOME", home)]);
        assert_eq!(found.code, 1);
        found.has("home", "fail", &[words]);
        assert!(found.about("socket-path").is_empty(), "one mistake is reported once: {:#}", found.report);
    }
    found.has("HOME", "warn", &["the account's home is"]);
}

#[test]
fn unusable_sockets_are_reported() {
    let host = Host::new();
    let place = host.home().join("place.sock");
    let at = |path: &Path| Found::of(&host, &[("HECATE_SOCKET_PATH", path.to_str().unwrap())]);
    fs::write(&place, "").unwrap();
    let found = at(&place);
    assert_eq!(found.code, 1);
    found.has("socket", "fail", &["is not a socket", "move it away"]);
    let found = at(&host.home().join("x".repeat(108)));
    assert_eq!(found.code, 1);
    found.has("socket", "fail", &["bytes", "choose a shorter home"]);
    // A process that answers, but not as a daemon.
    fs::remove_file(&place).unwrap();
    let listener = UnixListener::bind(&place).unwrap();
    let other = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(b"SSH-2.0-x\r\n").unwrap();
    });
    let found = at(&place);
    assert_eq!(found.code, 1);
    found.has("socket", "fail", &["does not answer in HTTP"]);
    other.join().unwrap();
}

#[test]
fn unusable_cookies_are_reported() {
    let host = Host::new();
    let found = Found::of(&host, &[("HECATE_ERLANG_COOKIE", "another")]);
    assert_eq!(found.code, 1);
    found.has("cookie", "fail", &["HECATE_ERLANG_COOKIE and HECATE_COOKIE", "set only one of them"]);

    let path = host.home().join(".erlang.cookie");
    fs::write(&path, &host.cookie).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let from_file = [("HECATE_COOKIE", "")];
    let found = Found::of(&host, &from_file);
    assert_eq!(found.code, 1);
    found.has("cookie", "fail", &["0644", "chmod 400"]);
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    Found::of(&host, &from_file).has("cookie", "ok", &[path.to_str().unwrap(), "0400"]);

    let file = host.home().join("sys.config");
    fs::write(&file, format!("[{{hecate, [{{cookie, '{}'}}, {{dirmode, 7}}]}}].", host.cookie)).unwrap();
    let found = Found::of(&host, &[("HECATE_COOKIE", ""), ("HECATE_CONFIG", file.to_str().unwrap())]);
    found.has("cookie", "warn", &["sys.config contains the cookie", "chmod 600"]);
    found.has("configuration", "warn", &["did you mean `dir_mode`?"]);
    let found = Found::of(&host, &[("HECATE_CONFIG", "/does/not/exist")]);
    assert_eq!(found.code, 1);
    found.has("configuration", "fail", &["cannot read /does/not/exist"]);
}

#[test]
fn unusable_ports_are_reported() {
    let host = Host::new();
    // Somebody else has EPMD's port, and closes at once.
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, host.epmd_port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = other.accept() {
            drop(stream);
        }
    });
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let found = Found::of(&host, &[("ERL_DIST_PORT", &port)]);
    assert_eq!(found.code, 1);
    found.has("epmd", "fail", &["does not speak the EPMD protocol", "ERL_EPMD_PORT"]);
    found.has("port", "fail", &[&port, "is in use", "ERL_DIST_PORT"]);
    let found = Found::of(&host, &[("HECATE_LISTEN", "192.0.2.1")]);
    found.has("port", "fail", &["192.0.2.1 does not belong to this host", "HECATE_LISTEN"]);
}

#[test]
fn names_and_peers_are_checked() {
    let host = Host::new();
    let epmd = host.epmd();
    let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let _up = epmd.register("peer", peer.local_addr().unwrap().port());
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let _gone = epmd.register("gone", gone);
    let peers = "peer@localhost,unknown@localhost,gone@localhost,long@host.example,x@no-such-host-anywhere";
    let found = Found::of(&host, &[("HECATE_CLUSTER_PEERS", peers), ("HECATE_HOSTNAME", "no-such-host-anywhere")]);
    let dns = |name| Found::of(&host, &[("HECATE_CLUSTER_DNS", name)]);
    dns("localhost").has("dns", "ok", &["localhost means", "hecate@127.0.0.1"]);
    dns("no-such-host-anywhere").has("dns", "warn", &["no-such-host-anywhere has no address"]);
    assert_eq!(found.code, 1);
    found.has("names", "warn", &["no-such-host-anywhere does not resolve", "HECATE_HOSTNAME"]);
    dns("localhost").has("peers", "ok", &["none in the settings of this shell"]);
    found.has("peers", "ok", &["peer@localhost accepts connections"]);
    found.has("peers", "warn", &["unknown@localhost", "is not registered"]);
    found.has("peers", "warn", &["gone@localhost", "does not accept connections"]);
    found.has("peers", "warn", &["x@no-such-host-anywhere", "does not resolve"]);
    found.has("peers", "fail", &["long@host.example", "one name is short"]);
}

/// All nodes have the same wrong cookie, which is one cause.
#[test]
fn stopped_plugins_and_unconnected_nodes_are_reported() {
    let (host, _epmd, _daemon) = Host::running(&[("HECATE_REGISTRATION_GRACE", "1")]);
    let names = ["hecate_oned", "hecate_twod"];
    let start =
        |name| Erl::start(&host, Start { name: Some(name), cookie: Some("of-the-release"), ..Start::default() });
    let _nodes = names.map(start);
    // The node of the second is known by its name.
    for (name, node) in [(names[0], Some(host.node(names[0]))), (names[1], None)] {
        let registered = host.register(&json!({"name": name.replace('_', "-"), "node": node}));
        assert_eq!(registered.status, 201);
    }
    host.register(&json!({"name": "hecate-goned"}));
    host.plugin_until("hecate-goned", "stopped");
    for name in names {
        let plugin = name.replace('_', "-");
        support::wait_for("the failure is known", || host.plugin(&plugin)["node_failure"] == "cookie_mismatch");
    }
    let found = Found::of(&host, &[]);
    assert_eq!(found.code, 1);
    let hash = host.ask("GET", "/api/cluster").body["cookie_hash"].as_str().expect("a hash").to_owned();
    let (one, two) = (host.node(names[0]), host.node(names[1]));
    let of_two = format!("{two} of hecate-twod");
    found.has("nodes", "fail", &["2 nodes", "cookie_mismatch", &one, &of_two, &hash, &format!("diagnose {one}")]);
    assert_eq!(found.about("nodes").len(), 1, "one cause is reported once: {:#}", found.report);
    found.has("plugins", "warn", &["hecate-goned (no sign of life", "deregister"]);
    assert_eq!(found.about("plugins").len(), 1, "{:#}", found.report);
    assert!(!found.report.to_string().contains("plugin_node_not_connected"), "{:#}", found.report);

    // This command has another cookie than the daemon, which explains all failures.
    let found = Found::of(&host, &[("HECATE_COOKIE", "another")]);
    found.has("cookie", "fail", &["HECATE_COOKIE", &hash, "restart"]);
    assert!(!found.report.to_string().contains("cookie_mismatch"), "{:#}", found.report);
}

#[test]
fn a_database_of_a_newer_release_is_reported_as_by_the_daemon() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    daemon.terminate();
    let database = rusqlite::Connection::open(support::database::path(&host)).unwrap();
    database.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(database);
    let found = Found::of(&host, &[]);
    assert_eq!(found.code, 1);
    let message = "plugins.db has schema version 99, but this release supports only versions up to";
    found.has("database", "fail", &[message]);
    let mut refused = host.daemon(&[]);
    assert_eq!(refused.ended(), Some(1));
    refused.logs(&["ERROR", message]);
    assert!(refused.log_lines(&["INFO", "stopped"]).is_empty(), "{}", refused.log());
}

#[test]
fn a_misspelled_variable_is_reported() {
    let host = Host::new();
    let found = Found::of(&host, &[("HECATE_CLUSTER_PERS", "beam01")]);
    found.has("configuration", "warn", &["unknown variable 'HECATE_CLUSTER_PERS'; did you mean HECATE_CLUSTER_PEERS?"]);
    let daemon = host.daemon(&[("HECATE_CLUSTER_PERS", "beam01")]);
    daemon.logs(&["WARN", "did you mean HECATE_CLUSTER_PEERS?"]);
}

#[test]
fn a_cookie_file_that_changed_after_the_start_is_reported() {
    let host = Host::new();
    let path = host.home().join(".erlang.cookie");
    let write = |cookie: &str| {
        let _ = fs::remove_file(&path);
        fs::write(&path, cookie).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    };
    write(&host.cookie);
    let from_file = [("HECATE_COOKIE", "")];
    let daemon = host.daemon(&from_file);
    daemon.ready();
    let shown = path.to_str().unwrap();
    Found::of(&host, &from_file).has("cookie", "ok", &[shown, "0400"]);
    write("another");
    let found = Found::of(&host, &from_file);
    assert_eq!((found.code, found.about("cookie").len()), (1, 1));
    found.has("cookie", "fail", &[shown, "has changed", "restart the daemon"]);
    fs::remove_file(&path).unwrap();
    let found = Found::of(&host, &from_file);
    assert_eq!((found.code, found.about("cookie").len()), (1, 1));
    found.has("cookie", "fail", &[shown, "was removed", "restore the file"]);
    assert!(!path.exists(), "doctor creates nothing");
}

#[test]
fn removed_directories_of_a_plugin_are_reported() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let names = ["hecate-oned", "hecate-twod"];
    for name in names {
        assert_eq!(host.register(&json!({"name": name, "version": "1.2.3"})).status, 201);
    }
    assert_eq!(Found::of(&host, &[]).about("directories"), Vec::<String>::new());
    let [one, two] = names.map(|name| host.namespace(name));
    fs::remove_dir(one.join("run")).unwrap();
    let found = Found::of(&host, &[]);
    let run = one.join("run");
    found.has("directories", "fail", &["a directory", run.to_str().unwrap(), "`hecate-daemon register hecate-oned`"]);
    fs::remove_dir_all(&two).unwrap();
    let found = Found::of(&host, &[]);
    assert_eq!((found.code, found.about("directories").len()), (1, 1), "{:#}", found.report);
    found.has("directories", "fail", &["2 registered plugins", run.to_str().unwrap(), two.to_str().unwrap()]);
    // The command that it names repairs it, and changes nothing else.
    for name in names {
        assert!(Daemon::command(&host, &[]).args(["register", name]).output().unwrap().status.success());
        assert_eq!(host.plugin(name)["version"], "1.2.3");
    }
    assert_eq!(Found::of(&host, &[]).about("directories"), Vec::<String>::new());
    assert!(run.is_dir() && two.join("sqlite").is_dir());
}

#[test]
fn a_node_that_is_not_registered_in_epmd_is_reported() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let node = host.node("hecate_oned");
    host.register(&json!({"name": "hecate-oned", "node": node}));
    support::wait_for("EPMD does not know it", || host.plugin("hecate-oned")["node_failure"] == "not_registered");
    let found = Found::of(&host, &[]);
    found.has("nodes", "warn", &["1 node", "not_registered", &node]);
}
