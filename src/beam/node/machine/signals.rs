//! Signals from peers to our processes: messages, monitors, links and exits. Pure.

use super::*;
use crate::node::services::{global_group, sys};

/// A callback of a process that returns no answer.
type Callback = fn(&mut dyn Behaviour, &Raw, &Source, &mut Atoms);

impl Machine {
    pub(super) fn control(
        &mut self,
        now: Now,
        id: LinkId,
        control: Control,
        content: Option<Content>,
        out: &mut Vec<NodeEffect>,
    ) {
        match control {
            Control::Send { to, .. } => self.message(now, id, &Proc::Pid(to), content, out),
            Control::SendName { to, .. } => self.message(now, id, &Proc::Name(to), content, out),
            Control::Monitor { from, to, reference } => self.monitor(now, id, from, to, reference, out),
            Control::Demonitor { reference, .. } => self.demonitor(id, reference),
            Control::Link { from, to } => match self.processes.get(&Proc::Pid(to.clone())) {
                Some(process) => {
                    process.links.insert((id, from.clone()));
                    self.tie(now, id, |ties| ties.link(to, from), out);
                }
                None => {
                    let reason = Raw::encode(&Term::atom("noproc"));
                    out.push(NodeEffect::Signal(id, Control::Exit { from: to, to: from, reason }, None));
                }
            },
            Control::Unlink { id: unlink, from, to } => {
                self.unlink(id, &from, &to);
                if let Some(unlink) = unlink {
                    out.push(NodeEffect::Signal(id, Control::UnlinkAck { id: unlink, from: to, to: from }, None));
                }
            }
            // Our processes trap exits, so they survive the end of a linked process.
            Control::Exit { from, to, reason } => {
                if self.unlink(id, &from, &to) {
                    let source = Source { node: from.node.clone(), connection: id.0 };
                    self.exit_signal(&source, to, &from, &reason);
                }
            }
            // `exit/2`: our processes trap exits, so only `kill` ends one, with the reason
            // `killed`.
            Control::Exit2 { to, reason, .. } => {
                if Reader::resume(&reason, 0, &mut self.atoms).expect_atom("kill").is_ok() {
                    self.restart(&to, &Raw::encode(&Term::atom("killed")), out);
                }
            }
            Control::MonitorExit { reference, reason, .. } => self.monitor_exit(id, &reference, &reason, out),
            Control::SpawnReply { request, result: Err(why), .. } => {
                if let Some(call) = self.take_call(id, &request) {
                    out.push(NodeEffect::Result(call.token, Err(CallError::Refused(why))));
                }
            }
            Control::SpawnRequest { request, from, new } => {
                let NewProcess { module, function, arity, options, .. } = *new;
                let spawn = SpawnRequest { request, from, module, function, arity, options };
                self.spawn_request(id, spawn, content, out);
            }
            // These need no action: this node creates no aliases and does not wait for these
            // answers.
            Control::SendAlias { .. } | Control::UnlinkAck { .. } | Control::SpawnReply { result: Ok(_), .. } => {}
        }
    }

    fn monitor(&mut self, now: Now, id: LinkId, from: Pid, to: Proc, reference: Reference, out: &mut Vec<NodeEffect>) {
        match self.processes.get(&to) {
            Some(process) => {
                let (watcher, pid) = (Watcher { pid: from.clone(), watched: to }, process.pid.clone());
                process.watchers.insert((id, reference.clone()), watcher);
                let monitor = |ties: &mut Ties| ties.monitor(reference.clone(), &from, pid.clone());
                let before = self.tie(now, id, monitor, out).flatten();
                // A reference identifies one monitor, so the earlier one ends.
                if let Some(process) =
                    before.filter(|before| *before != pid).and_then(|pid| self.processes.get(&Proc::Pid(pid)))
                {
                    process.watchers.remove(&(id, reference));
                }
            }
            None => {
                let reason = Raw::encode(&Term::atom("noproc"));
                out.push(NodeEffect::Signal(id, Control::MonitorExit { from: to, to: from, reference, reason }, None));
            }
        }
    }

    /// Removes a monitor. Only the reference counts (`DOP_DEMONITOR_P` in ERTS' `dist.c`), because
    /// another process may have taken over the name.
    fn demonitor(&mut self, id: LinkId, reference: Reference) {
        let watched = self.links.get_mut(&id).and_then(|link| link.ties.demonitor(reference.clone()));
        if let Some(process) = watched.and_then(|pid| self.processes.get(&Proc::Pid(pid))) {
            process.watchers.remove(&(id, reference));
        }
    }

    /// Returns whether there was a link.
    fn unlink(&mut self, id: LinkId, from: &Pid, to: &Pid) -> bool {
        if let Some(process) = self.processes.get(&Proc::Pid(to.clone())) {
            process.links.remove(&(id, from.clone()));
        }
        self.links.get_mut(&id).is_some_and(|link| link.ties.unlink(to.clone(), from.clone()))
    }

