//! What needs root: other users on the same host.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it is surprised")]

mod host;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use host::daemon::Daemon;
use host::erl::{Erl, Start};
use host::{Host, PATIENCE};

/// A user that has no account: all that counts is the number.
const STRANGER: u32 = 54_321;

fn as_root() -> Host {
    assert!(rustix::process::getuid().is_root(), "these tests act as several users: run them as root");
    let host = Host::new();
    // The other user's programs start here too.
    fs::set_permissions(host.home(), Permissions::from_mode(0o755)).unwrap();
    host
}

/// A daemon whose socket the modes leave open to everybody, and that lets these users in.
fn open_daemon(host: &Host, allowed: &str) -> Daemon {
    let log = ("HECATE_LOG", "hecate_daemon=debug");
    let modes = [log, ("HECATE_DIR_MODE", "0755"), ("HECATE_SOCKET_MODE", "0666"), ("HECATE_ALLOWED_UIDS", allowed)];
    let daemon = host.daemon(if allowed.is_empty() { &modes[..3] } else { &modes });
    daemon.ready();
    daemon
}

/// Asks by curl as another user; gives status and body.
fn curl_as(uid: u32, host: &Host, arguments: &[&str]) -> (String, String) {
    let id = uid.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "curl", "-s", "-w", "\n%{http_code}"])
        .arg("--unix-socket")
        .arg(host.socket())
        .args(arguments)
        .output()
        .expect("setpriv and curl are installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').expect("curl prints the status");
    (status.to_owned(), body.to_owned())
}

#[test]
fn another_users_node_is_never_dialled() {
    let host = as_root();
    let _epmd = host.epmd();
    // With our cookie: what keeps us from it is its owner alone.
    let start = Start { name: Some("hecate_x"), uid: Some(STRANGER), ..Start::default() };
    let mut foreign = Erl::start(&host, start);
    let daemon = open_daemon(&host, "");
    daemon.logs(&["hecate_x", "foreign_owner"]);
    let mut own = host.erl("hecate_traderd");
    own.eval_until("length(nodes())", "1", PATIENCE);
    assert_eq!(foreign.eval("nodes(connected)"), "[]");
    assert_eq!(host.peer(&host.node("hecate_x")), None);
}

#[test]
fn an_allowed_users_node_is_dialled() {
    let host = as_root();
    let _epmd = host.epmd();
    let start = Start { name: Some("hecate_x"), uid: Some(STRANGER), ..Start::default() };
    let mut allowed = Erl::start(&host, start);
    let _daemon = open_daemon(&host, &STRANGER.to_string());
    allowed.eval_until("nodes()", &format!("[{}]", host.node("hecate")), PATIENCE);
}

#[test]
fn an_unlisted_user_gets_403_on_every_call_and_a_listed_one_its_own_namespace() {
    let host = as_root();
    let _epmd = host.epmd();
    let register = ["-H", "Content-Type: application/json", "-d", "{\"name\":\"hecate-traderd\"}"];
    let daemon = open_daemon(&host, "");
    for path in ["/health", "/livez", "/readyz", "/api/plugins", "/api/cluster", "/nowhere"] {
        let (status, body) = curl_as(STRANGER, &host, &[&format!("http://localhost{path}")]);
        assert_eq!(status, "403", "{path}");
        assert!(body.contains(&STRANGER.to_string()), "it says who is refused: {body}");
    }
    let url = "http://localhost/api/plugins/register";
    let (status, _) = curl_as(STRANGER, &host, &[&register[..], &[url]].concat());
    assert_eq!(status, "403");
    assert!(!host.namespace("hecate-traderd").exists());
    daemon.terminate();

    let _daemon = open_daemon(&host, &STRANGER.to_string());
    let (status, body) = curl_as(STRANGER, &host, &[&register[..], &[url]].concat());
    assert_eq!(status, "201", "{body}");
    for path in ["", "sqlite", "reckon-db", "sockets", "run", "connectors"] {
        let owner = fs::metadata(host.namespace("hecate-traderd").join(path)).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (STRANGER, STRANGER), "{path}");
    }
}
