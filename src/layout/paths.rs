//! Where everything lies below home. Pure: names in, paths out; nothing here looks at a disk.
//!
//! Follows the convention's "Directory Structure".

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::limits;
use crate::plugin::{PRIMARY, PluginName};

/// The subdirectories of every namespace.
pub(super) const SUBDIRECTORIES: [&str; 5] = [SQLITE, RECKON_DB, SOCKETS, RUN, CONNECTORS];
pub(super) const SOCKETS: &str = "sockets";
pub(super) const RUN: &str = "run";
const SQLITE: &str = "sqlite";
const RECKON_DB: &str = "reckon-db";
pub(super) const CONNECTORS: &str = "connectors";
/// The well-known socket in `sockets/`.
pub(super) const API_SOCK: &str = "api.sock";

/// The root of all namespaces, and which of them is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    own: PathBuf,
}

/// Why a path cannot be home, or our namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// Clients are given paths, and theirs is another working directory.
    #[error("{0} is not an absolute path: give it from `/` on")]
    NotAbsolute(PathBuf),
    /// Clients are given paths as JSON text.
    #[error("{0:?} is not UTF-8, and clients are given paths as text: choose another directory")]
    NotText(PathBuf),
    /// A `data_dir` with no name of its own, as `/` or one that ends in `..`.
    #[error("{0} cannot be our data directory: name a directory below home, as `~/.hecate/hecate-daemon`")]
    NoName(PathBuf),
    /// A `data_dir` that a plugin could be given as well.
    #[error("{path} cannot be our data directory: `{name}` is a name that a plugin may register")]
    PluginName {
        /// The data directory.
        path: PathBuf,
        /// Its last part.
        name: PluginName,
    },
}

/// A socket path that the kernel would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the socket path {path} has {bytes} bytes, a Unix socket takes at most {max}: choose a shorter name or home",
    path = path.display(), max = limits::SUN_PATH
)]
pub struct SocketPathTooLong {
    /// The path.
    pub path: PathBuf,
    /// Its length.
    pub bytes: usize,
}

impl Home {
    /// Home at `root`, with our namespace at `hecate-daemon/` in it.
    ///
    /// # Errors
    /// `root` is relative or not text.
    pub fn new(root: PathBuf) -> Result<Self, HomeError> {
        check(&root)?;
        let own = root.join(PRIMARY);
        Ok(Self { root, own })
    }

    /// Home around our namespace, the `data_dir` of the configuration.
    ///
    /// # Errors
    /// `data_dir` is relative, not text, has no parent, or is called like a plugin.
    pub fn around(data_dir: PathBuf) -> Result<Self, HomeError> {
        check(&data_dir)?;
        let (Some(root), Some(name)) = (data_dir.parent(), data_dir.file_name()) else {
            return Err(HomeError::NoName(data_dir));
        };
        if let Some(name) = name.to_str().and_then(|name| PluginName::parse(name).ok()) {
            return Err(HomeError::PluginName { path: data_dir, name });
        }
        let root = root.to_owned();
        Ok(Self { root, own: data_dir })
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Our own namespace.
    #[must_use]
    pub fn own(&self) -> Namespace {
        Namespace { base: self.own.clone() }
    }

    /// The namespace of a plugin.
    #[must_use]
    pub fn namespace(&self, name: &PluginName) -> Namespace {
        Namespace { base: self.root.join(name.as_str()) }
    }

    /// The name of our own namespace in the root.
    pub(super) fn own_name(&self) -> &OsStr {
        self.own.file_name().unwrap_or(OsStr::new(PRIMARY))
    }
}

fn check(path: &Path) -> Result<(), HomeError> {
    if !path.is_absolute() {
        return Err(HomeError::NotAbsolute(path.to_owned()));
    }
    if path.to_str().is_none() {
        return Err(HomeError::NotText(path.to_owned()));
    }
    Ok(())
}

/// The directory of one daemon, and what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    base: PathBuf,
}

