//! The network between two nodes: attempts to connect, their connections, and the bytes in transit.

use std::collections::BTreeMap;

use beam::dist::control::Proc;
use beam::dist::handshake::Status;
use beam::etf::{Atoms, Pid, Reference};
use bytes::BytesMut;

use crate::Side;

/// The stage of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The dialler has sent its name.
    Name,
    /// The dialler has received a status. The rest of the handshake is one step for each side.
    Status(Status),
    /// The dialler has sent its proof. It is decided whether this connection replaces an older one.
    Reply(bool),
    /// The acceptor has the connection, and its proof is in transit.
    Ack(bool),
    /// Both ends exist, or have existed.
    Made,
    /// The attempt has failed, and the dialler has not detected it yet.
    Failed,
    Over,
}

/// A monitor or a link of a process of one side to a process of the other.
#[derive(Debug, Clone)]
pub struct Tie {
    pub from: Pid,
    pub to: Proc,
    /// The reference, or `None` for a link.
    pub monitor: Option<Reference>,
    /// Whether it was requested more than once.
    pub repeated: bool,
    pub state: TieState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TieState {
    Active,
    /// The process that requested it has removed it.
    Undone,
    /// Its target has ended, or never existed.
    Ended,
}

/// One side's end of a connection.
#[derive(Default)]
pub struct End {
    /// Whether the node has, or has had, the connection.
    pub has: bool,
    /// Whether the node has closed the connection, or has detected that it is lost.
    pub closed: bool,
    /// The bytes in transit to this end. `fin` is true if the end of the stream follows them.
    pub wire: Vec<u8>,
    pub fin: bool,
    /// The received bytes that are not a complete frame yet.
    pub buffer: BytesMut,
    pub atoms: Atoms,
    /// The monitors and links of processes of this side over this connection, by a number.
    pub ties: BTreeMap<u32, Tie>,
}

impl End {
    pub fn is_open(&self) -> bool {
        self.has && !self.closed
    }
}

/// An attempt to connect, and the connection that results.
pub struct Connection {
    pub dialler: Side,
    pub stage: Stage,
    pub ends: [End; 2],
    /// Whether nothing more arrives.
    pub lost: bool,
}

/// A possible next event of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Next {
    Handshake,
    /// Bytes arrive at this side.
    Bytes(Side),
    /// The end of the stream arrives at this side.
    Fin(Side),
    /// This side detects the silence.
    Silence(Side),
}

impl Connection {
    pub fn new(dialler: Side) -> Self {
        Self { dialler, stage: Stage::Name, ends: Default::default(), lost: false }
    }

    pub fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Made | Stage::Over)
    }

    pub fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    pub fn next(&self) -> impl Iterator<Item = Next> {
        let handshake = self.is_under_way().then_some(Next::Handshake);
        let at = |side: Side| {
            let end = &self.ends[side as usize];
            let next = match (end.wire.is_empty(), end.fin, self.lost) {
                (false, ..) => Some(Next::Bytes(side)),
                (true, true, _) => Some(Next::Fin(side)),
                (true, false, true) => Some(Next::Silence(side)),
                (true, false, false) => None,
            };
            next.filter(|_| end.is_open())
        };
        handshake.into_iter().chain([Side::A, Side::B].into_iter().filter_map(at).collect::<Vec<_>>())
    }

    /// Loses everything in transit and everything that is sent later.
    pub fn lose(&mut self) {
        self.lost = true;
        for end in &mut self.ends {
            end.wire.clear();
            end.fin = false;
        }
        // A side that waits in the handshake gives up after a timeout.
        if !matches!(self.stage, Stage::Made | Stage::Over) {
            self.stage = Stage::Failed;
        }
    }

    /// Closes one side's end. Sent data still arrives, and then the end of the stream.
    pub fn close(&mut self, side: Side) {
        let lost = self.lost;
        let end = self.end(side);
        end.closed = true;
        end.wire.clear();
        self.end(side.other()).fin = !lost;
    }

    /// Ends one side's node.
    pub fn abandon(&mut self, side: Side) {
        self.close(side);
        if !self.is_under_way() {
            return;
        }
        self.stage = match self.stage {
            _ if self.dialler == side => Stage::Over,
            // The last packet of the acceptor may have arrived.
            Stage::Ack(replacing) => Stage::Ack(replacing),
            _ => Stage::Failed,
        };
    }
}
