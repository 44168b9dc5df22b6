//! A connection's sockets and times: the handshake over TCP, then one task a connection that reads, writes and ticks.
//!
//! The reader never waits for its own writer: both run side by side in one task. Frames are decoded here, as many as
//! one read brought, and handed to the owner as one batch. What is to be written arrives in a queue that is bounded in
//! bytes; it is the owner's business to end a connection whose queue is full, and never to wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::control::{self, Control, ControlError};
use super::framing::{self, Frame, FrameTooLarge};
use super::handshake::{
    self, Established, HandshakeError, Identity, Named, Origin, ReplyReceived, Status, StatusReceived, alive_reply,
};
use crate::etf::Atoms;
use crate::{limits, metrics};

/// A connection over which both sides have proved the cookie.
#[derive(Debug)]
pub struct Connection {
    /// Who is at the other end.
    pub peer: Established,
    /// How it came about.
    pub origin: Origin,
    stream: TcpStream,
    /// The last packet of the handshake, where it is ours to send. It goes out with [`start`]: a peer that has the connection
    /// must be able to count on our owner's having it, or both may give up another one of two that cross.
    unsent: Bytes,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The peer broke off where it checks our cookie: it has another one.
    #[error("the peer closed the connection on our proof: it has another cookie")]
    ProofRefused,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer closed the connection, or it broke.
    #[error("the connection ended in the handshake: {0}")]
    Io(#[from] io::Error),
    /// A packet larger than [`limits::HANDSHAKE_PACKET`].
    #[error("the peer sent a handshake packet of {0} bytes")]
    PacketTooLarge(usize),
    /// It took longer than [`limits::HANDSHAKE_TIME`].
    #[error("the handshake was not finished in time")]
    TimedOut,
    /// The system has no random numbers for us.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Why a peer that dialled us was not let in.
#[derive(Debug)]
pub struct Rejected {
    /// Who it said that it was, if it came that far. Nothing proves it.
    pub claimed: Option<Arc<str>>,
    /// Why.
    pub error: SetupError,
}

async fn send(stream: &mut TcpStream, packet: &[u8]) -> Result<(), SetupError> {
    Ok(stream.write_all(&framed(packet)?).await?)
}

/// A packet of the handshake with its length.
fn framed(packet: &[u8]) -> Result<Vec<u8>, SetupError> {
    let length = u16::try_from(packet.len()).map_err(|_| SetupError::PacketTooLarge(packet.len()))?;
    Ok([&length.to_be_bytes(), packet].concat())
}

async fn receive(stream: &mut TcpStream) -> Result<Vec<u8>, SetupError> {
    let length = usize::from(stream.read_u16().await?);
    if length > limits::HANDSHAKE_PACKET {
        return Err(SetupError::PacketTooLarge(length));
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

fn challenge() -> Result<u32, SetupError> {
    getrandom::u32().map_err(SetupError::Random)
}

/// Shakes hands over `stream` with the node `dialled`. `go_on` is asked whether we still want the connection if the
/// peer says that it holds an older one from us.
///
/// # Errors
/// See [`SetupError`].
pub async fn dial(
    mut stream: TcpStream,
    local: &Identity,
    dialled: Arc<str>,
    go_on: impl AsyncFnOnce() -> bool,
) -> Result<Connection, SetupError> {
    let mut origin = Origin::Dialled;
    let shake = async {
        stream.set_nodelay(true)?;
        let (status, packet) = handshake::dial(local, dialled);
        send(&mut stream, &packet).await?;
        let awaited = match status.receive(&receive(&mut stream).await?)? {
            StatusReceived::Proceed(awaited) => awaited,
            StatusReceived::Alive(awaited) => {
                let go_on = go_on().await;
                send(&mut stream, alive_reply(go_on)).await?;
                if !go_on {
                    return Err(HandshakeError::AlreadyAlive.into());
                }
                origin = Origin::Replacing;
                awaited
            }
        };
        let (awaited, packet) = awaited.receive(&receive(&mut stream).await?, local, challenge()?)?;
        send(&mut stream, &packet).await?;
        // A peer that finds our digest wrong says nothing and closes (`recv_challenge_reply/3`).
        let ack = receive(&mut stream).await.map_err(|e| match e {
            SetupError::Io(_) => SetupError::ProofRefused,
            other => other,
        })?;
        Ok(awaited.receive(&ack, local)?)
    };
    let peer = timeout(limits::HANDSHAKE_TIME, shake).await.unwrap_or(Err(SetupError::TimedOut))?;
    Ok(Connection { peer, origin, stream, unsent: Bytes::new() })
}

/// Shakes hands over `stream` with the node `dialled`, but only until it has said who it is and what it can do: nothing is
/// proved to it, and an older connection that it believes in stays. Then the stream is closed.
///
/// # Errors
/// See [`SetupError`]; [`HandshakeError::AlreadyAlive`] where it believes in an older connection.
pub async fn sound_out(mut stream: TcpStream, local: &Identity, dialled: Arc<str>) -> Result<(), SetupError> {
    let sound = async {
        let (status, packet) = handshake::dial(local, dialled);
        send(&mut stream, &packet).await?;
        let awaited = match status.receive(&receive(&mut stream).await?)? {
            StatusReceived::Proceed(awaited) => awaited,
            StatusReceived::Alive(_) => {
                send(&mut stream, alive_reply(false)).await?;
                return Err(HandshakeError::AlreadyAlive.into());
            }
        };
        // The answer to its challenge is what would prove the cookie: it is not sent.
        let _ = awaited.receive(&receive(&mut stream).await?, local, challenge()?)?;
        Ok(())
    };
    timeout(limits::HANDSHAKE_TIME, sound).await.unwrap_or(Err(SetupError::TimedOut))
}

/// Shakes hands with whoever dialled us. `decide` is asked for the status once the peer has given its name.
///
/// # Errors
/// See [`SetupError`].
pub async fn accept(
    mut stream: TcpStream,
    local: &Identity,
    decide: impl AsyncFnOnce(&Arc<str>) -> Status,
) -> Result<Connection, Rejected> {
    let (mut origin, mut claimed) = (Origin::Accepted, None);
    let shake = async {
        stream.set_nodelay(true)?;
        let mut named = handshake::receive_name(&receive(&mut stream).await?)?;
        claimed = Some(named.name().clone());
        if let Err(e) = named.check_flags() {
            send(&mut stream, Named::status_packet(Status::NotAllowed)).await?;
            return Err(e.into());
        }
        if named.is_nameless() {
            named.give_name(getrandom::u64().map_err(SetupError::Random)?, challenge()? | 4);
        }
        let status = decide(named.name()).await;
        match status {
            Status::Ok if named.is_nameless() => send(&mut stream, &named.name_packet()).await?,
            // No node has this name by chance.
            _ if named.is_nameless() => return Err(HandshakeError::NotAllowed.into()),
            status => send(&mut stream, Named::status_packet(status)).await?,
        }
        match status {
            Status::Ok | Status::OkSimultaneous => {}
            Status::Alive => {
                named.receive_alive(&receive(&mut stream).await?)?;
                origin = Origin::Replacing;
            }
            Status::Nok => return Err(HandshakeError::Simultaneous.into()),
            Status::NotAllowed => return Err(HandshakeError::NotAllowed.into()),
        }
        let (mut awaited, packet) = named.challenge(local, challenge()?);
        send(&mut stream, &packet).await?;
        loop {
            match awaited.receive(&receive(&mut stream).await?, local)? {
                ReplyReceived::Complemented(next) => awaited = next,
                ReplyReceived::Done(peer, packet) => return Ok((peer, framed(&packet)?)),
            }
        }
    };
    match timeout(limits::HANDSHAKE_TIME, shake).await.unwrap_or(Err(SetupError::TimedOut)) {
        Ok((peer, unsent)) => Ok(Connection { peer, origin, stream, unsent: unsent.into() }),
        Err(error) => Err(Rejected { claimed, error }),
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it: its node ended or disconnected from us.
    #[error("connection closed by the peer")]
    ClosedByPeer,
    /// Nothing came for the whole tick time (`net_tick_timeout`).
    #[error("no sign of life from the peer for {0:?} (net_tick_timeout)")]
    TickTimeout(Duration),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Io(io::ErrorKind),
    /// The peer broke the protocol.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The peer broke our bound on frames.
    #[error(transparent)]
    FrameTooLarge(#[from] FrameTooLarge),
    /// We ended it.
    #[error("closed by us")]
    ByUs,
}

impl From<io::Error> for CloseReason {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::ClosedByPeer
            }
            kind => Self::Io(kind),
        }
    }
}

/// What a connection tells its owner.
#[derive(Debug)]
pub enum LinkEvent {
    /// Control messages in the order of their arrival, each with its undecoded payload.
    Messages(Vec<(Control, Option<Bytes>)>),
    /// The connection has ended; nothing follows.
    Closed(CloseReason),
}

/// The owner's end of a connection. Dropping it flushes what is queued and closes, within [`limits::LINK_FLUSH`].
#[derive(Debug)]
pub struct LinkSender {
    queue: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
    _closing: oneshot::Sender<()>,
}

/// More than [`limits::LINK_QUEUE`] bytes wait for a peer that doesn't read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer does not read what we send: more than {max} bytes are queued", max = limits::LINK_QUEUE)]
pub struct QueueFull;

impl LinkSender {
    /// Queues whole frames.
    ///
    /// # Errors
    /// [`QueueFull`]: the connection should be dropped. (A connection that has ended takes everything in silence; its
    /// end has been or will be told by [`LinkEvent::Closed`].)
    pub fn send(&self, frames: Bytes) -> Result<(), QueueFull> {
        // The bound is in bytes, which a channel's own can't be: so the channel has none, and this count is its bound.
        // A single batch may be larger than the bound, since one message may be.
        let before = self.queued.fetch_add(frames.len(), Ordering::Relaxed);
        if before > limits::LINK_QUEUE {
            return Err(QueueFull);
        }
        let _ = self.queue.send(frames);
        Ok(())
    }
}

/// Starts the task of a connection. What it has to tell goes to `inbox`, made into the owner's own type by `wrap`; the
/// bound of `inbox` is what holds a peer back that sends faster than we work.
///
/// A peer from which nothing comes for `tick_time` is gone. Halfway there it is sent `probe`, whole frames which any node
/// answers at once: one whose own tick time is longer than ours ticks too seldom for us, and must not be taken for dead.
pub fn start<T: Send + 'static>(
    connection: Connection,
    tick_time: Duration,
    probe: Bytes,
    inbox: mpsc::Sender<T>,
    wrap: impl Fn(LinkEvent) -> T + Send + Sync + 'static,
) -> LinkSender {
    let (queue, queue_end) = mpsc::unbounded_channel();
    let (closing, closed) = oneshot::channel();
    let queued = Arc::new(AtomicUsize::new(connection.unsent.len()));
    let sender = LinkSender { queue, queued: queued.clone(), _closing: closing };
    let (tick_arrived, silence) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (read, write) = connection.stream.into_split();
    let mut reader = Reader {
        socket: read,
        buffer: BytesMut::new(),
        atoms: Atoms::new(),
        tick_time,
        tick_arrived: tick_arrived.clone(),
        silence: silence.clone(),
    };
    let mut writer = Writer {
        socket: write,
        queue: queue_end,
        queued,
        unwritten: connection.unsent,
        tick_every: tick_time / 4,
        tick_arrived,
        silence,
        probe,
    };
    tokio::spawn(async move {
        let reason = tokio::select! {
            reason = reader.run(&inbox, &wrap) => reason,
            reason = writer.run() => reason,
            _ = closed => CloseReason::ByUs,
        };
        if reason == CloseReason::ByUs {
            let last = async {
                writer.drain().await?;
                reader.until_closed().await
            };
            let _ = timeout(limits::LINK_FLUSH, last).await;
        }
        let _ = inbox.send(wrap(LinkEvent::Closed(reason))).await;
    });
    sender
}

struct Reader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    atoms: Atoms,
    tick_time: Duration,
    tick_arrived: Arc<Notify>,
    /// Told when nothing has come for half of the tick time.
    silence: Arc<Notify>,
}

impl Reader {
    async fn run<T>(&mut self, inbox: &mpsc::Sender<T>, wrap: &impl Fn(LinkEvent) -> T) -> CloseReason {
        let mut probed = false;
        loop {
            self.buffer.reserve(limits::READ_CHUNK);
            match timeout(self.tick_time / 2, self.socket.read_buf(&mut self.buffer)).await {
                Err(_) if probed => return CloseReason::TickTimeout(self.tick_time),
                Err(_) => {
                    probed = true;
                    self.silence.notify_one();
                    continue;
                }
                Ok(Err(e)) => return e.into(),
                Ok(Ok(0)) => return CloseReason::ClosedByPeer,
                Ok(Ok(n)) => {
                    metrics::LINK_RECEIVED_BYTES.add_size(n);
                    probed = false;
                }
            }
            loop {
                let mut batch = Vec::new();
                let more = self.decode(&mut batch);
                metrics::LINK_RECEIVED_MESSAGES.add_size(batch.len());
                if !batch.is_empty() && inbox.send(wrap(LinkEvent::Messages(batch))).await.is_err() {
                    return CloseReason::ByUs;
                }
                match more {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(reason) => return reason,
                }
            }
        }
    }

