//! Tests of nodes of this crate with each other. `tests/examples.rs` of the workspace tests them
//! with real Erlang nodes.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::connect::dial::DialError;
use crate::epmd::client;
use crate::etf::Term;
use crate::node::process::{Address, Answer, BadArg, Caller, Source};
use crate::node::services::rpc::CallError;

const PATIENCE: Duration = Duration::from_secs(30);

/// Returns a free port for an EPMD. It is outside the range from which the system chooses, so that
/// no other socket gets it while EPMD restarts.
fn epmd_port() -> u16 {
    let first = 30_000 + u16::try_from(std::process::id() % 1000).unwrap();
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    static TAKEN: std::sync::Mutex<u16> = std::sync::Mutex::new(0);
    let mut taken = TAKEN.lock().unwrap();
    let port = (first + *taken..32_768).find(is_free).expect("a free port");
    *taken = port - first + 1;
    port
}

fn node(name: &str, epmd: u16) -> Builder {
    Builder::new(format!("{name}@localhost"), "secret").epmd_port(epmd)
}

/// Answers calls with its count, which casts raise, and passes other messages on.
struct Counter(i64, mpsc::UnboundedSender<Term>);

impl GenServer for Counter {
    fn handle_call(&mut self, request: Term, from: &Caller) -> Answer {
        assert_eq!((request, from.node.as_str()), (Term::atom("count"), "caller@localhost"));
        Answer::Now(Term::Int(self.0))
    }

    fn handle_cast(&mut self, request: Term, _: &Source) {
        if let Term::Int(by) = request {
            self.0 += by;
        }
    }

    fn handle_info(&mut self, message: Term, _: &Source) {
        self.1.send(message).unwrap();
    }
}

async fn pair() -> (Node, Node, mpsc::UnboundedReceiver<Term>) {
    let epmd = epmd_port();
    let add = |args: &[Term]| match args {
        [Term::Int(a), Term::Int(b)] => a.checked_add(*b).map(Term::Int).ok_or(BadArg),
        _ => Err(BadArg),
    };
    let called = node("called", epmd).function("calc", "add", 2, add).start().await.unwrap();
    let caller = node("caller", epmd).start().await.unwrap();
    let (sender, messages) = mpsc::unbounded_channel();
    called.process(Counter(7, sender)).name("counter").group(Term::atom("counters")).spawn().await.unwrap();
    caller.connect("called@localhost").await.unwrap();
    (called, caller, messages)
}

#[tokio::test]
async fn calls_and_functions_have_results_or_typed_errors() {
    let (_called, caller, _messages) = pair().await;
    assert_eq!(caller.nodes(), ["called@localhost"]);
    let call = async |name| caller.call("called@localhost", name, Term::atom("count")).await;
    assert_eq!(call("counter").await, Ok(Term::Int(7)));
    assert_eq!(call("unknown").await, Err(RequestError::Call(CallError::NoProcess)));
    let absent = caller.call("absent@localhost", "counter", Term::atom("count")).await;
    assert_eq!(absent, Err(RequestError::Call(CallError::NoConnection)));
    let add = async |args: Vec<Term>| caller.erpc("called@localhost", "calc", "add", args).await;
    assert_eq!(add(vec![Term::Int(2), Term::Int(3)]).await, Ok(Term::Int(5)));
    for bad in [vec![Term::Int(i64::MAX), Term::Int(1)], vec![Term::Int(1)]] {
        assert_eq!(add(bad).await, Err(RequestError::Call(CallError::Failed)));
    }
}

#[tokio::test]
async fn messages_arrive_in_order_at_names_and_pids() {
    let (called, caller, mut messages) = pair().await;
    let counter = Address::name("counter", "called@localhost").unwrap();
    let cast = |by: i64| Term::tuple([Term::atom("$gen_cast"), Term::Int(by)]);
    caller.send(counter.clone(), &cast(3)).await.unwrap();
    caller.send(counter, &Term::atom("to the name")).await.unwrap();
    assert_eq!(messages.recv().await, Some(Term::atom("to the name")));
    let count = caller.call("called@localhost", "counter", Term::atom("count")).await;
    assert_eq!(count, Ok(Term::Int(10)), "the cast has raised the count");
    let members = called.members("pg", &Term::atom("counters")).await.unwrap().now();
    caller.send(members[0].clone(), &Term::atom("to the pid")).await.unwrap();
    assert_eq!(messages.recv().await, Some(Term::atom("to the pid")));
    let absent = Address::name("counter", "absent@localhost").unwrap();
    let sent = caller.send(absent, &Term::atom("to none")).await;
    assert_eq!(sent, Err(RequestError::Call(CallError::NoConnection)));
}

