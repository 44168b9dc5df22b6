//! The states, outcomes and codes of the API.
//!
//! Each is an enum, so no code compares texts. An unknown word of a newer daemon is kept, and can
//! be shown like the others.

use std::fmt;

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Serialize};

/// Declares an enum whose variants are written in snake case.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant,)+
            /// A word that this release does not know.
            #[serde(untagged)]
            Other(String),
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
                // `Other` accepts any word, so this never fails.
                Self::deserialize(word).unwrap_or(Self::Other(String::new()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }
    };
}

words! {
    /// Whether a plugin is running.
    PluginStatus {
        /// It has shown a sign of life and has not ended since.
        Running,
        /// It is not running.
        Stopped,
    }
}

words! {
    /// Whether a plugin's node is connected.
    NodeState {
        /// Connected.
        Connected,
        /// Not connected.
        NotConnected,
        /// The first attempt to connect has not ended yet.
        Unknown,
    }
}

words! {
    /// The state of a plugin in `/health`. `Other` is the reason why it is not running.
    PluginHealth {
        /// Running.
        Ok,
    }
}

words! {
    /// The state of the daemon.
    HealthStatus {
        /// The daemon is starting.
        Starting,
        /// No problem other than notices.
        Healthy,
        /// There is a problem, or the daemon is stopping.
        Unhealthy,
    }
}

words! {
    /// Whether a peer is connected.
    PeerState {
        /// Connected.
        Connected,
        /// An attempt to connect is under way.
        Connecting,
        /// Not connected.
        Disconnected,
    }
}

words! {
    /// The state of EPMD.
    EpmdState {
        /// It was not asked yet.
        Unknown,
        /// The daemon's node is registered with it.
        Registered,
        /// The daemon serves it.
        Served,
        /// Another node has the name of the daemon's node.
        NameTaken,
        /// It does not answer.
        Unavailable,
    }
}

words! {
    /// Whether another hecate-daemon is connected.
    HostState {
        /// Connected.
        Connected,
        /// Not connected.
        Lost,
    }
}

words! {
    /// A stage of a connection.
    StageName {
        /// The names of both nodes.
        Name,
        /// The address of the host.
        Resolve,
        /// The host's EPMD.
        Epmd,
        /// The node's registration with it.
        Registered,
        /// The connection to the node's port.
        Tcp,
        /// The user who owns the port.
        Owner,
        /// The handshake.
        Handshake,
        /// The distribution flags.
        Flags,
        /// The cookie.
        Cookie,
        /// The tick times.
        Ticks,
        /// The scopes of process groups.
        Scope,
    }
}

words! {
    /// How a stage ended.
    StageOutcome {
        /// No problem was found.
        Passed,
        /// A problem was found.
        Failed,
        /// It was not checked.
        Skipped,
    }
}

words! {
    /// Why a node is not connected.
    FailureCode {
        /// Our name is in use in the cluster.
        AlreadyAlive,
        /// The peer sent our own challenge back.
        ChallengeReflected,
        /// The connection ended.
        ConnectionLost,
        /// The cookies differ.
        CookieMismatch,
        /// EPMD does not answer.
        EpmdUnreachable,
        /// The peer lacks required distribution flags.
        FlagsMissing,
        /// Another user owns the node.
        ForeignOwner,
        /// The handshake failed in another way.
        HandshakeFailed,
        /// The host has no address.
        HostUnresolved,
        /// Another node answered.
        NameMismatch,
        /// The node accepts only certain nodes.
        NotAllowed,
        /// EPMD does not know the node.
        NotRegistered,
        /// One side has a short name, the other a long one.
        ShortnameLongnameMix,
        /// Both nodes connected at the same time.
        Simultaneous,
        /// The node's port refused the connection.
        TcpRefused,
        /// The node's port did not answer.
        TcpTimeout,
        /// The node expects TLS.
        TlsExpected,
    }
}

impl FailureCode {
    /// Returns whether the node is running and refuses us until the configuration of one side
    /// changes.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::CookieMismatch
                | Self::FlagsMissing
                | Self::ForeignOwner
                | Self::NameMismatch
                | Self::NotAllowed
                | Self::ShortnameLongnameMix
                | Self::TlsExpected
        )
    }
}

words! {
    /// A problem of the daemon.
    ProblemCode {
        /// EPMD does not answer.
        EpmdUnavailable,
        /// Home is gone.
        HomeLost,
        /// Home is not on the same mount as its parts.
        HomeNotMounted,
        /// Home is not writable for plugins.
        HomeNotWritable,
        /// The preferred node names are in use.
        NodeNameFallback,
        /// The node name is in use.
        NodeNameTaken,
        /// Files of the daemon are gone.
        OwnFilesLost,
        /// Nodes of plugins are not connected.
        PluginNodeNotConnected,
        /// The database was damaged and set aside.
        RegistrySetAside,
        /// Another file is at the path of the socket.
        SocketForeign,
        /// Changes cannot be saved.
        StoreFailed,
    }
}

words! {
    /// The name of an event.
    EventName {
        /// A node connected.
        NodeUpV1,
        /// A node disconnected.
        NodeDownV1,
        /// The state of a plugin's node changed.
        NodeStateChangedV1,
        /// A plugin registered.
        PluginRegisteredV1,
        /// A plugin was deregistered.
        PluginDeregisteredV1,
        /// The status of a plugin, or its reason, changed.
        PluginStatusChangedV1,
        /// The data of a plugin was removed.
        PluginDataPurgedV1,
        /// All plugins.
        SnapshotV1,
    }
}

#[cfg(test)]
mod tests {
    use beam::connect::dial::DialCode;

    use super::*;

    #[test]
    fn an_unknown_word_is_kept() {
        let json = r#"["running","paused","stopped"]"#;
        let read: Vec<PluginStatus> = serde_json::from_str(json).expect("read");
        assert_eq!(read, [PluginStatus::Running, PluginStatus::Other("paused".to_owned()), PluginStatus::Stopped]);
        assert_eq!(serde_json::to_string(&read).expect("written"), json);
        let shown: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["running", "paused", "stopped"]);
    }

    #[test]
    fn words_are_written_in_snake_case() {
        assert_eq!(EventName::from("plugin_status_changed_v1"), EventName::PluginStatusChangedV1);
        assert_eq!(FailureCode::from("shortname_longname_mix"), FailureCode::ShortnameLongnameMix);
        assert_eq!(FailureCode::from("of_a_newer_daemon"), FailureCode::Other("of_a_newer_daemon".to_owned()));
        assert_eq!(NodeState::NotConnected.to_string(), "not_connected");
        for code in DialCode::ALL {
            assert!(!matches!(FailureCode::from(code.name()), FailureCode::Other(_)), "{code:?} is known to clients");
        }
    }
}
