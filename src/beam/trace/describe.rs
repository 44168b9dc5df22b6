//! Describes frames, handshake packets and EPMD messages in words. Pure.
//!
//! A description has names, numbers and sizes, but never a challenge, a digest or the content of a
//! payload. Some variants of a control message differ only in a trace token or in the position of
//! the reason. They share one name, because they are one value of [`Control`].

use bytes::Bytes;

use super::Direction;
use crate::dist::control::{self as signals, Control, ControlError, Decoded, NewProcess, Proc};
use crate::dist::flags::{self, Flags};
use crate::dist::header::Headers;
use crate::epmd::protocol::EpmdRequest;
use crate::etf::{Atoms, Pid, Reference};

/// Cuts a text to a number of bytes, and appends `…` if something was cut.
pub(super) fn cut(mut text: String, most: usize) -> String {
    const MARK: &str = "…";
    if text.len() > most {
        let end = (0..=most.saturating_sub(MARK.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str(MARK);
    }
    text
}

/// Escapes a name from outside, so that it can neither begin a line nor drive a terminal.
fn name(text: &str) -> String {
    text.escape_debug().to_string()
}

fn name_of_bytes(bytes: &[u8]) -> String {
    name(&String::from_utf8_lossy(bytes))
}

/// Writes an atom as Erlang does.
fn atom(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '@'));
    if is_plain { text.to_owned() } else { format!("'{}'", name(text)) }
}

fn bytes(size: usize) -> String {
    if size == 1 { "1 byte".to_owned() } else { format!("{size} bytes") }
}

// ---- Connections ----------------------------------------------------------------------------

fn known(address: Option<String>) -> String {
    address.unwrap_or_else(|| "an unknown address".to_owned())
}

pub(super) fn accepted(peer: &str, address: Option<String>) -> String {
    format!("the peer at {} is named {}", known(address), name(peer))
}

pub(super) fn opened(dialled: bool, address: Option<String>) -> String {
    let address = known(address);
    if dialled { format!("TCP connection to {address}") } else { format!("TCP connection from {address}") }
}

pub(super) fn connected(creation: u32, agreed: Flags) -> String {
    format!("connected: creation {creation}, agreed flags {}", flags(agreed.bits()))
}

/// Returns the names of flags, and the other bits in hexadecimal.
fn flags(bits: u64) -> String {
    let (names, unnamed) = flags::all_names(bits);
    let names = names.into_iter().map(str::to_owned);
    let all: Vec<String> = names.chain((unnamed != 0).then(|| format!("{unnamed:#x}"))).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(" ") }
}

// ---- Handshake packets ----------------------------------------------------------------------

/// Describes a handshake packet without its length. `from_dialler` distinguishes a name from a
/// challenge.
pub(super) fn packet(packet: &[u8], from_dialler: bool) -> String {
    let known = match packet {
        [b'N', rest @ ..] if from_dialler => name_packet(rest),
        [b'N', rest @ ..] => challenge_packet(rest),
        [b'n', rest @ ..] => old_name_packet(rest),
        [b'c', rest @ ..] => complement_packet(rest),
        [b's', rest @ ..] => status_packet(rest),
        [b'r', rest @ ..] => Some(format!("challenge reply: {} with the proof of the cookie", bytes(rest.len()))),
        [b'a', rest @ ..] => {
            Some(format!("challenge acknowledgement: {} with the proof of the cookie", bytes(rest.len())))
        }
        _ => None,
    };
    known.unwrap_or_else(|| format!("malformed packet of {}", bytes(packet.len())))
}

fn name_packet(fields: &[u8]) -> Option<String> {
    let (flags, fields) = fields.split_first_chunk()?;
    let (creation, fields) = fields.split_first_chunk()?;
    Some(named("name", u64::from_be_bytes(*flags), u32::from_be_bytes(*creation), counted(fields)?))
}

/// Describes a challenge: a name packet with a challenge, which is not shown, before the creation.
fn challenge_packet(fields: &[u8]) -> Option<String> {
    let (flags, fields) = fields.split_first_chunk()?;
    let (_challenge, fields) = fields.split_first_chunk::<4>()?;
    let (creation, fields) = fields.split_first_chunk()?;
    Some(named("challenge", u64::from_be_bytes(*flags), u32::from_be_bytes(*creation), counted(fields)?))
}

fn named(packet: &str, bits: u64, creation: u32, node: &[u8]) -> String {
    format!("{packet}: {}, creation {creation}, flags {}", name_of_bytes(node), flags(bits))
}