    /// Changes the monitors and links of a peer, and closes its connection if they exceed the
    /// limit.
    pub(super) fn tie<T>(
        &mut self,
        now: Now,
        id: LinkId,
        tie: impl FnOnce(&mut Ties) -> T,
        out: &mut Vec<NodeEffect>,
    ) -> Option<T> {
        let link = self.links.get_mut(&id)?;
        let result = tie(&mut link.ties);
        if link.ties.len() > limits::TIES {
            let reason = format!("too many monitors and links from the peer (limit {})", limits::TIES);
            self.close(now, id, PeerReason::limit(reason), out);
        }
        Some(result)
    }

    fn message(&mut self, now: Now, id: LinkId, to: &Proc, content: Option<Content>, out: &mut Vec<NodeEffect>) {
        let (error, from, is_large) = match content {
            Some(Content::Message(message)) => return self.deliver(now, id, to, message, out),
            // Only a spawn request has arguments.
            Some(Content::Arguments(_)) => return,
            Some(Content::Unreadable { error, from, is_large }) => (error, from, is_large),
            None => (DecodeError::Truncated, None, false),
        };
        if !matches!(error, DecodeError::TooDeep | DecodeError::TooManyNodes) {
            let reason = format!("the peer sent a message that is not a valid term: {error}");
            self.close(now, id, PeerReason::protocol(reason), out);
            return;
        }
        // The message is valid in Erlang but exceeds our limits. Only this message is dropped, and
        // a waiting caller gets an answer.
        out.push(NodeEffect::Dropped(id, error));
        let Some(process) = self.processes.get(to) else { return };
        if let Some(from) = from {
            let answer = if is_large { gen_server::too_large() } else { gen_server::refusal() };
            let (control, message) = gen_server::reply(&from, &process.pid, &answer);
            out.push(NodeEffect::Signal(id, control, Some(message.into())));
        } else if matches!(process.role, Role::Scope(_)) && error == DecodeError::TooManyNodes {
            // The groups would stay unknown, so the connection is closed, as for too many members.
            let most = limits::TERM_NODES;
            let reason = format!("the peer's pg scope sent a message with too many elements (limit {most})");
            self.close(now, id, PeerReason::limit(reason), out);
        }
    }

    pub(super) fn deliver(&mut self, now: Now, id: LinkId, to: &Proc, message: Message, out: &mut Vec<NodeEffect>) {
        if matches!(to, Proc::Name(name) if *name == *global::NAME) {
            self.global(id, message, out);
            return;
        }
        let Some(process) = self.processes.get(to) else { return };
        let pid = process.pid.clone();
        if let Message::System(from, request) = message {
            self.system(id, &pid, &from, &request, out);
            return;
        }
        if let Message::Foreign(foreign) = message {
            let (control, message) = gen_server::decline(&foreign, &pid);
            out.push(NodeEffect::Signal(id, control, Some(message.into())));
            return;
        }
        match (&process.role, message) {
            (Role::Rex, message) => self.rex(now, id, &pid, message, out),
            (Role::Scope(name), Message::Cast(request)) => {
                let name = name.clone();
                self.pg(now, id, &name, Message::Cast(request), out);
            }
            (Role::Scope(name), Message::Info(message)) => {
                let name = name.clone();
                self.pg(now, id, &name, Message::Info(message), out);
            }
            (Role::GlobalGroup, Message::Cast(request)) => {
                if let Ok((control, answer)) = global_group::cast(&request, &pid, &mut self.atoms) {
                    out.push(NodeEffect::Signal(id, control, Some(answer.into())));
                }
            }
            (_, Message::Call(from, request)) => self.server_call(id, pid, from, &request, out),
            // `net_kernel` is the caller of our calls, so it receives the answers.
            (Role::NetKernel, Message::Info(message)) => self.call_answered(id, &message, out),
            (Role::Behaviour(_), Message::Info(message)) => {
                self.run_callback(id, to, &message, |process, message, from, atoms| {
                    process.message(message, from, atoms)
                });
            }
            (Role::Behaviour(_), Message::Cast(request)) => {
                self.run_callback(id, to, &request, |process, request, from, atoms| process.cast(request, from, atoms));
            }
            (Role::NetKernel, Message::Cast(_))
            | (Role::GlobalGroup, Message::Info(_))
            | (_, Message::System(..) | Message::Foreign(_)) => {}
        }
    }

    /// Runs a callback of the process `to`, if the message is not too large.
    fn run_callback(&mut self, id: LinkId, to: &Proc, message: &Raw, callback: Callback) {
        let (Some(link), Some(process)) = (self.links.get(&id), self.processes.get(to)) else { return };
        if message.bytes().len() > limits::CALL_ARGUMENTS {
            return;
        }
        let from = Source { node: link.atom.clone(), connection: id.0 };
        if let Role::Behaviour(behaviour) = &mut process.role {
            callback(&mut **behaviour, message, &from, &mut self.atoms);
        }
    }

