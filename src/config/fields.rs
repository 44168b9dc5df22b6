//! Reads each setting from its sources, checks it and applies its default.
//!
//! [`super::load`], `--check-config` and `doctor` share these functions, so they cannot disagree.
//! Only `cookie` creates a file.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use beam::cookie::Cookie;
use beam::name::NodeName;
use tracing_subscriber::filter::Targets;

use super::accounts;
use super::cookie::{self, CookieFileError};
use super::settings::{self, Places, Setting};
use super::value::{self, Given};
use super::{DEFAULT_NODE, Environment, Error, Locations, Source};
use crate::layout::Home;
use crate::log::Format;
use beam::name::NamePattern;

/// The default pattern of names to connect to.
const OUR_NAMES: &str = "hecate*";

/// Where the cookie comes from. Does not contain the cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CookiePlace {
    /// A setting.
    Given(Source),
    /// A cookie file.
    File(PathBuf),
    /// This cookie file, which does not exist yet. It is created at the start.
    ToBeCreated(PathBuf),
}

/// Returns the directory that `~` means.
type Tilde<'a> = &'a dyn Fn() -> Result<PathBuf, Error>;

impl Places<'_> {
    fn read<T>(&self, setting: &Setting, by_type: impl FnOnce(&Given) -> Result<T, Error>) -> Result<Option<T>, Error> {
        self.get(setting)?.as_ref().map(by_type).transpose()
    }

    // ---- Places on disk -------------------------------------------------------------------------

    /// Returns the paths of home and the socket, for a daemon, which must be able to write in home.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn locations(&self) -> Result<Locations, Error> {
        let tilde = || home_to_write(self.environment);
        let home = self.home_of_all(&tilde)?;
        let socket = self.socket_given(&tilde)?.unwrap_or_else(|| home.own().api_sock());
        Ok(Locations { home, socket })
    }

    /// Returns the path of the socket, for a client.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn socket(&self) -> Result<PathBuf, Error> {
        let tilde = || home_directory(self.environment);
        match self.socket_given(&tilde)? {
            Some(socket) => Ok(socket),
            None => Ok(self.home_of_all(&tilde)?.own().api_sock()),
        }
    }

    fn home_of_all(&self, tilde: Tilde<'_>) -> Result<Home, Error> {
        let Some(given) = self.get(&settings::HOME)? else {
            return Ok(Home::new(tilde()?.join(".hecate"))?);
        };
        let path = given.path(tilde)?;
        // The file contains the path of our namespace.
        if matches!(given.source(), Source::File { .. }) {
            if path.parent().is_none_or(|home| home == Path::new("/")) {
                return Err(
                    given.refuse("a directory at least two levels below `/`: its parent is the home of all daemons")
                );
            }
            return Ok(Home::around(path)?);
        }
        if path == Path::new("/") {
            return Err(given.refuse("a directory below `/`"));
        }
        Ok(Home::new(path)?)
    }

    /// Returns a warning if `data_dir` in the file has no effect.
    pub(super) fn unused_data_dir(&self) -> Result<Option<String>, Error> {
        let in_file = settings::HOME.key.and_then(|key| self.file.get(key));
        let (Some(other), Some(given)) = (in_file, self.get(&settings::HOME)?) else {
            return Ok(None);
        };
        let (other, by) = (other.source(), given.source());
        Ok((other != by).then(|| format!("{other}: data_dir has no effect, because {by} sets home")))
    }

    fn socket_given(&self, tilde: Tilde<'_>) -> Result<Option<PathBuf>, Error> {
        self.read(&settings::SOCKET_PATH, |given| given.path(tilde))
    }

    // ---- The cluster ----------------------------------------------------------------------------

    /// Returns the name of our node, and whether it was configured.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn node(&self) -> Result<(NodeName, bool), Error> {
        let allowed = "`name` or `name@host`, the name of letters, digits, `_` and `-`";
        let host = self.hostname()?;
        let Some(given) = self.get(&settings::NODE_NAME)? else {
            let node = NodeName::new(DEFAULT_NODE, &host).map_err(|_| Error::Hostname(host))?;
            return Ok((node, false));
        };
        let text = given.text(allowed)?;
        let node = match NodeName::is_full(text) {
            true => NodeName::parse(text),
            false if NodeName::new(DEFAULT_NODE, &host).is_err() => return Err(Error::Hostname(host)),
            false => NodeName::new(text, &host),
        };
        Ok((node.map_err(|_| given.refuse(allowed))?, true))
    }

    pub(super) fn hostname(&self) -> Result<String, Error> {
        Ok(match self.read(&settings::HOSTNAME, |given| host_part(given).map(str::to_owned))? {
            Some(host) => host,
            // Like `erl -sname`, uses the host name up to the first dot.
            None => self.environment.hostname.split('.').next().unwrap_or_default().to_owned(),
        })
    }

    /// Returns the nodes to connect to.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn peers(&self) -> Result<Vec<NodeName>, Error> {
        let peer = |given: &Given| {
            let allowed = "`name@host` or a host name";
            let text = given.text(allowed)?;
            let node = match NodeName::is_full(text) {
                true => NodeName::parse(text),
                false => NodeName::new(DEFAULT_NODE, text),
            };
            // A host with a colon must be an IPv6 address. A port is not allowed, because EPMD
            // returns it.
            let resolves = |node: &NodeName| !node.host().contains(':') || node.host().parse::<Ipv6Addr>().is_ok();
            node.ok().filter(resolves).ok_or_else(|| given.refuse(allowed))
        };
        Ok(self.read(&settings::CLUSTER_PEERS, |given| each(given, peer))?.unwrap_or_default())
    }

    /// Returns the DNS name whose addresses are hosts to connect to.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn cluster_dns(&self) -> Result<Option<String>, Error> {
        self.read(&settings::CLUSTER_DNS, |given| host_part(given).map(str::to_owned))
    }

    /// Returns a warning if DNS is used with a short node name: nodes found by DNS are named by
    /// their addresses, which are long names.
    pub(super) fn dns_for_short_name(&self) -> Result<Option<String>, Error> {
        let ((node, _), Some(given)) = (self.node()?, self.get(&settings::CLUSTER_DNS)?) else {
            return Ok(None);
        };
        let by = given.source();
        Ok((!node.is_long()).then(|| {
            format!(
                "{by} finds nodes that are named by their addresses, but {node} has a short name and cannot connect \
                 to them: set HECATE_HOSTNAME to the address of this host"
            )
        }))
    }

    pub(super) fn epmd_names(&self) -> Result<Vec<NamePattern>, Error> {
        let pattern = |given: &Given| {
            let allowed = "patterns of node names, of letters, digits, `_` and `-`, with `*` for any characters";
            NamePattern::parse(given.text(allowed)?).ok_or_else(|| given.refuse(allowed))
        };
        let given = self.read(&settings::EPMD_NAMES, |given| each(given, pattern))?;
        Ok(given.unwrap_or_else(|| NamePattern::parse(OUR_NAMES).into_iter().collect()))
    }

    /// Returns the scopes of process groups without duplicates, in the configured order.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn pg_scopes(&self) -> Result<Vec<String>, Error> {
        let allowed = "names of pg scopes, such as pg, of at most 255 characters each";
        let scope = |given: &Given| match given.text(allowed)? {
            text if text.chars().count() > 255 => Err(given.refuse(allowed)),
            text => Ok(text.to_owned()),
        };
        let Some(given) = self.get(&settings::PG_SCOPES)? else {
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

    /// Returns the address of the distribution port.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn listen(&self) -> Result<IpAddr, Error> {
        Ok(self.read(&settings::LISTEN, address)?.unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
    }

    /// Returns the distribution port; none if the system chooses it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn dist_port(&self) -> Result<Option<u16>, Error> {
        self.read(&settings::DIST_PORT, Given::port)
    }

    /// Returns the port of EPMD.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn epmd_port(&self) -> Result<u16, Error> {
        Ok(self.read(&settings::EPMD_PORT, Given::port)?.unwrap_or(4369))
    }

    pub(super) fn epmd_addresses(&self) -> Result<Vec<IpAddr>, Error> {
        Ok(self.read(&settings::EPMD_ADDRESS, |given| each(given, address))?.unwrap_or_default())
    }

    pub(super) fn hidden(&self) -> Result<bool, Error> {
        Ok(self.read(&settings::HIDDEN, Given::boolean)?.unwrap_or(false))
    }

    pub(super) fn introduce_peers(&self) -> Result<bool, Error> {
        Ok(self.read(&settings::INTRODUCE_PEERS, Given::boolean)?.unwrap_or(true))
    }

    pub(super) fn net_ticktime(&self) -> Result<Duration, Error> {
        self.minute(&settings::NET_TICKTIME, 4)
    }

    /// Returns the memory limit for all peers together, in bytes.
    pub(super) fn peer_memory(&self) -> Result<usize, Error> {
        let given =
            self.read(&settings::PEER_MEMORY, |given| given.number(beam::limits::PEER_BYTES_LEAST, 1024 * 1024))?;
        Ok(given.and_then(|mebibytes| usize::try_from(mebibytes << 20).ok()).unwrap_or(beam::limits::PEER_BYTES))
    }

    pub(super) fn registration_grace(&self) -> Result<Duration, Error> {
        self.minute(&settings::REGISTRATION_GRACE, 1)
    }

    /// Reads a time that is 60 s by default and 1 h at most.
    fn minute(&self, setting: &Setting, least: u64) -> Result<Duration, Error> {
        let given = self.read(setting, |given| given.seconds(least, 3600))?;
        Ok(given.unwrap_or(Duration::from_secs(60)))
    }

    // ---- Access --------------------------------------------------------------------------------

    /// Returns the mode of new directories.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn dir_mode(&self) -> Result<u32, Error> {
        Ok(self.read(&settings::DIR_MODE, |given| given.mode(0o700))?.unwrap_or(0o700))
    }

    pub(super) fn socket_mode(&self) -> Result<u32, Error> {
        Ok(self.read(&settings::SOCKET_MODE, |given| given.mode(0o600))?.unwrap_or(0o600))
    }

    /// Returns the group of new directories and the socket.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn group(&self) -> Result<Option<u32>, Error> {
        self.read(&settings::GROUP, group)
    }

    /// Returns the users who may call the API and run nodes, besides our own user and root.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn allowed_uids(&self) -> Result<Vec<u32>, Error> {
        Ok(self.read(&settings::ALLOWED_UIDS, |given| each(given, uid))?.unwrap_or_default())
    }

    pub(super) fn log(&self) -> Result<String, Error> {
        Ok(self.read(&settings::LOG, log_filter)?.unwrap_or_else(|| "info".to_owned()))
    }

    pub(super) fn log_format(&self) -> Result<Format, Error> {
        Ok(self.read(&settings::LOG_FORMAT, log_format)?.unwrap_or_default())
    }

    // ---- The cookie -----------------------------------------------------------------------------

    /// Returns the cookie. Creates a cookie file if there is no cookie.
    pub(super) fn cookie(&self) -> Result<Cookie, Error> {
        if let Some(cookie) = self.existing_cookie()? {
            return Ok(cookie);
        }
        let files = self.cookie_files()?;
        let random = || {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(io::Error::from)?;
            Ok(bytes)
        };
        Ok(cookie::create_first(&files, random)?)
    }

    /// Returns the cookie, if there is one. Does not create a file.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn existing_cookie(&self) -> Result<Option<Cookie>, Error> {
        if let Some((cookie, _)) = self.cookie_given()? {
            return Ok(Some(cookie));
        }
        Ok(cookie::read_first(&self.cookie_files()?)?.map(|(cookie, _)| cookie))
    }

    /// Returns where the cookie comes from, after checking it. Does not create a file.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn cookie_place(&self) -> Result<CookiePlace, Error> {
        if let Some((_, source)) = self.cookie_given()? {
            return Ok(CookiePlace::Given(source));
        }
        let files = self.cookie_files()?;
        if let Some((_, path)) = cookie::read_first(&files)? {
            return Ok(CookiePlace::File(path));
        }
        let first = files.into_iter().next().ok_or(CookieFileError::NoDirectory)?;
        Ok(CookiePlace::ToBeCreated(first))
    }

    fn cookie_given(&self) -> Result<Option<(Cookie, Source)>, Error> {
        let Some(given) = self.get(&settings::COOKIE)? else {
            return Ok(None);
        };
        let source = given.source().clone();
        // Not `Given::text`, whose error would show the value.
        let Some(text) = given.as_text() else {
            return Err(Error::CookieNotText(source));
        };
        match Cookie::parse(text.as_bytes()) {
            Ok(cookie) => Ok(Some((cookie, source))),
            Err(error) => Err(Error::Cookie { source_of_value: source, error }),
        }
    }

    fn cookie_files(&self) -> Result<Vec<PathBuf>, Error> {
        let home = match self.environment.text("HOME")? {
            Some(_) => Some(home_directory(self.environment)?),
            None => None,
        };
        let config = match self.environment.text("XDG_CONFIG_HOME")? {
            Some(config) => Some(PathBuf::from(config)),
            None => home.as_ref().map(|home| home.join(".config")),
        };
        Ok(cookie::files(home.as_deref(), config.as_deref()))
    }
}

