//! Builds the view of each node from our node's view and the record of the node. Pure.

use std::collections::BTreeMap;

use beam::connect::dial::DialCode;
use beam::dist::flags;
use beam::name::NodeName;
use beam::node::view::{self as node_view, PeerReason};

use crate::cluster::peers::records::PeerRecords;
use crate::cluster::view::{LinkView, PeerDetails, PeerState, PeerView};

/// Returns the views of all nodes in name order.
pub fn seen(
    node: &node_view::View,
    records: &PeerRecords,
    is_here: impl Fn(&NodeName, Option<&node_view::Peer>) -> bool,
) -> Vec<PeerView> {
    let view = |name: &NodeName, state, since, reason, link| {
        let record = records.of(name);
        let under_way = record.and_then(|record| record.under_way);
        let details = PeerDetails {
            introduced_by: record.map(|record| record.introduced_by.clone()),
            attempts: record.map_or(0, |record| record.attempts),
            last_failure: record.and_then(|record| record.last_failure.clone()),
            link,
        };
        let (state, since) = match under_way {
            Some(begun) if state == PeerState::Disconnected => (PeerState::Connecting, begun),
            _ => (state, since),
        };
        (
            name.clone(),
            PeerView {
                name: name.clone(),
                on_this_host: is_here(name, node.peers.get(name)),
                state,
                since,
                reason,
                details,
            },
        )
    };
    let met = node.peers.iter().map(|(name, peer)| match &peer.state {
        node_view::PeerState::Up { published, flags, .. } => {
            let answers = records.of(name).map(|record| record.answers.clone()).unwrap_or_default();
            let link = LinkView {
                published: *published,
                flags: flags::names(*flags),
                otp_release: answers.otp_release,
                tick_time: answers.tick_time,
                round_trip: answers.round_trip,
            };
            let reason = PeerReason::new("connected", "connected");
            view(name, PeerState::Connected, peer.since, reason, Some(link))
        }
        node_view::PeerState::Down { reason, .. } => {
            view(name, PeerState::Disconnected, peer.since, reason.clone(), None)
        }
    });
    let unmet = records.iter().filter(|(name, _)| !node.peers.contains_key(*name)).filter_map(|(name, record)| {
        let reason = match &record.last_failure {
            // The node of another user is not a peer.
            Some(failure) if failure.code == DialCode::ForeignOwner => return None,
            Some(failure) => PeerReason::new(failure.code.name(), &*failure.detail),
            // The owner of a node of this host is only known after the first attempt.
            None if record.under_way.is_none() || is_here(name, None) => return None,
            None => PeerReason::new("connecting", "first attempt to connect"),
        };
        Some(view(name, PeerState::Disconnected, record.since, reason, None))
    });
    met.chain(unmet).collect::<BTreeMap<_, _>>().into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use beam::node::view::{Peer, View};

    use super::*;
    use crate::cluster::peers::records::PeerAnswer;
    use crate::cluster::view::{DialFailure, Introduction};

    #[test]
    fn each_known_node_has_one_view() {
        let now = SystemTime::UNIX_EPOCH;
        let later = now + Duration::from_secs(1);
        let up = node_view::PeerState::Up { creation: 1, published: true, flags: flags::ours(false), dialled: true };
        let reason = PeerReason::new("closed_by_peer", "it left");
        let down = node_view::PeerState::Down { reason, left: None };
        let peer = |state| Peer { state, since: now, connection: 1, owner: None };
        let node = View {
            name: "us@h".parse().unwrap(),
            creation: 1,
            peers: [("up@h".parse().unwrap(), peer(up)), ("down@h".parse().unwrap(), peer(down))].into(),
            announced: [].into(),
            grouped: [].into(),
            known: [].into(),
            introducible: [].into(),
        };
        let mut records = PeerRecords::default();
        records.introduced(
            now,
            ["down@h", "far@f", "idle@f", "new@h", "others@h", "untried@h", "up@h"].map(|name| name.parse().unwrap()),
            &Introduction::Epmd,
        );
        records.dialling(later, "new@h");
        let failure = DialFailure { code: DialCode::TcpRefused, detail: "refused".to_owned(), at: now };
        records.dialled("new@h", Some(failure.clone()));
        records.dialled("others@h", Some(DialFailure { code: DialCode::ForeignOwner, ..failure.clone() }));
        records.dialling(later, "untried@h");
        records.dialling(later, "far@f");
        records.dialling(later, "down@h");
        records.answered("up@h", PeerAnswer::Release(Some("25".to_owned())));
        records.answered("up@h", PeerAnswer::Others { tick_time: None, round_trip: Some(Duration::ZERO) });
        let seen = seen(&node, &records, |name, _| name.ends_with("@h"));
        let short = |peer: &PeerView| {
            let PeerReason { code, detail } = &peer.reason;
            (peer.name.to_string(), peer.state, format!("{code}: {detail}"), peer.details.attempts)
        };
        assert_eq!(
            seen.iter().map(short).collect::<Vec<_>>(),
            [
                ("down@h".to_owned(), PeerState::Connecting, "closed_by_peer: it left".to_owned(), 1),
                ("far@f".to_owned(), PeerState::Connecting, "connecting: first attempt to connect".to_owned(), 1),
                ("new@h".to_owned(), PeerState::Disconnected, "tcp_refused: refused".to_owned(), 1),
                ("up@h".to_owned(), PeerState::Connected, "connected: connected".to_owned(), 0),
            ]
        );
        assert_eq!(seen.iter().map(|peer| peer.since).collect::<Vec<_>>(), [later, later, now, now]);
        assert_eq!(seen[2].details.last_failure, Some(failure));
        let link = seen[3].details.link.as_ref().unwrap();
        assert_eq!((link.otp_release.as_deref(), link.round_trip), (Some("25"), Some(Duration::ZERO)));
        assert!(link.flags.contains(&"SPAWN"));
    }
}
