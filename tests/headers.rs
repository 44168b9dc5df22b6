//! Distribution headers and fragments as real nodes write them.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::VecDeque;

use beam::dist::Identity;
use beam::dist::control::Control;
use beam::dist::flags::{self, Flags};
use beam::dist::link::{LinkEvent, LinkSender};
use beam::dist::setup::{self, Connection};
use beam::etf::{Atoms, Reader, Term};
use bytes::Bytes;
use support::epmd::Epmd;
use support::erl::Erl;
use support::node::{address, eval, eval_until, identity, start_link};
use support::{Host, PATIENCE};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Connects as a hidden node that is only a connection.
async fn dial(host: &Host, epmd: &Epmd, short: &str, headers: bool) -> Connection {
    let without = if headers { 0 } else { flags::HEADERS.bits() };
    let flags = Flags::from_bits_truncate(flags::ours(true).bits() & !without);
    let local = Identity { flags, ..identity(host, short, 7) };
    let stream = TcpStream::connect(address(epmd.port_of("real"))).await.unwrap();
    let connection = setup::dial(stream, &local, host.node("real").parse().unwrap(), async || true).await.unwrap();
    assert_eq!(connection.peer.flags.contains(Flags::DIST_HDR_ATOM_CACHE), headers);
    connection
}

/// The messages that come over a connection to registered names.
struct Messages {
    events: mpsc::Receiver<LinkEvent>,
    come: VecDeque<(Control, Option<Bytes>)>,
    _sender: LinkSender,
}

impl Messages {
    fn of(connection: Connection) -> Self {
        let (sender, events) = start_link(connection, 64);
        Self { events, come: VecDeque::new(), _sender: sender }
    }

    /// Returns the next message to the process with this name.
    async fn next(&mut self, name: &str) -> (Control, Bytes) {
        loop {
            while let Some((control, payload)) = self.come.pop_front() {
                if matches!(&control, Control::SendName { to, .. } if to == name) {
                    return (control, payload.expect("a message"));
                }
            }
            match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("in time") {
                Some(LinkEvent::Messages(batch, _)) => self.come.extend(batch),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn term(payload: &Bytes) -> Term {
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(payload, &mut atoms);
    let term = reader.term().expect("a term");
    reader.finish().expect("only one term");
    term
}

/// Terms of every type, most of them with atoms: small, of a few fragments, and of many.
const TERMS: &str = r"
    Big = [{N, list_to_atom([$a + N rem 26, $0 + N rem 10]), {node(), self()}, #{ok => N, error => [undefined | N]}}
           || N <- lists:seq(1, 20000)],
    X = {some, [environment, 1.5, -1, 1 bsl 70]},
    [ok, [], '', 'a b', {}, {ok}, [ok | error], [1, 2, 3], [-1, ok], #{}, #{a => b, {c} => #{d => 'e'}},
     list_to_atom(lists:duplicate(255, 16#1F980)), list_to_atom(lists:duplicate(200, $x)),
     {list_to_atom(lists:duplicate(255, 16#1F980)), ok},
     self(), make_ref(), hd(erlang:ports()), {self(), make_ref(), node()}, fun lists:map/2, fun(A) -> {A, X, deep} end,
     [fun() -> {X, fun() -> X end} end, ok], <<>>, <<1, 2, 3>>, <<5:3>>, 1.0e-10, 1 bsl 3000, -(1 bsl 62),
     [list_to_atom([$z, N]) || N <- lists:seq(1, 400)], list_to_tuple(lists:duplicate(300, ok)),
     {bin, binary:copy(<<7>>, 65536)}, {bin, binary:copy(<<7>>, 65500), ok}, Big, {Big, fun() -> Big end},
     {bin, binary:copy(<<7>>, 5000000), [{ok, N} || N <- lists:seq(1, 30000)], binary:copy(<<8>>, 300000)}]";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_sends_the_same_messages_with_and_without_headers() {
    let host = Host::new();
    let epmd = host.epmd();
    let mut real = host.erl("real");
    let mut plain = Messages::of(dial(&host, &epmd, "plain", false).await);
    let mut headers = Messages::of(dial(&host, &epmd, "headers", true).await);
    // Twice, so that the cache contains the atoms the second time, or has replaced them.
    let send = format!(
        "T = begin {TERMS} end, put(t, length(T)), \
         spawn(fun() -> [{{x, list_to_atom(N ++ \"@{}\")}} ! M || _ <- [1, 2], M <- T, N <- [\"plain\", \"headers\"]] end), length(T)",
        host.name
    );
    let count: usize = eval(&mut real, &send).parse().unwrap();
    for number in 0..2 * count {
        let (expected, came) = (plain.next("x").await, headers.next("x").await);
        assert_eq!(came.0, expected.0, "message {number}");
        assert!(came.1 == expected.1, "message {number}: {:?} and not {:?}", &came.1[..9], &expected.1[..9]);
        term(&came.1);
    }
}

/// `real` sends 30 MB and then, from another process, a word. Nothing is read until both processes
/// are idle.
async fn large_and_small(host: &Host, real: &mut Erl, short: &str, connection: Connection) -> Messages {
    for what in ["{large, binary:copy(<<7>>, 30000000)}", "small"] {
        let send = format!("put(sender, spawn(fun() -> {{x, '{}'}} ! {what} end)), sent", host.node(short));
        assert_eq!(eval(real, &send), "sent");
        // A message of one frame is written to the socket at once, and its sender ends.
        eval_until(real, "lists:member(process_info(get(sender), status), [{status, suspended}, undefined])", "true");
    }
    Messages::of(connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_message_overtakes_a_large_one_of_another_process() {
    let host = Host::new();
    let epmd = host.epmd();
    let mut real = host.erl("real");
    let (small, large) = (7, 30_000_014);
    for (short, headers, order) in [("headers", true, [small, large]), ("plain", false, [large, small])] {
        let connection = dial(&host, &epmd, short, headers).await;
        let mut messages = large_and_small(&host, &mut real, short, connection).await;
        assert_eq!([messages.next("x").await.1.len(), messages.next("x").await.1.len()], order, "{short}");
    }
}

/// The sent part of a message remains incomplete, and no frame announces its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sender_does_not_delay_other_messages() {
    let host = Host::new();
    let epmd = host.epmd();
    let mut real = host.erl("real");
    let connection = dial(&host, &epmd, "fake", true).await;
    let to = format!("{{x, '{}'}}", host.node("fake"));
    let large = format!("spawn(fun() -> {to} ! {{large, binary:copy(<<7>>, 30000000)}} end)");
    eval(&mut real, &format!("put(large, {large}), ok"));
    eval_until(&mut real, "element(2, process_info(get(large), status))", "suspended");
    assert_eq!(eval(&mut real, "exit(get(large), kill)"), "true");
    eval_until(&mut real, "process_info(get(large))", "undefined");
    let mut messages = Messages::of(connection);
    eval(&mut real, &format!("{to} ! small"));
    assert_eq!(term(&messages.next("x").await.1), Term::atom("small"));
    eval(&mut real, &format!("put(large, {large}), ok"));
    assert_eq!(messages.next("x").await.1.len(), 30_000_014);
}
