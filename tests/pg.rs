//! Process groups between our node and real ones, while nodes, scopes, members and connections come
//! and go. Scenarios of OTP's suite for `pg` have its names.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use beam::etf::{Atoms, Term};
use bytes::Bytes;
use support::Host;
use support::epmd::Epmd;
use support::erl::Erl;
use support::node::{Node, eval, eval_until};

/// Our node, whose name is `m`, and real ones.
struct World {
    host: Host,
    us: Node,
    erls: Vec<Erl>,
    names: Vec<&'static str>,
    _epmd: Epmd,
}

/// Returns the expression for the members of our group on our node and on others, as a node sees
/// them.
fn members(group: &str) -> String {
    format!("lists:sort([hd(string:split(atom_to_list(node(P)), \"@\")) || P <- pg:get_members({group})])")
}

/// The pid of each node's scope at the start. A different one would mean that our messages ended
/// it.
const SCOPE_LIVES: &str = "get(scope) =:= whereis(pg)";

impl World {
    /// Starts the nodes. All are connected with each other, and the real ones run pg.
    async fn new(names: &[&'static str]) -> Self {
        Self::with(names, false, &["pg"]).await
    }

    async fn with(names: &[&'static str], hidden: bool, scopes: &[&'static str]) -> Self {
        let host = Host::new();
        let epmd = host.epmd();
        let us = Node::with(&host, "m", hidden, scopes).await;
        let mut world = Self { host, us, erls: Vec::new(), names: names.to_vec(), _epmd: epmd };
        for name in names {
            let mut erl = world.host.erl(name);
            eval(&mut erl, "{ok, Scope} = pg:start_link(), put(scope, Scope)");
            for other in &world.names[..world.erls.len()] {
                eval(&mut erl, &format!("pong = net_adm:ping('{}')", world.host.node(other)));
            }
            world.us.connect(&world.host.node(name)).await;
            world.erls.push(erl);
        }
        world
    }

    fn eval(&mut self, at: usize, expression: &str) -> String {
        eval(&mut self.erls[at], expression)
    }

    fn until(&mut self, at: usize, expression: &str, expected: &str) {
        eval_until(&mut self.erls[at], expression, expected);
    }

    /// Starts a process of a node that joins groups, and stores its pid under a name.
    fn joins(&mut self, at: usize, who: &str, groups: &[&str]) {
        let start = format!(
            "case get({who}) of undefined -> put({who}, spawn(fun() -> receive stop -> ok end end)); _ -> ok end"
        );
        self.eval(at, &start);
        for group in groups {
            assert_eq!(self.eval(at, &format!("pg:join({group}, get({who}))")), "ok");
        }
    }

    fn cut(&mut self, at: usize) {
        let us = self.us.name.clone();
        assert_eq!(self.eval(at, &format!("erlang:disconnect_node('{us}')")), "true");
    }

    async fn connected(&mut self, at: usize) {
        let name = self.host.node(self.names[at]);
        self.us.sees(&name, false).await;
        self.us.connect(&name).await;
    }

    fn scopes_live(&mut self) {
        for at in 0..self.erls.len() {
            assert_eq!(self.eval(at, SCOPE_LIVES), "true", "{}", self.names[at]);
        }
    }
}

fn tagged(name: &str) -> Term {
    Term::tuple([Term::atom("tag"), Term::binary(name)])
}

const X: &str = "{tag, <<\"x\">>}";
const Y: &str = "{tag, <<\"y\">>}";

#[tokio::test(flavor = "multi_thread")]
async fn two() {
    let mut world = World::new(&["a"]).await;
    let member = world.us.join(vec![tagged("x"), Term::atom("g")]).await;
    world.until(0, &members(X), "[\"m\"]");
    world.joins(0, "p", &[X, Y]);
    world.until(0, &members(X), "[\"a\",\"m\"]");
    world.us.announced(&[("x", "a"), ("y", "a")]).await;
    assert_eq!(
        world.eval(0, "length(pg:get_local_members({tag, <<\"x\">>}))"),
        "1",
        "our members are not local on the real node"
    );
    world.us.exit(member).await;
    world.until(0, "lists:sort(pg:which_groups())", "[{tag,<<\"x\">>},{tag,<<\"y\">>}]");
    world.eval(0, "get(p) ! stop");
    world.us.announced(&[]).await;
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn initial() {
    let host = Host::new();
    let _epmd = host.epmd();
    let us = Node::start(&host, "m").await;
    us.join(vec![tagged("x")]).await;
    let mut erl = host.erl("a");
    eval(&mut erl, "{ok, _} = pg:start_link(), pg:join({tag, <<\"y\">>}, self())");
    us.connect(&host.node("a")).await;
    eval_until(&mut erl, &members(X), "[\"m\"]");
    us.announced(&[("y", "a")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn double() {
    let mut world = World::new(&["a"]).await;
    world.joins(0, "p", &[X, X]);
    world.us.announced(&[("x", "a")]).await;
    world.eval(0, "pg:leave({tag, <<\"x\">>}, get(p))");
    world.joins(0, "q", &[Y]);
    world.us.announced(&[("x", "a"), ("y", "a")]).await;
    world.eval(0, "pg:leave({tag, <<\"x\">>}, get(p))");
    world.us.announced(&[("y", "a")]).await;
    // A scope that is discovered twice answers twice, and no member is counted twice.
    let us = world.us.name.clone();
    world.us.join(vec![tagged("x")]).await;
    world.eval(0, &format!("[{{pg, '{us}'}} ! {{discover, whereis(pg)}} || _ <- [1, 2, 3]]"));
    world.until(0, &members(X), "[\"m\"]");
    world.us.announced(&[("y", "a")]).await;
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn netsplit() {
    let mut world = World::new(&["a"]).await;
    world.us.join(vec![tagged("x")]).await;
    world.joins(0, "p", &[Y]);
    for _ in 0..5 {
        world.until(0, &members(X), "[\"m\"]");
        world.us.announced(&[("y", "a")]).await;
        world.cut(0);
        world.until(0, &members(X), "[]");
        world.connected(0).await;
    }
    world.cut(0);
    world.eval(0, "pg:leave({tag, <<\"y\">>}, get(p))");
    world.joins(0, "p", &["{tag, <<\"z\">>}"]);
    world.us.join(vec![tagged("w")]).await;
    world.connected(0).await;
    world.us.announced(&[("z", "a")]).await;
    world.until(0, &members("{tag, <<\"w\">>}"), "[\"m\"]");
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn trisplit() {
    let mut world = World::new(&["a", "b"]).await;
    world.us.join(vec![tagged("x")]).await;
    world.joins(0, "p", &[X]);
    world.joins(1, "p", &[X]);
    let b = world.host.node("b");
    for _ in 0..3 {
        for at in [0, 1] {
            world.until(at, &members(X), "[\"a\",\"b\",\"m\"]");
        }
        world.us.announced(&[("x", "a"), ("x", "b")]).await;
        world.cut(0);
        world.cut(1);
        world.eval(0, &format!("erlang:disconnect_node('{b}')"));
        world.until(0, &members(X), "[\"a\"]");
        world.until(1, &members(X), "[\"b\"]");
        world.us.announced(&[]).await;
        world.connected(0).await;
        world.connected(1).await;
        world.eval(0, &format!("pong = net_adm:ping('{b}')"));
    }
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_group_by_remote_leave() {
    let mut world = World::new(&["a"]).await;
    let member = world.us.join(vec![tagged("x")]).await;
    world.until(0, "pg:which_groups()", "[{tag,<<\"x\">>}]");
    world.us.exit(member).await;
    world.until(0, "pg:which_groups()", "[]");
    world.joins(0, "p", &[X]);
    world.us.announced(&[("x", "a")]).await;
    world.eval(0, "pg:leave({tag, <<\"x\">>}, get(p))");
    world.us.announced(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_restart() {
    let mut world = World::new(&["a"]).await;
    world.us.join(vec![tagged("x")]).await;
    world.joins(0, "p", &[Y]);
    world.us.announced(&[("y", "a")]).await;
    for _ in 0..3 {
        world.eval(0, "unlink(get(scope)), gen_server:stop(pg)");
        world.us.announced(&[]).await;
        world.eval(0, "{ok, Scope} = pg:start_link(), put(scope, Scope)");
        world.until(0, &members(X), "[\"m\"]");
        world.joins(0, "p", &[Y]);
        world.us.announced(&[("y", "a")]).await;
    }
    // Ours is killed.
    let us = world.us.name.clone();
    world.eval(0, &format!("{{status, P, _, _}} = sys:get_status({{pg, '{us}'}}), exit(P, kill)"));
    world.until(0, &members(X), "[\"m\"]");
    world.us.announced(&[("y", "a")]).await;
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_scope_join() {
    let mut world = World::new(&["a"]).await;
    let us = world.us.name.clone();
    world.joins(0, "p", &[Y]);
    // From a process that is not a known scope, and an invalid message.
    for message in [
        "{join, self(), {tag, <<\"x\">>}, self()}",
        "{update, self(), [{{tag, <<\"x\">>}, [self()], []}]}",
        "{leave, self(), self(), [{tag, <<\"y\">>}]}",
        "{join, whereis(pg), improper}",
        "nonsense",
    ] {
        world.eval(0, &format!("{{pg, '{us}'}} ! {message}"));
    }
    world.joins(0, "p", &["{tag, <<\"z\">>}"]);
    world.us.announced(&[("y", "a"), ("z", "a")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_sync() {
    let mut world = World::new(&["a"]).await;
    let us = world.us.name.clone();
    world.joins(0, "p", &[X, Y]);
    world.us.announced(&[("x", "a"), ("y", "a")]).await;
    // A later sync replaces all that was known.
    world.eval(
        0,
        &format!("gen_server:cast({{pg, '{us}'}}, {{sync, whereis(pg), [{{{{tag, <<\"z\">>}}, [get(p), get(p)]}}]}})"),
    );
    world.us.announced(&[("z", "a")]).await;
    world.eval(
        0,
        &format!(
            "gen_server:cast({{pg, '{us}'}}, {{local_data, whereis(pg), 1, #{{{{tag, <<\"w\">>}} => [get(p)]}}}})"
        ),
    );
    world.us.announced(&[("w", "a")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_leave() {
    let mut world = World::new(&["a", "b"]).await;
    for at in [0, 1] {
        world.eval(at, "[pg:join({tag, integer_to_binary(I)}, self()) || I <- lists:seq(1, 50)]");
    }
    world.us.shows("100 are announced", |view| view.announced.len() == 100).await;
    world.eval(0, "[pg:leave({tag, integer_to_binary(I)}, self()) || I <- lists:seq(1, 49)]");
    world.us.shows("51 are announced", |view| view.announced.len() == 51).await;
    let mut ours = Vec::new();
    for i in 0..50 {
        ours.push(world.us.join(vec![Term::Int(i)]).await);
    }
    world.until(1, "length([G || G <- pg:which_groups(), is_integer(G)])", "50");
    for member in ours {
        world.us.exit(member).await;
    }
    world.until(1, "length([G || G <- pg:which_groups(), is_integer(G)])", "0");
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn overlay_missing() {
    let host = Host::new();
    let _epmd = host.epmd();
    let us = Node::with(&host, "m", false, &["pg", "other"]).await;
    us.join(vec![tagged("x")]).await;
    let mut erl = host.erl("a");
    us.connect(&host.node("a")).await;
    // No scope runs, then one of the two, then both, each late.
    eval(&mut erl, "{ok, _} = pg:start(other), pg:join(other, {tag, <<\"y\">>}, self())");
    us.announced(&[("y", "a")]).await;
    eval_until(&mut erl, "length(pg:get_members(other, {tag, <<\"x\">>}))", "1");
    eval(&mut erl, "{ok, _} = pg:start(pg), pg:join({tag, <<\"z\">>}, self())");
    us.announced(&[("y", "a"), ("z", "a")]).await;
    eval_until(&mut erl, "length(pg:get_members({tag, <<\"x\">>}))", "1");
    eval(&mut erl, "gen_server:stop(other)");
    us.announced(&[("z", "a")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn monitor() {
    let mut world = World::new(&["a"]).await;
    world.eval(0, "{Ref, []} = pg:monitor({tag, <<\"x\">>}), put(ref, Ref)");
    let member = world.us.join(vec![tagged("x")]).await;
    let heard =
        "receive {Ref, What, {tag, <<\"x\">>}, [P]} when Ref =:= Ref -> {What, node(P)} after 20000 -> nothing end";
    let us = world.us.name.clone();
    assert_eq!(world.eval(0, heard), format!("{{join,{us}}}"));
    world.us.exit(member).await;
    assert_eq!(world.eval(0, heard), format!("{{leave,{us}}}"));
    world.us.join(vec![tagged("x")]).await;
    assert_eq!(world.eval(0, heard), format!("{{join,{us}}}"));
    world.cut(0);
    assert_eq!(world.eval(0, heard), format!("{{leave,{us}}}"), "the end of a connection makes members leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn thundering_herd() {
    let mut world = World::new(&["a"]).await;
    // The scopes know each other. An answer that one still owes would restore the connection.
    world.us.join(vec![Term::Int(0)]).await;
    world.until(0, "length(pg:get_members(0))", "1");
    world.cut(0);
    let ours = (0..10_000).map(Term::Int).collect();
    world.us.join(ours).await;
    world.eval(0, "[pg:join({tag, integer_to_binary(I)}, self()) || I <- lists:seq(1, 10000)], ok");
    world.connected(0).await;
    world.us.shows("10,000 are announced", |view| view.announced.len() == 10_000).await;
    world.until(0, "length([G || G <- pg:which_groups(), is_integer(G)])", "10000");
    // All members leave at once.
    world.eval(0, "[pg:leave({tag, integer_to_binary(I)}, self()) || I <- lists:seq(1, 10000)], ok");
    world.us.announced(&[]).await;
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_term_names_the_same_group_on_both_sides() {
    let mut world = World::new(&["a"]).await;
    for group in [
        "#{b => 2, a => 1, 1.0 => 2, 1 => 3}",
        "fun lists:map/2",
        "Y = 7, fun(X) -> X + Y end",
        "1 bsl 100",
        "-(1 bsl 100)",
        "[-1, 2]",
        "[1, 2, 3]",
        "\"text\"",
        "[a|b]",
        "'\u{e4}\u{f6}'",
        "'\u{65e5}\u{672c}'",
        "-0.0",
        "1.5",
        "<<1:3>>",
        "<<\"bytes\">>",
        "make_ref()",
        "self()",
        "hd(erlang:ports())",
        "{}",
        "[]",
        "lists:duplicate(300, x)",
        "list_to_tuple(lists:seq(1, 300))",
        "-2147483649",
    ] {
        let hex = world.eval(0, &format!("put(g, begin {group} end), binary:encode_hex(term_to_binary(get(g)))"));
        let hex = hex.trim_start_matches("<<\"").trim_end_matches("\">>");
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let term = Term::decode(&Bytes::from(bytes), &mut Atoms::new()).unwrap();
        let member = world.us.join(vec![term]).await;
        world.eval(0, "pg:join(get(g), self())");
        world.until(0, "length(pg:get_members(get(g)))", "2");
        assert_eq!(world.eval(0, "pg:which_groups() =:= [get(g)]"), "true", "{group} is more than one group");
        world.us.exit(member).await;
        world.until(0, "length(pg:get_members(get(g)))", "1");
        world.eval(0, "pg:leave(get(g), self())");
    }
    world.scopes_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_exit_leave_their_groups() {
    let mut world = World::new(&["a"]).await;
    world.joins(0, "p", &[X, Y]);
    world.joins(0, "q", &[Y]);
    world.us.announced(&[("x", "a"), ("y", "a")]).await;
    world.eval(0, "exit(get(p), kill)");
    world.us.announced(&[("y", "a")]).await;
    world.erls.remove(0).kill();
    world.us.announced(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_node_joins_groups_without_being_visible() {
    let mut world = World::with(&["a"], true, &["pg"]).await;
    let us = world.us.name.clone();
    world.us.join(vec![tagged("x")]).await;
    world.joins(0, "p", &[Y]);
    world.until(0, &members(X), "[\"m\"]");
    world.us.announced(&[("y", "a")]).await;
    assert_eq!(world.eval(0, "nodes()"), "[]");
    assert_eq!(world.eval(0, "nodes(hidden)"), format!("[{us}]"));
    assert_eq!(world.eval(0, "global:sync()"), "ok");
    // The new scope and our node do not discover each other, so our node polls for scopes.
    world.eval(0, "unlink(get(scope)), gen_server:stop(pg), {ok, Scope} = pg:start_link(), put(scope, Scope)");
    world.us.announced(&[]).await;
    world.joins(0, "p", &[Y]);
    assert!(beam::limits::PG_POLL < support::PATIENCE);
    world.us.announced(&[("y", "a")]).await;
    world.until(0, &members(X), "[\"m\"]");
    world.scopes_live();
}

/// Large binaries in a message are sent in separate pieces.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_published_message_arrives_complete() {
    let mut world = World::new(&["a"]).await;
    let judge = "Judge = spawn(fun() -> receive {a, _, b, _, _} = Message -> receive {ask, Boss} -> Boss ! {told, Message} end end end), \
                 pg:join(judged, Judge), put(judge, Judge)";
    world.eval(0, judge);
    let binary = |byte, size| Term::binary(vec![byte; size]);
    let (tail, large) = (beam::limits::SENT_UNCOPIED, 3 * beam::limits::SENT_UNCOPIED);
    let message = Term::tuple([
        Term::atom("a"),
        binary(7, beam::limits::SENT_UNCOPIED),
        Term::atom("b"),
        binary(8, large),
        Term::improper(vec![Term::atom("c"), binary(9, 5)], binary(1, tail)),
    ]);
    let known = || world.us.handle.watch_groups().borrow()["pg"].peer_members == 1;
    tokio::task::block_in_place(|| support::wait_for("the member is known", known));
    world.us.handle.publish(&Term::atom("judged"), &message).await.unwrap();
    let arrived = format!(
        "get(judge) ! {{ask, self()}}, receive {{told, M}} -> M =:= {{a, binary:copy(<<7>>, {tail}), b, binary:copy(<<8>>, {large}), \
         [c, binary:copy(<<9>>, 5) | binary:copy(<<1>>, {tail})]}} end"
    );
    assert_eq!(world.eval(0, &arrived), "true");
}
