//! Work on disk that does not change the state: lists the contents of namespaces, and removes dead
//! sockets before a purge.
//!
//! It runs concurrently with the commits of the registry, so that they do not delay it.

use std::panic;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::background::{blocking, remove_dead_socket};
use super::command::{Command, DiskCommand};
use crate::layout::Layout;

/// The maximum number of requests in progress. A larger value means more threads that wait for the
/// disk. A smaller value means that purges, which wait 1 s for a dead socket, delay others sooner.
pub(super) const JOBS: usize = 32;

/// Serves the queue until every handle is dropped.
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
            Some(ended) = jobs.join_next() => resume_panic(ended),
        }
    }
    while let Some(ended) = jobs.join_next().await {
        resume_panic(ended);
    }
}

/// Resumes the panic of a job, which then ends the registry.
fn resume_panic(ended: Result<(), JoinError>) {
    if let Err(Ok(panicked)) = ended.map_err(JoinError::try_into_panic) {
        panic::resume_unwind(panicked);
    }
}

async fn carry_out(layout: Arc<Layout>, command: DiskCommand, registry: mpsc::WeakSender<Command>) {
    match command {
        // The client has gone away.
        DiskCommand::Contents { reply, .. } if reply.is_closed() => {}
        DiskCommand::Contents { name, reply } => {
            let contents = blocking(move || layout.contents(&name)).await;
            let _ = reply.send(contents.map_err(Into::into));
        }
        DiskCommand::Purge { name, reply } => {
            remove_dead_socket(&layout, &name).await;
            // The client may have gone away meanwhile, and must not find the data purged.
            if let Some(registry) = registry.upgrade().filter(|_| !reply.is_closed()) {
                let _ = registry.send(Command::Purge { name, reply }).await;
            }
        }
    }
}
