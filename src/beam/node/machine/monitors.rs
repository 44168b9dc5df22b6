//! Monitors of peers' processes, and links and messages to them. Pure.

use super::*;

/// One of our monitors.
#[derive(Debug)]
struct Monitor {
    link: LinkId,
    to: Proc,
    token: Token,
}

/// The monitors, by reference and by token.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    monitors: HashMap<Reference, Monitor>,
    references: HashMap<Token, Reference>,
}

impl Monitors {
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn len(&self) -> usize {
        self.monitors.len()
    }

    fn insert(&mut self, reference: Reference, monitor: Monitor) {
        self.references.insert(monitor.token, reference.clone());
        self.monitors.insert(reference, monitor);
    }

    fn remove(&mut self, reference: &Reference) -> Option<Monitor> {
        let monitor = self.monitors.remove(reference)?;
        self.references.remove(&monitor.token);
        Some(monitor)
    }

    /// Removes the monitors over a connection, and returns their tokens.
    fn take_by_link(&mut self, link: LinkId) -> Vec<Token> {
        let lost = self.monitors.iter().filter(|(_, monitor)| monitor.link == link);
        let lost: Vec<Reference> = lost.map(|(reference, _)| reference.clone()).collect();
        lost.iter().filter_map(|reference| self.remove(reference)).map(|monitor| monitor.token).collect()
    }
}

impl Machine {
    /// Sends a message to a process of a peer. As with `!`, the sender does not learn whether it
    /// arrives.
    pub(super) fn send(&self, to: Address, message: Iovec, token: Token, out: &mut Vec<NodeEffect>) {
        let (node, to) = to.into_parts();
        let result = self.route_to(node.as_str(), false).map(|(link, from)| {
            let control = match to {
                Proc::Pid(to) => Control::Send { from: Some(from), to },
                Proc::Name(to) => Control::SendName { from, to },
            };
            out.push(NodeEffect::Signal(link, control, Some(message)));
            Raw::encode(&Term::atom("ok"))
        });
        out.push(NodeEffect::Result(token, result));
    }

    /// Monitors a process of a peer. The monitor fires with `noconnection` when the connection
    /// ends, or at once if the node is not connected.
    pub(super) fn monitor_peer(&mut self, to: Address, token: Token, out: &mut Vec<NodeEffect>) {
        let (node, to) = to.into_parts();
        let Ok((link, from)) = self.route_to(node.as_str(), false) else {
            out.push(NodeEffect::Down(token, no_connection()));
            return;
        };
        let reference = self.processes.new_reference();
        let control = Control::Monitor { from, to: to.clone(), reference: reference.clone() };
        out.push(NodeEffect::Signal(link, control, None));
        self.monitors.insert(reference, Monitor { link, to, token });
    }

    pub(super) fn demonitor_peer(&mut self, token: Token, out: &mut Vec<NodeEffect>) {
        let Some(reference) = self.monitors.references.get(&token).cloned() else { return };
        let Some(Monitor { link, to, .. }) = self.monitors.remove(&reference) else { return };
        if let Some(from) = self.processes.whereis(net_kernel::NAME).cloned() {
            out.push(NodeEffect::Signal(link, Control::Demonitor { from, to, reference }, None));
        }
    }

    /// Fires our monitor of a process of this peer. Returns whether there was one.
    pub(super) fn fire_monitor(
        &mut self,
        id: LinkId,
        reference: &Reference,
        reason: &Raw,
        out: &mut Vec<NodeEffect>,
    ) -> bool {
        // Another peer cannot end this monitor.
        if self.monitors.monitors.get(reference).is_none_or(|monitor| monitor.link != id) {
            return false;
        }
        out.extend(self.monitors.remove(reference).map(|monitor| NodeEffect::Down(monitor.token, reason.detached())));
        true
    }

    /// Fires our monitors over a connection that has ended.
    pub(super) fn fire_monitors_of_link(&mut self, id: LinkId, out: &mut Vec<NodeEffect>) {
        out.extend(self.monitors.take_by_link(id).into_iter().map(|token| NodeEffect::Down(token, no_connection())));
    }
}

// ---- Links ----------------------------------------------------------------------------------

impl Machine {
    /// Links one of our processes to a process of a peer.
    pub(super) fn link_to(&mut self, now: Now, process: ProcessId, to: Pid, out: &mut Vec<NodeEffect>) {
        let Some(ours) = self.processes.pid(process).cloned() else { return };
        let Ok((link, _)) = self.route_to(to.node.as_str(), false) else {
            let from = Source { node: to.node.clone(), connection: 0 };
            return self.exit_signal(&from, ours, &to, &no_connection());
        };
        if let Some(process) = self.processes.get(&Proc::Pid(ours.clone())) {
            process.links.insert((link, to.clone()));
        }
        out.push(NodeEffect::Signal(link, Control::Link { from: ours.clone(), to: to.clone() }, None));
        self.tie(now, link, |ties| ties.link(ours, to), out);
    }

    /// Passes an exit signal to one of our processes, which trap exits, as a message.
    pub(super) fn exit_signal(&mut self, from: &Source, ours: Pid, theirs: &Pid, reason: &Raw) {
        let Some(process) = self.processes.get(&Proc::Pid(ours)) else { return };
        let Role::Behaviour(behaviour) = &mut process.role else { return };
        let message = Raw::build(|w| {
            w.tuple(3).atom("EXIT").pid(theirs);
            // As in other messages, larger terms are not decoded.
            if reason.bytes().len() > limits::CALL_ARGUMENTS {
                w.atom("too_large");
            } else {
                w.raw(reason);
            }
        });
        behaviour.message(&message, from, &mut self.atoms);
    }
}

pub(super) fn no_connection() -> Raw {
    Raw::encode(&Term::atom("noconnection"))
}
