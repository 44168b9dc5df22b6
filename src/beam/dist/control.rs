//! Control messages: what a frame of an established connection says ("Protocol between Connected Nodes" in OTP's erts
//! documentation, `dist.h` and `dist.c` in erts).
//!
//! A frame is pass-through: `112`, the control tuple, and for some operations a payload, each of the two with its own
//! version byte; or, where that was agreed, both follow a distribution header, without versions. They are decoded apart, so
//! that a request whose payload can't be read can still be answered. Variants of an operation that differ only in where a
//! reason stands or in a trace token are one value here.

use bytes::Bytes;

use super::flags::Flags;
use super::header::{HeaderError, Headers};
use crate::etf::{Atom, Atoms, DecodeError, Kind, Pid, Raw, Reader, Reference};

mod write;

pub use write::encode;
pub(crate) use write::encode_head;

/// The first byte of a frame without distribution header.
const PASS_THROUGH: u8 = 112;

/// Flags of `ALTACT_SIG_SEND` (`ERTS_DOP_ALTACT_SIG_FLG_*` in erts' `dist.h`). A signal of priority is for us what any other
/// is, as there are no queues of messages here.
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

/// One signal between processes of two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// `LINK` 1.
    Link {
        /// The process that links.
        from: Pid,
        /// Ours.
        to: Pid,
    },
    /// `UNLINK_ID` 35, or `UNLINK` 4 of a node that doesn't know it (then without `id`, and nothing is acknowledged).
    Unlink {
        /// To be echoed in the acknowledgement.
        id: Option<Raw>,
        /// The process that unlinks.
        from: Pid,
        /// The other end.
        to: Pid,
    },
    /// `UNLINK_ID_ACK` 36.
    UnlinkAck {
        /// As in the request.
        id: Raw,
        /// Who acknowledges.
        from: Pid,
        /// Who asked.
        to: Pid,
    },
    /// `SEND` 2, `SEND_SENDER` 22 and their `_TT`; a message follows as payload.
    Send {
        /// The sender, where it is told.
        from: Option<Pid>,
        /// The receiver.
        to: Pid,
    },
    /// `REG_SEND` 6 and `_TT` 16; a message follows as payload.
    SendName {
        /// The sender.
        from: Pid,
        /// Registered name of the receiver.
        to: Atom,
    },
    /// `ALIAS_SEND` 33 and `_TT` 34, or `ALTACT_SIG_SEND` 37, which replaces them from OTP 28 on; a message follows as
    /// payload.
    SendAlias {
        /// The sender.
        from: Pid,
        /// The alias of the receiver.
        to: Reference,
    },
    /// `EXIT` 3, `PAYLOAD_EXIT` 24 and their `_TT`: a linked process ended.
    Exit {
        /// Which.
        from: Pid,
        /// To whom it was linked.
        to: Pid,
        /// Its exit reason.
        reason: Raw,
    },
    /// `EXIT2` 8, `PAYLOAD_EXIT2` 26 and their `_TT`: somebody called `exit(Pid, Reason)`.
    Exit2 {
        /// Who.
        from: Pid,
        /// On whom.
        to: Pid,
        /// The reason given.
        reason: Raw,
    },
    /// `MONITOR_P` 19.
    Monitor {
        /// The process that wants to be told.
        from: Pid,
        /// Of whose end.
        to: Proc,
        /// The monitor.
        reference: Reference,
    },
    /// `DEMONITOR_P` 20.
    Demonitor {
        /// Who monitored.
        from: Pid,
        /// Whom.
        to: Proc,
        /// The monitor.
        reference: Reference,
    },
    /// `MONITOR_P_EXIT` 21 and `PAYLOAD_MONITOR_P_EXIT` 28.
    MonitorExit {
        /// Who ended.
        from: Proc,
        /// Who monitored it.
        to: Pid,
        /// The monitor.
        reference: Reference,
        /// Its exit reason.
        reason: Raw,
    },
    /// `SPAWN_REQUEST` 29 and `_TT` 30; the list of arguments follows as payload.
    SpawnRequest {
        /// To be echoed in the reply; with the option `monitor` also the monitor.
        request: Reference,
        /// Who asks.
        from: Pid,
        /// What for. Apart, since it would make room for itself in every signal.
        new: Box<NewProcess>,
    },
    /// `SPAWN_REPLY` 31 and `_TT` 32.
    SpawnReply {
        /// As in the request.
        request: Reference,
        /// Who asked.
        to: Pid,
        /// 1: a link, 2: a monitor was made.
        flags: u32,
        /// The pid, or an atom that says why not.
        result: Result<Pid, Atom>,
    },
}

