//! The two nodes and the network between them. Runs operations, and carries out the machines'
//! effects.

use std::time::{Duration, Instant, SystemTime};

use beam::dist::control::{self, Control, NewProcess, Proc};
use beam::dist::flags::{self, ALTACT_SIG, Flags};
use beam::dist::framing::{self, Frame};
use beam::dist::handshake::{Established, Origin, Status};
use beam::dist::header::Headers;
use beam::dist::link::CloseReason;
use beam::etf::{Atom, Iovec, Pid, Raw, Term};
use beam::node::CallError;
use beam::node::CallId;
use beam::node::link_id::LinkId;
use beam::node::machine::{NodeEffect, NodeInput, Token};
use beam::node::now::Now;
use beam::node::view::PeerReason;

use crate::network::{Connection, Next, Stage, Tie, TieState};
use crate::node::{FUNCTIONS, GROUPS, Node, SCOPES, foreign_pid, foreign_reference, function, group, name_of};
use crate::{Op, Side, To};

/// Registered names of the nodes' processes. Some have no process.
const REGISTERED: [&str; 8] = ["n0", "n1", "pg", "other", "rex", "net_kernel", "global_name_server", "global_group"];

pub struct World {
    pub nodes: [Node; 2],
    /// The connections, by the number of their [`LinkId`], which is the same at both ends.
    pub connections: Vec<Connection>,
    pub flags: Flags,
    pub now: Now,
    last: u32,
}

impl World {
    pub fn new(hidden: [bool; 2], without: u8) -> Self {
        let optional = [Flags::EXIT_PAYLOAD, Flags::SEND_SENDER, ALTACT_SIG];
        let left_out = optional.iter().enumerate().filter(|(bit, _)| without & (1 << bit) != 0);
        let left_out = left_out.fold(0, |bits, (_, flag)| bits | flag.bits());
        let flags = Flags::from_bits_truncate(flags::ours(false).bits() & !left_out);
        let nodes = [Side::A, Side::B].map(|side| Node::new(side, 4, hidden[side as usize]));
        let now = Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        Self { nodes, connections: Vec::new(), flags, now, last: 0 }
    }

    pub fn node(&mut self, side: Side) -> &mut Node {
        &mut self.nodes[side as usize]
    }

    pub fn held(&self, side: Side) -> Option<LinkId> {
        self.nodes[side as usize].held()
    }

    fn number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    // ---- Effects of the machines -------------------------------------------------------------

    pub fn input(&mut self, side: Side, input: NodeInput) {
        let may_close = matches!(input, NodeInput::LinkUp { .. } | NodeInput::Stop);
        for effect in self.effects(side, input) {
            self.carry_out(side, effect, may_close);
        }
    }

    pub fn effects(&mut self, side: Side, input: NodeInput) -> Vec<NodeEffect> {
        let (now, mut out) = (self.now, Vec::new());
        let machine = &mut self.node(side).machine;
        machine.handle(now, input, &mut out);
        while machine.step(now, &mut out).is_some() {}
        out
    }

    fn carry_out(&mut self, side: Side, effect: NodeEffect, may_close: bool) {
        match effect {
            NodeEffect::Signal(link, control, payload) => {
                self.node(side).show(&control);
                self.send(side, link, &control, payload.as_ref());
            }
            NodeEffect::Close(link, why) => {
                assert!(may_close, "a connection was closed without an error: {why}");
                self.connection(link).close(side);
            }
            NodeEffect::Dial(name) => {
                assert_eq!(name, name_of(side.other()));
                let dials = self.connections.iter().any(|one| one.dialler == side && one.is_under_way());
                assert!(!dials, "one dial at a time");
                self.connections.push(Connection::new(side));
            }
            NodeEffect::Spawned(token, process) => {
                let node = self.node(side);
                let groups = node.spawning.remove(&token).expect("a requested spawn");
                node.processes.insert(process, groups);
            }
            NodeEffect::Result(token, result) => self.result(side, token, &result),
            // The machines monitor nothing.
            NodeEffect::Dropped(..) => {}
            NodeEffect::Down(..) => unreachable!(),
        }
    }

