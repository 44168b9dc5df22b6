//! One scope of process groups, compatible with both protocol versions of OTP's `pg.erl`.
//!
//! Scopes of the same name find each other with `discover`. They exchange the groups of their own
//! processes with `sync`, and then send each other every later `join` and `leave`. A scope reports
//! only the processes of its own node, so there are no conflicts to resolve. When a scope ends, its
//! members are removed.
//!
//! Every outgoing message must match a clause of `pg.erl` in every release. An unknown message ends
//! the peer's scope (`error(badarg)`), and its node loses all memberships. `wire::Outgoing` lists
//! all outgoing messages. A scope starts with version 0, which every release accepts. It uses
//! version 1 with a peer that has sent `{discover, Pid, 1}`. Incoming messages of both versions are
//! accepted.

mod discard;
mod members;
mod remote;
mod wire;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use discard::Discarded;
use remote::Remote;
use wire::{Incoming, Outgoing, Version};
pub use work::Step;

use crate::dist::control::{Control, Proc};
use crate::etf::{Atom, Atoms, Pid, Raw, Reference};
use crate::limits;
use crate::node::link_id::LinkId;
use crate::node::services::gen_server::Message;
use crate::node::view::Census;

/// A group, in the canonical encoding that all equal terms share.
pub type Key = Bytes;

/// A scope on our node.
#[derive(Debug)]
pub struct Scope {
    /// Our process that is registered under the scope's name.
    pid: Pid,
    /// The groups of our processes, each with its term and its members in order. No group is empty.
    local: BTreeMap<Key, (Raw, Vec<Pid>)>,
    /// The groups of each of our processes.
    joined: HashMap<Pid, Vec<Key>>,
    /// The number of members in `local`.
    size: usize,
    /// The scope of each peer. A peer has only one, because a name is registered for one process.
    remotes: HashMap<LinkId, Remote>,
    /// The members of scopes that have ended, see [`Scope::free`].
    discarded: Discarded,
    watched: Watched,
    /// See [`Scope::take_touched`].
    touched: bool,
}

/// The groups of peers that the view shows.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Groups `{Tag, Binary}` with this tag, shown in
    /// [`View::announced`](crate::node::view::View::announced).
    pub tag: Atom,
    /// The group of this name, shown in [`View::grouped`](crate::node::view::View::grouped).
    pub group: Atom,
}

/// Signals to send, each over a connection.
pub type Signals = Vec<(LinkId, Control, Option<Raw>)>;

/// A peer's scope exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    /// See [`limits::PG_MEMBERS`].
    #[error("the peer's pg scope has too many members (limit {max})", max = limits::PG_MEMBERS)]
    Members,
    /// See [`limits::PG_STRANGERS`].
    #[error("the peer's pg scope sent a leave with too many processes that are not in the groups")]
    Strangers,
}

impl Scope {
    /// Creates a scope whose process is `pid`.
    #[must_use]
    pub fn new(pid: Pid, watched: Watched) -> Self {
        Self {
            pid,
            local: BTreeMap::new(),
            joined: HashMap::new(),
            size: 0,
            remotes: HashMap::new(),
            discarded: Discarded::default(),
            watched,
            touched: false,
        }
    }

    /// Sends `discover` to a published peer that has connected (`handle_info({nodeup, Node}, …)`).
    pub fn node_up(&self, link: LinkId, scope: &Atom, out: &mut Signals) {
        let control = Control::SendName { from: self.pid.clone(), to: scope.clone() };
        out.push((link, control, Some(Outgoing::Discover.message(Version::Zero, &self.pid))));
    }

    /// Sends `discover` again to the peers among `links` whose scopes are not known. A hidden node
    /// finds scopes that start late, or restart, only in this way.
    pub fn poll(&self, scope: &Atom, links: impl Iterator<Item = LinkId>, out: &mut Signals) {
        for link in links.filter(|link| !self.remotes.contains_key(link)) {
            self.node_up(link, scope, out);
        }
    }

    /// Replaces our scope's process, which has ended, by `pid`. Discovers the scopes of the
    /// published peers again. Returns whether watched groups changed.
    pub fn restart(
        &mut self,
        pid: Pid,
        scope: &Atom,
        published: impl Iterator<Item = LinkId>,
        out: &mut Signals,
    ) -> bool {
        let ended = std::mem::replace(&mut self.pid, pid);
        let changed = self.remotes.values().any(|remote| remote.has_watched());
        // Otherwise the peer would keep the monitors of the ended process until the connection
        // ends.
        for (link, remote) in self.remotes.drain() {
            let (to, reference) = (Proc::Pid(remote.pid.clone()), remote.monitor.clone());
            out.push((link, Control::Demonitor { from: ended.clone(), to, reference }, None));
            remote.discard(&mut self.discarded);
        }
        self.touched = true;
        for link in published {
            self.node_up(link, scope, out);
        }
        changed
    }

    /// Removes the peer's scope and its members when its connection ends. Returns whether watched
    /// groups changed.
    pub fn node_down(&mut self, link: LinkId) -> bool {
        self.touched = true;
        let remote = self.remotes.remove(&link);
        self.discard(remote)
    }