impl Namespace {
    /// The directory itself.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// SQLite read models.
    #[must_use]
    pub fn sqlite(&self) -> PathBuf {
        self.base.join(SQLITE)
    }

    /// Event stores.
    #[must_use]
    pub fn reckon_db(&self) -> PathBuf {
        self.base.join(RECKON_DB)
    }

    /// Unix sockets.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.base.join(SOCKETS)
    }

    /// The pid and state files.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.base.join(RUN)
    }

    /// Sockets of connectors.
    #[must_use]
    pub fn connectors(&self) -> PathBuf {
        self.base.join(CONNECTORS)
    }

    /// The daemon's well-known socket.
    #[must_use]
    pub fn api_sock(&self) -> PathBuf {
        self.sockets().join(API_SOCK)
    }

    /// Whether a socket can be bound at [`Self::api_sock`] at all.
    ///
    /// # Errors
    /// The path is longer than [`limits::SUN_PATH`].
    pub fn check_api_sock(&self) -> Result<(), SocketPathTooLong> {
        let path = self.api_sock();
        let bytes = path.as_os_str().len();
        if bytes > limits::SUN_PATH {
            return Err(SocketPathTooLong { path, bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::plugin::sample::name;

    #[test]
    fn paths_are_the_conventions() {
        let home = Home::new("/home/user/.hecate".into()).expect("absolute");
        assert_eq!(home.own().base(), Path::new("/home/user/.hecate/hecate-daemon"));
        let trader = home.namespace(&name("hecate-traderd"));
        let table = [
            (trader.base().to_owned(), ""),
            (trader.sqlite(), "/sqlite"),
            (trader.reckon_db(), "/reckon-db"),
            (trader.sockets(), "/sockets"),
            (trader.run(), "/run"),
            (trader.connectors(), "/connectors"),
            (trader.api_sock(), "/sockets/api.sock"),
        ];
        for (path, tail) in table {
            assert_eq!(path.to_str(), Some(format!("/home/user/.hecate/hecate-traderd{tail}").as_str()));
        }
    }

    #[test]
    fn home_is_the_parent_of_the_data_directory() {
        let home = Home::around("/srv/h/primary".into()).expect("absolute");
        assert_eq!(home.root(), Path::new("/srv/h"));
        assert_eq!(home.own().base(), Path::new("/srv/h/primary"));
        assert_eq!(home.own_name(), "primary");
        assert_eq!(Home::around("/srv/h/hecate-daemon".into()), Home::new("/srv/h".into()));
    }

    #[test]
    fn what_cannot_be_home_is_refused() {
        let bytes = PathBuf::from(std::ffi::OsString::from_vec(b"/h\xff".to_vec()));
        assert_eq!(Home::new("h".into()), Err(HomeError::NotAbsolute("h".into())));
        assert_eq!(Home::new(bytes.clone()), Err(HomeError::NotText(bytes)));
        assert_eq!(Home::around("/".into()), Err(HomeError::NoName("/".into())));
        assert_eq!(Home::around("/h/..".into()), Err(HomeError::NoName("/h/..".into())));
        let taken = Home::around("/h/hecate-traderd".into());
        assert!(matches!(taken, Err(HomeError::PluginName { .. })), "{taken:?}");
    }

    #[test]
    fn a_socket_path_has_at_most_107_bytes() {
        let tail = "/hecate-traderd/sockets/api.sock".len();
        let deep = |bytes: usize| Home::new(format!("/{}", "h".repeat(bytes - tail - 1)).into()).expect("absolute");
        let longest = deep(limits::SUN_PATH).namespace(&name("hecate-traderd"));
        assert_eq!(longest.api_sock().as_os_str().len(), 107);
        assert_eq!(longest.check_api_sock(), Ok(()));
        let longer = deep(limits::SUN_PATH + 1).namespace(&name("hecate-traderd"));
        let refused = longer.check_api_sock().expect_err("108 bytes");
        assert_eq!(refused.bytes, 108);
        assert!(refused.to_string().contains("108 bytes"), "{refused}");
    }
}
