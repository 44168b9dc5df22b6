//! Remote procedure calls to and from peers, over `SPAWN_REQUEST` and `rex` (`erpc.erl` and
//! `rpc.erl` in OTP's kernel).
//!
//! This module reads calls and writes answers. The functions are in
//! [`functions`](crate::node::services::functions) and
//! [`Functions`](crate::node::process::Functions). All other functions are undefined, as on an
//! Erlang node that lacks the module.

use crate::dist::control::{Control, NewProcess};
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference, Term, Writer};
use crate::limits;
use crate::node::services::gen_server::{self, Message};

/// The registered name of the server of `rpc`.
pub const NAME: &str = "rex";

// ---- Calls to peers -----------------------------------------------------------------------------

/// A function to call on a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// The module.
    pub module: Atom,
    /// The name of the function.
    pub function: Atom,
    /// The arguments.
    pub args: Vec<Term>,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The node is not connected, or the connection ended.
    #[error("the node is not connected")]
    NoConnection,
    /// The peer refused to spawn a process for the call.
    #[error("the node refused the call: {0}")]
    Refused(Atom),
    /// The function raised an exception, or the answer is not one of `erpc`.
    #[error("the function failed on the node")]
    Failed,
    /// There is no such process, or it ended before it answered.
    #[error("there is no such process, or it has ended")]
    NoProcess,
    /// The node did not answer within [`crate::limits::CALL_TIME`].
    #[error("the node did not answer the call in time")]
    TimedOut,
    /// [`crate::limits::CALLS`] calls wait for answers.
    #[error("too many calls wait for answers (limit {max})", max = crate::limits::CALLS)]
    TooMany,
}

/// Returns the signal that calls `function` on a peer by `erpc:execute_call/4`. It monitors the
/// spawned process, whose exit reason contains the result.
#[must_use]
pub fn call(request: &Reference, from: &Pid, function: &Function) -> (Control, Raw) {
    let (module, name) = (Term::Atom(function.module.clone()), Term::Atom(function.function.clone()));
    let args = Raw::build(|w| {
        w.list(4).reference(request).term(&module).term(&name);
        w.term(&Term::List(function.args.clone()));
        w.nil();
    });
    (spawn(request, from, (Atom::literal("erpc"), Atom::literal("execute_call"), 4), &["monitor"]), args)
}

/// Returns the signal that runs `function` on a peer without returning its result.
#[must_use]
pub fn cast(request: &Reference, from: &Pid, function: &Function) -> (Control, Raw) {
    let arity = u8::try_from(function.args.len()).unwrap_or(u8::MAX);
    let control = spawn(request, from, (function.module.clone(), function.function.clone(), arity), &[]);
    (control, Raw::encode(&Term::List(function.args.clone())))
}

fn spawn(request: &Reference, from: &Pid, mfa: (Atom, Atom, u8), options: &[&'static str]) -> Control {
    let (module, function, arity) = mfa;
    let new = NewProcess {
        group_leader: from.clone(),
        module,
        function,
        arity,
        options: Raw::encode(&Term::List(options.iter().map(|o| Term::atom(o)).collect())),
    };
    Control::SpawnRequest { request: request.clone(), from: from.clone(), new: new.into() }
}

/// Reads the result from the exit reason `{Request, return, Value}` of the process that ran a call.
///
/// # Errors
/// [`CallError::Failed`] for all other reasons.
pub fn result(request: &Reference, reason: &Raw, atoms: &mut Atoms) -> Result<Raw, CallError> {
    let mut read = || -> Result<Raw, DecodeError> {
        let mut r = Reader::resume(reason, 0, atoms);
        r.expect_tuple(3)?;
        if r.reference()? != *request {
            return Err(DecodeError::OtherAtom);
        }
        r.expect_atom("return")?;
        r.raw()
    };
    read().map_err(|_| CallError::Failed)
}

// ---- Calls from peers ---------------------------------------------------------------------------

/// `Module:Function(Args)` as the peer encoded it, so that answers repeat the terms byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    module: Raw,
    function: Raw,
    args: Raw,
}

impl Applied {
    fn read(mut element: impl FnMut() -> Result<Raw, DecodeError>) -> Result<Self, DecodeError> {
        Ok(Self { module: element()?, function: element()?, args: element()? })
    }

    /// Returns whether the arguments are too large to decode.
    #[must_use]
    pub(crate) fn is_large(&self) -> bool {
        self.args.bytes().len() > limits::CALL_ARGUMENTS
    }

