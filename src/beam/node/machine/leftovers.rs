//! Monitors and links of connections and processes that have ended, and memory that is no longer
//! needed. A peer may have very many, so they are removed in steps. Pure.

use std::collections::{VecDeque, hash_map, hash_set};

use super::*;

/// The cost of removing a monitor or link, in bytes of a message. It is less than the message that
/// creates one.
const TIE: usize = 32;

/// The remains of a connection or process.
enum Leftover {
    /// A connection has ended: the peer no longer monitors our processes.
    Link {
        id: LinkId,
        monitors: Box<dyn Iterator<Item = (Reference, Pid)> + Send>,
        links: Box<dyn Iterator<Item = (Pid, Pid)> + Send>,
    },
    /// A local process has ended: its monitors and links get signals with the reason.
    Process {
        pid: Pid,
        reason: Raw,
        watchers: hash_map::IntoIter<(LinkId, Reference), Watcher>,
        links: hash_set::IntoIter<(LinkId, Pid)>,
    },
}

/// The queue of connections and processes that have ended and are not fully cleared.
#[derive(Default)]
pub(super) struct Leftovers(VecDeque<Leftover>);

impl Machine {
    /// Returns whether there is something for [`Self::clear`].
    pub(super) fn has_leftovers(&self) -> bool {
        !self.leftovers.0.is_empty() || self.scopes.values().any(Scope::has_discarded)
    }

    /// Removes the monitors and links of a connection that has ended.
    pub(super) fn remove_ties(&mut self, id: LinkId, link: Link, out: &mut Vec<NodeEffect>) {
        let (monitors, links) = link.ties.into_parts();
        let (monitors, links) = (Box::new(monitors), Box::new(links));
        self.begin_clearing(Leftover::Link { id, monitors, links }, out);
    }

    /// Signals the end of a local process to its monitors and links.
    pub(super) fn signal_end(&mut self, process: &mut Process, reason: &Raw, out: &mut Vec<NodeEffect>) {
        let watchers = std::mem::take(&mut process.watchers).into_iter();
        let links = std::mem::take(&mut process.links).into_iter();
        let (pid, reason) = (process.pid.clone(), reason.clone());
        self.begin_clearing(Leftover::Process { pid, reason, watchers, links }, out);
    }

    /// Handles a few monitors and links at once, and queues the rest.
    fn begin_clearing(&mut self, mut leftover: Leftover, out: &mut Vec<NodeEffect>) {
        let cost = self.clear_one(&mut leftover, limits::NODE_TURN, out);
        if cost >= limits::NODE_TURN {
            self.leftovers.0.push_back(leftover);
        }
    }

    /// Clears leftovers, at a cost of about `most` bytes of messages. Returns the cost.
    pub(super) fn clear(&mut self, most: usize, out: &mut Vec<NodeEffect>) -> usize {
        let mut cost = 0;
        while cost < most
            && let Some(mut leftover) = self.leftovers.0.pop_front()
        {
            let left = most - cost;
            let spent = self.clear_one(&mut leftover, left, out);
            if spent >= left {
                self.leftovers.0.push_front(leftover);
            }
            cost += spent;
        }
        for scope in self.scopes.values_mut() {
            cost += scope.free(most.saturating_sub(cost));
        }
        cost
    }

    /// Handles a part of a leftover. Returns the cost, which is less than `most` once all is
    /// handled.
    fn clear_one(&mut self, leftover: &mut Leftover, most: usize, out: &mut Vec<NodeEffect>) -> usize {
        let mut cost = 0;
        while cost < most && self.clear_next(leftover, out) {
            cost += TIE;
        }
        cost
    }

    /// Handles the next monitor or link. Returns whether there was one.
    fn clear_next(&mut self, leftover: &mut Leftover, out: &mut Vec<NodeEffect>) -> bool {
        match leftover {
            Leftover::Link { id, monitors, links } => {
                if let Some((reference, pid)) = monitors.next() {
                    self.processes.get(&Proc::Pid(pid)).map(|process| process.watchers.remove(&(*id, reference)));
                } else if let Some((ours, theirs)) = links.next() {
                    let process = self.processes.get(&Proc::Pid(ours.clone()));
                    if process.is_some_and(|process| process.links.remove(&(*id, theirs.clone()))) {
                        let from = Source { node: theirs.node.clone(), connection: id.0 };
                        self.exit_signal(&from, ours, &theirs, &monitors::no_connection());
                    }
                } else {
                    return false;
                }
            }
            Leftover::Process { pid, reason, watchers, links } => {
                if let Some(((id, reference), Watcher { pid: to, watched })) = watchers.next() {
                    // Skipped if the connection, or the monitor, has ended meanwhile.
                    if self.links.get_mut(&id).and_then(|link| link.ties.demonitor(reference.clone())).is_some() {
                        let control = Control::MonitorExit { from: watched, to, reference, reason: reason.clone() };
                        out.push(NodeEffect::Signal(id, control, None));
                    }
                } else if let Some((id, to)) = links.next() {
                    if self.links.get_mut(&id).is_some_and(|link| link.ties.unlink(pid.clone(), to.clone())) {
                        let control = Control::Exit { from: pid.clone(), to, reason: reason.clone() };
                        out.push(NodeEffect::Signal(id, control, None));
                    }
                } else {
                    return false;
                }
            }
        }
        true
    }
}
