//! The handshake over TCP, for the dialling node and for the accepting node. Sends and receives
//! packets, and bounds their size and the total time.
//!
//! `handshake` decides the contents of the packets, and `link` runs the resulting connection.
//!
//! Spec: `dist_util.erl`.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::challenges::Issued;
use super::given_names::{GivenName, GivenNames, Random};
use super::handshake::{
    self, Established, HandshakeError, Identity, Named, Origin, ReplyReceived, Status, StatusReceived, alive_reply,
};
use crate::limits;
use crate::name::{NodeName, NodeNameError};
use crate::trace::ConnectionTrace;

/// A connection over which both sides have proved the cookie.
#[derive(Debug)]
pub struct Connection {
    /// The peer.
    pub peer: Established,
    /// The origin of the connection.
    pub origin: Origin,
    pub(super) stream: TcpStream,
    /// The last packet of the handshake, if this node sends it. `link::start` sends it, when the
    /// owner has the connection. If the peer received it earlier, it could rely on a connection
    /// that the owner does not have yet. Of two simultaneous connections, each node could then
    /// close a different one.
    pub(super) unsent: Bytes,
    /// The name that this node assigned to the peer, if the peer had none. Its owner drops it with
    /// the connection.
    pub given: Option<GivenName>,
    pub(super) trace: ConnectionTrace,
}

