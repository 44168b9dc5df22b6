//! What our own side asks of the node: processes, their end, calls to peers. Pure.

use super::*;

impl Machine {
    pub(super) fn spawn(
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

    pub(super) fn exit(&mut self, pid: &Pid, reason: &Raw, out: &mut Vec<Effect>) {
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

    pub(super) fn expire_calls(&mut self, now: Now, out: &mut Vec<Effect>) {
        let late = self.calls.extract_if(|_, call| call.deadline <= now.instant);
        out.extend(late.map(|(_, call)| Effect::Result(call.token, Err(CallError::TimedOut))));
    }
}
