//! What peers tell our processes: messages, monitors, links, exits, spawn requests and replies. Pure.

use super::*;

impl Machine {
    pub(super) fn control(
        &mut self,
        now: Now,
        id: LinkId,
        control: Control,
        payload: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) {
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

    pub(super) fn monitor(
        &mut self,
        now: Now,
        id: LinkId,
        from: Pid,
        to: Proc,
        reference: Reference,
        out: &mut Vec<Effect>,
    ) {
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

    pub(super) fn tie(&mut self, now: Now, id: LinkId, count: usize, out: &mut Vec<Effect>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.ties += count;
        if link.ties > limits::TIES {
            let reason = format!("the peer has more than {} monitors and links to us", limits::TIES);
            self.close(now, id, reason, out);
        }
    }

    pub(super) fn untie(&mut self, id: LinkId, count: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.ties = link.ties.saturating_sub(count);
        }
    }

    pub(super) fn message(&mut self, now: Now, id: LinkId, to: &Proc, payload: Option<Bytes>, out: &mut Vec<Effect>) {
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

    pub(super) fn global(&mut self, id: LinkId, message: Raw, out: &mut Vec<Effect>) {
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

    pub(super) fn pg(&mut self, now: Now, id: LinkId, scope: &Atom, message: Raw, out: &mut Vec<Effect>) {
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
    pub(super) fn take_call(&mut self, id: LinkId, request: &Reference) -> Option<PendingCall> {
        if self.calls.get(request)?.link == id { self.calls.remove(request) } else { None }
    }

    pub(super) fn monitor_exit(&mut self, id: LinkId, reference: &Reference, reason: &Raw, out: &mut Vec<Effect>) {
        if let Some(call) = self.take_call(id, reference) {
            let result = rpc::result(reference, reason, &mut self.atoms);
            out.push(Effect::Result(call.token, result));
            return;
        }
        for scope in self.scopes.values_mut() {
            self.changed |= scope.monitor_down(id, reference);
        }
    }
}

/// The term that a payload consists of.
fn term(payload: &Bytes, atoms: &mut Atoms) -> Result<Raw, DecodeError> {
    let mut r = Reader::with_version(payload, atoms)?;
    let message = r.raw()?;
    r.finish()?;
    Ok(message)
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
