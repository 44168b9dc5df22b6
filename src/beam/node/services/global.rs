//! `global_name_server`: just enough of `global.erl` that nobody waits for us.
//!
//! A visible node that never answers hangs `global:sync/0` on every node; one whose name server exists but is silent
//! hangs `global:trans` as well. So we have none: monitors of the name find `noproc`, and each peer is told once per
//! session that we are in sync. It then counts us as synced but not known: `sync` returns, names and locks work among
//! the others, and the guard against overlapping partitions never turns on us. We never originate `lost_connection`.

use crate::etf::{Atom, Atoms, DecodeError, Kind, Raw, Reader};
use crate::limits;
use crate::name::NodeName;

/// The registered name. It is taken for sending only: no process stands behind it.
pub const NAME: &str = "global_name_server";

/// `{'$gen_cast', {in_sync, OurNode, true}}`, for each published peer that comes up, and again whenever it begins a
/// session with us by `init_connect`.
#[must_use]
pub(crate) fn in_sync(our_node: &Atom) -> Raw {
    Raw::build(|w| {
        w.tuple(2).atom("$gen_cast");
        w.tuple(3).atom("in_sync").atom_of(our_node).atom("true");
    })
}

/// What a peer's name server says when it begins a session with us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InitConnect {
    /// The nodes that it knows, at most [`limits::KNOWN_NODES`]: whoever is known to a peer is to be known to us.
    /// Invalid names are left out.
    pub known: Vec<NodeName>,
}

/// Reads the request of a cast, `{init_connect, {Vsn, Tag}, Node, {locker, no_longer_a_pid, Known, LockerPid}}`.
/// `Known` is a map with the nodes among its keys (OTP 25 and later) or a list of them (OTP 23).
///
/// # Errors
/// It is another request; all others can be ignored.
pub(crate) fn init_connect(request: &Raw, atoms: &mut Atoms) -> Result<InitConnect, DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    r.expect_tuple(4)?;
    r.expect_atom("init_connect")?;
    r.raw()?; // {Vsn, Tag}
    r.raw()?; // Node
    r.expect_tuple(4)?;
    r.expect_atom("locker")?;
    r.raw()?;
    let mut known = Vec::new();
    let mut take = |r: &mut Reader<'_>| -> Result<(), DecodeError> {
        // A key may also be {pending, Node}: that one is not connected yet.
        if r.peek()? != Kind::Atom {
            r.raw()?;
        } else if known.len() < limits::KNOWN_NODES {
            known.extend(NodeName::parse(r.atom()?.as_str()).ok());
        } else {
            r.raw()?;
        }
        Ok(())
    };
    if r.peek()? == Kind::Map {
        for _ in 0..r.map()? {
            take(&mut r)?;
            r.raw()?;
        }
    } else {
        let mut list = r.list()?;
        while r.more(&mut list)? {
            take(&mut r)?;
        }
    }
    Ok(InitConnect { known })
}
