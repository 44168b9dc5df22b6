//! Watches our own files while the daemon runs: home, our namespace, the lock, the run files, the
//! socket and the database.
//!
//! Files that vanished inside an existing home are made again. The process ends, so that a
//! supervisor can act, if home is gone or was replaced, or if a second daemon has taken the lock.
//! `layout::decide` decides, the registry checks its database, and no asynchronous task blocks on
//! the disk.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::error;

use crate::api::{BindError, Problem, Severity, SocketFile};
use crate::files::Sight;
use crate::layout::{Decision, Layout, Loss, Repair, RunError, RunLock, Sights, decide};
use crate::limits;
use crate::registry;

/// The result of the last check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The current problem.
    pub problem: Option<Problem>,
    /// Why the process must end now.
    pub ended: Option<String>,
}

/// The socket's file, until it is removed at the end.
pub(super) type SharedSocket = Arc<Mutex<Option<SocketFile>>>;

/// Removes the socket's file, if it is ours. The watch does not bind it again.
pub(super) fn remove(socket: &SharedSocket) {
    drop(locked(socket).take());
}

fn locked(socket: &SharedSocket) -> MutexGuard<'_, Option<SocketFile>> {
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All files that are watched, except the database.
struct OwnFiles {
    layout: Arc<Layout>,
    lock: Arc<RunLock>,
    socket: SharedSocket,
}

/// The outcome of one check.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Serve(Option<Problem>),
    End(Problem),
}

/// Starts the watch, which ends with the receiver.
pub(super) fn watch(
    layout: Arc<Layout>,
    lock: Arc<RunLock>,
    socket: SharedSocket,
    registry: registry::Handle,
) -> watch::Receiver<Report> {
    let (reports, report) = watch::channel(Report::default());
    let files = Arc::new(OwnFiles { layout, lock, socket });
    let check = move |before| files.check(before);
    tokio::spawn(watch_all(Arc::new(check), watch_database(registry), reports));
    report
}

/// A look at all places, compared with the one before.
type Check = dyn Fn(Sights) -> (Outcome, Sights) + Send + Sync;

