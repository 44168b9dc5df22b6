//! Isolation from other users of the host, with real users. Run as root: `cargo test --features
//! system-tests --test system`.
//!
//! The tests need no accounts: `setpriv` (util-linux) sets a bare user id. A foreign user could use
//! a proof of the cookie, so their node must not receive a single byte from the daemon.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

#[path = "system/homes.rs"]
mod homes;
mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::erl::{Erl, Start};
use support::{Host, PATIENCE, database, program, wait_for};

/// User ids without an account on any machine.
const STRANGER: u32 = 61_000;
const FRIEND: u32 = 61_001;

/// Creates a host that other users can access, as far as the file modes allow.
fn shared_host() -> Host {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests act as several users: run them as root, in a container of their own"
    );
    let host = Host::new();
    std::fs::set_permissions(host.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
    host
}

/// Returns the environment of a daemon whose file modes let all users reach its socket.
fn open_modes(allowed: &str) -> [(&'static str, &str); 3] {
    [("HECATE_DIR_MODE", "0755"), ("HECATE_SOCKET_MODE", "0666"), ("HECATE_ALLOWED_UIDS", allowed)]
}

/// Sends a request with `curl` as another user. Returns the status and the body.
fn curl(host: &Host, uid: u32, method: &str, path: &str, body: &str) -> (u16, Value) {
    let id = uid.to_string();
    let mut curl = Command::new("setpriv");
    curl.args(["--reuid", &id, "--regid", &id, "--clear-groups", "curl", "--silent", "--show-error"]);
    curl.args(["--max-time", "20", "--write-out", "\n%{http_code}", "--request", method]);
    curl.arg("--unix-socket").arg(host.socket());
    if !body.is_empty() {
        curl.args(["--header", "Content-Type: application/json", "--data", body]);
    }
    curl.arg(format!("http://localhost{path}"));
    let install = "setpriv cannot be started: install util-linux";
    let output = curl.output().expect(install);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error} (if curl is missing, install it)");
    let answer = String::from_utf8(output.stdout).unwrap();
    let (body, status) = answer.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// Starts a foreign user's process that listens on a TCP port of loopback and records every
/// connection and byte.
fn trap(host: &Host) -> (Erl, u16) {
    let start = Start { uid: Some(STRANGER), ..Start::default() };
    let mut erl = Erl::start(host, start);
    let port = erl.eval(
        r"
        {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127,0,0,1}}]),
        Evaluator = self(),
        Read = fun Read(Socket, Sofar) ->
            case gen_tcp:recv(Socket, 0) of
                {ok, Bytes} -> Read(Socket, <<Sofar/binary, Bytes/binary>>);
                {error, closed} -> Evaluator ! {ended, Sofar}
            end
        end,
        Accept = fun Accept() -> {ok, Socket} = gen_tcp:accept(Listener), Read(Socket, <<>>), Accept() end,
        spawn(Accept), put(listener, Listener),
        {ok, Port} = inet:port(Listener), Port",
    );
    (erl, port.parse().unwrap())
}

#[test]
fn a_foreign_users_node_receives_no_bytes() {
    let host = shared_host();
    let epmd = host.epmd();
    let (mut trap, port) = trap(&host);
    let _name = epmd.register("hecate_x", port);
    let daemon = host.daemon(&[("HECATE_LOG", "debug")]);
    daemon.ready();
    daemon.logs(&["hecate_x", "foreign_owner", &STRANGER.to_string()]);
    // Connections are read in turn, so everything earlier is recorded when this connection has
    // ended.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    let noted = r"
        Noted = fun Noted(All) -> receive {ended, Bytes} -> Noted([Bytes | All]) after 1000 -> All end end,
        Ended = Noted([]), {length(Ended) > 0, iolist_to_binary(Ended)}";
    assert_eq!(trap.eval(noted), "{true,<<>>}");

    // A real node is not dialled either, though it has the daemon's cookie.
    let start = Start { name: Some("hecate_y"), uid: Some(STRANGER), ..Start::default() };
    let mut node = Erl::start(&host, start);
    daemon.logs(&["hecate_y", "foreign_owner"]);
    assert_eq!(node.eval("nodes()"), "[]");
    assert_ne!(host.peer(&host.node("hecate_y")).as_deref(), Some("connected"));
}

