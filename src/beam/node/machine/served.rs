//! What peers call on us: functions by spawn requests and by `rex`, and answers that take time. Pure.
//!
//! Every call is answered: at once, or when [`NodeInput::Answer`] comes; it is forgotten when its connection ends.

use super::*;
use crate::node::services::functions::{self, Known, Refused};
use crate::node::services::rpc::{Applied, Job, Outcome, Rex, RexCaller};

/// A spawn request without its arguments.
pub(super) struct Wanted {
    pub(super) request: Reference,
    pub(super) from: Pid,
    pub(super) module: Atom,
    pub(super) function: Atom,
    pub(super) arity: u8,
    pub(super) options: Raw,
}

/// A call that isn't answered yet.
pub(super) struct Served {
    pub(super) link: LinkId,
    pub(super) reply: ReplyTo,
}

/// How a call is answered.
pub(super) enum ReplyTo {
    /// To a `gen_server:call` of this process of ours.
    Server(gen_server::From, Pid),
    /// To a call of `rex`, which is this process.
    Rex(RexCaller, Applied, Pid),
    /// By the end of the process that was spawned for it.
    End(Ending),
}

/// A process that a peer has spawned and that ends with its only function. It lives in this only: what is sent to it
/// meanwhile is for nobody.
pub(super) struct Ending {
    job: Job,
    pid: Pid,
    request: Reference,
    from: Pid,
    link: bool,
    monitor: bool,
}

impl Machine {
    /// Whoever calls over this connection, with a number for the answer; none if too many calls wait already.
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
        wanted: Wanted,
        content: Option<Content>,
        out: &mut Vec<NodeEffect>,
    ) {
        let Wanted { request, from, module, function, arity, options } = wanted;
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
        let ending = Ending { job, pid, request, from, link, monitor };
        self.apply(id, &applied, ReplyTo::End(ending), out);
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
                // Not to itself: nested messages would be read once per level.
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

    /// Applies a function for a peer, and answers now or keeps the call for later.
    fn apply(&mut self, id: LinkId, applied: &Applied, reply: ReplyTo, out: &mut Vec<NodeEffect>) {
        let outcome = match self.next_caller(id) {
            None => Outcome::NotTried("system_limit"),
            Some(caller) => match self.call_function(applied, &caller) {
                Some(outcome) => outcome,
                None => {
                    self.served.insert(caller.call, Served { link: id, reply });
                    return;
                }
            },
        };
        answer(id, &reply, &outcome, out);
    }

    /// None if the answer comes later.
    fn call_function(&mut self, applied: &Applied, caller: &Caller) -> Option<Outcome> {
        // None of our functions has such large arguments.
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

    /// The answer that a call has waited for; of none that waits no more.
    pub(super) fn answered(&mut self, call: CallId, value: Term, out: &mut Vec<NodeEffect>) {
        if let Some(Served { link, reply }) = self.served.remove(&call) {
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
        ReplyTo::End(Ending { job, pid, request, from, link, monitor }) => {
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
