//! The node as a pure machine: what came in and the time go in, what is to be done comes out.
//!
//! It owns every fact of the node: peers, processes, monitors and links towards them, process
//! groups, calls that wait for an answer. It opens no socket, reads no clock and never waits;
//! [`super::task`] does all that for it. Decisions about two connections for one name are made here
//! and nowhere else: [`Machine::accept_status`], [`Machine::still_wanted`] and
//! [`NodeInput::LinkUp`].

mod backlog;
mod calls;
mod connections;
mod content;
mod leftovers;
mod monitors;
mod own;
mod served;
mod signals;
mod ties;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::dist::control::{Control, NewProcess, Proc};
use crate::dist::flags::Flags;
use crate::dist::handshake::{Established, Origin, Status};
use crate::etf::{Atom, Atoms, DecodeError, Iovec, Pid, Raw, Reader, Reference, Term};
use crate::limits;
use crate::name::NodeName;
use crate::node::link_id::LinkId;
use crate::node::now::Now;
use crate::node::process::{
    Address, Answer, BadArg, Behaviour, CallId, Caller, Functions, Process, ProcessId, Processes, Role, Source, Watcher,
};
use crate::node::services::functions::Program;
use crate::node::services::gen_server::{self, Message};
use crate::node::services::pg::{self, Scope, Watched};
use crate::node::services::rpc::{CallError, Function};
use crate::node::services::{global, global_group, net_kernel, rpc};
use crate::node::view::{Groups, Peer, PeerReason, PeerState, View};
use backlog::Backlogs;
use calls::{Calls, PendingCall};
pub use content::{Content, read};
use leftovers::Leftovers;
use monitors::Monitors;
use served::{ReplyTo, Served, Wanted};
use ties::Ties;

/// Names the answer to a call, for whoever asked.
pub type Token = u64;

/// What the machine is told.
pub enum NodeInput {
    /// A handshake is complete.
    LinkUp {
        /// Its connection.
        link: LinkId,
        /// Who is at the other end.
        peer: Established,
        /// How it came about.
        origin: Origin,
    },
    /// A connection has ended.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why.
        reason: PeerReason,
        /// Whether the peer closed the connection in order.
        by_peer: bool,
    },
    /// Control messages of one connection, in order, each with its payload.
    Messages(LinkId, Vec<(Control, Option<Bytes>)>),
    /// A control message of a connection, whose large payload was decoded by [`read`]. It is
    /// handled by [`Machine::step`].
    Read(LinkId, Box<(Control, Content)>),
    /// Connect to this node, unless that is done or under way.
    Connect(NodeName),
    /// An attempt to connect has ended, whether there is a connection now or not.
    DialEnded(NodeName),
    /// These nodes need not be remembered, as far as they are not connected.
    Forget(Vec<NodeName>),
    /// Register a process under a name; it joins groups of scopes (each group with its scope's
    /// name) at once.
    Spawn {
        /// The registered name, if it is to have one.
        name: Option<Atom>,
        /// What it does.
        behaviour: Box<dyn Behaviour>,
        /// Groups to join: in each configured scope.
        groups: Vec<Term>,
        /// Where to tell which process it is.
        token: Token,
    },
    /// End a process: its groups, monitors and links are told this reason.
    Exit(ProcessId, &'static str),
    /// The answer to a call of a peer that was not answered at once.
    Answer(CallId, Term),
    /// Send a message to the members of a group that peers have.
    Publish {
        /// The group, in whichever scopes.
        group: pg::Key,
        /// The message.
        message: Iovec,
    },
    /// Call a function on a connected node.
    Call {
        /// The node.
        node: NodeName,
        /// The function.
        function: Function,
        /// Where the result goes; a call without is a cast.
        token: Option<Token>,
    },
    /// Call a process of a connected node, as `gen_server:call/3` does.
    Ask {
        /// The node.
        node: NodeName,
        /// The process's registered name.
        name: Atom,
        /// The request.
        request: Term,
        /// Where the answer goes.
        token: Token,
    },
    /// Send a message to a process of a connected node.
    Send {
        /// The process.
        to: Address,
        /// The message.
        message: Iovec,
        /// Where it is told whether the node is connected.
        token: Token,
    },
    /// Monitor a process of a connected node.
    Monitor {
        /// The process.
        to: Address,
        /// Where its end is told.
        token: Token,
    },
    /// Link a process of ours to one of a connected node.
    LinkTo {
        /// Ours.
        process: ProcessId,
        /// The peer's.
        to: Pid,
    },
    /// Remove a monitor.
    Demonitor(Token),
    /// End all processes and close all connections.
    Stop,
    /// Nothing but the passing of time.
    Tick,
}

