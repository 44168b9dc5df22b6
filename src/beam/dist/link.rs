//! An established connection: one task that reads, writes and ticks.
//!
//! The reader and the writer run concurrently in this task, and the reader never waits for the
//! writer. The reader decodes all frames of one read and hands them to the owner as one batch. The
//! bytes to write arrive in a queue of bounded size. The owner never waits for a connection. It
//! closes a connection whose queue is full.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::net::Shutdown;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::budget::{Charge, Holding};
use super::control::{self, Control, ControlError};
use super::flags::Flags;
use super::frames::{self, Frames, Queue};
use super::framing::{self, Frame, FrameTooLarge};
use super::header::Headers;
use super::setup::Connection;
use crate::etf::{Atoms, Iovec};
use crate::trace::{ConnectionTrace, Direction};
use crate::{limits, stats};

// ---- Tuning constants -----------------------------------------------------------------------

/// Buffer space for one read from the socket, in bytes. More means fewer system calls in a flood;
/// less means less memory for each idle connection.
const READ_CHUNK: usize = 64 * 1024;

/// Buffer space that is reserved for the rest of an unfinished frame, and the size at which a batch
/// of messages goes to the node, both in bytes. A larger value means fewer reallocations and
/// batches for large messages. A smaller value means less memory for a frame that never arrives.
/// The maximum is the number of bytes that a connection may hold while the budget is exceeded.
const READ_AHEAD: usize = limits::HELD_FREELY;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it in an orderly way: its node ended, or disconnected.
    #[error("connection closed by the peer")]
    ClosedByPeer,
    /// The peer's host reset it, because bytes from this node were unread or arrived after the
    /// close.
    // The text is the same as for `ClosedByPeer`: when a node ends, timing decides between the two.
    #[error("connection closed by the peer")]
    Reset,
    /// Nothing arrived for the whole tick time (`net_tick_timeout`).
    #[error("nothing received from the peer for {0:?} (net_tick_timeout)")]
    TickTimeout(Duration),
    /// The connection failed.
    #[error("connection lost: {0}")]
    Io(io::ErrorKind),
    /// The peer violated the protocol.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The peer announced a frame over the limit.
    #[error(transparent)]
    FrameTooLarge(#[from] FrameTooLarge),
    /// This node closed it.
    #[error("closed by us")]
    ByUs,
}

impl CloseReason {
    /// Returns the stable code of the reason, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClosedByPeer | Self::Reset => "closed_by_peer",
            Self::TickTimeout(_) => "net_tick_timeout",
            Self::Io(_) => "connection_lost",
            Self::Control(_) => "protocol_error",
            Self::FrameTooLarge(_) => "frame_too_large",
            Self::ByUs => "closed_by_us",
        }
    }
}

impl From<io::Error> for CloseReason {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            kind => Self::Io(kind),
        }
    }
}

/// An event from a connection to its owner.
#[derive(Debug)]
pub enum LinkEvent {
    /// Control messages in the order of arrival, each with its undecoded payload, if any; and the
    /// charge for their memory, which counts until it is dropped.
    Messages(Vec<(Control, Option<Bytes>)>, Charge),
    /// The connection has ended; nothing follows.
    Closed(CloseReason),
}

/// The owner's handle of a connection. Dropping it sends what is queued and closes the connection,
/// within [`limits::LINK_FLUSH`].
#[derive(Debug)]
pub struct LinkSender {
    outgoing: Arc<Outgoing>,
    trace: ConnectionTrace,
    _closing: oneshot::Sender<()>,
}

/// More than [`limits::LINK_QUEUE`] bytes are queued for a peer that does not read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer reads too slowly: more than {max} bytes are queued for it", max = limits::LINK_QUEUE)]
pub struct QueueFull;

impl LinkSender {
    /// Adds the frame of a signal to `frames`, for [`send`](Self::send). Returns its length in
    /// bytes.
    pub fn push(&self, frames: &mut Frames, signal: &Control, payload: Option<&Iovec>, agreed: Flags) -> usize {
        self.trace.frame_sent(signal, payload.map(Iovec::size));
        frames.push(signal, payload, agreed)
    }

