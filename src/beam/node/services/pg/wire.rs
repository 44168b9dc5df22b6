//! The messages between scopes, in both versions of the protocol.

use std::collections::BTreeMap;

use super::Key;
use super::work::{Groups, Work};
use crate::etf::{Atoms, DecodeError, Pid, Raw, Reader, Writer};
use crate::node::services::gen_server::Message;

/// The versions of the protocol. A scope of OTP 25 exits on any message of version 1, so a peer
/// gets one only after it has sent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Used by OTP 23 to 28, and by OTP 29 with older scopes.
    Zero,
    /// Used by OTP 29.
    One,
}

/// All messages to a peer's scope, each in version 0 | version 1.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outgoing<'a> {
    /// `{discover, ScopePid}` | `{discover, ScopePid, 1}`
    Discover,
    /// `{'$gen_cast', {sync, ScopePid, [{Group, [Pid]}]}}` |
    /// `{'$gen_cast', {local_data, ScopePid, 1, #{Group => [Pid]}}}`, with all groups, none empty.
    Sync(&'a BTreeMap<Key, (Raw, Vec<Pid>)>),
    /// `{join, ScopePid, Group, Pid}` | `{update, ScopePid, [{Group, [Pid], []}]}`
    Join(&'a Raw, &'a Pid),
    /// `{leave, ScopePid, Pid, [Group]}` | `{update, ScopePid, [{Group, [], [Pid]}]}`
    Leave(&'a Pid, &'a [Raw]),
}

impl Outgoing<'_> {
    pub(super) fn message(self, version: Version, scope: &Pid) -> Raw {
        Raw::build(|w| match version {
            Version::Zero => self.zero(scope, w),
            Version::One => self.one(scope, w),
        })
    }

    fn zero(self, scope: &Pid, w: &mut Writer<'_>) {
        match self {
            Self::Discover => {
                w.tuple(2).atom("discover").pid(scope);
            }
            Self::Sync(groups) => {
                w.tuple(2).atom("$gen_cast").tuple(3).atom("sync").pid(scope);
                if !groups.is_empty() {
                    w.list(length(groups.len()));
                }
                for (group, members) in groups.values() {
                    list(w.tuple(2).raw(group), members);
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
        }
    }

    fn one(self, scope: &Pid, w: &mut Writer<'_>) {
        match self {
            Self::Discover => {
                w.tuple(3).atom("discover").pid(scope).int(1);
            }
            Self::Sync(groups) => {
                w.tuple(2).atom("$gen_cast").tuple(4).atom("local_data").pid(scope).int(1).map(length(groups.len()));
                for (group, members) in groups.values() {
                    list(w.raw(group), members);
                }
            }
            Self::Join(group, pid) => {
                w.tuple(3).atom("update").pid(scope).list(1).tuple(3).raw(group).list(1).pid(pid).nil().nil().nil();
            }
            Self::Leave(pid, groups) => {
                w.tuple(3).atom("update").pid(scope).list(length(groups.len()));
                for group in groups {
                    w.tuple(3).raw(group).nil().list(1).pid(pid).nil();
                }
                w.nil();
            }
        }
    }
}

/// Writes a list of pids, which is not empty.
fn list(w: &mut Writer<'_>, pids: &[Pid]) {
    w.list(length(pids.len()));
    for pid in pids {
        w.pid(pid);
    }
    w.nil();
}

/// Returns the length of a list of our own groups or processes, which never exceeds a `u32`.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A message from a peer's scope.
pub(super) enum Incoming {
    /// It discovers our scope, and supports this version.
    Discover(Pid, Version),
    /// All its groups and members.
    Sync(Pid, Work),
    /// A change: processes that joined and left groups.
    Update(Pid, Work),
}

impl Incoming {
    /// Reads the beginning of a message of either version. Returns `None` if the message has
    /// neither form.
    pub(super) fn read(message: Message, atoms: &mut Atoms) -> Option<Self> {
        match message {
            Message::Cast(request) => cast(request, atoms).ok(),
            Message::Info(message) => info(message, atoms).ok(),
            Message::Call(..) | Message::System(..) | Message::Foreign(_) => None,
        }
    }

    /// Returns the scope that sent the message.
    pub(super) fn from(&self) -> &Pid {
        let (Self::Discover(pid, _) | Self::Sync(pid, _) | Self::Update(pid, _)) = self;
        pid
    }
}

/// Reads `{sync, Peer, Groups}` or `{local_data, Peer, 1, Map}`.
fn cast(request: Raw, atoms: &mut Atoms) -> Result<Incoming, DecodeError> {
    let mut r = Reader::resume(&request, 0, atoms);
    let arity = r.tuple()?;
    let label = r.atom()?;
    let pid = r.pid()?;
    let groups = match (label.as_str(), arity) {
        ("sync", 3) => Groups::List(r.list()?),
        ("local_data", 4) if r.integer()? == 1 => Groups::Map(r.map()?),
        _ => return Err(DecodeError::OtherAtom),
    };
    let at = r.position();
    Ok(Incoming::Sync(pid, Work::all(request, at, groups)))
}

/// Reads a message of either version. Version 0 has `{discover, Peer}`,
/// `{join, Peer, Group, PidOrPids}` and `{leave, Peer, PidOrPids, Groups}`. Version 1 has
/// `{discover, Peer, Version}` and `{update, Peer, [{Group, Joined, Left}]}`.
fn info(message: Raw, atoms: &mut Atoms) -> Result<Incoming, DecodeError> {
    let mut r = Reader::resume(&message, 0, atoms);
    let arity = r.tuple()?;
    let label = r.atom()?;
    let pid = r.pid()?;
    let groups = match (label.as_str(), arity) {
        ("discover", 2) => return Ok(Incoming::Discover(pid, Version::Zero)),
        // Every later version includes this one.
        ("discover", 3) => {
            let version = if r.integer()? >= 1 { Version::One } else { Version::Zero };
            return Ok(Incoming::Discover(pid, version));
        }
        ("leave", 4) => {
            let at = r.position();
            return Ok(Incoming::Update(pid, Work::leave(message, at, atoms)?));
        }
        ("join", 4) => Groups::One(true),
        ("update", 3) => Groups::Changes(r.list()?),
        _ => return Err(DecodeError::OtherAtom),
    };
    let at = r.position();
    Ok(Incoming::Update(pid, Work::changes(message, at, groups)))
}
