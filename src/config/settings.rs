//! Lists the settings with their flags, environment variables and keys in `sys.config`, and finds
//! their values. Flags take precedence over the environment, and the environment over the file.
//!
//! Values are not interpreted here: `fields` reads each setting with its default, and `value` reads
//! the types.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::Error;
use super::source::Source;
use super::sys_config::SysConfig;
use super::value::{Given, Value};
use crate::{limits, similar};

/// A setting and its possible sources.
#[derive(Debug)]
pub struct Setting {
    /// The flag without its dashes; none for a secret, because other users can read the arguments
    /// of a process.
    pub flag: Option<&'static str>,
    /// The environment variables. Two variables are two names of the same setting.
    pub env: &'static [&'static str],
    /// The key inside `{hecate, [...]}`; none for a setting that is needed to read the file.
    pub key: Option<&'static str>,
    /// The name of the value in `--help`.
    pub value: &'static str,
    /// The meaning and the default, one line in `-h`.
    pub help: &'static str,
    /// More details, for `--help` and `docs/configuration.md`.
    pub details: &'static str,
    /// Whether clients of the API need it too.
    pub for_clients: bool,
    /// Whether the flag alone means `true`.
    pub switch: bool,
}

const PLAIN: Setting = Setting {
    flag: None,
    env: &[],
    key: None,
    value: "VALUE",
    help: "",
    details: "",
    for_clients: false,
    switch: false,
};

