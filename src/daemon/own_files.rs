//! Watches the daemon's own files while it runs: home, its namespace, the lock, the run files, the
//! socket and the database.
//!
//! Files that vanished inside an existing home are created again. If home was removed or replaced,
//! or if a second daemon holds the lock, the process ends, so that a supervisor can act.
//! `layout::decide` makes these decisions, and the registry checks its database. All file access
//! runs in blocking threads.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::sleep;
use tracing::error;

use crate::api::{BindError, Problem, Severity, SocketFile};
use crate::files::Sight;
use crate::layout::{Decision, Layout, Loss, Repair, RunError, RunLock, Sights, decide};
use crate::limits;
use crate::registry::{self, FileCheck};

// ---- Tuning constants -----------------------------------------------------------------------

/// The delay between the check that finds a loss and the check that confirms it. It must be long
/// enough for a running `rm -rf` to end. A shorter delay means that files are created again sooner.
/// It must be shorter than [`limits::OWN_FILES`].
const OWN_FILES_AGAIN: Duration = Duration::from_millis(250);

/// The result of the last check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The current problem.
    pub problem: Option<Problem>,
    /// Why the process must end now, if it must.
    pub ended: Option<String>,
}

/// The API's socket, which the watch and the registry compare with the file at its path.
#[derive(Debug, Clone, Default)]
pub(super) struct Socket {
    /// None before the socket is bound and during the shutdown.
    file: Arc<Mutex<Option<SocketFile>>>,
    /// Wakes the watch.
    suspicion: Arc<Notify>,
}

impl Socket {
    /// Replaces the socket. The old one is not bound again, and its file is removed unless another
    /// process has replaced it.
    pub(super) fn set(&self, file: Option<SocketFile>) {
        *self.file() = file;
    }

    /// Returns a check for the registry, which wakes the watch if the file at the socket's path is
    /// not the socket that was bound.
    pub(super) fn check(&self) -> registry::SocketCheck {
        let socket = self.clone();
        Arc::new(move || {
            if socket.look() != Sight::Ours {
                socket.suspicion.notify_one();
            }
        })
    }

    fn look(&self) -> Sight {
        self.file().as_ref().map_or(Sight::Ours, SocketFile::look)
    }

    fn file(&self) -> MutexGuard<'_, Option<SocketFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All files that are watched, except the database.
struct OwnFiles {
    layout: Arc<Layout>,
    lock: Arc<RunLock>,
    socket: Socket,
}

/// The outcome of one check.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Serve(Option<Problem>),
    End(Problem),
}

/// Starts the watch, which ends when the receiver is dropped.
pub(super) fn watch(
    layout: Arc<Layout>,
    lock: Arc<RunLock>,
    socket: Socket,
    registry: registry::Handle,
) -> watch::Receiver<Report> {
    let (reports, report) = watch::channel(Report::default());
    let suspicion = Arc::clone(&socket.suspicion);
    let files = Arc::new(OwnFiles { layout, lock, socket });
    let check = move |before| files.check(before);
    tokio::spawn(watch_all(Arc::new(check), suspicion, watch_database(registry), reports));
    report
}

/// Checks all files, given the result of the previous check. Returns the outcome and the new
/// result.
type Check = dyn Fn(Sights) -> (Outcome, Sights) + Send + Sync;

/// Returns when the receiver is dropped, or after a panic in a check. The latter drops the sender,
/// which the receiver notices.
async fn watch_all(
    check: Arc<Check>,
    suspicion: Arc<Notify>,
    database: impl Future<Output = ()>,
    reports: watch::Sender<Report>,
) {
    tokio::select! {
        () = reports.closed() => {}
        ended = watch_places(check, &suspicion, &reports) => if ended.is_ok() {
            // The receiver must still read the report.
            reports.closed().await;
        },
        () = database => {}
    }
}

/// Returns the pause after a check: short after a new loss, which the next check must confirm.
fn pause(is_new_loss: bool) -> Duration {
    if is_new_loss { OWN_FILES_AGAIN } else { limits::OWN_FILES }
}

