//! The memory for all peers stays within one budget, whatever the peers send.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

#[path = "hostile/connection.rs"]
mod connection;
mod support;
#[path = "hostile/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use beam::dist::flags;
use beam::dist::handshake::{self, Identity, StatusReceived};
use connection::Hostile;
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::{Host, PATIENCE, wait_for, wait_within};
use wire::{atom, int, list, nil, tuple, with};

const MIB: usize = 1024 * 1024;

/// Memory beyond the budget: the daemon itself, data that arrives while a connection is being
/// closed, and memory that the allocator has not returned yet.
const MARGIN: usize = 160 * MIB;

/// Why a connection is closed.
const REASON: &str = "memory for peers is exhausted";

/// The groups of each peer, with one process each, and the size of their names.
const GROUPS: u32 = 900;
const GROUP: usize = 60_000;

/// Connects a hidden node that has proved the cookie and can now write any bytes.
fn connect(host: &Host, port: u16, short: &str) -> TcpStream {
    let local = Identity { flags: flags::ours(true), ..support::node::identity(host, short, 7) };
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (status, name) = handshake::dial(&local, host.node("hecate").as_str().parse().unwrap());
    send_packet(&mut stream, &name);
    let Ok(StatusReceived::Proceed(challenge)) = status.receive(&receive_packet(&mut stream)) else {
        panic!("the daemon refuses {short}");
    };
    let (ack, reply) = challenge.receive(&receive_packet(&mut stream), &local, 1).unwrap();
    send_packet(&mut stream, &reply);
    ack.receive(&receive_packet(&mut stream), &local).unwrap();
    // The daemon may close the connection while the peer writes.
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn send_packet(stream: &mut TcpStream, packet: &[u8]) {
    stream.write_all(&[&u16::try_from(packet.len()).unwrap().to_be_bytes(), packet].concat()).unwrap();
}

fn receive_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut packet = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut packet).unwrap();
    packet
}

/// Starts the daemon and a real node that is connected to it.
fn world(host: &Host) -> (Daemon, Epmd, support::erl::Erl) {
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let mut honest = host.erl("honest");
    honest.pings(&us);
    honest.eval(&format!("monitor_node('{us}', true)"));
    (daemon, epmd, honest)
}

fn stays_connected(host: &Host, honest: &mut support::erl::Erl) {
    assert_eq!(honest.eval("receive {nodedown, _} -> lost after 0 -> still_there end"), "still_there");
    honest.pings(&host.node("hecate"));
}

fn returns(daemon: &Daemon, before: usize) {
    let mut now = 0;
    wait_within(Duration::from_secs(30), "the daemon returns its memory", || {
        now = daemon.memory();
        (now < before + 40 * MIB).then_some(())
    });
    eprintln!("{} MiB before, {} MiB at most, {} MiB after", before / MIB, daemon.peak_memory() / MIB, now / MIB);
}

/// Writes to each from a separate thread, and keeps the connections open.
fn all_write(streams: Vec<TcpStream>, write: fn(&mut TcpStream) -> std::io::Result<()>) -> Vec<TcpStream> {
    let writing: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            std::thread::spawn(move || {
                // An error means that the connection was closed.
                let _ = write(&mut stream);
                stream
            })
        })
        .collect();
    writing.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn unfinished_frames_of_many_peers_stay_within_the_budget() {
    let host = Host::new();
    let (daemon, epmd, mut honest) = world(&host);
    let (before, port) = (daemon.memory(), epmd.port_of("hecate"));
    let (peers, size) = (12, 60 * MIB);
    let hostile = (0..peers).map(|number| connect(&host, port, &format!("hostile{number}"))).collect();
    let streams = all_write(hostile, |stream| {
        stream.write_all(&u32::try_from(60 * MIB).unwrap().to_be_bytes())?;
        for _ in 0..59 {
            stream.write_all(&vec![7; MIB])?;
        }
        Ok(())
    });
    let fit = beam::limits::PEER_BYTES / size;
    wait_for("the other connections are closed", || {
        daemon.log_lines(&["node down", REASON, "hostile"]).len() >= peers - fit - 1
    });
    assert!(daemon.peak_memory() < beam::limits::PEER_BYTES + MARGIN, "{} MiB", daemon.peak_memory() / MIB);
    stays_connected(&host, &mut honest);
    drop(streams);
    returns(&daemon, before);
}