/// The file of settings.
pub const CONFIG: Setting = Setting {
    flag: Some("config"),
    env: &["HECATE_CONFIG"],
    value: "FILE",
    help: "File with settings, an Erlang sys.config of [{hecate, [...]}]",
    for_clients: true,
    ..PLAIN
};
/// The home of all components; in the file it is the parent of `data_dir`.
pub const HOME: Setting = Setting {
    flag: Some("home"),
    env: &["HECATE_HOME"],
    key: Some("data_dir"),
    value: "DIR",
    help: "Directory of all Hecate daemons [default: ~/.hecate]",
    details: "In the file, data_dir is the directory hecate-daemon below it",
    for_clients: true,
    ..PLAIN
};
/// The socket of the API.
pub const SOCKET_PATH: Setting = Setting {
    flag: Some("socket-path"),
    env: &["HECATE_SOCKET_PATH"],
    key: Some("socket_path"),
    value: "PATH",
    help: "API socket [default: HOME/hecate-daemon/sockets/api.sock]",
    for_clients: true,
    ..PLAIN
};
/// Our node's name.
pub const NODE_NAME: Setting = Setting {
    flag: Some("node-name"),
    env: &["HECATE_NODE_NAME"],
    key: Some("node_name"),
    value: "NAME[@HOST]",
    help: "Name of the node; long if its host has a dot [default: hecate]",
    ..PLAIN
};
/// Our node's host part, where the name has none.
pub const HOSTNAME: Setting = Setting {
    flag: Some("hostname"),
    env: &["HECATE_HOSTNAME"],
    key: Some("hostname"),
    value: "HOST",
    help: "Host part of the node name [default: the short host name]",
    ..PLAIN
};
/// The cookie.
pub const COOKIE: Setting = Setting { env: &["HECATE_ERLANG_COOKIE", "HECATE_COOKIE"], key: Some("cookie"), ..PLAIN };
/// Nodes to connect to.
pub const CLUSTER_PEERS: Setting = Setting {
    flag: Some("cluster-peers"),
    env: &["HECATE_CLUSTER_PEERS"],
    key: Some("cluster_peers"),
    value: "NODE,...",
    help: "Nodes to connect to; HOST means hecate@HOST",
    ..PLAIN
};
/// A DNS name whose addresses are hosts to connect to.
pub const CLUSTER_DNS: Setting = Setting {
    flag: Some("cluster-dns"),
    env: &["HECATE_CLUSTER_DNS"],
    key: Some("cluster_dns"),
    value: "NAME",
    help: "DNS name whose addresses mean the nodes hecate@ADDRESS",
    details: "Resolves A and AAAA records repeatedly",
    ..PLAIN
};
/// Which names in this host's EPMD to connect to.
pub const EPMD_NAMES: Setting = Setting {
    flag: Some("epmd-names"),
    env: &["HECATE_EPMD_NAMES"],
    key: Some("epmd_names"),
    value: "PATTERN,...",
    help: "Local nodes to connect to, as patterns [default: hecate*]",
    details: "`*` matches any characters",
    ..PLAIN
};
/// The scopes of pg to join.
pub const PG_SCOPES: Setting = Setting {
    flag: Some("pg-scopes"),
    env: &["HECATE_PG_SCOPES"],
    key: Some("pg_scopes"),
    value: "SCOPE,...",
    help: "Scopes of pg to join [default: pg]",
    ..PLAIN
};
/// The address of the distribution port.
pub const LISTEN: Setting = Setting {
    flag: Some("listen"),
    env: &["HECATE_LISTEN"],
    key: Some("listen"),
    value: "ADDRESS",
    help: "Address of the distribution port [default: 0.0.0.0]",
    ..PLAIN
};
/// Whether our node is hidden.
pub const HIDDEN: Setting = Setting {
    flag: Some("hidden"),
    env: &["HECATE_HIDDEN"],
    key: Some("hidden"),
    value: "BOOL",
    help: "Run as a hidden node [default: false]",
    switch: true,
    ..PLAIN
};
/// The mode of new directories.
pub const DIR_MODE: Setting = Setting {
    flag: Some("dir-mode"),
    env: &["HECATE_DIR_MODE"],
    key: Some("dir_mode"),
    value: "OCTAL",
    help: "Mode of new directories [default: 0700]",
    ..PLAIN
};
/// The mode of the socket.
pub const SOCKET_MODE: Setting = Setting {
    flag: Some("socket-mode"),
    env: &["HECATE_SOCKET_MODE"],
    key: Some("socket_mode"),
    value: "OCTAL",
    help: "Mode of the socket [default: 0600]",
    ..PLAIN
};
/// The group of new directories and the socket.
pub const GROUP: Setting = Setting {
    flag: Some("group"),
    env: &["HECATE_GROUP"],
    key: Some("group"),
    value: "GROUP",
    help: "Group of new directories and the socket, by name or number",
    ..PLAIN
};
/// Users who may call the API and run nodes, besides our own user and root.
pub const ALLOWED_UIDS: Setting = Setting {
    flag: Some("allowed-uids"),
    env: &["HECATE_ALLOWED_UIDS"],
    key: Some("allowed_uids"),
    value: "UID,...",
    help: "More users who may call the API and run nodes, by number",
    details: "The user of the daemon and root are always allowed",
    ..PLAIN
};
/// The port of EPMD.
pub const EPMD_PORT: Setting = Setting {
    flag: Some("epmd-port"),
    env: &["ERL_EPMD_PORT"],
    key: Some("epmd_port"),
    value: "PORT",
    help: "Port of EPMD [default: 4369]",
    ..PLAIN
};
/// The addresses of an EPMD that the daemon starts or serves.
pub const EPMD_ADDRESS: Setting = Setting {
    flag: Some("epmd-address"),
    env: &["ERL_EPMD_ADDRESS"],
    key: Some("epmd_address"),
    value: "ADDRESS,...",
    help: "Addresses of an EPMD that the daemon starts [default: any]",
    details: "Always includes loopback. The built-in EPMD defaults to the address of --listen",
    ..PLAIN
};
/// The distribution port.
pub const DIST_PORT: Setting = Setting {
    flag: Some("dist-port"),
    env: &["ERL_DIST_PORT"],
    key: Some("dist_port"),
    value: "PORT",
    help: "Distribution port [default: chosen by the system]",
    ..PLAIN
};
/// Whether to introduce our peers to each other, see [`crate::cluster::peers::introduce`].
pub const INTRODUCE_PEERS: Setting = Setting {
    flag: Some("introduce-peers"),
    env: &["HECATE_INTRODUCE_PEERS"],
    key: Some("introduce_peers"),
    value: "BOOL",
    help: "Ask new peers to connect to each other [default: true]",
    switch: true,
    ..PLAIN
};
/// The tick time of the distribution.
pub const NET_TICKTIME: Setting = Setting {
    flag: Some("net-ticktime"),
    env: &["HECATE_NET_TICKTIME"],
    key: Some("net_ticktime"),
    value: "SECONDS",
    help: "Seconds of silence until a peer is disconnected [default: 60]",
    ..PLAIN
};
/// The memory limit for all peers together.
pub const PEER_MEMORY: Setting = Setting {
    flag: Some("peer-memory"),
    env: &["HECATE_PEER_MEMORY"],
    key: Some("peer_memory"),
    value: "MIB",
    help: "Memory limit for all peers together, in MiB [default: 256]",
    details: "Beyond the limit, the daemon closes the largest connection of the host that holds the most",
    ..PLAIN
};
/// How long a new plugin may take to show a sign of life.
pub const REGISTRATION_GRACE: Setting = Setting {
    flag: Some("registration-grace"),
    env: &["HECATE_REGISTRATION_GRACE"],
    key: Some("registration_grace"),
    value: "SECONDS",
    help: "Seconds for a new plugin to show a sign of life [default: 60]",
    details: "Then a plugin with neither a socket nor a node is stopped",
    ..PLAIN
};
/// The log filter.
pub const LOG: Setting = Setting {
    flag: Some("log"),
    env: &["HECATE_LOG"],
    key: Some("log"),
    value: "FILTER",
    help: "Log filter, such as warn or info,beam=debug [default: info]",
    ..PLAIN
};

