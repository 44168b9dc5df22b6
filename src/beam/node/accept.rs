//! The distribution port: accepts connections and runs a bounded number of handshakes at once.
//!
//! A handshake can be started without the cookie, so an unfinished one must cost little, and a
//! flood must not displace others. At most [`limits::HANDSHAKES`] are unfinished, and the sources
//! of connections share them fairly (see `fair`). Silent peers are closed before peers of the same
//! source that have sent their names.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

use crate::connect::owners::owner_of_end;
use crate::dist::given_names::GivenNames;
use crate::dist::handshake::{HandshakeError, Identity, Status};
use crate::dist::setup::{self, Rejected, SetupError};
use crate::fair::{Slots, Source};
use crate::limits;
use crate::log_limit::{self, limited};
use crate::node::event::NodeCommand;

// ---- Tuning constants -----------------------------------------------------------------------

/// The length of the queue of connections to accept, which `net.core.somaxconn` bounds. When it is
/// full, the kernel ignores further connections, and all clients retry after 1 s or more. More
/// means that a flood rarely fills the queue before we accept again; less means that a flood uses
/// less kernel memory.
const ACCEPT_QUEUE: u32 = 4096;

/// Returns the user who owns the socket that has the first address and is connected to the second
/// address. Returns `None` if the user is unknown.
pub(crate) type UserOf = fn(SocketAddr, SocketAddr) -> Option<u32>;

/// An unfinished handshake, which runs in a separate task.
struct Handshake {
    task: JoinHandle<()>,
    source: Source,
    /// Whether the peer has sent its name.
    named: Arc<AtomicBool>,
}

/// Opens the distribution port.
///
/// # Errors
/// The address cannot be used.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of an earlier daemon may not have ended yet.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

/// Accepts connections from `listener` until the node stops. Sends to `inbox` a request for the
/// status of each name, and each connection whose handshake is complete.
pub(crate) async fn run(
    listener: TcpListener,
    local: Arc<Identity>,
    user_of: UserOf,
    inbox: mpsc::Sender<NodeCommand>,
) {
    let mut unfinished = Slots::new(limits::HANDSHAKES);
    let names = GivenNames::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                unfinished.retain(|handshake: &Handshake| !handshake.task.is_finished());
                let user = stream.local_addr().ok().and_then(|ours| user_of(from, ours));
                let source = Source::new(from.ip(), user);
                let named = Arc::new(AtomicBool::new(false));
                let shared = Shared { local: local.clone(), names: names.clone(), inbox: inbox.clone() };
                let task = tokio::spawn(handshake(stream, from, user, named.clone(), shared));
                let handshake = Handshake { task, source, named };
                let evicted = unfinished.insert(source, handshake, |other| other.named.load(Ordering::Relaxed));
                if let Some(evicted) = evicted {
                    evicted.task.abort();
                    limited!(
                        log_limit::CROWDS,
                        warn,
                        "too many unfinished handshakes (limit {}): closed one from {}, which has the most",
                        limits::HANDSHAKES,
                        evicted.source
                    );
                }
            }
            // The process has no free file descriptors, or the peer has closed its end. The
            // listener continues after both.
            Err(e) => {
                limited!(log_limit::ACCEPTS, warn, "cannot accept a connection on the distribution port: {e}");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
        if inbox.is_closed() {
            return;
        }
    }
}

/// The parts that every handshake shares.
struct Shared {
    local: Arc<Identity>,
    names: GivenNames,
    inbox: mpsc::Sender<NodeCommand>,
}

async fn handshake(stream: TcpStream, from: SocketAddr, user: Option<u32>, named: Arc<AtomicBool>, shared: Shared) {
    let Shared { local, names, inbox } = shared;
    let decide = |name| {
        named.store(true, Ordering::Relaxed);
        let (answer, status) = oneshot::channel();
        let sent = inbox.send(NodeCommand::Accepting { name, answer });
        async {
            match sent.await {
                Ok(()) => status.await.unwrap_or(Status::NotAllowed),
                Err(_) => Status::NotAllowed,
            }
        }
    };
    let ours = stream.local_addr().ok();
    match setup::accept(stream, &local, names, decide).await {
        Ok(connection) => {
            // The last packet of the handshake is sent only after this.
            let owner = if user.is_some() { user } else { owner(ours, from).await };
            let _ = inbox.send(NodeCommand::Connected(connection, owner)).await;
        }
        Err(Rejected { claimed, error }) => log_rejection(from, claimed.as_deref(), &error),
    }
}

/// Returns the owner of the other end of a connection, if that end is on this host. Slower than
/// [`UserOf`], but also works where the kernel does not answer direct queries.
async fn owner(ours: Option<SocketAddr>, theirs: SocketAddr) -> Option<u32> {
    let ours = ours?;
    tokio::task::spawn_blocking(move || owner_of_end(theirs, ours)).await.ok().flatten()
}

