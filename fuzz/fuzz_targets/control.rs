//! Checks control messages:
//! - Each frame of a connection is a control message or ends the connection.
//! - A decoded control message does not change when it is encoded with other flags and decoded
//!   again.
//! - A node that receives a control message keeps running and keeps its other connections.
//!
//! The input is the frames of one connection, each after its length in four bytes.
#![no_main]

use std::time::{Duration, Instant, SystemTime};

use beam::dist::control::{self, Control, ControlError, Decoded};
use beam::dist::flags::{self, ALTACT_SIG, Flags, HEADERS};
use beam::dist::framing::{self, Frame};
use beam::dist::handshake::{Established, Origin};
use beam::dist::header::Headers;
use beam::dist::link::CloseReason;
use beam::etf::{Atom, Atoms, Iovec, Raw, Reader, Term};
use beam::node::Program;
use beam::node::Watched;
use beam::node::link_id::LinkId;
use beam::node::machine::{Machine, NodeEffect, NodeInput, Parts};
use beam::node::now::Now;
use beam::node::view::PeerReason;
use beam::node::{Answer, BadArg, Behaviour, Caller, Functions};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

const OURS: LinkId = LinkId(1);
const OTHER: LinkId = LinkId(2);

fuzz_target!(|data: &[u8]| {
    let (mut buffer, mut atoms) = (BytesMut::from(data), Atoms::new());
    let mut node = Node::new();
    while let Ok(Some(frame)) = framing::next(&mut buffer) {
        let Frame::Message(frame) = frame else { continue };
        match control::decode(&frame, None, &mut atoms) {
            Ok(Some((control, payload))) => {
                check_encodings(&control, payload.as_ref(), &mut atoms);
                node.receive(control, payload);
            }
            Ok(None) => {}
            Err(e) => {
                assert!(!e.to_string().is_empty());
                break;
            }
        }
    }
    node.end();
});

/// Returns the flags negotiated with OTP 28, with a node without headers, and with a node without
/// exit payloads and senders.
fn flag_sets() -> [Flags; 3] {
    let all = flags::ours(false);
    let without = |flags: Flags| Flags::from_bits_truncate(all.bits() & !flags.bits());
    [all, without(ALTACT_SIG | HEADERS), without(ALTACT_SIG | Flags::EXIT_PAYLOAD | Flags::SEND_SENDER)]
}

fn frame(control: &Control, payload: Option<&Iovec>, flags: Flags) -> Bytes {
    let mut out = Vec::new();
    control::encode(control, payload, flags, &mut out);
    let mut buffer = BytesMut::from(&out[..]);
    let Ok(Some(Frame::Message(frame))) = framing::next(&mut buffer) else { panic!("{control:?} is not a frame") };
    assert!(buffer.is_empty());
    frame
}

/// Encodes a control message as the node does, and decodes the frame.
fn decode(
    control: &Control,
    payload: Option<&Iovec>,
    flags: Flags,
    atoms: &mut Atoms,
) -> Result<Decoded, ControlError> {
    control::decode(&frame(control, payload, flags), Headers::new(flags).as_mut(), atoms)
}

fn raw(message: &Bytes, atoms: &mut Atoms) -> Option<Raw> {
    let mut reader = Reader::new(message, atoms);
    let raw = reader.raw().ok()?;
    reader.finish().ok()?;
    Some(raw)
}

fn check_encodings(control: &Control, payload: Option<&Bytes>, atoms: &mut Atoms) {
    // A payload that cannot be decoded is not forwarded.
    let payload = payload.map(|payload| raw(payload, atoms).unwrap_or_else(|| Raw::encode(&Term::atom("unread"))));
    for flags in flag_sets() {
        let decoded = decode(control, payload.clone().map(Iovec::from).as_ref(), flags, atoms);
        let Ok(Some((again, its))) = decoded else { panic!("{control:?} is {decoded:?}") };
        match (control, &again) {
            // The old form of a send does not contain the sender.
            (Control::Send { to, .. }, Control::Send { from: None, to: again }) => assert_eq!(to, again),
            _ => assert_eq!(control, &again),
        }
        assert_eq!(its.and_then(|its| raw(&its, atoms)), payload);
    }
}

