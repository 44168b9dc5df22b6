//! The built-in EPMD, as real nodes and the real `epmd` program see it, and the registered names
//! when the EPMD in use ends.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::io::Read;
use std::process::Command;

use support::epmd::{self, alive, connect, names, send};
use support::erl::Erl;
use support::{Host, PATIENCE, wait_for};

/// Returns what the real `epmd` program prints about the EPMD on a port, and whether it succeeded.
fn program(port: u16, argument: &str) -> String {
    let output = Command::new("epmd").args(["-port", &port.to_string(), argument]).output();
    let output = output.expect("epmd runs (Debian: erlang-base)");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn epmd_state(host: &Host) -> String {
    host.ask("GET", "/api/cluster").body["epmd"]["state"].as_str().expect("a state").to_owned()
}

/// Returns the daemon's process `hecate_plugins`, whose pid contains the creation of the daemon's
/// node.
fn our_incarnation(host: &Host, erl: &mut Erl) -> String {
    let us = host.node("hecate");
    erl.eval(&format!(
        "{{status, P, _, _}} = sys:get_status({{hecate_plugins, '{us}'}}), binary:encode_hex(term_to_binary(P))"
    ))
}

#[test]
fn the_daemon_serves_epmd_to_real_nodes_if_none_runs() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    assert_eq!(daemon.ready(), host.node("hecate"));
    assert_eq!(epmd_state(&host), "served");
    let mut one = host.erl("one");
    let mut two = host.erl("hecate_twod");
    // The daemon finds the second node by its name, the first node dials the daemon, and both are
    // introduced.
    two.eval_until("length(nodes())", "1", PATIENCE);
    one.pings(&host.node("hecate_twod"));
    one.pings(&host.node("hecate"));
    assert_eq!(
        one.eval("{ok, Names} = net_adm:names(), lists:sort([N || {N, _} <- Names])"),
        "[\"hecate\",\"hecate_twod\",\"one\"]"
    );
    let listed = program(host.epmd_port, "-names");
    for name in ["hecate", "hecate_twod", "one"] {
        assert!(listed.contains(&format!("name {name} at port ")), "{listed}");
    }
    assert!(program(host.epmd_port, "-kill").contains("living nodes in database"), "an EPMD in use was killed");
    one.kill();
    wait_for("the name is free", || !names(host.epmd_port).contains_key("one"));
    host.erl("one");
    let (status, ..) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(connect(host.epmd_port).is_err(), "the EPMD outlived the daemon");
}

#[test]
fn another_daemon_serves_epmd_after_the_first_ends() {
    let first_host = Host::new();
    let mut second_host = Host::new();
    second_host.epmd_port = first_host.epmd_port;
    let first = first_host.daemon(&[]);
    first.ready();
    let second = second_host.daemon(&[("HECATE_NODE_NAME", "hecate_second")]);
    second.ready();
    assert_eq!((epmd_state(&first_host), epmd_state(&second_host)), ("served".to_owned(), "registered".to_owned()));
    let mut erl = second_host.erl("visitor");
    erl.pings(&second_host.node("hecate_second"));
    first.kill();
    wait_for("the second serves", || epmd_state(&second_host) == "served");
    wait_for("all are registered again", || {
        let names = names(first_host.epmd_port);
        names.contains_key("visitor") && names.contains_key("hecate_second")
    });
    assert_eq!(erl.eval("length(nodes())"), "1", "a connection was lost");
    // The first daemon returns. Its name is free, and another daemon serves EPMD.
    let first = first_host.daemon(&[]);
    first.ready();
    assert_eq!(epmd_state(&first_host), "registered");
}

#[test]
fn the_daemon_replaces_a_killed_epmd_and_remains_the_same_node() {
    let host = Host::new();
    let real = host.epmd();
    let daemon = host.daemon(&[]);
    daemon.ready();
    assert_eq!(epmd_state(&host), "registered");
    let mut erl = host.erl("visitor");
    erl.pings(&host.node("hecate"));
    let before = our_incarnation(&host, &mut erl);
    real.kill();
    wait_for("the daemon serves EPMD", || epmd_state(&host) == "served");
    wait_for("all are registered again", || {
        let names = names(host.epmd_port);
        names.contains_key("visitor") && names.contains_key("hecate")
    });
    let mut newcomer = host.erl("newcomer");
    newcomer.pings(&host.node("hecate"));
    assert_eq!(our_incarnation(&host, &mut newcomer), before);
}

#[test]
fn an_unreadable_name_hides_no_other() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let mut hostile = connect(host.epmd_port).unwrap();
    send(&mut hostile, &alive(b"bad\nname \nname x at port\nname", 1)).unwrap();
    let mut answer = [0; 2];
    hostile.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [b'v', 0], "the real EPMD accepts the name");
    let mut erl = host.erl("hecate_traderd");
    erl.eval_until("nodes()", &format!("[{}]", host.node("hecate")), PATIENCE);
}

