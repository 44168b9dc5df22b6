//! A table of bytes that no honest node sends, each over a separate connection to the built daemon.
//! The daemon either closes the connection and logs the peer and the reason, or keeps it open and
//! ignores or answers the message. Meanwhile the daemon keeps running. A real Erlang node stays
//! connected, gets answers and sees the same groups.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

#[path = "hostile/connection.rs"]
mod connection;
#[path = "hostile/headers.rs"]
mod headers;
#[path = "hostile/signals.rs"]
mod signals;
mod support;
#[path = "hostile/terms.rs"]
mod terms;
#[path = "hostile/wire.rs"]
mod wire;

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener};

use beam::dist::flags;
use connection::{Hostile, read, receive_packet, tcp};
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::Erl;
use support::{Host, PATIENCE};
use wire::{atom, int, tuple, with};

/// The expected effect on the connection.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// The connection is closed, and the log gives the reason with these words.
    Closed(&'static str),
    /// The daemon waits for more bytes until the test hangs up.
    HungUp,
    /// No answer, and the connection stays open.
    Ignored,
    /// One signal is the answer, with this operation and these bytes in it, and the connection
    /// stays open.
    Answered(u8, &'static str),
}

/// A row of the table: the bytes, and the connection that writes them.
type Bytes = Box<dyn Fn(&Hostile) -> Vec<u8>>;

struct Row {
    name: String,
    expect: Expect,
    bytes: Bytes,
}

fn row(name: impl Into<String>, expect: Expect, bytes: impl Fn(&Hostile) -> Vec<u8> + 'static) -> Row {
    Row { name: name.into(), expect, bytes: Box::new(bytes) }
}

/// The daemon with a plugin, and a real node that is connected to it.
struct World {
    host: Host,
    daemon: Daemon,
    port: u16,
    witness: Erl,
    groups: String,
    epmd: Epmd,
}

/// The pids of the daemon's processes, as a real node sees them.
const GROUPS: &str = r#"[pg:get_members(hecate_daemons), pg:get_members({hecate_plugin, <<"hecate-traderd">>})]"#;

impl World {
    fn new() -> Self {
        let (host, epmd, daemon) = Host::running(&[("HECATE_LOG", "info,beam::node=debug")]);
        let port = epmd.port_of("hecate");
        host.register_named("hecate-traderd");
        let mut witness = host.erl("witness");
        witness.pings(&host.node("hecate"));
        witness.eval("{ok, _} = pg:start_link(), net_kernel:monitor_nodes(true)");
        witness.eval_until(&format!("[length(M) || M <- {GROUPS}]"), "[1,1]", PATIENCE);
        let groups = witness.eval(GROUPS);
        Self { host, daemon, port, witness, groups, epmd }
    }

    /// Checks that the daemon runs and answers the real node.
    fn is_unharmed(&mut self, after: &str) {
        assert!(self.daemon.runs(), "{after}: the daemon has ended");
        let pinged = self.witness.eval(&format!("net_adm:ping('{}')", self.host.node("hecate")));
        assert_eq!(pinged, "pong", "{after}");
    }

    /// Checks that the real node has seen no change since the start.
    fn ends_as_before(mut self) {
        let seen = "{receive {nodedown, N} -> N after 0 -> none end, receive {nodeup, N} -> N after 0 -> none end}";
        assert_eq!(self.witness.eval(seen), "{none,none}");
        assert_eq!(self.witness.eval(GROUPS), self.groups);
        assert_eq!(self.daemon.log_lines(&["ERROR"]), Vec::<String>::new());
        assert_eq!(self.host.ask("GET", "/api/plugins").body.as_array().unwrap().len(), 1);
        // The peers announced gigabytes, and sent a megabyte at once.
        let peak = self.daemon.peak_memory();
        assert!(peak < 512 * 1024 * 1024, "{peak} bytes of memory at once");
    }

    fn meets(&mut self, number: usize, row: &Row, headers: bool) {
        let name = &row.name;
        let mut hostile = Hostile::connect(&self.host, self.port, &format!("hostile{number}"), headers);
        let bytes = (row.bytes)(&hostile);
        let sent = hostile.stream.write_all(&bytes);
        match row.expect {
            Expect::Closed(why) => self.is_closed(name, &mut hostile, why),
            Expect::HungUp => {
                hostile.stream.shutdown(Shutdown::Write).unwrap();
                self.is_closed(name, &mut hostile, "connection closed by the peer");
            }
            Expect::Ignored => {
                sent.unwrap();
                let before = hostile.until_pong().unwrap_or_else(|| panic!("{name}: the connection ended"));
                assert_eq!(before, Vec::<Vec<u8>>::new(), "{name}: no answer");
            }
            Expect::Answered(operation, words) => {
                sent.unwrap();
                let before = hostile.until_pong().unwrap_or_else(|| panic!("{name}: the connection ended"));
                let [answer] = before.as_slice() else { panic!("{name}: one answer, and not {before:?}") };
                assert_eq!((answer[0], &answer[2..4]), (104, &[97, operation][..]), "{name}");
                assert!(String::from_utf8_lossy(answer).contains(words), "{name}: {words} in {answer:?}");
            }
        }
        self.is_unharmed(name);
    }

    fn is_closed(&self, name: &str, hostile: &mut Hostile, why: &str) {
        assert_eq!(hostile.frame(), None, "{name}: an answer before the end");
        let (peer, told) = (format!("peer={}", hostile.me), || self.daemon.log_lines(&[&hostile.me]));
        support::wait_for(&format!("{name}: {why:?} of {peer} in the log"), || {
            told().iter().any(|line| line.contains(&peer) && line.contains(why))
        });
    }
}

#[test]
fn every_invalid_signal_affects_only_its_own_connection() {
    let mut world = World::new();
    let rows = signals::rows();
    assert!(rows.len() >= 200, "{} rows", rows.len());
    for (number, row) in rows.iter().enumerate() {
        world.meets(number, row, false);
    }
    world.ends_as_before();
}

#[test]
fn every_invalid_message_affects_only_its_own_connection() {
    let mut world = World::new();
    let rows = terms::rows();
    assert!(rows.len() >= 70, "{} rows", rows.len());
    for (number, row) in rows.iter().enumerate() {
        world.meets(number, row, false);
    }
    world.ends_as_before();
}

#[test]
fn every_invalid_header_or_fragment_affects_only_its_own_connection() {
    let mut world = World::new();
    let rows = headers::rows();
    assert!(rows.len() >= 40, "{} rows", rows.len());
    for (number, row) in rows.iter().enumerate() {
        world.meets(number, row, true);
    }
    world.ends_as_before();
}

/// A message that the daemon would answer, truncated at each byte. The length of the frame matches.
#[test]
fn a_truncated_message_closes_its_connection() {
    let mut world = World::new();
    let whole = |hostile: &Hostile| {
        let ping = tuple(&[atom("is_auth"), atom(&hostile.me)]);
        let message = tuple(&[atom("$gen_call"), tuple(&[hostile.pid(), hostile.reference(1)]), ping]);
        with(&[int(6), hostile.pid(), atom(""), atom("net_kernel")], message)[4..].to_vec()
    };
    let length = whole(&Hostile::connect(&world.host, world.port, "hostile100", false)).len();
    for cut in 1..length {
        let mut hostile = Hostile::connect(&world.host, world.port, &format!("hostile{}", 100 + cut), false);
        let frame = wire::frame(&whole(&hostile)[..cut]);
        hostile.stream.write_all(&frame).unwrap();
        world.is_closed(&format!("cut at {cut}"), &mut hostile, "the peer sent");
    }
    world.is_unharmed("all cuts");
    world.ends_as_before();
}

// ---- Handshakes -----------------------------------------------------------------------------------

/// Returns a name message: `N`, flags, creation, length of the name, name.
fn name(flags: u64, length: usize, name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(length).unwrap().to_be_bytes();
    [&b"N"[..], &flags.to_be_bytes(), &[0, 0, 0, 7], &length, name].concat()
}

/// Returns a name message of version 5: `n`, version, flags, name.
fn name_of_5(flags: u32, name: &[u8]) -> Vec<u8> {
    [&b"n\0\x05"[..], &flags.to_be_bytes(), name].concat()
}

/// The fault, the packets in order, and words of the daemon's log line. The words are empty if the
/// daemon logs no line for each such peer.
type Handshake = (&'static str, Vec<Vec<u8>>, &'static str);

/// Returns the packets of nodes that dial the daemon.
fn handshakes() -> Vec<Handshake> {
    let flags = flags::ours(true).bits();
    let low = u32::try_from(flags & 0xFFFF_FFFF).unwrap();
    let nameless = flags | 1 << 33;
    let right = |short: &str| name(flags, short.len() + 2, format!("{short}@h").as_bytes());
    let bad_name = "the peer sent an invalid node name";
    vec![
        ("nothing", vec![vec![]], "malformed name"),
        ("one byte", vec![b"N".to_vec()], "malformed name"),
        ("half the flags", vec![b"N\0\0\0".to_vec()], "malformed name"),
        ("another tag", vec![b"x\0\x05\0\0\0\0a@h".to_vec()], "malformed name"),
        ("a status first", vec![b"sok".to_vec()], "malformed name"),
        ("a request of HTTP", vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()], "malformed name"),
        ("a name of no bytes", vec![name(flags, 0, b"")], bad_name),
        ("a name of 300 bytes", vec![name(flags, 300, &[&b"a@"[..], &[b'h'; 298]].concat())], bad_name),
        ("a name without host", vec![name(flags, 2, b"a@")], bad_name),
        ("a name that is only host", vec![name(flags, 2, b"@h")], bad_name),
        ("a name without @", vec![name(flags, 3, b"abc")], bad_name),
        ("a name with two @", vec![name(flags, 5, b"a@b@c")], bad_name),
        ("a name that is not UTF-8", vec![name(flags, 4, b"\xC3\x28@h")], bad_name),
        ("a name that is shorter than it says", vec![name(flags, 65_535, b"a@h")], "malformed name"),
        ("a packet of 60,000 bytes", vec![vec![b'N'; 60_000]], "handshake packet of 60000 bytes"),
        ("no flags", vec![name(0, 3, b"a@h")], ""),
        ("version 5: no name", vec![name_of_5(low, b"")], bad_name),
        ("version 5: a name of 300 bytes", vec![name_of_5(low, &[&b"a@"[..], &[b'h'; 298]].concat())], bad_name),
        ("version 5: half the flags", vec![b"n\0\x05\0\0".to_vec()], "malformed name"),
        ("version 5: of a node before OTP 23", vec![name_of_5(low & !(1 << 24), b"a@h")], ""),
        (
            "version 5: no complement",
            vec![name_of_5(low, b"c1@h"), [&b"r"[..], &[0; 20]].concat()],
            "malformed complement",
        ),
        ("version 5: half a complement", vec![name_of_5(low, b"c2@h"), b"c\0\0".to_vec()], "malformed complement"),
        ("nameless: no host", vec![name(nameless, 0, b"")], bad_name),
        ("nameless: a host of 300 bytes", vec![name(nameless, 300, &[b'h'; 300])], bad_name),
        ("nameless: a whole name", vec![name(nameless, 3, b"a@h")], bad_name),
        ("half a reply", vec![right("r1"), b"r\0\0".to_vec()], "malformed challenge reply"),
        (
            "an acknowledgement for a reply",
            vec![right("r2"), [&b"a"[..], &[0; 16]].concat()],
            "malformed challenge reply",
        ),
        (
            "a complement that nobody waits for",
            vec![right("r3"), b"c\0\0\0\0\0\0\0\0".to_vec()],
            "malformed challenge reply",
        ),
        ("a digest of zeros", vec![right("r4"), [&b"r"[..], &[0; 20]].concat()], ""),
        ("a digest of no bytes", vec![right("r5"), [&b"r"[..], &[0; 4]].concat()], ""),
        ("a digest of 300 bytes", vec![right("r6"), [&b"r"[..], &[0; 304]].concat()], ""),
    ]
}

