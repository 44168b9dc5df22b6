//! The distribution port: takes connections and shakes hands, a bounded number at once.
//!
//! Whoever can reach the port can begin a handshake without knowing anything, so an unfinished one must cost little: when
//! [`limits::HANDSHAKES`] are under way, the oldest gives way to the newest.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

use crate::dist::handshake::{HandshakeError, Identity, Status};
use crate::dist::setup::{self, Rejected, SetupError};
use crate::limits;
use crate::log::limit::{self, limited};
use crate::node::event::Event;
use crate::node::listeners::owner_of_end;

/// Takes connections from `listener` until it is dropped. Completed ones go to `inbox`, as do questions about names.
pub async fn run(listener: TcpListener, local: Arc<Identity>, inbox: mpsc::Sender<Event>) {
    let mut unfinished: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                unfinished.retain(|task| !task.is_finished());
                if unfinished.len() >= limits::HANDSHAKES
                    && let Some(oldest) = unfinished.pop_front()
                {
                    oldest.abort();
                    limited!(
                        limit::CROWDS,
                        warn,
                        "{} handshakes are unfinished: the oldest gives way",
                        limits::HANDSHAKES
                    );
                }
                let shake = shake(stream, from, local.clone(), inbox.clone());
                unfinished.push_back(tokio::spawn(shake));
            }
            // Out of file descriptors, or the peer was gone at once: neither ends the listener.
            Err(e) => {
                limited!(limit::ACCEPTS, warn, "the distribution port can't take a connection: {e}");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
        if inbox.is_closed() {
            return;
        }
    }
}

async fn shake(stream: TcpStream, from: SocketAddr, local: Arc<Identity>, inbox: mpsc::Sender<Event>) {
    let decide = async |name: &Arc<str>| {
        let (answer, status) = oneshot::channel();
        let asked = inbox.send(Event::Accepting { name: name.clone(), answer }).await;
        match asked {
            Ok(()) => status.await.unwrap_or(Status::NotAllowed),
            Err(_) => Status::NotAllowed,
        }
    };
    let ours = stream.local_addr().ok();
    match setup::accept(stream, &local, decide).await {
        Ok(connection) => {
            // The peer hears that it is connected only after this.
            let owner = owner(ours, from).await;
            let _ = inbox.send(Event::Connected(connection, owner)).await;
        }
        Err(Rejected { claimed, error }) => reject(from, claimed.as_deref(), &error),
    }
}

/// Whose process is at the other end of a connection, where that is on this host.
async fn owner(ours: Option<SocketAddr>, theirs: SocketAddr) -> Option<u32> {
    let ours = ours?;
    tokio::task::spawn_blocking(move || owner_of_end(theirs, ours)).await.ok().flatten()
}

/// Whoever isn't of the cluster, or is and can't be let in, is worth a line; other ends are ordinary, such as that of one of two
/// attempts which cross.
fn reject(from: SocketAddr, claimed: Option<&str>, error: &SetupError) {
    let claimed = claimed.unwrap_or("nothing");
    match error {
        SetupError::Handshake(
            HandshakeError::CookieMismatch | HandshakeError::FlagsMissing(_) | HandshakeError::Reflected,
        ) => {
            limited!(limit::HANDSHAKES, warn, "{from}, which calls itself {claimed}, was not let in: {error}");
        }
        SetupError::Handshake(HandshakeError::Malformed(_) | HandshakeError::BadName)
        | SetupError::PacketTooLarge(_) => {
            limited!(limit::HANDSHAKES, warn, "{from} does not speak as a node does, and was not let in: {error}");
        }
        _ => debug!(%from, claimed, "a handshake was not completed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::cookie::Cookie;
    use crate::dist::challenges::Challenges;
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
            challenges: Challenges::default(),
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
