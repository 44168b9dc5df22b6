//! What the daemon is told: flags over environment over file over default, read into one checked [`Config`].
//!
//! It binds nothing and connects nowhere; the only file it ever makes is a missing cookie. Each setting stands once, in
//! [`settings`]. The names are those that the ecosystem and `erl` use already.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod cookie;
mod error;
pub mod settings;
mod sys_config;
mod value;

pub use cookie::CookieFileError;
pub use error::Error;
pub use settings::{Environment, Flags};
pub use sys_config::SyntaxError;
pub use value::Source;

use crate::cookie::Cookie;
use crate::layout::Home;
use crate::limits;
use crate::log::Format;
use crate::name::NodeName;
use settings::{Places, SETTINGS, Setting};
use sys_config::SysConfig;
use tracing_subscriber::filter::Targets;
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
    /// Whether we ask peers that are apart to connect to each other.
    pub introduce_peers: bool,
    /// Silence after which a peer counts as gone.
    pub net_ticktime: Duration,
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
    let places = places(flags, environment)?;
    let mut warnings = unknown_keys(&places.file);
    warnings.extend(unused_data_dir(&places)?);
    let locations = locations(&places)?;
    let (node, node_explicit) = own_name(&places)?;
    let config = Config {
        locations,
        node,
        node_explicit,
        peers: peers(&places)?,
        cluster_dns: cluster_dns(&places)?,
        pg_scopes: pg_scopes(&places)?,
        listen: read(&places, &settings::LISTEN, address)?.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        dist_port: read(&places, &settings::DIST_PORT, Given::port)?,
        epmd_port: read(&places, &settings::EPMD_PORT, Given::port)?.unwrap_or(4369),
        epmd_addresses: read(&places, &settings::EPMD_ADDRESS, |given| each(given, address))?.unwrap_or_default(),
        hidden: read(&places, &settings::HIDDEN, Given::boolean)?.unwrap_or(false),
        introduce_peers: read(&places, &settings::INTRODUCE_PEERS, Given::boolean)?.unwrap_or(true),
        net_ticktime: seconds(&places, &settings::NET_TICKTIME, 4, 3600)?,
        registration_grace: seconds(&places, &settings::REGISTRATION_GRACE, 1, 3600)?,
        dir_mode: read(&places, &settings::DIR_MODE, |given| given.mode(0o700))?.unwrap_or(0o700),
        socket_mode: read(&places, &settings::SOCKET_MODE, |given| given.mode(0o600))?.unwrap_or(0o600),
        group: read(&places, &settings::GROUP, group)?,
        allowed_uids: read(&places, &settings::ALLOWED_UIDS, |given| each(given, uid))?.unwrap_or_default(),
        log: read(&places, &settings::LOG, log_filter)?.unwrap_or_else(|| "info".to_owned()),
        log_format: read(&places, &settings::LOG_FORMAT, log_format)?.unwrap_or_default(),
        // Last, as it may make a file: nothing is left behind by a configuration that is refused.
        cookie: cookie(&places)?,
    };
    Ok(Loaded { config, warnings })
}

/// Reads only where the socket is, which is all that a client of it needs.
///
/// # Errors
/// See [`Error`].
pub fn socket_path(flags: &Flags, environment: &Environment) -> Result<PathBuf, Error> {
    let places = places(flags, environment)?;
    let tilde = || home_directory(environment);
    match socket_given(&places, &tilde)? {
        Some(socket) => Ok(socket),
        None => Ok(home_of_all(&places, &tilde)?.own().api_sock()),
    }
}

fn read<T>(
    places: &Places<'_>,
    setting: &Setting,
    by_type: impl FnOnce(&Given) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    places.get(setting)?.as_ref().map(by_type).transpose()
}

fn each<T>(given: &Given, by_type: impl Fn(&Given) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    given.list()?.iter().map(by_type).collect()
}

// ---- The file -------------------------------------------------------------------------------

fn places<'a>(flags: &'a Flags, environment: &'a Environment) -> Result<Places<'a>, Error> {
    let named = match settings::from_flag(flags, &settings::CONFIG) {
        Some(given) => Some(given),
        None => settings::from_environment(environment, &settings::CONFIG)?,
    };
    let file = named.map(|given| read_file(&given)).transpose()?.unwrap_or_default();
    Ok(Places { flags, environment, file })
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
        let distance = |known: &&str| edits(key, known);
        let nearest = keys().min_by_key(distance).filter(|known| edits(key, known) <= 3);
        let advice = nearest.map(|known| format!("; did you mean `{known}`?"));
        format!("{source}: `{key}` is no setting of hecate and is ignored{}", advice.unwrap_or_default())
    };
    file.unknown().map(warning).collect()
}

