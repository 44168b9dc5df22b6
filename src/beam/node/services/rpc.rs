//! Remote procedure calls: ours to peers, and theirs to us, over `SPAWN_REQUEST` and over `rex` (`erpc.erl`, `rpc.erl` in
//! OTP's kernel).
//!
//! This file reads calls and writes answers. The functions are in
//! [`functions`](crate::node::services::functions) and
//! [`Functions`](crate::node::process::Functions). Every other function is undefined, as on an
//! Erlang node that lacks the module.

use crate::dist::control::{Control, NewProcess};
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference, Term, Writer};
use crate::limits;
use crate::node::services::gen_server::{self, Message};

/// The registered name of the old `rpc` server.
pub const NAME: &str = "rex";

// ---- What we call on peers ------------------------------------------------------------------------

/// A function to call on a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Module.
    pub module: Atom,
    /// Its name.
    pub function: Atom,
    /// Arguments.
    pub args: Vec<Term>,
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection to that node, or it ended.
    #[error("there is no connection to the node")]
    NoConnection,
    /// The peer refused to spawn a process for it.
    #[error("the node refused the call: {0}")]
    Refused(Atom),
    /// The function ended with an exception, or the answer was not one of `erpc`.
    #[error("the function failed on the node")]
    Failed,
    /// The process that was called is not there, or has ended.
    #[error("the process is not there, or has ended")]
    NoProcess,
    /// No answer within [`crate::limits::CALL_TIME`].
    #[error("the node did not answer the call in time")]
    TimedOut,
    /// Too many calls wait for answers.
    #[error("too many calls wait for answers")]
    TooMany,
}

/// The signal that calls `function` on a peer by `erpc:execute_call/4`, with a monitor whose end carries the result.
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

/// The signal that runs `function` on a peer; its result is of no interest.
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

/// The result in the exit reason of the process that ran a call: `{Request, return, Value}`.
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

// ---- What peers call ----------------------------------------------------------------------------

/// `Module:Function(Args)`, as the peer wrote the three: what it gets back of them is byte for byte its own.
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

    /// Returns whether it is too large to decode.
    #[must_use]
    pub(crate) fn is_large(&self) -> bool {
        self.args.bytes().len() > limits::CALL_ARGUMENTS
    }

    /// What it names; none if these can't name a function and its arguments.
    #[must_use]
    pub(crate) fn resolve(&self, atoms: &mut Atoms) -> Option<(Atom, Atom, Vec<Term>)> {
        let mut atom = |raw: &Raw| Reader::resume(raw, 0, atoms).atom().ok();
        let (module, function) = (atom(&self.module)?, atom(&self.function)?);
        match self.args.term(atoms).ok()? {
            Term::List(args) => Some((module, function, args)),
            _ => None,
        }
    }

    /// `[{M, F, A, []}]`, the stack of a call that got no further.
    fn stack(&self, w: &mut Writer<'_>) {
        w.list(1).tuple(4).raw(&self.module).raw(&self.function).raw(&self.args).nil().nil();
    }
}

/// How the application of a function ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With a value.
    Return(Term),
    /// The call ended with an error: `undef`, `badarg` or `notsup`.
    Error(&'static str),
    /// The call was not tried, for one of `erpc`'s reasons: `badarg`, `notsup` or `system_limit`.
    NotTried(&'static str),
}

/// What a process that a peer spawns is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// What to apply.
    pub applied: Applied,
    /// For `erpc:execute_call/4`, what goes with the result into the reason of the process's end.
    result: Option<Raw>,
}

impl Job {
    /// Reads the arguments of a spawn request for `Module:Function/Arity`: `erpc:execute_call/4` and `execute_cast/3` name in
    /// them what is to be applied, all else is applied itself.
    ///
    /// # Errors
    /// The arguments of `erpc` aren't what they should be.
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

    /// The reason with which the process ends (`execute_call/4`; for others, that of a process whose function ended so).
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

/// Whether the options of a spawn request ask for a link and for a monitor: `link`, `monitor`,
/// `{monitor, Options}`. None if they are not a list, or too large.
#[must_use]
pub fn ties(options: &Raw, atoms: &mut Atoms) -> Option<(bool, bool)> {
    if options.bytes().len() > limits::CALL_ARGUMENTS {
        return None;
    }
    let Ok(Term::List(options)) = options.term(atoms) else { return None };
    let asks = |option: &Term, tie: &'static str| match option {
        Term::Tuple(elements) => elements.first() == Some(&Term::atom(tie)),
        other => *other == Term::atom(tie),
    };
    Some((options.iter().any(|o| asks(o, "link")), options.iter().any(|o| asks(o, "monitor"))))
}

/// What a message asks of `rex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rex {
    /// Apply, and answer: `{call, M, F, A, GroupLeader}` or `{block_call, …}`.
    Call(RexCaller, Applied),
    /// Apply: `{cast, M, F, A, GroupLeader}`.
    Cast(Applied),
    /// `{Pid, features_request}`
    Features(Pid),
    /// `{Pid, {sbcast, Name, Message}}` or `{Pid, {send, Name, Message}}`: pass on to the registered name. The first wants to be told
    /// in any case, the second only if there is no such name.
    PassOn {
        /// Who asked.
        from: Pid,
        /// Whether it is told of success too.
        confirm: bool,
        /// For whom the message is.
        name: Atom,
        /// The message, for `send` with its sender.
        message: Raw,
    },
    /// A call that isn't of `rex`.
    Unknown(gen_server::From),
    /// Nothing that asks for anything.
    Nothing,
}

/// Who called `rex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RexCaller {
    /// By `gen_server:call`.
    Server(gen_server::From),
    /// By a plain message, as C nodes do; the answer is `{rex, Answer}`.
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

/// `{What, M, F, A, GroupLeader}`
fn apply(request: &Raw, what: &[&str], atoms: &mut Atoms) -> Result<Applied, DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    r.expect_tuple(5)?;
    if !what.contains(&r.atom()?.as_str()) {
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
    let what = r.atom()?;
    let (name, message) = (r.atom()?, r.raw()?);
    match what.as_str() {
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

/// What a call to `rex` gives: the value, or `{badrpc, {'EXIT', {Error, Stack}}}`.
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

/// The signal and message that answer a call to `rex`, whose process is `ours`.
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

/// `{features_reply, Node, [erpc]}`: calls come by `erpc` then.
#[must_use]
pub fn features(ours: &Pid) -> Raw {
    Raw::build(|w| {
        w.tuple(3).atom("features_reply").atom_of(&ours.node);
        w.list(1).atom("erpc").nil();
    })
}

/// What whoever had a message passed on is told: `{rex, Node, Node}`, or `{rex, Node, {nonexisting_name, Name}}`.
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
