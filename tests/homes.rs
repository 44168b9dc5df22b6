//! Invalid homes: links and files in place of directories, paths that are too long, a `HOME` that
//! is not a directory, a socket of another process. The real daemon names each in its refusal, and
//! changes nothing else. Tests that need other users or mounts are in `system.rs`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use hecate_daemon::limits;
use serde_json::json;
use support::daemon::Daemon;
use support::{Host, http};

const SUBDIRECTORIES: [&str; 5] = ["sqlite", "reckon-db", "sockets", "run", "connectors"];

/// Returns a namespace, and the directories in it.
fn places(base: &Path) -> Vec<PathBuf> {
    std::iter::once(base.to_owned()).chain(SUBDIRECTORIES.iter().map(|name| base.join(name))).collect()
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Checks that the daemon does not start, and that an error contains all these words.
fn refused(host: &Host, environment: &[(&str, &str)], code: i32, words: &[&str]) -> Daemon {
    let mut daemon = host.daemon(environment);
    assert_eq!(daemon.ended(), Some(code));
    daemon.logs(words);
    assert_eq!(daemon.ready_line(), None);
    daemon
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

type Obstacle = (fn(&Host, &Path), &'static str);

const OBSTACLES: [Obstacle; 3] = [
    (|host, place| symlink(outside(host), place).unwrap(), "is a symbolic link"),
    (|_, place| symlink("nowhere", place).unwrap(), "is a symbolic link"),
    (|_, place| std::fs::write(place, "precious").unwrap(), "is not a directory"),
];

/// Creates the target of the links, where nothing may be written.
fn outside(host: &Host) -> PathBuf {
    let outside = host.home().join("outside");
    for directory in SUBDIRECTORIES {
        std::fs::create_dir_all(outside.join(directory)).unwrap();
    }
    outside
}

fn check_outside(host: &Host) {
    let outside = outside(host);
    assert_eq!(entries(&outside), SUBDIRECTORIES.len());
    for directory in SUBDIRECTORIES {
        assert_eq!(entries(&outside.join(directory)), 0, "{directory}: a link was followed");
    }
}

#[test]
fn links_and_files_in_the_daemons_namespace_are_refused() {
    for (plant, words) in OBSTACLES {
        for index in 0..=SUBDIRECTORIES.len() {
            let host = Host::new();
            let place = places(&host.namespace("hecate-daemon")).remove(index);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            plant(&host, &place);
            let before = std::fs::symlink_metadata(&place).unwrap().ino();
            refused(&host, &[], 1, &["ERROR", &format!("{} {words}", place.display())]);
            assert_eq!(std::fs::symlink_metadata(&place).unwrap().ino(), before, "the file was replaced");
            check_outside(&host);
        }
    }
}

#[test]
fn links_and_files_in_a_plugins_namespace_are_refused() {
    let host = Host::new();
    let mut daemon = host.daemon(&[]);
    daemon.ready();
    let base = host.namespace("hecate-traderd");
    for (plant, words) in OBSTACLES {
        for place in places(&base) {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            plant(&host, &place);
            let answer = host.register(&json!({"name": "hecate-traderd"}));
            assert_eq!((answer.status, &answer.body["code"]), (500, &json!("layout_failed")), "{answer:?}");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("{} {words}", place.display())), "{detail}");
            assert_eq!(host.ask("GET", "/api/plugins").body, json!([]));
            check_outside(&host);
            std::fs::remove_file(&place).unwrap();
            let _ = std::fs::remove_dir_all(&base);
        }
    }
    host.register_named("hecate-traderd");
    // Links are refused in the namespace of a registered plugin as well: for its socket, and when
    // it registers again.
    let listener = UnixListener::bind(host.home().join("other.sock")).unwrap();
    symlink(host.home().join("other.sock"), base.join("sockets/api.sock")).unwrap();
    daemon.kill();
    daemon = host.daemon(&[]);
    daemon.ready();
    let plugin = host.plugin("hecate-traderd");
    assert_eq!(
        (&plugin["status"], plugin["reason"].as_str().unwrap().contains("not a socket")),
        (&json!("stopped"), true)
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the target of the link was dialled");
    assert!(base.join("sockets/api.sock").is_symlink(), "the link was removed");
    std::fs::remove_dir_all(base.join("run")).unwrap();
    symlink(outside(&host), base.join("run")).unwrap();
    assert_eq!(host.register(&json!({"name": "hecate-traderd"})).body["code"], "layout_failed");
    check_outside(&host);
    assert!(daemon.runs());
}

#[test]
fn links_in_place_of_the_daemons_files_are_not_followed() {
    let target = |host: &Host| {
        let target = host.home().join("target");
        std::fs::write(&target, "precious").unwrap();
        target
    };
    // A file that the daemon rewrites replaces a link, and the target stays.
    let host = Host::new();
    std::fs::create_dir_all(host.run_file("")).unwrap();
    for name in ["daemon.pid", "daemon.state", ".daemon.pid.new", ".daemon.state.new"] {
        symlink(target(&host), host.run_file(name)).unwrap();
    }
    let daemon = host.daemon(&[]);
    daemon.ready();
    assert!(!host.run_file("daemon.pid").is_symlink() && !host.run_file("daemon.state").is_symlink());
    daemon.terminate();
    assert_eq!(std::fs::read_to_string(host.home().join("target")).unwrap(), "precious");

    // A link in place of a file that the daemon opens is refused.
    for (directory, name) in [
        ("sockets", "api.sock"),
        ("sockets", ".api.new"),
        ("sqlite", "plugins.db"),
        ("sqlite", "plugins.db-wal"),
        ("sqlite", "plugins.db-shm"),
        ("sqlite", "plugins.db-journal"),
    ] {
        let host = Host::new();
        let place = host.namespace("hecate-daemon").join(directory).join(name);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(target(&host), &place).unwrap();
        refused(&host, &[], 1, &["ERROR", text(&place)]);
        assert_eq!(std::fs::read_to_string(host.home().join("target")).unwrap(), "precious", "{name}");
        assert!(place.is_symlink());
    }
}

#[test]
fn an_invalid_home_is_refused() {
    let host = Host::new();
    let file = host.home().join("file");
    std::fs::write(&file, "precious").unwrap();
    refused(&host, &[("HECATE_HOME", text(&file))], 1, &["ERROR", text(&file), "is not a directory"]);
    let below = file.join("home");
    refused(&host, &[("HECATE_HOME", text(&below))], 1, &["ERROR", text(&below)]);
    for home in ["/", "relative", "/nowhere/at/all"] {
        refused(&host, &[("HOME", home)], 2, &[&format!("HOME is {home:?}"), "set HOME"]);
    }
    refused(&host, &[("HECATE_HOME", "/")], 2, &["HECATE_HOME", "a directory below `/`"]);
    // Without the variable, instead of an empty one.
    let mut daemon = Daemon::start_as(&host, &[&support::program("env"), "-u", "HOME"], &[]);
    assert_eq!(daemon.ended(), Some(2));
    daemon.logs(&["HOME is not set", "HECATE_HOME"]);
    assert_eq!(entries(host.home()), 2, "only the file and the empty directory of programs");
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_refused() {
    let host = Host::new();
    // As deep as the daemon's own socket allows, so a plugin with a longer name than the daemon's
    // does not fit.
    let tail = "/hecate-daemon/sockets/api.sock".len();
    let deep = limits::SUN_PATH - tail - host.home().as_os_str().len() - 1;
    let home = host.home().join("x".repeat(deep));
    let socket = home.join("hecate-daemon/sockets/api.sock");
    let daemon = host.daemon(&[("HECATE_HOME", text(&home))]);
    daemon.ready();
    let register = |name: &str| {
        http::ask(&socket, "POST", "/api/plugins/register", Some(&json!({ "name": name }))).expect("an answer")
    };
    assert_eq!(register("hecate-traded").status, 201);
    let answer = register("hecate-traderxd");
    assert_eq!((answer.status, &answer.body["code"]), (422, &json!("socket_path_too_long")), "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    let path = home.join("hecate-traderxd/sockets/api.sock");
    assert!(detail.contains(text(&path)) && detail.contains("109 bytes") && detail.contains("107"), "{detail}");
    assert!(!home.join("hecate-traderxd").exists(), "a directory was created");
    daemon.terminate();

    let deeper = host.home().join("x".repeat(deep + 1));
    let socket = deeper.join("hecate-daemon/sockets/api.sock");
    refused(&host, &[("HECATE_HOME", text(&deeper))], 1, &["ERROR", text(&socket), "108 bytes", "HECATE_SOCKET_PATH"]);
    // A directory as the message recommends.
    let short = host.home().join("api.sock");
    let daemon = host.daemon(&[("HECATE_HOME", text(&deeper)), ("HECATE_SOCKET_PATH", text(&short))]);
    daemon.ready();
    assert_eq!(http::ask(&short, "GET", "/readyz", None).unwrap().status, 200);
}

// ---- Other processes --------------------------------------------------------------------------

#[test]
fn a_socket_of_another_process_is_not_taken_over() {
    let host = Host::new();
    std::fs::create_dir_all(host.socket().parent().unwrap()).unwrap();
    let foreign = UnixListener::bind(host.socket()).unwrap();
    let inode = std::fs::metadata(host.socket()).unwrap().ino();
    refused(&host, &[], 1, &["ERROR", "another process listens on", text(&host.socket())]);
    assert_eq!(std::fs::metadata(host.socket()).unwrap().ino(), inode);
    assert_eq!(entries(&host.run_file("")), 0, "run files are left, which would look like a crash");
    // The other process still serves.
    let mut client = UnixStream::connect(host.socket()).unwrap();
    client.write_all(b"x").unwrap();
    let (_dial, _) = foreign.accept().unwrap();
    let (mut served, _) = foreign.accept().unwrap();
    served.read_exact(&mut [0]).unwrap();

    drop(foreign);
    let daemon = host.daemon(&[]);
    daemon.ready();
    assert_ne!(std::fs::metadata(host.socket()).unwrap().ino(), inode, "a stale socket must be replaced");
    assert_eq!(host.ask("GET", "/readyz").status, 200);
}

#[test]
fn a_pid_file_without_a_lock_does_not_prevent_a_start() {
    let host = Host::new();
    std::fs::create_dir_all(host.run_file("")).unwrap();
    // The pid of a living process, as after a reboot, a text that is not a pid, and a number that
    // is too long for a pid.
    for pid in [std::process::id().to_string(), "no pid".to_owned(), "9".repeat(100)] {
        std::fs::write(host.run_file("daemon.pid"), pid).unwrap();
        let daemon = host.daemon(&[]);
        daemon.ready();
        let written = std::fs::read_to_string(host.run_file("daemon.pid")).unwrap();
        assert_eq!(written, daemon.id().to_string());
        assert_eq!(daemon.terminate().0.code(), Some(0));
    }
}
