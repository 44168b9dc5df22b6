//! The envelope of `gen_server` calls, casts and system messages (`gen.erl`, `gen_server.erl`, `sys.erl` in OTP's stdlib).

use bytes::Bytes;

use crate::dist::control::Control;
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference, Term};

/// What a message is to a `gen_server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `{'$gen_call', From, Request}`: wants an answer.
    Call(From, Raw),
    /// `{system, From, Request}`: wants an answer of `sys`.
    System(From, Raw),
    /// `{'$gen_cast', Request}`: wants none.
    Cast(Raw),
    /// Anything else.
    Info(Raw),
}

/// Who waits for the answer to a call. The tag is echoed byte for byte: it may be a reference, the improper list
/// `[alias | Ref]`, or the pair that `gen_server:multi_call` uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The process that called.
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

/// Sorts a message by its envelope. What only resembles one is [`Message::Info`].
#[must_use]
pub fn parse(message: Raw, atoms: &mut Atoms) -> Message {
    match envelope(&message, atoms) {
        Ok(Some(parsed)) => parsed,
        _ => Message::Info(message),
    }
}

fn envelope(message: &Raw, atoms: &mut Atoms) -> Result<Option<Message>, DecodeError> {
    let mut r = Reader::new(message.bytes(), atoms);
    if r.peek()? != Kind::Tuple {
        return Ok(None);
    }
    match r.tuple()? {
        2 if r.atom_is("$gen_cast")? => Ok(Some(Message::Cast(r.raw()?))),
        3 if r.peek()? == Kind::Atom => {
            let label = r.atom()?;
            if !wants_answer(&label) {
                return Ok(None);
            }
            let (pid, tag) = from(&mut r)?;
            let request = r.raw()?;
            let from = From::new(pid, tag, atoms);
            Ok(Some(if label == "system" { Message::System(from, request) } else { Message::Call(from, request) }))
        }
        _ => Ok(None),
    }
}

/// Who waits for the answer to a message (with its version byte) whose request is beyond our bounds: what is before it in
/// the envelope can be read all the same.
///
/// # Errors
/// Nobody waits: it is no call and no system message.
pub fn caller(message: &Bytes, atoms: &mut Atoms) -> Result<From, DecodeError> {
    let mut r = Reader::with_version(message, atoms)?;
    r.expect_tuple(3)?;
    if !wants_answer(&r.atom()?) {
        return Err(DecodeError::OtherAtom);
    }
    let (pid, tag) = from(&mut r)?;
    Ok(From::new(pid, tag, atoms))
}

fn wants_answer(label: &Atom) -> bool {
    matches!(label.as_str(), "$gen_call" | "system")
}

/// `{Pid, Tag}`
fn from(r: &mut Reader<'_>) -> Result<(Pid, Raw), DecodeError> {
    r.expect_tuple(2)?;
    Ok((r.pid()?, r.raw()?))
}

/// The alias in `[alias | Ref]`, or in `[[alias | Ref] | _]`, to which the answer goes (`gen:reply/2`).
fn alias(tag: &Raw, atoms: &mut Atoms) -> Result<Reference, DecodeError> {
    let mut r = Reader::new(tag.bytes(), atoms);
    r.list()?;
    if r.peek()? == Kind::List {
        r.list()?;
    }
    r.expect_atom("alias")?;
    r.reference()
}

/// What a call gets for an answer that we have none for: at once, where a process of OTP's would be silent or end.
#[must_use]
pub fn refusal() -> Raw {
    Raw::encode(&Term::tuple([Term::atom("error"), Term::atom("notsup")]))
}

/// The signal and the message that answer a call to `ours` with `answer`.
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
