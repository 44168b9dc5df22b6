//! What each peer has told of itself: its release, its tick time, and how long a ping of it takes.
//!
//! Asked once it is connected, and the round trip again every [`limits::ROUND_TRIP_EVERY`]. It owns nothing that can't be asked
//! again, and nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cluster::questions;
use crate::limits;
use crate::node::handle::Handle;
use crate::node::view::View;

/// What a peer has told of itself; what it hasn't is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Its release of OTP.
    pub otp_release: Option<String>,
    /// Its `net_ticktime`.
    pub tick_time: Option<Duration>,
    /// How long the last ping of it took.
    pub round_trip: Option<Duration>,
}

/// One peer that is connected.
#[derive(Debug)]
struct Peer {
    connection: u64,
    told: Told,
    /// When its round trip is to be taken again; none while it is being asked.
    due: Option<Instant>,
}

/// What all connected peers have told.
#[derive(Debug)]
pub struct Facts {
    node: Handle,
    peers: BTreeMap<Arc<str>, Peer>,
    work: JoinSet<(Arc<str>, u64, Told)>,
}

impl Facts {
    /// Of the peers of this node.
    #[must_use]
    pub fn new(node: Handle) -> Self {
        Self { node, peers: BTreeMap::new(), work: JoinSet::new() }
    }

    /// What a peer has told.
    #[must_use]
    pub fn of(&self, peer: &str) -> Option<&Told> {
        self.peers.get(peer).map(|peer| &peer.told)
    }

    /// What the node sees has changed: newcomers are asked.
    pub fn changed(&mut self, view: &View) {
        let up = |name: &str| view.peers.get(name).filter(|peer| peer.is_up()).map(|peer| peer.connection);
        self.peers.retain(|name, peer| up(name) == Some(peer.connection));
        for (name, peer) in view.peers.iter().filter(|(_, peer)| peer.is_up()) {
            if !self.peers.contains_key(name) {
                let connection = peer.connection;
                self.peers.insert(name.clone(), Peer { connection, told: Told::default(), due: None });
                let (node, name) = (self.node.clone(), name.clone());
                self.work.spawn(async move {
                    let (otp_release, tick_time) =
                        tokio::join!(questions::otp_release(&node, &name), questions::tick_time(&node, &name));
                    let round_trip = questions::round_trip(&node, &name).await.ok();
                    let told = Told { otp_release: otp_release.ok(), tick_time: tick_time.ok(), round_trip };
                    (name, connection, told)
                });
            }
        }
    }

    /// When [`Self::time_passed`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.due).min()
    }

    /// Asks those whose time has come.
    pub fn time_passed(&mut self, now: Instant) {
        for (name, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.due.is_some_and(|due| due <= now)) {
            peer.due = None;
            let (node, name, connection, told) = (self.node.clone(), name.clone(), peer.connection, peer.told.clone());
            self.work.spawn(async move {
                let round_trip = questions::round_trip(&node, &name).await.ok();
                (name, connection, Told { round_trip, ..told })
            });
        }
    }

    /// Waits for an answer; for ever while nobody is being asked. May be dropped at any time.
    pub async fn step(&mut self) {
        match self.work.join_next().await {
            Some(Ok((name, connection, told))) => {
                if let Some(peer) = self.peers.get_mut(&name).filter(|peer| peer.connection == connection) {
                    peer.told = told;
                    peer.due = Some(Instant::now() + limits::ROUND_TRIP_EVERY);
                }
            }
            // A panic, which has been logged: that peer is not asked any more.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::time::SystemTime;

    use tokio::net::TcpListener;

    use super::*;
    use crate::cookie::Cookie;
    use crate::dist::flags;
    use crate::dist::handshake::Identity;
    use crate::etf::{Atom, Term};
    use crate::node::dial::Dialling;
    use crate::node::process::{Answer, BadArg, Caller, Functions};
    use crate::node::services::pg::Watched;
    use crate::node::task;
    use crate::node::view::{self, PeerState};

    struct Nothing;

    impl Functions for Nothing {
        fn call(&mut self, _: &Atom, _: &Atom, _: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
            None
        }
    }

    async fn node() -> Handle {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let cookie = Cookie::parse(b"cookie").unwrap();
        let settings = task::Settings {
            identity: Identity { name: "us@h".into(), creation: 4, flags: flags::ours(false), cookie },
            dialling: Dialling {
                epmd_port: 1,
                default_port: None,
                this_host: BTreeSet::new(),
                allowed_uids: BTreeSet::new(),
            },
            scopes: vec![],
            watched: Watched { tag: Atom::literal("tag"), group: Atom::literal("group") },
            functions: Box::new(Nothing),
            tick_time: Duration::from_secs(60),
        };
        task::start(listener, settings).unwrap().0
    }

    #[tokio::test]
    async fn the_round_trip_is_taken_again() {
        let mut facts = Facts::new(node().await);
        let state = PeerState::Up { creation: 1, published: true, flags: flags::ours(false), dialled: true };
        let peer = view::Peer { state, since: SystemTime::UNIX_EPOCH, connection: 1, owner: None };
        let mut view = facts.node.watch().borrow().as_ref().clone();
        view.peers.insert("p@h".into(), peer);
        facts.changed(&view);
        assert_eq!(facts.next_deadline(), None, "it is being asked");
        // It is gone by then, and nothing is known of it.
        facts.step().await;
        assert_eq!(facts.of("p@h"), Some(&Told::default()));
        let due = facts.next_deadline().expect("asked again");
        facts.time_passed(due - Duration::from_secs(1));
        assert!(facts.work.is_empty(), "not before its time");
        facts.time_passed(due);
        assert_eq!((facts.work.len(), facts.next_deadline()), (1, None));
        view.peers.remove("p@h");
        facts.changed(&view);
        facts.step().await;
        assert_eq!((facts.of("p@h"), facts.next_deadline()), (None, None), "who has gone is forgotten");
    }
}
