//! What the daemon is told: flags over environment over file over default, read into one checked [`Config`].
//!
//! It binds nothing and connects nowhere; the only file it ever makes is a missing cookie. Each setting stands once, in
//! [`settings`]. The names are those that the ecosystem and `erl` use already.

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
use crate::limits;
use crate::log::Format;
use beam::name::NamePattern;
use settings::SETTINGS;
use sys_config::SysConfig;
use value::Given;

/// The short name of our node and of every other primary daemon, unless it is told otherwise.
pub const DEFAULT_NODE: &str = "hecate";

/// All that the daemon is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where home, our namespace and the socket are.
    pub locations: Locations,
    /// Our node's name.
    pub node: NodeName,
    /// Whether the name was asked for: only then is it an error that it is taken.
    pub node_explicit: bool,
    /// The cluster's secret.
    pub cookie: Cookie,
    /// Nodes to connect to.
    pub peers: Vec<NodeName>,
    /// A DNS name whose addresses are hosts to connect to.
    pub cluster_dns: Option<String>,
    /// Which names in this host's EPMD are connected to.
    pub epmd_names: Vec<NamePattern>,
    /// Scopes of pg to take part in, at least one.
    pub pg_scopes: Vec<String>,
    /// Address of the distribution port.
    pub listen: IpAddr,
    /// The distribution port; none means that the system chooses.
    pub dist_port: Option<u16>,
    /// EPMD's port.
    pub epmd_port: u16,
    /// Addresses that EPMD listens on besides loopback, where we serve it; none means all.
    pub epmd_addresses: Vec<IpAddr>,
    /// Whether our node is hidden.
    pub hidden: bool,
    /// Whether to ask new peers to connect to each other.
    pub introduce_peers: bool,
    /// Silence after which a peer counts as gone.
    pub net_ticktime: Duration,
    /// Limit of the memory for all peers, in bytes.
    pub peer_memory: usize,
    /// How long a registration holds without a sign of life.
    pub registration_grace: Duration,
    /// Mode of directories that we make.
    pub dir_mode: u32,
    /// Mode of the socket.
    pub socket_mode: u32,
    /// Group of directories that we make and of the socket.
    pub group: Option<u32>,
    /// Users who may call the API, besides our own and root.
    pub allowed_uids: Vec<u32>,
    /// What is logged, in the syntax of `tracing_subscriber::filter::Targets`.
    pub log: String,
    /// The form of the log.
    pub log_format: Format,
}

/// Where things are. Every path is absolute and UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The root of all components, and our own namespace in it.
    pub home: Home,
    /// The socket of the API.
    pub socket: PathBuf,
}

/// A configuration, and what is odd about it but no reason to refuse it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Reads the whole configuration. A missing cookie file is made, if a cookie is needed from one.
///
/// # Errors
/// The first thing that is wrong, see [`Error`].
pub fn load(flags: &Flags, environment: &Environment) -> Result<Loaded, Error> {
    let places = Places::find(flags, environment)?;
    let mut warnings = unknown_keys(&places.file);
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
        // Last, as it may make a file: nothing is left behind by a configuration that is refused.
        cookie: places.cookie()?,
    };
    Ok(Loaded { config, warnings })
}

/// Reads only where the socket is, which is all that a client of it needs.
///
/// # Errors
/// See [`Error`].
pub fn socket_path(flags: &Flags, environment: &Environment) -> Result<PathBuf, Error> {
    Places::find(flags, environment)?.socket()
}

// ---- The file -------------------------------------------------------------------------------

impl<'a> Places<'a> {
    /// The three places, with the file read.
    ///
    /// # Errors
    /// A file is named, and can't be read or is no `sys.config`.
    pub fn find(flags: &'a Flags, environment: &'a Environment) -> Result<Self, Error> {
        let places = Places { flags, environment, file: SysConfig::default() };
        let file = places.get(&settings::CONFIG)?.map(|given| read_file(&given)).transpose()?;
        Ok(Self { file: file.unwrap_or_default(), ..places })
    }

    /// The file, if there is one.
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
        let near = keys().map(|known| (strsim::damerau_levenshtein(key, known), known)).min();
        let nearest = near.filter(|(edits, _)| *edits <= 3).map(|(_, known)| known);
        let advice = nearest.map(|known| format!("; did you mean `{known}`?"));
        format!("{source}: `{key}` is no setting of hecate and is ignored{}", advice.unwrap_or_default())
    };
    file.unknown().map(warning).collect()
}

#[cfg(test)]
mod tests;
