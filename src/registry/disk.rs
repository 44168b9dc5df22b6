//! Disk work that decides nothing: what a plugin keeps, and its dead socket before a purge.
//!
//! Runs in the registry's task, beside what decides, so that a commit does not delay it.

use std::panic;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::background::{blocking, remove_dead_socket};
use super::command::{Command, DiskCommand};
use crate::layout::Layout;

/// Requests in progress at the same time. More means more threads that wait for the disk; less
/// means that a purge, which waits a second for a dead socket, delays others sooner.
pub(super) const JOBS: usize = 32;

/// Serves the queue until every handle is gone.
pub(super) async fn serve(
    layout: Arc<Layout>,
    mut queue: mpsc::Receiver<DiskCommand>,
    registry: mpsc::WeakSender<Command>,
) {
    let mut jobs = JoinSet::new();
    loop {
        tokio::select! {
            command = queue.recv(), if jobs.len() < JOBS => match command {
                Some(command) => drop(jobs.spawn(carry_out(Arc::clone(&layout), command, registry.clone()))),
                None => break,
            },
            Some(ended) = jobs.join_next() => check(ended),
        }
    }
    while let Some(ended) = jobs.join_next().await {
        check(ended);
    }
}

/// A panic in a job is one of the registry.
fn check(ended: Result<(), JoinError>) {
    if let Err(Ok(panicked)) = ended.map_err(JoinError::try_into_panic) {
        panic::resume_unwind(panicked);
    }
}

async fn carry_out(layout: Arc<Layout>, command: DiskCommand, registry: mpsc::WeakSender<Command>) {
    match command {
        // Nobody waits for the answer.
        DiskCommand::Contents { reply, .. } if reply.is_closed() => {}
        DiskCommand::Contents { name, reply } => {
            let contents = blocking(move || layout.contents(&name)).await;
            let _ = reply.send(contents.map_err(Into::into));
        }
        DiskCommand::Purge { name, reply } => {
            remove_dead_socket(&layout, &name).await;
            // Who gives up in that second wants no purge.
            if let Some(registry) = registry.upgrade().filter(|_| !reply.is_closed()) {
                let _ = registry.send(Command::Purge { name, reply }).await;
            }
        }
    }
}
