//! Asking an EPMD, and being registered with the one of this host.
//!
//! The messages are erl_dist's, but for NAMES: it gives nothing where one line of the answer can't be read, and any user of
//! a host can register any name. Around them stands what it lacks: a time limit on each exchange, and a bound on what is read.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;

use erl_dist::epmd::{EpmdClient, EpmdError, NodeEntry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::protocol::{self, Entry, EpmdRequest};
use crate::limits;
use crate::trace::{self, Direction};

/// Why an exchange with an EPMD gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers there.
    #[error("no EPMD answers at {0}: {1}")]
    Unreachable(SocketAddr, io::Error),
    /// It took longer than [`limits::EPMD_TIME`].
    #[error("the EPMD at {0} did not answer in time")]
    TimedOut(SocketAddr),
    /// The name is registered by somebody else.
    #[error("the name is already registered with the EPMD at {0}")]
    NameTaken(SocketAddr),
    /// What came back is not EPMD's protocol.
    #[error("what answers at {0} does not speak EPMD's protocol: {1}")]
    Protocol(SocketAddr, EpmdError),
}

type Stream = Compat<tokio::io::Join<tokio::io::Take<OwnedReadHalf>, OwnedWriteHalf>>;

async fn open(epmd: SocketAddr) -> Result<EpmdClient<Stream>, Error> {
    let stream = TcpStream::connect(epmd).await.map_err(|e| Error::Unreachable(epmd, e))?;
    let (read, write) = stream.into_split();
    Ok(EpmdClient::new(tokio::io::join(read.take(limits::EPMD_ANSWER), write).compat()))
}

/// Makes an exchange, whose answer `describe` describes in a trace.
async fn exchange<T>(
    epmd: SocketAddr,
    request: &EpmdRequest,
    describe: fn(&T) -> String,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    trace::epmd_request(Direction::Sent, Some(epmd), request);
    let result = timeout(limits::EPMD_TIME, work).await.unwrap_or(Err(Error::TimedOut(epmd)));
    match &result {
        Ok(answer) => trace::epmd(Direction::Received, Some(epmd), request.name(), || describe(answer)),
        Err(error) => trace::epmd(Direction::Local, Some(epmd), request.name(), || error.to_string()),
    }
    result
}

/// All names registered with the EPMD at `epmd` that can be read, each with the port that its node listens on. An answer
/// longer than [`limits::EPMD_ANSWER`] is cut there.
///
/// # Errors
/// See [`Error`].
pub async fn names(epmd: SocketAddr) -> Result<Vec<(String, u16)>, Error> {
    let io = |e| Error::Protocol(epmd, EpmdError::Io(e));
    let describe = |names: &Vec<_>| trace::epmd_names(names.len());
    exchange(epmd, &EpmdRequest::Names, describe, async {
        let mut stream = TcpStream::connect(epmd).await.map_err(|e| Error::Unreachable(epmd, e))?;
        stream.write_all(b"\0\x01n").await.map_err(io)?;
        let mut answer = Vec::new();
        stream.take(limits::EPMD_ANSWER).read_to_end(&mut answer).await.map_err(io)?;
        protocol::names(&answer).ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into()))
    })
    .await
}

/// The port that the node with this short name listens on, if it is registered with the EPMD at `epmd`.
///
/// # Errors
/// See [`Error`].
pub async fn port(epmd: SocketAddr, short_name: &str) -> Result<Option<u16>, Error> {
    let request = EpmdRequest::Port(short_name.as_bytes().to_vec());
    exchange(epmd, &request, |port| trace::epmd_port(*port), async {
        let entry = open(epmd).await?.get_node(short_name).await.map_err(|e| Error::Protocol(epmd, e))?;
        Ok(entry.map(|entry| entry.port))
    })
    .await
}

/// A name registered with an EPMD, for as long as this value lives.
#[derive(Debug)]
pub struct Registration {
    /// The incarnation that EPMD gave us: differs from that of the last holder of the name.
    pub creation: u32,
    stream: Stream,
}

impl Registration {
    /// Waits until EPMD closes the connection: it ended, and has forgotten the name.
    pub async fn lost(&mut self) {
        let mut byte = [0];
        // EPMD sends nothing on this connection, so that whatever ends the read is its end.
        while let Ok(1..) = self.stream.get_mut().reader_mut().read(&mut byte).await {}
    }

    /// Gives the name back: EPMD has read the end of the connection's stream when this returns.
    pub async fn unregister(mut self) {
        let stream = self.stream.get_mut();
        if stream.shutdown().await.is_ok() {
            let _ = timeout(limits::EPMD_UNREGISTER, self.lost()).await;
        }
    }
}

/// Registers `short_name`, whose node listens on `port`, with the EPMD at `epmd`.
///
/// # Errors
/// See [`Error`]; [`Error::NameTaken`] if the name is held by a node that lives, as far as EPMD knows.
pub async fn register(epmd: SocketAddr, short_name: &str, port: u16, hidden: bool) -> Result<Registration, Error> {
    let entry = if hidden { NodeEntry::new_hidden(short_name, port) } else { NodeEntry::new(short_name, port) };
    let request = EpmdRequest::Alive(Entry::new(short_name, port, hidden));
    let describe = |registration: &Registration| trace::epmd_registered(registration.creation);
    exchange(epmd, &request, describe, async {
        let client = open(epmd).await?;
        match client.register(entry).await {
            Ok((stream, creation)) => Ok(Registration { creation: creation.get(), stream }),
            // "Result: 0 is OK, 1 is error": the only error that EPMD has is a name in use.
            Err(EpmdError::RegisterNodeError { .. }) => Err(Error::NameTaken(epmd)),
            Err(e) => Err(Error::Protocol(epmd, e)),
        }
    })
    .await
}

/// Starts the system's EPMD as `erl` does, for a host where none runs. It outlives us, as one started by `erl` does.
///
/// # Errors
/// There is no `epmd` in the `PATH`, or it can't be started.
pub(crate) async fn start_system_epmd(port: u16) -> io::Result<()> {
    let mut command = tokio::process::Command::new("epmd");
    command
        .args(["-daemon", "-port", &port.to_string()])
        // The service manager is ours to speak to.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = timeout(limits::EPMD_TIME, command.status())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "epmd -daemon did not return"))??;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("epmd -daemon: {status}"))) }
}

#[cfg(test)]
mod tests;
