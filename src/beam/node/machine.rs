//! The node as a pure machine: inputs and the time come in, effects go out.
//!
//! It owns the state of the node: peers, processes, the monitors and links towards them, process
//! groups, and calls that wait for answers. It opens no socket, reads no clock and never waits;
//! [`super::task`] does that. Only [`Machine::accept_status`], [`Machine::still_wanted`] and
//! [`NodeInput::LinkUp`] decide between two connections for one name.

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
use served::{ReplyTo, ServedCall, SpawnRequest};
use ties::Ties;

/// Identifies a request of the program, and its result.
pub type Token = u64;

/// An input of the machine.
pub enum NodeInput {
    /// A handshake is complete.
    LinkUp {
        /// The new connection.
        link: LinkId,
        /// The peer.
        peer: Established,
        /// Which side dialled.
        origin: Origin,
    },
    /// A connection has ended.
    LinkDown {
        /// The connection.
        link: LinkId,
        /// Why.
        reason: PeerReason,
        /// Whether the peer closed the connection cleanly.
        by_peer: bool,
    },
    /// Control messages of one connection, in order, each with its payload.
    Messages(LinkId, Vec<(Control, Option<Bytes>)>),
    /// A control message of a connection, whose large payload was decoded by [`read`].
    /// [`Machine::step`] handles it.
    Read(LinkId, Box<(Control, Content)>),
    /// Connect to this node, unless it is connected or an attempt is under way.
    Connect(NodeName),
    /// An attempt to connect has ended, successful or not.
    DialEnded(NodeName),
    /// Remove the given nodes from the view, except those that are connected.
    Forget(Vec<NodeName>),
    /// Spawn a process, which joins its groups in every scope.
    Spawn {
        /// The registered name, if any.
        name: Option<Atom>,
        /// The code of the process.
        behaviour: Box<dyn Behaviour>,
        /// The groups to join.
        groups: Vec<Term>,
        /// Identifies the result.
        token: Token,
    },
    /// End a process with this reason.
    Exit(ProcessId, &'static str),
    /// Answer a call of a peer that waits.
    Answer(CallId, Term),
    /// Send a message to the peers' members of a group.
    Publish {
        /// The group, in all scopes.
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
        /// Identifies the result; none for a cast.
        token: Option<Token>,
    },
    /// Call a process of a connected node, as `gen_server:call/3` does.
    GenCall {
        /// The node.
        node: NodeName,
        /// The process's registered name.
        name: Atom,
        /// The request.
        request: Term,
        /// Identifies the answer.
        token: Token,
    },
    /// Send a message to a process of a connected node.
    Send {
        /// The process.
        to: Address,
        /// The message.
        message: Iovec,
        /// Identifies the result, which is whether the node is connected.
        token: Token,
    },
    /// Monitor a process of a connected node.
    Monitor {
        /// The process.
        to: Address,
        /// Identifies the exit reason.
        token: Token,
    },
    /// Link one of our processes to a process of a connected node.
    LinkTo {
        /// Our process.
        process: ProcessId,
        /// The peer's process.
        to: Pid,
    },
    /// Remove a monitor.
    Demonitor(Token),
    /// End all processes and close all connections.
    Stop,
    /// Time has passed; see [`Machine::next_deadline`].
    Tick,
}

/// An effect that the machine requests.
#[derive(Debug, PartialEq)]
pub enum NodeEffect {
    /// Send a signal over a connection.
    Signal(LinkId, Control, Option<Iovec>),
    /// Close a connection, after the signals that were sent before.
    Close(LinkId, String),
    /// Try to connect to this node; [`NodeInput::DialEnded`] follows.
    Dial(NodeName),
    /// Report the id of a new process.
    Spawned(Token, ProcessId),
    /// Report the result of a call.
    Result(Token, Result<Raw, CallError>),
    /// Report the exit reason of a monitored process.
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
    /// Whether the same incarnation closed its last connection cleanly, and we dialled this one.
    had_left: bool,
    /// Monitors and links between the peer's processes and ours.
    ties: Ties,
}

/// Counts of the unfinished operations between the node and its peers. Each ends with its
/// connection.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Calls to peers that wait for their results.
    pub calls: usize,
    /// Calls of peers that wait for our answers.
    pub served: usize,
    /// Our monitors of processes of peers.
    pub monitors: usize,
    /// Monitors and links of peers' processes to ours.
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
    /// For each peer that has sent `init_connect` on the current connection, the nodes that its
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
    served: HashMap<CallId, ServedCall>,
    last_served: u64,
    functions: Box<dyn Functions>,
    tick_time: Duration,
    memory: fn() -> Option<u64>,
    program: Program,
    hidden: bool,
    /// When to discover scopes again; only for a hidden node.
    next_poll: Option<Instant>,
    atoms: Atoms,
    changed: bool,
}

