//! Messages that wait because an earlier one of the same connection needs more than one step. Pure.
//!
//! The messages of a connection are handled in order, and connections take turns at each step.

use std::collections::VecDeque;

use super::*;

/// The fixed cost of a message, in addition to its bytes.
const MESSAGE: usize = 64;

/// A message that waits.
pub(super) enum Waiting {
    Unread(Control, Option<Bytes>),
    Read(Control, Content),
}

/// The waiting messages of one connection.
#[derive(Default)]
struct Backlog {
    /// The scope that is applying one of its messages.
    scope: Option<Atom>,
    waiting: VecDeque<Waiting>,
}

/// The waiting messages of all connections.
#[derive(Default)]
pub(super) struct Backlogs {
    links: HashMap<LinkId, Backlog>,
    /// The order of turns. Connections that have ended are skipped.
    turns: VecDeque<LinkId>,
}

impl Backlogs {
    fn of(&mut self, link: LinkId) -> &mut Backlog {
        self.links.entry(link).or_insert_with(|| {
            self.turns.push_back(link);
            Backlog::default()
        })
    }

    /// Drops the waiting messages of a connection.
    pub(super) fn remove(&mut self, link: LinkId) {
        self.links.remove(&link);
    }
}

impl Machine {
    /// Returns whether there is work for [`Self::step`].
    #[must_use]
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlogs.links.is_empty() || self.has_leftovers()
    }

    /// Returns whether messages of this connection wait for [`Self::step`].
    #[must_use]
    pub(crate) fn has_waiting(&self, link: LinkId) -> bool {
        self.backlogs.links.contains_key(&link)
    }

    /// Handles messages of a connection in order. If their cost reaches [`limits::NODE_TURN`],
    /// leaves the rest for [`Self::step`].
    pub(super) fn messages(
        &mut self,
        now: Now,
        link: LinkId,
        batch: Vec<(Control, Option<Bytes>)>,
        out: &mut Vec<NodeEffect>,
    ) {
        let (mut batch, mut cost) = (batch.into_iter(), 0);
        while cost < limits::NODE_TURN
            && let Some((control, payload)) = batch.next()
        {
            cost += self.handle_or_queue(now, link, control, payload, out);
        }
        if batch.len() > 0 {
            self.postpone(link, batch);
        }
    }

    /// Leaves messages of a connection for [`Self::step`].
    pub(super) fn postpone(&mut self, link: LinkId, batch: impl IntoIterator<Item = (Control, Option<Bytes>)>) {
        if self.links.contains_key(&link) {
            let batch = batch.into_iter().map(|(control, payload)| Waiting::Unread(control, payload));
            self.backlogs.of(link).waiting.extend(batch);
        }
    }

    /// Leaves a large message of a connection for [`Self::step`].
    pub(super) fn postpone_read(&mut self, link: LinkId, control: Control, content: Content) {
        if self.links.contains_key(&link) {
            self.backlogs.of(link).waiting.push_back(Waiting::Read(control, content));
        }
    }

    /// Handles the next message of a connection, or queues it after earlier ones. Returns the cost.
    fn handle_or_queue(
        &mut self,
        now: Now,
        link: LinkId,
        control: Control,
        payload: Option<Bytes>,
        out: &mut Vec<NodeEffect>,
    ) -> usize {
        // A message of the same batch may have closed the link.
        if !self.links.contains_key(&link) {
            return 0;
        }
        let message = Waiting::Unread(control, payload);
        match self.backlogs.links.get_mut(&link) {
            Some(backlog) => {
                backlog.waiting.push_back(message);
                0
            }
            None => self.handle_message(now, link, message, out),
        }
    }

    /// Handles a message. Returns the cost, in bytes of the message and of the signals it causes.
    fn handle_message(&mut self, now: Now, link: LinkId, message: Waiting, out: &mut Vec<NodeEffect>) -> usize {
        let before = out.len();
        let read = match message {
            Waiting::Unread(control, payload) => {
                let bytes = payload.as_ref().map_or(0, Bytes::len);
                let content = payload.map(|payload| read(&control, payload, &mut self.atoms));
                self.control(now, link, control, content, out);
                bytes
            }
            Waiting::Read(control, content) => {
                let bytes = content.size().min(limits::NODE_TURN);
                self.control(now, link, control, Some(content), out);
                bytes
            }
        };
        let size = |effect: &NodeEffect| match effect {
            NodeEffect::Signal(_, _, payload) => MESSAGE + payload.as_ref().map_or(0, Iovec::size),
            _ => 0,
        };
        let cost = MESSAGE + read + out.iter().skip(before).map(size).sum::<usize>();
        // Each message clears at least as much as it leaves, so leftovers do not grow without
        // limit.
        self.clear(cost.min(limits::NODE_TURN), out);
        cost
    }

    /// Makes a connection's next messages wait for a scope that needs more steps.
    pub(super) fn wait_for(&mut self, link: LinkId, scope: Atom) {
        self.backlogs.of(link).scope = Some(scope);
    }

    /// Does one step. Clears a part of the leftovers. For the connection whose turn it is, applies
    /// a part of its current message or handles its next message. Returns the connection, if any,
    /// and the cost of the step in bytes of messages. Returns `None` if nothing waits.
    pub fn step(&mut self, now: Now, out: &mut Vec<NodeEffect>) -> Option<(Option<LinkId>, usize)> {
        let Some((link, scope, next)) = self.next_turn() else {
            let cost = self.clear(limits::NODE_TURN, out);
            return (cost > 0).then_some((None, cost));
        };
        let mut cost = MESSAGE;
        if let Some(scope) = scope {
            cost += self.step_scope(now, link, &scope, out);
            self.clear(cost, out);
        }
        if let Some(message) = next {
            cost += self.handle_message(now, link, message, out);
        }
        if let Some(backlog) = self.backlogs.links.get(&link) {
            if backlog.scope.is_some() || !backlog.waiting.is_empty() {
                self.backlogs.turns.push_back(link);
            } else {
                self.backlogs.remove(link);
            }
        }
        Some((Some(link), cost))
    }

    /// Returns the connection whose turn it is, with the scope that applies its message, or its
    /// next message.
    fn next_turn(&mut self) -> Option<(LinkId, Option<Atom>, Option<Waiting>)> {
        loop {
            let link = self.backlogs.turns.pop_front()?;
            if let Some(backlog) = self.backlogs.links.get_mut(&link) {
                let next = if backlog.scope.is_none() { backlog.waiting.pop_front() } else { None };
                return Some((link, backlog.scope.clone(), next));
            }
        }
    }

    fn step_scope(&mut self, now: Now, link: LinkId, name: &Atom, out: &mut Vec<NodeEffect>) -> usize {
        let Some(scope) = self.scopes.get_mut(name) else { return 0 };
        let step = scope.step(link, &mut self.atoms);
        let is_working = scope.is_working(link);
        match step {
            Ok(step) => {
                self.changed |= step.changed;
                if let (false, Some(backlog)) = (is_working, self.backlogs.links.get_mut(&link)) {
                    backlog.scope = None;
                }
                step.cost
            }
            Err(e) => {
                self.close(now, link, PeerReason::limit(e), out);
                0
            }
        }
    }
}
