//! The reason for the status of a plugin: a stable code for programs, and a sentence for people.

use std::fmt;

/// Why a plugin has its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The code, for programs to branch on.
    pub code: ReasonCode,
    /// The reason as a sentence for people, with the details of this case.
    pub detail: String,
}

impl Reason {
    /// Creates a reason.
    #[must_use]
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// The codes of reasons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReasonCode {
    /// The code is from a newer release, or the row is from a release that had no codes.
    #[default]
    Unknown,
    /// The plugin registered.
    Registered,
    /// Its node is connected.
    NodeConnected,
    /// Its node was connected and left the cluster.
    NodeDown,
    /// Its node is running, but refuses to connect.
    NodeRefused,
    /// Its node, which refused to connect, has ended, and its socket does not answer.
    NodeEnded,
    /// Its socket answers.
    SocketAnswers,
    /// Its socket refuses connections.
    SocketRefuses,
    /// Its socket was removed.
    SocketGone,
    /// There has been no socket at its path since the registration or the start of the daemon.
    SocketMissing,
    /// The file at the path of its socket is not a socket.
    NotASocket,
    /// Its socket could not be checked.
    SocketUnchecked,
    /// The daemon may not connect to its socket, so its status may be outdated.
    StatusUnknown,
    /// It showed no sign of life after its registration.
    NoSignOfLife,
    /// Its data was removed.
    DataPurged,
}

impl ReasonCode {
    /// All codes.
    pub const ALL: [Self; 15] = [
        Self::Unknown,
        Self::Registered,
        Self::NodeConnected,
        Self::NodeDown,
        Self::NodeRefused,
        Self::NodeEnded,
        Self::SocketAnswers,
        Self::SocketRefuses,
        Self::SocketGone,
        Self::SocketMissing,
        Self::NotASocket,
        Self::SocketUnchecked,
        Self::StatusUnknown,
        Self::NoSignOfLife,
        Self::DataPurged,
    ];

    /// Returns the name that the code has in the API, in the store and for Erlang nodes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Registered => "registered",
            Self::NodeConnected => "node_connected",
            Self::NodeDown => "node_down",
            Self::NodeRefused => "node_refused",
            Self::NodeEnded => "node_ended",
            Self::SocketAnswers => "socket_answers",
            Self::SocketRefuses => "socket_refuses",
            Self::SocketGone => "socket_gone",
            Self::SocketMissing => "socket_missing",
            Self::NotASocket => "not_a_socket",
            Self::SocketUnchecked => "socket_unchecked",
            Self::StatusUnknown => "status_unknown",
            Self::NoSignOfLife => "no_sign_of_life",
            Self::DataPurged => "data_purged",
        }
    }

    /// Returns the code with a name, or [`Self::Unknown`] for a name from a newer release.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.name() == name).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_code() {
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::parse(code.name()), code);
        }
        assert_eq!(ReasonCode::parse("of_a_newer_release"), ReasonCode::Unknown);
    }
}