/// Logs why a handshake has failed. A peer that lacks the cookie or breaks the protocol is logged
/// as a warning. Other failures are ordinary. For example, if two attempts cross, one of them
/// fails.
fn log_rejection(from: SocketAddr, claimed: Option<&str>, error: &SetupError) {
    let claimed = claimed.unwrap_or("an unnamed node");
    match error {
        SetupError::Handshake(
            HandshakeError::CookieMismatch | HandshakeError::FlagsMissing(_) | HandshakeError::Reflected,
        ) => {
            limited!(log_limit::HANDSHAKES, warn, "rejected the handshake of {claimed} from {from}: {error}");
        }
        SetupError::Handshake(HandshakeError::Malformed(_) | HandshakeError::BadName)
        | SetupError::PacketTooLarge(_) => {
            limited!(log_limit::HANDSHAKES, warn, "rejected a malformed handshake from {from}: {error}");
        }
        _ => debug!(%from, claimed, "handshake failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::AbortHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::cookie::Cookie;
    use crate::dist::challenges::Challenges;
    use crate::dist::{flags, handshake};

    fn identity(name: &str) -> Identity {
        let (flags, cookie) = (flags::ours(false), Cookie::parse(b"c").unwrap());
        Identity { name: name.parse().unwrap(), creation: 1, flags, cookie, challenges: Challenges::default() }
    }

    #[tokio::test]
    async fn a_burst_of_connections_waits_in_the_accept_queue() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..256 {
            let connected = timeout(Duration::from_secs(5), TcpStream::connect(address)).await;
            waiting.push(connected.expect("the queue is not full").unwrap());
        }
    }

    /// Starts an acceptor that knows no users and accepts every node.
    async fn started() -> (SocketAddr, [AbortHandle; 2]) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (inbox, mut events) = mpsc::channel(8);
        let acceptor = tokio::spawn(run(listener, Arc::new(identity("a@h")), |_, _| None, inbox));
        let node = tokio::spawn(async move {
            let mut connected = Vec::new();
            while let Some(event) = events.recv().await {
                match event {
                    NodeCommand::Accepting { answer, .. } => drop(answer.send(Status::Ok)),
                    NodeCommand::Connected(connection, _) => connected.push(connection),
                    _ => {}
                }
            }
        });
        (address, [acceptor.abort_handle(), node.abort_handle()])
    }

    /// Connects from 127.0.0.`last`.
    async fn connect(last: u8, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        // The port is free as soon as the connection closes, so a flood cannot use up the ports.
        socket.set_zero_linger().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    }

    async fn assert_closed(stream: &mut TcpStream) {
        let read = timeout(limits::HANDSHAKE_TIME / 2, stream.read(&mut [0])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "the connection is open: {read:?}");
    }

    fn is_open(stream: &TcpStream) -> bool {
        stream.try_read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn the_address_with_the_most_unfinished_handshakes_loses_its_oldest_one() {
        let (address, tasks) = started().await;
        // The oldest connection is from another address and stays open.
        let other = connect(2, address).await;
        let mut silent = Vec::new();
        for _ in 0..limits::HANDSHAKES {
            silent.push(connect(3, address).await);
        }
        assert_closed(&mut silent[0]).await;
        assert!(is_open(&silent[1]) && is_open(&other));
        tasks.iter().for_each(AbortHandle::abort);
    }

    async fn packet(stream: &mut TcpStream) -> Vec<u8> {
        let length = stream.read_u16().await.expect("the connection is open");
        let mut packet = vec![0; usize::from(length)];
        stream.read_exact(&mut packet).await.expect("the connection is open");
        packet
    }

    /// Sends the name and reads the status, which arrives only after the name was read.
    async fn send_name(stream: &mut TcpStream, name: &str) {
        let (awaited, name) = handshake::dial(&identity(name), "a@h".parse().unwrap());
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &name].concat()).await.unwrap();
        assert!(awaited.receive(&packet(stream).await).is_ok());
    }

    #[tokio::test]
    async fn a_peer_that_has_sent_its_name_is_kept_longer_than_silent_ones() {
        let (address, tasks) = started().await;
        let mut honest = connect(2, address).await;
        send_name(&mut honest, "b@h").await;
        let mut silent = Vec::new();
        for _ in 0..2 * limits::HANDSHAKES {
            silent.push(connect(2, address).await);
        }
        assert_closed(&mut silent[limits::HANDSHAKES]).await;
        packet(&mut honest).await;
        assert!(is_open(&honest));
        tasks.iter().for_each(AbortHandle::abort);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_from_one_address_does_not_fail_handshakes_from_another() {
        let (address, tasks) = started().await;
        let mut flood = VecDeque::new();
        for number in 0..20 {
            let mut stream = connect(3, address).await;
            send_name(&mut stream, &format!("b{number}@h")).await;
            // The challenge is read only after many more connections.
            for _ in 0..limits::HANDSHAKES {
                flood.push_back(connect(2, address).await);
                if flood.len() > limits::HANDSHAKES {
                    flood.pop_front();
                }
            }
            packet(&mut stream).await;
            assert!(is_open(&stream), "connection {number} was closed");
        }
        tasks.iter().for_each(AbortHandle::abort);
    }
}