/// Ends with the receiver, or after a panic: then the receiver sees that the sender is gone.
async fn watch_all(check: Arc<Check>, database: impl Future<Output = ()>, reports: watch::Sender<Report>) {
    tokio::select! {
        () = reports.closed() => {}
        ended = watch_places(check, &reports) => if ended.is_ok() {
            // The report is not read yet.
            reports.closed().await;
        },
        () = database => {}
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(limits::OWN_FILES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Returns when the process must end, or an error if a check has panicked.
async fn watch_places(check: Arc<Check>, reports: &watch::Sender<Report>) -> Result<(), JoinError> {
    let mut ticks = ticks();
    let mut seen = Sights::INTACT;
    loop {
        ticks.tick().await;
        let (check, before) = (Arc::clone(&check), seen);
        let (outcome, now) = spawn_blocking(move || check(before)).await?;
        seen = now;
        let (problem, ends) = match outcome {
            Outcome::Serve(problem) => (problem, false),
            Outcome::End(problem) => (Some(problem), true),
        };
        show(reports, problem.clone());
        if let Some(problem) = problem.filter(|_| ends) {
            // So that connected clients can still see why.
            sleep(limits::HOME_LOST).await;
            reports.send_modify(|report| report.ended = Some(problem.detail));
            return Ok(());
        }
    }
}

async fn watch_database(registry: registry::Handle) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        if registry.check_files().await.is_err() {
            // It is stopping, and checks the files itself at its end.
            return std::future::pending().await;
        }
    }
}

fn show(reports: &watch::Sender<Report>, problem: Option<Problem>) {
    reports.send_if_modified(|report| {
        let differs = report.problem != problem;
        if let Some(problem) = problem.as_ref().filter(|_| differs) {
            error!(code = problem.code, "{}", problem.detail);
        }
        report.problem = problem;
        differs
    });
}

impl OwnFiles {
    /// Checks all files, and makes again those that vanished. Blocks.
    fn check(&self, before: Sights) -> (Outcome, Sights) {
        let now = self.look();
        (self.act(decide(before, now)), now)
    }

    fn act(&self, decision: Decision) -> Outcome {
        match decision {
            Decision::End(loss) => Outcome::End(self.lost(loss)),
            Decision::Continue { repairs, foreign_socket } => {
                let mut problem = foreign_socket.then(|| self.foreign_socket());
                for repair in repairs {
                    // Home may just have been replaced, and the new directory must not be changed.
                    if let Err(loss) = self.layout.check_home() {
                        return Outcome::End(self.lost(loss));
                    }
                    match self.repair(repair) {
                        Ok(()) => {}
                        Err(Failure::Run(held @ RunError::Held { .. })) => {
                            let detail = format!("the lock was removed while the daemon used it, and now {held}");
                            return Outcome::End(blocker("home_taken", detail));
                        }
                        Err(Failure::Socket(BindError::InUse(_) | BindError::NotASocket(_))) => {
                            problem = Some(self.foreign_socket());
                        }
                        Err(failure) => {
                            let detail =
                                format!("a file of the daemon vanished and could not be made again: {failure}");
                            problem = Some(blocker("own_files_lost", detail));
                            break;
                        }
                    }
                }
                Outcome::Serve(problem)
            }
        }
    }

    fn look(&self) -> Sights {
        let home = match self.layout.check_home() {
            Ok(()) => self.layout.look_at_home(),
            Err(Loss::Gone) => Sight::Missing,
            Err(Loss::Replaced) => Sight::Foreign,
        };
        let missing_if = |missing: bool| if missing { Sight::Missing } else { Sight::Ours };
        Sights {
            home,
            directories: missing_if(!self.layout.missing_own().is_empty()),
            lock: self.lock.look(&self.layout),
            run_files: missing_if(!self.lock.has_files()),
            socket: locked(&self.socket).as_ref().map_or(Sight::Ours, SocketFile::look),
        }
    }

    fn repair(&self, repair: Repair) -> Result<(), Failure> {
        match repair {
            Repair::Directories => self.layout.restore_own().map_err(RunError::from)?,
            Repair::Lock => {
                self.lock.renew(&self.layout)?;
                error!("the directories that the daemon had locked were replaced: locked the new ones");
            }
            Repair::RunFiles => {
                self.lock.rewrite()?;
                error!("daemon.pid and daemon.state were removed while the daemon used them: wrote them again");
            }
            Repair::Socket => {
                if let Some(socket) = locked(&self.socket).as_mut() {
                    socket.rebind()?;
                    let path = socket.path().display();
                    error!(socket = %path, "the socket was removed while the daemon used it: bound it again");
                }
            }
        }
        Ok(())
    }

    fn lost(&self, loss: Loss) -> Problem {
        blocker("home_lost", loss.explain(self.layout.home().root()))
    }

    fn foreign_socket(&self) -> Problem {
        let socket = locked(&self.socket);
        let path = socket.as_ref().map_or(Path::new(""), SocketFile::path);
        let detail = format!(
            "another file is at {}, where our socket was: clients cannot reach this daemon; stop the process that put it \
             there and remove the file, then the daemon binds its socket again",
            path.display()
        );
        blocker("socket_foreign", detail)
    }
}

fn blocker(code: &'static str, detail: String) -> Problem {
    Problem { code, detail, severity: Severity::NotReady }
}

/// Why a file was not made again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Socket(#[from] BindError),
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_check_that_panics_ends_the_watch() {
        let (reports, mut report) = watch::channel(Report::default());
        let check: Arc<Check> = Arc::new(|_| panic!("as a fault of ours would"));
        tokio::spawn(watch_all(check, pending(), reports));
        tokio::time::timeout(limits::OWN_FILES * 20, report.changed()).await.expect("it ends").expect_err("no report");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_home_is_reported_until_the_daemon_has_ended() {
        let (reports, mut report) = watch::channel(Report::default());
        let check: Arc<Check> = Arc::new(|before| (Outcome::End(blocker("home_lost", "gone".to_owned())), before));
        let watching = tokio::spawn(watch_all(check, pending(), reports));
        report.wait_for(|report| report.ended.is_some()).await.expect("it is reported");
        assert!(!watching.is_finished());
        drop(report);
        watching.await.expect("no panic");
    }
}
