//! Connections to real nodes, and which of two connections with the same node remains. The tests
//! cover hundreds of crossing attempts, connections lost in silence, nameless peers, and peers that
//! are refused.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

#[path = "handshake/challenges.rs"]
mod challenges;
mod support;

use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;

use beam::cookie::Cookie;
use beam::dist::flags::{self, Flags};
use beam::dist::handshake::{self, Identity};
use beam::dist::setup::{self, SetupError};
use beam::etf::Atom;
use beam::name::NodeName;
use beam::node::{CallError, Function};
use support::epmd::Epmd;
use support::erl::{Erl, Start};
use support::node::{Node, address, eval, identity};
use support::{Host, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

// ---- Crossing attempts ----------------------------------------------------------------------------

/// Both sides dial at the same time, many times. Each time one connection remains, which works in
/// both directions.
async fn race(ours: &str, theirs: &str, times: usize) {
    let host = Host::new();
    let _epmd = host.epmd();
    let node = Node::start(&host, ours).await;
    let mut erl = host.erl(theirs);
    let us = node.name.clone();
    let them: NodeName = host.node(theirs).parse().unwrap();
    let connect = format!("net_kernel:connect_node('{us}')");
    let disconnect = format!("erlang:disconnect_node('{us}'), net_kernel:monitor_nodes(false)");
    for i in 0..times {
        let (handle, name) = (node.handle.clone(), them.clone());
        let dialled = tokio::spawn(async move { handle.connect(name).await });
        // Sometimes one of the two is a little later.
        for _ in 0..i % 7 {
            tokio::task::yield_now().await;
        }
        assert_eq!(eval(&mut erl, &connect), "true", "race {i}");
        let _ = dialled.await.unwrap().unwrap();
        node.sees(&them, true).await;
        assert_eq!(eval(&mut erl, &format!("net_adm:ping('{us}')")), "pong", "race {i}");
        assert_eq!(eval(&mut erl, "nodes()"), format!("['{us}']").replace('\'', ""), "race {i}");
        eval(&mut erl, &disconnect);
        node.sees(&them, false).await;
    }
    node.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crossing_attempts_of_the_smaller_name_keep_one_connection() {
    race("aa", "mm", 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crossing_attempts_of_the_greater_name_keep_one_connection() {
    race("zz", "mm", 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crossing_attempts_of_two_of_our_nodes_keep_one_connection() {
    let host = Host::new();
    let _epmd = host.epmd();
    for i in 0..200 {
        let (a, b) = (Node::start(&host, &format!("a{i}")).await, Node::start(&host, &format!("b{i}")).await);
        let (to_a, to_b) = (a.name.as_str().parse().unwrap(), b.name.as_str().parse().unwrap());
        let (first, second) = tokio::join!(a.handle.connect(to_b), b.handle.connect(to_a));
        assert!(first.unwrap().is_ok() || second.unwrap().is_ok(), "race {i}");
        // A call over the connection is answered, so both ends belong to the same connection. When
        // two attempts cross, the connection that gives way may have been up for a moment. A call
        // over it then finds no connection.
        let answered = async |from: &Node, to: &Node| loop {
            from.sees(&to.name, true).await;
            let function = Function { module: Atom::literal("m"), function: Atom::literal("f"), args: vec![] };
            match from.handle.call(to.name.as_str().parse().unwrap(), function).await.unwrap().unwrap_err() {
                CallError::NoConnection => {}
                other => break other,
            }
        };
        let both = async { tokio::join!(answered(&a, &b), answered(&b, &a)) };
        let both = timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("race {i}: no connection remains"));
        for answer in [both.0, both.1] {
            assert_eq!(answer.to_string(), "the function failed on the node", "race {i}");
        }
        a.handle.stop().await;
        b.handle.stop().await;
    }
}

/// Lets the attempts of `aa` and a peer `mm` cross: `mm` dials `aa` too, and the answer says that
/// its own attempt continues. Checks that the other one closes before either handshake is complete.
async fn crosses(host: &Host, listener: &TcpListener, port: u16) {
    let (mut dialled, _) = timeout(PATIENCE, listener.accept()).await.expect("the node dials").unwrap();
    assert!(receive(&mut dialled).await.unwrap().starts_with(b"N"));
    let mut own = TcpStream::connect(address(port)).await.unwrap();
    let (_, name) = handshake::dial(&identity(host, "mm", 7), host.node("aa").parse().unwrap());
    send(&mut own, &name).await;
    assert_eq!(receive(&mut own).await.unwrap(), b"sok_simultaneous");
    is_closed_early(&mut dialled).await;
    assert!(receive(&mut own).await.unwrap().starts_with(b"N"), "the peer's attempt must continue");
}

async fn send(stream: &mut TcpStream, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], packet].concat()).await.unwrap();
}

/// Returns the next packet of a handshake; none if the daemon closes the connection.
async fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let read = async {
        let mut packet = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut packet).await.ok()?;
        Some(packet)
    };
    timeout(PATIENCE, read).await.expect("a packet, or the end of the connection")
}

