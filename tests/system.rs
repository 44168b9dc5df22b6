//! What the daemon owes to other users of its host, with real ones: run as root by
//! `cargo test --features system-tests --test system`.
//!
//! They need no account: a process takes on a bare number by `setpriv` (util-linux). A cookie that a foreign user could
//! get us to prove is a cookie that they could use, so a node of theirs must not get a single byte of us.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::erl::{Erl, Start};
use support::{Host, PATIENCE, database, program, wait_for};

/// Users with no account on any machine.
const STRANGER: u32 = 61_000;
const FRIEND: u32 = 61_001;

/// A host that other users can reach into, as far as the modes there let them.
fn shared_host() -> Host {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests act as several users: run them as root, in a container of their own"
    );
    let host = Host::new();
    std::fs::set_permissions(host.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
    host
}

/// The environment of a daemon whose modes keep nobody from its socket.
fn open_modes(allowed: &str) -> [(&'static str, &str); 3] {
    [("HECATE_DIR_MODE", "0755"), ("HECATE_SOCKET_MODE", "0666"), ("HECATE_ALLOWED_UIDS", allowed)]
}

/// Asks by `curl` as another user: the status, and the body.
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
    let install = "setpriv can't be started: install util-linux";
    let output = curl.output().expect(install);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error} (if curl is missing, install it)");
    let answer = String::from_utf8(output.stdout).unwrap();
    let (body, status) = answer.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// A foreign user's process that listens on a TCP port of loopback and notes every connection and every byte.
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
fn a_foreign_users_node_gets_not_a_byte_of_us() {
    let host = shared_host();
    let epmd = host.epmd();
    let (mut trap, port) = trap(&host);
    let _name = epmd.register("hecate_x", port);
    let daemon = host.daemon(&[("HECATE_LOG", "debug")]);
    daemon.ready();
    daemon.logs(&["hecate_x", "foreign_owner", &STRANGER.to_string()]);
    // Whatever came is noted by the time that this connection of our own has ended, for they are read in turn.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    let noted = r"
        Noted = fun Noted(All) -> receive {ended, Bytes} -> Noted([Bytes | All]) after 1000 -> All end end,
        Ended = Noted([]), {length(Ended) > 0, iolist_to_binary(Ended)}";
    assert_eq!(trap.eval(noted), "{true,<<>>}");

    // Nor is a real node dialled, though its cookie is ours.
    let start = Start { name: Some("hecate_y"), uid: Some(STRANGER), ..Start::default() };
    let mut node = Erl::start(&host, start);
    daemon.logs(&["hecate_y", "foreign_owner"]);
    assert_eq!(node.eval("nodes()"), "[]");
    assert_ne!(host.peer(&host.node("hecate_y")).as_deref(), Some("connected"));
}

/// Nobody looks for this name: it is the diagnosis that meets its owner, and says nothing to it.
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
    // Whatever came is noted by the time that this connection of our own has ended, for they are read in turn.
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
fn users_who_are_not_listed_are_refused_every_call() {
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
    assert!(!host.namespace("hecate-traderd").exists(), "and nothing made");
}

#[test]
fn a_listed_user_registers_and_owns_what_is_made() {
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
    assert_eq!(own.uid(), 0, "our own stays ours");

    let (status, list) = curl(&host, FRIEND, "GET", "/api/plugins", "");
    assert_eq!((status, &list[0]["name"]), (200, &json!("hecate-traderd")));
    // What exists is nobody else's to be given: root registers it again, and it stays the friend's.
    host.register_named("hecate-traderd");
    assert_eq!(std::fs::metadata(&base).unwrap().uid(), FRIEND);
    assert_eq!(curl(&host, FRIEND, "DELETE", "/api/plugins/hecate-traderd", "").0, 200);
    wait_for("it is gone", || host.ask("GET", "/api/plugins").body == json!([]));
}

