//! Operations of the program: spawns and ends processes, publishes messages and calls peers. Pure.

use super::*;

impl Machine {
    pub(super) fn spawn(
        &mut self,
        name: Option<Atom>,
        behaviour: Box<dyn Behaviour>,
        groups: Vec<Term>,
        out: &mut Vec<NodeEffect>,
    ) -> ProcessId {
        let process = self.processes.spawn(Role::Behaviour(behaviour), name, groups.clone());
        let (id, pid) = (process.id, process.pid.clone());
        self.join(&pid, &groups, out);
        id
    }

    fn join(&mut self, pid: &Pid, groups: &[Term], out: &mut Vec<NodeEffect>) {
        let mut signals = Vec::new();
        for scope in self.scopes.values_mut() {
            for group in groups {
                scope.join(group.canonical(), &Raw::encode(group), pid, &mut signals);
            }
        }
        push(signals, out);
    }

    /// Sends a message once to each process of a peer that is in a group, in any scope. At most
    /// [`limits::PG_RECEIVERS`] of each peer and scope receive it.
    pub(super) fn publish(&self, group: &pg::Key, message: Iovec, out: &mut Vec<NodeEffect>) {
        let mut members: Vec<(LinkId, &Pid)> = self.scopes.values().flat_map(|scope| scope.receivers(group)).collect();
        members.sort_unstable();
        members.dedup();
        // `repeat_n` moves the message into the last effect instead of cloning it.
        let messages = std::iter::repeat_n(message, members.len());
        let send = |((link, pid), message): ((LinkId, &Pid), _)| {
            NodeEffect::Signal(link, Control::Send { from: None, to: pid.clone() }, Some(message))
        };
        out.extend(members.into_iter().zip(messages).map(send));
    }

    /// Ends a process: it leaves its groups, and its monitors and links get signals.
    pub(super) fn exit(&mut self, pid: &Pid, reason: &Raw, out: &mut Vec<NodeEffect>) -> Option<Process> {
        let mut process = self.processes.end(pid)?;
        let mut signals: pg::Signals = Vec::new();
        for scope in self.scopes.values_mut() {
            scope.process_down(pid, &mut signals);
        }
        push(signals, out);
        self.signal_end(&mut process, reason, out);
        Some(process)
    }

    /// Ends a process and starts it again, as a supervisor would.
    pub(super) fn restart(&mut self, pid: &Pid, reason: &Raw, out: &mut Vec<NodeEffect>) {
        let Some(ended) = self.exit(pid, reason, out) else { return };
        let process = self.processes.respawn(ended);
        let (pid, groups) = (process.pid.clone(), process.groups.clone());
        if let Role::Scope(name) = &process.role
            && let Some(scope) = self.scopes.get_mut(name)
        {
            let published = self.links.iter().filter(|(_, link)| link.published).map(|(id, _)| *id);
            let mut signals = Vec::new();
            self.changed |= scope.restart(pid.clone(), name, published, &mut signals);
            push(signals, out);
        }
        self.join(&pid, &groups, out);
    }

    pub(super) fn call(
        &mut self,
        now: Now,
        node: &NodeName,
        function: &Function,
        token: Option<Token>,
        out: &mut Vec<NodeEffect>,
    ) {
        let (link, from) = match self.route_to(node, token.is_some()) {
            Ok(route) => route,
            Err(why) => return out.extend(token.map(|token| NodeEffect::Result(token, Err(why)))),
        };
        let request = self.processes.new_reference();
        let (control, args) = match token {
            Some(_) => rpc::call(&request, &from, function),
            None => rpc::cast(&request, &from, function),
        };
        if let Some(token) = token {
            let deadline = now.instant + limits::CALL_TIME;
            self.calls.insert(request, PendingCall { link, token, deadline, server: None });
        }
        out.push(NodeEffect::Signal(link, control, Some(args.into())));
    }

    pub(super) fn gen_call(
        &mut self,
        now: Now,
        node: &NodeName,
        name: &Atom,
        request: &Term,
        token: Token,
        out: &mut Vec<NodeEffect>,
    ) {
        let (link, from) = match self.route_to(node, true) {
            Ok(route) => route,
            Err(why) => return out.push(NodeEffect::Result(token, Err(why))),
        };
        let reference = self.processes.new_reference();
        let signals = gen_server::call(&reference, &from, name, request);
        out.extend(signals.map(|(control, payload)| NodeEffect::Signal(link, control, payload.map(Iovec::from))));
        let deadline = now.instant + limits::CALL_TIME;
        self.calls.insert(reference, PendingCall { link, token, deadline, server: Some(name.clone()) });
    }

    /// Returns the connection to a node and the pid that sends signals over it. `waits` is whether
    /// the program waits for a result.
    ///
    /// # Errors
    /// [`CallError::NoConnection`], and [`CallError::TooMany`] if `waits` and too many calls wait.
    pub(super) fn route_to(&self, node: &str, waits: bool) -> Result<(LinkId, Pid), CallError> {
        let link = self.by_name.get(node).ok_or(CallError::NoConnection)?;
        if waits && self.calls.len() >= limits::CALLS {
            return Err(CallError::TooMany);
        }
        let from = self.processes.whereis(net_kernel::NAME).ok_or(CallError::NoConnection)?;
        Ok((*link, from.clone()))
    }

    /// Handles a message that may be the answer to one of our calls.
    pub(super) fn call_answered(&mut self, id: LinkId, message: &Raw, out: &mut Vec<NodeEffect>) {
        let Ok((reference, value)) = gen_server::answer(message, &mut self.atoms) else { return };
        if self.calls.get(&reference).is_some_and(|call| call.server.is_some())
            && let Some(call) = self.take_call(id, &reference)
        {
            out.extend(self.demonitor_call(&reference, &call));
            out.push(NodeEffect::Result(call.token, Ok(value)));
        }
    }

    /// Returns the signal that removes the monitor of a call that has ended.
    fn demonitor_call(&self, reference: &Reference, call: &PendingCall) -> Option<NodeEffect> {
        let from = self.processes.whereis(net_kernel::NAME)?.clone();
        let to = Proc::Name(call.server.clone()?);
        Some(NodeEffect::Signal(call.link, Control::Demonitor { from, to, reference: reference.clone() }, None))
    }

    /// Removes and returns a call that waits for this peer.
    pub(super) fn take_call(&mut self, id: LinkId, request: &Reference) -> Option<PendingCall> {
        if self.calls.get(request)?.link == id { self.calls.remove(request) } else { None }
    }

    pub(super) fn expire_calls(&mut self, now: Now, out: &mut Vec<NodeEffect>) {
        for (reference, call) in self.calls.take_expired(now.instant) {
            out.extend(self.demonitor_call(&reference, &call));
            out.push(NodeEffect::Result(call.token, Err(CallError::TimedOut)));
        }
    }
}