    /// Leaves a scope to be freed in steps. Returns whether it had members of watched groups.
    fn discard(&mut self, remote: Option<Remote>) -> bool {
        let Some(remote) = remote else { return false };
        let had_watched = remote.has_watched();
        remote.discard(&mut self.discarded);
        had_watched
    }

    /// Returns whether there is something for [`Self::free`].
    #[must_use]
    pub(crate) fn has_discarded(&self) -> bool {
        !self.discarded.is_empty()
    }

    /// Frees a part of the memory of scopes that have ended, at a cost of at most `most` bytes of a
    /// message. Returns the cost.
    pub fn free(&mut self, most: usize) -> usize {
        self.discarded.free(most / discard::ENTRY) * discard::ENTRY
    }

    /// Removes the peer's scope if this is its monitor. Returns whether watched groups changed.
    pub(crate) fn monitor_down(&mut self, link: LinkId, monitor: &Reference) -> bool {
        self.remotes.get(&link).is_some_and(|remote| remote.monitor == *monitor) && self.node_down(link)
    }

    /// Adds one of our processes to a group, at most once. `key` is the canonical encoding of
    /// `group`.
    pub fn join(&mut self, key: Key, group: &Raw, pid: &Pid, out: &mut Signals) {
        let (group, members) = self.local.entry(key.clone()).or_insert_with(|| (group.detached(), Vec::new()));
        if let Err(at) = members.binary_search(pid) {
            members.insert(at, pid.clone());
            self.joined.entry(pid.clone()).or_default().push(key);
            self.size += 1;
            self.touched = true;
            broadcast(&self.pid, &self.remotes, Outgoing::Join(group, pid), out);
        }
    }

    /// Removes a process that has ended from all groups, with one message to each peer.
    pub(crate) fn process_down(&mut self, pid: &Pid, out: &mut Signals) {
        let mut left = Vec::new();
        for key in self.joined.remove(pid).unwrap_or_default() {
            let Some((group, members)) = self.local.get_mut(&key) else { continue };
            if let Ok(at) = members.binary_search(pid) {
                members.remove(at);
                self.size -= 1;
                left.push(group.clone());
            }
            if members.is_empty() {
                self.local.remove(&key);
            }
        }
        if !left.is_empty() {
            self.touched = true;
            broadcast(&self.pid, &self.remotes, Outgoing::Leave(pid, &left), out);
        }
    }

    /// Starts to apply a message to our scope. A small message is applied at once; [`Self::step`]
    /// applies the rest of a large one. Messages outside the protocol are dropped; a scope of OTP
    /// would exit. Returns whether watched groups changed.
    ///
    /// # Errors
    /// [`Excess`]: the link should be closed.
    pub(crate) fn message(
        &mut self,
        link: LinkId,
        peer: &Atom,
        message: Message,
        new_reference: &mut impl FnMut() -> Reference,
        atoms: &mut Atoms,
        out: &mut Signals,
    ) -> Result<bool, Excess> {
        // A scope may report only the processes of its own node.
        let Some(incoming) = Incoming::read(message, atoms).filter(|incoming| incoming.from().node == *peer) else {
            return Ok(false);
        };
        self.touched = true;
        let (work, replaced) = match incoming {
            Incoming::Discover(pid, version) => {
                return Ok(self.answer_discover(link, pid, version, new_reference, out));
            }
            Incoming::Sync(pid, work) => (work, self.monitor_scope(link, &pid, Version::Zero, new_reference, out)),
            // The scope has not exchanged its groups with ours (see the same clauses in `pg.erl`).
            Incoming::Update(pid, _) if !self.is_known(link, &pid) => return Ok(false),
            Incoming::Update(_, work) => (work, false),
        };
        let Some(remote) = self.remotes.get_mut(&link) else { return Ok(replaced) };
        remote.begin(work);
        Ok(self.step(link, atoms)?.changed || replaced)
    }

    /// Returns whether a message from this connection is being applied. [`Self::message`] accepts
    /// the next one only when it is not.
    #[must_use]
    pub(crate) fn is_working(&self, link: LinkId) -> bool {
        self.remotes.get(&link).is_some_and(Remote::is_working)
    }

    /// Applies the next part of the message from this connection.
    ///
    /// # Errors
    /// [`Excess`]: the link should be closed.
    pub(crate) fn step(&mut self, link: LinkId, atoms: &mut Atoms) -> Result<Step, Excess> {
        self.touched = true;
        match self.remotes.get_mut(&link) {
            Some(remote) => remote.step(&self.watched, atoms),
            None => Ok(Step::default()),
        }
    }

    fn is_known(&self, link: LinkId, pid: &Pid) -> bool {
        self.remotes.get(&link).is_some_and(|remote| remote.pid == *pid)
    }

