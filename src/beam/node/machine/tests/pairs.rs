//! Two machines that dial each other at any time, with handshake steps in any order, and
//! connections that are lost without notice. Afterwards, both have the same connection, or none.

use proptest::prelude::*;

use super::*;

/// The stage of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The dialler has sent its name.
    Name,
    /// The acceptor has answered with a status. The rest of the handshake is one step for each
    /// side.
    Status(Status),
    /// The dialler has sent its proof, and whether the connection replaces an older one is decided.
    Reply(bool),
    /// The acceptor has the connection, and its proof is in flight.
    Ack(bool),
    /// Both ends have had the connection.
    Complete,
    /// The attempt has failed, and the dialler does not know it yet.
    Failed,
    Over,
}

#[derive(Debug)]
struct Attempt {
    dialler: usize,
    stage: Stage,
    /// For each side, whether the machine has the connection, and whether its end was closed.
    has: [bool; 2],
    closed: [bool; 2],
    /// For each side, whether the end of the stream is in flight to it.
    fin: [bool; 2],
    lost: bool,
}

struct Pair {
    machines: [Machine; 2],
    attempts: Vec<Attempt>,
    now: Now,
}

const NAMES: [&str; 2] = ["a@h", "b@h"];

impl Pair {
    fn new() -> Self {
        Self { machines: NAMES.map(machine), attempts: Vec::new(), now: now() }
    }

    fn input(&mut self, side: usize, input: NodeInput) {
        let mut out = Vec::new();
        self.machines[side].handle(self.now, input, &mut out);
        for effect in out {
            match effect {
                NodeEffect::Dial(name) => {
                    assert_eq!(&*name, NAMES[1 - side]);
                    let attempt = Attempt {
                        dialler: side,
                        stage: Stage::Name,
                        has: [false; 2],
                        closed: [false; 2],
                        fin: [false; 2],
                        lost: false,
                    };
                    self.attempts.push(attempt);
                }
                NodeEffect::Close(LinkId(id), _) => {
                    let attempt = &mut self.attempts[usize::try_from(id).unwrap()];
                    attempt.closed[side] = true;
                    attempt.fin[1 - side] = !attempt.lost;
                }
                NodeEffect::Signal(..)
                | NodeEffect::Spawned(..)
                | NodeEffect::Result(..)
                | NodeEffect::Down(..)
                | NodeEffect::Dropped(..) => {}
            }
        }
    }

    fn connect(&mut self, side: usize) {
        self.input(side, NodeInput::Connect(node(NAMES[1 - side])));
    }

    fn up(&mut self, at: usize, side: usize, replacing: bool) {
        let attempt = &mut self.attempts[at];
        attempt.has[side] = true;
        let origin = match (replacing, attempt.dialler == side) {
            (true, _) => Origin::Replacing,
            (false, true) => Origin::Dialled,
            (false, false) => Origin::Accepted,
        };
        self.input(side, NodeInput::LinkUp { link: LinkId(at as u64), peer: peer(NAMES[1 - side]), origin });
    }

    /// Returns the possible next steps: an attempt, and the side that notices an end, if any.
    fn possible(&self) -> Vec<(usize, Option<usize>)> {
        let mut possible = Vec::new();
        for (at, attempt) in self.attempts.iter().enumerate() {
            if !matches!(attempt.stage, Stage::Complete | Stage::Over) {
                possible.push((at, None));
            }
            for side in 0..2 {
                if attempt.fin[side] && attempt.has[side] {
                    possible.push((at, Some(side)));
                }
            }
        }
        possible
    }

    fn step(&mut self, choice: usize) -> bool {
        let possible = self.possible();
        let Some(&(at, end)) = possible.get(choice % possible.len().max(1)) else { return false };
        if let Some(side) = end {
            self.attempts[at].fin[side] = false;
            self.attempts[at].closed[side] = true;
            self.input(side, NodeInput::LinkDown { link: LinkId(at as u64), reason: "closed".into(), by_peer: false });
            return true;
        }
        let dialler = self.attempts[at].dialler;
        let acceptor = 1 - dialler;
        self.attempts[at].stage = match self.attempts[at].stage {
            Stage::Name => match self.machines[acceptor].accept_status(&node(NAMES[dialler])) {
                Status::Nok | Status::NotAllowed => Stage::Failed,
                status => Stage::Status(status),
            },
            Stage::Status(Status::Alive) if !self.machines[dialler].still_wanted(&node(NAMES[acceptor])) => {
                Stage::Failed
            }
            Stage::Status(status) => Stage::Reply(status == Status::Alive),
            Stage::Reply(replacing) => {
                self.up(at, acceptor, replacing);
                Stage::Ack(replacing)
            }
            Stage::Ack(replacing) => {
                self.up(at, dialler, replacing);
                self.input(dialler, NodeInput::DialEnded(node(NAMES[acceptor])));
                Stage::Complete
            }
            Stage::Failed => {
                self.input(dialler, NodeInput::DialEnded(node(NAMES[acceptor])));
                Stage::Over
            }
            done @ (Stage::Complete | Stage::Over) => done,
        };
        true
    }

    /// Returns the attempt whose connection a side has.
    fn held(&self, side: usize) -> Option<u64> {
        self.machines[side].by_name.get(NAMES[1 - side]).map(|link| link.0)
    }

    /// Loses the connection. Only this side notices.
    fn lose(&mut self, side: usize) {
        let Some(held) = self.held(side) else { return };
        let attempt = &mut self.attempts[usize::try_from(held).unwrap()];
        if attempt.stage != Stage::Complete {
            return;
        }
        attempt.lost = true;
        attempt.closed[side] = true;
        attempt.fin = [false; 2];
        self.input(side, NodeInput::LinkDown { link: LinkId(held), reason: "lost".into(), by_peer: false });
    }

    fn settle(&mut self) {
        let mut steps = 0;
        while self.step(0) {
            steps += 1;
            assert!(steps < 10_000, "the machines never stop dialling");
        }
        // Ticks are missing, so the other side also notices a lost connection.
        for side in 0..2 {
            if let Some(held) = self.held(side)
                && self.attempts[usize::try_from(held).unwrap()].closed[1 - side]
            {
                self.input(side, NodeInput::LinkDown { link: LinkId(held), reason: "no tick".into(), by_peer: false });
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Connect(usize),
    Lose(usize),
    Step(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..2_usize).prop_map(Op::Connect),
        1 => (0..2_usize).prop_map(Op::Lose),
        8 => (0..4_usize).prop_map(Op::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn both_sides_keep_the_same_connection(ops in proptest::collection::vec(op(), 1..60)) {
        let mut pair = Pair::new();
        let (mut wanted, mut lost) = (false, false);
        for op in ops {
            match op {
                Op::Connect(side) => {
                    wanted = true;
                    pair.connect(side);
                }
                Op::Lose(side) => {
                    lost = true;
                    pair.lose(side);
                }
                Op::Step(choice) => {
                    pair.step(choice);
                }
            }
        }
        pair.settle();
        prop_assert_eq!(pair.held(0), pair.held(1));
        prop_assert!(!wanted || lost || pair.held(0).is_some(), "both crossing attempts were lost");
        // Each side can connect afterwards.
        for side in 0..2 {
            pair.connect(side);
            pair.settle();
            prop_assert!(pair.held(0).is_some());
            prop_assert_eq!(pair.held(0), pair.held(1));
        }
    }
}
