use std::pin::pin;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::dist::budget;
use crate::dist::flags;
use crate::dist::given_names::GivenNames;
use crate::dist::handshake::{Established, Origin, Status};
use crate::dist::header::HeaderError;
use crate::dist::setup::tests::{identity, sockets};
use crate::dist::setup::{accept, dial};
use crate::etf::{Atom, Iovec, Pid, Raw, Term};

/// A connection whose handshake is done.
fn connection(peer: Established, stream: TcpStream) -> Connection {
    let trace = ConnectionTrace::new(Some(&peer.name), None);
    Connection { peer, origin: Origin::Accepted, stream, unsent: Bytes::new(), given: None, trace }
}

/// A connection of ours, started, and the bare socket at its other end.
async fn started(tick_time: Duration) -> (LinkSender, mpsc::Receiver<LinkEvent>, TcpStream) {
    let (here, there) = sockets().await;
    let peer = Established { name: "p@h".parse().unwrap(), creation: 1, flags: flags::ours(false), published: true };
    let (inbox, events) = mpsc::channel(8);
    let connection = connection(peer, here);
    let sender = start(connection, tick_time, PROBE, budget::Budget::new(usize::MAX).holding(), inbox, |event| event);
    (sender, events, there)
}

async fn closed(events: &mut mpsc::Receiver<LinkEvent>) -> CloseReason {
    match timeout(Duration::from_secs(20), events.recv()).await.expect("it ends") {
        Some(LinkEvent::Closed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// What the peer is sent when it is silent.
const PROBE: Bytes = Bytes::from_static(b"\0\0\0\x01?");

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn who_dials_has_the_connection_only_once_our_owner_has_it() {
    let (here, there) = sockets().await;
    let (dialler, acceptor) = (identity("a@h", "c"), identity("b@h", "c"));
    let mut dialer = pin!(dial(here, &dialler, acceptor.name.clone(), async || true));
    let accepting = accept(there, &acceptor, GivenNames::default(), |_| async { Status::Ok });
    let accepted = async {
        let accepted = accepting.await.map_err(|rejected| rejected.error).unwrap();
        // Time enough for whatever was sent to arrive.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        accepted
    };
    let accepted = tokio::select! {
        accepted = accepted => accepted,
        _ = &mut dialer => panic!("its peer can use it, and nobody here knows of it"),
    };
    let (inbox, _events) = mpsc::channel(8);
    let _sender = start(accepted, LONG, PROBE, budget::Budget::new(usize::MAX).holding(), inbox, |event| event);
    assert_eq!(&*dialer.await.unwrap().peer.name, "b@h");
}

#[tokio::test]
async fn frames_go_both_ways_and_closing_flushes() {
    let (sender, mut events, mut there) = started(LONG).await;
    let pid = Pid { node: Atom::literal("a@h"), id: 1, serial: 0, creation: 1 };
    let send = Control::Send { from: Some(pid.clone()), to: pid };
    let mut frame = Vec::new();
    control::encode(&send, Some(&Iovec::encode(&Term::atom("hello"))), flags::ours(false), &mut frame);
    there.write_all(&frame).await.unwrap();
    match events.recv().await {
        Some(LinkEvent::Messages(batch, _)) => assert_eq!(batch[0].0, send),
        other => panic!("{other:?}"),
    }
    sender.send(&mut Bytes::from(frame.clone()).into()).unwrap();
    drop(sender);
    let mut received = Vec::new();
    there.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, frame);
    assert_eq!(closed(&mut events).await, CloseReason::ByUs);
}

#[tokio::test]
async fn what_was_flushed_arrives_though_the_peer_was_still_sending() {
    let (sender, mut events, mut there) = started(LONG).await;
    // More than the inbox takes, so that some of it is unread when we close.
    let pid = Pid { node: Atom::literal("a@h"), id: 1, serial: 0, creation: 1 };
    let link = Control::Link { from: pid.clone(), to: pid };
    let mut frames = Vec::new();
    for _ in 0..limits::MESSAGES * 20 {
        control::encode(&link, None, flags::ours(false), &mut frames);
    }
    there.write_all(&frames).await.unwrap();
    // More than is on the other side at once, so that some of it is still to be sent then.
    let last_words = vec![7; 2 * 1024 * 1024];
    sender.send(&mut Bytes::from(last_words.clone()).into()).unwrap();
    drop(sender);
    let mut received = Vec::new();
    there.read_to_end(&mut received).await.expect("not reset");
    assert_eq!(received.len(), last_words.len());
    there.shutdown().await.unwrap();
    while !matches!(events.recv().await.expect("it ends"), LinkEvent::Closed(CloseReason::ByUs)) {}
}

#[tokio::test(start_paused = true)]
async fn closing_waits_only_so_long_for_the_peer() {
    // One peer reads nothing; another has nothing to read and never closes.
    for queued in [8 * 1024 * 1024, 0] {
        let (sender, mut events, _there) = started(LONG).await;
        sender.send(&mut Bytes::from(vec![0; queued]).into()).unwrap();
        let start = Instant::now();
        drop(sender);
        assert_eq!(closed(&mut events).await, CloseReason::ByUs);
        let waited = start.elapsed();
        let most = limits::LINK_FLUSH + Duration::from_millis(10);
        assert!((limits::LINK_FLUSH..=most).contains(&waited), "{waited:?} with {queued} bytes");
    }
}

#[tokio::test]
async fn an_aborted_connection_is_reset_while_the_peer_writes() {
    let (sender, mut events, mut there) = started(LONG).await;
    let length = u32::try_from(limits::FRAME).unwrap();
    there.write_all(&length.to_be_bytes()).await.unwrap();
    let writing = async {
        let part = vec![7; READ_AHEAD];
        loop {
            if let Err(e) = there.write_all(&part).await {
                return e.kind();
            }
        }
    };
    let aborting = async {
        tokio::task::yield_now().await;
        sender.abort();
        closed(&mut events).await
    };
    let both = async { tokio::join!(writing, aborting) };
    let (error, reason) = timeout(LONG, both).await.expect("the peer notices");
    assert!(matches!(error, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
    assert_eq!(reason, CloseReason::ByUs);
}

#[tokio::test]
async fn a_flood_is_handed_on_in_pieces() {
    let (_sender, mut events, mut there) = started(LONG).await;
    let pid = Pid { node: Atom::literal("a@h"), id: 1, serial: 0, creation: 1 };
    let link = Control::Link { from: pid.clone(), to: pid };
    let mut frames = Vec::new();
    for _ in 0..limits::MESSAGES + 10 {
        control::encode(&link, None, flags::ours(false), &mut frames);
    }
    there.write_all(&frames).await.unwrap();
    let mut left = limits::MESSAGES + 10;
    while left > 0 {
        match events.recv().await {
            Some(LinkEvent::Messages(batch, _)) => {
                assert!(batch.len() <= limits::MESSAGES);
                left -= batch.len();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_message_that_waits_for_the_owner_counts_once() {
    let (here, mut there) = sockets().await;
    let peer = Established { name: "p@h".parse().unwrap(), creation: 1, flags: flags::ours(false), published: true };
    let connection = connection(peer, here);
    let holding = budget::Budget::new(usize::MAX).holding();
    let (inbox, events) = mpsc::channel(1);
    let _sender = start(connection, LONG, PROBE, holding.clone(), inbox, |event| event);
    let from = Pid { node: Atom::literal("a@h"), id: 1, serial: 0, creation: 1 };
    let (mut sizes, mut atoms) = (0, Atoms::new());
    for bytes in [1, 4 * READ_AHEAD] {
        let payload = Raw::encode(&Term::binary(vec![7; bytes]));
        let (mut frame, control) = (Vec::new(), Control::SendName { from: from.clone(), to: Atom::literal("x") });
        control::encode(&control, Some(&payload.clone().into()), flags::ours(false), &mut frame);
        there.write_all(&frame).await.unwrap();
        let begins = Bytes::copy_from_slice(&frame[4..]);
        control::decode(&begins, Headers::new(flags::ours(false)).as_mut(), &mut atoms).unwrap();
        sizes += control::size(&(control, Some(payload.bytes().clone())));
        // The first one fills the inbox, and the second one waits for room in it.
        let counted = async {
            while events.is_empty() || holding.bytes() != sizes + atoms.bytes() {
                tokio::task::yield_now().await;
            }
        };
        let counted = timeout(Duration::from_secs(20), counted).await;
        assert!(counted.is_ok(), "{} bytes are counted, not {sizes} and atoms", holding.bytes());
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_fills_a_bounded_queue() {
    let (sender, _events, _there) = started(LONG).await;
    let megabyte = Bytes::from(vec![0; 1024 * 1024]);
    let taken = (0..).take_while(|_| sender.send(&mut megabyte.clone().into()).is_ok()).take(1000).count();
    // The system's own buffers hold some of it.
    let most = limits::LINK_QUEUE / megabyte.len() + 32;
    assert!(taken > 1 && taken <= most, "{taken} of at most {most}");
}

#[tokio::test]
async fn the_other_end_closing_breaking_the_protocol_or_the_bound_ends_it() {
    let (_sender, mut events, there) = started(LONG).await;
    drop(there);
    assert_eq!(closed(&mut events).await, CloseReason::ClosedByPeer);

    // With something unread, closing resets the connection.
    let (sender, mut events, there) = started(LONG).await;
    sender.send(&mut Bytes::from_static(b"unread").into()).unwrap();
    assert_eq!(there.peek(&mut [0]).await.unwrap(), 1);
    drop(there);
    assert_eq!(closed(&mut events).await, CloseReason::Reset);

    let (_sender, mut events, mut there) = started(LONG).await;
    there.write_all(&[0, 0, 0, 1, 112]).await.unwrap();
    let no_header = HeaderError::NoHeader(vec![112]);
    assert_eq!(closed(&mut events).await, CloseReason::Control(ControlError::Header(no_header)));

    let (_sender, mut events, mut there) = started(LONG).await;
    there.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(matches!(closed(&mut events).await, CloseReason::FrameTooLarge(_)));
}

#[tokio::test]
async fn an_idle_connection_ticks_and_a_tick_is_answered() {
    let (_sender, _events, mut there) = started(Duration::from_millis(200)).await;
    let mut tick = [1; 4];
    there.read_exact(&mut tick).await.unwrap();
    assert_eq!(tick, [0; 4]);

    // With a time of its own that is long, it still answers a peer whose time is short.
    let (_sender, _events, mut there) = started(LONG).await;
    there.write_all(&[0; 4]).await.unwrap();
    let answered = timeout(Duration::from_secs(10), there.read_exact(&mut tick)).await;
    assert!(answered.is_ok_and(|read| read.is_ok()));
}

#[tokio::test]
async fn two_that_answer_ticks_do_not_answer_each_other_for_ever() {
    let (_sender, _events, mut there) = started(LONG).await;
    let (mut tick, mut answers) = ([1; 4], 0);
    there.write_all(&[0; 4]).await.unwrap();
    // The other side answers each tick at once, as we do.
    while let Ok(Ok(_)) = timeout(Duration::from_millis(300), there.read_exact(&mut tick)).await {
        answers += 1;
        assert!(answers < 10, "they talk for ever");
        there.write_all(&[0; 4]).await.unwrap();
    }
    assert_eq!(answers, 1);
}

#[tokio::test]
async fn a_peer_that_ticks_too_seldom_is_asked_before_it_is_given_up() {
    let tick_time = Duration::from_millis(400);
    let (_sender, mut events, mut there) = started(tick_time).await;
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < 3 * tick_time {
        let mut length = [0; 4];
        there.read_exact(&mut length).await.expect("it is not given up");
        if length != [0; 4] {
            assert_eq!((length, there.read_u8().await.unwrap()), ([0, 0, 0, 1], b'?'));
            asked += 1;
            there.write_all(&[0; 4]).await.unwrap();
        }
    }
    assert!(asked >= 2, "{asked}");
    assert_eq!(closed(&mut events).await, CloseReason::TickTimeout(tick_time), "it answers no more");
}

#[tokio::test]
async fn a_silent_connection_ends_after_the_tick_time() {
    let tick_time = Duration::from_millis(100);
    let (_sender, mut events, _there) = started(tick_time).await;
    assert_eq!(closed(&mut events).await, CloseReason::TickTimeout(tick_time));
}
