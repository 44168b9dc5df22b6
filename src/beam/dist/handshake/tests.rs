use super::*;
use crate::dist::given_names::{GivenNames, Random};
use crate::limits;

fn identity(name: &str, cookie: &str) -> Identity {
    Identity {
        name: name.parse().unwrap(),
        creation: 7,
        flags: flags::ours(false),
        cookie: Cookie::parse(cookie.as_bytes()).unwrap(),
        challenges: Challenges::default(),
    }
}

/// Returns the packet in which a node sends its name, with or without a challenge.
fn name_packet(node: &Identity, challenge: Option<u32>) -> Vec<u8> {
    name_message(&node.name, node.creation, node.flags, challenge)
}

fn proceed(received: StatusReceived) -> AwaitChallenge {
    match received {
        StatusReceived::Proceed(next) | StatusReceived::Alive(next) => next,
    }
}

/// Runs both chains against each other.
fn shake(dialler: &Identity, acceptor: &Identity) -> Result<(Established, Established), HandshakeError> {
    let (status, name) = dial(dialler, acceptor.name.clone());
    let named = receive_name(&name)?;
    named.check_flags()?;
    let challenge = proceed(status.receive(Named::status_packet(Status::Ok))?);
    let (reply, packet) = named.challenge(acceptor, 1);
    let (ack, packet) = challenge.receive(&packet, dialler, 2)?;
    match reply.receive(&packet, acceptor)? {
        ReplyReceived::Done(theirs, packet) => Ok((ack.receive(&packet, dialler)?, theirs)),
        ReplyReceived::Complemented(_) => panic!("version 6 has no complement"),
    }
}

#[test]
fn both_nodes_learn_the_name_and_creation_of_the_other() {
    let (a, b) = (identity("a@h", "c"), identity("b@h", "c"));
    let (ours, theirs) = shake(&a, &b).expect("same cookie");
    assert_eq!((&*ours.name, &*theirs.name), ("b@h", "a@h"));
    assert_eq!((ours.creation, ours.published), (7, true));
    let hidden = Identity { flags: flags::ours(true), ..a };
    let (ours, theirs) = shake(&hidden, &b).expect("same cookie");
    assert_eq!((ours.published, theirs.published), (true, false));
}

#[test]
fn only_offered_flags_are_agreed_upon() {
    let (a, b) = (identity("a@h", "c"), identity("b@h", "c"));
    let generous = Identity { flags: Flags::from_bits_truncate(u64::MAX), ..b };
    let (ours, _) = shake(&a, &generous).expect("same cookie");
    assert_eq!(ours.flags, a.flags);
    // A node that dials with every flag set requests a name. Only that flag is offered in addition.
    let status = dial(&generous, "a@h".parse().unwrap()).0;
    let mut named = receive_name(&name_message("h", generous.creation, generous.flags, None)).unwrap();
    named.give_name(&GivenNames::default().give("h", Random { name: 1, creation: 9 }).unwrap());
    let (reply, packet) = named.challenge(&a, 1);
    let (_, packet) = proceed(status.receive(b"sok").unwrap()).receive(&packet, &generous, 2).unwrap();
    let ReplyReceived::Done(theirs, _) = reply.receive(&packet, &a).expect("same cookie") else {
        panic!("version 6 has no complement")
    };
    assert_eq!(theirs.flags, a.flags | Flags::NAME_ME);
}

#[test]
fn another_cookie_is_refused() {
    let result = shake(&identity("a@h", "c"), &identity("b@h", "d"));
    assert_eq!(result.unwrap_err(), HandshakeError::CookieMismatch);
}

#[test]
fn an_acknowledgement_without_the_cookie_is_refused() {
    let (a, b) = (identity("a@h", "c"), identity("b@h", "c"));
    let (status, _) = dial(&a, b.name.clone());
    let challenge = proceed(status.receive(b"sok").unwrap());
    let (ack, _) = challenge.receive(&name_packet(&b, Some(1)), &a, 2).unwrap();
    assert_eq!(ack.receive(&[&b"a"[..], &[0; 16]].concat(), &a).unwrap_err(), HandshakeError::CookieMismatch);
}

#[test]
fn a_peer_with_another_name_is_refused_before_the_proof() {
    let (a, b) = (identity("a@h", "c"), identity("b@localhost", "c"));
    let (status, _) = dial(&a, "b@h".parse().unwrap());
    let challenge = proceed(status.receive(b"sok").unwrap());
    let refused = challenge.receive(&name_packet(&b, Some(1)), &a, 2).map(|_| ());
    assert_eq!(refused, Err(HandshakeError::NameMismatch("b@localhost".parse().unwrap())));
}

#[test]
fn each_status_has_its_meaning() {
    let a = identity("a@h", "c");
    let status = |packet: &[u8]| dial(&a, "b@h".parse().unwrap()).0.receive(packet).map(|_| ());
    assert_eq!(status(b"sok"), Ok(()));
    assert_eq!(status(b"sok_simultaneous"), Ok(()));
    assert_eq!(status(b"salive"), Ok(()));
    assert_eq!(status(b"snok"), Err(HandshakeError::Simultaneous));
    assert_eq!(status(b"snot_allowed"), Err(HandshakeError::NotAllowed));
    assert_eq!(status(b"snamed:"), Err(HandshakeError::UnexpectedStatus));
    assert_eq!(status(b"ok"), Err(HandshakeError::Malformed("status")));
    assert_eq!(status(b""), Err(HandshakeError::Malformed("status")));
}