/// The same requests get the same answers from the real and from the built-in EPMD.
#[test]
fn the_built_in_epmd_answers_like_the_real_one_byte_for_byte() {
    let (real_host, our_host) = (Host::new(), Host::new());
    let _real = real_host.epmd();
    let daemon = our_host.daemon(&[]);
    daemon.ready();
    // In the real EPMD, another connection registers the daemon's name.
    let mut hecate = connect(real_host.epmd_port).unwrap();
    let hecate_port = names(our_host.epmd_port)["hecate"];
    send(&mut hecate, &alive(b"hecate", hecate_port)).unwrap();
    hecate.read_exact(&mut [0; 6]).unwrap();

    let registered = |port: u16| {
        let mut stream = connect(port).unwrap();
        send(&mut stream, &alive(b"node", 4711)).unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..2], [b'v', 0]);
        assert!(u32::from_be_bytes(answer[2..].try_into().unwrap()) > 3, "a creation");
        stream
    };
    let (_one, _other) = (registered(real_host.epmd_port), registered(our_host.epmd_port));
    let answer = |port: u16, request: &[u8]| {
        let mut stream = connect(port).unwrap();
        send(&mut stream, request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        // Each answer starts with the EPMD's own port.
        if matches!(request.first(), Some(b'n' | b'd')) && answer.len() >= 4 {
            assert_eq!(answer.drain(..4).collect::<Vec<u8>>(), u32::from(port).to_be_bytes());
        }
        answer
    };
    let sorted = |answer: Vec<u8>| {
        let mut lines: Vec<String> = String::from_utf8_lossy(&answer).split('\n').map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut older = alive(b"node", 4711);
    older[6] = 5;
    for request in [&b"znode"[..], b"znobody", b"k"] {
        let (real, ours) = (answer(real_host.epmd_port, request), answer(our_host.epmd_port, request));
        assert_eq!(ours, real, "{:?}", String::from_utf8_lossy(request));
    }
    // The real EPMD keeps a connection open after it refused a registration.
    let refusal = |port: u16, request: &[u8], length: usize| {
        let mut stream = connect(port).unwrap();
        send(&mut stream, request).unwrap();
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap();
        answer
    };
    for (request, length) in [(alive(b"node", 1), 6), (alive(b"\xff", 1), 6), (older, 4)] {
        let (real, ours) =
            (refusal(real_host.epmd_port, &request, length), refusal(our_host.epmd_port, &request, length));
        assert_eq!(ours, real, "{request:?}");
    }
    assert_eq!(sorted(answer(our_host.epmd_port, b"n")), sorted(answer(real_host.epmd_port, b"n")));
    // The real EPMD prints a file descriptor number, which the built-in EPMD omits.
    let without_fd = |lines: Vec<String>| -> Vec<String> {
        let mut lines: Vec<String> =
            lines.into_iter().map(|line| line.split(", fd = ").next().unwrap().trim_matches('\0').to_owned()).collect();
        lines.sort();
        lines
    };
    let dump = |port| without_fd(sorted(answer(port, b"d")));
    assert_eq!(dump(our_host.epmd_port), dump(real_host.epmd_port));
    assert_eq!(epmd::names(our_host.epmd_port), epmd::names(real_host.epmd_port));
}

/// Returns the registration of a node with extra data, whose length field is `length`.
fn with_extra(name: &[u8], extra: &[u8], length: usize) -> Vec<u8> {
    let mut request = alive(name, 4711);
    request.truncate(request.len() - 2);
    request.extend(u16::try_from(length).unwrap().to_be_bytes());
    request.extend(extra);
    request
}

#[test]
fn the_built_in_epmd_accepts_and_closes_like_the_real_one() {
    let (real_host, our_host) = (Host::new(), Host::new());
    let _real = real_host.epmd();
    let daemon = our_host.daemon(&[]);
    daemon.ready();
    let result = |port: u16, request: &[u8]| {
        let mut stream = connect(port).unwrap();
        send(&mut stream, request).unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).ok().map(|()| answer)
    };
    let (long, longer) = ("\u{1f600}".repeat(254), "\u{1f600}".repeat(256));
    let accepted = [alive(long.as_bytes(), 4711), with_extra(b"a", &[0xff; 1020], 1020)];
    let refused = [alive(longer.as_bytes(), 4711), with_extra(b"b", &[0xff; 1021], 1021)];
    let closed = [
        alive(b"", 4711),
        alive(b"a\0b", 4711),
        with_extra(b"c", b"de", 3),
        alive(b"c", 4711)[..12].to_vec(),
        b"z".to_vec(),
        b"z\0".to_vec(),
        b"za\0b".to_vec(),
        b"z\xff".to_vec(),
        format!("z{longer}").into_bytes(),
        vec![b'z'; 3058],
    ];
    let cases = [(&accepted[..], Some([b'v', 0])), (&refused[..], Some([b'v', 1])), (&closed[..], None)];
    for (requests, expected) in cases {
        for request in requests {
            for port in [real_host.epmd_port, our_host.epmd_port] {
                assert_eq!(result(port, request), expected, "{:?} to {port}", String::from_utf8_lossy(request));
            }
        }
    }
    // The answer contains the name and the extra data, which ends with a zero byte here.
    let long = "\u{1f601}".repeat(254);
    let mut held = Vec::new();
    for port in [real_host.epmd_port, our_host.epmd_port] {
        let mut node = connect(port).unwrap();
        send(&mut node, &with_extra(long.as_bytes(), b"extra\0", 6)).unwrap();
        node.read_exact(&mut [0; 6]).unwrap();
        let mut stream = connect(port).unwrap();
        send(&mut stream, format!("z{long}\0").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        held.push((node, answer));
    }
    assert!(held[0].1.ends_with(b"\0\x06extra\0"), "{:?}", held[0].1);
    assert_eq!(held[0].1, held[1].1);
}

#[test]
fn the_longest_name_is_listed_by_the_real_program() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let name = "\u{1f600}".repeat(255);
    let mut node = connect(host.epmd_port).unwrap();
    send(&mut node, &alive(name.as_bytes(), 4711)).unwrap();
    node.read_exact(&mut [0; 6]).unwrap();
    assert_eq!(names(host.epmd_port).get(&name), Some(&4711));
    assert!(program(host.epmd_port, "-names").contains(&format!("name {name} at port 4711")));
}
