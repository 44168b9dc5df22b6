//! The node as a pure machine: what came in and the time go in, what is to be done comes out.
//!
//! It owns every fact of the node: peers, processes, monitors and links towards them, process groups, calls that wait for
//! an answer. It opens no socket, reads no clock and never waits; [`super::task`] does all that for it. Decisions about
//! two connections for one name are made here and nowhere else: [`Machine::accept_status`], [`Machine::still_wanted`] and
//! [`Input::LinkUp`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use crate::dist::control::{Control, Proc};
use crate::dist::handshake::{Established, Status};
use crate::etf::{Atom, Atoms, DecodeError, Pid, Raw, Reader, Reference, Term};
use crate::limits;
use crate::node::process::{Behaviour, Process, Processes, Role, Watcher};
use crate::node::services::gen_server::{self, Message};
use crate::node::services::pg::{self, Scope};
use crate::node::services::rpc::{CallError, Function};
use crate::node::services::{global, net_kernel, rpc};
use crate::node::view::{Peer, PeerState, View};

/// One connection; never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// The time, as both clocks tell it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For people.
    pub wall: SystemTime,
}

/// Names the answer to a call, for whoever asked.
pub type Token = u64;

/// What the machine is told.
pub enum Input {
    /// A handshake is complete.
    LinkUp {
        /// Its connection.
        link: LinkId,
        /// Who is at the other end.
        peer: Established,
    },
    /// A connection has ended.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why, as a sentence for people.
        reason: String,
    },
    /// Control messages of one connection, in order, each with its payload.
    Messages(LinkId, Vec<(Control, Option<Bytes>)>),
    /// Connect to this node, unless that is done or under way.
    Connect(Arc<str>),
    /// An attempt to connect has ended, whether there is a connection now or not.
    DialEnded(Arc<str>),
    /// Register a process under a name; it joins groups of scopes (each group with its scope's name) at once.
    Spawn {
        /// The registered name, if it is to have one.
        name: Option<Atom>,
        /// What it does.
        behaviour: Box<dyn Behaviour>,
        /// Groups to join: in each configured scope.
        groups: Vec<Term>,
        /// Where to tell the pid.
        token: Token,
    },
    /// End a process: its groups, monitors and links are told this reason.
    Exit(Pid, &'static str),
    /// Call a function on a connected node.
    Call {
        /// The node.
        node: Arc<str>,
        /// The function.
        function: Function,
        /// Where the result goes; a call without is a cast.
        token: Option<Token>,
    },
    /// End all processes and close all connections.
    Stop,
    /// Nothing but the passing of time.
    Tick,
}

/// What the machine wants done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send a signal over a connection.
    Signal(LinkId, Control, Option<Raw>),
    /// Close a connection, after what was sent on it.
    Close(LinkId, String),
    /// Try to connect to this node; [`Input::DialEnded`] follows.
    Dial(Arc<str>),
    /// Tell the pid of a new process.
    Spawned(Token, Pid),
    /// Tell the result of a call.
    Result(Token, Result<Raw, CallError>),
}

/// A connected node.
#[derive(Debug)]
struct Link {
    name: Arc<str>,
    atom: Atom,
    creation: u32,
    published: bool,
    since: SystemTime,
    /// Monitors and links that processes of it have towards ours.
    ties: usize,
}

/// A call that waits for its result.
#[derive(Debug)]
struct PendingCall {
    link: LinkId,
    token: Token,
    deadline: Instant,
}

/// The state of the node.
pub struct Machine {
    name: Arc<str>,
    creation: u32,
    processes: Processes,
    scopes: BTreeMap<Atom, Scope>,
    links: HashMap<LinkId, Link>,
    by_name: HashMap<Arc<str>, LinkId>,
    down: BTreeMap<Arc<str>, Peer>,
    dialling: HashSet<Arc<str>>,
    /// What each connected peer's name server knows.
    known: HashMap<LinkId, BTreeSet<Arc<str>>>,
    calls: HashMap<Reference, PendingCall>,
    atoms: Atoms,
    changed: bool,
}

