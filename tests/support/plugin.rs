//! The actions of plugins: bind a socket, register, write run files. Also sockets in each state.

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
    /// Returns the path of a plugin's `api.sock`.
    pub fn api_sock(&self, name: &str) -> PathBuf {
        self.namespace(name).join("sockets/api.sock")
    }

    /// Registers a plugin that never serves its socket, and waits until it is stopped. The grace
    /// period of each plugin that was registered before has then passed too.
    pub fn grace_passes(&self) -> Value {
        let name = "hecate-silentd";
        self.register_named(name);
        let stopped = self.plugin_until(name, "stopped");
        assert_eq!(self.ask("DELETE", &format!("/api/plugins/{name}")).status, 200);
        stopped
    }

    /// Registers a plugin from a script, which has ended when this returns.
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
    /// Binds a socket and listens on it.
    pub fn binds(&mut self, path: &Path) {
        let listen = format!(
            r#"{{ok, Listener}} = gen_tcp:listen(0, [{{ifaddr, {{local, "{}"}}}}]), put(listener, Listener), ok"#,
            path.display()
        );
        assert_eq!(self.eval(&listen), "ok");
    }

    /// Registers a plugin on the daemon's socket, from the node's operating system process.
    pub fn registers(&mut self, host: &Host, name: &str) {
        self.registers_as(host, &json!({ "name": name }));
    }

    /// Registers a plugin with this body, from the node's operating system process.
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

    /// Writes a plugin's run files, with the pid that the node itself sees.
    pub fn writes_run_files(&mut self, run: &Path) {
        let write = format!(
            r#"[ok, ok] = [file:write_file("{run}/daemon.pid", os:getpid()), file:write_file("{run}/daemon.state", "running")],
               ok"#,
            run = run.display()
        );
        assert_eq!(self.eval(&write), "ok");
    }
}

/// Binds a socket without listening: it refuses connections, like a dead socket.
pub fn bound(path: &Path) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

pub fn listen(socket: &OwnedFd) {
    rustix::net::listen(socket, 4).unwrap();
}

/// Makes a dead socket: a file without a listener.
pub fn dead(path: &Path) {
    drop(bound(path));
}

/// Makes a socket whose backlog is full, so that it accepts no further client. All sockets are
/// closed when the value is dropped.
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

/// Returns the inode of a file.
pub fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

/// Returns each path below a directory, with its inode, mode, owner and content.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut remaining = vec![root.to_owned()];
    while let Some(path) = remaining.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() {
            String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
        } else if metadata.is_symlink() {
            std::fs::read_link(&path).unwrap().display().to_string()
        } else {
            String::new()
        };
        if metadata.is_dir() {
            remaining.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let what = format!("{} {:o} {} {content}", metadata.ino(), metadata.mode(), metadata.uid());
        found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
    }
    found
}
