//! The threads of the process: one runtime for HTTP, health and the registry, and another one for
//! the node. A busy node never occupies the threads that serve the API.

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::limits;

// ---- Tuning constants -----------------------------------------------------------------------

/// The maximum number of worker threads per runtime. Plugins and peers cause little
/// computation, so more threads would only cost memory.
const WORKER_THREADS: usize = 8;

/// Blocking threads of the registry and the API, at most: one for each of [`limits::CLEAN_UPS`],
/// and as many more. More blocking calls wait for a thread; each thread costs memory.
const API_BLOCKING_THREADS: usize = 2 * limits::CLEAN_UPS;

/// Blocking threads of the node, at most: [`beam::limits::RESOLVERS`],
/// [`beam::limits::LARGE_READERS`], and 30 to find the owners of connections. More blocking calls
/// wait for a thread; each thread costs memory.
const NODE_BLOCKING_THREADS: usize = beam::limits::RESOLVERS + beam::limits::LARGE_READERS + 30;

/// Both runtimes.
#[derive(Debug)]
pub struct Runtimes {
    api: Runtime,
    node: Runtime,
}

impl Runtimes {
    /// Starts the worker threads of both runtimes.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start() -> io::Result<Self> {
        Ok(Self {
            api: runtime("hecate-api", API_BLOCKING_THREADS)?,
            node: runtime("hecate-node", NODE_BLOCKING_THREADS)?,
        })
    }

    /// Runs the daemon on the API's runtime until it ends. `daemon` gets the handle of the node's
    /// runtime.
    pub fn run<F: Future>(self, daemon: impl FnOnce(Handle) -> F) -> F::Output {
        let ended = self.api.block_on(daemon(self.node.handle().clone()));
        // Blocking calls, such as a DNS lookup that waits for its server, are not awaited.
        self.node.shutdown_background();
        self.api.shutdown_background();
        ended
    }
}

fn runtime(name: &str, blocking_threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers(available_parallelism().map_or(1, NonZero::get)))
        .max_blocking_threads(blocking_threads)
        .thread_name(name)
        .enable_all()
        .build()
}

/// Returns the number of worker threads of a runtime. At least two, so that one long step does not
/// delay the others.
fn workers(processors: usize) -> usize {
    processors.clamp(2, WORKER_THREADS)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn worker_threads_are_at_least_two_and_bounded() {
        assert_eq!([1, 2, 4, 10_000].map(workers), [2, 2, 4, WORKER_THREADS]);
    }

    #[test]
    fn blocking_threads_are_bounded() {
        for blocking in [API_BLOCKING_THREADS, NODE_BLOCKING_THREADS] {
            let runtime = runtime("test", blocking).unwrap();
            let (began, begun) = mpsc::channel();
            let occupy = |began: mpsc::Sender<()>| {
                let (release, released) = mpsc::channel::<()>();
                runtime.spawn_blocking(move || {
                    began.send(()).unwrap();
                    let _ = released.recv();
                });
                release
            };
            let mut held: Vec<_> = (0..=blocking).map(|_| occupy(began.clone())).collect();
            for _ in 0..blocking {
                begun.recv().unwrap();
            }
            // All threads are in use. The last task reuses the thread of one that has ended.
            assert_eq!(begun.try_recv(), Err(mpsc::TryRecvError::Empty));
            held.remove(0);
            begun.recv().unwrap();
            drop(held);
        }
    }

    #[test]
    fn the_node_runs_in_its_own_threads() {
        let name = || std::thread::current().name().map(str::to_owned);
        let here = Runtimes::start().unwrap().run(async |node| {
            let there = node.spawn(async move { name() }).await.unwrap();
            assert_eq!(there.as_deref(), Some("hecate-node"));
            let blocking = node.spawn(async move { tokio::task::spawn_blocking(name).await.unwrap() });
            assert_eq!(blocking.await.unwrap().as_deref(), Some("hecate-node"));
            tokio::spawn(async move { name() }).await.unwrap()
        });
        assert_eq!(here.as_deref(), Some("hecate-api"));
    }
}