    /// Sends whole frames and empties `frames`. A few bytes are sent immediately if the socket
    /// accepts them without waiting; the connection's own task sends the others.
    ///
    /// # Errors
    /// [`QueueFull`]: the caller should drop the connection. A connection that has ended ignores
    /// the frames and returns no error; its end is reported by [`LinkEvent::Closed`].
    pub fn send(&self, frames: &mut Frames) -> Result<(), QueueFull> {
        if frames.is_empty() {
            return Ok(());
        }
        let mut state = self.outgoing.lock();
        if state.ended {
            *frames = Frames::default();
            return Ok(());
        }
        // A single batch may exceed the limit, because a single message may.
        if state.queue.bytes() > limits::LINK_QUEUE {
            return Err(QueueFull);
        }
        if state.queue.is_empty()
            && let Some(few) = frames.few()
            // The connection's own task meets the same error.
            && let Ok(written) = self.outgoing.socket.try_write(few)
        {
            state.wrote(written);
            few.drain(..written);
        }
        if !frames.is_empty() {
            state.append(frames);
            self.outgoing.more.notify_one();
        }
        Ok(())
    }

    /// Resets the connection immediately, and drops its queue and everything that the peer has
    /// sent.
    pub fn abort(self) {
        // Without the reset, a peer that is writing may not notice for minutes. The call fails only
        // if the connection has ended.
        let _ = rustix::net::sockopt::set_socket_linger(self.outgoing.socket.as_ref(), Some(Duration::ZERO));
        self.outgoing.end();
    }
}

/// Starts the task of a connection. It sends its events to `inbox`, converted by `wrap`. While
/// `inbox` is full, the connection does not read, which slows down a peer that sends faster than
/// the owner works. The memory of the connection is counted in `holding`.
///
/// If nothing arrives for `tick_time`, the connection ends. After half of that time, `probe` is
/// sent: whole frames that any node answers immediately. Otherwise a peer with a longer tick time,
/// which ticks too rarely, would be considered dead.
pub fn start<T: Send + 'static>(
    connection: Connection,
    tick_time: Duration,
    probe: Bytes,
    holding: Arc<Holding>,
    inbox: mpsc::Sender<T>,
    wrap: impl Fn(LinkEvent) -> T + Send + Sync + 'static,
) -> LinkSender {
    let (closing, closed) = oneshot::channel();
    let (tick_arrived, silence) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (trace, agreed) = (connection.trace, connection.peer.flags);
    trace.connected(connection.peer.creation, agreed);
    let (read, write) = connection.stream.into_split();
    let outgoing = Arc::new(Outgoing::new(write, connection.unsent, holding.charge(0)));
    let mut reader = Reader {
        socket: read,
        buffer: BytesMut::new(),
        largest: 0,
        unfinished: holding.charge(0),
        holding,
        headers: Headers::new(agreed),
        trace: trace.clone(),
        atoms: Atoms::new(),
        tick_time,
        tick_arrived: tick_arrived.clone(),
        silence: silence.clone(),
    };
    let (tick_every, writer_trace) = (tick_time / 4, trace.clone());
    let writer =
        Writer { outgoing: outgoing.clone(), tick_every, tick_arrived, silence, probe, agreed, trace: writer_trace };
    tokio::spawn(async move {
        let reason = tokio::select! {
            reason = reader.run(&inbox, &wrap) => reason,
            reason = writer.run() => reason,
            _ = closed => CloseReason::ByUs,
        };
        if reason == CloseReason::ByUs && !writer.outgoing.has_ended() {
            let last = async {
                writer.drain().await?;
                reader.until_closed().await
            };
            let _ = timeout(limits::LINK_FLUSH, last).await;
        }
        writer.outgoing.end();
        writer.trace.ended(&reason);
        let _ = inbox.send(wrap(LinkEvent::Closed(reason))).await;
    });
    LinkSender { outgoing, trace, _closing: closing }
}

/// The write half of the socket, and its queue. While the queue is empty, any thread with the lock
/// may write. [`Writer`] alone writes what is queued, so no bytes come between the parts of a
/// frame.
#[derive(Debug)]
struct Outgoing {
    socket: OwnedWriteHalf,
    state: Mutex<Sending>,
    /// Notified when the queue is not empty.
    more: Notify,
}

