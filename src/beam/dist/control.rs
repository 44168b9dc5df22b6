//! Control messages: the contents of frames on an established connection ("Protocol between
//! Connected Nodes" in OTP's erts documentation, `dist.h` and `dist.c` in erts).
//!
//! A pass-through frame has `112`, the control tuple and, for some operations, a payload, each of
//! the two with a version byte. If distribution headers were agreed upon, both follow a header,
//! without versions. The payload is decoded separately, so that a request with a malformed payload
//! can still be answered. Variants of an operation that differ only in the position of the reason
//! or in a trace token are one value here.

use bytes::Bytes;

use super::flags::Flags;
use super::header::{HeaderError, Headers};
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference};

mod write;

pub use write::encode;
pub(crate) use write::encode_head;

/// The first byte of a frame without a distribution header.
const PASS_THROUGH: u8 = 112;

/// Flags of `ALTACT_SIG_SEND` (`ERTS_DOP_ALTACT_SIG_FLG_*` in erts' `dist.h`). The priority flag is
/// ignored, because this node has no message queues.
mod altact {
    pub(crate) const TOKEN: i64 = 1 << 1;
    pub(crate) const ALIAS: i64 = 1 << 2;
    pub(super) const NAME: i64 = 1 << 3;
    pub(super) const EXIT: i64 = 1 << 4;
}

/// A process, by pid or by registered name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proc {
    /// By pid.
    Pid(Pid),
    /// By registered name.
    Name(Atom),
}

/// A signal between processes of two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// `LINK` 1.
    Link {
        /// The process that links.
        from: Pid,
        /// The process of the receiving node.
        to: Pid,
    },
    /// `UNLINK_ID` 35; or `UNLINK` 4 of an older node, without an `id` and not acknowledged.
    Unlink {
        /// The acknowledgement repeats it.
        id: Option<Raw>,
        /// The process that unlinks.
        from: Pid,
        /// The other end.
        to: Pid,
    },
    /// `UNLINK_ID_ACK` 36.
    UnlinkAck {
        /// That of the request.
        id: Raw,
        /// The process that acknowledges.
        from: Pid,
        /// The process that unlinked.
        to: Pid,
    },
    /// `SEND` 2, `SEND_SENDER` 22 and their `_TT`; a message follows as payload.
    Send {
        /// The sender, if the signal names it.
        from: Option<Pid>,
        /// The receiver.
        to: Pid,
    },
    /// `REG_SEND` 6 and `_TT` 16; a message follows as payload.
    SendName {
        /// The sender.
        from: Pid,
        /// The registered name of the receiver.
        to: Atom,
    },
    /// `ALIAS_SEND` 33 and `_TT` 34, or `ALTACT_SIG_SEND` 37, which replaces them since OTP 28; a
    /// message follows as payload.
    SendAlias {
        /// The sender.
        from: Pid,
        /// The alias of the receiver.
        to: Reference,
    },
    /// `EXIT` 3, `PAYLOAD_EXIT` 24 and their `_TT`: a linked process ended.
    Exit {
        /// The process that ended.
        from: Pid,
        /// The process that was linked to it.
        to: Pid,
        /// The exit reason.
        reason: Raw,
    },
    /// `EXIT2` 8, `PAYLOAD_EXIT2` 26 and their `_TT`: a process called `exit(Pid, Reason)`.
    Exit2 {
        /// The process that called it.
        from: Pid,
        /// The process to exit.
        to: Pid,
        /// The exit reason.
        reason: Raw,
    },
    /// `MONITOR_P` 19.
    Monitor {
        /// The monitoring process.
        from: Pid,
        /// The monitored process.
        to: Proc,
        /// The monitor.
        reference: Reference,
    },
    /// `DEMONITOR_P` 20.
    Demonitor {
        /// The monitoring process.
        from: Pid,
        /// The monitored process.
        to: Proc,
        /// The monitor.
        reference: Reference,
    },
    /// `MONITOR_P_EXIT` 21 and `PAYLOAD_MONITOR_P_EXIT` 28.
    MonitorExit {
        /// The process that ended.
        from: Proc,
        /// The monitoring process.
        to: Pid,
        /// The monitor.
        reference: Reference,
        /// The exit reason.
        reason: Raw,
    },
    /// `SPAWN_REQUEST` 29 and `_TT` 30; the list of arguments follows as payload.
    SpawnRequest {
        /// The reply repeats it. With the option `monitor`, it is also the monitor.
        request: Reference,
        /// The process that requests it.
        from: Pid,
        /// The process to start. Boxed, because it would enlarge every signal.
        new: Box<NewProcess>,
    },
    /// `SPAWN_REPLY` 31 and `_TT` 32.
    SpawnReply {
        /// That of the request.
        request: Reference,
        /// The process that requested it.
        to: Pid,
        /// 1: a link was created; 2: a monitor was created.
        flags: u32,
        /// The pid, or the reason of the failure.
        result: Result<Pid, Atom>,
    },
}