/// Checks that the attempt ends long before the time limit of a handshake.
async fn is_closed_early(attempt: &mut TcpStream) {
    let end = timeout(beam::limits::HANDSHAKE_TIME / 2, attempt.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "the attempt continues");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_attempt_is_closed_when_the_peers_attempt_continues() {
    let host = Host::new();
    let epmd = host.epmd();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let _mm = epmd.register("mm", listener.local_addr().unwrap().port());
    let mut erl = host.erl("aa");
    erl.eval(&format!("spawn(fun() -> net_kernel:connect_node('{}') end)", host.node("mm")));
    crosses(&host, &listener, epmd.port_of("aa")).await;
    erl.kill();
    support::wait_for("the name is free", || !epmd.names().contains_key("aa"));
    let node = Node::start(&host, "aa").await;
    let (handle, them) = (node.handle.clone(), host.node("mm"));
    let dialer = tokio::spawn(async move { handle.connect(them.parse().unwrap()).await });
    crosses(&host, &listener, epmd.port_of("aa")).await;
    let error = dialer.await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code().name(), "simultaneous");
    node.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_attempt_is_closed_when_the_peers_attempt_has_connected() {
    let host = Host::new();
    let epmd = host.epmd();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let _mm = epmd.register("mm", listener.local_addr().unwrap().port());
    let node = Node::start(&host, "aa").await;
    let (handle, them) = (node.handle.clone(), host.node("mm"));
    let dialer = tokio::spawn(async move { handle.connect(them.parse().unwrap()).await });
    let (mut dialled, _) = timeout(PATIENCE, listener.accept()).await.expect("the node dials").unwrap();
    receive(&mut dialled).await.unwrap();
    // The answer of the peer makes no difference.
    send(&mut dialled, b"salive").await;
    assert_eq!(receive(&mut dialled).await.unwrap(), b"strue");
    let own = TcpStream::connect(address(epmd.port_of("aa"))).await.unwrap();
    let local = identity(&host, "mm", 7);
    let _own = setup::dial(own, &local, node.name.as_str().parse().unwrap(), async || true).await.unwrap();
    is_closed_early(&mut dialled).await;
    assert!(dialer.await.unwrap().unwrap().is_ok(), "the two nodes are connected");
    node.sees(&host.node("mm"), true).await;
    node.handle.stop().await;
}

// ---- Many attempts --------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_attempts_to_connect_are_bounded() {
    let host = Host::new();
    let _epmd = host.epmd();
    let node = Node::start(&host, "aa@127.0.0.1").await;
    // Another host, whose EPMD reads a request and never answers.
    let silent = std::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), host.epmd_port)).unwrap();
    let mut attempts = Vec::new();
    for i in 0..=beam::limits::DIALS {
        let handle = node.handle.clone();
        attempts.push(tokio::spawn(async move { handle.connect(format!("n{i}@127.0.0.2").parse().unwrap()).await }));
    }
    let over = tokio::task::spawn_blocking(move || {
        let accept = || silent.accept().unwrap().0;
        let first: Vec<_> = (0..beam::limits::DIALS).map(|_| accept()).collect();
        let _another = accept();
        first.iter().filter(|stream| is_over(stream)).count()
    });
    let over = timeout(PATIENCE, over).await.expect("all names are tried").unwrap();
    assert!(over > 0, "too many attempts at once");
    for attempt in attempts {
        assert!(attempt.await.unwrap().unwrap().is_err());
    }
    node.handle.stop().await;
}