/// What the machine wants done.
#[derive(Debug, PartialEq)]
pub enum NodeEffect {
    /// Send a signal over a connection.
    Signal(LinkId, Control, Option<Iovec>),
    /// Close a connection, after what was sent on it.
    Close(LinkId, String),
    /// Try to connect to this node; [`NodeInput::DialEnded`] follows.
    Dial(NodeName),
    /// Tell which process is the new one.
    Spawned(Token, ProcessId),
    /// Tell the result of a call.
    Result(Token, Result<Raw, CallError>),
    /// Tell that a process that we monitor has ended, and why.
    Down(Token, Raw),
    /// Log that a message of a peer was dropped, because it exceeds a limit.
    Dropped(LinkId, DecodeError),
}

/// A connected node.
#[derive(Debug)]
struct Link {
    name: NodeName,
    atom: Atom,
    creation: u32,
    published: bool,
    since: SystemTime,
    origin: Origin,
    flags: Flags,
    /// Whether the same incarnation closed its former connection in order, and we dialled this one.
    had_left: bool,
    /// Monitors and links between the peer's processes and ours.
    ties: Ties,
}

/// What the node and its peers owe each other: none of it outlives its connection.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Calls to peers that wait for their results.
    pub calls: usize,
    /// Calls of peers that wait for our answers.
    pub served: usize,
    /// Our monitors of processes of peers.
    pub monitors: usize,
    /// Monitors and links that processes of peers have towards ours.
    pub ties: usize,
}

/// The state of the node.
pub struct Machine {
    name: NodeName,
    creation: u32,
    processes: Processes,
    scopes: BTreeMap<Atom, Scope>,
    links: HashMap<LinkId, Link>,
    by_name: HashMap<NodeName, LinkId>,
    down: BTreeMap<NodeName, Peer>,
    dialer: HashSet<NodeName>,
    /// For each peer that has sent `init_connect` on the present connection, the nodes that its
    /// name server knows.
    known: HashMap<LinkId, BTreeSet<NodeName>>,
    /// Total number of names in `known`.
    known_size: usize,
    calls: Calls,
    monitors: Monitors,
    /// Messages that are not handled yet.
    backlogs: Backlogs,
    leftovers: Leftovers,
    /// Calls of peers that wait for our answers.
    served: HashMap<CallId, Served>,
    last_served: u64,
    functions: Box<dyn Functions>,
    tick_time: Duration,
    memory: fn() -> Option<u64>,
    program: Program,
    hidden: bool,
    /// When to look for scopes again, as a hidden node.
    next_poll: Option<Instant>,
    atoms: Atoms,
    changed: bool,
}

/// What a machine is made of.
pub struct Parts {
    /// The node's full name.
    pub name: NodeName,
    /// Which incarnation of the name it is.
    pub creation: u32,
    /// Its scopes of process groups.
    pub scopes: Vec<Atom>,
    /// The groups of peers that are shown in the view.
    pub watched: Watched,
    /// What peers can call.
    pub functions: Box<dyn Functions>,
    /// What peers are told of our `net_ticktime`.
    pub tick_time: Duration,
    /// Returns the resident memory of this operating system process, in bytes.
    pub memory: fn() -> Option<u64>,
    /// The program that runs the node, as tools show it.
    pub program: Program,
    /// Whether we are a hidden node, of which no peer's scope is told.
    pub hidden: bool,
}