/// The daemon does not dial this name. Only the diagnosis finds its owner, and sends nothing to it.
#[test]
fn a_diagnosis_proves_nothing_to_another_user() {
    let host = shared_host();
    let epmd = host.epmd();
    let (mut trap, port) = trap(&host);
    let _name = epmd.register("visitor", port);
    let daemon = host.daemon(&[]);
    daemon.ready();
    let node = host.node("visitor");
    let diagnosis = host.ask("GET", &format!("/api/cluster/peers/{node}/diagnosis")).body;
    assert_eq!(diagnosis["code"], "foreign_owner", "{diagnosis:#}");
    let owner = diagnosis["stages"].as_array().unwrap().iter().find(|stage| stage["outcome"] == "failed").unwrap();
    assert_eq!(owner["stage"], "owner");
    assert!(owner["advice"].as_str().unwrap().contains(&format!("uid {STRANGER}")), "{owner:#}");

    let mut independent = std::process::Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
    independent.args(["diagnose", "visitor@localhost", "--independent"]).env_clear().env("HOME", host.home());
    independent.env("ERL_EPMD_PORT", host.epmd_port.to_string()).env("HECATE_COOKIE", &host.cookie);
    let output = independent.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("foreign_owner") && why.contains(&format!("uid {STRANGER}")), "{why}");
    // Connections are read in turn, so everything earlier is recorded when this connection has
    // ended.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    let noted = r"
        Noted = fun Noted(All) -> receive {ended, Bytes} -> Noted([Bytes | All]) after 1000 -> All end end,
        Ended = Noted([]), {length(Ended) > 0, iolist_to_binary(Ended)}";
    assert_eq!(trap.eval(noted), "{true,<<>>}");
}

#[test]
fn an_allowed_users_node_is_dialled() {
    let host = shared_host();
    let _epmd = host.epmd();
    let start = Start { name: Some("hecate_x"), uid: Some(FRIEND), ..Start::default() };
    let mut node = Erl::start(&host, start);
    let daemon = host.daemon(&[("HECATE_ALLOWED_UIDS", &FRIEND.to_string())]);
    daemon.ready();
    node.eval_until(&format!("nodes() =:= ['{}']", host.node("hecate")), "true", PATIENCE);
}

#[test]
fn unlisted_users_are_refused_every_request() {
    let host = shared_host();
    let allowed = FRIEND.to_string();
    let daemon = host.daemon(&open_modes(&allowed));
    daemon.ready();
    let calls = [
        ("POST", "/api/plugins/register", r#"{"name": "hecate-traderd"}"#),
        ("GET", "/api/plugins", ""),
        ("GET", "/api/plugins/hecate-traderd", ""),
        ("DELETE", "/api/plugins/hecate-traderd", ""),
        ("DELETE", "/api/plugins/hecate-traderd/data", ""),
        ("GET", "/api/events", ""),
        ("GET", "/api/cluster", ""),
        ("GET", "/health", ""),
        ("GET", "/livez", ""),
        ("GET", "/readyz", ""),
        ("GET", "/metrics", ""),
        ("GET", "/openapi.json", ""),
        ("GET", "/nowhere", ""),
    ];
    for (method, path, body) in calls {
        let (status, answer) = curl(&host, STRANGER, method, path, body);
        assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{method} {path}");
        assert!(answer["detail"].as_str().unwrap().contains(&STRANGER.to_string()), "{answer}");
    }
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]), "nothing was registered");
    assert!(!host.namespace("hecate-traderd").exists(), "and no directory created");
}