    fn result(&mut self, side: Side, token: Token, result: &Result<Raw, CallError>) {
        let what = self.node(side).calling.remove(&token).expect("a pending call");
        let value = Raw::encode(&Term::Int(i64::from(what)));
        let is_expected = match (result, FUNCTIONS[usize::from(what) % FUNCTIONS.len()]) {
            (Err(CallError::NoConnection | CallError::TimedOut), _) => true,
            (Ok(result), "now") => *result == value,
            (Ok(result), "later") => *result == Raw::encode(&Term::atom("answer")),
            (Err(CallError::Failed), name) => matches!(name, "bad" | "none"),
            _ => false,
        };
        assert!(is_expected, "{what} returned {result:?}");
    }

    fn connection(&mut self, link: LinkId) -> &mut Connection {
        &mut self.connections[usize::try_from(link.0).expect("an index")]
    }

    fn send(&mut self, side: Side, link: LinkId, control: &Control, payload: Option<&Iovec>) {
        let flags = self.flags;
        let connection = self.connection(link);
        if connection.end(side).is_open() && !connection.lost {
            control::encode(control, payload, flags, &mut connection.end(side.other()).wire);
        }
    }

    // ---- Possible events ---------------------------------------------------------------------

    fn possible(&self) -> Vec<(usize, Next)> {
        let connections = self.connections.iter().enumerate();
        connections.flat_map(|(at, connection)| connection.next().map(move |next| (at, next))).collect()
    }

    fn step(&mut self, choice: u8, bytes: usize) -> bool {
        let possible = self.possible();
        let Some(&(at, next)) = possible.get(usize::from(choice) % possible.len().max(1)) else { return false };
        match next {
            Next::Handshake => self.handshake(at),
            Next::Bytes(side) => self.arrive(at, side, bytes),
            Next::Fin(side) | Next::Silence(side) => self.down(at, side),
        }
        true
    }

    fn down(&mut self, at: usize, side: Side) {
        self.connections[at].close(side);
        self.input(
            side,
            NodeInput::LinkDown {
                link: LinkId(at as u64),
                reason: PeerReason::from(&CloseReason::ClosedByPeer),
                by_peer: false,
            },
        );
    }

    fn handshake(&mut self, at: usize) {
        let (dialler, stage) = (self.connections[at].dialler, self.connections[at].stage);
        let acceptor = dialler.other();
        let names = [dialler, acceptor].map(name_of);
        self.connections[at].stage = match stage {
            Stage::Name => match self.node(acceptor).machine.accept_status(&names[0]) {
                Status::Nok | Status::NotAllowed => Stage::Failed,
                status => Stage::Status(status),
            },
            Stage::Status(Status::Alive) if !self.node(dialler).machine.still_wanted(&names[1]) => Stage::Failed,
            Stage::Status(status) => Stage::Reply(status == Status::Alive),
            Stage::Reply(replacing) => {
                self.connections[at].stage = Stage::Ack(replacing);
                self.up(at, acceptor, replacing);
                return;
            }
            Stage::Ack(replacing) => {
                self.connections[at].stage = Stage::Made;
                self.up(at, dialler, replacing);
                return self.input(dialler, NodeInput::DialEnded(names[1].clone()));
            }
            Stage::Failed => {
                self.connections[at].stage = Stage::Over;
                return self.input(dialler, NodeInput::DialEnded(names[1].clone()));
            }
            Stage::Made | Stage::Over => return,
        };
    }

    fn up(&mut self, at: usize, side: Side, replacing: bool) {
        self.connections[at].end(side).has = true;
        let origin = match (replacing, self.connections[at].dialler == side) {
            (true, _) => Origin::Replacing,
            (false, true) => Origin::Dialled,
            (false, false) => Origin::Accepted,
        };
        let (name, flags) = (name_of(side.other()), self.flags);
        let peer = self.node(side.other());
        let peer = Established { name, creation: peer.creation, flags, published: !peer.hidden };
        self.input(side, NodeInput::LinkUp { link: LinkId(at as u64), peer, origin });
    }