impl Control {
    /// Whether a peer with which these flags were agreed knows the signal. To one that doesn't it must not be sent: `ei`, which
    /// offers one of the two flags of monitors, and jinterface, which offers none, give up a connection over a monitor.
    ///
    /// The end of a monitor is sent regardless of the flags, because a peer that has sent a monitor
    /// waits for it. (erts accepts the monitor of such a peer too, but never sends its end:
    /// `erts_dsig_send_m_exit` in `dist.c`.)
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

/// What a process is to be that a peer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProcess {
    /// Its group leader.
    pub group_leader: Pid,
    /// Module.
    pub module: Atom,
    /// Function.
    pub function: Atom,
    /// Number of arguments.
    pub arity: u8,
    /// Options, a list.
    pub options: Raw,
}

/// A frame that can't be taken: the peer's fault, and the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Distribution headers and fragments were not negotiated.
    #[error("the peer sent a frame of type {0} where only pass-through frames were agreed")]
    NotPassThrough(u8),
    /// What precedes the control tuple is wrong, where headers were agreed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The control tuple is no term, or its fields have other types than its operation has.
    #[error("the peer sent a malformed control message: {0}")]
    Malformed(#[from] DecodeError),
    /// No such operation, or another number of fields than it has.
    #[error("the peer sent control message {operation} with {arity} fields, which is none")]
    Unknown {
        /// First element of the tuple.
        operation: i64,
        /// Size of the tuple.
        arity: u32,
    },
    /// A payload where none belongs, or none where one does.
    #[error("the peer sent control message {0} {1} a payload")]
    Payload(i64, &'static str),
}

/// A control message, and the undecoded payload (without a version) where there is one. `None` asks nothing of us: `NODE_LINK`
/// 5, `GROUP_LEADER` 7, or a message that is not complete.
pub type Decoded = Option<(Control, Option<Bytes>)>;

/// Returns how many bytes a decoded message keeps in memory, at least.
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

/// Takes a frame apart, of a connection whose frames have headers, or are pass-through if there is nothing to remember of them.
///
/// # Errors
/// See [`ControlError`]. A payload is not looked into, except for the reason of an exit, which it carries.
pub fn decode(frame: &Bytes, headers: Option<&mut Headers>, atoms: &mut Atoms) -> Result<Decoded, ControlError> {
    match (headers, frame.first()) {
        (Some(headers), _) => match headers.take(frame)? {
            Some(terms) => read(&terms, false, atoms),
            // The rest of the message is still to come.
            None => Ok(None),
        },
        (None, Some(&PASS_THROUGH)) => read(&frame.slice(1..), true, atoms),
        (None, other) => Err(ControlError::NotPassThrough(other.copied().unwrap_or(0))),
    }
}

/// Takes apart a control message and what follows it, each of the two with its version or not.
fn read(terms: &Bytes, versions: bool, atoms: &mut Atoms) -> Result<Decoded, ControlError> {
    let mut r = if versions { Reader::with_version(terms, atoms)? } else { Reader::new(terms, atoms) };
    let arity = r.tuple()?;
    let operation = r.integer()?;
    let signal = Signal::of(operation, arity)?;
    match operation {
        5 => return Ok(None),
        7 => {
            // The new group leader, and the process that gets it.
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

/// A signal whose reason travels as payload.
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

/// An operation and its number of fields, known to belong together.
struct Signal {
    operation: i64,
    arity: u32,
    /// Whether a trace token stands among the fields.
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
        // NODE_LINK {5} is a tuple of one; ALTACT_SIG_SEND has a trace token or not, as its flags say.
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
                r.raw()?; // an unused field, or the cookie of long ago
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
                r.raw()?; // likewise
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
            // 31 and 32: the last of those that `Signal::of` lets through.
            _ => Whole(self.spawn_reply(r)?),
        })
    }

    fn token(&self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        if self.traced {
            r.raw()?;
        }
        Ok(())
    }

    /// `{37, Flags, From, To}` or `{37, Flags, From, To, Token}`: what `To` is depends on the flags.
    fn altact(&self, r: &mut Reader<'_>) -> Result<Partial, DecodeError> {
        use Partial::{WantsReason, Whole};
        let (flags, from) = (r.integer()?, r.pid()?);
        let has = |flag| flags & flag != 0;
        if has(altact::TOKEN) != (self.arity == 5) {
            return Err(DecodeError::OtherArity);
        }
        let partial = match (has(altact::EXIT), has(altact::ALIAS), has(altact::NAME)) {
            // An exit signal to an alias: we give none away, so that it is for nobody, as a message to one is.
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

/// An integer of any size, to be echoed.
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