impl Connection {
    /// Returns the address of the peer, or `None` if the connection has ended.
    #[must_use]
    pub(crate) fn peer_address(&self) -> Option<IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The peer closed the connection when it checked the cookie, so its cookie differs.
    #[error("the peer rejected our cookie: it has another one")]
    ProofRefused,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection ended.
    #[error("the connection ended during the handshake: {0}")]
    Io(#[from] io::Error),
    /// A packet larger than [`limits::HANDSHAKE_PACKET`].
    #[error("the peer sent a handshake packet of {0} bytes, which exceeds the limit of {max} bytes", max = limits::HANDSHAKE_PACKET)]
    PacketTooLarge(usize),
    /// The peer answered the first packet with a TLS alert, as a node with `-proto_dist inet_tls`
    /// does.
    #[error("the peer expects TLS")]
    TlsExpected,
    /// The handshake took longer than [`limits::HANDSHAKE_TIME`].
    #[error("the handshake did not complete within {} s", limits::HANDSHAKE_TIME.as_secs())]
    TimedOut,
    /// The system provided no random numbers.
    #[error("the system provided no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Why a peer that dialled was refused.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// The name that the peer sent, or the host on which it requested a name. It is not proved.
    pub claimed: Option<String>,
    /// The reason.
    pub error: SetupError,
}

async fn send(stream: &mut TcpStream, trace: &ConnectionTrace, packet: &[u8]) -> Result<(), SetupError> {
    trace.packet_sent(packet);
    write(stream, packet).await
}

async fn write(stream: &mut TcpStream, packet: &[u8]) -> Result<(), SetupError> {
    Ok(stream.write_all(&framed(packet)?).await?)
}

/// Returns a packet of the handshake with its length.
fn framed(packet: &[u8]) -> Result<Vec<u8>, SetupError> {
    let length = u16::try_from(packet.len()).map_err(|_| SetupError::PacketTooLarge(packet.len()))?;
    Ok([&length.to_be_bytes(), packet].concat())
}

async fn receive(stream: &mut TcpStream, trace: &ConnectionTrace) -> Result<Vec<u8>, SetupError> {
    let packet = read(stream).await?;
    trace.packet_received(&packet);
    Ok(packet)
}

async fn read(stream: &mut TcpStream) -> Result<Vec<u8>, SetupError> {
    let length = usize::from(stream.read_u16().await?);
    if length > limits::HANDSHAKE_PACKET {
        return Err(SetupError::PacketTooLarge(length));
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// Receives the answer to the first packet. It may be a TLS alert: content type 21, a version 3.x,
/// a length of 2, a level and a description (RFC 5246, section 7.2).
async fn receive_first(stream: &mut TcpStream, trace: &ConnectionTrace) -> Result<Vec<u8>, SetupError> {
    match receive(stream, trace).await {
        Err(SetupError::PacketTooLarge(length)) if length == TLS_ALERT => {
            let mut alert = [0; 5];
            stream.read_exact(&mut alert).await?;
            Err(match alert {
                [0..=4, 0, 2, 1 | 2, _] => SetupError::TlsExpected,
                _ => SetupError::PacketTooLarge(length),
            })
        }
        answer => answer,
    }
}

/// The first two bytes of a TLS alert, read as the length of a packet.
const TLS_ALERT: usize = 0x1503;

/// Issues a challenge, which is outstanding until the value is dropped.
fn challenge(local: &Identity) -> Result<Issued, SetupError> {
    Ok(local.challenges.issue(getrandom::u32().map_err(SetupError::Random)?))
}

/// Performs the handshake with the node `dialled` over `stream`. If the peer has an older
/// connection from this node, `still_wanted` decides whether the new one replaces it.
///
/// # Errors
/// See [`SetupError`].
pub async fn dial(
    stream: TcpStream,
    local: &Identity,
    dialled: NodeName,
    still_wanted: impl AsyncFnOnce() -> bool,
) -> Result<Connection, SetupError> {
    dial_noting(stream, local, dialled, &AtomicBool::new(false), still_wanted).await
}

/// Does the same as [`dial`], and sets `answered` when the peer agrees to a handshake.
///
/// # Errors
/// See [`SetupError`].
pub(crate) async fn dial_noting(
    mut stream: TcpStream,
    local: &Identity,
    dialled: NodeName,
    answered: &AtomicBool,
    still_wanted: impl AsyncFnOnce() -> bool,
) -> Result<Connection, SetupError> {
    let trace = ConnectionTrace::new(Some(&dialled), stream.peer_addr().ok());
    let mut origin = Origin::Dialled;
    let shake = async {
        stream.set_nodelay(true)?;
        let (status, packet) = handshake::dial(local, dialled);
        send(&mut stream, &trace, &packet).await?;
        let status = status.receive(&receive_first(&mut stream, &trace).await?)?;
        answered.store(true, Ordering::Relaxed);
        let awaited = match status {
            StatusReceived::Proceed(awaited) => awaited,
            StatusReceived::Alive(awaited) => {
                let still_wanted = still_wanted().await;
                send(&mut stream, &trace, alive_reply(still_wanted)).await?;
                if !still_wanted {
                    return Err(HandshakeError::AlreadyAlive.into());
                }
                origin = Origin::Replacing;
                awaited
            }
        };
        let ours = challenge(local)?;
        let (awaited, packet) = awaited.receive(&receive(&mut stream, &trace).await?, local, ours.challenge())?;
        send(&mut stream, &trace, &packet).await?;
        // A peer that received a wrong digest closes the connection without an answer
        // (`recv_challenge_reply/3`).
        let ack = receive(&mut stream, &trace).await.map_err(|e| match e {
            SetupError::Io(_) => SetupError::ProofRefused,
            other => other,
        })?;
        Ok(awaited.receive(&ack, local)?)
    };
    let shaken = timeout(limits::HANDSHAKE_TIME, shake).await.unwrap_or(Err(SetupError::TimedOut));
    let peer = shaken.inspect_err(|error| trace.failed(error))?;
    Ok(Connection { peer, origin, stream, unsent: Bytes::new(), given: None, trace })
}

/// Starts a handshake with the node `dialled` over `stream`, and stops when the peer has sent its
/// name and flags. Does not prove the cookie, and does not replace an older connection. Closes the
/// stream.
///
/// # Errors
/// See [`SetupError`]; [`HandshakeError::AlreadyAlive`] if the peer has an older connection.
pub async fn sound_out(mut stream: TcpStream, local: &Identity, dialled: NodeName) -> Result<(), SetupError> {
    let trace = ConnectionTrace::new(Some(&dialled), stream.peer_addr().ok());
    let sound = async {
        let (status, packet) = handshake::dial(local, dialled);
        send(&mut stream, &trace, &packet).await?;
        let awaited = match status.receive(&receive_first(&mut stream, &trace).await?)? {
            StatusReceived::Proceed(awaited) => awaited,
            StatusReceived::Alive(_) => {
                send(&mut stream, &trace, alive_reply(false)).await?;
                return Err(HandshakeError::AlreadyAlive.into());
            }
        };
        // The answer to the challenge would prove the cookie, so it is not sent.
        let _ = awaited.receive(&receive(&mut stream, &trace).await?, local, challenge(local)?.challenge())?;
        Ok(())
    };
    let sounded = timeout(limits::HANDSHAKE_TIME, sound).await.unwrap_or(Err(SetupError::TimedOut));
    sounded.inspect_err(|error| trace.failed(error)).inspect(|()| trace.ended(&"the handshake was only a check"))
}

/// Performs the handshake with a peer that dialled. `decide` returns the status for the name of the
/// peer. A peer that sends no name gets a name from `names`.
///
/// # Errors
/// See [`SetupError`].
pub(crate) async fn accept<Decision: Future<Output = Status>>(
    mut stream: TcpStream,
    local: &Identity,
    names: GivenNames,
    decide: impl Fn(NodeName) -> Decision,
) -> Result<Connection, Rejected> {
    let (mut origin, mut claimed, mut given) = (Origin::Accepted, None, None);
    let mut trace = ConnectionTrace::new(None, stream.peer_addr().ok());
    let shake = async {
        stream.set_nodelay(true)?;
        let packet = read(&mut stream).await?;
        let named = handshake::receive_name(&packet);
        if let Ok(named) = &named {
            claimed = Some(named.claimed().to_owned());
            if !named.is_nameless() {
                trace.name(named.name());
            }
        }
        trace.packet_received(&packet);
        let mut named = named?;
        if let Err(e) = named.check_flags() {
            send(&mut stream, &trace, Named::status_packet(Status::NotAllowed)).await?;
            return Err(e.into());
        }
        let status = if named.is_nameless() {
            given = Some(give_name(&mut named, &names, &decide).await?);
            trace.name(named.name());
            send(&mut stream, &trace, &named.name_packet()).await?;
            Status::Ok
        } else {
            let status = decide(named.name().clone()).await;
            send(&mut stream, &trace, Named::status_packet(status)).await?;
            status
        };
        match status {
            Status::Ok | Status::OkSimultaneous => {}
            Status::Alive => {
                named.receive_alive(&receive(&mut stream, &trace).await?)?;
                origin = Origin::Replacing;
            }
            Status::Nok => return Err(HandshakeError::Simultaneous.into()),
            Status::NotAllowed => return Err(HandshakeError::NotAllowed.into()),
        }
        let ours = challenge(local)?;
        let (mut awaited, packet) = named.challenge(local, ours.challenge());
        send(&mut stream, &trace, &packet).await?;
        loop {
            match awaited.receive(&receive(&mut stream, &trace).await?, local)? {
                ReplyReceived::Complemented(next) => awaited = next,
                ReplyReceived::Done(peer, packet) => {
                    trace.packet_sent(&packet);
                    return Ok((peer, framed(&packet)?));
                }
            }
        }
    };
    match timeout(limits::HANDSHAKE_TIME, shake).await.unwrap_or(Err(SetupError::TimedOut)) {
        Ok((peer, unsent)) => {
            given.iter_mut().for_each(GivenName::remember);
            Ok(Connection { peer, origin, stream, unsent: unsent.into(), given, trace })
        }
        Err(error) => {
            trace.failed(&error);
            Err(Rejected { claimed, error })
        }
    }
}

/// Gives a nameless peer a name that may connect: a former one, or a new one if another node uses
/// the former one (`ensure_node_name/2` in OTP's `net_kernel.erl`).
async fn give_name<Decision: Future<Output = Status>>(
    named: &mut Named,
    names: &GivenNames,
    decide: impl Fn(NodeName) -> Decision,
) -> Result<GivenName, SetupError> {
    let host = named.name().host().to_owned();
    let random = Random {
        name: getrandom::u64().map_err(SetupError::Random)?,
        creation: getrandom::u32().map_err(SetupError::Random)?,
    };
    let invalid = |_: NodeNameError| HandshakeError::BadName;
    let mut given = names.give(&host, random).map_err(invalid)?;
    let mut status = decide(given.name().clone()).await;
    if status != Status::Ok {
        given = names.give_new(&host, random).map_err(invalid)?;
        status = decide(given.name().clone()).await;
    }
    named.give_name(&given);
    if status == Status::Ok { Ok(given) } else { Err(HandshakeError::NotAllowed.into()) }
}

#[cfg(test)]
pub(super) mod tests;
