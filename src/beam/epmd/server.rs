//! An EPMD server, for hosts without EPMD.
//!
//! One task owns the state and answers one request after the other. Each connection has a task that
//! reads the request and writes the answer. A request may arrive slowly: an unfinished one occupies
//! a slot and a few KiB, and its time is bounded. Users of this host and other hosts share the
//! slots and the names fairly: see [`fair`](crate::fair).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::warn;

use super::protocol::{EpmdRequest, EpmdResponse, Table, Then};
use crate::fair::{Slots, Source};
use crate::limits;
use crate::trace::{self, Direction};

// ---- Tuning constants -----------------------------------------------------------------------

/// Connections that wait to be accepted, if the system allows as many (`net.core.somaxconn`, which
/// is the bound). More means that a flood rarely fills the queue before we accept again; less means
/// less memory of the kernel in a flood.
const ACCEPT_QUEUE: u32 = 4096;

/// Returns the user who owns the socket with the first address that is connected to the second
/// address, or `None` if unknown.
pub(crate) type UserOf = fn(SocketAddr, SocketAddr) -> Option<u32>;

/// A running EPMD server. Dropping it ends the server and its connections, so that the nodes notice
/// and register again.
#[derive(Debug)]
pub(crate) struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Returns whether the server is running. A client of this host can end it with a request.
    #[must_use]
    pub(crate) fn serves(&self) -> bool {
        !self.0.is_finished()
    }
}

/// An event from a connection to the task that owns the names.
enum Event {
    Asked(Asked),
    Closed(u64),
}

/// Starts a server at `port` of these addresses and of loopback, as the real EPMD does. Without
/// addresses, it listens on all addresses of this host. `user_of` returns the owners of connections
/// from this host.
///
/// # Errors
/// The port on loopback is in use or cannot be opened. Other addresses that cannot be opened are
/// skipped with a warning.
pub(crate) fn start(addresses: &[IpAddr], port: u16, user_of: UserOf) -> io::Result<Server> {
    let everywhere = addresses.is_empty() || addresses.iter().any(IpAddr::is_unspecified);
    let (first, second) = if everywhere {
        (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
    } else {
        (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    };
    let (first, second) = (IpAddr::from(first), IpAddr::from(second));
    let others = addresses.iter().copied().filter(|address| !everywhere && *address != first && *address != second);
    let mut listeners = vec![listen(SocketAddr::new(first, port))?];
    for address in std::iter::once(second).chain(others) {
        match listen(SocketAddr::new(address, port)) {
            Ok(listener) => listeners.push(listener),
            // A host without IPv6 needs no such listener.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {}
            Err(e) => warn!(%address, port, "EPMD does not listen on this address: {e}"),
        }
    }
    let random = getrandom::u32().map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Server(tokio::spawn(serve(listeners, Table::new(port, random), user_of))))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // Each address family has a separate socket.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

struct Asked {
    connection: u64,
    source: Source,
    request: EpmdRequest,
    answer: oneshot::Sender<EpmdResponse>,
}

impl Asked {
    /// Answers the request, and returns what follows. Ignores a connection that was evicted after
    /// its request: it would keep a name for ever, because its end is never reported.
    fn answer(self, table: &mut Table, unfinished: &mut Slots<Unfinished>) -> Option<Then> {
        let Self { connection, source, request, answer } = self;
        if !unfinished.iter().any(|other| other.connection == connection) {
            return None;
        }
        let answered = table.answer(connection, source, request);
        let then = answered.then;
        if answer.send(answered).is_err() {
            table.gone(connection);
        } else if then == Then::Keep {
            unfinished.retain(|other| other.connection != connection);
        }
        Some(then)
    }
}

/// A connection whose request is not answered yet.
struct Unfinished {
    connection: u64,
    task: AbortHandle,
}

async fn serve(listeners: Vec<TcpListener>, mut table: Table, user_of: UserOf) {
    let (events, mut inbox) = mpsc::channel(limits::EPMD_UNFINISHED);
    let (accepted, mut streams) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let accepted = accepted.clone();
        tasks.spawn(accept(listener, accepted));
    }
    let mut unfinished = Slots::new(limits::EPMD_UNFINISHED);
    let mut last = 0;
    let ended_by = loop {
        tokio::select! {
            Some(stream) = streams.recv() => {
                last += 1;
                unfinished.retain(|other: &Unfinished| !other.task.is_finished());
                let source = source(&stream, user_of);
                let task = tasks.spawn(connection(last, source, stream, events.clone()));
                let newest = Unfinished { connection: last, task };
                if let Some(evicted) = unfinished.insert(source, newest, |_| false) {
                    evicted.task.abort();
                }
            }
            Some(event) = inbox.recv() => match event {
                Event::Asked(asked) => {
                    let connection = asked.connection;
                    if asked.answer(&mut table, &mut unfinished) == Some(Then::End) {
                        break connection;
                    }
                }
                Event::Closed(connection) => table.gone(connection),
            },
            Some(_) = tasks.join_next() => {}
        }
    };
    // The client that requested the end receives its answer. Unfinished requests end with the
    // server.
    drop(streams);
    while unfinished.iter().any(|other| other.connection == ended_by && !other.task.is_finished()) {
        tasks.join_next().await;
    }
}

async fn accept(listener: TcpListener, accepted: mpsc::Sender<TcpStream>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if accepted.send(stream).await.is_err() {
                    return;
                }
            }
            // The process has no free file descriptor, or the connection ended early. The listener
            // continues in both cases.
            Err(_) => tokio::time::sleep(limits::ACCEPT_PAUSE).await,
        }
    }
}

