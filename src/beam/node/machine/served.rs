//! Calls from peers, by spawn requests and through `rex`, and answers that follow later. Pure.
//!
//! Every call is answered, either at once or by [`NodeInput::Answer`]. A call that waits is dropped
//! when its connection ends.

use super::*;
use crate::node::services::functions::{self, Known, Refused};
use crate::node::services::rpc::{Applied, Job, Outcome, Rex, RexCaller};

/// A spawn request without its arguments.
pub(super) struct SpawnRequest {
    pub(super) request: Reference,
    pub(super) from: Pid,
    pub(super) module: Atom,
    pub(super) function: Atom,
    pub(super) arity: u8,
    pub(super) options: Raw,
}

/// A call that is not answered yet.
pub(super) struct ServedCall {
    pub(super) link: LinkId,
    pub(super) reply: ReplyTo,
}

/// How a call is answered.
pub(super) enum ReplyTo {
    /// As the answer to a `gen_server:call` of this process.
    Server(gen_server::From, Pid),
    /// As the answer to a call of `rex`, whose process this is.
    Rex(RexCaller, Applied, Pid),
    /// As the exit reason of the process that was spawned for the call.
    Exit(Spawned),
}

/// A process that a peer has spawned and that runs one function. It exists only as this value, so
/// messages to it are dropped.
pub(super) struct Spawned {
    job: Job,
    pid: Pid,
    request: Reference,
    from: Pid,
    link: bool,
    monitor: bool,
}

impl Machine {
    /// Returns the caller for the next call over this connection, with a new [`CallId`]. Returns
    /// none if too many calls wait.
    pub(super) fn next_caller(&mut self, id: LinkId) -> Option<Caller> {
        let node = self.links.get(&id)?.atom.clone();
        if self.served.len() >= limits::SERVED {
            return None;
        }
        self.last_served += 1;
        Some(Caller { call: CallId(self.last_served), node })
    }

    pub(super) fn spawn_request(
        &mut self,
        id: LinkId,
        spawn: SpawnRequest,
        content: Option<Content>,
        out: &mut Vec<NodeEffect>,
    ) {
        let SpawnRequest { request, from, module, function, arity, options } = spawn;
        let job = match content {
            Some(Content::Arguments(args)) => Job::read((&module, &function, arity), &args, &mut self.atoms).ok(),
            _ => None,
        };
        let is_refused = functions::is_never_spawned(&module, &function);
        let job = match (job, rpc::ties(&options, &mut self.atoms)) {
            (Some(_), Some(_)) if is_refused => Err("undef"),
            (Some(job), Some(ties)) => Ok((job, ties)),
            // The arguments or options are invalid, but the caller is known and still answered.
            (None, _) => Err("notsup"),
            (_, None) => Err("badopt"),
        };
        let (job, (link, monitor)) = match job {
            Ok(job) => job,
            Err(why) => {
                let reply = Control::SpawnReply { request, to: from, flags: 0, result: Err(Atom::literal(why)) };
                out.push(NodeEffect::Signal(id, reply, None));
                return;
            }
        };
        let pid = self.processes.new_pid();
        let reply = Control::SpawnReply {
            request: request.clone(),
            to: from.clone(),
            flags: u32::from(link) | u32::from(monitor) << 1,
            result: Ok(pid.clone()),
        };
        out.push(NodeEffect::Signal(id, reply, None));
        let applied = job.applied.clone();
        let spawned = Spawned { job, pid, request, from, link, monitor };
        self.apply(id, &applied, ReplyTo::Exit(spawned), out);
    }

