//! One of the two nodes: its machine, the requests of its users, and processes that the machine
//! does not manage. Most processes of a real Erlang node are of this kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beam::dist::control::Control;
use beam::etf::{Atom, Atoms, Map, Pid, Raw, Reference, Term};
use beam::name::NodeName;
use beam::node::Function;
use beam::node::Program;
use beam::node::Watched;
use beam::node::link_id::LinkId;
use beam::node::machine::{Machine, Parts, Token};
use beam::node::{Answer, BadArg, Behaviour, CallId, Caller, Functions, ProcessId};

use crate::Side;

pub const NAMES: [&str; 2] = ["a@host", "b@host"];
pub const SCOPES: [&str; 2] = ["other", "pg"];
pub const GROUPS: usize = 4;

/// Returns the full name of a side's node.
pub fn name_of(side: Side) -> NodeName {
    NAMES[side as usize].parse().unwrap()
}

/// Returns a group. There is one of each kind, and the view shows the first two.
pub fn group(number: usize) -> Term {
    match number % GROUPS {
        0 => Term::atom("group"),
        1 => Term::tuple([Term::atom("hecate_plugin"), Term::binary("hecate-traderd")]),
        2 => Term::List(vec![Term::Int(1), Term::Int(-2)]),
        _ => Term::Map(Map::new(vec![(Term::Int(1), Term::atom("b")), (Term::atom("a"), Term::Int(2))]).expect("keys")),
    }
}

/// The calls from the peer that wait for an answer.
pub type Waiting = Arc<Mutex<Vec<CallId>>>;

/// A process that answers a call with an atom later, and other calls at once.
struct Process(Waiting);

impl Behaviour for Process {
    fn call(&mut self, request: &Raw, caller: &Caller, atoms: &mut Atoms) -> Answer {
        match request.term(atoms).expect("a term") {
            Term::Atom(_) => {
                self.0.lock().expect("one thread").push(caller.call);
                Answer::Later
            }
            request => Answer::Now(request),
        }
    }

    fn state(&self) -> Term {
        Term::atom("state")
    }
}

/// A module with `m:now/1`, `m:bad/1` and `m:later/1`.
struct Module(Waiting);

impl Functions for Module {
    fn call(&mut self, module: &Atom, name: &Atom, args: &[Term], caller: &Caller) -> Option<Result<Answer, BadArg>> {
        match (module.as_str(), name.as_str(), args) {
            ("m", "now", [arg]) => Some(Ok(Answer::Now(arg.clone()))),
            ("m", "bad", [_]) => Some(Err(BadArg)),
            ("m", "later", [_]) => {
                self.0.lock().expect("one thread").push(caller.call);
                Some(Ok(Answer::Later))
            }
            _ => None,
        }
    }
}

/// The called functions. The last one does not exist.
pub const FUNCTIONS: [&str; 4] = ["now", "bad", "later", "none"];

pub fn function(what: u8) -> Function {
    let function = FUNCTIONS[usize::from(what) % FUNCTIONS.len()];
    Function { module: Atom::literal("m"), function: Atom::literal(function), args: vec![Term::Int(i64::from(what))] }
}

pub struct Node {
    pub machine: Machine,
    pub creation: u32,
    pub hidden: bool,
    pub waiting: Waiting,
    /// The processes that users have spawned, each with its groups as bits.
    pub processes: BTreeMap<ProcessId, u8>,
    pub spawning: BTreeMap<Token, u8>,
    /// The pending calls, each with its function.
    pub calling: BTreeMap<Token, u8>,
    /// The pids of the machine's processes in its signals.
    pub shown: Vec<Pid>,
}

impl Node {
    pub fn new(side: Side, creation: u32, hidden: bool) -> Self {
        let waiting = Waiting::default();
        let machine = Machine::new(Parts {
            name: name_of(side),
            creation,
            scopes: SCOPES.map(Atom::literal).to_vec(),
            watched: Watched { tag: Atom::literal("hecate_plugin"), group: Atom::literal("group") },
            functions: Box::new(Module(waiting.clone())),
            tick_time: Duration::from_secs(60),
            memory: || None,
            program: Program { name: "fuzz", version: "0" },
            hidden,
        });
        Self {
            machine,
            creation,
            hidden,
            waiting,
            processes: BTreeMap::new(),
            spawning: BTreeMap::new(),
            calling: BTreeMap::new(),
            shown: Vec::new(),
        }
    }

    pub fn behaviour(&self) -> Box<dyn Behaviour> {
        Box::new(Process(self.waiting.clone()))
    }

    /// Returns the connection that the node holds.
    pub fn held(&self) -> Option<LinkId> {
        let view = self.machine.view();
        assert!(view.peers.len() <= 1);
        view.peers.values().find(|peer| peer.is_up()).map(|peer| LinkId(peer.connection))
    }

    /// Returns the number of the node's processes in a group.
    pub fn members(&self, group: usize) -> usize {
        self.processes.values().filter(|groups| *groups & (1 << group) != 0).count()
    }

    /// Records the pids in a signal of the machine.
    pub fn show(&mut self, control: &Control) {
        let pid = match control {
            Control::Send { from: Some(pid), .. }
            | Control::SendName { from: pid, .. }
            | Control::SendAlias { from: pid, .. }
            | Control::SpawnReply { result: Ok(pid), .. }
            | Control::Monitor { from: pid, .. } => pid,
            _ => return,
        };
        if !self.shown.contains(pid) {
            self.shown.push(pid.clone());
        }
    }
}

/// Returns a pid that the node's machine never assigns.
pub fn foreign_pid(side: Side, creation: u32, number: u32) -> Pid {
    Pid { node: Atom::literal(NAMES[side as usize]), id: number, serial: 0x1FFF, creation }
}

/// Returns a reference that the node's machine never makes.
pub fn foreign_reference(side: Side, creation: u32, number: u32) -> Reference {
    Reference { node: Atom::literal(NAMES[side as usize]), creation, ids: [number, 0, 0x3FFF].into() }
}
