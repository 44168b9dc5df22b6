use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::cookie::Cookie;
use crate::dist::challenges::Challenges;
use crate::dist::flags::{self, Flags};

pub(crate) fn identity(name: &str, cookie: &str) -> Identity {
    let cookie = Cookie::parse(cookie.as_bytes()).unwrap();
    Identity {
        name: name.parse().unwrap(),
        creation: 1,
        flags: flags::ours(false),
        cookie,
        challenges: Challenges::default(),
    }
}

pub(crate) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (dialled, listener.accept().await.unwrap().0)
}

async fn shake(
    dialler: &Identity,
    acceptor: &Identity,
    status: Status,
) -> (Result<Connection, SetupError>, Result<Connection, SetupError>) {
    let (here, there) = sockets().await;
    let dialer = dial(here, dialler, acceptor.name.clone(), async || true);
    let accepting = async {
        let mut accepted = accept(there, acceptor, GivenNames::default(), |_| async move { status })
            .await
            .map_err(|rejected| rejected.error)?;
        accepted.stream.write_all(&accepted.unsent).await?;
        Ok(accepted)
    };
    tokio::join!(dialer, accepting)
}

#[tokio::test]
async fn both_roles_complete_the_handshake_with_any_status() {
    for status in [Status::Ok, Status::OkSimultaneous, Status::Alive] {
        let (ours, theirs) = shake(&identity("a@h", "c"), &identity("b@h", "c"), status).await;
        assert_eq!(&*ours.unwrap().peer.name, "b@h", "{status:?}");
        assert_eq!(&*theirs.unwrap().peer.name, "a@h", "{status:?}");
    }
}

#[tokio::test]
async fn each_node_detects_a_different_cookie() {
    let (ours, theirs) = shake(&identity("a@h", "c"), &identity("b@h", "d"), Status::Ok).await;
    assert!(matches!(ours, Err(SetupError::ProofRefused)));
    assert!(matches!(theirs, Err(SetupError::Handshake(HandshakeError::CookieMismatch))));
}

#[tokio::test]
async fn a_refused_peer_receives_a_status() {
    let (ours, theirs) = shake(&identity("a@h", "c"), &identity("b@h", "c"), Status::NotAllowed).await;
    for refused in [ours, theirs] {
        assert!(matches!(refused, Err(SetupError::Handshake(HandshakeError::NotAllowed))));
    }
    let (ours, _) = shake(&identity("a@h", "c"), &identity("b@h", "c"), Status::Nok).await;
    assert!(matches!(ours, Err(SetupError::Handshake(HandshakeError::Simultaneous))));
}

/// OTP 25 and 27 send this alert: fatal, unexpected_message.
#[tokio::test]
async fn a_tls_alert_is_distinguished_from_another_packet_that_is_too_large() {
    let alert = |rest: &[u8]| [&[0x15, 3][..], rest].concat();
    let too_large = |length: u32| {
        format!("the peer sent a handshake packet of {length} bytes, which exceeds the limit of 1024 bytes")
    };
    let table = [
        (alert(&[3, 0, 2, 2, 10]), "the peer expects TLS"),
        (alert(&[4, 0, 2, 1, 70]), "the peer expects TLS"),
        (alert(&[3, 0, 3, 2, 10]), &too_large(5379)),
        (alert(&[3, 0, 2, 3, 10]), &too_large(5379)),
        (alert(&[9, 0, 2, 2, 10]), &too_large(5379)),
        (vec![0x16, 3, 3, 0, 2], &too_large(5635)),
    ];
    for (answer, error) in table {
        for sounding in [false, true] {
            let (here, mut there) = sockets().await;
            there.write_all(&answer).await.unwrap();
            there.shutdown().await.unwrap();
            let us = identity("a@h", "c");
            let result = match sounding {
                true => sound_out(here, &us, "b@h".parse().unwrap()).await,
                false => dial(here, &us, "b@h".parse().unwrap(), async || true).await.map(|_| ()),
            };
            assert_eq!(result.unwrap_err().to_string(), error, "{answer:?}");
        }
    }
    let (here, mut there) = sockets().await;
    there.write_all(&alert(&[3, 0])).await.unwrap();
    there.shutdown().await.unwrap();
    assert!(matches!(
        dial(here, &identity("a@h", "c"), "b@h".parse().unwrap(), async || true).await,
        Err(SetupError::Io(_))
    ));
}

