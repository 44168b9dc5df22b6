//! What is between two nodes: attempts to connect, and the bytes that are under way on what became of them.

use std::collections::BTreeMap;

use beam::dist::control::Proc;
use beam::dist::handshake::Status;
use beam::etf::{Atoms, Pid, Reference};
use bytes::BytesMut;

use crate::Side;

/// Where an attempt to connect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The dialler has sent its name.
    Name,
    /// It was told a status; the rest of the handshake is one step for each side.
    Status(Status),
    /// It has sent its proof. Whether an older connection is to be replaced is known by then.
    Reply(bool),
    /// The acceptor has the connection, and its proof is under way.
    Ack(bool),
    /// Both ends exist, or have.
    Made,
    /// It came to nothing, which the dialler has yet to learn.
    Failed,
    Over,
}

/// What a process of one side has asked of one of the other.
#[derive(Debug, Clone)]
pub struct Tie {
    pub from: Pid,
    pub to: Proc,
    /// None for a link.
    pub monitor: Option<Reference>,
    /// Asked for more than once.
    pub repeated: bool,
    pub state: TieState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TieState {
    Stands,
    /// Taken back by who asked for it.
    Undone,
    /// The other end has ended, or never was.
    Ended,
}

/// One side's end of a connection.
#[derive(Default)]
pub struct End {
    /// Its node has, or had, the connection.
    pub has: bool,
    /// It has closed it, or knows that it is lost.
    pub closed: bool,
    /// Bytes under way to it, and whether the end of the stream is behind them.
    pub wire: Vec<u8>,
    pub fin: bool,
    /// What has arrived and is no whole frame yet.
    pub buffer: BytesMut,
    pub atoms: Atoms,
    /// What processes of this side have asked for over it, by a number.
    pub ties: BTreeMap<u32, Tie>,
}

impl End {
    pub fn is_open(&self) -> bool {
        self.has && !self.closed
    }
}

/// An attempt to connect, and the connection that came of it.
pub struct Connection {
    pub dialler: Side,
    pub stage: Stage,
    pub ends: [End; 2],
    /// Nothing more arrives.
    pub lost: bool,
}

/// What can come next of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Next {
    Handshake,
    /// Bytes arrive at this side.
    Bytes(Side),
    /// The end of the stream does.
    Fin(Side),
    /// This side misses a sign of life.
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

    /// Nothing that is under way arrives, and nothing ever will.
    pub fn lose(&mut self) {
        self.lost = true;
        for end in &mut self.ends {
            end.wire.clear();
            end.fin = false;
        }
        // Whoever waits for the other in the handshake gives up in the end.
        if !matches!(self.stage, Stage::Made | Stage::Over) {
            self.stage = Stage::Failed;
        }
    }

    /// One side closes its end: what was sent arrives, then the end of the stream does.
    pub fn close(&mut self, side: Side) {
        let lost = self.lost;
        let end = self.end(side);
        end.closed = true;
        end.wire.clear();
        self.end(side.other()).fin = !lost;
    }

    /// The node of one side is no more.
    pub fn abandon(&mut self, side: Side) {
        self.close(side);
        if !self.is_under_way() {
            return;
        }
        self.stage = match self.stage {
            _ if self.dialler == side => Stage::Over,
            // What the acceptor sent last may have arrived.
            Stage::Ack(replacing) => Stage::Ack(replacing),
            _ => Stage::Failed,
        };
    }
}