/// How many letters must be added, dropped or changed to make one word of the other.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        for (cell, b) in row.iter_mut().skip(1).zip(to.chars()) {
            let changed = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            left = changed.min(left.saturating_add(1)).min(cell.saturating_add(1));
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index.saturating_add(1);
        }
    }
    row.last().copied().unwrap_or_default()
}

// ---- Places on disk -------------------------------------------------------------------------

/// What `~` stands for.
type Tilde<'a> = &'a dyn Fn() -> Result<PathBuf, Error>;

fn locations(places: &Places<'_>) -> Result<Locations, Error> {
    let tilde = || home_to_write(places.environment);
    let home = home_of_all(places, &tilde)?;
    let socket = socket_given(places, &tilde)?.unwrap_or_else(|| home.own().api_sock());
    Ok(Locations { home, socket })
}

fn home_of_all(places: &Places<'_>, tilde: Tilde<'_>) -> Result<Home, Error> {
    let Some(given) = places.get(&settings::HOME)? else {
        return Ok(Home::new(tilde()?.join(".hecate"))?);
    };
    let path = given.path(tilde)?;
    // In the file it is our own namespace that is named.
    if matches!(given.source(), Source::File { .. }) {
        if path.parent().is_none_or(|home| home == Path::new("/")) {
            return Err(given.refuse("a directory at least two levels below `/`: its parent is the home of all"));
        }
        return Ok(Home::around(path)?);
    }
    if path == Path::new("/") {
        return Err(given.refuse("a directory below `/`"));
    }
    Ok(Home::new(path)?)
}

/// A `data_dir` in the file that says something, but not to us.
fn unused_data_dir(places: &Places<'_>) -> Result<Option<String>, Error> {
    let in_file = settings::HOME.key.and_then(|key| places.file.get(key));
    let (Some(other), Some(given)) = (in_file, places.get(&settings::HOME)?) else {
        return Ok(None);
    };
    let (other, by) = (other.source(), given.source());
    Ok((other != by).then(|| format!("{other}: data_dir is not used, as {by} says where home is")))
}

fn socket_given(places: &Places<'_>, tilde: Tilde<'_>) -> Result<Option<PathBuf>, Error> {
    read(places, &settings::SOCKET_PATH, |given| given.path(tilde))
}

/// `HOME` alone, as everywhere in the ecosystem.
fn home_directory(environment: &Environment) -> Result<PathBuf, Error> {
    let Some(home) = environment.text("HOME")?.map(PathBuf::from) else {
        let account = environment.account_home.as_ref();
        let advice = account.map(|home| format!(" (your account's is {})", home.display()));
        return Err(Error::NoHome { advice: advice.unwrap_or_default() });
    };
    if home == Path::new("/") || !value::plain_absolute(&home) {
        return Err(Error::BadHome(home));
    }
    Ok(home)
}

/// The same, if we can write there: a daemon has to, its clients have not.
fn home_to_write(environment: &Environment) -> Result<PathBuf, Error> {
    let home = home_directory(environment)?;
    // What counts is the directory that we write to; before the first start that is HOME itself.
    let ours = home.join(".hecate");
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let (path, metadata) = match ours.metadata() {
        Err(error) if missing(&error) => (home.clone(), home.metadata()),
        found => (ours, found),
    };
    let metadata = metadata.map_err(|error| match missing(&error) {
        true => Error::BadHome(home.clone()),
        false => Error::HomeUnseen { path: path.clone(), error },
    })?;
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if let Err(errno) = rustix::fs::access(&path, access) {
        let uid = rustix::process::geteuid().as_raw();
        return Err(Error::HomeNotOurs { path, error: errno.into(), owner: metadata.uid(), uid });
    }
    Ok(home)
}

// ---- The cluster ----------------------------------------------------------------------------

fn own_name(places: &Places<'_>) -> Result<(NodeName, bool), Error> {
    let allowed = "`name` or `name@host`, the name of letters, digits, `_` and `-`";
    let host = match read(places, &settings::HOSTNAME, |given| host_part(given).map(str::to_owned))? {
        Some(host) => host,
        // `erl -sname` too takes the host's name up to the first dot.
        None => {
            let name = &places.environment.hostname;
            name.split('.').next().unwrap_or_default().to_owned()
        }
    };
    let Some(given) = places.get(&settings::NODE_NAME)? else {
        let node = NodeName::new(DEFAULT_NODE, &host).map_err(|_| Error::Hostname(host))?;
        return Ok((node, false));
    };
    let text = given.text(allowed)?;
    let node = match text.contains('@') {
        true => NodeName::parse(text),
        false if NodeName::new(DEFAULT_NODE, &host).is_err() => return Err(Error::Hostname(host)),
        false => NodeName::new(text, &host),
    };
    Ok((node.map_err(|_| given.refuse(allowed))?, true))
}

