//! What an EPMD is asked and answers, and the names that it keeps. Pure.
//!
//! Spec: "EPMD Protocol" in OTP's erts documentation, and `do_request` in `erts/epmd/src/epmd_srv.c` where it is silent.

use std::collections::BTreeMap;

use crate::fair::Source;
use crate::limits;

/// A request, without its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `ALIVE2_REQ`: register a node for as long as the connection lasts.
    Alive(Entry),
    /// `PORT_PLEASE2_REQ`: where is the node of this name?
    Port(Vec<u8>),
    /// `NAMES_REQ`: all names.
    Names,
    /// `DUMP_REQ`: all names, for those who mend EPMD.
    Dump,
    /// `KILL_REQ`: end.
    Kill,
    /// `STOP_REQ`: forget this name; as the real one, we do so for nobody.
    Stop,
}

/// A registered node, as it described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    name: Vec<u8>,
    port: u16,
    /// Type, protocol and versions, as they came: nothing here depends on more than the highest version.
    kind: [u8; 2],
    highest: u16,
    lowest: u16,
    extra: Vec<u8>,
}

/// Takes fields off the front; none if there are too few bytes.
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

    /// A length of two bytes, and that many bytes.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}

impl Request {
    /// Reads a request; none if it is none.
    #[must_use]
    pub fn read(request: &[u8]) -> Option<Self> {
        let (kind, rest) = request.split_first()?;
        let mut fields = Fields(rest);
        match kind {
            b'x' => {
                let (port, kind) = (fields.u16()?, fields.take()?);
                let (highest, lowest) = (fields.u16()?, fields.u16()?);
                let name = fields.counted()?.to_vec();
                // Older nodes may leave this out.
                let extra = fields.counted().unwrap_or_default().to_vec();
                Some(Self::Alive(Entry { name, port, kind, highest, lowest, extra }))
            }
            b'z' => Some(Self::Port(rest.to_vec())),
            b'n' => Some(Self::Names),
            b'd' => Some(Self::Dump),
            b'k' => Some(Self::Kill),
            b's' => Some(Self::Stop),
            _ => None,
        }
    }

    /// Whether it is taken from this host only.
    #[must_use]
    pub fn is_local_only(&self) -> bool {
        matches!(self, Self::Alive(_) | Self::Dump | Self::Kill | Self::Stop)
    }
}

/// Whether a name is UTF-8, of at most [`limits::NODE_NAME`] bytes, and can stand in a line of its own. (The real one takes
/// line ends too, and its answer can then be read in more than one way.)
fn is_name(bytes: &[u8]) -> bool {
    let fits = !bytes.is_empty() && bytes.len() <= limits::NODE_NAME;
    fits && str::from_utf8(bytes).is_ok_and(|name| !name.contains(char::is_control))
}

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// What follows it.
    pub then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection is closed.
    Close,
    /// The connection is kept: while it lasts, its node is registered.
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
    /// Our own port, which some answers begin with.
    port: u16,
    nodes: BTreeMap<Vec<u8>, Registered>,
    /// Of the last node that registered: every one differs from the one before.
    creation: u32,
}

impl Table {
    /// An empty one. `random` is where creations begin, so that they differ from those before a restart.
    #[must_use]
    pub fn new(port: u16, random: u32) -> Self {
        Self { port, nodes: BTreeMap::new(), creation: random }
    }

    /// Answers the request of a connection from `source`.
    pub fn answer(&mut self, connection: u64, source: Source, request: Request) -> Answer {
        let close = |bytes| Answer { bytes, then: Then::Close };
        match request {
            Request::Alive(entry) => self.alive(connection, source, entry),
            Request::Port(name) => close(match self.nodes.get(&name) {
                Some(node) => port_answer(&node.entry),
                None => vec![b'w', 1],
            }),
            Request::Names => {
                close(self.lines(|name, port| [b"name ", name, format!(" at port {port}\n").as_bytes()].concat()))
            }
            Request::Dump => close(self.lines(|name, port| {
                [b"active name     <", name, format!("> at port {port}, fd = 0\n\0").as_bytes()].concat()
            })),
            Request::Kill if self.nodes.is_empty() => Answer { bytes: b"OK".to_vec(), then: Then::End },
            // As the real one without -relaxed_command_check.
            Request::Kill => close(b"NO".to_vec()),
            Request::Stop => close(Vec::new()),
        }
    }

    /// `ALIVE2_X_RESP` for nodes of version 6, `ALIVE2_RESP` for others.
    fn alive(&mut self, connection: u64, source: Source, entry: Entry) -> Answer {
        let newer = entry.highest >= 6;
        let taken = self.nodes.contains_key(&entry.name);
        if taken || !is_name(&entry.name) || !self.has_room_for(source) {
            let refused: &[u8] = if newer { &[b'v', 1, 0, 0, 0, 99] } else { &[b'y', 1, 0, 99] };
            return Answer { bytes: refused.to_vec(), then: Then::Close };
        }
        // 0 means any, and 1 to 3 are those of the older answer.
        self.creation = self.creation.wrapping_add(1).max(4);
        self.nodes.insert(entry.name.clone(), Registered { connection, source, entry });
        let bytes = if newer {
            [&[b'v', 0][..], &self.creation.to_be_bytes()].concat()
        } else {
            vec![b'y', 0, 0, u8::try_from(self.creation % 3 + 1).unwrap_or(1)]
        };
        Answer { bytes, then: Then::Keep }
    }