/// Reads a length of two bytes, and that many bytes.
fn counted(fields: &[u8]) -> Option<&[u8]> {
    let (length, fields) = fields.split_first_chunk()?;
    fields.get(..usize::from(u16::from_be_bytes(*length)))
}

/// Describes a name packet of version 5: version, lower half of the flags, name.
fn old_name_packet(fields: &[u8]) -> Option<String> {
    let (version, fields) = fields.split_first_chunk()?;
    let (bits, node) = fields.split_first_chunk()?;
    let (version, bits) = (u16::from_be_bytes(*version), u64::from(u32::from_be_bytes(*bits)));
    Some(format!("name of version {version}: {}, flags {}", name_of_bytes(node), flags(bits)))
}

/// Describes a complement, which has what a name packet of version 5 lacks: the upper half of the
/// flags, and the creation.
fn complement_packet(fields: &[u8]) -> Option<String> {
    let (high, fields) = fields.split_first_chunk()?;
    let (creation, _) = fields.split_first_chunk()?;
    let (high, creation) = (u64::from(u32::from_be_bytes(*high)) << 32, u32::from_be_bytes(*creation));
    Some(format!("complement: creation {creation}, flags {}", flags(high)))
}

/// Describes a status. Shows only statuses of the protocol, because other statuses may have any
/// content.
fn status_packet(status: &[u8]) -> Option<String> {
    let status = match status {
        b"ok" | b"ok_simultaneous" | b"nok" | b"not_allowed" | b"alive" | b"true" | b"false" => name_of_bytes(status),
        _ => format!("the name {}", name_of_bytes(counted(status.strip_prefix(b"named:")?)?)),
    };
    Some(format!("status: {status}"))
}

// ---- Frames ---------------------------------------------------------------------------------

/// Describes a received frame and its decoded content.
pub(super) fn frame(frame: &Bytes, decoded: &Result<Decoded, ControlError>) -> String {
    match decoded {
        Ok(Some((signal, payload))) => control(signal, payload.as_ref().map(Bytes::len)),
        Ok(None) => fragment(frame).unwrap_or_else(|| format!("a message without effect, {}", bytes(frame.len()))),
        Err(error) => format!("frame of {} that cannot be read: {error}", bytes(frame.len())),
    }
}

/// Describes a fragment that does not complete a message.
fn fragment(frame: &[u8]) -> Option<String> {
    let fields = frame.strip_prefix(&[131, 69]).or(frame.strip_prefix(&[131, 70]))?;
    let (sequence, fields) = fields.split_first_chunk()?;
    let (fragment, _) = fields.split_first_chunk()?;
    let (sequence, fragment) = (u64::from_be_bytes(*sequence), u64::from_be_bytes(*fragment));
    Some(format!("fragment {fragment} of sequence {sequence}, {}", bytes(frame.len())))
}

/// Describes a probe: a whole frame from this node, with its length.
pub(super) fn probe(frame: &Bytes, agreed: Flags) -> String {
    let content = frame.slice(frame.len().min(4)..);
    let decoded = signals::decode(&content, Headers::new(agreed).as_mut(), &mut Atoms::new());
    format!("{} (the peer is silent)", self::frame(&content, &decoded))
}

/// Describes a signal with a payload of this many bytes.
pub(super) fn control(signal: &Control, payload: Option<usize>) -> String {
    let mut text = operands(signal);
    if let Some(size) = payload {
        text.push_str(&format!(", payload {}", bytes(size)));
    }
    text
}