impl Machine {
    /// A node of this name and incarnation, with its services running and a process for each scope. Groups
    /// `{watched_tag, Binary}` are shown in the view.
    #[must_use]
    pub fn new(name: &Atom, creation: u32, scopes: &[Atom], watched_tag: &Atom) -> Self {
        let mut processes = Processes::new(name.clone(), creation);
        for (service, role) in [(net_kernel::NAME, Role::NetKernel), (rpc::NAME, Role::Rex)] {
            let pid = processes.spawn(role);
            processes.register(Atom::literal(service), pid);
        }
        let mut scope = |scope: &Atom| {
            let pid = processes.spawn(Role::Scope(scope.clone()));
            processes.register(scope.clone(), pid.clone());
            (scope.clone(), Scope::new(pid, watched_tag.clone()))
        };
        let scopes = scopes.iter().map(&mut scope).collect();
        Self {
            name: name.as_str().into(),
            creation,
            processes,
            scopes,
            links: HashMap::new(),
            by_name: HashMap::new(),
            down: BTreeMap::new(),
            dialling: HashSet::new(),
            known: HashMap::new(),
            calls: HashMap::new(),
            atoms: Atoms::new(),
            changed: false,
        }
    }

    /// What a peer that says it is `name` is answered (`accept_pending` in OTP's `net_kernel.erl`).
    #[must_use]
    pub fn accept_status(&self, name: &str) -> Status {
        if name == &*self.name || (self.links.len() >= limits::PEERS && !self.by_name.contains_key(name)) {
            Status::NotAllowed
        } else if self.by_name.contains_key(name) {
            Status::Alive
        } else if !self.dialling.contains(name) {
            Status::Ok
        } else if *self.name > *name {
            // "If the node's own name is greater, the other's attempt is given up": both sides decide alike.
            Status::Nok
        } else {
            Status::OkSimultaneous
        }
    }

    /// Whether an attempt of ours to reach `name`, which still believes in an older connection, is to go on: yes, unless
    /// a connection has come about meanwhile (`is_pending` in OTP's `net_kernel.erl`).
    #[must_use]
    pub fn still_wanted(&self, name: &str) -> bool {
        self.dialling.contains(name) && !self.by_name.contains_key(name)
    }