#[test]
fn by_default_the_modes_keep_others_out() {
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
fn a_storm_of_strangers_is_a_line_of_the_log_and_a_sum() {
    let host = shared_host();
    let daemon = host.daemon(&open_modes(""));
    daemon.ready();
    let id = STRANGER.to_string();
    let mut curl = Command::new("setpriv");
    curl.args(["--reuid", &id, "--regid", &id, "--clear-groups", "curl", "--silent", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code}\n", "--header", "Connection: close", "--unix-socket"]).arg(host.socket());
    curl.arg("http://localhost/health?[1-200]");
    let output = curl.output().expect("setpriv can't be started: install util-linux");
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
    // It serves the EPMD itself.
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

/// A user with a home of their own on the host that all share, which has one EPMD.
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

    /// The daemon, with no configuration at all but what is given here.
    fn daemon(&self, environment: &[(&str, &str)]) -> Daemon {
        let defaults = [("HECATE_COOKIE", ""), ("HECATE_LOG", "debug")];
        let environment: Vec<_> = defaults.iter().chain(environment).copied().collect();
        let daemon = as_user(&self.host, self.uid, &environment);
        daemon.ready();
        daemon
    }

    /// The node of a plugin of theirs, with the cookie that their daemon has.
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

    /// The nodes that are or were connected.
    fn peers(&self) -> Vec<String> {
        let peers = self.host.ask("GET", "/api/cluster").body["peers"].clone();
        peers.as_array().unwrap().iter().map(|peer| peer["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Both plugins are registered, and the node of one of them is this one.
    fn plugins_have_nodes(&self, trader: Option<&str>, martha: Option<&str>) {
        for (plugin, node) in [("hecate-traderd", trader), ("hecate-marthad", martha)] {
            let node = node.map(|node| self.host.node(node));
            wait_for("the plugin has the right node", || self.host.plugin(plugin)["node"] == json!(node));
        }
    }
}

/// Two users whose daemons run; each has both plugins registered, and the node of one of them.
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

/// The daemons whose proxies for a plugin a node sees.
fn proxies(erl: &mut Erl, plugin: &str) -> String {
    erl.eval(&format!("lists:sort([node(P) || P <- pg:get_members({{hecate_plugin, <<\"{plugin}\">>}})])"))
}

/// With a cookie each and without any setting, or with one cookie and no word of each other.
#[test]
fn two_users_run_side_by_side_and_see_nothing_of_each_other() {
    for cookie in [None, Some("shared")] {
        let Neighbours { _epmd, a, b, daemons: [at_a, at_b], mut traderd, mut marthad } = neighbours(cookie, &[]);
        let second = format!("hecate_{FRIEND}");
        // Each comes upon the names of the other, and leaves them alone.
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
            assert!(!knocks.iter().any(|line| line.contains("was not")), "nobody came to the wrong door: {knocks:?}");
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
    // Each has registered both plugins, of which one has a node: in either home only that one's own.
    let both = format!("[{},{}]", a.host.node("hecate"), a.host.node(&second));
    for erl in [&mut traderd, &mut marthad] {
        for plugin in ["hecate-traderd", "hecate-marthad"] {
            wait_for("both proxies are seen", || proxies(erl, plugin) == both);
        }
    }
    a.plugins_have_nodes(Some("hecate_traderd"), None);
    b.plugins_have_nodes(None, Some("hecate_marthad"));

    // A neighbour who is away for a moment is still one.
    let [at_a, at_b] = daemons;
    at_b.kill();
    wait_for("it is gone", || a.host.peer(&a.host.node(&second)).as_deref() == Some("disconnected"));
    let _other = b.node("hecate_otherd", Some("shared"));
    a.host.register_named("hecate-otherd");
    wait_for("it is connected", || a.host.peer(&a.host.node("hecate_otherd")).as_deref() == Some("connected"));
    assert_eq!(a.host.plugin("hecate-otherd")["node"], json!(null));
    a.plugins_have_nodes(Some("hecate_traderd"), None);

    // Nor does one who starts when all others run take anything of theirs.
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

// ---- Homes of others --------------------------------------------------------------------------

/// The daemon as another user, on the home in `~/.hecate`, whatever that user may do there. By a copy of the program, for
/// the original may lie where only we can go.
fn as_stranger(host: &Host) -> Daemon {
    as_user(host, STRANGER, &[("HECATE_HOME", host.namespace("").to_str().unwrap())])
}

fn as_user(host: &Host, uid: u32, environment: &[(&str, &str)]) -> Daemon {
    let copy = host.home().join("hecate-daemon");
    if !copy.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_hecate-daemon"), &copy).unwrap();
    }
    let (setpriv, id, run) = (program("setpriv"), uid.to_string(), format!("exec {}", copy.display()));
    let by = [&setpriv, "--reuid", &id, "--regid", &id, "--clear-groups", "/bin/sh", "-c", &run];
    Daemon::start_as(host, &by, environment)
}

/// A directory of this owner and mode; what is on the way is root's, and open to all.
fn directory(path: &Path, owner: u32, mode: u32) {
    std::fs::create_dir_all(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The code and the detail of the problem in `/health`, and its word.
fn problem(host: &Host) -> (String, String, String) {
    let health = host.ask("GET", "/health").body;
    let problem = &health["problems"][0];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{health}")).to_owned();
    (text(&problem["code"]), text(&problem["detail"]), text(&health["status"]))
}

#[test]
fn a_home_where_only_our_own_namespace_is_ours_is_told_at_the_start() {
    let host = shared_host();
    let home = host.namespace("");
    directory(&home, 0, 0o755);
    directory(&host.namespace("hecate-daemon"), STRANGER, 0o700);
    directory(&host.namespace("hecate-traderd"), STRANGER, 0o700);
    directory(&host.namespace("hecate-marthad"), 0, 0o755);
    directory(&host.namespace("hecate-secretd"), 0, 0o700);
    let daemon = as_stranger(&host);
    daemon.ready();
    daemon.logs(&["WARN", "home_not_writable", home.to_str().unwrap().trim_end_matches('/')]);
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("home_not_writable", "unhealthy"));
    assert!(detail.contains("we are uid 61000") && detail.contains("belongs to uid 0 with mode 0755"), "{detail}");

    // One that exists already is of use; one that does not, or is somebody else's, is refused by name.
    host.register_named("hecate-traderd");
    for (name, place) in [
        ("hecate-newd", "hecate-newd"),
        ("hecate-marthad", "hecate-marthad/sqlite"),
        ("hecate-secretd", "hecate-secretd/sqlite"),
    ] {
        let answer = host.register(&json!({ "name": name }));
        assert_eq!((answer.status, &answer.body["code"]), (500, &json!("layout_failed")), "{answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        let path = host.namespace(place);
        assert!(detail.contains(path.to_str().unwrap()) && detail.contains("give it to uid 61000"), "{detail}");
    }
    let list = host.ask("GET", "/api/plugins").body;
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &json!("hecate-traderd")));
}

#[test]
fn a_namespace_of_our_own_that_is_somebody_elses_is_refused() {
    // Home, and our namespace in it.
    for (home, own, missing) in
        [(0o755, None, "hecate-daemon"), (0o755, Some(0o755), "hecate-daemon/sqlite"), (0o700, None, "")]
    {
        let host = shared_host();
        directory(&host.namespace(""), 0, home);
        if let Some(mode) = own {
            directory(&host.namespace("hecate-daemon"), 0, mode);
        }
        let mut daemon = as_stranger(&host);
        assert_eq!(daemon.ended(), Some(1));
        let path = host.namespace(missing);
        daemon.logs(&["ERROR", "ermission denied", path.to_str().unwrap().trim_end_matches('/')]);
    }
}

#[test]
fn a_home_that_may_not_be_written_is_found_with_the_configuration() {
    let host = shared_host();
    let by = [program("setpriv"), "--reuid=61000".into(), "--regid=61000".into(), "--clear-groups".into()];
    let copy = host.home().join("hecate-daemon");
    std::fs::copy(env!("CARGO_BIN_EXE_hecate-daemon"), &copy).unwrap();
    let run = format!("exec {}", copy.display());
    let by: Vec<&str> = by.iter().map(String::as_str).chain(["/bin/sh", "-c", &run]).collect();
    let mut daemon = Daemon::start_as(&host, &by, &[]);
    assert_eq!(daemon.ended(), Some(2));
    daemon.logs(&[host.home().to_str().unwrap(), "not ours to write", "belongs to uid 0, and we are uid 61000"]);
}

#[test]
fn a_database_that_may_not_be_read_is_set_aside() {
    let host = shared_host();
    directory(&host.namespace(""), STRANGER, 0o700);
    let daemon = as_stranger(&host);
    daemon.ready();
    host.register_named("hecate-traderd");
    daemon.terminate();
    std::fs::set_permissions(database::path(&host), std::fs::Permissions::from_mode(0o000)).unwrap();

    let daemon = as_stranger(&host);
    daemon.ready();
    daemon.logs(&["ERROR", "set_aside", "Permission denied"]);
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("registry_set_aside", "unhealthy"));
    assert!(detail.contains("plugins.db.damaged-"), "{detail}");
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]));
    host.register_named("hecate-traderd");
}

#[test]
fn a_plugin_whose_socket_another_user_keeps_closed_stays_running_through_a_restart() {
    let host = shared_host();
    directory(&host.namespace(""), STRANGER, 0o755);
    let home = host.namespace("");
    let environment = [("HECATE_HOME", home.to_str().unwrap()), ("HECATE_REGISTRATION_GRACE", "1")];
    for place in ["hecate-traderd", "hecate-traderd/sockets"] {
        directory(&host.namespace(place), STRANGER, 0o755);
    }
    let path = host.namespace("hecate-traderd").join("sockets/api.sock");
    let _plugin = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = as_user(&host, STRANGER, &environment);
    daemon.ready();
    host.register_named("hecate-traderd");
    let since = host.plugin("hecate-traderd")["since"].clone();
    let advice = format!("`chmod 0660 {}` as uid 0", path.display());
    let stays_unknown = || {
        wait_for("the reason names the command", || {
            let plugin = host.plugin("hecate-traderd");
            assert_eq!(plugin["status"], "running", "{plugin}");
            plugin["reason"].as_str().unwrap().contains(&advice)
        });
    };
    stays_unknown();
    daemon.terminate();

    let daemon = as_user(&host, STRANGER, &environment);
    daemon.ready();
    stays_unknown();
    // Each change of the status sets it, so there was none.
    assert_eq!(host.plugin("hecate-traderd")["since"], since);

    chown(&path, None, Some(STRANGER)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    wait_for("the socket answers", || host.plugin("hecate-traderd")["reason"] == "its socket answers");
    std::fs::remove_file(&path).unwrap();
    host.plugin_until("hecate-traderd", "stopped");
}

// ---- Mounts -----------------------------------------------------------------------------------

/// The daemon in a mount namespace of its own, after these commands there.
fn with_mounts(host: &Host, commands: &str) -> Daemon {
    let script = format!("set -e; {commands}; exec \"$0\"");
    let home = host.namespace("");
    let own = host.namespace("hecate-daemon");
    let environment = [("HOME_OF_ALL", home.to_str().unwrap()), ("OWN", own.to_str().unwrap())];
    let (unshare, mount) = (program("unshare"), program("mount"));
    let by = [&unshare, "--mount", "/bin/sh", "-c", &script];
    Daemon::start_as(host, &by, &[environment[0], environment[1], ("MOUNT", &mount)])
}

#[test]
fn a_home_of_which_only_our_own_namespace_is_mounted_is_told_at_the_start() {
    let host = shared_host();
    std::fs::create_dir_all(host.namespace("hecate-daemon")).unwrap();
    let daemon = with_mounts(&host, "$MOUNT --bind $OWN $OWN");
    daemon.ready();
    daemon.logs(&["WARN", "home_not_mounted", host.namespace("hecate-daemon").to_str().unwrap()]);
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("home_not_mounted", "healthy"), "it may be meant so");
    assert!(detail.contains("mount all of"), "{detail}");
    host.register_named("hecate-traderd");
}

#[test]
fn a_read_only_home_is_told_at_the_start() {
    let host = shared_host();
    std::fs::create_dir_all(host.namespace("hecate-daemon")).unwrap();
    let read_only =
        "$MOUNT --bind $HOME_OF_ALL $HOME_OF_ALL; $MOUNT --bind $OWN $OWN; $MOUNT -o remount,ro,bind $HOME_OF_ALL";
    // By its variable, as a container does: by HOME the configuration finds it.
    let mut refused = with_mounts(&host, read_only);
    assert_eq!(refused.ended(), Some(2));
    refused.logs(&[".hecate", "not ours to write", "Read-only file system"]);

    let daemon = with_mounts(&host, &format!("{read_only}; export HECATE_HOME=$HOME_OF_ALL"));
    daemon.ready();
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("home_not_writable", "unhealthy"));
    assert!(detail.contains("Read-only file system") && detail.contains("mount it writable"), "{detail}");
    let answer = host.register(&json!({"name": "hecate-traderd"}));
    assert_eq!((answer.status, &answer.body["code"]), (500, &json!("layout_failed")), "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains(host.namespace("hecate-traderd").to_str().unwrap()), "{detail}");
    assert!(detail.contains("Read-only file system"), "{detail}");
}

/// A directory that is mounted at another place, until this is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(source: &std::path::Path, target: &std::path::Path) -> Self {
        let mounted = Command::new("mount").arg("--bind").args([source, target]).status();
        assert!(mounted.expect("mount can't be started: install it").success());
        Self(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_purge_stops_at_what_is_mounted_in_a_namespace() {
    let host = shared_host();
    let daemon = host.daemon(&[]);
    daemon.ready();
    host.register(&json!({"name": "hecate-traderd"}));
    host.ask("DELETE", "/api/plugins/hecate-traderd");
    let outside = host.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "kept").unwrap();
    // Its siblings are still removed.
    std::fs::write(host.namespace("hecate-traderd").join("run/gone"), "").unwrap();
    let mut mounted = Mounted::new(&outside, &host.namespace("hecate-traderd").join("sqlite"));
    let refused = host.ask("DELETE", "/api/plugins/hecate-traderd/data");
    assert_eq!((refused.status, &refused.body["code"]), (500, &json!("purge_incomplete")), "{}", refused.body);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("/sqlite") && detail.contains("mounted") && detail.contains("restart"), "{detail}");
    assert_eq!(std::fs::read_to_string(outside.join("kept")).unwrap(), "kept");

    // What is left is removed at the next start, when nothing is in the way. The mount went where its directory did.
    let home = host.home().join(".hecate");
    let left = || std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let aside = left().into_iter().find(|name| name != "hecate-daemon").unwrap();
    mounted.0 = home.join(&aside).join("sqlite");
    assert!(!home.join(aside).join("run").exists());
    drop(mounted);
    daemon.terminate();
    let daemon = host.daemon(&[]);
    daemon.ready();
    wait_for("the rest is removed", || left() == ["hecate-daemon"]);
    assert_eq!(std::fs::read_to_string(outside.join("kept")).unwrap(), "kept");
}
