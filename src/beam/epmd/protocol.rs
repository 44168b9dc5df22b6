//! The requests and responses of EPMD, and the table of registered names. Pure.
//!
//! Spec: "EPMD Protocol" in OTP's erts documentation, and `do_request` in
//! `erts/epmd/src/epmd_srv.c` for what it omits.

use std::collections::BTreeMap;

use crate::fair::Source;
use crate::limits;

/// A request, without its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpmdRequest {
    /// `ALIVE2_REQ`: registers a node for as long as the connection lasts.
    Alive(Entry),
    /// `PORT_PLEASE2_REQ`: requests the port of the node with this name.
    Port(Vec<u8>),
    /// `NAMES_REQ`: requests all names.
    Names,
    /// `DUMP_REQ`: requests all names, for debugging EPMD.
    Dump,
    /// `KILL_REQ`: ends EPMD.
    Kill,
    /// `STOP_REQ`: requests to unregister a name. As in the real EPMD, this is never done.
    Stop,
}

/// Node types.
const NORMAL: u8 = 77;
const HIDDEN: u8 = 72;

/// A registered node, as its request described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    name: Vec<u8>,
    port: u16,
    /// Node type and protocol, which are returned unchanged.
    kind: [u8; 2],
    highest: u16,
    lowest: u16,
    extra: Vec<u8>,
}

impl Entry {
    /// Creates the entry of a node that listens on `port`.
    #[must_use]
    pub fn new(name: &str, port: u16, hidden: bool) -> Self {
        let kind = [if hidden { HIDDEN } else { NORMAL }, 0];
        Self { name: name.as_bytes().to_vec(), port, kind, highest: 6, lowest: 5, extra: Vec::new() }
    }

    /// Returns the part of the node name before the `@`.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the port of the node.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the node registered as hidden.
    #[must_use]
    pub(crate) fn is_hidden(&self) -> bool {
        self.kind.first() == Some(&HIDDEN)
    }

    /// Returns whether a node may register with this entry. The name must fit into a line of an
    /// answer. The real EPMD accepts line ends too, which makes such an answer ambiguous.
    fn is_acceptable(&self) -> bool {
        let name = text(&self.name).is_some_and(|name| !name.contains(char::is_control));
        name && self.extra.len() <= limits::EPMD_EXTRA
    }

    /// Returns the size of the fields of variable length in bytes.
    fn bytes(&self) -> usize {
        self.name.len() + self.extra.len()
    }
}

/// Reads fields from the front. Returns `None` if there are too few bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// Reads a length of two bytes, and that many bytes.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}

impl EpmdRequest {
    /// Parses a request. Returns `None` if it gets no answer, because it is malformed, or its name
    /// is empty or contains a zero byte.
    #[must_use]
    pub fn read(request: &[u8]) -> Option<Self> {
        let (kind, rest) = request.split_first()?;
        let mut fields = Fields(rest);
        match kind {
            b'x' => {
                let (port, kind) = (fields.u16()?, fields.take()?);
                let (highest, lowest) = (fields.u16()?, fields.u16()?);
                let (name, extra) = (fields.counted()?, fields.counted()?);
                let (name, extra) = (named(name)?.to_vec(), extra.to_vec());
                Some(Self::Alive(Entry { name, port, kind, highest, lowest, extra }))
            }
            b'z' => {
                // Older clients end the name with a zero byte.
                let name = named(rest.strip_suffix(b"\0").unwrap_or(rest))?;
                text(name).map(|name| Self::Port(name.as_bytes().to_vec()))
            }
            b'n' => Some(Self::Names),
            b'd' => Some(Self::Dump),
            b'k' => Some(Self::Kill),
            b's' => Some(Self::Stop),
            _ => None,
        }
    }

    /// Returns the node name in the request, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Alive(entry) => Some(entry.name()),
            Self::Port(name) => Some(name),
            Self::Names | Self::Dump | Self::Kill | Self::Stop => None,
        }
    }

    /// Returns whether the request is accepted only from this host.
    #[must_use]
    pub(crate) fn is_local_only(&self) -> bool {
        matches!(self, Self::Alive(_) | Self::Dump | Self::Kill | Self::Stop)
    }
}

/// Returns the bytes of a name, or `None` if it is empty or contains a zero byte.
fn named(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty() && !bytes.contains(&0)).then_some(bytes)
}

/// Returns the name if it is UTF-8 of at most [`limits::EPMD_NAME`] characters.
fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok().filter(|name| name.chars().count() <= limits::EPMD_NAME)
}