    fn arrive(&mut self, at: usize, side: Side, bytes: usize) {
        let end = self.connections[at].end(side);
        let arrived = end.wire.drain(..bytes.min(end.wire.len()));
        end.buffer.extend(arrived);
        let mut messages = Vec::new();
        let mut headers = Headers::new(self.flags);
        while let Some(frame) = framing::next(&mut end.buffer).expect("within bounds") {
            let Frame::Message(frame) = frame else { continue };
            messages.extend(
                control::decode(&frame, headers.as_mut(), &mut end.atoms).expect("a message of the node decodes"),
            );
        }
        for (control, _) in &messages {
            self.observe(at, side, control);
        }
        self.input(side, NodeInput::Messages(LinkId(at as u64), messages));
    }

    /// Records exit signals and ended monitors of processes that the machine does not manage.
    fn observe(&mut self, at: usize, side: Side, control: &Control) {
        let ties = &mut self.connections[at].end(side).ties;
        let tie = match control {
            Control::MonitorExit { reference, .. } => {
                ties.values_mut().find(|tie| tie.monitor.as_ref() == Some(reference))
            }
            Control::Exit { to, .. } => ties.values_mut().find(|tie| tie.monitor.is_none() && tie.from == *to),
            _ => None,
        };
        if let Some(tie) = tie {
            assert!(tie.repeated || tie.state != TieState::Ended, "{tie:?} has ended twice");
            tie.state = TieState::Ended;
        }
    }

    // ---- Operations -------------------------------------------------------------------------------

    pub fn act(&mut self, op: &Op) {
        match *op {
            Op::Step { choice, bytes } => {
                self.step(choice, usize::from(bytes).max(1));
            }
            Op::Connect(side) => self.input(side, NodeInput::Connect(name_of(side.other()))),
            Op::Cut { side, choice } => self.cut(side, choice),
            Op::Restart(side) => self.restart(side),
            Op::Wait { quarters } => self.wait(Duration::from_millis(250) * u32::from(quarters)),
            Op::Spawn { side, name, groups } => self.spawn(side, name, groups),
            Op::Exit { side, choice } => {
                let node = self.node(side);
                if let Some(process) = chosen(node.processes.keys(), choice).copied() {
                    node.processes.remove(&process);
                    self.input(side, NodeInput::Exit(process, "shutdown"));
                }
            }
            Op::Publish { side, group: number } => {
                let (group, message) = (group(number.into()).canonical(), Iovec::encode(&Term::atom("message")));
                self.input(side, NodeInput::Publish { group, message });
            }
            Op::Call { side, what, cast } => {
                let token = (!cast).then(|| Token::from(self.number()));
                self.node(side).calling.extend(token.map(|token| (token, what)));
                let node = name_of(side.other());
                self.input(side, NodeInput::Call { node, function: function(what), token });
            }
            Op::Answer { side, choice } => {
                let mut waiting = self.node(side).waiting.lock().expect("one thread");
                if !waiting.is_empty() {
                    let choice = usize::from(choice) % waiting.len();
                    let call = waiting.remove(choice);
                    drop(waiting);
                    self.answer(side, call);
                }
            }
            _ => self.signal(op),
        }
    }

