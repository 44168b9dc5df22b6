//! A hidden node that has proved the cookie, and writes whatever a test wants it to write.

#![allow(dead_code, reason = "each test file is a crate of its own and needs another part of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use beam::dist::flags::{self, Flags};
use beam::dist::handshake::{self, Identity, StatusReceived};

use crate::support::{self, Host, PATIENCE};
use crate::wire::{atom, int, pid, plain_header, reference, tuple, with};

/// A hidden node that has proved the cookie.
pub struct Hostile {
    pub me: String,
    pub us: String,
    pub creation: u32,
    /// Whether frames have distribution headers, both ways.
    headers: bool,
    pub stream: TcpStream,
}

impl Hostile {
    /// Connects, and expects to be let in.
    pub fn connect(host: &Host, port: u16, short: &str, headers: bool) -> Self {
        Self::try_connect(host, port, short, headers).unwrap_or_else(|| panic!("{short} may not connect"))
    }

    /// Connects; returns none if the daemon refuses this name now, or closes the connection.
    pub fn try_connect(host: &Host, port: u16, short: &str, headers: bool) -> Option<Self> {
        Self::connect_slowly(host, port, short, headers, || ())
    }

    /// Connects as [`Self::try_connect`] does, and does something else while the handshake is under way.
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

    /// A process of its own.
    pub fn pid(&self) -> Vec<u8> {
        pid(&self.me, 1, 7)
    }

    /// A reference of its own.
    pub fn reference(&self, number: u32) -> Vec<u8> {
        reference(&self.me, &[number, 0, 0], 7)
    }

    /// A process of the daemon, if it has one of this number.
    pub fn ours(&self, number: u32) -> Vec<u8> {
        pid(&self.us, number, self.creation)
    }

    /// The first process of the daemon.
    pub fn net_kernel(&self) -> Vec<u8> {
        self.ours(1)
    }

    /// The next frame (from its control message on) that is no tick, nor what the daemon asks every node of its own accord: it spawns what answers, or monitors
    /// `net_kernel` and calls it. None at the end of the connection.
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

    /// What has come before the answer to a ping; none if the connection ended.
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

/// None at the end of the connection, which may be a rude one: we may have said more than was read.
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