    /// When [`Input::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.deadline).min()
    }

    /// Whether there is, or would be, nothing to do to be connected to `name`.
    #[must_use]
    pub fn is_connected(&self, name: &str) -> bool {
        *self.name == *name || self.by_name.contains_key(name)
    }

    /// Whether the view has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What others see of the node.
    #[must_use]
    pub fn view(&self) -> View {
        let up = |(id, link): (&LinkId, &Link)| {
            let state = PeerState::Up { creation: link.creation, published: link.published };
            (link.name.clone(), Peer { state, since: link.since, connection: id.0 })
        };
        let mut peers = self.down.clone();
        peers.extend(self.links.iter().map(up));
        let announced = self.scopes.values().flat_map(Scope::announced);
        let announced = announced.map(|(name, node)| (name, Arc::from(node.as_str()))).collect();
        View {
            name: self.name.clone(),
            creation: self.creation,
            peers,
            announced,
            known: self.known.values().flatten().cloned().collect(),
        }
    }

    /// Takes an input; what is to be done is added to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::LinkUp { link, peer } => self.link_up(now, link, peer, out),
            Input::LinkDown { link, reason } => self.link_down(now, link, &reason, out),
            Input::Messages(link, batch) => {
                for (control, payload) in batch {
                    // A message of the batch may have closed the link.
                    if self.links.contains_key(&link) {
                        self.control(now, link, control, payload, out);
                    }
                }
            }
            Input::Connect(name) => {
                if !self.is_connected(&name) && self.dialling.insert(name.clone()) {
                    out.push(Effect::Dial(name));
                }
            }
            Input::DialEnded(name) => {
                self.dialling.remove(&name);
            }
            Input::Spawn { name, behaviour, groups, token } => {
                let pid = self.spawn(name, behaviour, &groups, out);
                out.push(Effect::Spawned(token, pid));
            }
            Input::Exit(pid, reason) => self.exit(&pid, &Raw::encode(&Term::atom(reason)), out),
            Input::Call { node, function, token } => self.call(now, &node, &function, token, out),
            Input::Stop => self.stop(now, out),
            Input::Tick => self.expire_calls(now, out),
        }
    }

    // ---- Connections ----------------------------------------------------------------------------

    fn link_up(&mut self, now: Now, id: LinkId, peer: Established, out: &mut Vec<Effect>) {
        let Ok(atom) = Atom::new(&peer.name) else {
            // The handshake has bounded the name already.
            out.push(Effect::Close(id, "its name is no atom".to_owned()));
            return;
        };
        if let Some(&old) = self.by_name.get(&peer.name) {
            // The newest connection that proved the cookie is the one that lives: the peer answered `alive` with
            // `true`, or the two crossed each other.
            out.push(Effect::Close(old, "replaced by a newer connection".to_owned()));
            self.link_down(now, old, "replaced by a newer connection of the node", out);
        }
        self.down.remove(&peer.name);
        let (name, published) = (peer.name, peer.published);
        self.by_name.insert(name.clone(), id);
        let link = Link { name, atom, creation: peer.creation, published, since: now.wall, ties: 0 };
        self.links.insert(id, link);
        self.changed = true;
        if published {
            self.greet_global(id, out);
            let mut signals = Vec::new();
            for (scope_name, scope) in &self.scopes {
                scope.node_up(id, scope_name, &mut signals);
            }
            push(signals, out);
        }
    }

    fn greet_global(&self, id: LinkId, out: &mut Vec<Effect>) {
        if let Some(from) = self.processes.whereis(net_kernel::NAME) {
            let control = Control::SendName { from: from.clone(), to: Atom::literal(global::NAME) };
            out.push(Effect::Signal(id, control, Some(global::in_sync(&from.node))));
        }
    }

    fn link_down(&mut self, now: Now, id: LinkId, reason: &str, out: &mut Vec<Effect>) {
        let Some(link) = self.links.remove(&id) else { return };
        self.by_name.remove(&link.name);
        self.known.remove(&id);
        for scope in self.scopes.values_mut() {
            scope.node_down(id);
        }
        for process in self.processes.iter_mut() {
            process.watchers.retain(|(link, _), _| *link != id);
            process.links.retain(|(link, _)| *link != id);
        }
        let lost = self.calls.extract_if(|_, call| call.link == id);
        out.extend(lost.map(|(_, call)| Effect::Result(call.token, Err(CallError::NoConnection))));
        if self.down.len() >= limits::KNOWN_NODES {
            self.down.pop_first();
        }
        let state = PeerState::Down { reason: reason.to_owned() };
        self.down.insert(link.name, Peer { state, since: now.wall, connection: id.0 });
        self.changed = true;
    }

    fn close(&mut self, now: Now, id: LinkId, reason: String, out: &mut Vec<Effect>) {
        self.link_down(now, id, &reason, out);
        out.push(Effect::Close(id, reason));
    }

    fn stop(&mut self, now: Now, out: &mut Vec<Effect>) {
        // Asked for processes first: their groups and monitors are told, as by a node that stops in good order.
        let shutdown = Raw::encode(&Term::atom("shutdown"));
        let (services, asked): (Vec<Pid>, Vec<Pid>) = self.processes.pids().into_iter().partition(|pid| {
            self.processes.get(&Proc::Pid(pid.clone())).is_some_and(|p| !matches!(p.role, Role::Behaviour(_)))
        });
        for pid in asked.iter().chain(&services) {
            self.exit(pid, &shutdown, out);
        }
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.close(now, id, "this node stops".to_owned(), out);
        }
    }

    // ---- Signals from peers -----------------------------------------------------------------------

    fn control(&mut self, now: Now, id: LinkId, control: Control, payload: Option<Bytes>, out: &mut Vec<Effect>) {
        match control {
            Control::Send { to, .. } => self.message(now, id, &Proc::Pid(to), payload, out),
            Control::SendName { to, .. } => self.message(now, id, &Proc::Name(to), payload, out),
            Control::Monitor { from, to, reference } => self.monitor(now, id, from, to, reference, out),
            Control::Demonitor { reference, to, .. } => {
                if let Some(process) = self.processes.get(&to) {
                    let gone = process.watchers.remove(&(id, reference)).is_some();
                    self.untie(id, usize::from(gone));
                }
            }
            Control::Link { from, to } => match self.processes.get(&Proc::Pid(to.clone())) {
                Some(process) => {
                    let tied = process.links.insert((id, from));
                    self.tie(now, id, usize::from(tied), out);
                }
                None => {
                    let reason = Raw::encode(&Term::atom("noproc"));
                    out.push(Effect::Signal(id, Control::Exit { from: to, to: from, reason }, None));
                }
            },
            Control::Unlink { id: unlink, from, to } => {
                if let Some(process) = self.processes.get(&Proc::Pid(to.clone())) {
                    let untied = process.links.remove(&(id, from.clone()));
                    self.untie(id, usize::from(untied));
                }
                if let Some(unlink) = unlink {
                    out.push(Effect::Signal(id, Control::UnlinkAck { id: unlink, from: to, to: from }, None));
                }
            }
            // Our processes are servers that outlive whoever is linked to them, as one that traps exits.
            Control::Exit { from, to, .. } => {
                if let Some(process) = self.processes.get(&Proc::Pid(to)) {
                    let untied = process.links.remove(&(id, from));
                    self.untie(id, usize::from(untied));
                }
            }
            Control::MonitorExit { reference, reason, .. } => self.monitor_exit(id, &reference, &reason, out),
            Control::SpawnReply { request, result: Err(why), .. } => {
                if let Some(call) = self.take_call(id, &request) {
                    out.push(Effect::Result(call.token, Err(CallError::Refused(why))));
                }
            }
            Control::SpawnRequest { request, from, .. } => {
                let result = Err(Atom::literal("notsup"));
                out.push(Effect::Signal(id, Control::SpawnReply { request, to: from, flags: 0, result }, None));
            }
            // We hand out no aliases and link to nobody, so these can't be meant for us. Exits by `exit/2` are for our
            // servers what they are for one that traps exits.
            Control::SendAlias { .. }
            | Control::UnlinkAck { .. }
            | Control::Exit2 { .. }
            | Control::SpawnReply { result: Ok(_), .. } => {}
        }
    }

    fn monitor(&mut self, now: Now, id: LinkId, from: Pid, to: Proc, reference: Reference, out: &mut Vec<Effect>) {
        match self.processes.get(&to) {
            Some(process) => {
                let watcher = Watcher { pid: from, watched: to };
                let tied = process.watchers.insert((id, reference), watcher).is_none();
                self.tie(now, id, usize::from(tied), out);
            }
            None => {
                let reason = Raw::encode(&Term::atom("noproc"));
                out.push(Effect::Signal(id, Control::MonitorExit { from: to, to: from, reference, reason }, None));
            }
        }
    }

    fn tie(&mut self, now: Now, id: LinkId, count: usize, out: &mut Vec<Effect>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.ties += count;
        if link.ties > limits::TIES {
            let reason = format!("the peer has more than {} monitors and links to us", limits::TIES);
            self.close(now, id, reason, out);
        }
    }

    fn untie(&mut self, id: LinkId, count: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.ties = link.ties.saturating_sub(count);
        }
    }

    fn message(&mut self, now: Now, id: LinkId, to: &Proc, payload: Option<Bytes>, out: &mut Vec<Effect>) {
        let message = match term(&payload.unwrap_or_default(), &mut self.atoms) {
            Ok(message) => message,
            // Legal in Erlang, but more than we take: only this message is lost.
            Err(e @ (DecodeError::TooDeep | DecodeError::TooManyNodes)) => {
                tracing::debug!(peer = self.links.get(&id).map(|link| &*link.name), "a message is dropped: {e}");
                return;
            }
            Err(e) => return self.close(now, id, format!("the peer sent a message that is no term: {e}"), out),
        };
        if matches!(to, Proc::Name(name) if *name == *global::NAME) {
            self.global(id, message, out);
            return;
        }
        let atoms = &mut self.atoms;
        let Some(process) = self.processes.get(to) else { return };
        let pid = process.pid.clone();
        let answer = match &mut process.role {
            Role::NetKernel => called(message, &pid, atoms, net_kernel::call),
            Role::Rex => rpc::message(&message, &pid, atoms)
                .or_else(|| called(message, &pid, atoms, |_, _| Some(rpc::refusal()))),
            Role::Behaviour(behaviour) => {
                called(message, &pid, atoms, |request, atoms| Some(Raw::encode(&behaviour.call(request, atoms))))
            }
            Role::Scope(name) => {
                let name = name.clone();
                return self.pg(now, id, &name, message, out);
            }
        };
        if let Some((control, answer)) = answer {
            out.push(Effect::Signal(id, control, Some(answer)));
        }
    }

    fn global(&mut self, id: LinkId, message: Raw, out: &mut Vec<Effect>) {
        let Message::Cast(request) = gen_server::parse(message, &mut self.atoms) else {
            return;
        };
        let Ok(init) = global::init_connect(&request, &mut self.atoms) else {
            return;
        };
        self.greet_global(id, out);
        let others: usize = self.known.iter().filter(|(link, _)| **link != id).map(|(_, known)| known.len()).sum();
        let known = init.known.into_iter().filter(|name| *name != self.name);
        self.known.insert(id, known.take(limits::KNOWN_NODES.saturating_sub(others)).collect());
        self.changed = true;
    }

    fn pg(&mut self, now: Now, id: LinkId, scope: &Atom, message: Raw, out: &mut Vec<Effect>) {
        let (Some(scope), Some(link)) = (self.scopes.get_mut(scope), self.links.get(&id)) else {
            return;
        };
        let mut signals = Vec::new();
        let mut new_reference = || self.processes.new_reference();
        match scope.message(id, &link.atom, message, &mut new_reference, &mut self.atoms, &mut signals) {
            Ok(changed) => self.changed |= changed,
            Err(e) => self.close(now, id, e.to_string(), out),
        }
        push(signals, out);
    }

    /// A call that waits for an answer of this very peer.
    fn take_call(&mut self, id: LinkId, request: &Reference) -> Option<PendingCall> {
        if self.calls.get(request)?.link == id { self.calls.remove(request) } else { None }
    }

    fn monitor_exit(&mut self, id: LinkId, reference: &Reference, reason: &Raw, out: &mut Vec<Effect>) {
        if let Some(call) = self.take_call(id, reference) {
            let result = rpc::result(reference, reason, &mut self.atoms);
            out.push(Effect::Result(call.token, result));
            return;
        }
        for scope in self.scopes.values_mut() {
            self.changed |= scope.monitor_down(id, reference);
        }
    }

    // ---- What our own side asks for -----------------------------------------------------------------

    fn spawn(
        &mut self,
        name: Option<Atom>,
        behaviour: Box<dyn Behaviour>,
        groups: &[Term],
        out: &mut Vec<Effect>,
    ) -> Pid {
        let pid = self.processes.spawn(Role::Behaviour(behaviour));
        if let Some(name) = name {
            self.processes.register(name, pid.clone());
        }
        let mut signals = Vec::new();
        for scope in self.scopes.values_mut() {
            for group in groups {
                scope.join(group.canonical(), &Raw::encode(group), &pid, &mut signals);
            }
        }
        push(signals, out);
        pid
    }

    fn exit(&mut self, pid: &Pid, reason: &Raw, out: &mut Vec<Effect>) {
        let Some(process) = self.processes.end(pid) else { return };
        let mut signals: pg::Signals = Vec::new();
        for scope in self.scopes.values_mut() {
            scope.process_down(pid, &mut signals);
        }
        push(signals, out);
        let Process { watchers, links, .. } = process;
        for ((link, reference), Watcher { pid: to, watched }) in watchers {
            self.untie(link, 1);
            let control = Control::MonitorExit { from: watched, to, reference, reason: reason.clone() };
            out.push(Effect::Signal(link, control, None));
        }
        for (link, to) in links {
            self.untie(link, 1);
            let control = Control::Exit { from: pid.clone(), to, reason: reason.clone() };
            out.push(Effect::Signal(link, control, None));
        }
    }

    fn call(&mut self, now: Now, node: &Arc<str>, function: &Function, token: Option<Token>, out: &mut Vec<Effect>) {
        let mut refuse = |why| out.extend(token.map(|token| Effect::Result(token, Err(why))));
        let Some(&link) = self.by_name.get(node) else {
            return refuse(CallError::NoConnection);
        };
        if token.is_some() && self.calls.len() >= limits::CALLS {
            return refuse(CallError::TooMany);
        }
        let Some(from) = self.processes.whereis(net_kernel::NAME).cloned() else {
            return refuse(CallError::NoConnection);
        };
        let request = self.processes.new_reference();
        let (control, args) = match token {
            Some(_) => rpc::call(&request, &from, function),
            None => rpc::cast(&request, &from, function),
        };
        if let Some(token) = token {
            let deadline = now.instant + limits::CALL_TIME;
            self.calls.insert(request, PendingCall { link, token, deadline });
        }
        out.push(Effect::Signal(link, control, Some(args)));
    }

    fn expire_calls(&mut self, now: Now, out: &mut Vec<Effect>) {
        let late = self.calls.extract_if(|_, call| call.deadline <= now.instant);
        out.extend(late.map(|(_, call)| Effect::Result(call.token, Err(CallError::TimedOut))));
    }
}

/// The term that a payload consists of.
fn term(payload: &Bytes, atoms: &mut Atoms) -> Result<Raw, DecodeError> {
    let mut r = Reader::with_version(payload, atoms)?;
    let message = r.raw()?;
    r.finish()?;
    Ok(message)
}

fn push(signals: pg::Signals, out: &mut Vec<Effect>) {
    out.extend(signals.into_iter().map(|(link, control, payload)| Effect::Signal(link, control, payload)));
}

/// The answer of a server to a message: calls are answered where `answer` has one, all else is dropped.
fn called(
    message: Raw,
    ours: &Pid,
    atoms: &mut Atoms,
    answer: impl FnOnce(&Raw, &mut Atoms) -> Option<Raw>,
) -> Option<(Control, Raw)> {
    match gen_server::parse(message, atoms) {
        Message::Call(from, request) => Some(gen_server::reply(&from, ours, &answer(&request, atoms)?)),
        Message::Cast(_) | Message::Info(_) => None,
    }
}

#[cfg(test)]
mod tests;
