//! One connection: its caller, its place among the others, and its requests until one side closes.
//!
//! `places` decides which connection is served, limited or evicted.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use beam::limited;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::answer::HttpResponse;
use super::borrowed::{Borrowed, closed_by_client};
use super::bounds::Limits;
use super::places::{Admitted, Capacity, NoStream, Owner, Places, Turn};
use super::stall::Stall;
use crate::log::limit;
use crate::metrics;
use crate::registry::Registrant;

/// The client process, as the kernel reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub registrant: Registrant,
    /// Whether this user may call the API.
    pub allowed: bool,
}

impl Caller {
    /// Returns the caller of a connection.
    pub(super) fn of(stream: &UnixStream, own_uid: u32, allowed_uids: &[u32]) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            registrant: Registrant {
                uid: credentials.uid(),
                gid: credentials.gid(),
                // The kernel returns 0 for a process in a pid namespace that we cannot see.
                pid: credentials.pid().filter(|pid| *pid > 0),
            },
            allowed: may_call(credentials.uid(), own_uid, allowed_uids),
        })
    }

    /// Returns the owner to whose share the connection counts.
    pub(super) fn owner(&self) -> Owner {
        self.registrant.pid.map_or(Owner::User(self.registrant.uid), Owner::Process)
    }
}

/// Returns whether a user may call: our own user, root, and the `allowed` ones.
fn may_call(uid: u32, own: u32, allowed: &[u32]) -> bool {
    uid == own || uid == 0 || allowed.contains(&uid)
}

/// The connections of all users who may call, or of all others. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Mutex<Places<CancellationToken>>>);

impl Connections {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self(Arc::new(Mutex::new(Places::new(capacity))))
    }

    /// Adds a connection, and closes another one if there are too many.
    pub(super) fn admit(&self, owner: Owner) -> Place {
        let closed = CancellationToken::new();
        let Admitted { id, limited, evicted } = self.lock().admit(owner, closed.clone());
        evict(evicted);
        Place { connections: self.clone(), id, limited, streaming: Notify::new(), closed }
    }

    /// Closes the oldest limited connection, or else the connection that has been idle longest.
    /// Returns whether a connection was closed.
    pub(super) fn close_one(&self) -> bool {
        let closed = self.lock().take_one();
        let is_closed = closed.is_some();
        evict(closed);
        is_closed
    }

    fn lock(&self) -> MutexGuard<'_, Places<CancellationToken>> {
        // No operation panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn evict(evicted: Option<CancellationToken>) {
    if let Some(evicted) = evicted {
        evicted.cancel();
        metrics::count_eviction();
        limited!(limit::EVICTIONS, warn, "closed an idle API connection, because too many are open");
    }
}

/// The place of one connection, which it leaves when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Connections,
    id: u64,
    /// Whether it was limited at first.
    pub limited: bool,
    /// Notified when the connection becomes an event stream.
    streaming: Notify,
    /// Cancelled when the connection must close or has closed.
    closed: CancellationToken,
}

impl Place {
    /// Records that a request head or body has arrived. Returns whether the request may call every
    /// endpoint. If not, the connection is limited or was evicted, and may call only the probes.
    pub(super) fn works(&self) -> bool {
        let turn = self.connections.lock().works(self.id);
        match turn {
            Turn::Serve { evicted } => {
                evict(evicted);
                true
            }
            Turn::Probes => false,
        }
    }

    /// Records that the daemon waits for the client.
    pub(super) fn waits(&self) {
        self.connections.lock().waits(self.id);
    }

    /// Records that the response is an event stream.
    ///
    /// # Errors
    /// See [`NoStream`].
    pub(super) fn streams(&self) -> Result<(), NoStream> {
        self.connections.lock().streams(self.id)?;
        self.streaming.notify_one();
        Ok(())
    }

    /// Returns the token that is cancelled when the connection must close.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().leave(self.id);
        self.closed.cancel();
    }
}

/// Responds to the requests of a connection with `respond`, until one side closes it or it is
/// evicted.
pub(super) async fn converse<Responding: Future<Output = HttpResponse>>(
    limits: Limits,
    stop: CancellationToken,
    place: Place,
    stream: UnixStream,
    respond: impl Fn(Arc<Place>, Request<Incoming>) -> Responding,
) {
    let Limits { head, head_time, limited_head, limited_time, stall, .. } = limits;
    let (head, head_time) = if place.limited { (limited_head, limited_time) } else { (head, head_time) };
    let is_limited = place.limited;
    let place = Arc::new(place);
    let closed = place.closed().clone();
    let service = service_fn(|request| {
        let responding = respond(Arc::clone(&place), request);
        async move { Ok::<_, Infallible>(responding.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(head)
        .keep_alive(!is_limited)
        // Clients in shell scripts close their sending half after the request.
        .half_close(true);
    let io = TokioIo::new(Stall::new(Borrowed(&stream), stall));
    let mut connection = std::pin::pin!(http.serve_connection(io, service));
    // Only an event stream ends when the client leaves. A client may send another request and leave
    // without waiting for the response.
    let left = async {
        place.streaming.notified().await;
        closed_by_client(&stream).await;
    };
    let ended = tokio::select! {
        biased;
        () = closed.cancelled() => {
            // Answers a request that has arrived but is still unread, instead of resetting it.
            let _ = poll_fn(|context| Poll::Ready(connection.as_mut().poll(context))).await;
            return;
        }
        ended = connection.as_mut() => ended,
        () = left => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an API connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_user_root_and_allowed_users_may_call() {
        assert!(may_call(1000, 1000, &[]), "our own user");
        assert!(may_call(0, 1000, &[]), "root");
        assert!(may_call(1001, 1000, &[1001]), "an allowed user");
        assert!(!may_call(1001, 1000, &[1002]));
        assert!(!may_call(1001, 0, &[]), "a daemon that runs as root accepts no other users");
    }

    #[test]
    fn a_process_that_the_kernel_does_not_show_counts_towards_its_user() {
        let caller = |pid| Caller { registrant: Registrant { uid: 1000, gid: 1, pid }, allowed: true };
        assert_eq!(caller(Some(7)).owner(), Owner::Process(7));
        assert_eq!(caller(None).owner(), Owner::User(1000));
    }
}
