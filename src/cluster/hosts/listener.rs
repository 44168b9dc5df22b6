//! Receives the events of other hecate-daemons as a member of the groups of these events. Asks the
//! daemons for snapshots when [`Hosts`] decides to.
//!
//! It makes no decisions, and keeps only state that it can ask for again.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use beam::etf::{Atom, Atoms, Raw, Term};
use beam::name::NodeName;
use beam::node::handle::{Handle, Stopped};
use beam::node::now::Now;
use beam::node::refusal;
use beam::node::view::{Peer, View};
use beam::node::{Answer, Behaviour, Caller, Source};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::debug;

use crate::cluster::hosts::reports::{self, Snapshot};
use crate::cluster::hosts::tracker::{Hosts, HostsEffect, HostsInput};
use crate::cluster::plugins::server;
use crate::cluster::view::HostView;
use crate::limits;
use crate::plugin::EventKind;

/// Our member of the groups of events. It puts the events of daemons into a queue.
#[derive(Debug)]
struct EventReceiver {
    events: mpsc::Sender<(Source, reports::HostEvent)>,
    /// The number of events that did not fit into the queue.
    missed: watch::Sender<u64>,
}

impl EventReceiver {
    /// Returns the receiver, the queue of at most [`limits::HOST_EVENTS`] events, and the number of
    /// events that did not fit.
    fn new() -> (Self, mpsc::Receiver<(Source, reports::HostEvent)>, watch::Receiver<u64>) {
        let (events, queue) = mpsc::channel(limits::HOST_EVENTS);
        let (missed, missed_count) = watch::channel(0);
        (Self { events, missed }, queue, missed_count)
    }
}

impl Behaviour for EventReceiver {
    fn call(&mut self, _request: &Raw, _caller: &Caller, atoms: &mut Atoms) -> Answer {
        let refusal = refusal().term(atoms);
        Answer::Now(refusal.unwrap_or_else(|_| Term::atom("error")))
    }

    fn message(&mut self, message: &Raw, from: &Source, atoms: &mut Atoms) {
        if let Some(event) = reports::event(message, atoms)
            && self.events.try_send((from.clone(), event)).is_err()
        {
            self.missed.send_modify(|missed| *missed += 1);
        }
    }

    fn state(&self) -> Term {
        Term::atom("hecate_events")
    }
}

struct Listener {
    node: Handle,
    hosts: Hosts,
    publish: watch::Sender<Arc<Vec<HostView>>>,
    asked: JoinSet<(NodeName, u64, Option<Snapshot>)>,
}

/// Receives and publishes the reports of other daemons until the node stops.
///
/// # Errors
/// The node has stopped.
pub async fn run(node: Handle, publish: watch::Sender<Arc<Vec<HostView>>>) -> Result<(), Stopped> {
    let (receiver, mut events, mut missed) = EventReceiver::new();
    // Joins the groups before it asks a daemon, so that it receives all events after the answer.
    let groups = EventKind::ALL.map(|kind| Term::atom(kind.name()));
    node.spawn(None, Box::new(receiver), groups.to_vec()).await?;
    let mut view = node.watch();
    view.mark_changed();
    let mut listener = Listener { node, hosts: Hosts::default(), publish, asked: JoinSet::new() };
    loop {
        let deadline = listener.hosts.next_deadline();
        let input = tokio::select! {
            changed = view.changed() => {
                changed.map_err(|_| Stopped)?;
                members(&view.borrow_and_update())
            }
            event = events.recv() => {
                let (Source { node, connection }, event) = event.ok_or(Stopped)?;
                // Always valid, because the peer is connected under this name.
                let Ok(node) = NodeName::parse(node.as_str()) else { continue };
                HostsInput::Event { node, connection, event }
            }
            changed = missed.changed() => {
                changed.map_err(|_| Stopped)?;
                HostsInput::Missed
            }
            Some(Ok((node, connection, snapshot))) = listener.asked.join_next() => {
                HostsInput::Answered { node, connection, snapshot }
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => HostsInput::Tick,
        };
        listener.handle(input);
    }
}

/// Returns the hecate-daemons that are in the group in `pg`.
fn members(view: &View) -> HostsInput {
    let peer = |node: &NodeName| view.peers.get(node).filter(|peer| Peer::is_up(peer));
    HostsInput::Members(view.grouped.iter().filter_map(|node| Some((node.clone(), peer(node)?.connection))).collect())
}

impl Listener {
    fn handle(&mut self, input: HostsInput) {
        let mut effects = Vec::new();
        let now = Now { instant: Instant::now(), wall: SystemTime::now() };
        self.hosts.handle(now, input, &mut effects);
        for HostsEffect::Ask { node, connection } in effects {
            let handle = self.node.clone();
            self.asked.spawn(async move {
                let snapshot = ask(&handle, &node).await;
                (node, connection, snapshot)
            });
        }
        if self.hosts.take_changed() {
            self.publish.send_replace(Arc::new(self.hosts.view()));
        }
    }
}

async fn ask(node: &Handle, daemon: &NodeName) -> Option<Snapshot> {
    let server = Atom::literal(server::NAME);
    match node.gen_call(daemon.clone(), server, Term::atom("snapshot")).await.ok()? {
        Ok(answer) => match reports::snapshot(&answer, &mut Atoms::new()) {
            Ok(snapshot) => Some(snapshot),
            Err(e) => {
                debug!(%daemon, "cannot read the snapshot of its plugins: {e}");
                None
            }
        },
        Err(e) => {
            debug!(%daemon, "no snapshot of its plugins: {e}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_exceed_the_queue_are_counted_as_missed() {
        let (mut receiver, mut events, missed) = EventReceiver::new();
        let from = Source { node: Atom::literal("hecate@h"), connection: 7 };
        let purged = |revision| {
            let map = crate::cluster::terms::map([("revision", Term::Int(revision))]);
            Raw::encode(&Term::tuple([Term::atom("plugin_data_purged_v1"), map]))
        };
        for revision in 1..=i64::try_from(limits::HOST_EVENTS).unwrap() {
            receiver.message(&purged(revision), &from, &mut Atoms::new());
        }
        receiver.message(&Raw::encode(&Term::atom("hello")), &from, &mut Atoms::new());
        assert!(!missed.has_changed().unwrap());
        receiver.message(&purged(0), &from, &mut Atoms::new());
        assert!(missed.has_changed().unwrap());
        let (source, event) = events.try_recv().unwrap();
        assert_eq!((source, event.revision), (from, 1));
    }
}