/// Returns whether the other side has closed the connection by now.
fn is_over(mut stream: &std::net::TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(e) => e.kind() != ErrorKind::WouldBlock,
    }
}

// ---- Connections lost in silence ------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_a_stale_connection_accepts_a_new_one() {
    let host = Host::new();
    let epmd = host.epmd();
    let mut erl = host.erl("mm");
    let port = epmd.port_of("mm");
    let them: NodeName = host.node("mm").parse().unwrap();
    let dial = async |creation| {
        let stream = TcpStream::connect(address(port)).await.unwrap();
        setup::dial(stream, &identity(&host, "zz", creation), them.clone(), async || true).await.unwrap()
    };
    let silent = dial(7).await;
    assert_eq!(eval(&mut erl, "nodes()"), format!("[{}]", host.node("zz")));
    // Our node has restarted, and the peer has not noticed it.
    let node = Node::start(&host, "zz").await;
    node.handle.connect(them.clone()).await.unwrap().unwrap();
    node.sees(&them, true).await;
    assert_eq!(eval(&mut erl, &format!("net_adm:ping('{}')", node.name)), "pong");
    drop(silent);
    assert_eq!(
        eval(&mut erl, &format!("net_adm:ping('{}')", node.name)),
        "pong",
        "the end of the old connection has no effect"
    );
    node.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_replaces_our_stale_one() {
    let host = Host::new();
    let epmd = host.epmd();
    let node = Node::start(&host, "aa").await;
    let mut first = host.erl("mm");
    let connect = format!("net_kernel:connect_node('{}')", node.name);
    assert_eq!(eval(&mut first, &connect), "true");
    node.sees(&host.node("mm"), true).await;
    let before = node.connection(&host.node("mm"));
    // Another node with the same name, registered with another EPMD, while the first is suspended
    // and its connection open.
    let elsewhere = Host::new();
    let other_epmd = elsewhere.epmd();
    let _known = other_epmd.register("aa", epmd.port_of("aa"));
    first.stop();
    let start = Start { name: Some("mm"), cookie: Some(&host.cookie), ..Start::default() };
    let mut second = Erl::start(&elsewhere, start);
    assert_eq!(eval(&mut second, &connect), "true");
    assert_eq!(eval(&mut second, &format!("net_adm:ping('{}')", node.name)), "pong");
    node.sees(&host.node("mm"), true).await;
    assert_ne!(node.connection(&host.node("mm")), before);
    node.handle.stop().await;
}

// ---- Peers without a name ---------------------------------------------------------------------------

#[test]
fn a_nameless_node_gets_a_name() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let mut erl = Erl::start(&host, Start { name: Some("undefined"), ..Start::default() });
    assert_eq!(erl.eval("node()"), "nonode@nohost");
    assert_eq!(erl.eval(&format!("net_kernel:connect_node('{us}')")), "true");
    let name = erl.eval("node()");
    assert!(name.starts_with('d') && name.ends_with(&format!("@{}", host.name)), "{name}");
    erl.pings(&us);
    support::wait_for("it is shown as connected", || host.peer(&name).as_deref() == Some("connected"));
    // The nameless node has groups like any other.
    erl.eval("pg:start_link()");
    assert_eq!(erl.eval(&format!("element(1, gen_server:call({{hecate_plugins, '{us}'}}, list))")), "ok");
    let mut another = Erl::start(&host, Start { name: Some("undefined"), ..Start::default() });
    assert_eq!(another.eval(&format!("net_kernel:connect_node('{us}')")), "true");
    assert_ne!(another.eval("node()"), name);
}

/// Connects a nameless node to `peer` several times. Returns how many names it had, and whether
/// each creation follows the one before.
fn reconnect(erl: &mut Erl, peer: &str, times: usize) -> String {
    erl.eval(&format!(
        "Nameless = fun Wait() -> case node() of nonode@nohost -> ok; _ -> erlang:yield(), Wait() end end,
        Had = [begin
                   true = net_kernel:connect_node('{peer}'),
                   Name = {{node(), erlang:system_info(creation)}},
                   true = erlang:disconnect_node('{peer}'),
                   ok = Nameless(),
                   Name
               end || _ <- lists:seq(1, {times})],
        [{{_, First}} | _] = Had,
        {{length(lists:usort([N || {{N, _}} <- Had])), [C - First || {{_, C}} <- Had] =:= lists:seq(0, {times} - 1)}}"
    ))
}