    pub(super) fn rex(&mut self, now: Now, id: LinkId, pid: &Pid, message: Message, out: &mut Vec<NodeEffect>) {
        let send = |to: Pid, message: Raw| {
            NodeEffect::Signal(id, Control::Send { from: Some(pid.clone()), to }, Some(message.into()))
        };
        match rpc::read(message, &mut self.atoms) {
            Rex::Call(caller, applied) => {
                let reply = ReplyTo::Rex(caller, applied.clone(), pid.clone());
                self.apply(id, &applied, reply, out);
            }
            Rex::Cast(applied) => {
                if let Some(caller) = self.next_caller(id) {
                    self.call_function(&applied, &caller);
                }
            }
            Rex::Features(from) => out.push(send(from, rpc::features(pid))),
            Rex::PassOn { from, confirm, name, message } => {
                let exists = self.processes.whereis(name.as_str()).is_some();
                if confirm || !exists {
                    out.push(send(from, rpc::passed_on(pid, &name, exists)));
                }
                // A message to `rex` itself is dropped, because each level of nesting would read it
                // again.
                if name == rpc::NAME {
                    return;
                }
                let message = gen_server::parse(message, &mut self.atoms);
                self.deliver(now, id, &Proc::Name(name), message, out);
            }
            Rex::Unknown(from) => {
                let (control, message) = gen_server::reply(&from, pid, &gen_server::refusal());
                out.push(NodeEffect::Signal(id, control, Some(message.into())));
            }
            Rex::Nothing => {}
        }
    }

    /// Applies a function for a peer. Answers at once, or keeps the call until its answer.
    fn apply(&mut self, id: LinkId, applied: &Applied, reply: ReplyTo, out: &mut Vec<NodeEffect>) {
        let outcome = match self.next_caller(id) {
            None => Outcome::NotTried("system_limit"),
            Some(caller) => match self.call_function(applied, &caller) {
                Some(outcome) => outcome,
                None => {
                    self.served.insert(caller.call, ServedCall { link: id, reply });
                    return;
                }
            },
        };
        answer(id, &reply, &outcome, out);
    }

    /// Calls a function. Returns `None` if the answer follows later.
    fn call_function(&mut self, applied: &Applied, caller: &Caller) -> Option<Outcome> {
        // No function of this node accepts arguments of this size.
        if applied.is_large() {
            return Some(Outcome::Error("undef"));
        }
        let Some((module, function, args)) = applied.resolve(&mut self.atoms) else {
            return Some(Outcome::NotTried("badarg"));
        };
        let published = || self.links.values().filter(|link| link.published).map(|link| link.atom.clone()).collect();
        let known = Known {
            nodes: &published,
            processes: &self.processes,
            program: self.program,
            tick_time: self.tick_time,
            memory: self.memory,
        };
        if let Some(answer) = known.call(&module, &function, &args) {
            return Some(match answer {
                Ok(value) => Outcome::Return(value),
                Err(Refused::BadArg) => Outcome::Error("badarg"),
                Err(Refused::Unknown) => Outcome::Error("notsup"),
                Err(Refused::NotTried) => Outcome::NotTried("notsup"),
            });
        }
        match self.functions.call(&module, &function, &args, caller) {
            None => Some(Outcome::Error("undef")),
            Some(Err(BadArg)) => Some(Outcome::Error("badarg")),
            Some(Ok(Answer::Now(value))) => Some(Outcome::Return(value)),
            Some(Ok(Answer::Later)) => None,
        }
    }

    /// Answers a call that waits. Does nothing if the call is unknown.
    pub(super) fn answer_call(&mut self, call: CallId, value: Term, out: &mut Vec<NodeEffect>) {
        if let Some(ServedCall { link, reply }) = self.served.remove(&call) {
            answer(link, &reply, &Outcome::Return(value), out);
        }
    }
}

fn answer(id: LinkId, reply: &ReplyTo, outcome: &Outcome, out: &mut Vec<NodeEffect>) {
    match reply {
        ReplyTo::Server(from, pid) => {
            if let Outcome::Return(value) = outcome {
                let (control, message) = gen_server::reply(from, pid, &Raw::encode(value));
                out.push(NodeEffect::Signal(id, control, Some(message.into())));
            }
        }
        ReplyTo::Rex(caller, applied, pid) => {
            let (control, message) = rpc::reply(caller, pid, &rpc::rex_answer(applied, outcome));
            out.push(NodeEffect::Signal(id, control, Some(message.into())));
        }
        ReplyTo::Exit(Spawned { job, pid, request, from, link, monitor }) => {
            let reason = job.exit_reason(outcome);
            if *monitor {
                let (ended, reference, reason) = (Proc::Pid(pid.clone()), request.clone(), reason.clone());
                let control = Control::MonitorExit { from: ended, to: from.clone(), reference, reason };
                out.push(NodeEffect::Signal(id, control, None));
            }
            if *link {
                out.push(NodeEffect::Signal(id, Control::Exit { from: pid.clone(), to: from.clone(), reason }, None));
            }
        }
    }
}
