//! The attacks. Each continues until the client's calls have all been answered. An attack holds
//! what it opens while some of these calls are answered.
//!
//! Attacks on the socket come from separate processes, so that the daemon can distinguish them from
//! the client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use beam::dist::flags;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::json;

use crate::World;
use crate::connection::{Hostile, receive_packet, send_packet, tcp, try_receive_packet};
use crate::support::daemon::Daemon;
use crate::support::erl::{Erl, Start};
use crate::support::{PATIENCE, epmd, http, wait_for};
use crate::wire::{Term, atom, frame, int, list, nil, pid, tuple, with};

/// A name, and a function that attacks while [`World::goes_on`] returns true.
pub type Attack = (&'static str, fn(&World));

pub fn all() -> Vec<Attack> {
    vec![
        ("idle connections", idle_connections),
        ("unread streams", unread_streams),
        ("refused requests", refused_requests),
        ("followers that leave", followers_that_leave),
        ("removed socket", removed_socket),
        ("silent handshakes", silent_handshakes),
        ("reflected challenges", reflected_challenges),
        ("products", products),
        ("unfinished frames", unfinished_frames),
        ("unfinished fragments", unfinished_fragments),
        ("announced names", announced_names),
        ("large calls", large_calls),
        ("hostile names", hostile_names),
        ("unfinished epmd requests", unfinished_epmd_requests),
    ]
}

// ---- The socket -----------------------------------------------------------------------------------

/// Starts a process that may open many files.
fn opener(world: &World) -> Erl {
    let through = &["prlimit", "--nofile=8192:8192"];
    Erl::start(&world.host, Start { through, ..Start::default() })
}

/// Opens connections to the socket, writes the same request on each, and reads nothing. Some
/// connections may be refused; all of them fail while another attack has removed the socket.
fn open(erl: &mut Erl, world: &World, count: usize, request: &str) {
    let socket = world.host.socket();
    let opening = format!(
        "Open = fun(_) ->
             case gen_tcp:connect({{local, \"{}\"}}, 0, [binary, {{active, false}}, {{send_timeout, 1000}}], 1000) of
                 {{ok, Socket}} -> gen_tcp:send(Socket, \"{}\"), [Socket];
                 {{error, _}} -> []
             end
         end,
         Sockets = lists:flatmap(Open, lists:seq(1, {count})),
         put(sockets, Sockets ++ case get(sockets) of undefined -> []; Before -> Before end),
         length(Sockets)",
        socket.display(),
        request.replace('\r', "\\r").replace('\n', "\\n"),
    );
    wait_for("some connections are accepted", || erl.eval(&opening) != "0" || !world.goes_on());
}

fn close(erl: &mut Erl) {
    erl.eval("[gen_tcp:close(Socket) || Socket <- erase(sockets)], ok");
}

fn idle_connections(world: &World) {
    let mut openers = [opener(world), opener(world)];
    let list = "GET /api/plugins HTTP/1.1\r\nHost: x\r\n\r\n";
    let body = "POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    while world.goes_on() {
        for erl in &mut openers {
            open(erl, world, 300, "");
            open(erl, world, 300, "GET /api/plu");
            open(erl, world, 200, body);
            open(erl, world, 200, &list.repeat(50));
        }
        world.hold();
        openers.iter_mut().for_each(close);
    }
}

fn unread_streams(world: &World) {
    let mut erl = opener(world);
    while world.goes_on() {
        open(&mut erl, world, 200, "GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n");
        world.hold();
        close(&mut erl);
    }
}

/// Sends requests that get a 4xx: registrations with nodes that no plugin can run as, and requests
/// without exactly one `Host`.
fn refused_requests(world: &World) {
    let nodes = [world.node.as_str(), "x@-oProxyCommand", "a b@h", "\u{1b}[2J@h", "x@"];
    while world.goes_on() {
        for node in nodes.iter().cycle().take(50) {
            let body = json!({"name": "hecate-refusedd", "node": node});
            let answer = http::ask(&world.host.socket(), "POST", "/api/plugins/register", Some(&body));
            // The socket may be missing for a moment.
            let Ok(answer) = answer else { continue };
            assert!((400..500).contains(&answer.status), "{node:?}: {answer:?}");
        }
        for hosts in ["", "Host: x\r\nHost: y\r\n"].iter().cycle().take(50) {
            let request = format!("GET /api/plugins HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
            let answer = begun(world, &request);
            assert!(answer.is_none_or(|answer| answer == "HTTP/1.1 400"), "{hosts:?}");
        }
        world.hold();
    }
}

/// Sends a request, and returns the first bytes of the response, or `None` without a connection.
fn begun(world: &World, request: &str) -> Option<String> {
    let mut stream = UnixStream::connect(world.host.socket()).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    stream.write_all(request.as_bytes()).ok()?;
    let mut begun = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut begun).ok()?;
    Some(String::from_utf8_lossy(&begun).into_owned())
}

/// Opens many more event streams than the limit. A stream stops counting when its client
/// disconnects.
fn followers_that_leave(world: &World) {
    while world.goes_on() {
        for _ in 0..200 {
            let answer = begun(world, "GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(answer.is_none_or(|answer| ["HTTP/1.1 200", "HTTP/1.1 503"].contains(&answer.as_str())));
        }
        world.hold();
    }
}

/// A part of the log line after the daemon has repaired its socket.
pub const REPAIRED: &str = "bound it again";

/// Removes the socket. Normally the daemon checks its socket only every second. A registration over
/// an open connection makes it check at once.
fn removed_socket(world: &World) {
    let body = json!({"name": "hecate-removerd"}).to_string();
    let head = "POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length";
    while world.goes_on() {
        let socket = world.host.socket();
        let mut stream = UnixStream::connect(&socket).expect("a listening socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
        std::fs::remove_file(&socket).expect("the daemon's socket");
        let request = format!("{head}: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).expect("the connection is still served");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("a response");
        assert_eq!(answer, "HTTP/1.1 201 Created\r\n");
        wait_for("the socket is bound again", || UnixStream::connect(&socket).is_ok());
        world.hold();
    }
}

// ---- The distribution port ------------------------------------------------------------------------

/// Connects from another address of this host. Returns `None` if the connection is refused.
fn from_elsewhere(last: u8, port: u16) -> Option<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0)).expect("an address of this host");
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).ok()?;
    Some(socket.into())
}

/// Opens many more silent connections than the limit, each time while a regular handshake is in
/// progress.
fn silent_handshakes(world: &World) {
    let mut honest = 0;
    while world.goes_on() {
        let name = format!("honest{honest}");
        let mut silent = Vec::new();
        let flood = || silent.extend((0..200).filter_map(|_| from_elsewhere(2, world.port)));
        let connected = Hostile::connect_slowly(&world.host, world.port, &name, false, flood);
        assert!(connected.is_some(), "{name} could not connect");
        honest += 1;
    }
}

/// A node without the cookie, which the daemon finds in EPMD.
pub const THIEF: &str = "hecate_thief";

/// Waits until the daemon dials this node, connects back under the same name, and sends the
/// challenge of the second connection over the first one.
fn reflected_challenges(world: &World) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let _registered = registered(world, THIEF.as_bytes(), listener.local_addr().expect("bound").port());
    let name = world.host.node(THIEF);
    let name_packet = |challenge: &[u8]| {
        let length = u16::try_from(name.len()).expect("short").to_be_bytes();
        let flags = flags::ours(false).bits().to_be_bytes();
        [b"N", &flags[..], challenge, &7_u32.to_be_bytes(), &length, name.as_bytes()].concat()
    };
    while world.goes_on() {
        let Ok((mut dialled, _)) = listener.accept() else {
            // The daemon dials an unreachable node at growing intervals.
            world.hold();
            continue;
        };
        dialled.set_nonblocking(false).expect("a connection");
        dialled.set_read_timeout(Some(PATIENCE)).expect("a connection");
        let mut back = tcp(world.port);
        send_packet(&mut back, &name_packet(&[]));
        if try_receive_packet(&mut back).is_none_or(|status| !status.starts_with(b"sok")) {
            continue;
        }
        let Some(challenge) = try_receive_packet(&mut back) else { continue };
        send_packet(&mut dialled, b"sok");
        let _name = receive_packet(&mut dialled);
        send_packet(&mut dialled, &name_packet(&challenge[9..13]));
        assert_eq!(try_receive_packet(&mut dialled), None, "the daemon answered its own challenge");
    }
}

/// Connects a hidden node whose scope the daemon's scope monitors.
fn member(world: &World, short: &str) -> Option<Hostile> {
    let mut node = Hostile::try_connect(&world.host, world.port, short, false)?;
    let discover = tuple(&[atom("discover"), node.pid()]);
    let sync = tuple(&[atom("$gen_cast"), tuple(&[atom("sync"), node.pid(), nil()])]);
    node.stream.write_all(&[to_pg(&node, discover), to_pg(&node, sync)].concat()).ok()?;
    Some(node)
}

/// Encodes a message to the daemon's scope.
fn to_pg(node: &Hostile, message: Term) -> Vec<u8> {
    with(&[int(6), node.pid(), atom(""), atom("pg")], message)
}

fn pids(node: &Hostile, count: u32) -> Term {
    let pids: Vec<Term> = (0..count).map(|id| pid(&node.me, id + 10, 7)).collect();
    list(count, &pids, nil())
}

/// Sends `{leave, Scope, Pids, Groups}` with many processes and many groups, and a join and a leave
/// of many processes in one group.
fn products(world: &World) {
    while world.goes_on() {
        if let Some(mut node) = member(world, "products") {
            let groups: Vec<Term> = (0..30_000).map(int).collect();
            let groups = list(30_000, &groups, nil());
            let leave = tuple(&[atom("leave"), node.pid(), pids(&node, 30_000), groups]);
            let join = tuple(&[atom("join"), node.pid(), atom("many"), pids(&node, 100_000)]);
            let one = list(1, &[atom("many")], nil());
            let leave_all = tuple(&[atom("leave"), node.pid(), pids(&node, 100_000), one]);
            for message in [leave, join, leave_all] {
                let _ = node.stream.write_all(&to_pg(&node, message));
            }
            node.until_pong();
        }
        world.hold();
    }
}

/// Sends frames of 60 MB without their last bytes.
fn unfinished_frames(world: &World) {
    let length = 60_000_000_u32;
    let part = vec![131; 1_000_000];
    while world.goes_on() {
        let mut nodes: Vec<Hostile> = (0..12)
            .filter_map(|i| Hostile::try_connect(&world.host, world.port, &format!("frames{i}"), false))
            .collect();
        for node in &mut nodes {
            let _ = node.stream.write_all(&[&length.to_be_bytes()[..], &[112]].concat());
            for _ in 0..59 {
                let _ = node.stream.write_all(&part);
            }
        }
        world.hold();
    }
}

/// Sends messages of many fragments without the last one.
fn unfinished_fragments(world: &World) {
    let part = vec![131; 1_000_000];
    let fragment = |tag: u8, sequence: u64, number: u64, part: &[u8]| {
        frame(&[&[131, tag], &sequence.to_be_bytes()[..], &number.to_be_bytes(), part].concat())
    };
    while world.goes_on() {
        let mut nodes: Vec<Hostile> =
            (0..4).filter_map(|i| Hostile::try_connect(&world.host, world.port, &format!("pieces{i}"), true)).collect();
        for node in &mut nodes {
            for sequence in 1..=4 {
                let _ = node.stream.write_all(&fragment(69, sequence, 61, &[0]));
                for number in (2..=60).rev() {
                    let _ = node.stream.write_all(&fragment(70, sequence, number, &part));
                }
            }
        }
        world.hold();
    }
}

/// Joins groups of plugins that are not registered.
fn announced_names(world: &World) {
    let mut erl = world.host.erl("announcer");
    erl.eval(&format!("{{ok, _}} = pg:start_link(), net_adm:ping('{}')", world.node));
    let mut first = 0;
    while world.goes_on() {
        erl.eval(&format!(
            "[ok = pg:join({{hecate_plugin, iolist_to_binary([\"hecate-x\", integer_to_list(N), $d])}}, self()) \
              || N <- lists:seq({first}, {})], ok",
            first + 499
        ));
        first += 500;
        world.hold();
        let namespaces = std::fs::read_dir(world.host.home().join(".hecate")).expect("home").count();
        assert!(namespaces < 300, "{namespaces} directories below home");
    }
}

/// Calls functions with arguments that are far larger than the daemon accepts.
fn large_calls(world: &World) {
    let mut erl = world.host.erl("caller");
    let us = &world.node;
    erl.pings(us);
    erl.eval("put(large, [{N, <<\"x\">>} || N <- lists:seq(1, 200000)])");
    while world.goes_on() {
        let call = format!(
            "element(1, gen_server:call({{hecate_plugins, '{us}'}}, {{register, maps:from_list(get(large))}}))"
        );
        assert_eq!(erl.eval(&call), "error");
        let call =
            format!("try erpc:call('{us}', m, f, [get(large)]) catch error:{{exception, undef, _}} -> undef end");
        assert_eq!(erl.eval(&call), "undef");
    }
}

// ---- EPMD -----------------------------------------------------------------------------------------

/// Registers names that would change the terminal's state.
fn hostile_names(world: &World) {
    let names: [&[u8]; 4] =
        [b"hecate_\x1b[2J", "hecate_\u{202e}x".as_bytes(), "hecate_\u{9b}x".as_bytes(), "hecate_\u{2028}x".as_bytes()];
    while world.goes_on() {
        let registered: Vec<TcpStream> = names.iter().map(|name| registered(world, name, world.port)).collect();
        world.hold();
        for arguments in [&["cluster"][..], &["cluster", "--json"]] {
            let shown = Daemon::command(&world.host, &[]).args(arguments).output().expect("the program runs");
            let shown = String::from_utf8(shown.stdout).expect("UTF-8");
            assert!(!shown.contains(writes_on_a_terminal), "{arguments:?} shows {shown:?}");
        }
        drop(registered);
    }
}

/// Returns whether a character is a control character except a newline, a bidirectional or
/// zero-width character, or a line separator.
pub fn writes_on_a_terminal(c: char) -> bool {
    let invisible =
        |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    (c.is_control() && c != '\n') || invisible(c)
}

fn registered(world: &World, name: &[u8], port: u16) -> TcpStream {
    let mut stream = epmd::connect(world.host.epmd_port).expect("EPMD answers");
    epmd::send(&mut stream, &epmd::alive(name, port)).expect("EPMD reads");
    let _ = stream.read(&mut [0; 16]);
    stream
}

/// Sends more unfinished requests than EPMD's limit, while EPMD keeps answering.
fn unfinished_epmd_requests(world: &World) {
    while world.goes_on() {
        let mut unfinished: Vec<TcpStream> = (0..200).filter_map(|_| from_elsewhere(3, world.host.epmd_port)).collect();
        for stream in &mut unfinished {
            let _ = stream.write_all(&[0, 9, b'x']);
        }
        // A connection of the same user may be closed in favour of others once, so this retries, as
        // `erl` does.
        wait_for("EPMD answers", || epmd::names(world.host.epmd_port).contains_key("hecate"));
    }
}
