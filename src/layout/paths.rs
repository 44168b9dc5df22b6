//! The paths below home. Pure: maps names to paths, and does not access the disk.
//!
//! Follows the section "Directory Structure" of Hecate's convention.

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
/// The socket of a plugin in `sockets/`.
pub(super) const API_SOCK: &str = "api.sock";

/// The root of all namespaces, and the daemon's own namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    own: PathBuf,
}

/// Why a path cannot be home or the daemon's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// The path is relative. The API returns paths, and clients have other working directories.
    #[error("{0} is not an absolute path")]
    NotAbsolute(PathBuf),
    /// The path is not text. The API returns paths in JSON.
    #[error("{0:?} is not valid UTF-8; choose another directory")]
    NotText(PathBuf),
    /// A `data_dir` has no name, such as `/` or a path that ends in `..`.
    #[error("{0} cannot be the data directory; set it to a directory below home, such as `~/.hecate/hecate-daemon`")]
    NoName(PathBuf),
    /// A `data_dir` has the name of a plugin.
    #[error("{path} cannot be the data directory, because a plugin may register the name `{name}`")]
    PluginName {
        /// The data directory.
        path: PathBuf,
        /// Its last part.
        name: PluginName,
    },
}

/// A socket path that is too long for the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the socket path {path} has {bytes} bytes, which exceeds the limit of {max}; choose a shorter name or home",
    path = path.display(), max = limits::SUN_PATH
)]
pub struct SocketPathTooLong {
    /// The path.
    pub path: PathBuf,
    /// The length of the path.
    pub bytes: usize,
}

impl Home {
    /// Creates a home at `root`, with the daemon's own namespace in `hecate-daemon/`.
    ///
    /// # Errors
    /// `root` is relative or not UTF-8.
    pub fn new(root: PathBuf) -> Result<Self, HomeError> {
        check(&root)?;
        let own = root.join(PRIMARY);
        Ok(Self { root, own })
    }

    /// Creates a home from the daemon's own namespace, the `data_dir` of the configuration. Home is
    /// its parent.
    ///
    /// # Errors
    /// `data_dir` is relative, is not UTF-8, has no parent, or has the name of a plugin.
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

    /// Returns the root of all namespaces.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the daemon's own namespace.
    #[must_use]
    pub fn own(&self) -> Namespace {
        Namespace { base: self.own.clone() }
    }

    /// Returns the namespace of a plugin.
    #[must_use]
    pub fn namespace(&self, name: &PluginName) -> Namespace {
        Namespace { base: self.root.join(name.as_str()) }
    }

    /// Returns the directory name of the daemon's own namespace.
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

/// The directory of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    base: PathBuf,
}

impl Namespace {
    /// Returns the directory itself.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Returns the directory for SQLite read models.
    #[must_use]
    pub fn sqlite(&self) -> PathBuf {
        self.base.join(SQLITE)
    }

    /// Returns the directory for event stores.
    #[must_use]
    pub fn reckon_db(&self) -> PathBuf {
        self.base.join(RECKON_DB)
    }

    /// Returns the directory for Unix sockets.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.base.join(SOCKETS)
    }

    /// Returns the directory for the pid and state files.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.base.join(RUN)
    }

    /// Returns the directory for the sockets of connectors.
    #[must_use]
    pub fn connectors(&self) -> PathBuf {
        self.base.join(CONNECTORS)
    }

    /// Returns the path of the daemon's API socket.
    #[must_use]
    pub fn api_sock(&self) -> PathBuf {
        self.sockets().join(API_SOCK)
    }

    /// Checks that [`Self::api_sock`] is short enough to bind a socket there.
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
    fn paths_follow_the_convention() {
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
    fn a_path_that_cannot_be_home_is_refused() {
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
