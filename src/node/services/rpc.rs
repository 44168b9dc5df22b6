//! Remote procedure calls: ours to peers over `SPAWN_REQUEST`, and the answer of `rex` that tells them which way to
//! take (`erpc.erl`, `rpc.erl` in OTP's kernel).
//!
//! Nothing that a peer asks for is ever run here.

use crate::dist::control::Control;
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference, Term};

/// The registered name of the old `rpc` server.
pub const NAME: &str = "rex";

/// A function to call on a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Module.
    pub module: &'static str,
    /// Its name.
    pub function: &'static str,
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
    let (module, name) = (Term::atom(function.module), Term::atom(function.function));
    let args = Raw::build(|w| {
        w.list(4).reference(request).term(&module).term(&name);
        w.term(&Term::List(function.args.clone()));
        w.nil();
    });
    (spawn(request, from, ("erpc", "execute_call", 4), &["monitor"]), args)
}

/// The signal that runs `function` on a peer; its result is of no interest.
#[must_use]
pub fn cast(request: &Reference, from: &Pid, function: &Function) -> (Control, Raw) {
    let arity = u8::try_from(function.args.len()).unwrap_or(u8::MAX);
    let control = spawn(request, from, (function.module, function.function, arity), &[]);
    (control, Raw::encode(&Term::List(function.args.clone())))
}

fn spawn(request: &Reference, from: &Pid, mfa: (&'static str, &'static str, u8), options: &[&'static str]) -> Control {
    let (module, function, arity) = mfa;
    Control::SpawnRequest {
        request: request.clone(),
        from: from.clone(),
        group_leader: from.clone(),
        module: Atom::literal(module),
        function: Atom::literal(function),
        arity,
        options: Raw::encode(&Term::List(options.iter().map(|o| Term::atom(o)).collect())),
    }
}

/// The result in the exit reason of the process that ran a call: `{Request, return, Value}`.
///
/// # Errors
/// [`CallError::Failed`] for all other reasons.
pub fn result(request: &Reference, reason: &Raw, atoms: &mut Atoms) -> Result<Raw, CallError> {
    let mut read = || -> Result<Raw, DecodeError> {
        let mut r = Reader::new(reason.bytes(), atoms);
        r.expect_tuple(3)?;
        if r.reference()? != *request {
            return Err(DecodeError::OtherAtom);
        }
        r.expect_atom("return")?;
        r.raw()
    };
    read().map_err(|_| CallError::Failed)
}

/// The answer to every call to `rex` (`rpc:block_call/4` and others come that way): what `rpc:call/4` gives for us too.
#[must_use]
pub fn refusal() -> Raw {
    Raw::encode(&Term::tuple([Term::atom("badrpc"), Term::atom("notsup")]))
}

/// The answer to a message to `rex`: `{Pid, features_request}` gets `{features_reply, Node, [erpc]}`.
#[must_use]
pub fn message(message: &Raw, ours: &Pid, atoms: &mut Atoms) -> Option<(Control, Raw)> {
    let mut read = || -> Result<Option<Pid>, DecodeError> {
        let mut r = Reader::new(message.bytes(), atoms);
        r.expect_tuple(2)?;
        if r.peek()? != Kind::Pid {
            return Ok(None);
        }
        let pid = r.pid()?;
        r.expect_atom("features_request")?;
        Ok(Some(pid))
    };
    let to = read().ok().flatten()?;
    let answer = Raw::build(|w| {
        w.tuple(3).atom("features_reply").atom_of(&ours.node);
        w.list(1).atom("erpc").nil();
    });
    Some((Control::Send { from: Some(ours.clone()), to }, answer))
}
