//! `doctor`'s check of a running daemon's files: whether those that it has open are the ones at
//! their paths.

use std::path::Path;

use tokio::net::UnixStream;

use super::Report;
use crate::config::Locations;
use crate::files::{self, Sight};
use crate::layout::Holder;

/// Compares the files of each daemon that serves this home with what is at their paths.
pub(super) async fn examine(locations: &Locations, report: &mut Report) {
    for holder in locations.home.holders() {
        let before = report.findings.len();
        one(&holder, locations, report).await;
        if report.findings.len() == before {
            report.ok("files", format!("process {} has the files at its paths open", holder.pid));
        }
    }
}

async fn one(holder: &Holder, locations: &Locations, report: &mut Report) {
    let home = locations.home.root();
    match holder.look(home) {
        Sight::Missing | Sight::Foreign => {
            let detail = format!("process {} serves a home that is gone from {}", holder.pid, home.display());
            let advice = "the daemon exits; put its home back, or remove what replaced it, then start the daemon again";
            // The paths below home belong to something else now.
            return report.fail("files", detail, advice);
        }
        Sight::Ours | Sight::Unclear => {}
    }
    if !holder.has_database {
        // It is starting.
        return;
    }
    let own = locations.home.own();
    let database = own.sqlite().join("plugins.db");
    let log = files::beside(&database, "-wal");
    for (what, path) in [("directory", own.run()), ("database", database), ("write-ahead log", log)] {
        let (pid, shown) = (holder.pid, path.display());
        match holder.look(&path) {
            Sight::Missing => {
                let detail = format!("the {what} {shown}, which process {pid} uses, was removed");
                report.fail("files", detail, "wait 5 s for the daemon to make it again; if it does not, see its log");
            }
            Sight::Foreign => {
                let detail = format!("another file is at {shown}, where process {pid} had its {what}");
                let advice = match what {
                    "write-ahead log" => "move that file away, then the daemon makes its own again",
                    _ => "move that file away, then the daemon makes its own again, or restart the daemon",
                };
                report.fail("files", detail, advice);
                if what == "database" {
                    // The daemon removed its log, so that the log is not applied to the other database.
                    break;
                }
            }
            Sight::Ours | Sight::Unclear => {}
        }
    }
    socket(holder, &locations.socket, report).await;
}

async fn socket(holder: &Holder, socket: &Path, report: &mut Report) {
    let (pid, shown) = (holder.pid, socket.display());
    if !socket.exists() {
        let detail = format!("process {pid} serves this home, and there is no socket at {shown}");
        let advice = "wait 5 s for the daemon to bind it again; if it does not, see its log, or it serves another path";
        return report.fail("files", detail, advice);
    }
    let answers = UnixStream::connect(socket).await.and_then(|stream| stream.peer_cred());
    // The kernel returns 0 for a process in a pid namespace that we cannot see.
    let listener = answers.ok().and_then(|credentials| credentials.pid()).filter(|pid| *pid > 0);
    if let Some(other) = listener.filter(|other| *other != pid) {
        let detail = format!("process {other} answers at {shown}, while process {pid} serves this home");
        report.fail(
            "files",
            detail,
            "stop the other process and remove its socket, then the daemon binds its own again",
        );
    }
}