/// Returns the source that a connection is counted for.
fn source(stream: &TcpStream, user_of: UserOf) -> Source {
    match (stream.peer_addr(), stream.local_addr()) {
        (Ok(theirs), Ok(ours)) => Source::new(theirs.ip(), user_of(theirs, ours)),
        _ => Source::new(Ipv4Addr::UNSPECIFIED.into(), None),
    }
}

async fn connection(id: u64, source: Source, mut stream: TcpStream, events: mpsc::Sender<Event>) {
    let peer = stream.peer_addr().ok();
    let exchange = async {
        let request = request_within_limits(&mut stream).await.inspect_err(|error| {
            trace::epmd(Direction::Received, peer, None, || format!("request that cannot be read: {error}"));
        })?;
        trace::epmd_request(Direction::Received, peer, &request);
        let name = request.name().map(<[u8]>::to_vec);
        if request.is_local_only() && !is_local(&stream)? {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (answer, answered) = oneshot::channel();
        let asked = events.send(Event::Asked(Asked { connection: id, source, request, answer })).await;
        asked.map_err(|_| io::ErrorKind::BrokenPipe)?;
        let EpmdResponse { bytes, then } = answered.await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        trace::epmd_answer(Direction::Sent, peer, name.as_deref(), &bytes);
        timeout(limits::EPMD_TIME, stream.write_all(&bytes)).await??;
        Ok::<_, io::Error>(then == Then::Keep)
    };
    if let Ok(true) = exchange.await {
        // A registered node sends nothing more, so the read ends with the connection. If its
        // network is gone, the keepalive ends it.
        let _ = keep_alive(&stream);
        let _ = stream.read_u8().await;
    }
    let _ = events.send(Event::Closed(id)).await;
}

/// Has the kernel close the connection when its other end no longer exists.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, limits::EPMD_KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, limits::EPMD_KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, limits::EPMD_KEEPALIVE_PROBES)
}

async fn request_within_limits(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<EpmdRequest> {
    timeout(limits::EPMD_REQUEST_TIME, read(stream)).await?
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<EpmdRequest> {
    let mut length = [0; 2];
    fill(stream, &mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > limits::EPMD_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut request = vec![0; length];
    fill(stream, &mut request).await?;
    EpmdRequest::read(&request).ok_or(io::ErrorKind::InvalidData.into())
}

/// Reads until `buffer` is full, and waits at most [`limits::EPMD_SILENCE`] for each part.
async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<()> {
    let mut left = buffer;
    while !left.is_empty() {
        let read = timeout(limits::EPMD_SILENCE, stream.read(left)).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}

/// Returns whether the other end is on this host: its address is loopback, or equal to the local
/// address of the connection.
fn is_local(stream: &TcpStream) -> io::Result<bool> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    Ok(peer.is_loopback() || peer == stream.local_addr()?.ip().to_canonical())
}

#[cfg(test)]
mod tests;
