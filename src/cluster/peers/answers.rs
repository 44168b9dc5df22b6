//! Asks each connected peer for its OTP release and its tick time, and measures the round-trip time
//! of a ping.
//!
//! A peer is asked when it connects, and again every [`limits::ROUND_TRIP_EVERY`], except for its
//! release once that is known. The answers are kept in the peer's record ([`super::records`]).

use std::collections::BTreeMap;
use std::time::Instant;

use beam::name::NodeName;
use beam::node::handle::Handle;
use beam::node::view::View;
use tokio::task::JoinSet;

use crate::cluster::peers::pg_protocol::PgProtocol;
use crate::cluster::peers::questions::{self, Unanswered};
use crate::cluster::peers::records::PeerAnswer;
use crate::limits;

/// A connected peer.
#[derive(Debug)]
struct Questioned {
    connection: u64,
    /// The protocol of its `pg`; `None` until the peer has answered the request for its release,
    /// even if it has no release.
    pg: Option<PgProtocol>,
    /// When to ask it again; `None` while a request waits for its answer.
    due: Option<Instant>,
}

/// Asks all connected peers.
#[derive(Debug)]
pub struct Questioner {
    node: Handle,
    peers: BTreeMap<NodeName, Questioned>,
    work: JoinSet<Reply>,
}

/// The result of one request.
#[derive(Debug)]
struct Reply {
    peer: NodeName,
    connection: u64,
    answer: PeerAnswer,
    /// Whether the same request would get the same answer.
    is_final: bool,
}

impl Questioner {
    /// Returns a questioner of the peers of this node.
    #[must_use]
    pub fn new(node: Handle) -> Self {
        Self { node, peers: BTreeMap::new(), work: JoinSet::new() }
    }

    /// Returns the protocol of a peer's `pg`, once the peer was asked for its release.
    #[must_use]
    pub fn pg(&self, peer: &NodeName) -> Option<PgProtocol> {
        self.peers.get(peer)?.pg
    }

    /// Our node has another view. Asks each new peer, except peers that got their names from our
    /// node. Those are tools, and some of them (`erl_rpc`) end when they get an unexpected message.
    pub fn changed(&mut self, view: &View) {
        let up = |name: &str| view.peers.get(name).filter(|peer| peer.is_up()).map(|peer| peer.connection);
        self.peers.retain(|name, peer| up(name) == Some(peer.connection));
        for (name, peer) in view.peers.iter().filter(|(_, peer)| peer.is_up() && !peer.was_nameless()) {
            if !self.peers.contains_key(name) {
                let questioned = Questioned { connection: peer.connection, pg: None, due: None };
                self.work.spawn(ask(self.node.clone(), name.clone(), peer.connection, questioned.next_question()));
                self.peers.insert(name.clone(), questioned);
            }
        }
    }

    /// Returns when [`Self::time_passed`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.due).min()
    }

    /// Asks the peers that are due.
    pub fn time_passed(&mut self, now: Instant) {
        for (name, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.due.is_some_and(|due| due <= now)) {
            peer.due = None;
            self.work.spawn(ask(self.node.clone(), name.clone(), peer.connection, peer.next_question()));
        }
    }

    /// Waits for an answer; forever while no peer is being asked. The future may be dropped at any
    /// time.
    pub async fn step(&mut self) -> Option<Answered> {
        let Reply { peer: name, connection, answer, is_final } = match self.work.join_next().await {
            Some(Ok(reply)) => reply,
            // The request panicked, which is logged. That peer is not asked again.
            Some(Err(_)) => return None,
            None => std::future::pending().await,
        };
        let peer = self.peers.get_mut(&name).filter(|peer| peer.connection == connection)?;
        let mut shows_pg = false;
        match &answer {
            PeerAnswer::Release(release) => {
                if is_final {
                    peer.pg = Some(PgProtocol::of_release(release.as_deref()));
                    shows_pg = true;
                }
                self.work.spawn(ask(self.node.clone(), name.clone(), connection, Question::Others));
            }
            PeerAnswer::Others { .. } => peer.due = Some(Instant::now() + limits::ROUND_TRIP_EVERY),
        }
        Some(Answered { peer: name, answer, shows_pg })
    }
}

/// An answer of a peer.
#[derive(Debug)]
pub struct Answered {
    /// The peer.
    pub peer: NodeName,
    /// The answer.
    pub answer: PeerAnswer,
    /// Whether [`Questioner::pg`] returns a protocol since this answer.
    pub shows_pg: bool,
}