#[tokio::test]
async fn members_are_followed_and_monitors_return_the_reason() {
    let (called, caller, messages) = pair().await;
    let group = Term::atom("counters");
    let mut members = caller.members("pg", &group).await.unwrap();
    let until = async |members: &mut Members, count: usize| {
        while members.now().len() != count {
            timeout(PATIENCE, members.changed()).await.expect("the members change").unwrap();
        }
        members.now()
    };
    let first = until(&mut members, 1).await[0].clone();
    let sender = mpsc::unbounded_channel().0;
    let second = called.process(Counter(0, sender)).group(group.clone()).spawn().await.unwrap();
    let both = until(&mut members, 2).await;
    assert_eq!(both[0], first);
    let monitor = caller.monitor(both[1].clone()).await.unwrap();
    // The call is sent after the monitor, so its answer shows that the monitor has arrived.
    let round_trip = async || caller.erpc("called@localhost", "erlang", "node", []).await.unwrap();
    round_trip().await;
    called.exit(second, "enough").await.unwrap();
    assert_eq!(monitor.down().await, Ok(Term::atom("enough")));
    assert_eq!(until(&mut members, 1).await[0], first);
    assert_eq!(caller.monitor(both[1].clone()).await.unwrap().down().await, Ok(Term::atom("noproc")));
    let absent = Address::name("counter", "absent@localhost").unwrap();
    assert_eq!(caller.monitor(absent).await.unwrap().down().await, Ok(Term::atom("noconnection")));
    let monitor = caller.monitor(first).await.unwrap();
    round_trip().await;
    called.stop().await;
    // A node that stops ends its processes first.
    assert_eq!(monitor.down().await, Ok(Term::atom("shutdown")));
    until(&mut members, 0).await;
    let none = caller.members("other", &group).await;
    assert!(matches!(none, Err(RequestError::NoScope(scope)) if scope == "other"));
    drop(messages);
}

#[tokio::test]
async fn a_link_sends_an_exit_signal_to_the_other_process() {
    let (called, caller, _messages) = pair().await;
    let (group, (sender, mut exits)) = (Term::atom("linked"), mpsc::unbounded_channel());
    let ours = caller.process(Counter(0, sender)).spawn().await.unwrap();
    let sender = mpsc::unbounded_channel().0;
    let theirs = called.process(Counter(0, sender)).group(group.clone()).spawn().await.unwrap();
    let pid = called.members("pg", &group).await.unwrap().now()[0].clone();
    let exit = |reason| Some(Term::tuple([Term::atom("EXIT"), Term::Pid(pid.clone()), Term::atom(reason)]));
    caller.link(ours, pid.clone()).await.unwrap();
    // This call is sent after the link, so its answer shows that the link has arrived.
    caller.erpc("called@localhost", "erlang", "node", []).await.unwrap();
    called.exit(theirs, "enough").await.unwrap();
    assert_eq!(exits.recv().await, exit("enough"));
    caller.link(ours, pid.clone()).await.unwrap();
    assert_eq!(exits.recv().await, exit("noproc"));
    called.stop().await;
    caller.watch().wait_for(|view| view.peers.values().all(|peer| !peer.is_up())).await.unwrap();
    caller.link(ours, pid.clone()).await.unwrap();
    assert_eq!(exits.recv().await, exit("noconnection"));
}

#[tokio::test]
async fn a_node_does_not_start_with_invalid_settings() {
    let epmd = epmd_port();
    let failed = async |builder: Builder| builder.start().await.expect_err("the node does not start");
    assert!(matches!(failed(Builder::new("no host", "secret")).await, StartError::Name(..)));
    assert!(matches!(failed(Builder::new("a@localhost", "")).await, StartError::Cookie(_)));
    let long = "x".repeat(256);
    assert!(matches!(failed(node("a", epmd).scopes([long.as_str()])).await, StartError::Atom(name) if name == long));
    let nothing = |_: &[Term]| Err(BadArg);
    assert!(matches!(failed(node("a", epmd).function(&long, "f", 0, nothing)).await, StartError::Atom(_)));
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(matches!(failed(node("a", epmd).port(port)).await, StartError::Listen(..)));
    let unserved = failed(node("a", epmd).serve_epmd(false)).await;
    assert!(matches!(unserved, StartError::Epmd(client::Error::Unreachable(..))), "{unserved}");
    let _first = node("a", epmd).start().await.unwrap();
    assert!(matches!(failed(node("a", epmd)).await, StartError::Epmd(client::Error::NameTaken(_))));
}

#[tokio::test]
async fn a_node_that_stops_frees_its_name_and_ends_its_handles() {
    let epmd = epmd_port();
    let other = node("other", epmd).start().await.unwrap();
    let first = node("a", epmd).start().await.unwrap();
    let absent = other.connect("absent@localhost").await;
    assert!(matches!(absent, Err(ConnectError::Dial(e)) if matches!(*e, DialError::NotRegistered)));
    first.stop().await;
    assert!(matches!(first.connect("other@localhost").await, Err(ConnectError::Stopped(_))));
    let second = node("a", epmd).start().await.unwrap();
    assert_eq!(&*second.name(), "a@localhost");
    other.connect("a@localhost").await.unwrap();
}

#[tokio::test]
async fn a_node_registers_again_when_epmd_ends() {
    let epmd = epmd_port();
    let server = node("server", epmd).start().await.unwrap();
    let other = node("other", epmd).start().await.unwrap();
    // The EPMD that `server` serves ends with it. Another node serves the next one.
    server.stop().await;
    let registered = async {
        let address = (Ipv4Addr::LOCALHOST, epmd).into();
        while client::port(address, "other").await.ok().flatten() != Some(other.port()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, registered).await.expect("the node is registered");
}
