//! One scope of process groups, a peer of OTP's `pg.erl` (version 0 of its protocol).
//!
//! Scopes of the same name find each other with `discover`, exchange what their own processes joined with `sync`, and
//! tell each other every later `join` and `leave`. Each scope speaks for the processes of its own node only, so there is
//! nothing to resolve: what a scope says of itself is true, and when it is gone, so are its members.
//!
//! Whatever we send must match a clause of `pg.erl` in every release, since an unknown message ends the peer's scope
//! (`error(badarg)`) and with it all that its node had joined. `Outgoing` is the closed list of what we send.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::dist::control::{Control, Proc};
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference};
use crate::limits;
use crate::node::machine::LinkId;
use crate::node::services::gen_server::Message;

/// A group, by the one encoding that all equal terms share.
pub type Key = Bytes;

/// A scope on our node.
#[derive(Debug)]
pub struct Scope {
    /// Our process registered under the scope's name.
    pid: Pid,
    /// What processes of ours joined: the group as it is sent, and its members, never none.
    local: BTreeMap<Key, (Raw, Vec<Pid>)>,
    /// The scopes that we exchange with, one a peer: a name is registered for one process only.
    remotes: HashMap<LinkId, Remote>,
    /// Groups `{Tag, Binary}` with this tag are shown by [`Scope::announced`].
    watched_tag: Atom,
}

/// A scope of the same name on a peer.
#[derive(Debug)]
struct Remote {
    pid: Pid,
    monitor: Reference,
    members: HashMap<Key, Vec<Pid>>,
    /// The binaries of watched groups that have members.
    announced: BTreeMap<Key, Bytes>,
    /// Number of pids in `members`.
    entries: usize,
}

/// All that is ever sent to a scope of a peer.
#[derive(Debug, Clone, Copy)]
enum Outgoing<'a> {
    /// `{discover, ScopePid}`
    Discover,
    /// `{'$gen_cast', {sync, ScopePid, [{Group, [Pid]}]}}`, of all groups, none of them empty.
    Sync(&'a BTreeMap<Key, (Raw, Vec<Pid>)>),
    /// `{join, ScopePid, Group, Pid}`
    Join(&'a Raw, &'a Pid),
    /// `{leave, ScopePid, Pid, [Group]}`
    Leave(&'a Pid, &'a [Raw]),
}

impl Outgoing<'_> {
    fn message(self, scope: &Pid) -> Raw {
        Raw::build(|w| match self {
            Self::Discover => {
                w.tuple(2).atom("discover").pid(scope);
            }
            Self::Sync(groups) => {
                w.tuple(2).atom("$gen_cast");
                w.tuple(3).atom("sync").pid(scope);
                if !groups.is_empty() {
                    w.list(length(groups.len()));
                }
                for (group, members) in groups.values() {
                    w.tuple(2).raw(group).list(length(members.len()));
                    for pid in members {
                        w.pid(pid);
                    }
                    w.nil();
                }
                w.nil();
            }
            Self::Join(group, pid) => {
                w.tuple(4).atom("join").pid(scope).raw(group).pid(pid);
            }
            Self::Leave(pid, groups) => {
                w.tuple(4).atom("leave").pid(scope).pid(pid).list(length(groups.len()));
                for group in groups {
                    w.raw(group);
                }
                w.nil();
            }
        })
    }
}

/// What a scope wants done: signals to send, each over a link.
pub type Signals = Vec<(LinkId, Control, Option<Raw>)>;

/// A peer told us of more than [`limits::PG_MEMBERS`] members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer's pg scope has more than {max} members", max = limits::PG_MEMBERS)]
pub struct TooManyMembers;

/// What came in from a peer's scope.
enum Incoming {
    Discover(Pid),
    Sync(Pid, Vec<(Raw, Vec<Pid>)>),
    Join(Pid, Raw, Vec<Pid>),
    Leave(Pid, Vec<Pid>, Vec<Raw>),
}

