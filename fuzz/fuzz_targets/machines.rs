//! Two nodes on a network that delays and loses data, with actions of their users and of the peer's
//! processes. When nothing is in transit, three conditions hold: both nodes hold the same
//! connection or none, each node shows the other's current groups, and no request is pending.
//!
//! The input is a sequence of operations (see [`Op`]) on a `World`.
#![no_main]

#[path = "machines/checks.rs"]
mod checks;
#[path = "machines/network.rs"]
mod network;
#[path = "machines/node.rs"]
mod node;
#[path = "machines/world.rs"]
mod world;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use world::World;

/// The limit of operations: longer sequences find nothing more.
const MOST: usize = 256;

#[derive(Arbitrary, Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// An operation. Each choice is an index, modulo the number of candidates.
#[derive(Arbitrary, Debug)]
enum Op {
    /// Runs one of the possible next events: a handshake step, the arrival of bytes, or the
    /// detection of an end.
    Step {
        choice: u8,
        bytes: u16,
    },
    /// Requests a connection to the other node.
    Connect(Side),
    /// Loses a connection and everything in transit. One end detects it now, and the other end
    /// later.
    Cut {
        side: Side,
        choice: u8,
    },
    /// Ends a node, and starts another incarnation.
    Restart(Side),
    /// Advances the time.
    Wait {
        quarters: u8,
    },
    Spawn {
        side: Side,
        name: Option<u8>,
        groups: u8,
    },
    Exit {
        side: Side,
        choice: u8,
    },
    Publish {
        side: Side,
        group: u8,
    },
    Call {
        side: Side,
        what: u8,
        cast: bool,
    },
    /// Answers a pending call of the other node.
    Answer {
        side: Side,
        choice: u8,
    },
    /// A process of this side links to or monitors a process of the other side.
    Tie {
        side: Side,
        link: bool,
        to: To,
    },
    /// A process repeats its link or monitor.
    TieAgain {
        side: Side,
        choice: u8,
    },
    Untie {
        side: Side,
        choice: u8,
    },
    /// A linked process of this side ends.
    End {
        side: Side,
        choice: u8,
    },
    /// A process of this side calls `exit(To, kill)`.
    Kill {
        side: Side,
        choice: u8,
    },
    /// A process of this side sends a message.
    Send {
        side: Side,
        to: To,
        what: u8,
    },
    /// A process of this side spawns a function.
    SpawnRequest {
        side: Side,
        what: u8,
        options: u8,
    },
}

/// A process of the other node: a registered name, or a pid that this side has seen.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum To {
    Name(u8),
    Pid(u8),
}

#[derive(Arbitrary, Debug)]
struct Input {
    hidden: [bool; 2],
    flags: u8,
    ops: Vec<Op>,
}

fuzz_target!(|input: Input| {
    let mut world = World::new(input.hidden, input.flags);
    for op in input.ops.iter().take(MOST) {
        world.act(op);
    }
    world.settle();
    world.check();
    // A connection that a user requests now succeeds.
    for side in [Side::A, Side::B] {
        world.act(&Op::Connect(side));
        world.settle();
        assert!(world.held(side).is_some(), "a requested connection succeeds");
        world.check();
    }
    world.stop(Side::A);
});
