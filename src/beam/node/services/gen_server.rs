//! The envelope of `gen_server` calls, casts and system messages (`gen.erl`, `gen_server.erl` and
//! `sys.erl` in OTP's stdlib).

use bytes::Bytes;

use crate::dist::control::{Control, Proc};
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference, Term};
use crate::limits;

/// A message as a `gen_server` receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `{'$gen_call', From, Request}`, which expects an answer.
    Call(From, Raw),
    /// `{system, From, Request}`, which expects an answer of `sys`.
    System(From, Raw),
    /// `{'$gen_cast', Request}`, which expects no answer.
    Cast(Raw),
    /// A request of a protocol that our processes do not implement. It still expects an answer.
    Foreign(Foreign),
    /// Anything else.
    Info(Raw),
}

/// A request that every process declines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// `{Label, From, Request}` with another label, such as the label of `gen_event`
    /// (`gen:call/4`).
    Call(From),
    /// `{io_request, From, ReplyAs, Request}`, or the same with `file_request` ("The Erlang I/O
    /// Protocol" in the STDLIB user's guide).
    Io {
        /// The process that waits for the answer.
        pid: Pid,
        /// The label of the answer.
        reply: &'static str,
        /// `ReplyAs`.
        tag: Raw,
    },
}

/// The receiver of the answer to a call.
///
/// The answer contains the tag byte for byte. It is a reference, the improper list `[alias | Ref]`,
/// or the pair that `gen_server:multi_call` uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The calling process.
    pub pid: Pid,
    tag: Raw,
    alias: Option<Reference>,
}

impl From {
    fn new(pid: Pid, tag: Raw, atoms: &mut Atoms) -> Self {
        let alias = alias(&tag, atoms).ok();
        Self { pid, tag, alias }
    }
}

/// Reads the envelope of a message. A message without a valid envelope is [`Message::Info`].
#[must_use]
pub fn parse(message: Raw, atoms: &mut Atoms) -> Message {
    match envelope(&message, atoms) {
        Ok(Some(parsed)) => parsed,
        _ => Message::Info(message),
    }
}

fn envelope(message: &Raw, atoms: &mut Atoms) -> Result<Option<Message>, DecodeError> {
    let mut r = Reader::resume(message, 0, atoms);
    if r.peek()? != Kind::Tuple {
        return Ok(None);
    }
    match r.tuple()? {
        2 if r.atom_is("$gen_cast")? => Ok(Some(Message::Cast(r.raw()?))),
        3 => {
            let label = if r.peek()? == Kind::Atom { Some(r.atom()?) } else { r.raw().map(|_| None)? };
            let (pid, tag) = from(&mut r)?;
            let request = r.raw()?;
            let is_tag = matches!(Reader::resume(&tag, 0, atoms).peek()?, Kind::Reference | Kind::List);
            let from = From::new(pid, tag, atoms);
            Ok(Some(match label.as_ref().map(Atom::as_str) {
                Some("$gen_call") => Message::Call(from, request),
                Some("system") => Message::System(from, request),
                _ if is_tag => Message::Foreign(Foreign::Call(from)),
                _ => return Ok(None),
            }))
        }
        4 if r.peek()? == Kind::Atom => {
            let reply = match r.atom()?.as_str() {
                "io_request" => "io_reply",
                "file_request" => "file_reply",
                _ => return Ok(None),
            };
            Ok(Some(Message::Foreign(Foreign::Io { pid: r.pid()?, reply, tag: r.raw()? })))
        }
        _ => Ok(None),
    }
}

/// Reads the receiver of the answer from a message whose request exceeds the limits. The receiver
/// is before the request in the envelope.
///
/// # Errors
/// The message is neither a call nor a system message.
pub fn caller(message: &Bytes, atoms: &mut Atoms) -> Result<From, DecodeError> {
    let mut r = Reader::new(message, atoms);
    r.expect_tuple(3)?;
    if !expects_answer(&r.atom()?) {
        return Err(DecodeError::OtherAtom);
    }
    let (pid, tag) = from(&mut r)?;
    Ok(From::new(pid, tag, atoms))
}