    /// Returns the module, function and arguments, or `None` if the terms are not two atoms and a
    /// list.
    #[must_use]
    pub(crate) fn resolve(&self, atoms: &mut Atoms) -> Option<(Atom, Atom, Vec<Term>)> {
        let mut atom = |raw: &Raw| Reader::resume(raw, 0, atoms).atom().ok();
        let (module, function) = (atom(&self.module)?, atom(&self.function)?);
        match self.args.term(atoms).ok()? {
            Term::List(args) => Some((module, function, args)),
            _ => None,
        }
    }

    /// Writes `[{M, F, A, []}]`, a stack with only this function.
    fn stack(&self, w: &mut Writer<'_>) {
        w.list(1).tuple(4).raw(&self.module).raw(&self.function).raw(&self.args).nil().nil();
    }
}

/// The outcome of applying a function.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The function returned a value.
    Return(Term),
    /// The call ended with an error: `undef`, `badarg` or `notsup`.
    Error(&'static str),
    /// The function was not applied, for a reason of `erpc`: `badarg`, `notsup` or `system_limit`.
    NotTried(&'static str),
}

/// The work of a process that a peer spawns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// The function to apply.
    pub applied: Applied,
    /// The reference of `erpc:execute_call/4`, which is part of the exit reason.
    result: Option<Raw>,
}

impl Job {
    /// Reads the arguments of a spawn request for `Module:Function/Arity`. The arguments of
    /// `erpc:execute_call/4` and `execute_cast/3` contain the function to apply.
    ///
    /// # Errors
    /// The arguments of the `erpc` function are invalid.
    pub(crate) fn read(mfa: (&Atom, &Atom, u8), args: &Raw, atoms: &mut Atoms) -> Result<Self, DecodeError> {
        let (module, function, arity) = mfa;
        let call = match (module.as_str(), function.as_str(), arity) {
            ("erpc", "execute_call", 4) => true,
            ("erpc", "execute_cast", 3) => false,
            _ => {
                let atom = |atom: &Atom| Raw::encode(&Term::Atom(atom.clone()));
                let applied = Applied { module: atom(module), function: atom(function), args: args.clone() };
                return Ok(Self { applied, result: None });
            }
        };
        let mut r = Reader::resume(args, 0, atoms);
        let mut list = r.list()?;
        let mut element = || if r.more(&mut list)? { r.raw() } else { Err(DecodeError::OtherArity) };
        let result = if call { Some(element()?) } else { None };
        Ok(Self { applied: Applied::read(element)?, result })
    }

    /// Returns the exit reason of the process. For `erpc:execute_call/4`, the reason contains the
    /// outcome of the call. For any other function, it is the exit reason of a process whose
    /// function had this outcome.
    #[must_use]
    pub(crate) fn exit_reason(&self, outcome: &Outcome) -> Raw {
        Raw::build(|w| match (&self.result, outcome) {
            (Some(result), Outcome::Return(value)) => {
                w.tuple(3).raw(result).atom("return").term(value);
            }
            (Some(result), Outcome::Error(error)) => {
                w.tuple(4).raw(result).atom("error").atom(error);
                self.applied.stack(w);
            }
            (Some(result), Outcome::NotTried(why)) => {
                w.tuple(3).raw(result).atom("error").tuple(2).atom("erpc").atom(why);
            }
            (None, Outcome::Return(_)) => {
                w.atom("normal");
            }
            (None, Outcome::Error(error) | Outcome::NotTried(error)) => {
                w.tuple(2).atom(error);
                self.applied.stack(w);
            }
        })
    }
}

/// Returns whether the options of a spawn request contain `link`, and whether they contain
/// `monitor` or `{monitor, Options}`. Returns `None` if the options are too large or not a list.
#[must_use]
pub fn ties(options: &Raw, atoms: &mut Atoms) -> Option<(bool, bool)> {
    if options.bytes().len() > limits::CALL_ARGUMENTS {
        return None;
    }
    let Ok(Term::List(options)) = options.term(atoms) else { return None };
    let is = |option: &Term, tie: &'static str| match option {
        Term::Tuple(elements) => elements.first() == Some(&Term::atom(tie)),
        other => *other == Term::atom(tie),
    };
    Some((options.iter().any(|o| is(o, "link")), options.iter().any(|o| is(o, "monitor"))))
}

/// A message to `rex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rex {
    /// Apply a function and answer: `{call, M, F, A, GroupLeader}` or `{block_call, …}`.
    Call(RexCaller, Applied),
    /// Apply a function: `{cast, M, F, A, GroupLeader}`.
    Cast(Applied),
    /// `{Pid, features_request}`
    Features(Pid),
    /// Forward a message to a registered name. `{Pid, {sbcast, Name, Message}}` is always answered.
    /// `{Pid, {send, Name, Message}}` is answered only if there is no such name.
    PassOn {
        /// The process that gets the answer.
        from: Pid,
        /// Whether to answer also if the name exists.
        confirm: bool,
        /// The registered name.
        name: Atom,
        /// The message; for `send`, together with its sender.
        message: Raw,
    },
    /// A call that `rex` does not support.
    Unknown(gen_server::From),
    /// A message to ignore.
    Nothing,
}

