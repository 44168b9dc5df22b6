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

/// Returns a connection whose handshake is complete.
fn connection(peer: Established, stream: TcpStream) -> Connection {
    let trace = ConnectionTrace::new(Some(&peer.name), None);
    Connection { peer, origin: Origin::Accepted, stream, unsent: Bytes::new(), given: None, trace }
}

/// Starts a connection. Returns its handle, its events and the socket at its other end.
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

/// The probe that is sent to a silent peer.
const PROBE: Bytes = Bytes::from_static(b"\0\0\0\x01?");

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_dialling_node_is_connected_only_once_the_owner_is() {
    let (here, there) = sockets().await;
    let (dialler, acceptor) = (identity("a@h", "c"), identity("b@h", "c"));
    let mut dialer = pin!(dial(here, &dialler, acceptor.name.clone(), async || true));
    let accepting = accept(there, &acceptor, GivenNames::default(), |_| async { Status::Ok });
    let accepted = async {
        let accepted = accepting.await.map_err(|rejected| rejected.error).unwrap();
        // Enough time for sent bytes to arrive.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        accepted
    };
    let accepted = tokio::select! {
        accepted = accepted => accepted,
        _ = &mut dialer => panic!("the peer is connected before the owner"),
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
async fn queued_frames_arrive_although_the_peer_is_still_sending() {
    let (sender, mut events, mut there) = started(LONG).await;
    // More than the inbox holds, so that some messages are unread when the connection closes.
    let pid = Pid { node: Atom::literal("a@h"), id: 1, serial: 0, creation: 1 };
    let link = Control::Link { from: pid.clone(), to: pid };
    let mut frames = Vec::new();
    for _ in 0..limits::MESSAGES * 20 {
        control::encode(&link, None, flags::ours(false), &mut frames);
    }
    there.write_all(&frames).await.unwrap();
    // More than the buffers of the system hold, so that some bytes are unsent when the connection
    // closes.
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
async fn closing_waits_a_bounded_time_for_the_peer() {
    // One peer never reads; another has nothing to read and never closes.
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
async fn a_flood_reaches_the_owner_in_batches() {
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
        // The first message fills the inbox, and the second one waits.
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
    // The buffers of the system hold some of it.
    let most = limits::LINK_QUEUE / megabyte.len() + 32;
    assert!(taken > 1 && taken <= most, "{taken} of at most {most}");
}

#[tokio::test]
async fn a_close_a_violation_or_a_frame_over_the_limit_ends_the_connection() {
    let (_sender, mut events, there) = started(LONG).await;
    drop(there);
    assert_eq!(closed(&mut events).await, CloseReason::ClosedByPeer);

    // Closing a socket with unread bytes resets the connection.
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

    // A node with a long tick time answers a peer with a short one.
    let (_sender, _events, mut there) = started(LONG).await;
    there.write_all(&[0; 4]).await.unwrap();
    let answered = timeout(Duration::from_secs(10), there.read_exact(&mut tick)).await;
    assert!(answered.is_ok_and(|read| read.is_ok()));
}

#[tokio::test]
async fn two_nodes_do_not_answer_ticks_for_ever() {
    let (_sender, _events, mut there) = started(LONG).await;
    let (mut tick, mut answers) = ([1; 4], 0);
    there.write_all(&[0; 4]).await.unwrap();
    // The other end also answers each tick immediately.
    while let Ok(Ok(_)) = timeout(Duration::from_millis(300), there.read_exact(&mut tick)).await {
        answers += 1;
        assert!(answers < 10, "the two nodes never stop");
        there.write_all(&[0; 4]).await.unwrap();
    }
    assert_eq!(answers, 1);
}

#[tokio::test]
async fn a_peer_that_ticks_too_rarely_is_probed_before_the_connection_ends() {
    let tick_time = Duration::from_millis(400);
    let (_sender, mut events, mut there) = started(tick_time).await;
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < 3 * tick_time {
        let mut length = [0; 4];
        there.read_exact(&mut length).await.expect("the connection is kept");
        if length != [0; 4] {
            assert_eq!((length, there.read_u8().await.unwrap()), ([0, 0, 0, 1], b'?'));
            asked += 1;
            there.write_all(&[0; 4]).await.unwrap();
        }
    }
    assert!(asked >= 2, "{asked}");
    assert_eq!(closed(&mut events).await, CloseReason::TickTimeout(tick_time), "the peer has stopped answering");
}

#[tokio::test]
async fn a_silent_connection_ends_after_the_tick_time() {
    let tick_time = Duration::from_millis(100);
    let (_sender, mut events, _there) = started(tick_time).await;
    assert_eq!(closed(&mut events).await, CloseReason::TickTimeout(tick_time));
}