    /// Runs the operations of processes that their node's machine does not manage.
    fn signal(&mut self, op: &Op) {
        let side = match *op {
            Op::Tie { side, .. }
            | Op::TieAgain { side, .. }
            | Op::Untie { side, .. }
            | Op::End { side, .. }
            | Op::Kill { side, .. }
            | Op::Send { side, .. }
            | Op::SpawnRequest { side, .. } => side,
            _ => return,
        };
        let Some(link) = self.held(side) else { return };
        let from = foreign_pid(side, self.node(side).creation, self.number());
        match *op {
            Op::Tie { link: is_link, to, .. } => {
                let to = self.process(side.other(), to);
                let to = if is_link { to.filter(|to| matches!(to, Proc::Pid(_))) } else { to };
                let Some(to) = to else { return };
                let (number, creation) = (self.number(), self.node(side).creation);
                let monitor = (!is_link).then(|| foreign_reference(side, creation, number));
                let tie = Tie { from, to, monitor, repeated: false, state: TieState::Active };
                self.send(side, link, &tied(&tie), None);
                self.connection(link).end(side).ties.insert(number, tie);
            }
            Op::TieAgain { choice, .. } => {
                let Some(tie) = self.active_tie(side, link, choice) else { return };
                // Another process may have the name now.
                if matches!(tie.to, Proc::Name(_)) {
                    return;
                }
                tie.repeated = true;
                let again = tied(tie);
                self.send(side, link, &again, None);
            }
            Op::Untie { choice, .. } => {
                let Some(tie) = self.active_tie(side, link, choice) else { return };
                tie.state = TieState::Undone;
                let undone = untied(tie);
                self.send(side, link, &undone, None);
            }
            Op::End { choice, .. } => {
                let Some(tie) = self.active_tie(side, link, choice) else { return };
                let (from, Proc::Pid(to), None) = (tie.from.clone(), tie.to.clone(), &tie.monitor) else { return };
                tie.state = TieState::Undone;
                let reason = Raw::encode(&Term::atom("normal"));
                self.send(side, link, &Control::Exit { from, to, reason }, None);
            }
            Op::Kill { choice, .. } => {
                let Some(Proc::Pid(to)) = self.process(side.other(), To::Pid(choice)) else { return };
                let reason = Raw::encode(&Term::atom("kill"));
                self.send(side, link, &Control::Exit2 { from, to, reason }, None);
            }
            Op::Send { to, what, .. } => {
                let Some(to) = self.process(side.other(), to) else { return };
                let message = Iovec::encode(&message(&from, what));
                let control = match to {
                    Proc::Pid(to) => Control::Send { from: Some(from), to },
                    Proc::Name(to) => Control::SendName { from, to },
                };
                self.send(side, link, &control, Some(&message));
            }
            Op::SpawnRequest { what, options, .. } => {
                let asked = [(1, "link"), (2, "monitor")].into_iter().filter(|(bit, _)| options & bit != 0);
                let options = Raw::encode(&Term::List(asked.map(|(_, option)| Term::atom(option)).collect()));
                let (group_leader, called) = (from.clone(), function(what));
                let request = foreign_reference(side, from.creation, self.number());
                let (module, function) = (called.module, called.function);
                let new = NewProcess { group_leader, module, function, arity: 1, options };
                let control = Control::SpawnRequest { request, from, new: new.into() };
                self.send(side, link, &control, Some(&Iovec::encode(&Term::List(called.args))));
            }
            _ => {}
        }
    }

    /// Returns the chosen process of a node.
    fn process(&self, of: Side, to: To) -> Option<Proc> {
        match to {
            To::Name(choice) => chosen(REGISTERED.iter(), choice).map(|name| Proc::Name(Atom::literal(name))),
            To::Pid(choice) => chosen(self.nodes[of as usize].shown.iter(), choice).cloned().map(Proc::Pid),
        }
    }

    fn active_tie(&mut self, side: Side, link: LinkId, choice: u8) -> Option<&mut Tie> {
        let ties = &mut self.connection(link).end(side).ties;
        let count = ties.values().filter(|tie| tie.state == TieState::Active).count();
        let mut active = ties.values_mut().filter(|tie| tie.state == TieState::Active);
        active.nth(usize::from(choice) % count.max(1))
    }

    fn cut(&mut self, side: Side, choice: u8) {
        let is_open = |one: &Connection| one.ends[side as usize].is_open();
        let all = self.connections.iter().enumerate();
        let some = all.filter(|(_, one)| is_open(one) || one.is_under_way()).map(|(at, _)| at);
        let Some(at) = chosen(some, choice) else { return };
        self.connections[at].lose();
        if is_open(&self.connections[at]) {
            self.down(at, side);
        }
    }

    fn restart(&mut self, side: Side) {
        for connection in &mut self.connections {
            if connection.is_under_way() || connection.end(side).is_open() {
                connection.abandon(side);
            }
        }
        let node = self.node(side);
        *node = Node::new(side, node.creation + 1, node.hidden);
    }