    /// Answers `discover` of a peer's scope with our groups, and discovers the scope in turn if it
    /// is new. Returns whether watched groups changed.
    fn answer_discover(
        &mut self,
        link: LinkId,
        pid: Pid,
        version: Version,
        new_reference: &mut impl FnMut() -> Reference,
        out: &mut Signals,
    ) -> bool {
        let to = |message| (link, Control::Send { from: Some(self.pid.clone()), to: pid.clone() }, Some(message));
        out.push(to(Outgoing::Sync(&self.local).message(version, &self.pid)));
        let is_new = !self.is_known(link, &pid);
        if is_new {
            out.push(to(Outgoing::Discover.message(version, &self.pid)));
        }
        let changed = self.monitor_scope(link, &pid, version, new_reference, out);
        if let Some(remote) = self.remotes.get_mut(&link) {
            (remote.version, remote.is_synced) = (version, true);
        }
        changed
    }

    /// Monitors a peer's scope, if it is new. Removes the members of the scope that it replaces.
    /// Returns whether watched groups changed.
    fn monitor_scope(
        &mut self,
        link: LinkId,
        pid: &Pid,
        version: Version,
        new_reference: &mut impl FnMut() -> Reference,
        out: &mut Signals,
    ) -> bool {
        if self.is_known(link, pid) {
            return false;
        }
        let monitor = new_reference();
        let control =
            Control::Monitor { from: self.pid.clone(), to: Proc::Pid(pid.clone()), reference: monitor.clone() };
        out.push((link, control, None));
        let before = self.remotes.insert(link, Remote::new(pid.clone(), monitor, version));
        self.discard(before)
    }

    /// Returns the binaries of the groups `{WatchedTag, Binary}` of peers' processes, each with the
    /// node. Returns at most [`limits::PG_ANNOUNCED_BY_ALL`], starting with the peers that have the
    /// fewest.
    #[must_use]
    pub fn announced(&self) -> BTreeSet<(Bytes, Atom)> {
        let mut remotes: Vec<_> = self.remotes.iter().collect();
        remotes.sort_unstable_by_key(|(link, remote)| (remote.announced().len(), **link));
        let each = remotes.iter().flat_map(|(_, remote)| remote.announced().map(|name| (name, &remote.pid.node)));
        let each = each.take(limits::PG_ANNOUNCED_BY_ALL);
        each.map(|(name, node)| (name.clone(), node.clone())).collect()
    }

    /// Returns the peers with a process in the watched group that has a name.
    #[must_use]
    pub fn grouped(&self) -> BTreeSet<Atom> {
        self.remotes.values().filter(|remote| remote.is_grouped()).map(|remote| remote.pid.node.clone()).collect()
    }

    /// Returns whether the scope of this connection's peer is known.
    #[must_use]
    pub fn exchanges(&self, link: LinkId) -> bool {
        self.remotes.contains_key(&link)
    }

    /// Returns the memory that a peer's scope uses here, in bytes, approximately.
    #[must_use]
    pub fn bytes(&self, link: LinkId) -> usize {
        self.remotes.get(&link).map_or(0, Remote::bytes)
    }

    /// Returns whether [`Self::census`] may have changed since the last call.
    pub fn take_touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Counts groups and members.
    #[must_use]
    pub fn census(&self) -> Census {
        Census {
            own_groups: self.local.len(),
            own_members: self.size,
            peer_groups: self.remotes.values().map(|remote| remote.members.groups()).sum(),
            peer_members: self.remotes.values().map(|remote| remote.members.size()).sum(),
        }
    }

    /// Returns the processes in a group in order, ours included, each once: at most
    /// [`limits::PG_RECEIVERS`] of each peer.
    #[must_use]
    pub fn members(&self, key: &Key) -> Vec<Pid> {
        let own = self.local.get(key).into_iter().flat_map(|(_, members)| members);
        let mut members: Vec<Pid> = own.chain(self.receivers(key).map(|(_, pid)| pid)).cloned().collect();
        members.sort_unstable();
        members
    }

    /// Returns the peers' processes in a group, at most [`limits::PG_RECEIVERS`] of each peer, each
    /// with the connection to its node.
    pub(crate) fn receivers(&self, key: &Key) -> impl Iterator<Item = (LinkId, &Pid)> {
        self.remotes.iter().flat_map(|(link, remote)| {
            let processes = remote.processes(key).take(limits::PG_RECEIVERS);
            processes.map(|pid| (*link, pid))
        })
    }

    /// Returns the peers' members of a group; a process that joined twice occurs twice.
    #[cfg(test)]
    pub(crate) fn remote_members(&self, key: &Key) -> impl Iterator<Item = (LinkId, &Pid)> {
        self.remotes.iter().flat_map(|(link, remote)| remote.members(key).map(|pid| (*link, pid)))
    }
}

/// Sends a message to every scope that has our groups, in the version of that scope.
fn broadcast(ours: &Pid, remotes: &HashMap<LinkId, Remote>, outgoing: Outgoing<'_>, out: &mut Signals) {
    for (link, remote) in remotes.iter().filter(|(_, remote)| remote.is_synced) {
        let control = Control::Send { from: Some(ours.clone()), to: remote.pid.clone() };
        out.push((*link, control, Some(outgoing.message(remote.version, ours))));
    }
}

#[cfg(test)]
mod tests;
