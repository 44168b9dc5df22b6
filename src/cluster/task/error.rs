//! Why the task cannot start, with what to do.

use std::io;
use std::net::SocketAddr;

use beam::etf::AtomTooLong;

/// Why the task cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The daemon cannot listen on the distribution port.
    #[error("{}", describe_listen_error(.0, .1))]
    Listen(SocketAddr, io::Error),
    /// The name of a scope is too long for an atom.
    #[error("HECATE_PG_SCOPES: {0}")]
    Scope(AtomTooLong),
}

fn describe_listen_error(address: &SocketAddr, error: &io::Error) -> String {
    let shown = match address.port() {
        0 => format!("a distribution port at {}", address.ip()),
        _ => format!("the distribution port {address}"),
    };
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!(
            "cannot listen on {shown}: the address {} does not belong to this host; set HECATE_LISTEN to one that does, or \
             to 0.0.0.0",
            address.ip()
        ),
        io::ErrorKind::AddrInUse => {
            format!("cannot listen on {shown}: it is in use; stop the process that uses it, or set ERL_DIST_PORT")
        }
        _ => format!("cannot listen on {shown}: {error}; set HECATE_LISTEN or ERL_DIST_PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_port_explains_the_cause() {
        let text = |address: &str, kind: io::ErrorKind| {
            StartError::Listen(address.parse().unwrap(), io::Error::from(kind)).to_string()
        };
        assert_eq!(
            text("192.0.2.1:0", io::ErrorKind::AddrNotAvailable),
            "cannot listen on a distribution port at 192.0.2.1: the address 192.0.2.1 does not belong to this host; set \
             HECATE_LISTEN to one that does, or to 0.0.0.0"
        );
        assert_eq!(
            text("127.0.0.1:9100", io::ErrorKind::AddrInUse),
            "cannot listen on the distribution port 127.0.0.1:9100: it is in use; stop the process that uses it, or set \
             ERL_DIST_PORT"
        );
    }
}