impl Scope {
    /// A scope whose process is `pid`.
    #[must_use]
    pub fn new(pid: Pid, watched_tag: Atom) -> Self {
        Self { pid, local: BTreeMap::new(), remotes: HashMap::new(), watched_tag }
    }

    /// A published peer has come up: discover whether it has such a scope (`handle_info({nodeup, Node}, …)`).
    pub fn node_up(&self, link: LinkId, scope: &Atom, out: &mut Signals) {
        let control = Control::SendName { from: self.pid.clone(), to: scope.clone() };
        out.push((link, control, Some(Outgoing::Discover.message(&self.pid))));
    }

    /// Our scope's process has ended, and its place is taken by `pid`: what it knew of others it asks for anew, from the
    /// published peers over these connections. Tells whether watched groups changed.
    pub fn restart(
        &mut self,
        pid: Pid,
        scope: &Atom,
        published: impl Iterator<Item = LinkId>,
        out: &mut Signals,
    ) -> bool {
        self.pid = pid;
        let changed = self.remotes.values().any(|remote| !remote.announced.is_empty());
        self.remotes.clear();
        for link in published {
            self.node_up(link, scope, out);
        }
        changed
    }

    /// A connection has ended: its scope is gone, and so are its members. Tells whether watched groups changed.
    pub fn node_down(&mut self, link: LinkId) -> bool {
        self.remotes.remove(&link).is_some_and(|remote| !remote.announced.is_empty())
    }

    /// A process that we monitor has ended: a peer's scope. Tells whether watched groups changed.
    pub fn monitor_down(&mut self, link: LinkId, monitor: &Reference) -> bool {
        self.remotes.get(&link).is_some_and(|remote| remote.monitor == *monitor) && self.node_down(link)
    }

    /// A process of ours joins a group; a process is in a group once. `key` is the canonical encoding of `group`.
    pub fn join(&mut self, key: Key, group: &Raw, pid: &Pid, out: &mut Signals) {
        let (group, members) = self.local.entry(key).or_insert_with(|| (group.detached(), Vec::new()));
        if !members.contains(pid) {
            members.push(pid.clone());
            let message = Outgoing::Join(group, pid).message(&self.pid);
            broadcast(&self.pid, &self.remotes, &message, out);
        }
    }

    /// A process of ours has ended: it leaves all its groups, in one message to each peer.
    pub fn process_down(&mut self, pid: &Pid, out: &mut Signals) {
        let mut left = Vec::new();
        self.local.retain(|_, (group, members)| {
            let before = members.len();
            members.retain(|member| member != pid);
            if members.len() < before {
                left.push(group.clone());
            }
            !members.is_empty()
        });
        if !left.is_empty() {
            let message = Outgoing::Leave(pid, &left).message(&self.pid);
            broadcast(&self.pid, &self.remotes, &message, out);
        }
    }