// ---- HOME -----------------------------------------------------------------------------------

/// Returns `HOME`. As in all of Hecate, the home of the account is not used.
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

/// Returns `HOME` if it is writable, which only a daemon needs.
fn home_to_write(environment: &Environment) -> Result<PathBuf, Error> {
    let home = home_directory(environment)?;
    // Before the first start, `.hecate` does not exist, so HOME must be writable.
    let ours = home.join(".hecate");
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let (path, metadata) = match ours.metadata() {
        Err(error) if missing(&error) => (home.clone(), home.metadata()),
        found => (ours, found),
    };
    let metadata = metadata.map_err(|error| match missing(&error) {
        true => Error::BadHome(home.clone()),
        false => Error::HomeUnreadable { path: path.clone(), error },
    })?;
    if !metadata.is_dir() {
        return Err(Error::HomeNotADirectory(path));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if let Err(errno) = rustix::fs::access(&path, access) {
        let uid = rustix::process::geteuid().as_raw();
        return Err(Error::HomeNotWritable { path, error: errno.into(), owner: metadata.uid(), uid });
    }
    Ok(home)
}

// ---- Single values --------------------------------------------------------------------------

fn each<T>(given: &Given, by_type: impl Fn(&Given) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    given.list()?.iter().map(by_type).collect()
}

fn host_part(given: &Given) -> Result<&str, Error> {
    const ALLOWED: &str = "a host name";
    let text = given.text(ALLOWED)?;
    NodeName::new(DEFAULT_NODE, text).map_err(|_| given.refuse(ALLOWED))?;
    Ok(text)
}

fn address(given: &Given) -> Result<IpAddr, Error> {
    let text = given.text("an IP address")?;
    text.parse().map_err(|_| given.refuse("an IP address"))
}

fn uid(given: &Given) -> Result<u32, Error> {
    // For system calls, the largest number means "no user".
    let number = given.number(0, u64::from(u32::MAX) - 1)?;
    u32::try_from(number).map_err(|_| given.refuse("the number of a user"))
}

/// Reads a group: its number, or its name in `/etc/group`.
fn group(given: &Given) -> Result<u32, Error> {
    if let Ok(number) = uid(given) {
        return Ok(number);
    }
    let allowed = "the number of a group, or its name in /etc/group";
    let name = given.text(allowed)?;
    let found = accounts::gid_of(name);
    let found = found.map_err(|error| given.refuse(format!("{allowed}, which cannot be read: {error}")))?;
    found.ok_or_else(|| given.refuse(allowed))
}

fn log_filter(given: &Given) -> Result<String, Error> {
    let allowed = "a filter such as warn or info,beam=debug";
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
