//! The other nodes in the wire bench: real `erl`s that run `bench.erl`, the C node `bench.c`, and a
//! socket. The socket completes a handshake, and then only writes prepared messages or only reads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use beam::dist::control::{self, Control};
use beam::dist::flags::{self, Flags};
use beam::dist::handshake::{self, Identity, StatusReceived};
use beam::etf::{Atom, Atoms, Iovec, Pid, Term};
use bytes::Bytes;

use crate::measure::since_epoch;
use crate::support::epmd::{Epmd, connect};
use crate::support::erl::{Erl, Start};
use crate::support::node::identity;
use crate::support::{self, Host, Process, wait_for};

/// The last bytes of the last message of a round.
const END: &[u8] = b"end_of_round";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name)
}

/// Compiles `bench.erl` and `bench.c` into the host's home.
pub fn compile(host: &Host) {
    let mut erlc = Command::new("erlc");
    erlc.arg("-o").arg(host.home()).arg(source("bench.erl"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-pthread", "-o"]).arg(host.home().join("bench")).arg(source("bench.c")).arg("-lei");
    for mut command in [erlc, cc] {
        let install = "`make bench` installs what is missing";
        assert!(Process::start(&mut command, install).ended("it is compiled").success(), "{command:?}: {install}");
    }
}

/// Starts an `erl` that runs `bench:start/0`.
pub fn erl(host: &Host, name: &str) -> Erl {
    let home = host.home().to_str().expect("a path of text");
    let mut erl = Erl::start(host, Start { name: Some(name), args: &["-pa", home], ..Start::default() });
    erl.eval("bench:start()");
    erl
}

/// Evaluates an expression whose value is a number.
pub fn number(erl: &mut Erl, expression: &str) -> f64 {
    erl.eval(expression).parse().expect("a number")
}

/// Returns the pid of the process `bench` on an `erl`.
pub fn server(erl: &mut Erl) -> Pid {
    let hex = erl.eval("binary_to_list(binary:encode_hex(term_to_binary(whereis(bench))))");
    let hex = hex.trim_matches('"').as_bytes().chunks(2);
    let bytes: Vec<u8> = hex.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect();
    match Term::decode(&bytes.into(), &mut Atoms::new()) {
        Ok(Term::Pid(pid)) => pid,
        other => panic!("{other:?} is not a pid"),
    }
}

/// Starts the C node and connects it to `erl`, until it is dropped.
pub fn c_node(host: &Host, erl: &mut Erl, name: &str) -> Process {
    let mut command = Command::new(host.home().join("bench"));
    command.args(["c", &host.name, &host.cookie, &host.node(name)]);
    command.env("HOME", host.home()).env("ERL_EPMD_PORT", host.epmd_port.to_string()).stdin(Stdio::null());
    let process = Process::start(&mut command, "`compile` builds it");
    is_there(host, erl, "c");
    process
}

fn is_there(host: &Host, erl: &mut Erl, short: &str) {
    erl.eval_until(&format!("lists:member('{}', nodes(connected))", host.node(short)), "true", support::PATIENCE);
}

/// Returns `{bench, Binary}`, the message that each sender sends.
pub fn message(size: usize) -> Term {
    Term::tuple([Term::atom("bench"), Term::binary(vec![7; size])])
}

/// Returns the message after the last one. It contains the time before the first one.
pub fn done(begun: u128) -> Term {
    Term::tuple([Term::atom("done"), Term::Int(i64::try_from(begun).expect("before the year 2262"))])
}

/// A plain socket that is connected to an `erl` after a handshake.
pub struct Socket {
    stream: TcpStream,
    flags: Flags,
    ours: Pid,
}

impl Socket {
    /// Connects as a hidden node of this name.
    pub fn dial(host: &Host, epmd: &Epmd, short: &str, erl: &mut Erl, peer: &str) -> Self {
        let local = Identity { flags: flags::ours(true), ..identity(host, short, 7) };
        let mut stream = connect(epmd.port_of(peer)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (status, packet) = handshake::dial(&local, host.node(peer).parse().unwrap());
        support::epmd::send(&mut stream, &packet).unwrap();
        let Ok(StatusReceived::Proceed(awaited)) = status.receive(&packet_of(&mut stream)) else {
            panic!("{peer} does not accept {short}");
        };
        let (awaited, packet) = awaited.receive(&packet_of(&mut stream), &local, 7).unwrap();
        support::epmd::send(&mut stream, &packet).unwrap();
        let flags = awaited.receive(&packet_of(&mut stream), &local).unwrap().flags;
        is_there(host, erl, short);
        let ours = Pid { node: Atom::new(&local.name).unwrap(), id: 1, serial: 0, creation: 7 };
        Self { stream, flags, ours }
    }

    fn frame(&self, control: &Control, message: &Term) -> Vec<u8> {
        let mut frame = Vec::new();
        control::encode(control, Some(&Iovec::encode(message)), self.flags, &mut frame);
        frame
    }

    /// Writes messages that were encoded before the time is measured.
    pub fn blast(&mut self, to: &Pid, size: usize, count: usize) {
        let to = Control::Send { from: None, to: to.clone() };
        let frame = self.frame(&to, &message(size));
        let together = (1024 * 1024 / frame.len()).clamp(1, count);
        let frames = Bytes::from(frame.repeat(together));
        let begun = since_epoch();
        for _ in 0..count / together {
            self.stream.write_all(&frames).unwrap();
        }
        self.stream.write_all(&frames[..frame.len() * (count % together)]).unwrap();
        let done = self.frame(&to, &done(begun));
        self.stream.write_all(&done).unwrap();
    }

    /// Only reads from now on, and answers only the last call of each round.
    pub fn sink(self) {
        let boss = Control::SendName { from: self.ours.clone(), to: Atom::literal("boss") };
        let drained = self.frame(&boss, &Term::atom("drained"));
        let Self { mut stream, .. } = self;
        stream.set_read_timeout(None).unwrap();
        thread::spawn(move || {
            let mut bytes = vec![0; 256 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                if bytes[..read].ends_with(END) && stream.write_all(&drained).is_err() {
                    break;
                }
            }
        });
    }
}

fn packet_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a packet");
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut packet).expect("a packet");
    packet
}

/// Waits until the node sees this many members on peers.
pub fn meets(node: &support::node::Node, members: usize) {
    wait_for("the node sees the members", || {
        node.handle.watch_groups().borrow().values().map(|scope| scope.peer_members).sum::<usize>() >= members
    });
}
