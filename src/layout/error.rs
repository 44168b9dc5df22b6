//! The errors of creating and opening files below home.

use std::io;
use std::path::PathBuf;

/// Why a directory could not be created or opened. The message includes what to do.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The path, or a part of it, is a symbolic link.
    #[error("{path} is a symbolic link, which is not followed below home; replace it with a directory", path = .0.display())]
    SymbolicLink(PathBuf),
    /// The path is not a directory.
    #[error("{path} is not a directory; move it away, so that the daemon can create a directory there", path = .0.display())]
    NotADirectory(PathBuf),
    /// The process does not have the permission.
    #[error(
        "permission denied for {path}: the daemon runs as uid {uid}, but {parent} belongs to uid {owner} with mode \
         {mode:04o}; change its owner to uid {uid}, or run the daemon as its owner",
        path = path.display(), parent = parent.display()
    )]
    Permission {
        /// The path that could not be accessed.
        path: PathBuf,
        /// The effective user of this process.
        uid: u32,
        /// The directory that denies the access.
        parent: PathBuf,
        /// The owner of `parent`.
        owner: u32,
        /// The permission bits of `parent`.
        mode: u32,
    },
    /// A namespace that was set aside could not be put back, because another one was created
    /// meanwhile.
    #[error("{path} was created again while its data was set aside; the data is in {kept}: move back what you need, and remove \
             the rest", path = path.display(), kept = kept.display())]
    Kept {
        /// The path of the namespace.
        path: PathBuf,
        /// The path of the data.
        kept: PathBuf,
    },
    /// A system call failed for another reason.
    #[error("cannot {doing} {path}: {source}; {advice}", path = path.display(), advice = advice(source))]
    Io {
        /// What was attempted, as a verb.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// Why plugins cannot use a home that the daemon itself can use.
#[derive(Debug, thiserror::Error)]
pub enum SiblingError {
    /// No directories can be created in home.
    #[error("cannot create the namespaces of new plugins: {0}")]
    Home(#[from] LayoutError),
    /// The daemon's namespace is a mount of its own, so plugins may not see directories in home.
    #[error(
        "only {own} is mounted, and the namespaces of plugins are created in {home}, where plugins may not see them; \
         mount {home} instead", own = own.display(), home = home.display()
    )]
    Apart {
        /// The daemon's own namespace.
        own: PathBuf,
        /// Home.
        home: PathBuf,
    },
}

/// Returns what to do about an error of the system.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space on its disk",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another home",
        io::ErrorKind::PermissionDenied => "change its owner to the user of the daemon, or choose another home",
        io::ErrorKind::Unsupported => {
            "openat2(2) is not available: it needs Linux 5.6, and a filter such as RestrictSUIDSGID= of systemd must not block it"
        }
        _ => "check its disk and its path, or choose another home",
    }
}
