use std::fs;
use std::os::unix::fs::PermissionsExt;

use std::path::Path;

use super::settings::Setting;
use super::*;
use crate::limits;

/// A host called beam00 with a home directory and a cookie.
struct Host {
    home: tempfile::TempDir,
    environment: Environment,
    flags: Flags,
}

impl Host {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("directory");
        let mut environment = Environment { hostname: "beam00.lab.example".to_owned(), ..Environment::default() };
        let text = home.path().to_str().expect("text");
        environment.variables.insert("HOME".to_owned(), text.into());
        environment.variables.insert("HECATE_COOKIE".to_owned(), "monster".into());
        Self { home, environment, flags: Flags::new() }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.variables.insert(name.to_owned(), value.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.environment.variables.remove(name);
        self
    }

    fn flag(mut self, name: &'static str, value: &str) -> Self {
        self.flags.insert(name, value.to_owned());
        self
    }

    /// A `sys.config` with these settings for hecate.
    fn file(self, settings: &str) -> Self {
        let path = self.path("sys.config");
        fs::write(&path, format!("[{{hecate, [\n{settings}\n]}}].\n")).expect("written");
        self.flag("config", path.to_str().expect("text"))
    }

    fn load(&self) -> Config {
        self.loaded().config
    }

    fn loaded(&self) -> Loaded {
        load(&self.flags, &self.environment).unwrap_or_else(|error| panic!("refused: {error}"))
    }

    fn refusal(&self) -> String {
        load(&self.flags, &self.environment).map(|_| ()).expect_err("refused").to_string()
    }
}

#[test]
fn the_defaults() {
    let host = Host::new();
    let config = host.load();
    assert_eq!(config.locations.home.root(), host.path(".hecate"));
    assert_eq!(config.locations.home.own().base(), host.path(".hecate/hecate-daemon"));
    assert_eq!(config.locations.socket, host.path(".hecate/hecate-daemon/sockets/api.sock"));
    assert_eq!((config.node.as_str(), config.node_explicit), ("hecate@beam00", false));
    assert_eq!(config.pg_scopes, ["pg"]);
    assert_eq!((config.dir_mode, config.socket_mode, config.group), (0o700, 0o600, None));
    assert_eq!((config.epmd_port, config.dist_port), (4369, None));
    assert_eq!((config.hidden, config.introduce_peers), (false, true));
    assert_eq!((config.net_ticktime.as_secs(), config.registration_grace.as_secs()), (60, 60));
    assert_eq!(config.listen, IpAddr::from([0, 0, 0, 0]));
    assert!(config.peers.is_empty() && config.allowed_uids.is_empty() && config.epmd_addresses.is_empty());
    assert_eq!((config.cluster_dns, config.log.as_str()), (None, "info"));
    assert_eq!(config.epmd_names, [NamePattern::parse("hecate*").expect("valid")]);
}