/// The response to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpmdResponse {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// What follows the answer.
    pub then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection is closed.
    Close,
    /// The connection stays open. Its node is registered until it ends.
    Keep,
    /// This EPMD ends.
    End,
}

/// A name that is registered for as long as its connection lasts.
#[derive(Debug)]
struct Registered {
    connection: u64,
    source: Source,
    entry: Entry,
}

/// The registered names.
#[derive(Debug)]
pub struct Table {
    /// The port of this EPMD, with which some answers begin.
    port: u16,
    nodes: BTreeMap<Vec<u8>, Registered>,
    /// The creation of the last registered node. It differs from node to node.
    creation: u32,
}

impl Table {
    /// Creates an empty table. Creations start at `random`, so that they differ from those before a
    /// restart.
    #[must_use]
    pub fn new(port: u16, random: u32) -> Self {
        Self { port, nodes: BTreeMap::new(), creation: random }
    }

    /// Answers the request of a connection from `source`.
    pub fn answer(&mut self, connection: u64, source: Source, request: EpmdRequest) -> EpmdResponse {
        let close = |bytes| EpmdResponse { bytes, then: Then::Close };
        match request {
            EpmdRequest::Alive(entry) => self.alive(connection, source, entry),
            EpmdRequest::Port(name) => close(match self.nodes.get(&name) {
                Some(node) => port_answer(&node.entry),
                None => vec![b'w', 1],
            }),
            EpmdRequest::Names => {
                close(self.lines(|name, port| [b"name ", name, format!(" at port {port}\n").as_bytes()].concat()))
            }
            EpmdRequest::Dump => close(self.lines(|name, port| {
                [b"active name     <", name, format!("> at port {port}, fd = 0\n\0").as_bytes()].concat()
            })),
            EpmdRequest::Kill if self.nodes.is_empty() => EpmdResponse { bytes: b"OK".to_vec(), then: Then::End },
            // As the real EPMD without `-relaxed_command_check`.
            EpmdRequest::Kill => close(b"NO".to_vec()),
            EpmdRequest::Stop => close(Vec::new()),
        }
    }

    /// Registers a node. Answers nodes of version 6 with `ALIVE2_X_RESP`, and others with
    /// `ALIVE2_RESP`.
    fn alive(&mut self, connection: u64, source: Source, entry: Entry) -> EpmdResponse {
        let newer = entry.highest >= 6;
        if !entry.is_acceptable() || self.nodes.contains_key(&entry.name) || !self.may_register(source, &entry) {
            let refused: &[u8] = if newer { &[b'v', 1, 0, 0, 0, 99] } else { &[b'y', 1, 0, 99] };
            return EpmdResponse { bytes: refused.to_vec(), then: Then::Close };
        }
        // 0 means any creation, and 1 to 3 belong to the older answer.
        self.creation = self.creation.wrapping_add(1).max(4);
        self.nodes.insert(entry.name.clone(), Registered { connection, source, entry });
        let bytes = if newer {
            [&[b'v', 0][..], &self.creation.to_be_bytes()].concat()
        } else {
            vec![b'y', 0, 0, u8::try_from(self.creation % 3 + 1).unwrap_or(1)]
        };
        EpmdResponse { bytes, then: Then::Keep }
    }

    /// Returns whether a source may register one more name. A source may hold at most as many
    /// names, and as many bytes, as remain free. One user alone can hold half of them, and two
    /// users can hold a third each. A name of another user always fits.
    fn may_register(&self, source: Source, entry: &Entry) -> bool {
        let (mut names, mut bytes) = (0, 0);
        let (mut own_names, mut own_bytes) = (0, entry.bytes());
        for node in self.nodes.values() {
            names += 1;
            bytes += node.entry.bytes();
            if node.source == source {
                own_names += 1;
                own_bytes += node.entry.bytes();
            }
        }
        own_names < limits::EPMD_NODES.saturating_sub(names)
            && own_bytes <= limits::EPMD_NODES_BYTES.saturating_sub(bytes)
    }

    /// Returns the port of this EPMD, followed by a line for each node.
    fn lines(&self, line: impl Fn(&[u8], u16) -> Vec<u8>) -> Vec<u8> {
        let mut lines = u32::from(self.port).to_be_bytes().to_vec();
        for (name, node) in &self.nodes {
            lines.extend(line(name, node.entry.port));
        }
        lines
    }

    /// Removes the registration of a connection that has ended, if any.
    pub fn gone(&mut self, connection: u64) {
        self.nodes.retain(|_, node| node.connection != connection);
    }
}

