//! A client of EPMD: queries any EPMD, and registers with the EPMD of this host.
//!
//! The crate `erl_dist` handles all messages except NAMES. It returns no names at all if it cannot
//! read one line, and any user of a host can register a name that causes this. This module adds a
//! time limit for each exchange, and a size limit for each answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
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

/// Why an exchange with EPMD failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No EPMD answers at this address.
    #[error("no EPMD answers at {0}: {1}")]
    Unreachable(SocketAddr, io::Error),
    /// The exchange took longer than [`limits::EPMD_TIME`].
    #[error("the EPMD at {0} did not answer within {time} s", time = limits::EPMD_TIME.as_secs())]
    TimedOut(SocketAddr),
    /// Another node has registered the name.
    #[error("the name is already registered with the EPMD at {0}")]
    NameTaken(SocketAddr),
    /// The answer does not follow the protocol of EPMD.
    #[error("the program at {0} does not speak the EPMD protocol: {1}")]
    Protocol(SocketAddr, EpmdError),
}

type Stream = Compat<tokio::io::Join<tokio::io::Take<OwnedReadHalf>, OwnedWriteHalf>>;

async fn open(epmd: SocketAddr) -> Result<EpmdClient<Stream>, Error> {
    let stream = TcpStream::connect(epmd).await.map_err(|e| Error::Unreachable(epmd, e))?;
    let (read, write) = stream.into_split();
    Ok(EpmdClient::new(tokio::io::join(read.take(limits::EPMD_ANSWER), write).compat()))
}

/// Performs an exchange within its time limit, and traces it. `describe` describes the answer.
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

/// Returns all readable names that are registered with the EPMD at `epmd`, each with the port of
/// its node. An answer longer than [`limits::EPMD_ANSWER`] is cut.
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

/// Returns the port of the node with this short name, if it is registered with the EPMD at `epmd`.
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

/// A name that is registered with EPMD for as long as this value lives.
#[derive(Debug)]
pub struct Registration {
    /// The creation that EPMD assigned. It differs from the creation of the previous holder of the
    /// name.
    pub creation: u32,
    stream: Stream,
}

impl Registration {
    /// Waits until EPMD closes the connection. The name is then no longer registered.
    pub async fn lost(&mut self) {
        let mut byte = [0];
        // EPMD sends nothing on this connection, so the read ends only with the connection.
        while let Ok(1..) = self.stream.get_mut().reader_mut().read(&mut byte).await {}
    }

    /// Frees the name. Returns when EPMD has closed the connection, or after
    /// [`limits::EPMD_UNREGISTER`].
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
/// See [`Error`]; [`Error::NameTaken`] if EPMD still has the name for another node.
pub async fn register(epmd: SocketAddr, short_name: &str, port: u16, hidden: bool) -> Result<Registration, Error> {
    let entry = if hidden { NodeEntry::new_hidden(short_name, port) } else { NodeEntry::new(short_name, port) };
    let request = EpmdRequest::Alive(Entry::new(short_name, port, hidden));
    let describe = |registration: &Registration| trace::epmd_registered(registration.creation);
    exchange(epmd, &request, describe, async {
        let client = open(epmd).await?;
        match client.register(entry).await {
            Ok((stream, creation)) => Ok(Registration { creation: creation.get(), stream }),
            // "Result: 0 is OK, 1 is error". The only error of EPMD is a name in use.
            Err(EpmdError::RegisterNodeError { .. }) => Err(Error::NameTaken(epmd)),
            Err(e) => Err(Error::Protocol(epmd, e)),
        }
    })
    .await
}

/// Starts the system's EPMD on a host without one, as `erl` does. It keeps running when this
/// process ends. It listens at `port` of these addresses and of loopback. Without addresses, or with
/// an unspecified one, it listens on all addresses.
///
/// # Errors
/// `epmd` is not in the `PATH`, or cannot be started.
pub(crate) async fn start_system_epmd(addresses: &[IpAddr], port: u16) -> io::Result<()> {
    let mut command = tokio::process::Command::new("epmd");
    // `epmd` adds loopback to each list, and so cannot bind `0.0.0.0` or `::` from a list.
    if !addresses.is_empty() && !addresses.iter().any(IpAddr::is_unspecified) {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        command.args(["-address", &addresses.join(",")]);
    }
    command
        .args(["-daemon", "-port", &port.to_string()])
        .env_remove("ERL_EPMD_ADDRESS")
        // Only this process may send messages to the service manager.
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