    /// Reads and drops what comes until the peer closes its end too: a socket that is closed with bytes unread is reset,
    /// and the peer would lose what it has not read yet.
    async fn until_closed(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(limits::READ_CHUNK);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Tells whether there may be more.
    fn decode(&mut self, batch: &mut Vec<(Control, Option<Bytes>)>) -> Result<bool, CloseReason> {
        while let Some(frame) = framing::next(&mut self.buffer)? {
            match frame {
                Frame::Tick => self.tick_arrived.notify_one(),
                Frame::Message(frame) => batch.extend(control::decode(&frame, &mut self.atoms)?),
            }
            // What is answered must be sent before more is asked: or the answers would pile up unseen.
            if batch.len() >= limits::MESSAGES {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Writer {
    socket: OwnedWriteHalf,
    queue: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
    /// What of a batch is not written yet. It lives here and not in a future, so that a cut-off write can go on.
    unwritten: Bytes,
    tick_every: Duration,
    tick_arrived: Arc<Notify>,
    silence: Arc<Notify>,
    probe: Bytes,
}

impl Writer {
    async fn run(&mut self) -> CloseReason {
        const TICK: Bytes = Bytes::from_static(&[0; 4]);
        let mut last_written = Instant::now();
        let mut written_since_tick = false;
        if let Err(e) = self.write().await {
            return e.into();
        }
        loop {
            let own = tokio::select! {
                frames = self.queue.recv() => match frames {
                    Some(frames) => {
                        self.unwritten = frames;
                        None
                    }
                    // The other select arm of the task sees the same and drains.
                    None => std::future::pending().await,
                },
                () = self.tick_arrived.notified() => {
                    // A peer with a shorter tick time than ours would drop us if we followed our own alone.
                    (!std::mem::take(&mut written_since_tick)).then_some(TICK)
                }
                () = self.silence.notified() => Some(self.probe.clone()),
                () = tokio::time::sleep_until(last_written + self.tick_every) => Some(TICK),
            };
            if let Some(own) = own {
                self.queued.fetch_add(own.len(), Ordering::Relaxed);
                self.unwritten = own;
            }
            if !self.unwritten.is_empty() {
                if let Err(e) = self.write().await {
                    return e.into();
                }
                last_written = Instant::now();
                // An answer counts too: or two nodes like us would answer each other for ever.
                written_since_tick = true;
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        while self.unwritten.has_remaining() {
            let n = self.socket.write(&self.unwritten).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.unwritten.advance(n);
            self.queued.fetch_sub(n, Ordering::Relaxed);
            metrics::LINK_SENT_BYTES.add_size(n);
        }
        Ok(())
    }

    async fn drain(&mut self) -> io::Result<()> {
        self.write().await?;
        while let Some(frames) = self.queue.recv().await {
            self.unwritten = frames;
            self.write().await?;
        }
        self.socket.shutdown().await
    }
}

#[cfg(test)]
mod tests;
