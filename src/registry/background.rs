//! What runs beside the registry's task: removing what a dead plugin left, and waiting for a process to end.
//!
//! Never touches the registry's state: what there is to tell goes back to the task.

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

/// Runs what blocks where it may. A panic there is ours: an owner that goes on after one owns nobody knows what.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panicked)) => panic::resume_unwind(panicked),
        // Only a runtime that ends cancels such work, and it ends us as well.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

/// Removes what a dead plugin left. May be aborted at each of its pauses; none is between a change and its end.
pub(super) async fn clean_up(layout: Arc<Layout>, name: PluginName, process: Option<Process>) {
    remove_dead_socket(&layout, &name).await;
    let Some(process) = process else { return };
    let plugin = name.clone();
    let removed = blocking(move || layout.remove_dead_run_files(&plugin, &process)).await;
    if let Err(error) = removed {
        tracing::warn!(plugin = %name, %error, "its run files could not be removed");
    }
}

/// Removes the socket of a plugin, if it is dead, which takes a second.
pub(super) async fn remove_dead_socket(layout: &Arc<Layout>, name: &PluginName) {
    if let Err(error) = remove_socket(layout, name).await {
        tracing::warn!(plugin = %name, %error, "its dead socket could not be removed");
    }
}

/// Sets the namespace of a plugin aside, to be removed, unless its socket shows that it lives.
pub(super) fn set_aside(layout: &Layout, name: &PluginName, revision: u64) -> Result<SetAside, Refusal> {
    match check_data(layout, name)? {
        // A dead socket has been removed before.
        Socket::Refuses => {
            Err(Refusal::StillRunning { name: name.clone(), sign: "its socket was bound just now".to_owned() })
        }
        Socket::None => Ok(layout.set_namespace_aside(name, revision)?),
    }
}

/// The socket of a plugin that shows no sign of life.
pub(super) enum Socket {
    None,
    Refuses,
}

/// Checks that a plugin has data, and that its socket shows no sign of life.
pub(super) fn check_data(layout: &Layout, name: &PluginName) -> Result<Socket, Refusal> {
    if !layout.has_namespace(name)? {
        let path = layout.home().namespace(name).base().to_owned();
        return Err(Refusal::NoData { name: name.clone(), path });
    }
    match layout.look_at_socket(name) {
        SocketState::Absent | SocketState::NotASocket => Ok(Socket::None),
        SocketState::Refuses(_) => Ok(Socket::Refuses),
        SocketState::Alive => Err(Refusal::StillRunning { name: name.clone(), sign: "its socket answers".to_owned() }),
        SocketState::Denied(why) | SocketState::Unclear(why) => Err(Refusal::MayRun { name: name.clone(), why }),
    }
}

/// Finds what purges that a crash has cut off have left to be removed.
pub(super) fn settle_purges(layout: &Layout, revision: u64) -> Vec<SetAside> {
    layout.settle_purges(revision).unwrap_or_else(|error| {
        tracing::warn!(%error, "what is left of earlier purges could not be looked for");
        Vec::new()
    })
}

/// Removes it.
pub(super) fn finish_purges(layout: &Layout, left: Vec<SetAside>) {
    for aside in left {
        if let Err(error) = layout.remove_aside(&aside) {
            tracing::warn!(%error, "an earlier purge is still incomplete");
        }
    }
}

/// Why a dead socket stays.
#[derive(Debug, thiserror::Error)]
enum RemovalError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

async fn remove_socket(layout: &Arc<Layout>, name: &PluginName) -> Result<(), RemovalError> {
    let (place, plugin) = (Arc::clone(layout), name.clone());
    let mut socket = match blocking(move || DeadSocket::new(&place, &plugin)).await {
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
                tracing::info!(plugin = %name, "removed its dead socket");
                return Ok(());
            }
            Progress::Done(verdict) => {
                tracing::debug!(plugin = %name, ?verdict, "left its socket as it is");
                return Ok(());
            }
        }
    }
}

/// Waits until a process has ended. Where that cannot be seen, or would take the descriptors that connections need, it waits
/// for ever: the end is a hint and no more.
pub(super) async fn exit_of(process: Process) {
    let opened =
        Pid::from_raw(process.pid()).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok()).filter(leaves_room);
    // Only now that it is open can the pid no longer pass to another.
    if process.is_gone() {
        return;
    }
    #[expect(
        deprecated,
        reason = "deprecated for types that may close early, which an OwnedFd cannot; its heir is unsafe"
    )]
    match opened.and_then(|pidfd| AsyncFd::new(pidfd).ok()) {
        Some(pidfd) => drop(pidfd.readable().await),
        None => std::future::pending().await,
    }
}

/// Whether a descriptor is in the lower half of those that we may have. The system gives the lowest number that is free: so
/// while this holds, half of them are.
fn leaves_room(opened: &OwnedFd) -> bool {
    let most = getrlimit(Resource::Nofile).current;
    u64::try_from(opened.as_raw_fd()).is_ok_and(|number| most.is_none_or(|most| number < most / 2))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn child() -> (std::process::Child, Process) {
        let child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let pid = i32::try_from(child.id()).expect("a pid");
        (child, Process::living(pid).expect("it lives"))
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told_when_it_comes() {
        let (mut child, process) = child();
        let waiting = tokio::spawn(exit_of(process));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "it lives");
        child.kill().expect("killed");
        timeout(Duration::from_secs(10), waiting).await.expect("told").expect("without a panic");
        child.wait().expect("ended");
        timeout(Duration::from_secs(10), exit_of(process)).await.expect("told at once of one that is gone");
    }
}
