//! What plugins do: bind a socket, register, leave things behind. And sockets in every state that one can be in.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::Host;
use super::erl::Erl;

/// The plugin of most tests.
pub const TRADER: &str = "hecate-traderd";

impl Host {
    /// The `api.sock` of a plugin.
    pub fn api_sock(&self, name: &str) -> PathBuf {
        self.namespace(name).join("sockets/api.sock")
    }

    /// Registers a plugin that never shows a sign of life, and waits until it is stopped for that: what was registered
    /// before it, with the same grace period, has by then been judged by more than its registration.
    pub fn grace_passes(&self) -> Value {
        let name = "hecate-silentd";
        self.register_named(name);
        let stopped = self.plugin_until(name, "stopped");
        assert_eq!(self.ask("DELETE", &format!("/api/plugins/{name}")).status, 200);
        stopped
    }

    /// Registers a plugin by a script, which has ended when this returns.
    pub fn register_by_script(&self, name: &str) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", "--output", "/dev/null"]);
        curl.arg("--unix-socket").arg(self.socket()).args(["--header", "Content-Type: application/json"]);
        curl.args(["--data", &json!({"name": name}).to_string(), "http://localhost/api/plugins/register"]);
        let status = curl.status().expect("install curl (Debian: apt-get install curl)");
        assert!(status.success(), "{status}");
    }
}

impl Erl {
    /// Binds a socket and listens.
    pub fn binds(&mut self, path: &Path) {
        let listen = format!(
            r#"{{ok, Listener}} = gen_tcp:listen(0, [{{ifaddr, {{local, "{}"}}}}]), put(listener, Listener), ok"#,
            path.display()
        );
        assert_eq!(self.eval(&listen), "ok");
    }

    /// Registers a plugin over the daemon's socket, as this process.
    pub fn registers(&mut self, host: &Host, name: &str) {
        self.registers_as(host, &json!({ "name": name }));
    }

    /// Registers what is said of a plugin over the daemon's socket, as this process.
    pub fn registers_as(&mut self, host: &Host, body: &Value) {
        let body = body.to_string();
        let request = format!(
            "POST /api/plugins/register HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let bytes: Vec<String> = request.bytes().map(|byte| byte.to_string()).collect();
        let ask = format!(
            r#"{{ok, Client}} = gen_tcp:connect({{local, "{}"}}, 0, [binary, {{active, false}}]),
               ok = gen_tcp:send(Client, [{}]), {{ok, <<"HTTP/1.1 ", Status:3/binary, _/binary>>}} = gen_tcp:recv(Client, 0),
               gen_tcp:close(Client), binary_to_integer(Status)"#,
            host.socket().display(),
            bytes.join(",")
        );
        assert_eq!(self.eval(&ask), "201");
    }

    /// Writes the run files of a plugin: the pid as this process counts it.
    pub fn writes_run_files(&mut self, run: &Path) {
        let write = format!(
            r#"[ok, ok] = [file:write_file("{run}/daemon.pid", os:getpid()), file:write_file("{run}/daemon.state", "running")],
               ok"#,
            run = run.display()
        );
        assert_eq!(self.eval(&write), "ok");
    }
}

/// A socket between `bind` and `listen`: it refuses, as a dead one does.
pub fn bound(path: &Path) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

/// `listen`.
pub fn listen(socket: &OwnedFd) {
    rustix::net::listen(socket, 4).unwrap();
}

/// A socket that nobody listens on any more.
pub fn dead(path: &Path) {
    drop(bound(path));
}

/// A living socket that takes nobody: its backlog is full. All of it lives as long as the value.
pub fn full(path: &Path) -> Vec<OwnedFd> {
    let listener = bound(path);
    rustix::net::listen(&listener, 0).unwrap();
    let mut all = vec![listener];
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match rustix::net::connect(&client, &SocketAddrUnix::new(path).unwrap()) {
            Ok(()) => all.push(client),
            Err(Errno::AGAIN) => return all,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// Which file it is.
pub fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

/// Everything below a directory: each path with what must not change of it.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() {
            String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
        } else if metadata.is_symlink() {
            std::fs::read_link(&path).unwrap().display().to_string()
        } else {
            String::new()
        };
        if metadata.is_dir() {
            ahead.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let what = format!("{} {:o} {} {content}", metadata.ino(), metadata.mode(), metadata.uid());
        found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
    }
    found
}