/// The parts of a new machine.
pub struct Parts {
    /// The node's full name.
    pub name: NodeName,
    /// Identifies this incarnation of the node.
    pub creation: u32,
    /// Its scopes of process groups.
    pub scopes: Vec<Atom>,
    /// The peers' process groups that the view shows.
    pub watched: Watched,
    /// The functions that peers can call.
    pub functions: Box<dyn Functions>,
    /// The `net_ticktime` of this node.
    pub tick_time: Duration,
    /// Returns the resident memory of the operating system's process, in bytes.
    pub memory: fn() -> Option<u64>,
    /// The program that runs the node, as tools show it.
    pub program: Program,
    /// Whether the node is hidden, so that peers' scopes do not discover it.
    pub hidden: bool,
}

impl Machine {
    /// Creates a node with running services and a process for each scope.
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

    /// Returns the status for a peer that has sent `name` (`accept_pending` in OTP's
    /// `net_kernel.erl`).
    #[must_use]
    pub fn accept_status(&self, name: &NodeName) -> Status {
        if *name == self.name || (self.links.len() >= limits::PEERS && !self.by_name.contains_key(name)) {
            Status::NotAllowed
        } else if self.by_name.contains_key(name) {
            Status::Alive
        } else if !self.dialer.contains(name) {
            Status::Ok
        } else if self.name > *name {
            // Both sides continue the attempt that the greater name dialled.
            Status::Nok
        } else {
            Status::OkSimultaneous
        }
    }

    /// Returns whether our attempt to connect to `name`, which answered `alive`, should continue:
    /// only if there is no connection by now (`is_pending` in OTP's `net_kernel.erl`).
    #[must_use]
    pub fn still_wanted(&self, name: &NodeName) -> bool {
        self.dialer.contains(name) && !self.by_name.contains_key(name)
    }

    /// Returns when [`NodeInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.calls.next_deadline().into_iter().chain(self.next_poll).min()
    }

    /// Returns whether `name` is connected or is this node.
    #[must_use]
    pub fn is_connected(&self, name: &NodeName) -> bool {
        self.name == *name || self.by_name.contains_key(name)
    }

    /// Returns whether this connection is open.
    #[must_use]
    pub fn has_link(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// Returns whether the view has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns whether `name` is connected, or was and is not forgotten.
    #[must_use]
    pub(crate) fn has_met(&self, name: &NodeName) -> bool {
        self.by_name.contains_key(name) || self.down.contains_key(name)
    }

    /// Returns whether [`Self::groups`] may have changed since the last call.
    pub(crate) fn take_groups_changed(&mut self) -> bool {
        // No short circuit: each scope must be reset.
        let mut changed = false;
        for scope in self.scopes.values_mut() {
            changed |= scope.take_touched();
        }
        changed
    }

    /// Returns the size of each scope.
    #[must_use]
    pub fn groups(&self) -> Groups {
        self.scopes.iter().map(|(name, scope)| (Arc::from(name.as_str()), scope.census())).collect()
    }

    /// Returns the members of a group in a scope, or `None` if there is no such scope. See
    /// [`Scope::members`].
    #[must_use]
    pub fn members(&self, scope: &str, group: &pg::Key) -> Option<Vec<Pid>> {
        self.scopes.get(scope).map(|scope| scope.members(group))
    }

    /// Returns the scopes that a connected node exchanges with ours.
    #[must_use]
    pub fn exchanges(&self, node: &NodeName) -> BTreeSet<Arc<str>> {
        let Some(link) = self.by_name.get(node) else { return BTreeSet::new() };
        let both = self.scopes.iter().filter(|(_, scope)| scope.exchanges(*link));
        both.map(|(name, _)| Arc::from(name.as_str())).collect()
    }

    /// Counts the operations that have not ended.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn pending(&self) -> Pending {
        let ties = self.links.values().map(|link| link.ties.len()).sum();
        Pending { calls: self.calls.len(), served: self.served.len(), monitors: self.monitors.len(), ties }
    }

    /// Returns the approximate memory in bytes that a peer uses here between its messages: the
    /// members of its groups, the message that is being applied, and its monitors and links.
    #[must_use]
    pub fn kept(&self, link: LinkId) -> usize {
        let ties = self.links.get(&link).map_or(0, |link| link.ties.bytes());
        ties + self.scopes.values().map(|scope| scope.bytes(link)).sum::<usize>()
    }

    /// Returns the view of the node.
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
        // A peer's scope reports only processes of its own node, which is connected.
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

    /// Handles an input. Adds the effects to `out`.
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
            NodeInput::Answer(call, value) => self.answer_call(call, value, out),
            NodeInput::Publish { group, message } => self.publish(&group, message, out),
            NodeInput::Call { node, function, token } => self.call(now, &node, &function, token, out),
            NodeInput::GenCall { node, name, request, token } => self.gen_call(now, &node, &name, &request, token, out),
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
