//! Work that runs concurrently with the registry's task: it removes the files of dead plugins, and
//! waits for processes to end.
//!
//! It never changes the registry's state, but returns its results to the task.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::panic;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::sleep_until;

use super::refusal::Refusal;
use crate::layout::{DeadSocket, Layout, LayoutError, Process, Progress, SetAside, SocketState, Verdict};
use crate::plugin::PluginName;

/// Runs blocking work in a blocking thread. Resumes its panic here, because shared state may then
/// be inconsistent.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panicked)) => panic::resume_unwind(panicked),
        // Such work is cancelled only when the runtime ends, which then ends this task too.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

/// Removes the socket and the run files of a dead plugin. It may be aborted at any await, because
/// no change on disk spans one.
pub(super) async fn clean_up(layout: Arc<Layout>, name: PluginName, process: Option<Process>) {
    remove_dead_socket(&layout, &name).await;
    let Some(process) = process else { return };
    let plugin = name.clone();
    let removed = blocking(move || layout.remove_dead_run_files(&plugin, &process)).await;
    if let Err(error) = removed {
        tracing::warn!(plugin = %name, %error, "cannot remove the run files of the plugin");
    }
}

/// Removes the socket of a plugin if it is dead. Checking that takes 1 s.
pub(super) async fn remove_dead_socket(layout: &Arc<Layout>, name: &PluginName) {
    if let Err(error) = remove_socket(layout, name).await {
        tracing::warn!(plugin = %name, %error, "cannot remove the dead socket of the plugin");
    }
}

/// Sets the namespace of a plugin aside for removal, unless its socket shows that the plugin runs.
pub(super) fn set_aside(layout: &Layout, name: &PluginName, revision: u64) -> Result<SetAside, Refusal> {
    match check_data(layout, name)? {
        // A dead socket would have been removed already, so this one is new.
        SilentSocket::Refuses => {
            Err(Refusal::StillRunning { name: name.clone(), sign: "its socket was bound just now".to_owned() })
        }
        SilentSocket::None => Ok(layout.set_namespace_aside(name, revision)?),
    }
}

/// The socket of a plugin that shows no sign of life.
pub(super) enum SilentSocket {
    None,
    Refuses,
}

/// Checks that a plugin has data, and that its socket shows no sign of life.
pub(super) fn check_data(layout: &Layout, name: &PluginName) -> Result<SilentSocket, Refusal> {
    if !layout.has_namespace(name)? {
        let path = layout.home().namespace(name).base().to_owned();
        return Err(Refusal::NoData { name: name.clone(), path });
    }
    match layout.probe_socket(name) {
        SocketState::Absent | SocketState::NotASocket => Ok(SilentSocket::None),
        SocketState::Refuses(_) => Ok(SilentSocket::Refuses),
        SocketState::Alive => Err(Refusal::StillRunning { name: name.clone(), sign: "its socket answers".to_owned() }),
        SocketState::Denied(why) | SocketState::Unclear(why) => Err(Refusal::MayRun { name: name.clone(), why }),
    }
}

/// Returns the namespaces that still have to be removed after a crash interrupted their purges.
pub(super) fn settle_purges(layout: &Layout, revision: u64) -> Vec<SetAside> {
    layout.settle_purges(revision).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot check for interrupted purges");
        Vec::new()
    })
}

/// Removes the namespaces that [`settle_purges`] returned.
pub(super) fn finish_purges(layout: &Layout, interrupted: Vec<SetAside>) {
    for aside in interrupted {
        if let Err(error) = layout.remove_aside(&aside) {
            tracing::warn!(%error, "an interrupted purge is still incomplete");
        }
    }
}

/// Why a dead socket could not be removed.
#[derive(Debug, thiserror::Error)]
enum RemovalError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

async fn remove_socket(layout: &Arc<Layout>, name: &PluginName) -> Result<(), RemovalError> {
    let (layout, plugin) = (Arc::clone(layout), name.clone());
    let mut socket = match blocking(move || DeadSocket::new(&layout, &plugin)).await {
        Err(LayoutError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    loop {
        let progress;
        (socket, progress) = blocking(move || {
            let progress = socket.advance(Instant::now());
            (socket, progress)
        })
        .await;
        match progress? {
            Progress::WaitUntil(due) => sleep_until(due.into()).await,
            Progress::Done(Verdict::Removed) => {
                tracing::info!(plugin = %name, "removed the dead socket of the plugin");
                return Ok(());
            }
            Progress::Done(verdict) => {
                tracing::debug!(plugin = %name, ?verdict, "kept the socket of the plugin");
                return Ok(());
            }
        }
    }
}

/// Waits until a process has ended. It waits forever if the end cannot be observed, or if that
/// would use a descriptor that connections need. The end of a process is only a hint to probe the
/// socket.
pub(super) async fn wait_for_exit(process: Process) {
    let opened = Pid::from_raw(process.pid())
        .and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok())
        .filter(is_in_lower_half);
    // While the descriptor is open, the pid cannot be reused. It may have been before.
    if process.is_gone() {
        return;
    }
    #[expect(
        deprecated,
        reason = "deprecated for types that may close early, which an OwnedFd cannot; the replacement is unsafe"
    )]
    match opened.and_then(|pidfd| AsyncFd::new(pidfd).ok()) {
        Some(pidfd) => drop(pidfd.readable().await),
        None => std::future::pending().await,
    }
}

/// Returns whether a descriptor is in the lower half of the numbers that the process may have. The
/// system assigns the lowest free number, so the upper half is then free.
fn is_in_lower_half(opened: &OwnedFd) -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    u64::try_from(opened.as_raw_fd()).is_ok_and(|number| limit.is_none_or(|limit| number < limit / 2))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn child() -> (std::process::Child, Process) {
        let child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let pid = i32::try_from(child.id()).expect("a pid");
        (child, Process::living(pid).expect("it is running"))
    }

    #[tokio::test]
    async fn waiting_for_a_process_ends_when_the_process_does() {
        let (mut child, process) = child();
        let waiting = tokio::spawn(wait_for_exit(process));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "the process is running");
        child.kill().expect("killed");
        timeout(Duration::from_secs(10), waiting).await.expect("it ends").expect("without a panic");
        child.wait().expect("ended");
        timeout(Duration::from_secs(10), wait_for_exit(process)).await.expect("the process is gone already");
    }
}