#[tokio::test]
async fn a_large_handshake_packet_is_refused_unread() {
    let (mut here, there) = sockets().await;
    let length = u16::try_from(limits::HANDSHAKE_PACKET + 1).unwrap();
    here.write_all(&length.to_be_bytes()).await.unwrap();
    let local = identity("b@h", "c");
    let result =
        accept(there, &local, GivenNames::default(), |_| async { Status::Ok }).await.map_err(|rejected| rejected.error);
    assert!(matches!(result, Err(SetupError::PacketTooLarge(n)) if n == usize::from(length)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_the_handshake_in_time() {
    const SEVEN_SECONDS: Range<Duration> = Duration::from_secs(7)..Duration::from_millis(7100);
    let local = identity("b@h", "c");
    let peer = || "a@h".parse().unwrap();

    let (_here, there) = sockets().await;
    let begun = Instant::now();
    let accepted = accept(there, &local, GivenNames::default(), |_| async { Status::Ok }).await;
    assert!(matches!(accepted, Err(Rejected { error: SetupError::TimedOut, .. })));
    assert!(SEVEN_SECONDS.contains(&begun.elapsed()), "accepting: {:?}", begun.elapsed());

    let (here, _there) = sockets().await;
    let begun = Instant::now();
    assert!(matches!(dial(here, &local, peer(), async || true).await, Err(SetupError::TimedOut)));
    assert!(SEVEN_SECONDS.contains(&begun.elapsed()), "dialling: {:?}", begun.elapsed());

    let (here, _there) = sockets().await;
    let begun = Instant::now();
    assert!(matches!(sound_out(here, &local, peer()).await, Err(SetupError::TimedOut)));
    assert!(SEVEN_SECONDS.contains(&begun.elapsed()), "checking: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_peer_that_dials_and_sends_our_own_challenge_is_refused_before_our_proof() {
    let local = identity("b@h", "c");
    // This node dials another node at the same time, and has sent it this challenge.
    let outstanding = local.challenges.issue(4711);
    let (mut here, there) = sockets().await;
    let relay = identity("a@h", "c");
    let dialer = async {
        let (_, name) = handshake::dial(&relay, local.name.clone());
        write(&mut here, &name).await.unwrap();
        assert_eq!(read(&mut here).await.unwrap(), b"sok");
        let challenge = read(&mut here).await.unwrap();
        let theirs = u32::from_be_bytes(challenge[9..13].try_into().unwrap());
        let proof = relay.cookie.digest(theirs);
        write(&mut here, &[&b"r"[..], &outstanding.challenge().to_be_bytes(), &proof].concat()).await.unwrap();
        read(&mut here).await
    };
    let (answer, accepted) =
        tokio::join!(dialer, accept(there, &local, GivenNames::default(), |_| async { Status::Ok }));
    assert!(matches!(accepted.unwrap_err().error, SetupError::Handshake(HandshakeError::Reflected)));
    assert!(answer.is_err(), "nothing was proved: {answer:?}");
}

#[tokio::test]
async fn a_nameless_peer_gets_its_former_name_unless_another_node_has_it() {
    let names = GivenNames::default();
    let nameless = Identity { flags: flags::ours(true) | Flags::NAME_ME, ..identity("a@h", "c") };
    // Returns the connection of a nameless peer. Another node uses the name `taken`.
    let connected = async |taken: Option<NodeName>| {
        let (mut here, there) = sockets().await;
        let dialer = async {
            let name = handshake::name_message("h", 1, nameless.flags, None);
            write(&mut here, &name).await.unwrap();
            let status = read(&mut here).await.unwrap();
            assert!(status.starts_with(b"snamed:"), "{status:?}");
            let theirs = &read(&mut here).await.unwrap()[9..13];
            let digest = nameless.cookie.digest(u32::from_be_bytes(theirs.try_into().unwrap()));
            write(&mut here, &[&b"r\0\0\0\x01"[..], &digest].concat()).await.unwrap();
        };
        let local = identity("b@h", "c");
        let decide = |name: NodeName| {
            let status = if Some(name) == taken { Status::Alive } else { Status::Ok };
            async move { status }
        };
        let (_, accepted) = tokio::join!(dialer, accept(there, &local, names.clone(), decide));
        accepted.expect("it proves the cookie")
    };
    let name = |connection: &Connection| connection.peer.name.clone();
    let first = name(&connected(None).await);
    let again = connected(None).await;
    assert_eq!(name(&again), first);
    let other = name(&connected(None).await);
    assert_ne!(other, first, "the former name is in use");
    drop(again);
    assert_ne!(name(&connected(Some(first.clone())).await), first);
}