    /// A message to our scope. What isn't of the protocol is dropped: unlike OTP's, our scope doesn't end on it. Tells
    /// whether watched groups changed.
    ///
    /// # Errors
    /// [`TooManyMembers`]: the link should be closed.
    pub fn message(
        &mut self,
        link: LinkId,
        peer: &Atom,
        message: Message,
        new_reference: &mut impl FnMut() -> Reference,
        atoms: &mut Atoms,
        out: &mut Signals,
    ) -> Result<bool, TooManyMembers> {
        let incoming = match message {
            Message::Cast(request) => read_cast(&request, atoms),
            Message::Info(message) => read_info(&message, atoms),
            Message::Call(..) | Message::System(..) => return Ok(false),
        };
        let Ok(incoming) = incoming else { return Ok(false) };
        match incoming {
            // Only a scope of that very peer may speak for it.
            Incoming::Discover(pid) | Incoming::Sync(pid, _) | Incoming::Join(pid, ..) | Incoming::Leave(pid, ..)
                if pid.node != *peer =>
            {
                Ok(false)
            }
            Incoming::Discover(pid) => Ok(self.discovered(link, pid, new_reference, out)),
            Incoming::Sync(pid, groups) => {
                let replaced = self.know(link, &pid, new_reference, out);
                let Some(remote) = self.remotes.get_mut(&link) else {
                    return Ok(replaced);
                };
                let before = std::mem::take(&mut remote.announced);
                remote.members.clear();
                remote.entries = 0;
                for (group, pids) in groups {
                    remote.join(&group, pids, &self.watched_tag, atoms)?;
                }
                Ok(replaced || before != remote.announced)
            }
            // From a scope that has left the overlay network, or was never in it (see the same clauses in pg.erl).
            Incoming::Join(pid, ..) | Incoming::Leave(pid, ..) if !self.knows(link, &pid) => Ok(false),
            Incoming::Join(_, group, pids) => match self.remotes.get_mut(&link) {
                Some(remote) => remote.join(&group, pids, &self.watched_tag, atoms),
                None => Ok(false),
            },
            Incoming::Leave(_, pids, groups) => match self.remotes.get_mut(&link) {
                Some(remote) => Ok(groups.iter().fold(false, |any, group| remote.leave(group, &pids, atoms) | any)),
                None => Ok(false),
            },
        }
    }

    fn knows(&self, link: LinkId, pid: &Pid) -> bool {
        self.remotes.get(&link).is_some_and(|remote| remote.pid == *pid)
    }

    /// A scope of a peer looks for us: tell it what we have, and look for it in turn if it is new. Tells whether watched
    /// groups changed.
    fn discovered(
        &mut self,
        link: LinkId,
        pid: Pid,
        new_reference: &mut impl FnMut() -> Reference,
        out: &mut Signals,
    ) -> bool {
        let to = |message| (link, Control::Send { from: Some(self.pid.clone()), to: pid.clone() }, Some(message));
        out.push(to(Outgoing::Sync(&self.local).message(&self.pid)));
        if self.knows(link, &pid) {
            return false;
        }
        out.push(to(Outgoing::Discover.message(&self.pid)));
        self.know(link, &pid, new_reference, out)
    }

    /// Monitors a peer's scope, once. Another one than before has taken its place: then what that one had is gone. Tells
    /// whether watched groups changed.
    fn know(
        &mut self,
        link: LinkId,
        pid: &Pid,
        new_reference: &mut impl FnMut() -> Reference,
        out: &mut Signals,
    ) -> bool {
        if self.knows(link, pid) {
            return false;
        }
        let monitor = new_reference();
        let control =
            Control::Monitor { from: self.pid.clone(), to: Proc::Pid(pid.clone()), reference: monitor.clone() };
        out.push((link, control, None));
        let remote =
            Remote { pid: pid.clone(), monitor, members: HashMap::new(), announced: BTreeMap::new(), entries: 0 };
        self.remotes.insert(link, remote).is_some_and(|before| !before.announced.is_empty())
    }

    /// The second elements of the groups `{WatchedTag, Binary}` that processes of peers joined, each with their node.
    #[must_use]
    pub fn announced(&self) -> BTreeSet<(Bytes, Atom)> {
        let each = |remote: &Remote| -> Vec<(Bytes, Atom)> {
            remote.announced.values().map(|name| (name.clone(), remote.pid.node.clone())).collect()
        };
        self.remotes.values().flat_map(each).collect()
    }

    /// The peers' members of a group.
    #[cfg(test)]
    fn remote_members(&self, key: &Key) -> Vec<Pid> {
        self.remotes.values().filter_map(|remote| remote.members.get(key)).flatten().cloned().collect()
    }
}