#[test]
fn a_nameless_node_that_reconnects_gets_the_same_name() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let _real = host.erl("real");
    let mut erl = Erl::start(&host, Start { name: Some("undefined"), ..Start::default() });
    let one_name = "{1,true}";
    assert_eq!(reconnect(&mut erl, &host.node("real"), 5), one_name, "between OTP nodes");
    assert_eq!(reconnect(&mut erl, &us, 50), one_name);
    let peers = host.ask("GET", "/api/cluster").body["peers"].as_array().expect("a list").clone();
    let given: Vec<_> = peers.iter().filter(|peer| peer["name"].as_str().is_some_and(|n| n.starts_with('d'))).collect();
    assert_eq!(given.len(), 1, "{peers:?}");
    // A second node that is connected at the same time has another.
    assert_eq!(erl.eval(&format!("net_kernel:connect_node('{us}')")), "true");
    let mut another = Erl::start(&host, Start { name: Some("undefined"), ..Start::default() });
    assert_eq!(another.eval(&format!("net_kernel:connect_node('{us}')")), "true");
    assert_ne!(another.eval("node()"), erl.eval("node()"));
}

// ---- Peers that are refused ---------------------------------------------------------------------------

/// Starts the daemon with its EPMD, and returns its distribution port.
fn daemon(host: &Host) -> (support::daemon::Daemon, Epmd, u16) {
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let port = epmd.port_of("hecate");
    (daemon, epmd, port)
}

#[tokio::test]
async fn a_peer_without_mandatory_flags_is_refused() {
    let host = Host::new();
    let (daemon, _epmd, port) = daemon(&host);
    let lacking = Flags::from_bits_truncate(flags::ours(false).bits() & !(1 << 26) & !Flags::MAP_TAGS.bits());
    let local = Identity { flags: lacking, ..identity(&host, "old", 7) };
    let stream = TcpStream::connect(address(port)).await.unwrap();
    let refused = setup::dial(stream, &local, host.node("hecate").parse().unwrap(), async || true).await.unwrap_err();
    assert_eq!(refused.to_string(), "the peer does not allow this node to connect");
    daemon.logs(&["WARN", &host.node("old"), "flags"]);
}

#[tokio::test]
async fn the_end_of_a_replaced_connection_is_logged_before_the_new_one() {
    let host = Host::new();
    let (daemon, _epmd, port) = daemon(&host);
    let local = identity(&host, "hasty", 7);
    let dial = async || {
        let stream = TcpStream::connect(address(port)).await.unwrap();
        setup::dial(stream, &local, host.node("hecate").parse().unwrap(), async || true).await.unwrap()
    };
    let older = dial().await;
    daemon.logs(&["node up", &host.node("hasty")]);
    let newer = dial().await;
    support::wait_for("all lines are logged", || daemon.log_lines(&[&host.node("hasty")]).len() >= 3);
    let lines = daemon.log_lines(&[&host.node("hasty")]);
    let expected = ["node up", "connection closed: replaced by a newer connection", "node up"];
    assert!(lines.iter().zip(expected).all(|(line, words)| line.contains(words)), "{lines:#?}");
    drop((older, newer));
}

#[tokio::test]
async fn an_attempt_that_gives_way_to_the_peers_attempt_is_not_logged() {
    let host = Host::new();
    let (daemon, epmd, _) = daemon(&host);
    let racing = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let _name = epmd.register("hecate_racing", racing.local_addr().unwrap().port());
    // The end of the first attempt is known at the second attempt.
    for _ in 0..2 {
        let (mut stream, _) = racing.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        stream.read_exact(&mut vec![0; length.into()]).await.unwrap();
        stream.write_all(b"\0\x04snok").await.unwrap();
    }
    assert_eq!(daemon.log_lines(&[&host.node("hecate_racing")]), Vec::<String>::new());
}