/// Encodes a `PORT2_RESP`.
fn port_answer(entry: &Entry) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut answer = vec![b'w', 0];
    answer.extend(entry.port.to_be_bytes());
    answer.extend(entry.kind);
    answer.extend(entry.highest.to_be_bytes());
    answer.extend(entry.lowest.to_be_bytes());
    for field in [&entry.name, &entry.extra] {
        answer.extend(length(field));
        answer.extend(field);
    }
    answer
}

/// Returns the names in an answer to [`EpmdRequest::Names`], each with its port, from all complete
/// lines that can be read. Returns `None` if the answer is too short.
#[must_use]
pub fn names(answer: &[u8]) -> Option<Vec<(String, u16)>> {
    // The EPMD's own port comes first.
    let (_, lines) = answer.split_first_chunk::<4>()?;
    Some(lines.split_inclusive(|byte| *byte == b'\n').filter_map(name_and_port).collect())
}

/// Parses the whole line `name NAME at port PORT`.
fn name_and_port(line: &[u8]) -> Option<(String, u16)> {
    let line = str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (name, port) = line.strip_prefix("name ")?.rsplit_once(" at port ")?;
    Some((name.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alive(name: &[u8], highest: u16) -> Vec<u8> {
        let mut request = vec![b'x', 0x12, 0x34, 77, 0];
        request.extend(highest.to_be_bytes());
        request.extend([0, 5]);
        request.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        request.extend(name);
        request.extend([0, 0]);
        request
    }

    fn ask(table: &mut Table, connection: u64, request: &[u8]) -> EpmdResponse {
        ask_as(table, 1000, connection, request)
    }

    fn ask_as(table: &mut Table, uid: u32, connection: u64, request: &[u8]) -> EpmdResponse {
        table.answer(connection, Source::User(uid), EpmdRequest::read(request).expect("a request"))
    }

    #[test]
    fn a_name_is_registered_once_and_free_when_its_connection_ends() {
        let mut table = Table::new(4369, u32::MAX);
        let first = ask(&mut table, 1, &alive(b"a", 6));
        assert_eq!(first, EpmdResponse { bytes: vec![b'v', 0, 0, 0, 0, 4], then: Then::Keep });
        let taken = ask(&mut table, 2, &alive(b"a", 6));
        assert_eq!(taken, EpmdResponse { bytes: vec![b'v', 1, 0, 0, 0, 99], then: Then::Close });
        assert_eq!(ask(&mut table, 3, b"za").bytes, b"w\0\x12\x34M\0\0\x06\0\x05\0\x01a\0\0");
        assert_eq!(ask(&mut table, 3, b"zb").bytes, b"w\x01");
        assert_eq!(ask(&mut table, 3, b"n").bytes, b"\0\0\x11\x11name a at port 4660\n");
        assert_eq!(ask(&mut table, 3, b"k"), EpmdResponse { bytes: b"NO".to_vec(), then: Then::Close });
        table.gone(2);
        assert_eq!(ask(&mut table, 3, b"zb").bytes, b"w\x01", "the end of another connection changes nothing");
        table.gone(1);
        let again = ask(&mut table, 4, &alive(b"a", 6));
        assert_eq!(again.bytes, [b'v', 0, 0, 0, 0, 5], "another creation");
        assert_eq!(ask(&mut table, 5, &alive(b"old", 5)).bytes, [b'y', 0, 0, 1]);
        table.gone(4);
        table.gone(5);
        assert_eq!(ask(&mut table, 6, b"k"), EpmdResponse { bytes: b"OK".to_vec(), then: Then::End });
    }

    #[test]
    fn names_are_bounded_and_no_user_can_hold_all() {
        let mut table = Table::new(4369, 1);
        let mut connection = 0;
        let mut held = Vec::new();
        // Each user registers as many as it can.
        for uid in 0..4 {
            held.push(0);
            loop {
                connection += 1;
                let name = format!("u{uid}_{connection}");
                if ask_as(&mut table, uid, connection, &alive(name.as_bytes(), 6)).then == Then::Close {
                    break;
                }
                held[uid as usize] += 1;
            }
        }
        assert_eq!(held[0], limits::EPMD_NODES / 2);
        assert!(held.iter().all(|held| *held > 0) && held.iter().sum::<usize>() <= limits::EPMD_NODES, "{held:?}");
        table.gone(1);
        assert_eq!(
            ask_as(&mut table, 0, 1, &alive(b"again", 6)).then,
            Then::Close,
            "the user holds more names than are free"
        );
        assert_eq!(ask_as(&mut table, 9, 1, &alive(b"honest", 6)).then, Then::Keep);
    }

    #[test]
    fn a_malformed_request_is_not_answered() {
        let without_extra = b"x\x12\x34M\0\0\x06\0\x05\0\x01a";
        let truncated_extra = b"x\x12\x34M\0\0\x06\0\x05\0\x01a\0\x02b";
        for request in [&b""[..], b"y", b"x\x12\x34M\0\0\x06\0\x05\0\x02a", without_extra, truncated_extra] {
            assert_eq!(EpmdRequest::read(request), None, "{request:?}");
        }
        for name in [&b""[..], b"a\0", b"a\0b"] {
            assert_eq!(EpmdRequest::read(&alive(name, 6)), None, "{name:?}");
        }
        let too_long = "\u{1f600}".repeat(limits::EPMD_NAME + 1);
        for name in [&b""[..], b"\0", b"a\0b", b"\xff", too_long.as_bytes()] {
            assert_eq!(EpmdRequest::read(&[b"z", name].concat()), None, "{name:?}");
        }
    }

    #[test]
    fn a_name_has_at_most_255_characters() {
        let mut table = Table::new(4369, 1);
        for name in [&b"\xff"[..], b"a\nname b at port 7", "\u{1f600}".repeat(limits::EPMD_NAME + 1).as_bytes()] {
            assert_eq!(ask(&mut table, 1, &alive(name, 6)).bytes, [b'v', 1, 0, 0, 0, 99], "{name:?}");
        }
        for character in ["a", "\u{e9}", "\u{1f600}"] {
            let name = character.repeat(limits::EPMD_NAME);
            assert_eq!(ask(&mut table, 1, &alive(name.as_bytes(), 6)).then, Then::Keep, "{name}");
            for end in ["", "\0"] {
                let answer = ask(&mut table, 2, &["z", &name, end].concat().into_bytes()).bytes;
                assert_eq!(answer.get(..4), Some(&b"w\0\x12\x34"[..]), "{name}");
            }
        }
    }

    #[test]
    fn extra_data_has_at_most_1020_bytes_and_is_returned() {
        let mut table = Table::new(4369, 1);
        let with_extra = |name: &[u8], length: usize| {
            let mut request = alive(name, 6);
            request.truncate(request.len() - 2);
            request.extend(u16::try_from(length).unwrap().to_be_bytes());
            request.extend(vec![0xff; length]);
            request
        };
        let accepted = ask(&mut table, 1, &with_extra(b"a", limits::EPMD_EXTRA));
        assert_eq!(accepted.then, Then::Keep);
        assert!(ask(&mut table, 2, b"za").bytes.ends_with(&[0xff; limits::EPMD_EXTRA]));
        let refused = ask(&mut table, 3, &with_extra(b"b", limits::EPMD_EXTRA + 1));
        assert_eq!(refused, EpmdResponse { bytes: vec![b'v', 1, 0, 0, 0, 99], then: Then::Close });
    }

    #[test]
    fn long_names_are_bounded_and_leave_space_for_other_users() {
        let mut table = Table::new(4369, 1);
        let mut connection = 0;
        let mut fill = |table: &mut Table, uid: u32| {
            let mut held = 0;
            loop {
                connection += 1;
                let name = format!("{:\u{1f600}<1$}", connection, limits::EPMD_NAME);
                if ask_as(table, uid, connection, &alive(name.as_bytes(), 6)).then == Then::Close {
                    return held;
                }
                held += name.len();
            }
        };
        let held: Vec<usize> = (0..3).map(|uid| fill(&mut table, uid)).collect();
        assert!(held[0] <= limits::EPMD_NODES_BYTES / 2 && held[2] > 0, "{held:?}");
        assert!(held.iter().sum::<usize>() < limits::EPMD_NODES_BYTES);
        assert_eq!(ask_as(&mut table, 9, 0, &alive(b"honest", 6)).then, Then::Keep);
        let listed = ask(&mut table, 0, b"n").bytes.len();
        assert!(listed < limits::EPMD_NODES_BYTES + limits::EPMD_NODES * 21, "{listed}");
    }

    proptest! {
        #[test]
        fn any_request_is_answered_or_refused(requests in proptest::collection::vec(any::<Vec<u8>>(), 1..20)) {
            let mut table = Table::new(4369, 1);
            for (connection, mut request) in requests.into_iter().enumerate() {
                if let Some(kind) = request.first_mut() {
                    *kind = b"xzndks"[usize::from(*kind) % 6];
                }
                if let Some(request) = EpmdRequest::read(&request) {
                    table.answer(connection as u64, Source::User(0), request);
                }
            }
        }
    }
}