fn host_part(given: &Given) -> Result<&str, Error> {
    const ALLOWED: &str = "a host name";
    let text = given.text(ALLOWED)?;
    NodeName::new(DEFAULT_NODE, text).map_err(|_| given.refuse(ALLOWED))?;
    Ok(text)
}

fn peers(places: &Places<'_>) -> Result<Vec<NodeName>, Error> {
    let peer = |given: &Given| {
        let allowed = "`name@host` or a host name";
        let text = given.text(allowed)?;
        let node = match text.contains('@') {
            true => NodeName::parse(text),
            false => NodeName::new(DEFAULT_NODE, text),
        };
        node.map_err(|_| given.refuse(allowed))
    };
    Ok(read(places, &settings::CLUSTER_PEERS, |given| each(given, peer))?.unwrap_or_default())
}

fn cluster_dns(places: &Places<'_>) -> Result<Option<String>, Error> {
    read(places, &settings::CLUSTER_DNS, |given| host_part(given).map(str::to_owned))
}

/// Each scope once, in the order given.
fn pg_scopes(places: &Places<'_>) -> Result<Vec<String>, Error> {
    let allowed = "names of pg scopes, such as pg, of at most 255 characters each";
    let scope = |given: &Given| match given.text(allowed)? {
        text if text.chars().count() > 255 => Err(given.refuse(allowed)),
        text => Ok(text.to_owned()),
    };
    let Some(given) = places.get(&settings::PG_SCOPES)? else {
        return Ok(vec!["pg".to_owned()]);
    };
    let mut seen = BTreeSet::new();
    let mut scopes = each(&given, scope)?;
    scopes.retain(|scope| seen.insert(scope.clone()));
    if scopes.is_empty() {
        return Err(given.refuse("at least one scope"));
    }
    Ok(scopes)
}

fn cookie(places: &Places<'_>) -> Result<Cookie, Error> {
    if let Some(given) = places.get(&settings::COOKIE)? {
        let source_of_value = given.source().clone();
        // Not `Given::text`, whose refusal would show the value.
        let Some(text) = given.as_text() else {
            return Err(Error::CookieNotText(source_of_value));
        };
        return Cookie::parse(text.as_bytes()).map_err(|error| Error::Cookie { source_of_value, error });
    }
    let home = match places.environment.text("HOME")? {
        Some(_) => Some(home_directory(places.environment)?),
        None => None,
    };
    let config = match places.environment.text("XDG_CONFIG_HOME")? {
        Some(config) => Some(PathBuf::from(config)),
        None => home.as_ref().map(|home| home.join(".config")),
    };
    let random = || {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::from)?;
        Ok(bytes)
    };
    Ok(cookie::read_or_create(home.as_deref(), config.as_deref(), random)?)
}

// ---- Single values --------------------------------------------------------------------------

fn address(given: &Given) -> Result<IpAddr, Error> {
    let text = given.text("an IP address")?;
    text.parse().map_err(|_| given.refuse("an IP address"))
}

fn seconds(places: &Places<'_>, setting: &Setting, least: u64, most: u64) -> Result<Duration, Error> {
    let given = read(places, setting, |given| given.seconds(least, most))?;
    Ok(given.unwrap_or(Duration::from_secs(60)))
}

fn uid(given: &Given) -> Result<u32, Error> {
    // The last number means "no user" to the system.
    let number = given.number(0, u64::from(u32::MAX) - 1)?;
    u32::try_from(number).map_err(|_| given.refuse("a user's number"))
}

/// A group by number, or by its name in `/etc/group`; other sources of groups need the number.
fn group(given: &Given) -> Result<u32, Error> {
    if let Ok(number) = uid(given) {
        return Ok(number);
    }
    let allowed = "a group's number, or its name in /etc/group";
    let name = given.text(allowed)?;
    let most = u64::try_from(limits::GROUP_FILE).unwrap_or(u64::MAX);
    let mut file = Vec::new();
    let read = File::open("/etc/group").and_then(|group| group.take(most).read_to_end(&mut file));
    read.map_err(|error| given.refuse(format!("{allowed}, which cannot be read: {error}")))?;
    gid_of(name, &String::from_utf8_lossy(&file)).ok_or_else(|| given.refuse(allowed))
}

/// The number of a group in the text of `/etc/group`, see group(5).
fn gid_of(name: &str, file: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let gid = fields.nth(1)?;
        found.then(|| gid.parse().ok()).flatten()
    })
}

fn log_filter(given: &Given) -> Result<String, Error> {
    let allowed = "a filter such as warn or info,hecate_daemon::node=debug";
    let text = given.text(allowed)?;
    text.parse::<Targets>().map_err(|_| given.refuse(allowed))?;
    Ok(text.to_owned())
}

fn log_format(given: &Given) -> Result<Format, Error> {
    match given.text("text or json")? {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(given.refuse("text or json")),
    }
}

#[cfg(test)]
mod tests;