#[tokio::test]
async fn a_peer_with_another_cookie_is_refused_and_logged_once() {
    let host = Host::new();
    let (daemon, _epmd, port) = daemon(&host);
    for _ in 0..2 {
        let cookie = Cookie::parse(b"another-cookie").unwrap();
        let local = Identity { cookie, ..identity(&host, "stranger", 7) };
        let stream = TcpStream::connect(address(port)).await.unwrap();
        let refused =
            setup::dial(stream, &local, host.node("hecate").parse().unwrap(), async || true).await.unwrap_err();
        assert!(matches!(refused, SetupError::ProofRefused), "{refused}");
    }
    daemon.logs(&["WARN", &host.node("stranger"), "cookie"]);
    assert!(!daemon.log().contains(&host.cookie) && !daemon.log().contains("another-cookie"));
    assert_eq!(host.peer(&host.node("stranger")), None);
}

#[test]
fn nodes_with_different_cookies_refuse_each_other() {
    let host = Host::new();
    let (daemon, _epmd, _) = daemon(&host);
    // The daemon does not dial the first name, so that node dials. It finds and dials the second
    // one.
    let start = |name| Start { name: Some(name), cookie: Some("another-cookie"), ..Start::default() };
    let mut erl = Erl::start(&host, start("visitor"));
    assert_eq!(erl.eval(&format!("net_kernel:connect_node('{}')", host.node("hecate"))), "false");
    daemon.logs(&["WARN", &host.node("visitor"), "rejected the handshake", "another cookie"]);
    let mut plugin = Erl::start(&host, start("hecate_traderd"));
    daemon.logs(&["WARN", &host.node("hecate_traderd"), "cookie"]);
    for (erl, name) in [(&mut erl, "visitor"), (&mut plugin, "hecate_traderd")] {
        assert_eq!(erl.eval("nodes(connected)"), "[]");
        assert_ne!(host.peer(&host.node(name)).as_deref(), Some("connected"));
    }
    assert!(daemon.log_lines(&["node up"]).is_empty(), "the node was connected for a moment");
    assert!(!daemon.log().contains(&host.cookie) && !daemon.log().contains("another-cookie"));
}

#[tokio::test]
async fn a_name_message_of_version_5_is_accepted_with_its_complement() {
    let host = Host::new();
    let (_daemon, _epmd, port) = daemon(&host);
    let local = identity(&host, "five", 7);
    let mut stream = TcpStream::connect(address(port)).await.unwrap();
    let send = async |stream: &mut TcpStream, packet: &[u8]| {
        let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], packet].concat()).await.unwrap();
    };
    let receive = async |stream: &mut TcpStream| {
        let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut packet).await.unwrap();
        packet
    };
    let bits = local.flags.bits();
    let low = u32::try_from(bits & 0xFFFF_FFFF).unwrap().to_be_bytes();
    send(&mut stream, &[&b"n\0\x05"[..], &low, local.name.as_bytes()].concat()).await;
    assert_eq!(receive(&mut stream).await, b"sok");
    let challenge = receive(&mut stream).await;
    assert_eq!(challenge[0], b'N', "the answer has version 6, which the flags allow");
    let theirs = u32::from_be_bytes(challenge[9..13].try_into().unwrap());
    let high = u32::try_from(bits >> 32).unwrap().to_be_bytes();
    send(&mut stream, &[&b"c"[..], &high, &7_u32.to_be_bytes()].concat()).await;
    send(&mut stream, &[&b"r"[..], &1_u32.to_be_bytes(), &local.cookie.digest(theirs)].concat()).await;
    assert_eq!(receive(&mut stream).await, [&b"a"[..], &local.cookie.digest(1)].concat());
    support::wait_for("the node is connected", || host.peer(&local.name).as_deref() == Some("connected"));
}

#[test]
fn nodes_with_short_and_long_names_never_connect() {
    let host = Host::new();
    let (daemon, _epmd, _) = daemon(&host);
    let start = Start {
        name: None,
        args: &["-name", "hecate_longd@127.0.0.1", "-setcookie", &host.cookie],
        ..Start::default()
    };
    let mut erl = Erl::start(&host, start);
    assert_eq!(erl.eval("node()"), "'hecate_longd@127.0.0.1'");
    // The daemon finds the name in EPMD, but no node has the short form of it.
    daemon.logs(&["WARN", &host.node("hecate_longd"), "calls itself hecate_longd@127.0.0.1"]);
    assert_eq!(erl.eval(&format!("net_kernel:connect_node('{}')", host.node("hecate"))), "false");
    assert_eq!(erl.eval("nodes()"), "[]");
    assert_eq!(host.peer("hecate_longd@127.0.0.1"), None);
}