/// Returns `Ok` when the process must end, or an error if a check has panicked.
async fn watch_places(check: Arc<Check>, suspicion: &Notify, reports: &watch::Sender<Report>) -> Result<(), JoinError> {
    let mut seen = Sights::INTACT;
    loop {
        let (check, before) = (Arc::clone(&check), seen);
        let (outcome, now) = spawn_blocking(move || check(before)).await?;
        seen = now;
        let (problem, ends) = match outcome {
            Outcome::Serve(problem) => (problem, false),
            Outcome::End(problem) => (Some(problem), true),
        };
        show(reports, problem.clone());
        if let Some(problem) = problem.filter(|_| ends) {
            // Connected clients can read the reason until then.
            sleep(limits::HOME_LOST).await;
            reports.send_modify(|report| report.ended = Some(problem.detail));
            return Ok(());
        }
        let is_new_loss = now != before && now != Sights::INTACT;
        tokio::select! {
            () = sleep(pause(is_new_loss)) => {}
            () = suspicion.notified(), if !is_new_loss => {}
        }
    }
}

async fn watch_database(registry: registry::Handle) {
    let mut before = FileCheck::Intact;
    loop {
        let Ok(found) = registry.check_files().await else {
            // The registry is stopping, and checks the files itself at its end.
            return std::future::pending().await;
        };
        sleep(pause(found != before && found != FileCheck::Intact)).await;
        before = found;
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
    /// Checks all files, and creates vanished ones again. Blocks.
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
                    // Home may have been replaced just now, and the new directory must not be
                    // changed.
                    if let Err(loss) = self.layout.check_home() {
                        return Outcome::End(self.lost(loss));
                    }
                    match self.repair(repair) {
                        Ok(()) => {}
                        Err(Failure::Run(held @ RunError::Held { .. })) => {
                            let detail = format!("the lock was removed while the daemon held it, and now {held}");
                            return Outcome::End(blocker("home_taken", detail));
                        }
                        Err(Failure::Socket(BindError::InUse(_) | BindError::NotASocket(_))) => {
                            problem = Some(self.foreign_socket());
                        }
                        Err(failure) => {
                            let detail =
                                format!("a file of the daemon was removed and could not be created again: {failure}");
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
            Ok(()) => self.layout.compare_home(),
            Err(Loss::Gone) => Sight::Missing,
            Err(Loss::Replaced) => Sight::Foreign,
        };
        let missing_if = |missing: bool| if missing { Sight::Missing } else { Sight::Ours };
        Sights {
            home,
            directories: missing_if(!self.layout.missing_own().is_empty()),
            lock: self.lock.compare(&self.layout),
            run_files: missing_if(!self.lock.has_files()),
            socket: self.socket.look(),
        }
    }

    fn repair(&self, repair: Repair) -> Result<(), Failure> {
        match repair {
            Repair::Directories => self.layout.restore_own().map_err(RunError::from)?,
            Repair::Lock => {
                self.lock.renew(&self.layout)?;
                error!("the locked directories were replaced while the daemon used them; locked the new ones");
            }
            Repair::RunFiles => {
                self.lock.rewrite()?;
                error!("files in run/ were removed while the daemon used them; wrote them again");
            }
            Repair::Socket => {
                if let Some(socket) = self.socket.file().as_mut() {
                    socket.rebind()?;
                    let path = socket.path().display();
                    error!(socket = %path, "the socket was removed while the daemon used it; bound it again");
                }
            }
        }
        Ok(())
    }

    fn lost(&self, loss: Loss) -> Problem {
        blocker("home_lost", loss.explain(self.layout.home().root()))
    }

    fn foreign_socket(&self) -> Problem {
        let socket = self.socket.file();
        let path = socket.as_ref().map_or(Path::new(""), SocketFile::path);
        let detail = format!(
            "another file replaced the socket at {}, so clients cannot reach this daemon; stop the process that created \
             the file and remove it, then the daemon binds its socket again",
            path.display()
        );
        blocker("socket_foreign", detail)
    }
}

fn blocker(code: &'static str, detail: String) -> Problem {
    Problem { code, detail, severity: Severity::NotReady }
}

/// Why a file was not created again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Socket(#[from] BindError),
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_check_that_panics_ends_the_watch() {
        let (reports, mut report) = watch::channel(Report::default());
        let check: Arc<Check> = Arc::new(|_| panic!("a bug in a check"));
        tokio::spawn(watch_all(check, Arc::default(), pending(), reports));
        tokio::time::timeout(limits::OWN_FILES * 20, report.changed()).await.expect("it ends").expect_err("no report");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_of_a_lost_home_lasts_until_its_report_is_read() {
        let (reports, mut report) = watch::channel(Report::default());
        let check: Arc<Check> = Arc::new(|before| (Outcome::End(blocker("home_lost", "gone".to_owned())), before));
        let watching = tokio::spawn(watch_all(check, Arc::default(), pending(), reports));
        report.wait_for(|report| report.ended.is_some()).await.expect("it is reported");
        assert!(!watching.is_finished());
        drop(report);
        watching.await.expect("no panic");
    }

    /// Returns the pauses between checks with these results.
    async fn pauses(sights: &[Sights], suspicion: &Notify) -> Vec<Duration> {
        let (times, mut checked) = tokio::sync::mpsc::unbounded_channel();
        let results: Mutex<VecDeque<Sights>> = Mutex::new(sights.iter().copied().collect());
        let check: Arc<Check> = Arc::new(move |_| {
            times.send(Instant::now()).expect("the test receives it");
            let now = results.lock().expect("no panic").pop_front().expect("one more");
            (Outcome::Serve(None), now)
        });
        let (reports, _report) = watch::channel(Report::default());
        let mut all = Vec::new();
        tokio::select! {
            _ = watch_places(check, suspicion, &reports) => {}
            () = async {
                while all.len() < sights.len() {
                    all.extend(checked.recv().await);
                }
            } => {}
        }
        all.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_loss_shortens_the_pause() {
        let missing = Sights { socket: Sight::Missing, ..Sights::INTACT };
        let more = Sights { run_files: Sight::Missing, ..missing };
        let sights = [Sights::INTACT, missing, missing, more, Sights::INTACT, Sights::INTACT];
        let (soon, later) = (OWN_FILES_AGAIN, limits::OWN_FILES);
        let within = |pause: &Duration| if *pause < later { soon } else { later };
        let pauses = pauses(&sights, &Notify::new()).await;
        assert_eq!(pauses.iter().map(within).collect::<Vec<_>>(), [later, soon, later, soon, later]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspicion_starts_a_check_at_once_but_not_the_confirming_one() {
        let missing = Sights { socket: Sight::Missing, ..Sights::INTACT };
        let suspicion = Notify::new();
        suspicion.notify_one();
        let pauses = pauses(&[Sights::INTACT, missing, missing], &suspicion).await;
        assert!(pauses[0] < OWN_FILES_AGAIN && pauses[1] >= OWN_FILES_AGAIN, "{pauses:?}");
        assert!(pauses[1] < limits::OWN_FILES, "{pauses:?}");
        suspicion.notify_one();
        let pauses = self::pauses(&[missing, missing], &suspicion).await;
        assert!(pauses[0] >= OWN_FILES_AGAIN, "`rm -rf` may still be running: {pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_check_of_the_registry_wakes_the_watch_if_the_socket_was_replaced() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let socket = Socket::default();
        let check = socket.check();
        let is_woken = async || tokio::time::timeout(limits::OWN_FILES, socket.suspicion.notified()).await.is_ok();
        check();
        assert!(!is_woken().await, "it is not bound yet");
        let (_listener, file) = crate::api::bind(&path, 0o600, None).expect("bound");
        socket.set(Some(file));
        check();
        assert!(!is_woken().await, "it is the bound socket");
        std::fs::remove_file(&path).expect("there");
        check();
        assert!(is_woken().await, "the socket was removed");
        std::fs::write(&path, "another's").expect("written");
        check();
        assert!(is_woken().await, "the socket was replaced");
        socket.set(None);
        check();
        assert!(!is_woken().await, "the daemon is stopping");
    }
}