/// A process that answers some calls at once, and never answers others.
struct Process;

impl Behaviour for Process {
    fn call(&mut self, request: &Raw, _: &Caller, atoms: &mut Atoms) -> Answer {
        match request.term(atoms) {
            Ok(Term::Atom(_)) | Err(_) => Answer::Later,
            Ok(request) => Answer::Now(request),
        }
    }

    fn state(&self) -> Term {
        Term::atom("state")
    }
}

/// A module with `m:f/1`, which answers some calls at once, and never answers others.
struct Module;

impl Functions for Module {
    fn call(&mut self, module: &Atom, function: &Atom, args: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
        match (module.as_str(), function.as_str(), args) {
            ("m", "f", [Term::Atom(_)]) => Some(Ok(Answer::Later)),
            ("m", "f", [Term::Int(_)]) => Some(Err(BadArg)),
            ("m", "f", [arg]) => Some(Ok(Answer::Now(arg.clone()))),
            _ => None,
        }
    }
}

/// A node with two connections: the input arrives on one of them.
struct Node {
    machine: Machine,
    now: Now,
}

impl Node {
    fn new() -> Self {
        let machine = Machine::new(Parts {
            // The node that the captured frames of the corpus were sent to. It has a process
            // registered as `name`.
            name: "fake@localhost".parse().unwrap(),
            creation: 77,
            scopes: vec![Atom::literal("pg")],
            watched: Watched { tag: Atom::literal("hecate_plugin"), group: Atom::literal("group") },
            functions: Box::new(Module),
            tick_time: Duration::from_secs(60),
            memory: || None,
            program: Program { name: "fuzz", version: "0" },
            hidden: false,
        });
        let mut node = Self { machine, now: Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH } };
        for (link, name) in [(OURS, "real@localhost"), (OTHER, "another@host")] {
            let peer =
                Established { name: name.parse().unwrap(), creation: 1, flags: flags::ours(false), published: true };
            node.input(NodeInput::LinkUp { link, peer, origin: Origin::Accepted });
        }
        let (name, groups) = (Some(Atom::literal("name")), vec![Term::atom("group")]);
        node.input(NodeInput::Spawn { name, behaviour: Box::new(Process), groups, token: 1 });
        node
    }

    fn input(&mut self, input: NodeInput) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        while self.machine.step(self.now, &mut out).is_some() {}
        let mut atoms = Atoms::new();
        for effect in out {
            match effect {
                // The peer can decode each signal of the node.
                NodeEffect::Signal(_, control, payload) => {
                    for flags in flag_sets() {
                        let decoded = decode(&control, payload.as_ref(), flags, &mut atoms);
                        assert!(matches!(decoded, Ok(Some(_))), "{control:?} is {decoded:?}");
                    }
                }
                NodeEffect::Close(link, why) => assert!(link == OURS && !why.is_empty(), "{link:?}: {why}"),
                NodeEffect::Spawned(..) => {}
                other => panic!("unexpected effect {other:?}"),
            }
        }
    }

    fn receive(&mut self, control: Control, payload: Option<Bytes>) {
        self.input(NodeInput::Messages(OURS, vec![(control, payload)]));
        assert!(self.machine.has_link(OTHER));
    }

    fn end(mut self) {
        let _ = (self.machine.view(), self.machine.groups());
        self.input(NodeInput::LinkDown {
            link: OURS,
            reason: PeerReason::from(&CloseReason::ClosedByPeer),
            by_peer: false,
        });
        assert!(!self.machine.has_link(OURS) && self.machine.has_link(OTHER));
        assert!(self.machine.view().announced.is_empty(), "a lost peer has no groups");
    }
}