fn operands(signal: &Control) -> String {
    match signal {
        Control::Link { from, to } => between("LINK", from, to),
        Control::Unlink { id: Some(_), from, to } => between("UNLINK_ID", from, to),
        Control::Unlink { id: None, from, to } => between("UNLINK", from, to),
        Control::UnlinkAck { from, to, .. } => between("UNLINK_ID_ACK", from, to),
        Control::Send { from: Some(from), to } => between("SEND_SENDER", from, to),
        Control::Send { from: None, to } => format!("SEND to {}", pid(to)),
        Control::SendName { from, to } => format!("REG_SEND from {} to {}", pid(from), atom(to.as_str())),
        Control::SendAlias { from, to } => format!("ALIAS_SEND from {} to {}", pid(from), reference(to)),
        Control::Exit { from, to, reason } => with_reason(&between("EXIT", from, to), reason.bytes()),
        Control::Exit2 { from, to, reason } => with_reason(&between("EXIT2", from, to), reason.bytes()),
        Control::Monitor { from, to, reference: monitor } => {
            format!("MONITOR_P from {} to {}, {}", pid(from), process(to), reference(monitor))
        }
        Control::Demonitor { from, to, reference: monitor } => {
            format!("DEMONITOR_P from {} to {}, {}", pid(from), process(to), reference(monitor))
        }
        Control::MonitorExit { from, to, reference: monitor, reason } => {
            let text = format!("MONITOR_P_EXIT from {} to {}, {}", process(from), pid(to), reference(monitor));
            with_reason(&text, reason.bytes())
        }
        Control::SpawnRequest { request, from, new } => {
            let NewProcess { module, function, arity, .. } = &**new;
            let function = format!("{}:{}/{arity}", atom(module.as_str()), atom(function.as_str()));
            format!("SPAWN_REQUEST from {}, {}, {function}", pid(from), reference(request))
        }
        Control::SpawnReply { request, to, result, .. } => {
            let result = match result {
                Ok(new) => pid(new),
                Err(error) => format!("error {}", atom(error.as_str())),
            };
            format!("SPAWN_REPLY to {}, {}, {result}", pid(to), reference(request))
        }
    }
}

fn between(operation: &str, from: &Pid, to: &Pid) -> String {
    format!("{operation} from {} to {}", pid(from), pid(to))
}

fn with_reason(text: &str, reason: &[u8]) -> String {
    format!("{text}, reason {}", bytes(reason.len()))
}

fn process(process: &Proc) -> String {
    match process {
        Proc::Pid(by_pid) => pid(by_pid),
        Proc::Name(by_name) => atom(by_name.as_str()),
    }
}

/// Writes a pid as Erlang does, but with the name of the node in place of its number.
fn pid(Pid { node, id, serial, .. }: &Pid) -> String {
    format!("<{}.{id}.{serial}>", name(node.as_str()))
}

fn reference(Reference { node, ids, .. }: &Reference) -> String {
    let words: Vec<String> = ids.iter().rev().map(u32::to_string).collect();
    format!("#Ref<{}.{}>", name(node.as_str()), words.join("."))
}

// ---- EPMD -----------------------------------------------------------------------------------

pub(super) fn epmd_request(request: &EpmdRequest) -> String {
    match request {
        EpmdRequest::Alive(entry) => {
            let kind = if entry.is_hidden() { "hidden node" } else { "node" };
            format!("ALIVE2_REQ: {kind} {} at port {}", name_of_bytes(entry.name()), entry.port())
        }
        EpmdRequest::Port(node) => format!("PORT_PLEASE2_REQ: {}", name_of_bytes(node)),
        EpmdRequest::Names => "NAMES_REQ".to_owned(),
        EpmdRequest::Dump => "DUMP_REQ".to_owned(),
        EpmdRequest::Kill => "KILL_REQ".to_owned(),
        EpmdRequest::Stop => "STOP_REQ".to_owned(),
    }
}

pub(super) fn epmd_answer(answer: &[u8]) -> String {
    match answer {
        [b'v', 0, a, b, c, d] => epmd_registered(u32::from_be_bytes([*a, *b, *c, *d])),
        [b'y', 0, a, b] => epmd_registered(u16::from_be_bytes([*a, *b]).into()),
        [b'v' | b'y', ..] => "ALIVE2_RESP: refused".to_owned(),
        [b'w', 0, a, b, ..] => epmd_port(Some(u16::from_be_bytes([*a, *b]))),
        [b'w', ..] => epmd_port(None),
        b"OK" | b"NO" => format!("KILL_RESP: {}", name_of_bytes(answer)),
        _ => format!("response of {}", bytes(answer.len())),
    }
}

pub(crate) fn epmd_registered(creation: u32) -> String {
    format!("ALIVE2_RESP: registered, creation {creation}")
}

pub(crate) fn epmd_port(port: Option<u16>) -> String {
    port.map_or_else(|| "PORT2_RESP: no such name".to_owned(), |port| format!("PORT2_RESP: port {port}"))
}

pub(crate) fn epmd_names(names: usize) -> String {
    format!("NAMES_RESP: {names} {}", if names == 1 { "name" } else { "names" })
}

/// Appends the address of the other end.
pub(super) fn with_address(text: &str, direction: Direction, address: Option<String>) -> String {
    let Some(address) = address else { return text.to_owned() };
    let word = match direction {
        Direction::Received => "from",
        Direction::Sent => "to",
        Direction::Local => "with",
    };
    format!("{text} ({word} {address})")
}
