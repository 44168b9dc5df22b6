//! `global_name_server`: the part of `global.erl` that keeps peers from waiting for this node.
//!
//! A visible node that never sends `in_sync` blocks `global:sync/0` on every node. A name server
//! that exists but does not answer also blocks `global:trans`. Therefore this node has no process
//! with this name, and a monitor of it ends with `noproc`. It sends `in_sync` once per session to
//! each peer.
//!
//! Peers then treat this node as synced but not known: `global:sync/0` returns, and names and locks
//! work among the other nodes. This node never sends `lost_connection`, and the prevention of
//! overlapping partitions never disconnects it.

use crate::etf::{Atom, Atoms, DecodeError, Kind, Raw, Reader};
use crate::limits;
use crate::name::NodeName;

/// The registered name, to which messages are sent. No process of this node has it.
pub const NAME: &str = "global_name_server";

/// Returns `{'$gen_cast', {in_sync, OurNode, true}}`. Each published peer gets it when it connects,
/// and after each `init_connect`.
#[must_use]
pub(crate) fn in_sync(our_node: &Atom) -> Raw {
    Raw::build(|w| {
        w.tuple(2).atom("$gen_cast");
        w.tuple(3).atom("in_sync").atom_of(our_node).atom("true");
    })
}

/// The message with which a peer's name server begins a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InitConnect {
    /// The nodes that the peer knows, at most [`limits::KNOWN_NODES`], without invalid names.
    pub known: Vec<NodeName>,
}

/// Reads a cast `{init_connect, {Vsn, Tag}, Node, {locker, no_longer_a_pid, Known, LockerPid}}`.
/// `Known` is a map with nodes among its keys (OTP 25 and later) or a list of nodes (OTP 23).
///
/// # Errors
/// The cast is a different one, which can be ignored.
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
    let mut read_known = |r: &mut Reader<'_>| -> Result<(), DecodeError> {
        // A key may also be `{pending, Node}`, a node that is not connected yet.
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
            read_known(&mut r)?;
            r.raw()?;
        }
    } else {
        let mut list = r.list()?;
        while r.more(&mut list)? {
            read_known(&mut r)?;
        }
    }
    Ok(InitConnect { known })
}