fn expects_answer(label: &Atom) -> bool {
    matches!(label.as_str(), "$gen_call" | "system")
}

/// Reads `{Pid, Tag}`.
fn from(r: &mut Reader<'_>) -> Result<(Pid, Raw), DecodeError> {
    r.expect_tuple(2)?;
    Ok((r.pid()?, r.raw()?))
}

/// Reads the alias that receives the answer, from `[alias | Ref]` or `[[alias | Ref] | _]`
/// (`gen:reply/2`).
fn alias(tag: &Raw, atoms: &mut Atoms) -> Result<Reference, DecodeError> {
    let mut r = Reader::resume(tag, 0, atoms);
    r.list()?;
    if r.peek()? == Kind::List {
        r.list()?;
    }
    r.expect_atom("alias")?;
    r.reference()
}

/// Returns the answer to an unknown request, `{error, notsup}`. The caller gets it at once, while a
/// process of OTP might exit or never answer.
#[must_use]
pub fn refusal() -> Raw {
    Raw::encode(&Term::tuple([Term::atom("error"), Term::atom("notsup")]))
}

/// Returns the answer to a request that is too large to decode: `{error, {too_large, Detail}}`.
#[must_use]
pub fn too_large() -> Raw {
    let detail = format!("the request exceeds the {}-byte limit", limits::CALL_ARGUMENTS);
    let why = Term::tuple([Term::atom("too_large"), Term::binary(detail)]);
    Raw::encode(&Term::tuple([Term::atom("error"), why]))
}

/// Returns the signal and the message with which the process `ours` declines a request.
#[must_use]
pub(crate) fn decline(foreign: &Foreign, ours: &Pid) -> (Control, Raw) {
    match foreign {
        Foreign::Call(from) => reply(from, ours, &refusal()),
        Foreign::Io { pid, reply, tag } => {
            let message = Raw::build(|w| {
                w.tuple(3).atom(reply).raw(tag).tuple(2).atom("error").atom("enotsup");
            });
            (Control::Send { from: Some(ours.clone()), to: pid.clone() }, message)
        }
    }
}

/// Returns the signals of a call to the process `name` of a peer: a monitor and the request.
///
/// The reference of the monitor is also the tag of the answer. Every release accepts such a plain
/// reference as a tag, and sends the answer to `from`.
#[must_use]
pub fn call(reference: &Reference, from: &Pid, name: &Atom, request: &Term) -> [(Control, Option<Raw>); 2] {
    let monitor = Control::Monitor { from: from.clone(), to: Proc::Name(name.clone()), reference: reference.clone() };
    let message = Raw::build(|w| {
        w.tuple(3).atom("$gen_call").tuple(2).pid(from).reference(reference).term(request);
    });
    let send = Control::SendName { from: from.clone(), to: name.clone() };
    [(monitor, None), (send, Some(message))]
}

/// Reads the tag and the value of an answer, `{Ref, Answer}`.
///
/// # Errors
/// The message is not an answer.
pub fn answer(message: &Raw, atoms: &mut Atoms) -> Result<(Reference, Raw), DecodeError> {
    let mut r = Reader::resume(message, 0, atoms);
    r.expect_tuple(2)?;
    Ok((r.reference()?, r.raw()?))
}

/// Returns the signal and the message with which the process `ours` answers a call.
#[must_use]
pub fn reply(from: &From, ours: &Pid, answer: &Raw) -> (Control, Raw) {
    let message = Raw::build(|w| {
        w.tuple(2).raw(&from.tag).raw(answer);
    });
    let control = match &from.alias {
        Some(alias) => Control::SendAlias { from: ours.clone(), to: alias.clone() },
        None => Control::Send { from: Some(ours.clone()), to: from.pid.clone() },
    };
    (control, message)
}