#[test]
fn the_answer_to_alive_decides_the_handshake() {
    let (_, name) = dial(&identity("a@h", "c"), "b@h".parse().unwrap());
    let named = receive_name(&name).unwrap();
    assert_eq!(named.receive_alive(alive_reply(true)), Ok(()));
    assert_eq!(named.receive_alive(alive_reply(false)), Err(HandshakeError::AlreadyAlive));
    assert!(named.receive_alive(b"sok").is_err());
}

#[test]
fn a_version_5_name_is_complemented() {
    let (a, b) = (identity("a@h", "c"), identity("b@h", "c"));
    let bits = a.flags.bits();
    let low = u32::try_from(bits & 0xFFFF_FFFF).unwrap();
    let high = u32::try_from(bits >> 32).unwrap();
    let name = [&b"n"[..], &5u16.to_be_bytes(), &low.to_be_bytes(), b"a@h"].concat();
    let named = receive_name(&name).unwrap();
    assert_eq!(named.check_flags(), Ok(()));
    let (reply, packet) = named.challenge(&b, 9);
    assert_eq!(packet.first(), Some(&b'N'));
    let complement = [&b"c"[..], &high.to_be_bytes(), &77u32.to_be_bytes()].concat();
    let ReplyReceived::Complemented(reply) = reply.receive(&complement, &b).unwrap() else {
        panic!("the complement is not the reply")
    };
    let proof = [&b"r"[..], &3u32.to_be_bytes(), &a.cookie.digest(9)].concat();
    let ReplyReceived::Done(peer, ack) = reply.receive(&proof, &b).unwrap() else { panic!("not done") };
    assert_eq!((&*peer.name, peer.creation), ("a@h", 77));
    assert_eq!(ack.get(1..), Some(&b.cookie.digest(3)[..]));
}

#[test]
fn a_peer_without_the_mandatory_flags_is_refused() {
    let mut old = identity("a@h", "c");
    old.flags = Flags::EXTENDED_REFERENCES;
    let named = receive_name(&name_packet(&old, None)).unwrap();
    assert!(matches!(named.check_flags(), Err(HandshakeError::FlagsMissing(bits)) if bits != 0));
    let (status, _) = dial(&identity("b@h", "c"), "a@h".parse().unwrap());
    let challenge = proceed(status.receive(b"sok").unwrap());
    let refused = challenge.receive(&name_packet(&old, Some(1)), &identity("b@h", "c"), 2);
    assert!(matches!(refused, Err(HandshakeError::FlagsMissing(_))));
}

#[test]
fn invalid_and_long_names_are_refused() {
    let named = |name: &str| {
        let received = receive_name(&name_message(name, 7, flags::ours(false), None));
        received.map(|named| named.name().to_string())
    };
    assert_eq!(named("a@h"), Ok("a@h".to_owned()));
    let longest = format!("{}@h", "a".repeat(limits::NODE_NAME - 2));
    assert_eq!(named(&longest), Ok(longest.clone()));
    let too_long = format!("{longest}x");
    let unshown = ["a\u{1b}[2J@h", "a\u{202e}@h", "a@\u{9b}h", "\u{e4}@h", "a b@h", "a@-h"];
    for bad in ["", "a", "@h", "a@", "a@h@i", too_long.as_str()].into_iter().chain(unshown) {
        assert_eq!(named(bad), Err(HandshakeError::BadName), "{bad}");
    }
    assert_eq!(receive_name(&[b'N', 0]).map(|_| ()), Err(HandshakeError::Malformed("name")));
}

#[test]
fn every_truncation_is_malformed_and_none_panics() {
    let (a, b) = (identity("a@h", "c"), identity("b@h", "c"));
    let name = name_packet(&a, None);
    for cut in 0..name.len() {
        assert!(receive_name(&name[..cut]).is_err());
    }
    let challenge = name_packet(&b, Some(1));
    for cut in 0..challenge.len() {
        let awaited = proceed(dial(&a, "b@h".parse().unwrap()).0.receive(b"sok").unwrap());
        assert!(awaited.receive(&challenge[..cut], &a, 2).is_err());
    }
    let proof = [&b"r"[..], &3u32.to_be_bytes(), &a.cookie.digest(9)].concat();
    for cut in 0..proof.len() {
        let (reply, _) = receive_name(&name).unwrap().challenge(&b, 9);
        assert!(reply.receive(&proof[..cut], &b).is_err());
    }
}

#[test]
fn a_nameless_peer_gets_a_name() {
    let nameless = |host: &str| receive_name(&name_message(host, 0, flags::ours(true) | Flags::NAME_ME, None));
    let mut named = nameless("its.host").unwrap();
    assert!(named.is_nameless());
    assert_eq!((named.claimed(), named.name().host()), ("its.host", "its.host"));
    named.give_name(&GivenNames::default().give(named.name().host(), Random { name: 0x1f, creation: 77 }).unwrap());
    assert_eq!(*named.name(), "d000000000000001f@its.host");
    assert_eq!(named.name_packet(), [b"snamed:\0\x1a", named.name().as_bytes(), &[0, 0, 0, 77]].concat());
    let (_, challenge) = named.challenge(&identity("m@h", "c"), 1);
    let theirs = flags::ours(false) | Flags::NAME_ME;
    assert_eq!(challenge[1..9], theirs.bits().to_be_bytes(), "a nameless peer requires this flag");
    for host in ["", "a@b", &"h".repeat(limits::NODE_NAME)] {
        assert_eq!(nameless(host).unwrap_err(), HandshakeError::BadName, "{host}");
    }
}
