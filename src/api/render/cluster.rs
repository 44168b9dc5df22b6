//! The JSON of the cluster's nodes.

use super::{milliseconds, time};
use crate::cluster::view::{ClusterView, DialFailure, EpmdState, Introduction, PeerState, PeerView, ScopeView};
use crate::plugin::{Plugin, PluginName};
use crate::registry;
use crate::wire::{self, Cluster, Epmd, LastFailure, PeerEntry, Scope};

impl Cluster {
    /// Describes the cluster as our node sees it.
    #[must_use]
    pub fn new(view: &ClusterView, registry: &registry::View) -> Self {
        let (state, reason) = match &view.epmd {
            EpmdState::Unknown => (wire::EpmdState::Unknown, None),
            EpmdState::Registered => (wire::EpmdState::Registered, None),
            EpmdState::Served => (wire::EpmdState::Served, None),
            EpmdState::Unavailable { reason } => (wire::EpmdState::Unavailable, Some(reason.clone())),
            EpmdState::NameTaken { name } => {
                (wire::EpmdState::NameTaken, Some(format!("{name} is in use by another node of this host")))
            }
        };
        let scope = |scope: &ScopeView| Scope {
            name: scope.name.clone(),
            own_groups: scope.own_groups,
            own_members: scope.own_members,
            peer_groups: scope.peer_groups,
            peer_members: scope.peer_members,
        };
        let unregistered = view.peers.iter().filter(|peer| is_unregistered(peer, registry));
        Self {
            node: view.node.as_ref().map(ToString::to_string),
            epmd: Epmd { state, reason },
            peers: view.peers.iter().map(PeerEntry::new).collect(),
            scopes: view.scopes.iter().map(scope).collect(),
            unregistered: unregistered.map(|peer| peer.name.to_string()).collect(),
            cookie_hash: view.cookie_hash.clone(),
        }
    }
}

/// Returns whether a peer is a connected node of this host that is named like a plugin's node
/// (`hecate_*d`), but belongs to no registered plugin.
fn is_unregistered(peer: &PeerView, registry: &registry::View) -> bool {
    let is_plugins = |plugin: &Plugin| plugin.node.as_ref() == Some(&peer.name);
    peer.state == PeerState::Connected
        && peer.on_this_host
        && PluginName::parse(&peer.name.short_name().replace('_', "-"))
            .is_ok_and(|name| name.as_str().starts_with("hecate-"))
        && !registry.plugins.values().any(|plugin| is_plugins(plugin))
}

impl PeerEntry {
    /// Describes a peer as our node sees it.
    #[must_use]
    pub fn new(peer: &PeerView) -> Self {
        let details = &peer.details;
        let link = details.link.as_ref();
        Self {
            name: peer.name.to_string(),
            state: match peer.state {
                PeerState::Connected => wire::PeerState::Connected,
                PeerState::Connecting => wire::PeerState::Connecting,
                PeerState::Disconnected => wire::PeerState::Disconnected,
            },
            since: time(peer.since),
            reason: peer.reason.detail.clone(),
            reason_code: peer.reason.code.to_owned(),
            introduced_by: details.introduced_by.as_ref().map(|by| match by {
                Introduction::Epmd => "epmd".to_owned(),
                Introduction::Configuration => "configuration".to_owned(),
                Introduction::Dns => "dns".to_owned(),
                Introduction::Peers => "peers".to_owned(),
                Introduction::Itself => "itself".to_owned(),
                Introduction::Peer(name) => name.to_string(),
            }),
            attempts: details.attempts,
            last_failure: details.last_failure.as_ref().map(LastFailure::new),
            hidden: link.map(|link| !link.published),
            flags: link.map(|link| link.flags.iter().map(|flag| (*flag).to_owned()).collect()),
            otp_release: link.and_then(|link| link.otp_release.clone()),
            net_ticktime: link.and_then(|link| link.tick_time).map(|time| time.as_secs()),
            round_trip_ms: link.and_then(|link| link.round_trip).map(milliseconds),
        }
    }
}

impl LastFailure {
    fn new(failure: &DialFailure) -> Self {
        Self { code: failure.code.name().into(), detail: failure.detail.clone(), at: time(failure.at) }
    }
}