/// A request to a peer. The release is first, because introductions wait for it.
#[derive(Debug, Clone, Copy)]
enum Question {
    Release,
    Others,
}

impl Questioned {
    fn next_question(&self) -> Question {
        if self.pg.is_some() { Question::Others } else { Question::Release }
    }
}

/// Makes one call at a time, because all peers share [`beam::limits::CALLS`].
async fn ask(node: Handle, peer: NodeName, connection: u64, question: Question) -> Reply {
    let (answer, is_final) = match question {
        Question::Release => {
            let answer = questions::otp_release(&node, &peer).await;
            let is_final = !matches!(answer, Err(Unanswered::Silent | Unanswered::NotAsked));
            (PeerAnswer::Release(answer.ok()), is_final)
        }
        Question::Others => {
            let tick_time = questions::tick_time(&node, &peer).await.ok();
            let round_trip = questions::round_trip(&node, &peer).await.ok();
            (PeerAnswer::Others { tick_time, round_trip }, false)
        }
    };
    Reply { peer, connection, answer, is_final }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::time::{Duration, SystemTime};

    use beam::connect::dial::Dialer;
    use beam::cookie::Cookie;
    use beam::dist::Identity;
    use beam::dist::challenges::Challenges;
    use beam::dist::flags::{self, Flags};
    use beam::etf::{Atom, Term};
    use beam::node::Watched;
    use beam::node::task;
    use beam::node::view::{self, PeerState};
    use beam::node::{Answer, BadArg, Caller, Functions};
    use tokio::net::TcpListener;

    use super::*;

    struct Nothing;

    impl Functions for Nothing {
        fn call(&mut self, _: &Atom, _: &Atom, _: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
            None
        }
    }

    async fn node() -> Handle {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let cookie = Cookie::parse(b"cookie").unwrap();
        let settings = task::NodeSettings {
            identity: Identity {
                name: "us@h".parse().unwrap(),
                creation: 4,
                flags: flags::ours(false),
                cookie,
                challenges: Challenges::default(),
            },
            dialer: Dialer {
                epmd_port: 1,
                default_port: None,
                this_host: BTreeSet::new(),
                allowed_uids: BTreeSet::new(),
            },
            scopes: vec![],
            watched: Watched { tag: Atom::literal("tag"), group: Atom::literal("group") },
            functions: Box::new(Nothing),
            program: crate::cluster::peers::questions::PROGRAM,
            tick_time: Duration::from_secs(60),
            peer_memory: beam::limits::PEER_BYTES,
        };
        task::start(listener, settings).0
    }

    #[tokio::test]
    async fn the_round_trip_is_measured_again() {
        let mut questioner = Questioner::new(node().await);
        let up = |flags| {
            let state = PeerState::Up { creation: 1, published: true, flags, dialled: true };
            view::Peer { state, since: SystemTime::UNIX_EPOCH, connection: 1, owner: None }
        };
        let mut view = questioner.node.watch().borrow().as_ref().clone();
        view.peers.insert("p@h".parse().unwrap(), up(flags::ours(false)));
        view.peers.insert("tool@h".parse().unwrap(), up(flags::ours(false) | Flags::NAME_ME));
        questioner.changed(&view);
        assert_eq!(
            (questioner.work.len(), questioner.next_deadline()),
            (1, None),
            "the peer is being asked, and the tool is not"
        );
        // The node has no connection to it, so it does not answer.
        assert!(questioner.step().await.is_some_and(|answered| !answered.shows_pg), "its release is not known");
        assert_eq!(questioner.work.len(), 1, "then it is asked the other question");
        let others = questioner.step().await.map(|answered| answered.answer);
        assert_eq!(others, Some(PeerAnswer::Others { tick_time: None, round_trip: None }));
        assert_eq!(questioner.pg(&"p@h".parse().unwrap()), None, "it has not answered");
        let due = questioner.next_deadline().expect("it is asked again");
        questioner.time_passed(due - Duration::from_secs(1));
        assert!(questioner.work.is_empty(), "it is not due");
        questioner.time_passed(due);
        assert_eq!((questioner.work.len(), questioner.next_deadline()), (1, None));
        view.peers.remove("p@h");
        questioner.changed(&view);
        assert!(questioner.step().await.is_none(), "a disconnected peer is forgotten");
        assert_eq!(questioner.next_deadline(), None);
    }
}