#[test]
fn a_listed_user_owns_the_directories_of_its_plugin() {
    let host = shared_host();
    let allowed = FRIEND.to_string();
    let daemon = host.daemon(&open_modes(&allowed));
    daemon.ready();
    let (status, answer) = curl(&host, FRIEND, "POST", "/api/plugins/register", r#"{"name": "hecate-traderd"}"#);
    assert_eq!(status, 201, "{answer}");
    let base = host.namespace("hecate-traderd");
    for directory in ["", "sqlite", "reckon-db", "sockets", "run", "connectors"] {
        let metadata = std::fs::metadata(base.join(directory)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (FRIEND, FRIEND), "{directory}");
        assert_eq!(metadata.mode() & 0o7777, 0o755, "{directory}");
    }
    let own = std::fs::metadata(host.namespace("hecate-daemon")).unwrap();
    assert_eq!(own.uid(), 0, "the daemon's own directory stays root's");

    let (status, list) = curl(&host, FRIEND, "GET", "/api/plugins", "");
    assert_eq!((status, &list[0]["name"]), (200, &json!("hecate-traderd")));
    // The owner of existing directories does not change: root registers the plugin again, and they
    // stay the friend's.
    host.register_named("hecate-traderd");
    assert_eq!(std::fs::metadata(&base).unwrap().uid(), FRIEND);
    assert_eq!(curl(&host, FRIEND, "DELETE", "/api/plugins/hecate-traderd", "").0, 200);
    wait_for("the plugin is gone", || host.ask("GET", "/api/plugins").body == json!([]));
}

#[test]
fn the_default_modes_keep_other_users_out() {
    let host = shared_host();
    let daemon = host.daemon(&[]);
    daemon.ready();
    for (path, mode) in
        [(host.home().join(".hecate"), 0o700), (host.namespace("hecate-daemon"), 0o700), (host.socket(), 0o600)]
    {
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{}", path.display());
    }
}

#[test]
fn a_storm_of_refused_users_logs_few_lines_and_a_count() {
    let host = shared_host();
    let daemon = host.daemon(&open_modes(""));
    daemon.ready();
    let id = STRANGER.to_string();
    let mut curl = Command::new("setpriv");
    curl.args(["--reuid", &id, "--regid", &id, "--clear-groups", "curl", "--silent", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code}\n", "--header", "Connection: close", "--unix-socket"]).arg(host.socket());
    curl.arg("http://localhost/health?[1-200]");
    let output = curl.output().expect("setpriv cannot be started: install util-linux");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "403\n".repeat(200));
    let (_, _, log) = daemon.terminate();
    let of = |words: &str| log.lines().filter(|line| line.contains(words)).map(str::to_owned).collect::<Vec<_>>();
    let (lines, sums) = (of("may not call the API"), of(" more within "));
    assert!((1..=5).contains(&lines.len()) && lines[0].contains(&format!("uid={STRANGER}")), "{log}");
    let more = |line: &String| line.split(" more within").next()?.rsplit(' ').next()?.parse::<usize>().ok();
    let more: usize = sums.iter().map(|line| more(line).expect("a number")).sum();
    assert_eq!(lines.len() + more, 200, "{log}");
}

#[test]
fn one_users_names_leave_room_for_those_of_others() {
    let host = shared_host();
    // The daemon serves EPMD itself.
    let daemon = host.daemon(&[]);
    daemon.ready();
    let user = |uid| Erl::start(&host, Start { uid: Some(uid), ..Start::default() });
    let (mut greedy, mut other) = (user(STRANGER), user(FRIEND));
    let register = format!(
        r"
        Register = fun(Name) ->
            {{ok, Socket}} = gen_tcp:connect({{127,0,0,1}}, {}, [binary, {{active, false}}]),
            Request = <<$x, 9:16, 77, 0, 6:16, 5:16, (byte_size(Name)):16, Name/binary, 0:16>>,
            ok = gen_tcp:send(Socket, <<(byte_size(Request)):16, Request/binary>>),
            {{ok, <<_, Result>>}} = gen_tcp:recv(Socket, 2, 20000),
            Result =:= 0
        end, ",
        host.epmd_port
    );
    let until_refused = "Fill = fun Fill(N) ->
            case Register(<<\"greedy\", (integer_to_binary(N))/binary>>) of true -> Fill(N + 1); false -> N end
        end, Fill(0)";
    let kept: usize = greedy.eval(&format!("{register}{until_refused}")).parse().unwrap();
    assert!((beam::limits::EPMD_NODES / 4..=beam::limits::EPMD_NODES / 2).contains(&kept), "{kept}");
    assert_eq!(other.eval(&format!("{register}Register(<<\"other\">>)")), "true");
    assert_eq!(greedy.eval(&format!("{register}Register(<<\"more\">>)")), "false");
    let names = support::epmd::names(host.epmd_port);
    assert!(names.contains_key("hecate") && names.contains_key("other"), "{names:?}");
}

// ---- Two users, two homes ---------------------------------------------------------------------

/// Copies the program to where other users can run it. `cp` does it, because another test may start a
/// process at this moment, which would inherit an open copy: the kernel does not run such a file.
fn copy_of_program(host: &Host) -> std::path::PathBuf {
    let copy = host.home().join("hecate-daemon");
    if !copy.exists() {
        assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_hecate-daemon")).arg(&copy).status().unwrap().success());
    }
    copy
}

fn as_user(host: &Host, uid: u32, environment: &[(&str, &str)]) -> Daemon {
    let copy = copy_of_program(host);
    let (setpriv, id, run) = (program("setpriv"), uid.to_string(), format!("exec {}", copy.display()));
    let by = [&setpriv, "--reuid", &id, "--regid", &id, "--clear-groups", "/bin/sh", "-c", &run];
    Daemon::start_as(host, &by, environment)
}

/// A user with a separate home on the shared host, which has one EPMD.
struct User {
    host: Host,
    uid: u32,
}

impl User {
    fn new(uid: u32, epmd_port: u16) -> Self {
        let mut host = Host::new();
        host.epmd_port = epmd_port;
        chown(host.home(), Some(uid), Some(uid)).unwrap();
        Self { host, uid }
    }

    /// Starts the daemon with only this configuration.
    fn daemon(&self, environment: &[(&str, &str)]) -> Daemon {
        let defaults = [("HECATE_COOKIE", ""), ("HECATE_LOG", "debug")];
        let environment: Vec<_> = defaults.iter().chain(environment).copied().collect();
        let daemon = as_user(&self.host, self.uid, &environment);
        daemon.ready();
        daemon
    }

    /// Starts the node of a plugin of this user, with the cookie of their daemon.
    fn node(&self, name: &str, cookie: Option<&str>) -> Erl {
        let file = self.host.home().join(".erlang.cookie");
        let own = cookie.map_or_else(|| std::fs::read_to_string(file).unwrap(), str::to_owned);
        let name = self.host.node(name);
        let mut erl = Erl::start(
            &self.host,
            Start { name: Some(&name), cookie: Some(&own), uid: Some(self.uid), ..Start::default() },
        );
        erl.eval("element(1, pg:start_link())");
        erl
    }

    /// Returns the nodes that are or were connected.
    fn peers(&self) -> Vec<String> {
        let peers = self.host.ask("GET", "/api/cluster").body["peers"].clone();
        peers.as_array().unwrap().iter().map(|peer| peer["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Registers both plugins, and waits until they have these nodes.
    fn plugins_have_nodes(&self, trader: Option<&str>, martha: Option<&str>) {
        for (plugin, node) in [("hecate-traderd", trader), ("hecate-marthad", martha)] {
            let node = node.map(|node| self.host.node(node));
            wait_for("the plugin has the right node", || self.host.plugin(plugin)["node"] == json!(node));
        }
    }
}

/// Two users with running daemons. Each has registered both plugins, and runs the node of one of
/// them.
struct Neighbours {
    _epmd: support::epmd::Epmd,
    a: User,
    b: User,
    daemons: [Daemon; 2],
    traderd: Erl,
    marthad: Erl,
}

fn neighbours(cookie: Option<&str>, environment: &[(&str, &str)]) -> Neighbours {
    let port = shared_host().epmd_port;
    let epmd = support::epmd::Epmd::start(port);
    let [a, b] = [STRANGER, FRIEND].map(|uid| User::new(uid, port));
    let given: Vec<_> = environment.iter().copied().chain(cookie.map(|cookie| ("HECATE_COOKIE", cookie))).collect();
    let daemons = [&a, &b].map(|user| {
        let daemon = user.daemon(&given);
        for plugin in ["hecate-traderd", "hecate-marthad"] {
            user.host.register_named(plugin);
        }
        daemon
    });
    let (traderd, marthad) = (a.node("hecate_traderd", cookie), b.node("hecate_marthad", cookie));
    Neighbours { _epmd: epmd, a, b, daemons, traderd, marthad }
}

/// Returns the daemons whose proxies for a plugin a node sees.
fn proxies(erl: &mut Erl, plugin: &str) -> String {
    erl.eval(&format!("lists:sort([node(P) || P <- pg:get_members({{hecate_plugin, <<\"{plugin}\">>}})])"))
}

/// With separate cookies and default settings, or with one cookie and no permission for each other.
#[test]
fn two_users_run_side_by_side_and_see_nothing_of_each_other() {
    for cookie in [None, Some("shared")] {
        let Neighbours { _epmd, a, b, daemons: [at_a, at_b], mut traderd, mut marthad } = neighbours(cookie, &[]);
        let second = format!("hecate_{FRIEND}");
        // Each daemon finds the other's names in EPMD, and ignores them.
        for (daemon, others, owner) in
            [(&at_a, [second.as_str(), "hecate_marthad"], FRIEND), (&at_b, ["hecate", "hecate_traderd"], STRANGER)]
        {
            for other in others {
                daemon.logs(&[&a.host.node(other), "foreign_owner", &owner.to_string()]);
            }
        }
        a.plugins_have_nodes(Some("hecate_traderd"), None);
        b.plugins_have_nodes(None, Some("hecate_marthad"));
        assert_eq!(a.peers(), [a.host.node("hecate_traderd")]);
        assert_eq!(b.peers(), [b.host.node("hecate_marthad")]);
        for (erl, daemon) in [(&mut traderd, "hecate"), (&mut marthad, &second)] {
            let alone = format!("[{}]", a.host.node(daemon));
            erl.eval_until("nodes()", &alone, PATIENCE);
            for plugin in ["hecate-traderd", "hecate-marthad"] {
                assert_eq!(proxies(erl, plugin), alone);
            }
        }
        for daemon in [&at_a, &at_b] {
            let knocks = daemon.log_lines(&["handshake"]);
            assert!(
                !knocks.iter().any(|line| line.contains("was not")),
                "a node dialled the other user's daemon: {knocks:?}"
            );
        }
    }
}

#[test]
fn users_who_share_a_cookie_and_allow_each_other_see_each_others_plugins_and_keep_their_own() {
    let allowed = format!("{STRANGER},{FRIEND}");
    let Neighbours { _epmd, a, b, daemons, mut traderd, mut marthad } =
        neighbours(Some("shared"), &[("HECATE_ALLOWED_UIDS", &allowed)]);
    let second = format!("hecate_{FRIEND}");
    let all = ["hecate", "hecate_traderd", "hecate_marthad", &second];
    for (user, own) in [(&a, "hecate"), (&b, second.as_str())] {
        for other in all.iter().filter(|other| **other != own) {
            wait_for("they are connected", || user.host.peer(&a.host.node(other)).as_deref() == Some("connected"));
        }
    }
    // Each user has registered both plugins, one of which has a node. In either home, only that
    // user's plugin has it.
    let both = format!("[{},{}]", a.host.node("hecate"), a.host.node(&second));
    for erl in [&mut traderd, &mut marthad] {
        for plugin in ["hecate-traderd", "hecate-marthad"] {
            wait_for("both proxies are visible", || proxies(erl, plugin) == both);
        }
    }
    a.plugins_have_nodes(Some("hecate_traderd"), None);
    b.plugins_have_nodes(None, Some("hecate_marthad"));

    // A neighbour whose daemon is down for a moment is still one.
    let [at_a, at_b] = daemons;
    at_b.kill();
    wait_for("the plugin is gone", || a.host.peer(&a.host.node(&second)).as_deref() == Some("disconnected"));
    let _other = b.node("hecate_otherd", Some("shared"));
    a.host.register_named("hecate-otherd");
    wait_for("it is connected", || a.host.peer(&a.host.node("hecate_otherd")).as_deref() == Some("connected"));
    assert_eq!(a.host.plugin("hecate-otherd")["node"], json!(null));
    a.plugins_have_nodes(Some("hecate_traderd"), None);

    // A daemon that starts later does not use the other user's nodes either.
    let _at_b = b.daemon(&[("HECATE_COOKIE", "shared"), ("HECATE_ALLOWED_UIDS", &allowed)]);
    at_a.kill();
    std::fs::remove_dir_all(a.host.namespace("")).unwrap();
    let _at_a = a.daemon(&[("HECATE_COOKIE", "shared"), ("HECATE_ALLOWED_UIDS", &allowed)]);
    for plugin in ["hecate-traderd", "hecate-marthad", "hecate-otherd"] {
        a.host.register_named(plugin);
    }
    for other in all.iter().filter(|other| **other != "hecate") {
        wait_for("they are connected", || a.host.peer(&a.host.node(other)).as_deref() == Some("connected"));
    }
    a.plugins_have_nodes(Some("hecate_traderd"), None);
    assert_eq!(a.host.plugin("hecate-otherd")["node"], json!(null));
}