    /// Handles a `gen_server:call`. Every call is answered.
    fn server_call(&mut self, id: LinkId, pid: Pid, from: gen_server::From, request: &Raw, out: &mut Vec<NodeEffect>) {
        let caller = self.next_caller(id);
        let Some(process) = self.processes.get(&Proc::Pid(pid.clone())) else { return };
        let answer = match (&mut process.role, caller) {
            (Role::Behaviour(_) | Role::NetKernel, _) if request.bytes().len() > limits::CALL_ARGUMENTS => {
                gen_server::too_large()
            }
            (Role::Behaviour(_), None) => too_many_calls(),
            (Role::Behaviour(behaviour), Some(caller)) => match behaviour.call(request, &caller, &mut self.atoms) {
                Answer::Now(answer) => Raw::encode(&answer),
                Answer::Later => {
                    self.served.insert(caller.call, ServedCall { link: id, reply: ReplyTo::Server(from, pid) });
                    return;
                }
            },
            (Role::NetKernel, _) => net_kernel::call(request, &pid.node, self.tick_time, &mut self.atoms)
                .unwrap_or_else(gen_server::refusal),
            (Role::Rex | Role::GlobalGroup | Role::Scope(_), _) => gen_server::refusal(),
        };
        let (control, message) = gen_server::reply(&from, &pid, &answer);
        out.push(NodeEffect::Signal(id, control, Some(message.into())));
    }

    /// Handles a system message, which is always answered (see [`sys`]).
    fn system(&mut self, id: LinkId, pid: &Pid, from: &gen_server::From, request: &Raw, out: &mut Vec<NodeEffect>) {
        let Some(process) = self.processes.get(&Proc::Pid(pid.clone())) else { return };
        let name = process.name.clone().map_or_else(|| Term::Pid(pid.clone()), Term::Atom);
        let state = match &process.role {
            Role::Behaviour(behaviour) => behaviour.state(),
            Role::NetKernel | Role::Rex | Role::GlobalGroup | Role::Scope(_) => name.clone(),
        };
        let request = sys::parse(request, &mut self.atoms);
        let answer = match &request {
            sys::SystemMessage::State => sys::state(state),
            sys::SystemMessage::Status => sys::status(pid, &name, state),
            sys::SystemMessage::Terminate(_) => Raw::encode(&Term::atom("ok")),
            sys::SystemMessage::Answered(answer) => answer.clone(),
        };
        let (control, message) = gen_server::reply(from, pid, &answer);
        out.push(NodeEffect::Signal(id, control, Some(message.into())));
        if let sys::SystemMessage::Terminate(reason) = request {
            self.restart(pid, &reason, out);
        }
    }

    fn global(&mut self, id: LinkId, message: Message, out: &mut Vec<NodeEffect>) {
        let Message::Cast(request) = message else { return };
        let Ok(init) = global::init_connect(&request, &mut self.atoms) else { return };
        if !self.hidden {
            self.send_in_sync(id, out);
        }
        self.known_size -= self.known.remove(&id).map_or(0, |known| known.len());
        let known = init.known.into_iter().filter(|name| *name != self.name);
        let known: BTreeSet<_> = known.take(limits::KNOWN_NODES.saturating_sub(self.known_size)).collect();
        self.known_size += known.len();
        self.known.insert(id, known);
        self.changed = true;
    }

    fn pg(&mut self, now: Now, id: LinkId, name: &Atom, message: Message, out: &mut Vec<NodeEffect>) {
        let (Some(scope), Some(link)) = (self.scopes.get_mut(name), self.links.get(&id)) else {
            return;
        };
        let mut signals = Vec::new();
        let mut new_reference = || self.processes.new_reference();
        let result = scope.message(id, &link.atom, message, &mut new_reference, &mut self.atoms, &mut signals);
        let is_working = scope.is_working(id);
        match result {
            Ok(changed) => {
                self.changed |= changed;
                if is_working {
                    self.wait_for(id, name.clone());
                }
            }
            Err(e) => self.close(now, id, PeerReason::limit(e), out),
        }
        push(signals, out);
    }

    fn monitor_exit(&mut self, id: LinkId, reference: &Reference, reason: &Raw, out: &mut Vec<NodeEffect>) {
        if let Some(call) = self.take_call(id, reference) {
            let result = match call.server {
                Some(_) => Err(CallError::NoProcess),
                None => rpc::result(reference, reason, &mut self.atoms),
            };
            out.push(NodeEffect::Result(call.token, result));
            return;
        }
        if self.fire_monitor(id, reference, reason, out) {
            return;
        }
        for scope in self.scopes.values_mut() {
            self.changed |= scope.monitor_down(id, reference);
        }
    }
}

/// Returns the answer `{error, {system_limit, Detail}}`.
fn too_many_calls() -> Raw {
    let detail = Term::binary("too many calls wait for answers; try again later");
    let why = Term::tuple([Term::atom("system_limit"), detail]);
    Raw::encode(&Term::tuple([Term::atom("error"), why]))
}
