//! Checks frames and handshakes:
//! - Frames do not depend on how their bytes are cut on arrival.
//! - On either side and in each phase, a packet either continues the handshake or is a handshake
//!   error.
//!
//! The input is a byte that selects the check (see [`fuzz_target!`]), the number of cuts, the cuts,
//! and then the received bytes.
#![no_main]

use beam::cookie::Cookie;
use beam::dist::challenges::Challenges;
use beam::dist::flags::{self, Flags};
use beam::dist::framing::{self, Frame, FrameTooLarge};
use beam::dist::given_names::{GivenNames, Random};
use beam::dist::handshake::{
    self, Established, HandshakeError, Identity, Named, ReplyReceived, Status, StatusReceived,
};
use beam::name::NodeName;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [what, cuts, rest @ ..] = data else { return };
    let (cuts, wire) = rest.split_at(rest.len().min(usize::from(*cuts)));
    match what % 3 {
        0 => assert_eq!(framed(wire, cuts), framed(wire, &[]), "cut at {cuts:?}"),
        1 => accepted(what / 3, packets(wire)),
        _ => dialled(packets(wire)),
    }
});

/// Decodes bytes that arrive in pieces of these lengths, and the rest at once. Returns the frames
/// and the error at the end.
fn framed(mut wire: &[u8], pieces: &[u8]) -> (Vec<Frame>, Option<FrameTooLarge>) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces.iter().map(|piece| usize::from(*piece)).chain([usize::MAX]) {
        let (arrived, later) = wire.split_at(wire.len().min(piece));
        buffer.extend_from_slice(arrived);
        wire = later;
        loop {
            match framing::next(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(e) => return (frames, Some(e)),
            }
        }
    }
    (frames, None)
}

/// Returns the packets of a handshake, each after its length in two bytes.
fn packets(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = wire.split_first_chunk()?;
        let (packet, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        wire = rest;
        (packet.len() <= beam::limits::HANDSHAKE_PACKET).then_some(packet)
    })
}

fn local() -> Identity {
    let cookie = Cookie::parse(b"cookie").expect("a cookie");
    Identity {
        name: "local@host".parse().unwrap(),
        creation: 7,
        flags: flags::ours(false),
        cookie,
        challenges: Challenges::default(),
    }
}

const CHALLENGE: u32 = 5;

/// Returns the packet, with a valid digest in place of 16 zeros at its end. The fuzzer cannot find
/// a digest by itself.
fn proved(packet: &[u8]) -> Vec<u8> {
    match packet.strip_suffix(&[0; 16]) {
        Some(head) => [head, &local().cookie.digest(CHALLENGE)].concat(),
        None => packet.to_vec(),
    }
}

fn check(peer: &Established, offered: Flags) {
    assert_eq!(NodeName::parse(&peer.name), Ok(peer.name.clone()));
    assert!(offered.contains(peer.flags), "only offered flags are agreed");
    assert!(peer.flags.contains(Flags::HANDSHAKE_23 | Flags::BIG_CREATION));
}

fn accepted<'a>(how: u8, mut packets: impl Iterator<Item = &'a [u8]>) {
    let shake = || -> Option<Result<(), HandshakeError>> {
        let mut named = match handshake::receive_name(packets.next()?) {
            Ok(named) => named,
            Err(e) => return Some(Err(e)),
        };
        if let Err(e) = named.check_flags() {
            return Some(Err(e));
        }
        let mut offered = local().flags;
        if named.is_nameless() {
            offered |= Flags::NAME_ME;
            // A nameless peer sends its host in place of a name.
            let random = Random { name: u64::from(how), creation: 4 };
            let given = GivenNames::default().give(named.name().host(), random).expect("the name fits");
            named.give_name(&given);
            assert!(named.name_packet().len() <= beam::limits::HANDSHAKE_PACKET);
        }
        let status = [Status::Ok, Status::OkSimultaneous, Status::Alive][usize::from(how) % 3];
        assert!(Named::status_packet(status).starts_with(b"s"));
        if status == Status::Alive
            && let Err(e) = named.receive_alive(packets.next()?)
        {
            return Some(Err(e));
        }
        let name = named.name().clone();
        let (mut awaited, packet) = named.challenge(&local(), CHALLENGE);
        assert!(packet.starts_with(b"N"));
        loop {
            match awaited.receive(&proved(packets.next()?), &local()) {
                Err(e) => return Some(Err(e)),
                Ok(ReplyReceived::Complemented(next)) => awaited = next,
                Ok(ReplyReceived::Done(peer, ack)) => {
                    assert_eq!((&peer.name, ack.len()), (&name, 17));
                    check(&peer, offered);
                    return Some(Ok(()));
                }
            }
        }
    };
    shaken(shake);
}

fn dialled<'a>(mut packets: impl Iterator<Item = &'a [u8]>) {
    let shake = || -> Option<Result<(), HandshakeError>> {
        let (status, name) = handshake::dial(&local(), "peer@host".parse().unwrap());
        assert!(handshake::receive_name(&name).is_ok_and(|named| *named.name() == local().name));
        let awaited = match status.receive(packets.next()?) {
            Ok(StatusReceived::Proceed(awaited) | StatusReceived::Alive(awaited)) => awaited,
            Err(e) => return Some(Err(e)),
        };
        let (awaited, reply) = match awaited.receive(packets.next()?, &local(), CHALLENGE) {
            Ok(received) => received,
            Err(e) => return Some(Err(e)),
        };
        assert_eq!(reply.len(), 21);
        let peer = awaited.receive(&proved(packets.next()?), &local());
        if let Ok(peer) = &peer {
            assert_eq!(&*peer.name, "peer@host");
            check(peer, local().flags);
        }
        Some(peer.map(|_| ()))
    };
    shaken(shake);
}

/// Runs a handshake, and checks that an error has a message.
fn shaken(shake: impl FnOnce() -> Option<Result<(), HandshakeError>>) {
    if let Some(Err(e)) = shake() {
        assert!(!e.to_string().is_empty());
    }
}