/// The format of the log.
pub const LOG_FORMAT: Setting = Setting {
    flag: Some("log-format"),
    env: &["HECATE_LOG_FORMAT"],
    key: Some("log_format"),
    value: "FORMAT",
    help: "Log format, text or json [default: text]",
    ..PLAIN
};

/// All settings, in the order of `--help`.
pub const SETTINGS: &[&Setting] = &[
    &CONFIG,
    &HOME,
    &SOCKET_PATH,
    &NODE_NAME,
    &HOSTNAME,
    &COOKIE,
    &CLUSTER_PEERS,
    &CLUSTER_DNS,
    &EPMD_NAMES,
    &PG_SCOPES,
    &LISTEN,
    &DIST_PORT,
    &EPMD_PORT,
    &EPMD_ADDRESS,
    &HIDDEN,
    &INTRODUCE_PEERS,
    &NET_TICKTIME,
    &PEER_MEMORY,
    &REGISTRATION_GRACE,
    &DIR_MODE,
    &SOCKET_MODE,
    &GROUP,
    &ALLOWED_UIDS,
    &LOG,
    &LOG_FORMAT,
];

/// The prefix of environment variables of Hecate's programs.
const PREFIX: &str = "HECATE_";

/// The flags of the command line, by their names without dashes.
pub type Flags = BTreeMap<&'static str, String>;

/// The environment of the process, which tests can replace.
///
/// Does not implement `Debug`, because it may contain the cookie.
#[derive(Clone, Default)]
pub struct Environment {
    /// The variables of [`SETTINGS`], and `HOME` and `XDG_CONFIG_HOME`.
    pub variables: BTreeMap<String, OsString>,
    /// The host name, from `uname`.
    pub hostname: String,
    /// The home directory of the user's account, for the error if `HOME` is not set.
    pub account_home: Option<PathBuf>,
    /// Variables that are probably misspelled, each with the setting's variable that it resembles.
    /// At most [`limits::MISSPELLED_VARIABLES`].
    pub misspelled: Vec<(String, &'static str)>,
}

impl Environment {
    /// Returns the environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let names = SETTINGS.iter().flat_map(|setting| setting.env.iter());
        let variables = names
            .chain(&["HOME", "XDG_CONFIG_HOME"])
            .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)))
            .collect();
        Self {
            variables,
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            account_home: dirs::home_dir(),
            misspelled: misspelled(std::env::vars_os()),
        }
    }

    /// Returns a variable as text. An empty variable counts as not set, because compose files and
    /// units cannot unset one.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, Error> {
        match self.variables.get(name) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => value.to_str().map(Some).ok_or(Error::NotUtf8(name)),
        }
    }
}

/// Returns the variables that resemble one of a setting, with that one.
pub(super) fn misspelled(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, &'static str)> {
    let unknown = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok().filter(|_| !value.is_empty())?;
        let known = resembled(&name)?;
        (known != name).then_some((name, known))
    };
    variables.into_iter().filter_map(unknown).take(limits::MISSPELLED_VARIABLES).collect()
}

/// Returns the variable of a setting that has nearly this name. Other programs of Hecate have
/// variables too, so only a few differences are allowed.
fn resembled(name: &str) -> Option<&'static str> {
    let own = name.strip_prefix(PREFIX)?;
    let known = variable_names().filter(|known| known.starts_with(PREFIX));
    similar::closest(name, known, (own.len() / 4).clamp(1, 3))
}

fn variable_names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(|setting| setting.env.iter().copied())
}

/// The sources of settings, in order of precedence.
pub struct Places<'a> {
    pub(super) flags: &'a Flags,
    pub(super) environment: &'a Environment,
    pub(super) file: SysConfig,
}

impl Places<'_> {
    /// Returns the value of a setting and its source; none if it is not set.
    pub(super) fn get(&self, setting: &Setting) -> Result<Option<Given>, Error> {
        if let Some(given) = from_flag(self.flags, setting) {
            return Ok(Some(given));
        }
        if let Some(given) = from_environment(self.environment, setting)? {
            return Ok(Some(given));
        }
        Ok(setting.key.and_then(|key| self.file.get(key)))
    }
}

/// Returns the value of the flag of a setting.
fn from_flag(flags: &Flags, setting: &Setting) -> Option<Given> {
    let name = setting.flag?;
    let value = Value::Text(flags.get(name)?.clone());
    Some(Given::new(value, Source::Flag(name)))
}

/// Returns the value of the variables of a setting.
fn from_environment(environment: &Environment, setting: &Setting) -> Result<Option<Given>, Error> {
    let mut found: Option<(&'static str, &str)> = None;
    for name in setting.env {
        let Some(text) = environment.text(name)? else {
            continue;
        };
        match found {
            Some((first, other)) if other != text => return Err(Error::Contradiction(first, name)),
            Some(_) => {}
            None => found = Some((name, text)),
        }
    }
    Ok(found.map(|(name, text)| Given::new(Value::Text(text.to_owned()), Source::Variable(name))))
}