    fn wait(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall += time;
        for side in [Side::A, Side::B] {
            let now = self.now.instant;
            if self.node(side).machine.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.input(side, NodeInput::Tick);
                assert!(self.node(side).machine.next_deadline().is_none_or(|deadline| deadline > now));
            }
        }
    }

    fn spawn(&mut self, side: Side, name: Option<u8>, groups: u8) {
        let token = Token::from(self.number());
        let node = self.node(side);
        let groups = groups & 0xF;
        node.spawning.insert(token, groups);
        // One group is listed twice.
        let mut joined: Vec<Term> = (0..GROUPS).filter(|bit| groups & (1 << bit) != 0).map(group).collect();
        joined.extend(joined.first().cloned());
        let name = name.map(|name| Atom::literal(REGISTERED[usize::from(name) % 2]));
        let behaviour = node.behaviour();
        self.input(side, NodeInput::Spawn { name, behaviour, groups: joined, token });
    }

    fn answer(&mut self, side: Side, call: CallId) {
        self.input(side, NodeInput::Answer(call, Term::atom("answer")));
    }

    // ---- Rest -------------------------------------------------------------------------------------

    /// Runs until nothing is in transit.
    pub fn settle(&mut self) {
        // Each round waits longer than any deadline. There are several, because a late event may
        // set a new deadline.
        for _ in 0..3 {
            self.quiet();
            self.wait(beam::limits::CALL_TIME.max(beam::limits::PG_POLL));
        }
        assert!(self.possible().is_empty(), "no event is possible");
    }

    fn quiet(&mut self) {
        for _ in 0..10_000 {
            for side in [Side::A, Side::B] {
                let waiting = std::mem::take(&mut *self.node(side).waiting.lock().expect("one thread"));
                for call in waiting {
                    self.answer(side, call);
                }
            }
            if !self.step(0, usize::MAX) {
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    pub fn stop(&mut self, side: Side) {
        self.node(side).processes.clear();
        self.input(side, NodeInput::Stop);
        assert_eq!(self.held(side), None);
        self.settle();
        self.check();
    }
}

/// Returns the chosen element.
fn chosen<T>(some: impl Iterator<Item = T> + Clone, choice: u8) -> Option<T> {
    let count = some.clone().count();
    some.into_iter().nth(usize::from(choice) % count.max(1))
}

fn tied(tie: &Tie) -> Control {
    match (&tie.monitor, &tie.to) {
        (Some(reference), to) => {
            Control::Monitor { from: tie.from.clone(), to: to.clone(), reference: reference.clone() }
        }
        (None, Proc::Pid(to)) => Control::Link { from: tie.from.clone(), to: to.clone() },
        (None, Proc::Name(_)) => panic!("links are to pids"),
    }
}

fn untied(tie: &Tie) -> Control {
    match (&tie.monitor, &tie.to) {
        (Some(reference), to) => {
            Control::Demonitor { from: tie.from.clone(), to: to.clone(), reference: reference.clone() }
        }
        (None, Proc::Pid(to)) => {
            let id = Some(Raw::encode(&Term::Int(i64::from(tie.from.id))));
            Control::Unlink { id, from: tie.from.clone(), to: to.clone() }
        }
        (None, Proc::Name(_)) => panic!("links are to pids"),
    }
}

/// Returns a message to a server, or one that is not addressed to any server.
fn message(from: &Pid, what: u8) -> Term {
    let tag = Term::Reference(foreign_reference(Side::A, from.creation, from.id));
    let caller = Term::tuple([Term::Pid(from.clone()), tag]);
    let envelope = |label, request| Term::tuple([Term::atom(label), caller.clone(), request]);
    match what % 8 {
        0 => envelope("$gen_call", Term::atom("later")),
        1 => envelope("$gen_call", Term::Int(1)),
        2 => envelope("system", Term::atom("get_state")),
        3 => envelope("system", Term::tuple([Term::atom("terminate"), Term::atom("shutdown")])),
        4 => Term::tuple([Term::atom("$gen_cast"), Term::atom("nothing")]),
        5 => Term::tuple([Term::Pid(from.clone()), Term::atom("features_request")]),
        6 => {
            let args = Term::List(vec![Term::Int(2)]);
            let call = [Term::atom("call"), Term::atom("m"), Term::atom("later"), args, Term::atom("user")];
            Term::tuple([Term::Pid(from.clone()), Term::tuple(call)])
        }
        _ => Term::atom(SCOPES[0]),
    }
}
