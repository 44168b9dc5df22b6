//! Reads the configuration: flags take precedence over the environment, the file and the defaults.
//!
//! Opens no socket, and creates no file except a missing cookie file. [`settings`] lists each
//! setting once. Its names are those that Hecate and `erl` already use.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub mod accounts;
mod check;
mod cookie;
mod error;
mod fields;
pub mod settings;
mod source;
mod sys_config;
mod value;

pub use check::{Checked, Row};
pub use cookie::CookieFileError;
pub use error::{Error, SyntaxError};
pub use fields::CookiePlace;
pub use settings::{Environment, Flags, Places};
pub use source::Source;

use beam::cookie::Cookie;
use beam::name::NodeName;

use crate::layout::Home;
use crate::log::Format;
use crate::{limits, similar};
use beam::name::NamePattern;
use settings::SETTINGS;
use sys_config::SysConfig;
use value::Given;

/// The default short name of a daemon's node.
pub const DEFAULT_NODE: &str = "hecate";

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The paths of home and the socket.
    pub locations: Locations,
    /// The name of our node.
    pub node: NodeName,
    /// Whether the name was configured. Such a name is never replaced if it is taken.
    pub node_explicit: bool,
    /// The cookie of the cluster.
    pub cookie: Cookie,
    /// Nodes to connect to.
    pub peers: Vec<NodeName>,
    /// A DNS name whose addresses are hosts to connect to.
    pub cluster_dns: Option<String>,
    /// Which names in this host's EPMD to connect to.
    pub epmd_names: Vec<NamePattern>,
    /// The scopes of pg to join, at least one.
    pub pg_scopes: Vec<String>,
    /// The address of the distribution port.
    pub listen: IpAddr,
    /// The distribution port; none means that the system chooses.
    pub dist_port: Option<u16>,
    /// The port of EPMD.
    pub epmd_port: u16,
    /// The addresses, besides loopback, of an EPMD that we start or serve. If empty, the defaults.
    pub epmd_addresses: Vec<IpAddr>,
    /// Whether our node is hidden.
    pub hidden: bool,
    /// Whether to ask new peers to connect to each other.
    pub introduce_peers: bool,
    /// Time without data after which a peer is disconnected.
    pub net_ticktime: Duration,
    /// The memory limit for all peers together, in bytes.
    pub peer_memory: usize,
    /// How long a new plugin may take to show a sign of life.
    pub registration_grace: Duration,
    /// The mode of new directories.
    pub dir_mode: u32,
    /// The mode of the socket.
    pub socket_mode: u32,
    /// The group of new directories and the socket.
    pub group: Option<u32>,
    /// Users who may call the API, besides our own user and root.
    pub allowed_uids: Vec<u32>,
    /// The log filter, in the syntax of `tracing_subscriber::filter::Targets`.
    pub log: String,
    /// The format of the log.
    pub log_format: Format,
}

/// The paths of home and the socket, absolute and in UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The home of all Hecate daemons, which contains our namespace.
    pub home: Home,
    /// The API socket.
    pub socket: PathBuf,
}

/// A configuration with its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings for the log, which do not prevent a start.
    pub warnings: Vec<String>,
}

/// Reads the configuration. If no cookie is configured and no cookie file exists, creates one.
///
/// # Errors
/// The first [`Error`].
pub fn load(flags: &Flags, environment: &Environment) -> Result<Loaded, Error> {
    let places = Places::find(flags, environment)?;
    let mut warnings = unknown_keys(&places.file);
    warnings.extend(misspelled_variables(environment));
    warnings.extend(places.unused_data_dir()?);
    warnings.extend(places.dns_for_short_name()?);
    let locations = places.locations()?;
    let (node, node_explicit) = places.node()?;
    let config = Config {
        locations,
        node,
        node_explicit,
        peers: places.peers()?,
        cluster_dns: places.cluster_dns()?,
        epmd_names: places.epmd_names()?,
        pg_scopes: places.pg_scopes()?,
        listen: places.listen()?,
        dist_port: places.dist_port()?,
        epmd_port: places.epmd_port()?,
        epmd_addresses: places.epmd_addresses()?,
        hidden: places.hidden()?,
        introduce_peers: places.introduce_peers()?,
        net_ticktime: places.net_ticktime()?,
        peer_memory: places.peer_memory()?,
        registration_grace: places.registration_grace()?,
        dir_mode: places.dir_mode()?,
        socket_mode: places.socket_mode()?,
        group: places.group()?,
        allowed_uids: places.allowed_uids()?,
        log: places.log()?,
        log_format: places.log_format()?,
        // Last, because it may create a file, which an invalid configuration must not do.
        cookie: places.cookie()?,
    };
    Ok(Loaded { config, warnings })
}

/// Reads only the path of the socket, for clients of the API.
///
/// # Errors
/// See [`Error`].
pub fn socket_path(flags: &Flags, environment: &Environment) -> Result<PathBuf, Error> {
    Places::find(flags, environment)?.socket()
}

// ---- The file -------------------------------------------------------------------------------

impl<'a> Places<'a> {
    /// Returns the sources of settings, after reading the file.
    ///
    /// # Errors
    /// The configured file cannot be read or is not a valid `sys.config`.
    pub fn find(flags: &'a Flags, environment: &'a Environment) -> Result<Self, Error> {
        let places = Places { flags, environment, file: SysConfig::default() };
        let file = places.get(&settings::CONFIG)?.map(|given| read_file(&given)).transpose()?;
        Ok(Self { file: file.unwrap_or_default(), ..places })
    }

    /// Returns the path of the file, if one is configured.
    fn file_path(&self) -> Result<Option<PathBuf>, Error> {
        let named = self.get(&settings::CONFIG)?;
        named.map(|given| Ok(PathBuf::from(given.text("the path of a file")?))).transpose()
    }
}

fn read_file(named: &Given) -> Result<SysConfig, Error> {
    let path = PathBuf::from(named.text("the path of a file")?);
    let most = u64::try_from(limits::SYS_CONFIG).unwrap_or(u64::MAX);
    let refused = |error| Error::File { source_of_value: named.source().clone(), path: path.clone(), error };
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes)).map_err(refused)?;
    if bytes.len() > limits::SYS_CONFIG {
        return Err(Error::FileTooLarge(path));
    }
    let text = String::from_utf8(bytes).map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let known = |key: &str| keys().any(|known| known == key);
    SysConfig::parse(&path, &text, known).map_err(|error| Error::Syntax { path, error })
}

fn keys() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter_map(|setting| setting.key)
}

fn unknown_keys(file: &SysConfig) -> Vec<String> {
    let warning = |(key, source): (&str, Source)| {
        let advice = similar::closest(key, keys(), 3).map(|known| format!("; did you mean `{known}`?"));
        format!("{source}: `{key}` is not a setting of hecate and is ignored{}", advice.unwrap_or_default())
    };
    file.unknown().map(warning).collect()
}

fn misspelled_variables(environment: &Environment) -> impl Iterator<Item = String> {
    let variables = environment.misspelled.iter();
    variables.map(|(name, known)| format!("unknown variable '{name}'; did you mean {known}?"))
}

#[cfg(test)]
mod tests;
