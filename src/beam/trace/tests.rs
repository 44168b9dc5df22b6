use proptest::prelude::*;
use tokio::sync::{Mutex, MutexGuard};

use super::*;
use crate::cookie::Cookie;
use crate::dist::challenges::Challenges;
use crate::dist::control::{NewProcess, Proc};
use crate::dist::flags as bits;
use crate::dist::handshake::{self, Identity, ReplyReceived, StatusReceived};
use crate::etf::{Atom, Pid, Raw, Reader, Reference, ReferenceIds, Term};
use crate::name::node;

/// Waits for this test's turn. Subscriptions belong to the process and are bounded, so these tests
/// run one after the other.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

fn connection(peer: &str) -> ConnectionTrace {
    ConnectionTrace::new(Some(&node(peer)), None)
}

/// Returns the text of the next event.
async fn text(subscription: &mut Subscription) -> String {
    match subscription.next().await {
        Traced::Event(event) => event.text.clone(),
        Traced::Dropped(dropped) => panic!("{dropped} events were dropped"),
    }
}

#[tokio::test]
async fn nothing_is_described_without_a_subscriber() {
    let _turn = turn().await;
    let decoded = || panic!("an event without a subscriber is described");
    let link = connection("b@h");
    link.note(decoded);
    epmd(Direction::Sent, None, Some(b"b"), decoded);
    let _another = subscribe(node("c@h")).unwrap();
    link.note(decoded);
    epmd(Direction::Sent, None, Some(b"b"), decoded);
}