/// A setting; its text in the file, the variable and the flag, each with the resulting value; and a
/// function that returns this value.
type Row = (&'static Setting, [(&'static str, &'static str); 3], fn(&Config) -> String);

/// Every setting except the path of the file.
const ROWS: &[Row] = &[
    (&settings::HOME, [(r#""/f/own""#, "/f"), ("/e", "/e"), ("/c", "/c")], |c| {
        c.locations.home.root().display().to_string()
    }),
    (&settings::SOCKET_PATH, [(r#""/f""#, "/f"), ("/e", "/e"), ("/c", "/c")], |c| {
        c.locations.socket.display().to_string()
    }),
    (&settings::NODE_NAME, [("'f@x'", "f@x"), ("e", "e@beam00"), ("c@x", "c@x")], |c| c.node.to_string()),
    (&settings::HOSTNAME, [("f", "f"), ("e.x", "e.x"), ("c", "c")], |c| c.node.host().to_owned()),
    (&settings::COOKIE, [("f", "f"), ("e", "e"), ("", "")], |c| c.cookie.secret().to_owned()),
    (
        &settings::CLUSTER_PEERS,
        [
            ("['a@f', g]", r#"["a@f", "hecate@g"]"#),
            ("a@e,g", r#"["a@e", "hecate@g"]"#),
            ("a@c, g", r#"["a@c", "hecate@g"]"#),
        ],
        |c| format!("{:?}", c.peers.iter().map(NodeName::as_str).collect::<Vec<_>>()),
    ),
    (&settings::CLUSTER_DNS, [(r#""f.x""#, "f.x"), ("e.x", "e.x"), ("c.x", "c.x")], |c| {
        c.cluster_dns.clone().unwrap_or_default()
    }),
    (&settings::EPMD_NAMES, [("['f*', g]", "f* g"), ("e*,x", "e* x"), ("*", "*")], |c| {
        c.epmd_names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }),
    (&settings::PG_SCOPES, [("[f, pg, f]", "f pg"), ("e,pg", "e pg"), ("c", "c")], |c| c.pg_scopes.join(" ")),
    (&settings::LISTEN, [(r#""10.0.0.1""#, "10.0.0.1"), ("10.0.0.2", "10.0.0.2"), ("::1", "::1")], |c| {
        c.listen.to_string()
    }),
    (&settings::HIDDEN, [("true", "true"), ("false", "false"), ("true", "true")], |c| c.hidden.to_string()),
    (&settings::DIR_MODE, [("8#755", "755"), ("0750", "750"), ("770", "770")], |c| format!("{:o}", c.dir_mode)),
    (&settings::SOCKET_MODE, [(r#""660""#, "660"), ("0666", "666"), ("600", "600")], |c| {
        format!("{:o}", c.socket_mode)
    }),
    (&settings::GROUP, [("7", "Some(7)"), ("8", "Some(8)"), ("root", "Some(0)")], |c| format!("{:?}", c.group)),
    (&settings::ALLOWED_UIDS, [("[1, 2]", "[1, 2]"), ("3,4", "[3, 4]"), ("5", "[5]")], |c| {
        format!("{:?}", c.allowed_uids)
    }),
    (&settings::EPMD_PORT, [("1", "1"), ("2", "2"), ("3", "3")], |c| c.epmd_port.to_string()),
    (
        &settings::EPMD_ADDRESS,
        [(r#"["10.0.0.1"]"#, "[10.0.0.1]"), ("10.0.0.2,::1", "[10.0.0.2, ::1]"), ("::1", "[::1]")],
        |c| format!("{:?}", c.epmd_addresses),
    ),
    (&settings::DIST_PORT, [("1", "Some(1)"), ("2", "Some(2)"), ("3", "Some(3)")], |c| format!("{:?}", c.dist_port)),
    (&settings::INTRODUCE_PEERS, [("false", "false"), ("true", "true"), ("false", "false")], |c| {
        c.introduce_peers.to_string()
    }),
    (&settings::NET_TICKTIME, [("8", "8"), ("9", "9"), ("10", "10")], |c| c.net_ticktime.as_secs().to_string()),
    (&settings::PEER_MEMORY, [("300", "300"), ("301", "301"), ("302", "302")], |c| (c.peer_memory >> 20).to_string()),
    (&settings::REGISTRATION_GRACE, [("8", "8"), ("9", "9"), ("10", "10")], |c| {
        c.registration_grace.as_secs().to_string()
    }),
    (&settings::LOG_FORMAT, [("json", "Json"), ("text", "Text"), ("json", "Json")], |c| format!("{:?}", c.log_format)),
    (&settings::LOG, [("warn", "warn"), ("debug", "debug"), ("error", "error")], |c| c.log.clone()),
];

#[test]
fn flags_override_the_environment_and_the_environment_the_file() {
    assert_eq!(ROWS.len() + 1, SETTINGS.len(), "every setting except the path of the file");
    for (setting, [(in_file, by_file), (in_variable, by_variable), (in_flag, by_flag)], read) in ROWS {
        let key = setting.key.expect("a key");
        let mut host = Host::new().without("HECATE_COOKIE").file(&format!("{{{key}, {in_file}}}"));
        assert_eq!(read(&host.load()), *by_file, "{key} from the file");
        for name in setting.env {
            host = host.env(name, in_variable);
            assert_eq!(read(&host.load()), *by_variable, "{name} over the file");
            host = host.without(name);
        }
        let Some(flag) = setting.flag else { continue };
        for name in setting.env {
            host = host.env(name, in_variable);
        }
        assert_eq!(read(&host.flag(flag, in_flag).load()), *by_flag, "--{flag} over all");
    }
}

#[test]
fn errors_name_the_source_and_the_allowed_values() {
    let table = [
        (Host::new().env("HECATE_DIR_MODE", "999"), "HECATE_DIR_MODE: invalid value \"999\"; expected an octal mode"),
        (Host::new().flag("dir-mode", "600"), "--dir-mode: invalid value \"600\""),
        (Host::new().file("{node_name, hecate},\n{dir_mode, 700}"), "sys.config line 3: invalid value 700"),
        (Host::new().env("HECATE_SOCKET_MODE", "+600"), "HECATE_SOCKET_MODE"),
        (Host::new().env("HECATE_SOCKET_MODE", "0400"), "includes 0600"),
        (Host::new().env("HECATE_DIR_MODE", "1777"), "an octal mode up to 0777"),
        (Host::new().file("{dir_mode, 8#4755}"), "an octal mode up to 0777"),
        (Host::new().env("HECATE_HIDDEN", "yes"), "`true` or `false`"),
        (Host::new().env("HECATE_NODE_NAME", "a.b@c"), "HECATE_NODE_NAME: invalid value \"a.b@c\""),
        (Host::new().env("HECATE_NODE_NAME", "a@"), "`name@host`"),
        (Host::new().env("HECATE_HOSTNAME", "a b"), "a host name"),
        (Host::new().env("HECATE_CLUSTER_PEERS", "a@b,c d"), "HECATE_CLUSTER_PEERS: invalid value \"c d\""),
        (Host::new().env("HECATE_CLUSTER_PEERS", "fd00::3,b:4369"), "HECATE_CLUSTER_PEERS: invalid value \"b:4369\""),
        (Host::new().env("HECATE_PG_SCOPES", ","), "at least one scope"),
        (Host::new().env("HECATE_PG_SCOPES", &"x".repeat(256)), "at most 255 characters"),
        (Host::new().env("HECATE_LISTEN", "localhost"), "an IP address"),
        (Host::new().env("ERL_EPMD_PORT", "0"), "from 1 to 65535"),
        (Host::new().env("ERL_DIST_PORT", "65536"), "from 1 to 65535"),
        (Host::new().env("ERL_EPMD_ADDRESS", "127.0.0.1,x"), "ERL_EPMD_ADDRESS: invalid value \"x\""),
        (Host::new().env("HECATE_EPMD_NAMES", "hecate*,a@b"), "HECATE_EPMD_NAMES: invalid value \"a@b\""),
        (
            Host::new().env("HECATE_ALLOWED_UIDS", "1000,4294967295"),
            "HECATE_ALLOWED_UIDS: invalid value \"4294967295\"",
        ),
        (Host::new().env("HECATE_ALLOWED_UIDS", "-1"), "HECATE_ALLOWED_UIDS: invalid value \"-1\""),
        (Host::new().env("HECATE_GROUP", "no such group"), "its name in /etc/group"),
        (Host::new().env("HECATE_NET_TICKTIME", "3"), "from 4 to 3600"),
        (Host::new().env("HECATE_LOG", "hecate_daemon=loud"), "a filter such as"),
        (
            Host::new().env("HECATE_LOG_FORMAT", "xml"),
            "HECATE_LOG_FORMAT: invalid value \"xml\"; expected text or json",
        ),
        (Host::new().env("HECATE_HOME", "relative"), "begins with `/` or `~/`"),
        (Host::new().env("HECATE_HOME", "~alice/x"), "begins with `/` or `~/`"),
        (Host::new().env("HECATE_HOME", "/a/../b"), "no `..`"),
        (Host::new().env("HECATE_HOME", "/"), "a directory below `/`"),
        (Host::new().file("{data_dir, \"/own\"}"), "its parent is the home of all daemons"),
        (Host::new().file("{data_dir, \"/x/hecate-traderd\"}"), "because a plugin may register the name"),
        (Host::new().env("HECATE_CONFIG", "/does/not/exist"), "HECATE_CONFIG: cannot read /does/not/exist"),
        (Host::new().file("{hidden, true"), "sys.config line 3: expected `}` after the value, found `]`"),
    ];
    for (host, expected) in table {
        let refusal = host.refusal();
        assert!(refusal.contains(expected), "{refusal:?} lacks {expected:?}");
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let host = Host::new().file("{node_name, from_file}").env("HECATE_NODE_NAME", "").env("HECATE_HOME", "");
    assert_eq!(host.load().node.as_str(), "from_file@beam00");
}

#[test]
fn a_variable_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let mut host = Host::new();
    let bytes = std::ffi::OsString::from_vec(vec![b'/', 0xff]);
    host.environment.variables.insert("HECATE_HOME".to_owned(), bytes);
    assert_eq!(host.refusal(), "HECATE_HOME is not UTF-8");
}

// ---- Home -----------------------------------------------------------------------------------

#[test]
fn home_is_required_only_if_a_path_depends_on_it() {
    let host = Host::new().without("HOME");
    assert!(host.refusal().contains("HOME is not set"), "{}", host.refusal());
    let host = host.env("HECATE_HOME", "/srv/hecate");
    assert_eq!(host.load().locations.home.root(), Path::new("/srv/hecate"));

    let mut host = Host::new().without("HOME");
    host.environment.account_home = Some("/home/alice".into());
    assert!(host.refusal().contains("your account's is /home/alice"), "{}", host.refusal());
}

#[test]
fn a_home_that_is_not_a_directory_is_refused() {
    for home in ["/", "relative", "/does/not/exist"] {
        let refusal = Host::new().env("HOME", home).refusal();
        assert!(refusal.contains("not a home directory"), "{home}: {refusal}");
    }
    // A file cannot contain directories.
    let host = Host::new();
    fs::write(host.path(".hecate"), "").expect("written");
    assert!(host.refusal().contains("is not a directory: move it away"), "{}", host.refusal());
}

#[test]
fn a_tilde_means_home_in_each_source() {
    let host = Host::new().file("{data_dir, \"~/x/own/\"},\n{socket_path, '~/s.sock'}");
    let config = host.load();
    assert_eq!(config.locations.home.root(), host.path("x"));
    assert_eq!(config.locations.home.own().base(), host.path("x/own"));
    assert_eq!(config.locations.socket, host.path("s.sock"));
    let host = Host::new().env("HECATE_HOME", "~");
    assert_eq!(host.load().locations.home.root(), host.home.path());
}

#[test]
fn a_data_dir_without_effect_causes_a_warning() {
    let loaded = Host::new().file("{data_dir, \"/f/own\"}").env("HECATE_HOME", "/e").loaded();
    assert_eq!(loaded.config.locations.home.own().base(), Path::new("/e/hecate-daemon"));
    assert!(loaded.warnings.iter().any(|warning| warning.contains("HECATE_HOME sets home")), "{:?}", loaded.warnings);
}

#[test]
fn clients_need_no_cookie_and_create_none() {
    let host = Host::new().without("HECATE_COOKIE").env("HECATE_NODE_NAME", "not a name");
    let socket = |host: &Host| socket_path(&host.flags, &host.environment).expect("enough for a client");
    assert_eq!(socket(&host), host.path(".hecate/hecate-daemon/sockets/api.sock"));
    assert!(!host.path(".erlang.cookie").exists());
    let host = host.without("HOME").env("HECATE_SOCKET_PATH", "/run/api.sock");
    assert_eq!(socket(&host), Path::new("/run/api.sock"), "no home is needed if the socket is set");
}

// ---- The file -------------------------------------------------------------------------------

#[test]
fn an_unknown_key_causes_a_warning_with_the_nearest_known_key() {
    let loaded = Host::new().file("{cookies, x},\n{something_else_entirely, 1},\n{dirmode, 2}").loaded();
    let [first, second, third] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(first.contains("line 2") && first.ends_with("did you mean `cookie`?"), "{first}");
    assert!(second.contains("`something_else_entirely`") && second.ends_with("ignored"), "{second}");
    assert!(third.ends_with("did you mean `dir_mode`?"), "{third}");
}

#[test]
fn an_oversized_file_is_refused() {
    let fits = " ".repeat(limits::SYS_CONFIG - "[{hecate, [\n\n]}].\n".len());
    Host::new().file(&fits).load();
    let refusal = Host::new().file(&format!("{fits} ")).refusal();
    assert!(refusal.contains("larger than 262144 bytes"), "{refusal}");
}

#[test]
fn the_peer_memory_is_large_enough_for_the_largest_message() {
    assert_eq!(Host::new().load().peer_memory, beam::limits::PEER_BYTES);
    let given = |mebibytes: u64| Host::new().env("HECATE_PEER_MEMORY", &mebibytes.to_string());
    let least = given(beam::limits::PEER_BYTES_LEAST).load().peer_memory;
    assert!(least > 3 * beam::limits::FRAME, "a message, its copy and an answer");
    let refusal = given(beam::limits::PEER_BYTES_LEAST - 1).refusal();
    assert!(refusal.contains("a whole number from 200 to"), "{refusal}");
}

#[test]
fn lists_are_bounded() {
    let hosts = |count: usize| (0..count).map(|n| format!("h{n}")).collect::<Vec<_>>().join(",");
    let host = Host::new().env("HECATE_CLUSTER_PEERS", &hosts(limits::CONFIG_LIST));
    assert_eq!(host.load().peers.len(), limits::CONFIG_LIST);
    let refusal = host.env("HECATE_CLUSTER_PEERS", &hosts(limits::CONFIG_LIST + 1)).refusal();
    assert!(refusal.contains("at most 256 elements"), "{refusal}");
}

// ---- Names ----------------------------------------------------------------------------------

#[test]
fn the_node_name_comes_from_its_settings() {
    let node = |host: Host| {
        let config = host.load();
        (config.node.to_string(), config.node.is_long(), config.node_explicit)
    };
    let named = |name: &str, long, explicit| (name.to_owned(), long, explicit);
    assert_eq!(node(Host::new().env("HECATE_NODE_NAME", "h2")), named("h2@beam00", false, true));
    assert_eq!(node(Host::new().env("HECATE_NODE_NAME", "h2@a.b")), named("h2@a.b", true, true));
    assert_eq!(node(Host::new().env("HECATE_HOSTNAME", "beam00.lab")), named("hecate@beam00.lab", true, false));
    let both = Host::new().env("HECATE_HOSTNAME", "x").env("HECATE_NODE_NAME", "h@y");
    assert_eq!(node(both), named("h@y", false, true));
}

#[test]
fn an_invalid_host_name_is_refused_only_if_it_is_needed() {
    let nameless = || {
        let mut host = Host::new();
        host.environment.hostname = "bad host".to_owned();
        host
    };
    assert!(nameless().refusal().contains("set HECATE_HOSTNAME"), "{}", nameless().refusal());
    assert!(nameless().env("HECATE_NODE_NAME", "h").refusal().contains("set HECATE_HOSTNAME"));
    assert_eq!(nameless().env("HECATE_NODE_NAME", "h@x").load().node.as_str(), "h@x");
    assert_eq!(nameless().env("HECATE_HOSTNAME", "x").load().node.as_str(), "hecate@x");
}

// ---- The cookie -----------------------------------------------------------------------------

#[test]
fn the_two_variables_of_the_cookie_must_be_equal() {
    let host = Host::new().env("HECATE_ERLANG_COOKIE", "monster");
    assert_eq!(host.load().cookie.secret(), "monster");
    let refusal = host.env("HECATE_ERLANG_COOKIE", "secret").refusal();
    assert!(refusal.contains("HECATE_ERLANG_COOKIE and HECATE_COOKIE"), "{refusal}");
    assert!(!refusal.contains("secret") && !refusal.contains("monster"), "{refusal}");
}

#[test]
fn a_cookie_is_never_shown() {
    let host = Host::new();
    assert!(!format!("{:?}", host.loaded()).contains("monster"));
    for host in [
        Host::new().env("HECATE_COOKIE", "mon\tster"),
        Host::new().without("HECATE_COOKIE").file("{cookie, [monster]}"),
    ] {
        let refusal = host.refusal();
        assert!(refusal.contains("cookie") && !refusal.contains("ster"), "{refusal}");
    }
}

#[test]
fn an_invalid_configuration_creates_no_cookie() {
    let host = Host::new().without("HECATE_COOKIE").env("HECATE_HIDDEN", "perhaps");
    host.refusal();
    assert!(!host.path(".erlang.cookie").exists(), "nothing is created");
    let host = host.env("HECATE_HIDDEN", "false");
    let cookie = host.load().cookie;
    assert_eq!(cookie.secret(), fs::read_to_string(host.path(".erlang.cookie")).expect("made"));
    let mode = fs::metadata(host.path(".erlang.cookie")).expect("made").permissions().mode();
    assert_eq!(mode & 0o7777, 0o400);
    assert_eq!(host.load().cookie, cookie, "and read again");
}

#[test]
fn a_cookie_file_in_the_configuration_directory_is_read() {
    let put = |path: PathBuf| {
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, "from-xdg").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    };
    let host = Host::new().without("HECATE_COOKIE");
    put(host.path(".config/erlang/.erlang.cookie"));
    assert_eq!(host.load().cookie.secret(), "from-xdg");
    let config = host.path("conf").to_str().expect("text").to_owned();
    let host = Host::new().without("HECATE_COOKIE").env("XDG_CONFIG_HOME", &config);
    put(PathBuf::from(config).join("erlang/.erlang.cookie"));
    assert_eq!(host.load().cookie.secret(), "from-xdg");
}

#[test]
fn a_cookie_file_requires_a_valid_home() {
    let host = Host::new().without("HECATE_COOKIE").env("HECATE_HOME", "/e").env("HOME", "/");
    assert!(host.refusal().contains("not a home directory"), "{}", host.refusal());
    assert_eq!(host.env("HECATE_COOKIE", "monster").load().cookie.secret(), "monster");
}

#[test]
fn dns_with_a_short_node_name_causes_a_warning() {
    for (host, warns) in [("beam00", true), ("10.1.2.3", false), ("fd00::1", false), ("beam00.lab", false)] {
        let host = Host::new().env("HECATE_CLUSTER_DNS", "hecate.svc").env("HECATE_HOSTNAME", host);
        let mut warnings = host.loaded().warnings;
        warnings.extend(host.check().warnings);
        let count = warnings.iter().filter(|warning| warning.starts_with("HECATE_CLUSTER_DNS finds")).count();
        assert_eq!(count, if warns { 2 } else { 0 }, "{warnings:?}");
    }
}

// ---- --check-config -------------------------------------------------------------------------

impl Host {
    fn check(&self) -> Checked {
        Places::find(&self.flags, &self.environment).expect("the file can be read").check()
    }

    /// Returns the value and the source of a setting.
    fn row(&self, name: &str) -> (String, String) {
        let row = self.check().rows.into_iter().find(|row| row.name == name).expect("a setting");
        (row.value.unwrap_or_else(|error| error.to_string()), row.from)
    }
}

#[test]
fn every_setting_is_shown_with_its_source() {
    let host = Host::new().file("{node_name, from_file},\n{hidden, true}").env("HECATE_HIDDEN", "false");
    let host = host.flag("listen", "10.0.0.1").env("HECATE_CLUSTER_PEERS", "beam01,x@beam02");
    let checked = host.check();
    assert_eq!(checked.rows.len(), SETTINGS.len());
    for (row, setting) in checked.rows.iter().zip(SETTINGS) {
        assert_eq!(Some(row.name), setting.flag.or(setting.key), "in the order of --help");
    }
    let file = host.path("sys.config").display().to_string();
    let shown = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    assert_eq!(host.row("config"), shown(&file, "--config"));
    assert_eq!(host.row("node-name"), shown("from_file@beam00", &format!("{file} line 2")));
    assert_eq!(host.row("hidden"), shown("false", "HECATE_HIDDEN"));
    assert_eq!(host.row("listen"), shown("10.0.0.1", "--listen"));
    assert_eq!(host.row("cluster-peers"), shown("hecate@beam01,x@beam02", "HECATE_CLUSTER_PEERS"));
    assert_eq!(host.row("home"), shown(host.path(".hecate").to_str().expect("text"), "default"));
    assert_eq!(host.row("dir-mode"), shown("0700", "default"));
}

#[test]
fn only_the_source_of_the_cookie_is_shown() {
    let host = Host::new();
    assert_eq!(host.row("cookie"), ("(set, hidden)".to_owned(), "HECATE_COOKIE".to_owned()));
    let host = host.without("HECATE_COOKIE");
    let path = host.path(".erlang.cookie");
    assert_eq!(host.row("cookie"), ("(made at the start)".to_owned(), path.display().to_string()));
    assert!(!path.exists());
    host.load();
    assert_eq!(host.row("cookie"), ("(set, hidden)".to_owned(), path.display().to_string()));
}

#[test]
fn a_check_shows_every_error() {
    let host = Host::new().env("HECATE_DIR_MODE", "9").env("HECATE_HIDDEN", "perhaps").env("HECATE_COOKIE", "a\tb");
    let checked = host.check();
    let refused: Vec<_> = checked.rows.iter().filter(|row| row.value.is_err()).map(|row| row.name).collect();
    assert_eq!(refused, ["cookie", "hidden", "dir-mode"]);
    assert!(host.refusal().contains("HECATE_HIDDEN"), "the first error prevents a start");
}

// ---- Misspelled variables -------------------------------------------------------------------

#[test]
fn a_misspelled_variable_causes_a_warning() {
    let mut host = Host::new();
    host.environment.misspelled = settings::misspelled([("HECATE_CLUSTER_PERS".into(), "beam01".into())]);
    let warning = "unknown variable 'HECATE_CLUSTER_PERS'; did you mean HECATE_CLUSTER_PEERS?";
    assert_eq!(host.loaded().warnings, [warning]);
    assert_eq!(host.check().warnings, [warning]);
}

#[test]
fn variables_of_other_programs_cause_no_warning() {
    let found = |names: &[&str]| settings::misspelled(names.iter().map(|name| ((*name).into(), "x".into())));
    let known: Vec<&str> = SETTINGS.iter().flat_map(|setting| setting.env).copied().collect();
    assert_eq!(found(&known), []);
    let others = [
        "HECATE_CRASHES",
        "HECATE_DAEMON_BIN",
        "HECATE_DATA_DIR",
        "HECATE_DEPLOY_TOOLS",
        "HECATE_ERL",
        "HECATE_LOG_LEVEL",
        "HECATE_NODE",
        "HECATE_PEER",
        "HECATE_PORT",
        "HECATE_SIEGE",
        "HECATE_SUITES_DAEMON",
        "HECATE_SUITES_MODE",
        "HECATE_TRADERD_HOME",
        "HECATE_USER",
        "HECATE_",
        "HOSTNAME",
        "ERL_EPMD_PORTS",
    ];
    assert_eq!(found(&others), []);
    let long = format!("HECATE_{}", "X".repeat(100_000));
    assert_eq!(found(&[&long]), []);
    assert_eq!(settings::misspelled([("HECATE_HOMES".into(), "".into())]), [], "an empty one counts as unset");
}

#[test]
fn only_the_first_misspelled_variables_are_reported() {
    let names = (0..=limits::MISSPELLED_VARIABLES).map(|number| (format!("HECATE_CONFIG{number}").into(), "x".into()));
    assert_eq!(settings::misspelled(names).len(), limits::MISSPELLED_VARIABLES);
}