impl Machine {
    /// A node with its services running and a process for each scope.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { name, creation, scopes, watched, functions, tick_time, memory, program, hidden } = parts;
        let mut processes = Processes::new(name.atom(), creation);
        let services =
            [(net_kernel::NAME, Role::NetKernel), (rpc::NAME, Role::Rex), (global_group::NAME, Role::GlobalGroup)];
        for (service, role) in services {
            processes.spawn(role, Some(Atom::literal(service)), Vec::new());
        }
        let mut scope = |scope: Atom| {
            let process = processes.spawn(Role::Scope(scope.clone()), Some(scope.clone()), Vec::new());
            let pid = process.pid.clone();
            (scope, Scope::new(pid, watched.clone()))
        };
        let scopes = scopes.into_iter().map(&mut scope).collect();
        Self {
            name,
            creation,
            processes,
            scopes,
            links: HashMap::new(),
            by_name: HashMap::new(),
            down: BTreeMap::new(),
            dialer: HashSet::new(),
            known: HashMap::new(),
            known_size: 0,
            calls: Calls::default(),
            monitors: Monitors::default(),
            backlogs: Backlogs::default(),
            leftovers: Leftovers::default(),
            served: HashMap::new(),
            last_served: 0,
            functions,
            tick_time,
            memory,
            program,
            hidden,
            next_poll: None,
            atoms: Atoms::new(),
            changed: false,
        }
    }

    /// What a peer that says it is `name` is answered (`accept_pending` in OTP's `net_kernel.erl`).
    #[must_use]
    pub fn accept_status(&self, name: &NodeName) -> Status {
        if *name == self.name || (self.links.len() >= limits::PEERS && !self.by_name.contains_key(name)) {
            Status::NotAllowed
        } else if self.by_name.contains_key(name) {
            Status::Alive
        } else if !self.dialer.contains(name) {
            Status::Ok
        } else if self.name > *name {
            // "If the node's own name is greater, the other's attempt is given up": both sides
            // decide alike.
            Status::Nok
        } else {
            Status::OkSimultaneous
        }
    }

    /// Whether an attempt of ours to reach `name`, which still believes in an older connection, is
    /// to go on: yes, unless a connection has come about meanwhile (`is_pending` in OTP's
    /// `net_kernel.erl`).
    #[must_use]
    pub fn still_wanted(&self, name: &NodeName) -> bool {
        self.dialer.contains(name) && !self.by_name.contains_key(name)
    }

    /// When [`NodeInput::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.calls.next_deadline().into_iter().chain(self.next_poll).min()
    }

    /// Whether there is, or would be, nothing to do to be connected to `name`.
    #[must_use]
    pub fn is_connected(&self, name: &NodeName) -> bool {
        self.name == *name || self.by_name.contains_key(name)
    }

    /// Whether this connection is one that stands.
    #[must_use]
    pub fn holds(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// Whether the view has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether there was a connection to `name` before, or is one.
    #[must_use]
    pub(crate) fn has_met(&self, name: &NodeName) -> bool {
        self.by_name.contains_key(name) || self.down.contains_key(name)
    }

    /// Whether [`Self::groups`] may have changed since this was asked last.
    pub(crate) fn take_groups_changed(&mut self) -> bool {
        // Each is asked, also behind one that has changed.
        let mut changed = false;
        for scope in self.scopes.values_mut() {
            changed |= scope.take_touched();
        }
        changed
    }

    /// How much each scope holds.
    #[must_use]
    pub fn groups(&self) -> Groups {
        self.scopes.iter().map(|(name, scope)| (Arc::from(name.as_str()), scope.census())).collect()
    }

    /// Returns the members of a group in a scope; none if there is no such scope. See
    /// [`Scope::members`].
    #[must_use]
    pub fn members(&self, scope: &str, group: &pg::Key) -> Option<Vec<Pid>> {
        self.scopes.get(scope).map(|scope| scope.members(group))
    }

    /// The scopes of process groups that a connected node has as we do.
    #[must_use]
    pub fn exchanges(&self, node: &NodeName) -> BTreeSet<Arc<str>> {
        let Some(link) = self.by_name.get(node) else { return BTreeSet::new() };
        let both = self.scopes.iter().filter(|(_, scope)| scope.exchanges(*link));
        both.map(|(name, _)| Arc::from(name.as_str())).collect()
    }

    /// How much waits to be answered or told.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn pending(&self) -> Pending {
        let ties = self.links.values().map(|link| link.ties.len()).sum();
        Pending { calls: self.calls.len(), served: self.served.len(), monitors: self.monitors.len(), ties }
    }

    /// Returns the memory of what is kept of a peer between its messages, in bytes, approximately:
    /// the members of its groups, the part of a message that is being applied, monitors and links.
    #[must_use]
    pub fn kept(&self, link: LinkId) -> usize {
        let ties = self.links.get(&link).map_or(0, |link| link.ties.bytes());
        ties + self.scopes.values().map(|scope| scope.bytes(link)).sum::<usize>()
    }

    /// What others see of the node.
    #[must_use]
    pub fn view(&self) -> View {
        let up = |(id, link): (&LinkId, &Link)| {
            let &Link { creation, published, flags, origin, .. } = link;
            let state = PeerState::Up { creation, published, flags, dialled: origin != Origin::Accepted };
            (link.name.clone(), Peer { state, since: link.since, connection: id.0, owner: None })
        };
        let introducible = |link: &Link| (!link.had_left).then(|| link.name.clone());
        let mut peers = self.down.clone();
        peers.extend(self.links.iter().map(up));
        let announced = self.scopes.values().flat_map(Scope::announced);
        // Each scope of a peer speaks for its own node, which is connected.
        let peer = |node: &Atom| self.by_name.get_key_value(node.as_str()).map(|(name, _)| name.clone());
        let announced = announced.filter_map(|(name, node)| Some((name, peer(&node)?))).collect();
        let grouped = self.scopes.values().flat_map(Scope::grouped).filter_map(|node| peer(&node)).collect();
        View {
            name: self.name.clone(),
            creation: self.creation,
            peers,
            announced,
            grouped,
            known: self.known.values().flatten().cloned().collect(),
            introducible: self.known.keys().filter_map(|id| self.links.get(id)).filter_map(introducible).collect(),
        }
    }

    /// Takes an input; what is to be done is added to `out`.
    pub fn handle(&mut self, now: Now, input: NodeInput, out: &mut Vec<NodeEffect>) {
        match input {
            NodeInput::LinkUp { link, peer, origin } => self.link_up(now, link, peer, origin, out),
            NodeInput::LinkDown { link, reason, by_peer } => self.link_down(now, link, reason, by_peer, out),
            NodeInput::Messages(link, batch) => self.messages(now, link, batch, out),
            NodeInput::Read(link, message) => {
                let (control, content) = *message;
                self.postpone_read(link, control, content);
            }
            NodeInput::Connect(name) => {
                if !self.is_connected(&name) && self.dialer.insert(name.clone()) {
                    out.push(NodeEffect::Dial(name));
                }
            }
            NodeInput::DialEnded(name) => {
                self.dialer.remove(&name);
            }
            NodeInput::Forget(names) => {
                for name in names {
                    self.changed |= self.down.remove(&name).is_some();
                }
            }
            NodeInput::Spawn { name, behaviour, groups, token } => {
                let process = self.spawn(name, behaviour, groups, out);
                out.push(NodeEffect::Spawned(token, process));
            }
            NodeInput::Exit(process, reason) => {
                if let Some(pid) = self.processes.pid(process).cloned() {
                    self.exit(&pid, &Raw::encode(&Term::atom(reason)), out);
                }
            }
            NodeInput::Answer(call, value) => self.answered(call, value, out),
            NodeInput::Publish { group, message } => self.publish(&group, message, out),
            NodeInput::Call { node, function, token } => self.call(now, &node, &function, token, out),
            NodeInput::Ask { node, name, request, token } => self.ask(now, &node, &name, &request, token, out),
            NodeInput::Send { to, message, token } => self.send(to, message, token, out),
            NodeInput::Monitor { to, token } => self.monitor_peer(to, token, out),
            NodeInput::LinkTo { process, to } => self.link_to(now, process, to, out),
            NodeInput::Demonitor(token) => self.demonitor_peer(token, out),
            NodeInput::Stop => self.stop(now, out),
            NodeInput::Tick => {
                self.expire_calls(now, out);
                self.poll_scopes(now, out);
            }
        }
    }
}

fn push(signals: pg::Signals, out: &mut Vec<NodeEffect>) {
    out.extend(
        signals.into_iter().map(|(link, control, payload)| NodeEffect::Signal(link, control, payload.map(Iovec::from))),
    );
}

#[cfg(test)]
mod tests;
