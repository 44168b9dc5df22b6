//! The start and end of connections: the choice between two for one name, the first messages to a
//! peer, and the cleanup. Pure.

use super::*;

impl Machine {
    pub(super) fn link_up(
        &mut self,
        now: Now,
        id: LinkId,
        peer: Established,
        origin: Origin,
        out: &mut Vec<NodeEffect>,
    ) {
        if let Some(&old) = self.by_name.get(&peer.name) {
            if !self.replaces(origin, old, &peer.name) {
                out.push(NodeEffect::Close(id, "the other connection to this node is kept".to_owned()));
                return;
            }
            out.push(NodeEffect::Close(old, "replaced by a newer connection".to_owned()));
            let reason = PeerReason::new("replaced", "replaced by a newer connection of the node");
            self.link_down(now, old, reason, false, out);
        }
        let left = match self.down.remove(&peer.name).map(|before| before.state) {
            Some(PeerState::Down { left, .. }) => left,
            Some(PeerState::Up { .. }) | None => None,
        };
        let had_left = origin == Origin::Dialled && left == Some(peer.creation);
        let (name, published, flags) = (peer.name, peer.published, peer.flags);
        self.by_name.insert(name.clone(), id);
        let link = Link {
            atom: name.atom(),
            name,
            creation: peer.creation,
            published,
            since: now.wall,
            origin,
            flags,
            had_left,
            ties: Ties::default(),
        };
        self.links.insert(id, link);
        self.changed = true;
        if published {
            if self.hidden {
                self.next_poll.get_or_insert(now.instant + limits::PG_POLL);
            } else {
                self.send_in_sync(id, out);
            }
            let mut signals = Vec::new();
            for (scope_name, scope) in &self.scopes {
                scope.node_up(id, scope_name, &mut signals);
            }
            push(signals, out);
        }
    }

    /// Returns whether a new connection replaces an older one of the same name. Both sides must
    /// reach the same decision, in whatever order the connections start. Of two that cross, the one
    /// that the greater name dialled is kept, as in `accept_pending` of OTP's `net_kernel.erl`.
    fn replaces(&self, origin: Origin, old: LinkId, peer: &NodeName) -> bool {
        let old = self.links.get(&old).map(|link| link.origin);
        match origin {
            Origin::Replacing => true,
            // The same side has dialled again, so it has abandoned the older connection.
            _ if old == Some(origin) => true,
            Origin::Dialled => self.name > *peer,
            Origin::Accepted => self.name < *peer,
        }
    }

    /// Returns a request that every node answers at once, without a process: a monitor of an
    /// unregistered name.
    pub fn probe(&mut self) -> Control {
        let reference = self.processes.new_reference();
        let from = self.processes.whereis(net_kernel::NAME).cloned().unwrap_or_else(|| self.processes.new_pid());
        Control::Monitor { from, to: Proc::Name(Atom::literal("$no_process")), reference }
    }

    pub(super) fn send_in_sync(&self, id: LinkId, out: &mut Vec<NodeEffect>) {
        if let Some(from) = self.processes.whereis(net_kernel::NAME) {
            let control = Control::SendName { from: from.clone(), to: Atom::literal(global::NAME) };
            out.push(NodeEffect::Signal(id, control, Some(global::in_sync(&from.node).into())));
        }
    }

    /// Discovers the unknown scopes of peers again, if this node is hidden. A scope that starts
    /// later does not discover a hidden node.
    pub(super) fn poll_scopes(&mut self, now: Now, out: &mut Vec<NodeEffect>) {
        if self.next_poll.is_none_or(|at| at > now.instant) {
            return;
        }
        let published = || self.links.iter().filter(|(_, link)| link.published).map(|(id, _)| *id);
        let mut signals = Vec::new();
        for (name, scope) in &self.scopes {
            scope.poll(name, published(), &mut signals);
        }
        self.next_poll = published().next().map(|_| now.instant + limits::PG_POLL);
        push(signals, out);
    }

    pub(super) fn link_down(
        &mut self,
        now: Now,
        id: LinkId,
        reason: PeerReason,
        by_peer: bool,
        out: &mut Vec<NodeEffect>,
    ) {
        let Some(link) = self.links.remove(&id) else { return };
        self.by_name.remove(&link.name);
        self.backlogs.remove(id);
        self.known_size -= self.known.remove(&id).map_or(0, |known| known.len());
        for scope in self.scopes.values_mut() {
            scope.node_down(id);
        }
        self.served.retain(|_, served| served.link != id);
        let lost = self.calls.take_by_link(id).into_iter();
        out.extend(lost.map(|call| NodeEffect::Result(call.token, Err(CallError::NoConnection))));
        self.fire_monitors_of_link(id, out);
        if self.down.len() >= limits::KNOWN_NODES {
            let oldest = self.down.iter().min_by_key(|(_, peer)| peer.connection).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.down.remove(&name));
        }
        let state = PeerState::Down { reason, left: by_peer.then_some(link.creation) };
        self.down.insert(link.name.clone(), Peer { state, since: now.wall, connection: id.0, owner: None });
        self.remove_ties(id, link, out);
        self.changed = true;
    }

    pub(super) fn close(&mut self, now: Now, id: LinkId, reason: PeerReason, out: &mut Vec<NodeEffect>) {
        let text = reason.detail.clone();
        self.link_down(now, id, reason, false, out);
        out.push(NodeEffect::Close(id, text));
    }

    pub(super) fn stop(&mut self, now: Now, out: &mut Vec<NodeEffect>) {
        // Processes of the program end first, so that peers see them leave their groups.
        let shutdown = Raw::encode(&Term::atom("shutdown"));
        let (services, spawned): (Vec<Pid>, Vec<Pid>) = self.processes.pids().into_iter().partition(|pid| {
            self.processes.get(&Proc::Pid(pid.clone())).is_some_and(|p| !matches!(p.role, Role::Behaviour(_)))
        });
        for pid in spawned.iter().chain(&services) {
            self.exit(pid, &shutdown, out);
        }
        self.clear(usize::MAX, out);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.close(now, id, PeerReason::new("stopping", "this node is stopping"), out);
        }
    }
}
