//! A hidden node that has the cookie and sends arbitrary bytes.

#![allow(dead_code, reason = "each test file is a separate crate and uses only a part of this module")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use beam::dist::flags::{self, Flags};
use beam::dist::handshake::{self, Identity, StatusReceived};

use crate::support::{self, Host, PATIENCE};
use crate::wire::{atom, int, pid, plain_header, reference, tuple, with};

pub struct Hostile {
    pub me: String,
    pub us: String,
    pub creation: u32,
    /// Whether frames have distribution headers, in both directions.
    headers: bool,
    pub stream: TcpStream,
}

impl Hostile {
    /// Connects, and checks that the daemon accepts the node.
    pub fn connect(host: &Host, port: u16, short: &str, headers: bool) -> Self {
        Self::try_connect(host, port, short, headers).unwrap_or_else(|| panic!("{short} may not connect"))
    }

    /// Connects. Returns `None` if the daemon refuses this name now, or closes the connection.
    pub fn try_connect(host: &Host, port: u16, short: &str, headers: bool) -> Option<Self> {
        Self::connect_slowly(host, port, short, headers, || ())
    }

    /// Connects like [`Self::try_connect`], and calls `meanwhile` during the handshake.
    pub fn connect_slowly(
        host: &Host,
        port: u16,
        short: &str,
        headers: bool,
        meanwhile: impl FnOnce(),
    ) -> Option<Self> {
        let without = if headers { 0 } else { flags::HEADERS.bits() };
        let flags = Flags::from_bits_truncate(flags::ours(true).bits() & !without);
        let local = Identity { flags, ..support::node::identity(host, short, 7) };
        let us = host.node("hecate");
        let mut stream = tcp(port);
        let (status, name) = handshake::dial(&local, us.as_str().parse().unwrap());
        send_packet(&mut stream, &name);
        meanwhile();
        let StatusReceived::Proceed(challenge) = status.receive(&try_receive_packet(&mut stream)?).ok()? else {
            return None;
        };
        let (ack, reply) = challenge.receive(&try_receive_packet(&mut stream)?, &local, 1).ok()?;
        send_packet(&mut stream, &reply);
        let peer = ack.receive(&try_receive_packet(&mut stream)?, &local).ok()?;
        Some(Self { me: local.name.to_string(), us, creation: peer.creation, headers, stream })
    }

    /// Returns the pid of a process of this node.
    pub fn pid(&self) -> Vec<u8> {
        pid(&self.me, 1, 7)
    }

    /// Returns a reference of this node.
    pub fn reference(&self, number: u32) -> Vec<u8> {
        reference(&self.me, &[number, 0, 0], 7)
    }

    /// Returns a pid of the daemon, whether or not the process exists.
    pub fn ours(&self, number: u32) -> Vec<u8> {
        pid(&self.us, number, self.creation)
    }

    /// Returns the pid of the daemon's first process.
    pub fn net_kernel(&self) -> Vec<u8> {
        self.ours(1)
    }

    /// Returns the next frame from its control message on, or `None` at the end of the connection.
    ///
    /// Skips ticks and the daemon's own requests to each node: it spawns a function, or monitors
    /// `net_kernel` and calls it.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut length = [0; 4];
            read(&mut self.stream, &mut length)?;
            let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            read(&mut self.stream, &mut frame)?;
            let before: &[u8] = if self.headers { &[131, 68, 0] } else { &[112, 131] };
            let Some(control) = frame.strip_prefix(before) else {
                assert!(frame.is_empty(), "{frame:?}");
                continue;
            };
            // SPAWN_REQUEST; MONITOR_P, REG_SEND and DEMONITOR_P. No answer is one of these.
            if !matches!(control.get(2..4), Some([97, 29 | 19 | 6 | 20])) {
                return Some(control.to_vec());
            }
        }
    }

    /// Returns the frames before the answer to a ping, or `None` if the connection ended.
    pub fn until_pong(&mut self) -> Option<Vec<Vec<u8>>> {
        let tag = self.reference(0xBAD);
        let from = tuple(&[self.pid(), tag.clone()]);
        let is_auth = tuple(&[atom("is_auth"), atom(&self.me)]);
        let ping = tuple(&[atom("$gen_call"), from, is_auth]);
        let control = [int(6), self.pid(), atom(""), atom("net_kernel")];
        let ping = if self.headers { plain_header(&control, ping) } else { with(&control, ping) };
        let _ = self.stream.write_all(&ping);
        let pong = tuple(&[tag, atom("yes")]);
        let mut before = Vec::new();
        loop {
            let frame = self.frame()?;
            if frame.ends_with(&pong) {
                return Some(before);
            }
            before.push(frame);
        }
    }
}

pub fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads bytes. Returns `None` at the end of the connection, also if it was reset, because the
/// daemon may close before it has read everything.
pub fn read(stream: &mut TcpStream, bytes: &mut [u8]) -> Option<()> {
    match stream.read_exact(bytes) {
        Ok(()) => Some(()),
        Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => None,
        Err(e) => panic!("neither an answer nor an end: {e}"),
    }
}

pub fn send_packet(stream: &mut TcpStream, packet: &[u8]) {
    let _ = stream.write_all(&[&u16::try_from(packet.len()).unwrap().to_be_bytes(), packet].concat());
}

pub fn receive_packet(stream: &mut TcpStream) -> Vec<u8> {
    try_receive_packet(stream).expect("a packet")
}

pub fn try_receive_packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    read(stream, &mut length)?;
    let mut packet = vec![0; u16::from_be_bytes(length).into()];
    read(stream, &mut packet)?;
    Some(packet)
}
