//! Encodes control messages. Pure.
//!
//! This node sends each message as one frame without fragments, and with a header that lists no
//! atoms. So a small message waits only for the messages before it in the queue, which preserves
//! the order. See `docs/internals/benchmarks.md`.

use std::borrow::Cow;

use super::super::flags::{self, ALTACT_SIG, Flags};
use super::super::header;
use super::{Control, NewProcess, PASS_THROUGH, Proc, altact};
use crate::etf::{Iovec, Raw, Writer};

/// Appends a whole frame, with its length, to `out`. `payload` is the message of a send or the
/// arguments of a spawn request. The agreed flags select the form of the frame, and the old or the
/// new form of the signal.
pub fn encode(control: &Control, payload: Option<&Iovec>, agreed: Flags, out: &mut Vec<u8>) {
    let Some(payload) = encode_head(control, payload, agreed, out) else { return };
    for (small, large) in payload.pieces() {
        out.extend_from_slice(small);
        out.extend_from_slice(large.map_or(&[], |large| large));
    }
}

/// Appends a frame as [`encode`] does, but returns its payload, if any, instead of appending it.
/// The payload must follow unchanged.
pub(crate) fn encode_head<'r>(
    control: &'r Control,
    payload: Option<&'r Iovec>,
    agreed: Flags,
    out: &mut Vec<u8>,
) -> Option<Cow<'r, Iovec>> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let headers = flags::headers(agreed);
    if headers {
        out.extend_from_slice(&header::OURS);
    } else {
        out.push(PASS_THROUGH);
    }
    let mut w = Writer::new(out);
    if !headers {
        w.version();
    }
    let reason = write_control(control, agreed, &mut w);
    let payload = reason.map(|reason| Cow::Owned(reason.clone().into())).or(payload.map(Cow::Borrowed));
    if payload.is_some() && !headers {
        w.version();
    }
    let length = out.len() - start - 4 + payload.as_ref().map_or(0, |payload| payload.size());
    // No frame comes near 4 GiB: forwarded terms arrived in a frame of at most `limits::FRAME`, and
    // events are small.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    payload
}

/// Writes the control tuple. Returns the reason if it follows as the payload.
fn write_control<'c>(control: &'c Control, agreed: Flags, w: &mut Writer<'_>) -> Option<&'c Raw> {
    let payload_reasons = agreed.contains(Flags::EXIT_PAYLOAD);
    match control {
        Control::Link { from, to } => op(w, 1, 3).pid(from).pid(to),
        Control::Unlink { id: Some(id), from, to } => op(w, 35, 4).raw(id).pid(from).pid(to),
        Control::Unlink { id: None, from, to } => op(w, 4, 3).pid(from).pid(to),
        Control::UnlinkAck { id, from, to } => op(w, 36, 4).raw(id).pid(from).pid(to),
        Control::Send { from: Some(from), to } if agreed.contains(Flags::SEND_SENDER) => op(w, 22, 3).pid(from).pid(to),
        Control::Send { to, .. } => op(w, 2, 3).atom("").pid(to),
        Control::SendName { from, to } => op(w, 6, 4).pid(from).atom("").atom_of(to),
        Control::SendAlias { from, to } if agreed.contains(ALTACT_SIG) => {
            op(w, 37, 4).int(altact::ALIAS).pid(from).reference(to)
        }
        Control::SendAlias { from, to } => op(w, 33, 3).pid(from).reference(to),
        Control::Exit { from, to, reason } if payload_reasons => {
            op(w, 24, 3).pid(from).pid(to);
            return Some(reason);
        }
        Control::Exit { from, to, reason } => op(w, 3, 4).pid(from).pid(to).raw(reason),
        Control::Exit2 { from, to, reason } if payload_reasons => {
            op(w, 26, 3).pid(from).pid(to);
            return Some(reason);
        }
        Control::Exit2 { from, to, reason } => op(w, 8, 4).pid(from).pid(to).raw(reason),
        Control::Monitor { from, to, reference } => write_proc(op(w, 19, 4).pid(from), to).reference(reference),
        Control::Demonitor { from, to, reference } => write_proc(op(w, 20, 4).pid(from), to).reference(reference),
        Control::MonitorExit { from, to, reference, reason } if payload_reasons => {
            write_proc(op(w, 28, 4), from).pid(to).reference(reference);
            return Some(reason);
        }
        Control::MonitorExit { from, to, reference, reason } => {
            write_proc(op(w, 21, 5), from).pid(to).reference(reference).raw(reason)
        }
        Control::SpawnRequest { request, from, new } => {
            let NewProcess { group_leader, module, function, arity, options } = &**new;
            op(w, 29, 6).reference(request).pid(from).pid(group_leader);
            w.tuple(3).atom_of(module).atom_of(function).int(i64::from(*arity)).raw(options)
        }
        Control::SpawnReply { request, to, flags, result } => {
            let w = op(w, 31, 5).reference(request).pid(to).int(i64::from(*flags));
            match result {
                Ok(pid) => w.pid(pid),
                Err(why) => w.atom_of(why),
            }
        }
    };
    None
}

fn op<'w, 'b>(w: &'w mut Writer<'b>, operation: i64, arity: u32) -> &'w mut Writer<'b> {
    w.tuple(arity).int(operation)
}

fn write_proc<'w, 'b>(w: &'w mut Writer<'b>, proc: &Proc) -> &'w mut Writer<'b> {
    match proc {
        Proc::Pid(pid) => w.pid(pid),
        Proc::Name(name) => w.atom_of(name),
    }
}