impl Remote {
    fn join(&mut self, group: &Raw, pids: Vec<Pid>, tag: &Atom, atoms: &mut Atoms) -> Result<bool, TooManyMembers> {
        let Ok(key) = group.canonical(atoms) else {
            return Ok(false);
        };
        // A group's key takes memory as well.
        self.entries += pids.len() + key.len() / 64;
        if self.entries > limits::PG_MEMBERS {
            return Err(TooManyMembers);
        }
        if pids.is_empty() {
            return Ok(false);
        }
        let changed = match watched(group, tag, atoms) {
            Ok(name) => self.announced.insert(key.clone(), name).is_none(),
            Err(_) => false,
        };
        self.members.entry(key).or_default().extend(pids);
        Ok(changed)
    }

    /// Each pid leaves once: who joined twice is still a member (`leave_remote/3`).
    fn leave(&mut self, group: &Raw, pids: &[Pid], atoms: &mut Atoms) -> bool {
        let Ok(key) = group.canonical(atoms) else { return false };
        let Some(members) = self.members.get_mut(&key) else {
            return false;
        };
        for pid in pids {
            if let Some(at) = members.iter().position(|member| member == pid) {
                members.swap_remove(at);
                self.entries = self.entries.saturating_sub(1);
            }
        }
        if !members.is_empty() {
            return false;
        }
        self.members.remove(&key);
        self.announced.remove(&key).is_some()
    }
}

fn broadcast(ours: &Pid, remotes: &HashMap<LinkId, Remote>, message: &Raw, out: &mut Signals) {
    for (link, remote) in remotes {
        let control = Control::Send { from: Some(ours.clone()), to: remote.pid.clone() };
        out.push((*link, control, Some(message.clone())));
    }
}

/// What we joined ourselves never comes near the bound of a list.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The binary in `{Tag, Binary}`, in memory of its own.
fn watched(group: &Raw, tag: &Atom, atoms: &mut Atoms) -> Result<Bytes, DecodeError> {
    let mut r = Reader::new(group.bytes(), atoms);
    r.expect_tuple(2)?;
    r.expect_atom(tag.as_str())?;
    Ok(Bytes::copy_from_slice(&r.binary()?))
}

/// `{sync, Peer, Groups}`
fn read_cast(request: &Raw, atoms: &mut Atoms) -> Result<Incoming, DecodeError> {
    let mut r = Reader::new(request.bytes(), atoms);
    r.expect_tuple(3)?;
    r.expect_atom("sync")?;
    let pid = r.pid()?;
    let mut groups = Vec::new();
    let mut list = r.list()?;
    while r.more(&mut list)? {
        r.expect_tuple(2)?;
        groups.push((r.raw()?, pids(&mut r)?));
    }
    Ok(Incoming::Sync(pid, groups))
}

/// `{discover, Peer}` (and `{discover, Peer, Version}` of OTP 29, which then speaks the version that we answer with),
/// `{join, Peer, Group, PidOrPids}`, `{leave, Peer, PidOrPids, Groups}`
fn read_info(message: &Raw, atoms: &mut Atoms) -> Result<Incoming, DecodeError> {
    let mut r = Reader::new(message.bytes(), atoms);
    let arity = r.tuple()?;
    let what = r.atom()?;
    let pid = r.pid()?;
    match (what.as_str(), arity) {
        ("discover", 2 | 3) => Ok(Incoming::Discover(pid)),
        ("join", 4) => Ok(Incoming::Join(pid, r.raw()?, pids(&mut r)?)),
        ("leave", 4) => {
            let pids = pids(&mut r)?;
            let mut groups = Vec::new();
            let mut list = r.list()?;
            while r.more(&mut list)? {
                groups.push(r.raw()?);
            }
            Ok(Incoming::Leave(pid, pids, groups))
        }
        _ => Err(DecodeError::OtherAtom),
    }
}

/// A pid, or a list of pids.
fn pids(r: &mut Reader<'_>) -> Result<Vec<Pid>, DecodeError> {
    if r.peek()? == Kind::Pid {
        return Ok(vec![r.pid()?]);
    }
    let mut pids = Vec::new();
    let mut list = r.list()?;
    while r.more(&mut list)? {
        pids.push(r.pid()?);
    }
    Ok(pids)
}

#[cfg(test)]
mod tests;