#[derive(Debug)]
struct Sending {
    queue: Queue,
    /// The counted size of the queue.
    queued: Charge,
    last_written: Instant,
    written_since_tick: bool,
    /// Whether the connection has ended, so that nothing is sent.
    ended: bool,
}

impl Sending {
    fn append(&mut self, frames: &mut Frames) {
        self.queue.append(frames);
        self.queued.set(self.queue.bytes());
    }

    fn wrote(&mut self, bytes: usize) {
        self.last_written = Instant::now();
        self.written_since_tick = true;
        stats::LINK_SENT_BYTES.add_size(bytes);
    }
}

impl Outgoing {
    fn new(socket: OwnedWriteHalf, unsent: Bytes, queued: Charge) -> Self {
        let (queue, last_written) = (Queue::default(), Instant::now());
        let mut state = Sending { queue, queued, last_written, written_since_tick: false, ended: false };
        state.append(&mut unsent.into());
        Self { socket, state: state.into(), more: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Queues the task's own frames. The queue is empty, so they are sent next.
    fn push(&self, frames: Bytes) {
        self.lock().append(&mut frames.into());
    }

    /// Writes as much of the queue as the socket accepts.
    fn write(&self) -> io::Result<()> {
        loop {
            // The parts stay in the queue until they are written, so that `LinkSender::send` does
            // not write meanwhile.
            let first = self.lock().queue.first();
            if first.is_empty() {
                return Ok(());
            }
            match self.socket.try_write_vectored(&frames::slices(&first)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let mut state = self.lock();
                    state.wrote(written);
                    // The owner may have dropped the queue.
                    if !state.ended {
                        state.queue.written(written);
                        let left = state.queue.bytes();
                        state.queued.set(left);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn shutdown(&self, how: Shutdown) {
        // The call fails if the connection has ended already.
        let _ = rustix::net::shutdown(self.socket.as_ref(), how);
    }

    /// Ends the connection. Its owner may not have noticed yet.
    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.queue = Queue::default();
        state.queued.set(0);
        self.shutdown(Shutdown::Both);
    }
}

struct Reader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    /// The largest number of bytes in the buffer since it was allocated.
    largest: usize,
    /// The counted memory of unfinished frames and fragments, and of atoms.
    unfinished: Charge,
    holding: Arc<Holding>,
    /// `None` if frames are pass-through.
    headers: Option<Headers>,
    trace: ConnectionTrace,
    atoms: Atoms,
    tick_time: Duration,
    tick_arrived: Arc<Notify>,
    /// Notified when nothing has arrived for half of the tick time.
    silence: Arc<Notify>,
}

impl Reader {
    async fn run<T>(&mut self, inbox: &mpsc::Sender<T>, wrap: &impl Fn(LinkEvent) -> T) -> CloseReason {
        let (mut last_read, mut probed) = (Instant::now(), false);
        // The timer is reset when it expires, not each time that bytes arrive.
        let mut patience = pin!(sleep(self.tick_time / 2));
        loop {
            self.holding.wait_for_room().await;
            let ahead = framing::missing(&self.buffer).clamp(READ_CHUNK, READ_AHEAD);
            self.buffer.reserve(ahead);
            let read = tokio::select! {
                biased;
                read = self.socket.read_buf(&mut self.buffer) => read,
                () = &mut patience => {
                    let silent = last_read.elapsed();
                    if silent >= self.tick_time {
                        return CloseReason::TickTimeout(self.tick_time);
                    }
                    if silent >= self.tick_time / 2 && !probed {
                        probed = true;
                        self.silence.notify_one();
                    }
                    patience.as_mut().reset(last_read + if probed { self.tick_time } else { self.tick_time / 2 });
                    continue;
                }
            };
            match read {
                Err(e) => return e.into(),
                Ok(0) => return CloseReason::ClosedByPeer,
                Ok(n) => {
                    stats::LINK_RECEIVED_BYTES.add_size(n);
                    self.largest = self.largest.max(self.buffer.len());
                    (last_read, probed) = (Instant::now(), false);
                }
            }
            loop {
                let mut batch = Vec::new();
                let more = self.decode(&mut batch);
                stats::LINK_RECEIVED_MESSAGES.add_size(batch.len());
                if !batch.is_empty() {
                    // The bytes of the batch are no longer in the buffer, and count only once.
                    self.unfinished.set(self.begun());
                    let charge = self.holding.charge(batch.iter().map(control::size).sum());
                    if inbox.send(wrap(LinkEvent::Messages(batch, charge))).await.is_err() {
                        return CloseReason::ByUs;
                    }
                }
                match more {
                    Ok(true) => self.holding.wait_for_room().await,
                    Ok(false) => break,
                    Err(reason) => return reason,
                }
            }
            self.count();
        }
    }

    /// Returns the memory of unfinished frames and fragments, and of atoms, in bytes.
    fn begun(&self) -> usize {
        self.buffer.len() + self.atoms.bytes() + self.headers.as_ref().map_or(0, Headers::held)
    }

    /// Counts unfinished frames and fragments, and frees memory that only a large frame needed.
    fn count(&mut self) {
        self.unfinished.set(self.begun());
        let little = self.buffer.len() < READ_CHUNK && framing::missing(&self.buffer) < READ_CHUNK;
        if self.largest > READ_CHUNK && little {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.largest = self.buffer.len();
        }
    }

    /// Reads and drops what arrives until the peer closes its end. Closing a socket with unread
    /// bytes resets the connection, and the peer loses the bytes that it has not read yet.
    async fn until_closed(&mut self) -> io::Result<()> {
        (self.buffer, self.headers, self.atoms) = (BytesMut::new(), None, Atoms::new());
        self.count();
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ_CHUNK);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Decodes buffered frames into `batch`. Returns whether the buffer may have more whole frames.
    fn decode(&mut self, batch: &mut Vec<(Control, Option<Bytes>)>) -> Result<bool, CloseReason> {
        let mut bytes = 0;
        while let Some(frame) = framing::next(&mut self.buffer)? {
            match frame {
                Frame::Tick => {
                    self.trace.tick(Direction::Received);
                    self.tick_arrived.notify_one();
                }
                Frame::Message(frame) => {
                    let decoded = control::decode(&frame, self.headers.as_mut(), &mut self.atoms);
                    self.trace.frame_received(&frame, &decoded);
                    let decoded = decoded?;
                    bytes += decoded.as_ref().map_or(0, control::size);
                    batch.extend(decoded);
                }
            }
            // The answers to these messages must be sent before more are decoded. Otherwise they
            // would accumulate without being counted.
            if batch.len() >= limits::MESSAGES || bytes >= READ_AHEAD {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Writer {
    outgoing: Arc<Outgoing>,
    tick_every: Duration,
    tick_arrived: Arc<Notify>,
    silence: Arc<Notify>,
    probe: Bytes,
    agreed: Flags,
    trace: ConnectionTrace,
}

impl Writer {
    async fn run(&self) -> CloseReason {
        const TICK: Bytes = Bytes::from_static(&[0; 4]);
        loop {
            let (has_queued, tick_at) = {
                let state = self.outgoing.lock();
                (!state.queue.is_empty(), state.last_written + self.tick_every)
            };
            if has_queued {
                if let Err(e) = self.outgoing.socket.writable().await.and_then(|()| self.outgoing.write()) {
                    return e.into();
                }
                continue;
            }
            let own = tokio::select! {
                () = self.outgoing.more.notified() => None,
                () = self.tick_arrived.notified() => {
                    // Answers a tick. Otherwise, a peer with a shorter tick time would close the
                    // connection. Any bytes that were written since the last tick also count as the
                    // answer. Otherwise, two nodes like this one would answer each other's ticks
                    // for ever.
                    (!std::mem::take(&mut self.outgoing.lock().written_since_tick)).then_some(TICK)
                }
                () = self.silence.notified() => Some(self.probe.clone()),
                // Bytes that were sent meanwhile replace the tick.
                () = sleep_until(tick_at) => {
                    (self.outgoing.lock().last_written + self.tick_every <= Instant::now()).then_some(TICK)
                }
            };
            if let Some(own) = own {
                match own == TICK {
                    true => self.trace.tick(Direction::Sent),
                    false => self.trace.probe(&own, self.agreed),
                }
                self.outgoing.push(own);
            }
        }
    }

    async fn drain(&self) -> io::Result<()> {
        while !self.outgoing.lock().queue.is_empty() {
            self.outgoing.socket.writable().await?;
            self.outgoing.write()?;
        }
        self.outgoing.shutdown(Shutdown::Write);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