/// The caller of `rex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RexCaller {
    /// It used `gen_server:call`.
    Server(gen_server::From),
    /// It sent a plain message, as C nodes do. The answer is `{rex, Answer}`.
    Plain(Pid),
}

/// Reads a message to `rex` (`handle_call/3`, `handle_cast/2` and `handle_info/2` of `rpc.erl`).
#[must_use]
pub(crate) fn read(message: Message, atoms: &mut Atoms) -> Rex {
    match message {
        Message::Call(from, request) => match apply(&request, &["call", "block_call"], atoms) {
            Ok(applied) => Rex::Call(RexCaller::Server(from), applied),
            Err(_) => Rex::Unknown(from),
        },
        Message::Cast(request) => apply(&request, &["cast"], atoms).map_or(Rex::Nothing, Rex::Cast),
        Message::Info(message) => info(&message, atoms).unwrap_or(Rex::Nothing),
        Message::System(..) | Message::Foreign(_) => Rex::Nothing,
    }
}

/// Reads `{Label, M, F, A, GroupLeader}`.
fn apply(request: &Raw, labels: &[&str], atoms: &mut Atoms) -> Result<Applied, DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    r.expect_tuple(5)?;
    if !labels.contains(&r.atom()?.as_str()) {
        return Err(DecodeError::OtherAtom);
    }
    Applied::read(|| r.raw())
}

fn info(message: &Raw, atoms: &mut Atoms) -> Result<Rex, DecodeError> {
    let mut r = Reader::resume(message, 0, atoms);
    r.expect_tuple(2)?;
    let from = r.pid()?;
    let request = r.raw()?;
    if let Ok(applied) = apply(&request, &["call"], atoms) {
        return Ok(Rex::Call(RexCaller::Plain(from), applied));
    }
    let mut r = Reader::resume(&request, 0, atoms);
    if r.peek()? == Kind::Atom {
        r.expect_atom("features_request")?;
        return Ok(Rex::Features(from));
    }
    r.expect_tuple(3)?;
    let label = r.atom()?;
    let (name, message) = (r.atom()?, r.raw()?);
    match label.as_str() {
        "sbcast" => Ok(Rex::PassOn { from, confirm: true, name, message }),
        "send" => {
            let message = Raw::build(|w| {
                w.tuple(2).pid(&from).raw(&message);
            });
            Ok(Rex::PassOn { from, confirm: false, name, message })
        }
        _ => Err(DecodeError::OtherAtom),
    }
}

/// Returns the answer to a call to `rex`: the value, or `{badrpc, {'EXIT', {Error, Stack}}}`.
#[must_use]
pub(crate) fn rex_answer(applied: &Applied, outcome: &Outcome) -> Raw {
    Raw::build(|w| match outcome {
        Outcome::Return(value) => {
            w.term(value);
        }
        Outcome::Error(error) | Outcome::NotTried(error) => {
            w.tuple(2).atom("badrpc").tuple(2).atom("EXIT").tuple(2).atom(error);
            applied.stack(w);
        }
    })
}

/// Returns the signal and the message that answer a call to `rex`, whose process is `ours`.
#[must_use]
pub(crate) fn reply(caller: &RexCaller, ours: &Pid, answer: &Raw) -> (Control, Raw) {
    match caller {
        RexCaller::Server(from) => gen_server::reply(from, ours, answer),
        RexCaller::Plain(pid) => {
            let message = Raw::build(|w| {
                w.tuple(2).atom(NAME).raw(answer);
            });
            (Control::Send { from: Some(ours.clone()), to: pid.clone() }, message)
        }
    }
}

/// Returns `{features_reply, Node, [erpc]}`, after which the peer calls through `erpc`.
#[must_use]
pub fn features(ours: &Pid) -> Raw {
    Raw::build(|w| {
        w.tuple(3).atom("features_reply").atom_of(&ours.node);
        w.list(1).atom("erpc").nil();
    })
}

/// Returns the answer to [`Rex::PassOn`]: `{rex, Node, Node}` if the name exists, or
/// `{rex, Node, {nonexisting_name, Name}}`.
#[must_use]
pub(crate) fn passed_on(ours: &Pid, name: &Atom, exists: bool) -> Raw {
    Raw::build(|w| {
        w.tuple(3).atom(NAME).atom_of(&ours.node);
        if exists {
            w.atom_of(&ours.node);
        } else {
            w.tuple(2).atom("nonexisting_name").atom_of(name);
        }
    })
}
