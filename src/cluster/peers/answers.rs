//! Asks each connected peer about itself: its release, its tick time, and how long a ping of it takes.
//!
//! A peer is asked once it is connected, and again every [`limits::ROUND_TRIP_EVERY`], except for its
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

/// One peer that is connected.
#[derive(Debug)]
struct Questioned {
    connection: u64,
    /// What its `pg` speaks; none until it has told its release, or can't.
    pg: Option<PgProtocol>,
    /// When it is to be asked again; none while it is being asked.
    due: Option<Instant>,
}

/// Asks all connected peers.
#[derive(Debug)]
pub struct Questioner {
    node: Handle,
    peers: BTreeMap<NodeName, Questioned>,
    work: JoinSet<Reply>,
}

/// What came of one question.
#[derive(Debug)]
struct Reply {
    peer: NodeName,
    connection: u64,
    answer: PeerAnswer,
    /// Whether the same question would be answered in the same way.
    is_final: bool,
}

impl Questioner {
    /// Of the peers of this node.
    #[must_use]
    pub fn new(node: Handle) -> Self {
        Self { node, peers: BTreeMap::new(), work: JoinSet::new() }
    }

    /// Returns what the `pg` of a peer speaks, once the peer was asked for its release.
    #[must_use]
    pub fn pg(&self, peer: &NodeName) -> Option<PgProtocol> {
        self.peers.get(peer)?.pg
    }

    /// What the node sees has changed: newcomers are asked. Not those who had no name of their own: they are tools, of which one that is
    /// spoken to unasked may end (as `erl_rpc` does).
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

    /// When [`Self::time_passed`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.due).min()
    }

    /// Asks those whose time has come.
    pub fn time_passed(&mut self, now: Instant) {
        for (name, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.due.is_some_and(|due| due <= now)) {
            peer.due = None;
            self.work.spawn(ask(self.node.clone(), name.clone(), peer.connection, peer.next_question()));
        }
    }

    /// Waits for an answer; for ever while no peer is asked. May be dropped at any time.
    pub async fn step(&mut self) -> Option<Answered> {
        let Reply { peer: name, connection, answer, is_final } = match self.work.join_next().await {
            Some(Ok(reply)) => reply,
            // A panic, which has been logged: that peer is not asked any more.
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
    /// Whether [`Questioner::pg`] knows the peer since this answer.
    pub shows_pg: bool,
}

/// What a peer is asked. The release comes first, since introductions wait for it.
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

/// Asks one question after the other, because [`beam::limits::CALLS`] is for all peers.
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
    async fn the_round_trip_is_taken_again() {
        let mut questioner = Questioner::new(node().await);
        let up = |flags| {
            let state = PeerState::Up { creation: 1, published: true, flags, dialled: true };
            view::Peer { state, since: SystemTime::UNIX_EPOCH, connection: 1, owner: None }
        };
        let mut view = questioner.node.watch().borrow().as_ref().clone();
        view.peers.insert("p@h".parse().unwrap(), up(flags::ours(false)));
        view.peers.insert("tool@h".parse().unwrap(), up(flags::ours(false) | Flags::NAME_ME));
        questioner.changed(&view);
        assert_eq!((questioner.work.len(), questioner.next_deadline()), (1, None), "it is being asked, and no tool is");
        // It is gone by then, and nothing is known of it.
        assert!(questioner.step().await.is_some_and(|answered| !answered.shows_pg), "its release is not known");
        assert_eq!(questioner.work.len(), 1, "then it is asked the rest");
        let others = questioner.step().await.map(|answered| answered.answer);
        assert_eq!(others, Some(PeerAnswer::Others { tick_time: None, round_trip: None }));
        assert_eq!(questioner.pg(&"p@h".parse().unwrap()), None, "asked again");
        let due = questioner.next_deadline().expect("asked again");
        questioner.time_passed(due - Duration::from_secs(1));
        assert!(questioner.work.is_empty(), "not before its time");
        questioner.time_passed(due);
        assert_eq!((questioner.work.len(), questioner.next_deadline()), (1, None));
        view.peers.remove("p@h");
        questioner.changed(&view);
        assert!(questioner.step().await.is_none(), "a peer that is gone is forgotten");
        assert_eq!(questioner.next_deadline(), None);
    }
}