    /// Returns whether a source may register one more name. No source may hold more names than are
    /// free: one user alone can have half of them, two a third each, and another user always finds
    /// a free one.
    fn has_room_for(&self, source: Source) -> bool {
        let held = self.nodes.values().filter(|node| node.source == source).count();
        held < limits::EPMD_NODES.saturating_sub(self.nodes.len())
    }

    /// Our port, then a line for each node.
    fn lines(&self, line: impl Fn(&[u8], u16) -> Vec<u8>) -> Vec<u8> {
        let mut lines = u32::from(self.port).to_be_bytes().to_vec();
        for (name, node) in &self.nodes {
            lines.extend(line(name, node.entry.port));
        }
        lines
    }

    /// A connection has ended, and with it the registration that it had.
    pub fn gone(&mut self, connection: u64) {
        self.nodes.retain(|_, node| node.connection != connection);
    }
}

/// `PORT2_RESP`
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

/// The names in an answer to [`Request::Names`], each with its port: all lines that are whole and can be read. None if it
/// is too short to be one.
#[must_use]
pub fn names(answer: &[u8]) -> Option<Vec<(String, u16)>> {
    // The EPMD's own port comes first.
    let (_, lines) = answer.split_first_chunk::<4>()?;
    Some(lines.split_inclusive(|byte| *byte == b'\n').filter_map(name_and_port).collect())
}

/// `name NAME at port PORT`, a whole line.
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

    fn ask(table: &mut Table, connection: u64, request: &[u8]) -> Answer {
        ask_as(table, 1000, connection, request)
    }

    fn ask_as(table: &mut Table, uid: u32, connection: u64, request: &[u8]) -> Answer {
        table.answer(connection, Source::User(uid), Request::read(request).expect("a request"))
    }

    #[test]
    fn a_name_is_registered_once_and_free_when_its_connection_ends() {
        let mut table = Table::new(4369, u32::MAX);
        let first = ask(&mut table, 1, &alive(b"a", 6));
        assert_eq!(first, Answer { bytes: vec![b'v', 0, 0, 0, 0, 4], then: Then::Keep });
        let taken = ask(&mut table, 2, &alive(b"a", 6));
        assert_eq!(taken, Answer { bytes: vec![b'v', 1, 0, 0, 0, 99], then: Then::Close });
        assert_eq!(ask(&mut table, 3, b"za").bytes, b"w\0\x12\x34M\0\0\x06\0\x05\0\x01a\0\0");
        assert_eq!(ask(&mut table, 3, b"zb").bytes, b"w\x01");
        assert_eq!(ask(&mut table, 3, b"n").bytes, b"\0\0\x11\x11name a at port 4660\n");
        assert_eq!(ask(&mut table, 3, b"k"), Answer { bytes: b"NO".to_vec(), then: Then::Close });
        table.gone(2);
        assert_eq!(ask(&mut table, 3, b"zb").bytes, b"w\x01", "the end of another connection changes nothing");
        table.gone(1);
        let again = ask(&mut table, 4, &alive(b"a", 6));
        assert_eq!(again.bytes, [b'v', 0, 0, 0, 0, 5], "another creation");
        assert_eq!(ask(&mut table, 5, &alive(b"old", 5)).bytes, [b'y', 0, 0, 1]);
        table.gone(4);
        table.gone(5);
        assert_eq!(ask(&mut table, 6, b"k"), Answer { bytes: b"OK".to_vec(), then: Then::End });
    }

    #[test]
    fn names_are_bounded_and_no_user_keeps_them_from_others() {
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
        assert_eq!(ask_as(&mut table, 0, 1, &alive(b"again", 6)).then, Then::Close, "it still has more than are free");
        assert_eq!(ask_as(&mut table, 9, 1, &alive(b"honest", 6)).then, Then::Keep);
    }

    #[test]
    fn what_is_no_request_is_none() {
        for request in [&b""[..], b"y", b"x\x12\x34M\0\0\x06\0\x05\0\x02a"] {
            assert_eq!(Request::read(request), None, "{request:?}");
        }
        let mut table = Table::new(4369, 1);
        for name in [&b""[..], b"\xff", b"a\nname b at port 7", &vec![b'a'; limits::NODE_NAME + 1]] {
            assert_eq!(ask(&mut table, 1, &alive(name, 6)).bytes, [b'v', 1, 0, 0, 0, 99], "{name:?}");
        }
        assert_eq!(ask(&mut table, 1, b"z").bytes, b"w\x01");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered_or_refused(requests in proptest::collection::vec(any::<Vec<u8>>(), 1..20)) {
            let mut table = Table::new(4369, 1);
            for (connection, mut request) in requests.into_iter().enumerate() {
                if let Some(kind) = request.first_mut() {
                    *kind = b"xzndks"[usize::from(*kind) % 6];
                }
                if let Some(request) = Request::read(&request) {
                    table.answer(connection as u64, Source::User(0), request);
                }
            }
        }
    }
}
