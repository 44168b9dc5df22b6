//! The distribution port: takes connections and shakes hands, a bounded number at once.
//!
//! Whoever can reach the port can begin a handshake without knowing anything, so an unfinished one must cost little: when
//! [`limits::HANDSHAKES`] are under way, the oldest gives way to the newest.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::dist::handshake::{HandshakeError, Identity, Status};
use crate::dist::link::{self, Rejected, SetupError};
use crate::limits;
use crate::node::task::Event;

/// Takes connections from `listener` until it is dropped. Completed ones go to `inbox`, as do questions about names.
pub async fn run(listener: TcpListener, local: Arc<Identity>, inbox: mpsc::Sender<Event>) {
    let mut unfinished: VecDeque<JoinHandle<()>> = VecDeque::new();
    let mut log = LogLimit::default();
    // Of several that are rejected at once, one is enough to tell.
    let (told, mut rejections) = mpsc::channel(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(rejection) = rejections.recv() => {
                log.warn(|| rejection);
                continue;
            }
        };
        match accepted {
            Ok((stream, from)) => {
                unfinished.retain(|task| !task.is_finished());
                if unfinished.len() >= limits::HANDSHAKES
                    && let Some(oldest) = unfinished.pop_front()
                {
                    oldest.abort();
                    log.warn(|| format!("{} handshakes are unfinished: the oldest gives way", limits::HANDSHAKES));
                }
                let shake = shake(stream, from, local.clone(), inbox.clone(), told.clone());
                unfinished.push_back(tokio::spawn(shake));
            }
            // Out of file descriptors, or the peer was gone at once: neither ends the listener.
            Err(e) => {
                log.warn(|| format!("the distribution port can't take a connection: {e}"));
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
        if inbox.is_closed() {
            return;
        }
    }
}

async fn shake(
    stream: TcpStream,
    from: SocketAddr,
    local: Arc<Identity>,
    inbox: mpsc::Sender<Event>,
    told: mpsc::Sender<String>,
) {
    let decide = async |name: &Arc<str>| {
        let (answer, status) = oneshot::channel();
        let asked = inbox.send(Event::Accepting { name: name.clone(), answer }).await;
        match asked {
            Ok(()) => status.await.unwrap_or(Status::NotAllowed),
            Err(_) => Status::NotAllowed,
        }
    };
    match link::accept(stream, &local, decide).await {
        Ok(connection) => {
            let _ = inbox.send(Event::Connected(connection)).await;
        }
        // Whoever isn't of the cluster, or is and can't be let in, is worth a line; other ends are ordinary, such as that of
        // one of two attempts which cross.
        Err(Rejected { claimed: Some(claimed), error: SetupError::Handshake(why) })
            if matches!(why, HandshakeError::CookieMismatch | HandshakeError::FlagsMissing(_)) =>
        {
            let _ = told.try_send(format!("{from}, which calls itself {claimed}, was not let in: {why}"));
        }
        Err(Rejected { claimed, error }) => {
            debug!(%from, ?claimed, "a handshake was not completed: {error}");
        }
    }
}

/// Lets one line a second through, so that a peer can't fill the log.
#[derive(Default)]
struct LogLimit {
    last: Option<Instant>,
}

impl LogLimit {
    fn warn(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
            self.last = Some(now);
            warn!("{}", line());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::cookie::Cookie;
    use crate::dist::flags;

    #[tokio::test]
    async fn the_oldest_unfinished_handshake_gives_way() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let local = Identity {
            name: "a@h".into(),
            creation: 1,
            flags: flags::ours(false),
            cookie: Cookie::parse(b"c").unwrap(),
        };
        let (inbox, _events) = mpsc::channel(8);
        let server = tokio::spawn(run(listener, Arc::new(local), inbox));
        let mut silent = Vec::new();
        for _ in 0..=limits::HANDSHAKES {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // The first is closed by the last, well before the time limit of a handshake; the second stays open.
        let mut byte = [0];
        let read = tokio::time::timeout(limits::HANDSHAKE_TIME / 2, silent[0].read(&mut byte)).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "the oldest is closed: {read:?}");
        assert!(silent[1].try_read(&mut byte).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
        server.abort();
    }
}
