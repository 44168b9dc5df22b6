//! Two nodes over a network that delays, cuts and loses, and whatever their users and peers' processes do meanwhile. At rest
//! both hold the same connection or none, each shows of the other what that one has, and nobody owes anything to nobody.
//!
//! The input: a sequence of operations; see [`Op`]. `world` is what they act upon.
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

/// More operations than these find nothing that fewer don't.
const MOST: usize = 256;

/// One of the two nodes.
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

/// What happens; choices are taken modulo what there is to choose from.
#[derive(Arbitrary, Debug)]
enum Op {
    /// One of the things that can come next does: a step of a handshake, some bytes, an end that is noticed.
    Step {
        choice: u8,
        bytes: u16,
    },
    /// A node is to be connected to the other.
    Connect(Side),
    /// One end of a connection learns that it is lost; what is under way is lost too, and the other end learns nothing yet.
    Cut {
        side: Side,
        choice: u8,
    },
    /// A node ends and is started again, as another incarnation.
    Restart(Side),
    /// Time passes.
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
    /// A call of the other node's is answered at last.
    Answer {
        side: Side,
        choice: u8,
    },
    /// A process of this side ties itself to one of the other.
    Tie {
        side: Side,
        link: bool,
        to: To,
    },
    /// It repeats that.
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
    Tell {
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

/// A process of the other node: by name, or one that it has shown.
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
    // Whoever wants a connection then, gets one.
    for side in [Side::A, Side::B] {
        world.act(&Op::Connect(side));
        world.settle();
        assert!(world.held(side).is_some(), "a node asked for a connection in vain");
        world.check();
    }
    world.stop(Side::A);
});