impl Control {
    /// Returns whether a peer with these agreed flags understands the signal. It must not be sent
    /// otherwise: `ei`, which offers one of the two flags of monitors, and jinterface, which offers
    /// neither, close the connection when they receive a monitor.
    ///
    /// The end of a monitor is sent regardless of the flags, because the peer that set the monitor
    /// waits for it. (erts also accepts a monitor from such a peer, but never sends the end of the
    /// monitor: `erts_dsig_send_m_exit` in `dist.c`.)
    #[must_use]
    pub(crate) fn is_known_with(&self, flags: Flags) -> bool {
        match self {
            Self::Monitor { .. } | Self::Demonitor { .. } => {
                flags.contains(Flags::DIST_MONITOR | Flags::DIST_MONITOR_NAME)
            }
            Self::SpawnRequest { .. } | Self::SpawnReply { .. } => flags.contains(Flags::SPAWN),
            _ => true,
        }
    }
}

/// The process that a peer requests to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProcess {
    /// Its group leader.
    pub group_leader: Pid,
    /// The module.
    pub module: Atom,
    /// The function.
    pub function: Atom,
    /// The number of arguments.
    pub arity: u8,
    /// The list of options.
    pub options: Raw,
}

/// A malformed frame. The peer is at fault, and the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The frame is not pass-through, but distribution headers were not agreed upon.
    #[error("the peer sent a frame of type {0}, but only pass-through frames were agreed upon")]
    NotPassThrough(u8),
    /// The distribution header is malformed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The control tuple is not a term, or has fields of other types than its operation requires.
    #[error("the peer sent a malformed control message: {0}")]
    Malformed(#[from] DecodeError),
    /// The operation is unknown, or has another number of fields.
    #[error("the peer sent the unknown control message {operation} with {arity} fields")]
    Unknown {
        /// The first element of the tuple.
        operation: i64,
        /// The size of the tuple.
        arity: u32,
    },
    /// The operation has no payload and the frame has one, or the other way round.
    #[error("the peer sent control message {0} {1} a payload")]
    Payload(i64, &'static str),
}

/// A control message with its undecoded payload, if any, without a version byte. `None` if nothing
/// needs to be done: for `NODE_LINK` 5, `GROUP_LEADER` 7, or an incomplete message.
pub type Decoded = Option<(Control, Option<Bytes>)>;

/// Returns a lower bound of the memory of a decoded message in bytes.
#[must_use]
pub fn size((control, payload): &(Control, Option<Bytes>)) -> usize {
    let carried = match control {
        Control::Exit { reason, .. } | Control::Exit2 { reason, .. } | Control::MonitorExit { reason, .. } => {
            reason.bytes().len()
        }
        Control::SpawnRequest { new, .. } => size_of::<NewProcess>() + new.options.bytes().len(),
        _ => 0,
    };
    size_of::<(Control, Option<Bytes>)>() + carried + payload.as_ref().map_or(0, Bytes::len)
}

/// Decodes a frame. `headers` is the state of a connection with distribution headers; without it,
/// the frame must be pass-through.
///
/// # Errors
/// See [`ControlError`]. Payloads are not checked, except for the reason of an exit.
pub fn decode(frame: &Bytes, headers: Option<&mut Headers>, atoms: &mut Atoms) -> Result<Decoded, ControlError> {
    match (headers, frame.first()) {
        (Some(headers), _) => match headers.take(frame)? {
            Some(terms) => read(&terms, false, atoms),
            // The rest of the message has not arrived yet.
            None => Ok(None),
        },
        (None, Some(&PASS_THROUGH)) => read(&frame.slice(1..), true, atoms),
        (None, other) => Err(ControlError::NotPassThrough(other.copied().unwrap_or(0))),
    }
}

/// Decodes a control message and its payload, each with a version byte if `versions` is true.
fn read(terms: &Bytes, versions: bool, atoms: &mut Atoms) -> Result<Decoded, ControlError> {
    let mut r = if versions { Reader::with_version(terms, atoms)? } else { Reader::new(terms, atoms) };
    let arity = r.tuple()?;
    let operation = r.integer()?;
    let signal = Signal::of(operation, arity)?;
    match operation {
        5 => return Ok(None),
        7 => {
            // The new group leader, and the process that receives it.
            let _ = (r.pid()?, r.pid()?);
            return Ok(None);
        }
        _ => {}
    }
    let control = signal.read(&mut r)?;
    let rest = r.remaining();
    let payload = match rest.first() {
        None => None,
        Some(_) if versions => Some(Reader::with_version(&rest, atoms)?.remaining()),
        Some(_) => Some(rest),
    };
    let takes_payload = matches!(
        control,
        Partial::Whole(
            Control::Send { .. } | Control::SendName { .. } | Control::SendAlias { .. } | Control::SpawnRequest { .. }
        ) | Partial::WantsReason(_)
    );
    match (control, payload) {
        (_, None) if takes_payload => Err(ControlError::Payload(operation, "without")),
        (Partial::Whole(_), Some(_)) if !takes_payload => Err(ControlError::Payload(operation, "with")),
        (Partial::Whole(control), payload) => Ok(Some((control, payload))),
        (Partial::WantsReason(with_reason), payload) => {
            let payload = payload.unwrap_or_default();
            let mut r = Reader::new(&payload, atoms);
            let reason = r.raw()?;
            r.finish()?;
            Ok(Some((with_reason.with(reason), None)))
        }
    }
}

/// A signal whose reason is the payload.
enum WithReason {
    Exit { from: Pid, to: Pid },
    Exit2 { from: Pid, to: Pid },
    MonitorExit { from: Proc, to: Pid, reference: Reference },
}

impl WithReason {
    fn with(self, reason: Raw) -> Control {
        match self {
            Self::Exit { from, to } => Control::Exit { from, to, reason },
            Self::Exit2 { from, to } => Control::Exit2 { from, to, reason },
            Self::MonitorExit { from, to, reference } => Control::MonitorExit { from, to, reference, reason },
        }
    }
}

enum Partial {
    Whole(Control),
    WantsReason(WithReason),
}

/// An operation with a valid number of fields.
struct Signal {
    operation: i64,
    arity: u32,
    /// Whether one of the fields is a trace token.
    traced: bool,
}

impl Signal {
    fn of(operation: i64, arity: u32) -> Result<Self, ControlError> {
        let traced = matches!(operation, 12 | 13 | 16 | 18 | 23 | 25 | 27 | 30 | 32 | 34);
        let expected = match operation {
            1 | 2 | 4 | 5 | 7 | 22 | 24 | 26 | 33 => 3,
            3 | 6 | 8 | 12 | 19 | 20 | 23 | 25 | 27 | 28 | 34 | 35 | 36 | 37 => 4,
            13 | 16 | 18 | 21 | 31 => 5,
            29 | 32 => 6,
            30 => 7,
            _ => return Err(ControlError::Unknown { operation, arity }),
        };
        // NODE_LINK is `{5}`; ALTACT_SIG_SEND has a trace token if its flags require one.
        if arity == expected || matches!((operation, arity), (5, 1) | (37, 5)) {
            Ok(Self { operation, arity, traced })
        } else {
            Err(ControlError::Unknown { operation, arity })
        }
    }

    fn read(&self, r: &mut Reader<'_>) -> Result<Partial, DecodeError> {
        use Partial::{WantsReason, Whole};
        Ok(match self.operation {
            1 => Whole(Control::Link { from: r.pid()?, to: r.pid()? }),
            4 => Whole(Control::Unlink { id: None, from: r.pid()?, to: r.pid()? }),
            35 => Whole(Control::Unlink { id: Some(integer(r)?), from: r.pid()?, to: r.pid()? }),
            36 => Whole(Control::UnlinkAck { id: integer(r)?, from: r.pid()?, to: r.pid()? }),
            2 | 12 => {
                r.raw()?; // unused; old nodes sent the cookie here
                let to = r.pid()?;
                self.token(r)?;
                Whole(Control::Send { from: None, to })
            }
            22 | 23 => {
                let (from, to) = (r.pid()?, r.pid()?);
                self.token(r)?;
                Whole(Control::Send { from: Some(from), to })
            }
            6 | 16 => {
                let from = r.pid()?;
                r.raw()?; // unused, as above
                let to = r.atom()?;
                self.token(r)?;
                Whole(Control::SendName { from, to })
            }
            33 | 34 => {
                let (from, to) = (r.pid()?, r.reference()?);
                self.token(r)?;
                Whole(Control::SendAlias { from, to })
            }
            3 | 13 => {
                let (from, to) = (r.pid()?, r.pid()?);
                self.token(r)?;
                Whole(Control::Exit { from, to, reason: r.raw()? })
            }
            8 | 18 => {
                let (from, to) = (r.pid()?, r.pid()?);
                self.token(r)?;
                Whole(Control::Exit2 { from, to, reason: r.raw()? })
            }
            24 | 25 => {
                let (from, to) = (r.pid()?, r.pid()?);
                self.token(r)?;
                WantsReason(WithReason::Exit { from, to })
            }
            26 | 27 => {
                let (from, to) = (r.pid()?, r.pid()?);
                self.token(r)?;
                WantsReason(WithReason::Exit2 { from, to })
            }
            19 => Whole(Control::Monitor { from: r.pid()?, to: proc(r)?, reference: r.reference()? }),
            20 => Whole(Control::Demonitor { from: r.pid()?, to: proc(r)?, reference: r.reference()? }),
            21 => Whole(Control::MonitorExit {
                from: proc(r)?,
                to: r.pid()?,
                reference: r.reference()?,
                reason: r.raw()?,
            }),
            28 => WantsReason(WithReason::MonitorExit { from: proc(r)?, to: r.pid()?, reference: r.reference()? }),
            29 | 30 => Whole(self.spawn_request(r)?),
            37 => self.altact(r)?,
            // 31 and 32, the only others that `Signal::of` accepts.
            _ => Whole(self.spawn_reply(r)?),
        })
    }

    fn token(&self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        if self.traced {
            r.raw()?;
        }
        Ok(())
    }

    /// Reads `{37, Flags, From, To}` or `{37, Flags, From, To, Token}`. The flags determine the
    /// type of `To`.
    fn altact(&self, r: &mut Reader<'_>) -> Result<Partial, DecodeError> {
        use Partial::{WantsReason, Whole};
        let (flags, from) = (r.integer()?, r.pid()?);
        let has = |flag| flags & flag != 0;
        if has(altact::TOKEN) != (self.arity == 5) {
            return Err(DecodeError::OtherArity);
        }
        let partial = match (has(altact::EXIT), has(altact::ALIAS), has(altact::NAME)) {
            // This node creates no aliases, so an exit signal to an alias has no receiver, and is
            // treated as a message to one.
            (_, true, _) => Whole(Control::SendAlias { from, to: r.reference()? }),
            (true, ..) => WantsReason(WithReason::Exit2 { from, to: r.pid()? }),
            (false, _, true) => Whole(Control::SendName { from, to: r.atom()? }),
            (false, _, false) => Whole(Control::Send { from: Some(from), to: r.pid()? }),
        };
        if self.arity == 5 {
            r.raw()?;
        }
        Ok(partial)
    }

    fn spawn_request(&self, r: &mut Reader<'_>) -> Result<Control, DecodeError> {
        let (request, from, group_leader) = (r.reference()?, r.pid()?, r.pid()?);
        r.expect_tuple(3)?;
        let (module, function) = (r.atom()?, r.atom()?);
        let arity = u8::try_from(r.integer()?).map_err(|_| DecodeError::IntegerRange)?;
        let options = r.raw()?;
        self.token(r)?;
        let new = NewProcess { group_leader, module, function, arity, options };
        Ok(Control::SpawnRequest { request, from, new: new.into() })
    }

    fn spawn_reply(&self, r: &mut Reader<'_>) -> Result<Control, DecodeError> {
        let (request, to) = (r.reference()?, r.pid()?);
        let flags = u32::try_from(r.integer()?).map_err(|_| DecodeError::IntegerRange)?;
        let result = if r.peek()? == Kind::Atom { Err(r.atom()?) } else { Ok(r.pid()?) };
        self.token(r)?;
        Ok(Control::SpawnReply { request, to, flags, result })
    }
}

/// Reads an integer of any size without decoding it, to send it back.
fn integer(r: &mut Reader<'_>) -> Result<Raw, DecodeError> {
    match r.peek()? {
        Kind::Integer => r.raw(),
        found => Err(DecodeError::Unexpected { wanted: Kind::Integer, found }),
    }
}

fn proc(r: &mut Reader<'_>) -> Result<Proc, DecodeError> {
    if r.peek()? == Kind::Atom { Ok(Proc::Name(r.atom()?)) } else { Ok(Proc::Pid(r.pid()?)) }
}

#[cfg(test)]
mod tests;
