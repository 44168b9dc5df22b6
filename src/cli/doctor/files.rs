//! `doctor`'s check of a running daemon's files: whether those that it has open are the ones at
//! their paths.

use std::io;
use std::path::Path;

use tokio::net::UnixStream;

use super::report::Report;
use crate::config::Locations;
use crate::files::{self, Sight};
use crate::layout::Holder;

/// A running daemon that serves this home.
#[derive(Debug, Clone, Copy)]
pub(super) struct Serving {
    pub pid: i32,
    /// Whether a finding explains why clients cannot reach it at the socket.
    pub is_unreachable: bool,
}

/// Compares the open files of each daemon that serves this home with the files at their paths.
/// Returns the daemon, preferably one that clients cannot reach.
pub(super) async fn examine(locations: &Locations, report: &mut Report) -> Option<Serving> {
    let mut serving: Option<Serving> = None;
    for holder in locations.home.holders() {
        let before = report.findings.len();
        let is_unreachable = one(&holder, locations, report).await;
        if report.findings.len() == before {
            report.ok("files", format!("process {} has the files at its paths open", holder.pid));
        }
        if is_unreachable || serving.is_none() {
            serving = Some(Serving { pid: holder.pid, is_unreachable });
        }
    }
    serving
}

/// Returns whether a finding explains why clients cannot reach the daemon.
async fn one(holder: &Holder, locations: &Locations, report: &mut Report) -> bool {
    let home = locations.home.root();
    match holder.probe(home) {
        Sight::Missing | Sight::Foreign => {
            let detail =
                format!("the home of daemon process {} is gone from {}, or was replaced", holder.pid, home.display());
            let advice =
                "the daemon will exit; restore its home, or remove the replacement, then start the daemon again";
            // The paths below home belong to something else now.
            report.fail("files", detail, advice);
            return true;
        }
        Sight::Ours | Sight::Unclear => {}
    }
    if !holder.has_database {
        // The daemon is starting.
        return false;
    }
    let own = locations.home.own();
    let database = own.sqlite().join("plugins.db");
    let log = files::beside(&database, "-wal");
    for (what, path) in [("directory", own.run()), ("database", database), ("write-ahead log", log)] {
        let (pid, shown) = (holder.pid, path.display());
        match holder.probe(&path) {
            Sight::Missing => {
                let detail = format!("the {what} {shown}, which process {pid} uses, was removed");
                report.fail("files", detail, "wait 5 s for the daemon to create it again; if it does not, see its log");
            }
            Sight::Foreign => {
                let detail = format!("another file is at {shown}, where process {pid} had its {what}");
                let advice = match what {
                    "write-ahead log" => "move that file away, then the daemon creates its own again",
                    _ => "move the file away so that the daemon creates its own again, or restart the daemon",
                };
                report.fail("files", detail, advice);
                if what == "database" {
                    // The daemon removed its log, so that SQLite does not apply it to the other
                    // database.
                    break;
                }
            }
            Sight::Ours | Sight::Unclear => {}
        }
    }
    socket(holder, &locations.socket, report).await
}

/// Checks that the daemon's socket is at its path. `/proc` does not show the inode of the file that
/// an open socket was bound to. So this connects to the socket, and compares the pid of the process
/// that listens.
async fn socket(holder: &Holder, socket: &Path, report: &mut Report) -> bool {
    let (pid, shown) = (holder.pid, socket.display());
    if !socket.exists() {
        let detail = format!("process {pid} serves this home, but there is no socket at {shown}");
        let advice = "wait 5 s for the daemon to bind it again; if it does not, see its log, or set HECATE_SOCKET_PATH \
                      if it serves another path";
        report.fail("files", detail, advice);
        return true;
    }
    let connected = UnixStream::connect(socket).await.and_then(|stream| stream.peer_cred());
    match connected.map(|credentials| credentials.pid()) {
        // The kernel returns 0 for a process in a pid namespace that we cannot see.
        Ok(Some(other)) if other > 0 && other != pid => {
            let detail = format!("process {other} answers at {shown}, while process {pid} serves this home");
            report.fail(
                "files",
                detail,
                "stop the other process and remove its socket, then the daemon binds its own again",
            );
            true
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let detail = format!("the file at {shown} is not the socket of process {pid}, which serves this home");
            let advice = "remove the file, then the daemon binds its socket again, or set HECATE_SOCKET_PATH if it \
                          serves another path";
            report.fail("files", detail, advice);
            true
        }
        _ => false,
    }
}