#[test]
fn fragments_of_several_peers_stay_within_the_budget() {
    let host = Host::new();
    let (daemon, epmd, mut honest) = world(&host);
    let (before, port) = (daemon.memory(), epmd.port_of("hecate"));
    let hostile = (0..4).map(|number| connect(&host, port, &format!("hostile{number}"))).collect();
    let streams = all_write(hostile, |stream| {
        for sequence in 0..250_u64 {
            let size = u32::try_from(MIB).unwrap();
            // The first of a hundred fragments; the others never arrive.
            let head =
                [&size.to_be_bytes()[..], &[131, 69], &sequence.to_be_bytes(), &100_u64.to_be_bytes(), &[0]].concat();
            stream.write_all(&head)?;
            stream.write_all(&vec![7; MIB - (head.len() - 4)])?;
        }
        Ok(())
    });
    wait_for("the largest connections are closed", || daemon.log_lines(&["node down", REASON, "hostile"]).len() >= 3);
    assert!(daemon.peak_memory() < beam::limits::PEER_BYTES + MARGIN, "{} MiB", daemon.peak_memory() / MIB);
    stays_connected(&host, &mut honest);
    drop(streams);
    returns(&daemon, before);
}

/// Two peers together exceed the smallest budget, though each is within its own limits.
#[test]
fn groups_of_several_peers_stay_within_the_budget() {
    let (host, epmd, daemon) = Host::running(&[("HECATE_PEER_MEMORY", &beam::limits::PEER_BYTES_LEAST.to_string())]);
    let (before, port) = (daemon.memory(), epmd.port_of("hecate"));
    let mut peers: Vec<Hostile> =
        (0..2).map(|number| Hostile::connect(&host, port, &format!("hostile{number}"), false)).collect();
    for node in &mut peers {
        let name = |number: u32| [&[109, 0, 0, 0xEA, 0x60][..], &number.to_be_bytes(), &[7; GROUP - 4]].concat();
        let groups: Vec<Vec<u8>> =
            (0..GROUPS).map(|number| tuple(&[name(number), list(1, &[node.pid()], nil())])).collect();
        let sync = tuple(&[atom("$gen_cast"), tuple(&[atom("sync"), node.pid(), list(GROUPS, &groups, nil())])]);
        let to_pg = |message| with(&[int(6), node.pid(), atom(""), atom("pg")], message);
        let frames = [to_pg(tuple(&[atom("discover"), node.pid()])), to_pg(sync)].concat();
        // An error means that the connection was closed.
        let _ = node.stream.write_all(&frames);
    }
    wait_for("the larger connection is closed", || daemon.log_lines(&["node down", REASON, "hostile"]).len() == 1);
    drop(peers);
    returns(&daemon, before);
}

#[test]
fn memory_returns_after_large_messages() {
    let host = Host::new();
    let (daemon, _epmd, mut honest) = world(&host);
    let (us, before) = (host.node("hecate"), daemon.memory());
    let send = format!(
        "put(big, binary:copy(<<7>>, 30 bsl 20)), [{{hecate_plugins, '{us}'}} ! get(big) || _ <- [1, 2, 3, 4, 5]], ok"
    );
    assert_eq!(honest.eval(&send), "ok");
    let echoed = format!(
        "try erpc:call('{us}', m, f, [get(big)]) catch error:{{exception, undef, [{{m, f, [Back], []}}]}} -> Back =:= get(big) end"
    );
    assert_eq!(honest.eval(&echoed), "true");
    returns(&daemon, before);
    stays_connected(&host, &mut honest);
}
