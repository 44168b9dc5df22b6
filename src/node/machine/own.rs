//! What our own side asks of the node: processes, their end, calls to peers. Pure.

use super::*;

impl Machine {
    pub(super) fn spawn(
        &mut self,
        name: Option<Atom>,
        behaviour: Box<dyn Behaviour>,
        groups: Vec<Term>,
        out: &mut Vec<Effect>,
    ) -> ProcessId {
        let process = self.processes.spawn(Role::Behaviour(behaviour), name, groups.clone());
        let (id, pid) = (process.id, process.pid.clone());
        self.join(&pid, &groups, out);
        id
    }

    fn join(&mut self, pid: &Pid, groups: &[Term], out: &mut Vec<Effect>) {
        let mut signals = Vec::new();
        for scope in self.scopes.values_mut() {
            for group in groups {
                scope.join(group.canonical(), &Raw::encode(group), pid, &mut signals);
            }
        }
        push(signals, out);
    }

    /// Sends a message to each process of a peer that is in a group, once, in however many scopes and however often it
    /// joined.
    pub(super) fn publish(&self, group: &Term, message: &Term, out: &mut Vec<Effect>) {
        let (key, message) = (group.canonical(), Raw::encode(message));
        let members: HashSet<(LinkId, &Pid)> =
            self.scopes.values().flat_map(|scope| scope.remote_members(&key)).collect();
        let send = |(link, pid): (LinkId, &Pid)| {
            Effect::Signal(link, Control::Send { from: None, to: pid.clone() }, Some(message.clone()))
        };
        out.extend(members.into_iter().map(send));
    }

    /// Ends a process: its groups, monitors and links are told.
    pub(super) fn exit(&mut self, pid: &Pid, reason: &Raw, out: &mut Vec<Effect>) -> Option<Process> {
        let mut process = self.processes.end(pid)?;
        let mut signals: pg::Signals = Vec::new();
        for scope in self.scopes.values_mut() {
            scope.process_down(pid, &mut signals);
        }
        push(signals, out);
        for ((link, reference), Watcher { pid: to, watched }) in process.watchers.drain() {
            self.untie(link, 1);
            let control = Control::MonitorExit { from: watched, to, reference, reason: reason.clone() };
            out.push(Effect::Signal(link, control, None));
        }
        for (link, to) in process.links.drain() {
            self.untie(link, 1);
            let control = Control::Exit { from: pid.clone(), to, reason: reason.clone() };
            out.push(Effect::Signal(link, control, None));
        }
        Some(process)
    }

    /// Ends a life of a process and begins the next, as its supervisor would.
    pub(super) fn restart(&mut self, pid: &Pid, reason: &Raw, out: &mut Vec<Effect>) {
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
        node: &Arc<str>,
        function: &Function,
        token: Option<Token>,
        out: &mut Vec<Effect>,
    ) {
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

    /// A call that waits for an answer of this very peer.
    pub(super) fn take_call(&mut self, id: LinkId, request: &Reference) -> Option<PendingCall> {
        if self.calls.get(request)?.link == id { self.calls.remove(request) } else { None }
    }

    pub(super) fn expire_calls(&mut self, now: Now, out: &mut Vec<Effect>) {
        let late = self.calls.extract_if(|_, call| call.deadline <= now.instant);
        out.extend(late.map(|(_, call)| Effect::Result(call.token, Err(CallError::TimedOut))));
    }
}