#[tokio::test]
async fn a_subscriber_receives_the_events_of_its_peer_in_order() {
    let _turn = turn().await;
    let mut subscription = subscribe(node("b@h")).unwrap();
    let (mut late, other) = (ConnectionTrace::new(None, None), connection("c@h"));
    other.tick(Direction::Sent);
    late.tick(Direction::Received);
    late.name(&"b@h".parse().unwrap());
    late.tick(Direction::Received);
    epmd_request(Direction::Sent, None, &EpmdRequest::Port(b"c".to_vec()));
    epmd_request(Direction::Sent, None, &EpmdRequest::Port(b"b".to_vec()));
    unreachable(&"b@h".parse().unwrap(), &"refused");
    let mut seen = Vec::new();
    assert_eq!(text(&mut subscription).await, "the peer at an unknown address is named b@h");
    for _ in 0..3 {
        let Traced::Event(event) = subscription.next().await else { panic!("nothing is dropped") };
        let peer = event.peer.as_deref().map(str::to_owned);
        seen.push((peer, event.connection.is_some(), event.layer.name(), event.direction.name(), event.text.clone()));
    }
    let own = || Some("b@h".to_owned());
    assert_eq!(
        seen,
        [
            (own(), true, "frame", "received", "tick".to_owned()),
            (None, false, "epmd", "sent", "PORT_PLEASE2_REQ: b".to_owned()),
            (own(), false, "connection", "local", "no connection: refused".to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_slow_subscriber_loses_events_and_learns_how_many() {
    let _turn = turn().await;
    let mut subscription = subscribe(node("slow@h")).unwrap();
    let link = connection("slow@h");
    text(&mut subscription).await;
    for number in 0..limits::TRACE_QUEUE + 7 {
        link.note(|| number.to_string());
    }
    assert_eq!(text(&mut subscription).await, "0");
    // The entry for the dropped events takes the place that the read freed.
    link.note(|| "dropped too".to_owned());
    assert_eq!(text(&mut subscription).await, "1");
    link.note(|| "later".to_owned());
    for number in 2..limits::TRACE_QUEUE {
        assert_eq!(text(&mut subscription).await, number.to_string());
    }
    assert_eq!(subscription.next().await, Traced::Dropped(8));
    assert_eq!(text(&mut subscription).await, "later");
    link.note(|| "last".to_owned());
    assert_eq!(text(&mut subscription).await, "last", "nothing else waited");
}

#[tokio::test]
async fn subscriptions_are_bounded() {
    let _turn = turn().await;
    let mut subscriptions: Vec<Subscription> =
        (0..limits::TRACE_SUBSCRIPTIONS).map(|_| subscribe(node("b@h")).unwrap()).collect();
    assert!(subscribe(node("b@h")).is_err());
    subscriptions.pop();
    assert!(subscribe(node("b@h")).is_ok(), "a subscription has ended");
}

#[tokio::test]
async fn a_text_is_escaped_and_cut() {
    let _turn = turn().await;
    let mut subscription = subscribe(node("b@h")).unwrap();
    let link = connection("b@h");
    text(&mut subscription).await;
    let send = |name: &str| Control::SendName { from: pid("a@h", 1), to: Atom::new(name).unwrap() };
    link.frame_sent(&send("x\u{1b}[2J\n\u{202e}'"), None);
    assert_eq!(text(&mut subscription).await, r"REG_SEND from <a@h.1.0> to 'x\u{1b}[2J\n\u{202e}\''");
    link.frame_sent(&send(&"\u{10ffff}".repeat(limits::ATOM_CHARACTERS)), None);
    let cut = text(&mut subscription).await;
    assert_eq!((cut.len(), cut.chars().last()), (limits::TRACE_TEXT, Some('…')));
    link.note(|| "x".repeat(limits::TRACE_TEXT));
    assert_eq!(text(&mut subscription).await, "x".repeat(limits::TRACE_TEXT));
    link.note(|| "\u{e4}".repeat(limits::TRACE_TEXT));
    let cut = text(&mut subscription).await;
    assert!(cut.len() <= limits::TRACE_TEXT && cut.ends_with("\u{e4}…"), "{cut}");
}

fn identity(name: &str) -> Identity {
    let cookie = Cookie::parse(b"the-cookie").unwrap();
    Identity { name: node(name), creation: 7, flags: bits::ours(true), cookie, challenges: Challenges::default() }
}

#[test]
fn packets_show_names_and_flags_but_no_challenge_and_no_digest() {
    let (ours, theirs) = (0x4142_4344, 0x6162_6364);
    let (dialler, acceptor) = (identity("a@h"), identity("b@h"));
    let (status, name) = handshake::dial(&dialler, acceptor.name.clone());
    let named = handshake::receive_name(&name).unwrap();
    let (reply, challenge) = named.challenge(&acceptor, theirs);
    let Ok(StatusReceived::Proceed(challenged)) = status.receive(b"sok") else { panic!("the handshake continues") };
    let (_, answer) = challenged.receive(&challenge, &dialler, ours).unwrap();
    let Ok(ReplyReceived::Done(_, ack)) = reply.receive(&answer, &acceptor) else { panic!("the cookie is the same") };
    let flags = bits::names(bits::ours(true)).join(" ");
    let described = [
        (describe::packet(&name, true), format!("name: a@h, creation 7, flags {flags}")),
        (describe::packet(b"sok", false), "status: ok".to_owned()),
        (describe::packet(&challenge, false), format!("challenge: b@h, creation 7, flags {flags}")),
        (describe::packet(&answer, true), "challenge reply: 20 bytes with the proof of the cookie".to_owned()),
        (describe::packet(&ack, false), "challenge acknowledgement: 16 bytes with the proof of the cookie".to_owned()),
        (describe::packet(b"snamed:\0\x03x@h\0\0\0\x05", false), "status: the name x@h".to_owned()),
        (describe::packet(b"ssecret", false), "malformed packet of 7 bytes".to_owned()),
        (describe::packet(b"n\0\x05\0\0\0\x01a@h", true), "name of version 5: a@h, flags PUBLISHED".to_owned()),
        (
            describe::packet(b"c\0\0\x01\x01\0\0\0\x02", true),
            "complement: creation 2, flags SPAWN 0x10000000000".to_owned(),
        ),
        (describe::packet(b"", true), "malformed packet of 0 bytes".to_owned()),
    ];
    for (seen, expected) in described {
        assert_eq!(seen, expected);
    }
}

fn pid(node: &str, id: u32) -> Pid {
    Pid { node: Atom::new(node).unwrap(), id, serial: 0, creation: 1 }
}

fn raw(term: &Term) -> Raw {
    let bytes = Bytes::from(term.encode());
    Reader::with_version(&bytes, &mut crate::etf::Atoms::new()).unwrap().raw().unwrap()
}

#[test]
fn a_signal_shows_its_name_its_operands_and_the_size_of_its_payload() {
    let (from, to) = (pid("a@h", 1), pid("b@h", 2));
    let reference = Reference { node: Atom::literal("a@h"), creation: 1, ids: ReferenceIds::from([3, 2, 1]) };
    let reason = raw(&Term::binary("secret"));
    let (id, name) = (raw(&Term::Int(5)), Proc::Name(Atom::literal("net_kernel")));
    let new = NewProcess {
        group_leader: from.clone(),
        module: Atom::literal("erpc"),
        function: Atom::literal("Execute"),
        arity: 4,
        options: raw(&Term::atom("monitor")),
    };
    let signal = |make: fn(Pid, Pid) -> Control| make(from.clone(), to.clone());
    let table = [
        (signal(|from, to| Control::Link { from, to }), "LINK from <a@h.1.0> to <b@h.2.0>"),
        (signal(|from, to| Control::Unlink { id: None, from, to }), "UNLINK from <a@h.1.0> to <b@h.2.0>"),
        (
            Control::Unlink { id: Some(id.clone()), from: from.clone(), to: to.clone() },
            "UNLINK_ID from <a@h.1.0> to <b@h.2.0>",
        ),
        (Control::UnlinkAck { id, from: from.clone(), to: to.clone() }, "UNLINK_ID_ACK from <a@h.1.0> to <b@h.2.0>"),
        (signal(|_, to| Control::Send { from: None, to }), "SEND to <b@h.2.0>"),
        (signal(|from, to| Control::Send { from: Some(from), to }), "SEND_SENDER from <a@h.1.0> to <b@h.2.0>"),
        (
            Control::SendAlias { from: from.clone(), to: reference.clone() },
            "ALIAS_SEND from <a@h.1.0> to #Ref<a@h.1.2.3>",
        ),
        (
            Control::Exit { from: from.clone(), to: to.clone(), reason: reason.clone() },
            "EXIT from <a@h.1.0> to <b@h.2.0>, reason 11 bytes",
        ),
        (
            Control::Exit2 { from: from.clone(), to: to.clone(), reason: reason.clone() },
            "EXIT2 from <a@h.1.0> to <b@h.2.0>, reason 11 bytes",
        ),
        (
            Control::Monitor { from: from.clone(), to: name.clone(), reference: reference.clone() },
            "MONITOR_P from <a@h.1.0> to net_kernel, #Ref<a@h.1.2.3>",
        ),
        (
            Control::Demonitor { from: from.clone(), to: Proc::Pid(to.clone()), reference: reference.clone() },
            "DEMONITOR_P from <a@h.1.0> to <b@h.2.0>, #Ref<a@h.1.2.3>",
        ),
        (
            Control::MonitorExit { from: name, to: to.clone(), reference: reference.clone(), reason },
            "MONITOR_P_EXIT from net_kernel to <b@h.2.0>, #Ref<a@h.1.2.3>, reason 11 bytes",
        ),
        (
            Control::SpawnRequest { request: reference.clone(), from, new: new.into() },
            "SPAWN_REQUEST from <a@h.1.0>, #Ref<a@h.1.2.3>, erpc:'Execute'/4",
        ),
        (
            Control::SpawnReply {
                request: reference.clone(),
                to: to.clone(),
                flags: 0,
                result: Err(Atom::literal("notsup")),
            },
            "SPAWN_REPLY to <b@h.2.0>, #Ref<a@h.1.2.3>, error notsup",
        ),
        (
            Control::SpawnReply { request: reference, to: to.clone(), flags: 0, result: Ok(to) },
            "SPAWN_REPLY to <b@h.2.0>, #Ref<a@h.1.2.3>, <b@h.2.0>",
        ),
    ];
    for (control, expected) in table {
        assert_eq!(describe::control(&control, None), expected);
        assert_eq!(describe::control(&control, Some(1)), format!("{expected}, payload 1 byte"));
    }
}

#[test]
fn ignored_and_malformed_frames_are_described() {
    let fragment = [&[131, 69][..], &9_u64.to_be_bytes(), &2_u64.to_be_bytes(), b"secret"].concat();
    assert_eq!(describe::frame(&fragment.into(), &Ok(None)), "fragment 2 of sequence 9, 24 bytes");
    assert_eq!(describe::frame(&Bytes::from_static(b"p"), &Ok(None)), "a message without effect, 1 byte");
    let error = Err(ControlError::Unknown { operation: 99, arity: 2 });
    let seen = describe::frame(&Bytes::from_static(b"secret"), &error);
    assert_eq!(
        seen,
        "frame of 6 bytes that cannot be read: the peer sent the unknown control message 99 with 2 fields"
    );
}

#[test]
fn a_probe_is_shown_as_the_signal_that_it_is() {
    let reference = Reference { node: Atom::literal("a@h"), creation: 1, ids: ReferenceIds::from([3, 2, 1]) };
    let probe = Control::Monitor { from: pid("a@h", 1), to: Proc::Name(Atom::literal("x")), reference };
    for agreed in [bits::ours(true), Flags::SPAWN] {
        let mut frame = Vec::new();
        crate::dist::control::encode(&probe, None, agreed, &mut frame);
        let seen = describe::probe(&frame.into(), agreed);
        assert_eq!(seen, "MONITOR_P from <a@h.1.0> to x, #Ref<a@h.1.2.3> (the peer is silent)");
    }
}

#[test]
fn epmd_messages_show_names_and_ports() {
    let request = |bytes: &[u8]| describe::epmd_request(&EpmdRequest::read(bytes).unwrap());
    let alive = b"x\x12\x34H\0\0\x06\0\x05\0\x02a\x1b\0\0";
    assert_eq!(request(alive), "ALIVE2_REQ: hidden node a\\u{1b} at port 4660");
    assert_eq!(request(b"za"), "PORT_PLEASE2_REQ: a");
    assert_eq!(request(b"n"), "NAMES_REQ");
    assert_eq!(describe::epmd_answer(&[b'v', 0, 0, 0, 0, 9]), "ALIVE2_RESP: registered, creation 9");
    assert_eq!(describe::epmd_answer(&[b'y', 0, 0, 2]), "ALIVE2_RESP: registered, creation 2");
    assert_eq!(describe::epmd_answer(&[b'y', 1, 0, 99]), "ALIVE2_RESP: refused");
    assert_eq!(describe::epmd_answer(b"w\0\x12\x34M\0\0\x06\0\x05\0\x01a\0\0"), "PORT2_RESP: port 4660");
    assert_eq!(describe::epmd_answer(b"w\x01"), "PORT2_RESP: no such name");
    assert_eq!(describe::epmd_answer(b"\0\0\x11\x11name a at port 4660\n"), "response of 24 bytes");
    assert_eq!(describe::with_address("x", Direction::Sent, Some("here".to_owned())), "x (to here)");
}

proptest! {
    #[test]
    fn any_bytes_are_described_on_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..80), dialler: bool) {
        for kind in [b"".as_slice(), b"N", b"n", b"c", b"snamed:", b"v", b"w", b"x", b"z", b"\x83\x45"] {
            let message = [kind, &bytes].concat();
            let mut texts = vec![describe::packet(&message, dialler), describe::epmd_answer(&message)];
            texts.push(describe::frame(&Bytes::from(message.clone()), &Ok(None)));
            texts.extend(EpmdRequest::read(&message).as_ref().map(describe::epmd_request));
            for text in texts {
                prop_assert!(!text.contains(char::is_control), "{text:?}");
            }
        }
    }
}