#[test]
fn every_invalid_handshake_is_refused() {
    let mut world = World::new();
    for (name, packets, why) in handshakes() {
        let mut stream = tcp(world.port);
        let from = stream.local_addr().unwrap().to_string();
        for packet in &packets {
            let _ = stream.write_all(&[&u16::try_from(packet.len()).unwrap().to_be_bytes(), &packet[..]].concat());
        }
        while read(&mut stream, &mut [0]).is_some() {}
        if !why.is_empty() {
            world.daemon.logs(&[&from, why]);
        }
        world.is_unharmed(name);
    }
    // The handshakes that reach the name and lack the cookie or flags are logged too.
    world.daemon.logs(&["rejected the handshake", "lacks mandatory distribution flags"]);
    assert_eq!(world.daemon.log_lines(&["node up"]).len(), 1, "only the witness connects");
    world.ends_as_before();
}

/// Returns the answers of a dialled node to the daemon's name, and the log's words for them.
fn answers() -> Vec<Handshake> {
    let flags = flags::ours(true).bits();
    let challenge = |name: &[u8]| {
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        [&b"N"[..], &flags.to_be_bytes(), &[0; 4], &[0, 0, 0, 7], &length, name].concat()
    };
    let ok = || b"sok".to_vec();
    vec![
        ("status_none", vec![vec![]], "malformed status"),
        ("status_unknown", vec![b"swelcome".to_vec()], "unknown status"),
        ("status_long", vec![vec![b's'; 60_000]], "handshake packet of 60000 bytes"),
        ("status_named", vec![b"snamed:\0\x03a@h\0\0\0\x07".to_vec()], "unknown status"),
        ("challenge_none", vec![ok(), vec![]], "malformed challenge"),
        ("challenge_half", vec![ok(), b"N\0\0\0".to_vec()], "malformed challenge"),
        (
            "challenge_lies",
            vec![ok(), [challenge(b"")[..17].to_vec(), vec![0xFF, 0xFF, b'a']].concat()],
            "malformed challenge",
        ),
        ("challenge_of_5", vec![ok(), [&b"n\0\x05"[..], &[0xFF; 8], b"a@h"].concat()], "malformed challenge"),
        ("challenge_without_name", vec![ok(), challenge(b"")], "the peer sent an invalid node name"),
        (
            "challenge_of_300",
            vec![ok(), challenge(&[&b"a@"[..], &[b'h'; 298]].concat())],
            "the peer sent an invalid node name",
        ),
        ("challenge_not_utf8", vec![ok(), challenge(b"\xC3\x28@h")], "the peer sent an invalid node name"),
        ("challenge_of_another", vec![ok(), challenge(b"another@elsewhere")], "calls itself another@elsewhere"),
    ]
}

#[test]
fn every_invalid_answer_to_our_handshake_is_refused() {
    let mut world = World::new();
    let answers = answers();
    let listeners: Vec<_> = answers.iter().map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    // The daemon looks up only names of this form in EPMD.
    let name = |row: &str| format!("hecate_{row}");
    let _names: Vec<_> = answers
        .iter()
        .zip(&listeners)
        .map(|((row, ..), listener)| world.epmd.register(&name(row), listener.local_addr().unwrap().port()))
        .collect();
    for ((row, packets, why), listener) in answers.iter().zip(listeners) {
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(receive_packet(&mut stream)[0], b'N', "{row}: the daemon's name");
        for packet in packets {
            let _ = stream.write_all(&[&u16::try_from(packet.len()).unwrap().to_be_bytes(), &packet[..]].concat());
        }
        // The daemon has not sent a proof.
        assert_eq!(read(&mut stream, &mut [0]), None, "{row}");
        world.daemon.logs(&[&world.host.node(&name(row)), "not connected", why]);
        world.is_unharmed(row);
    }
    world.ends_as_before();
}
