//! Why something below home could not be made, opened or written.

use std::io;
use std::path::PathBuf;

/// Why a directory could not be made or opened. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A symbolic link on the way.
    #[error("{path} is a symbolic link, and none is followed below home: put a directory there", path = .0.display())]
    SymbolicLink(PathBuf),
    /// Something else than a directory.
    #[error("{path} is not a directory: move it away, a directory belongs there", path = .0.display())]
    NotADirectory(PathBuf),
    /// The system does not let us.
    #[error(
        "permission denied for {path}: we are uid {uid}, while {parent} belongs to uid {owner} with mode {mode:04o}; \
         give it to uid {uid}, or run as its owner", path = path.display(), parent = parent.display()
    )]
    Permission {
        /// What was wanted.
        path: PathBuf,
        /// Our own effective user.
        uid: u32,
        /// The directory that forbids it.
        parent: PathBuf,
        /// Owner of `parent`.
        owner: u32,
        /// Permission bits of `parent`.
        mode: u32,
    },
    /// A namespace that was set aside has lost its name to another.
    #[error("{path} was made anew while its data was set aside, which is kept in {kept}: move back what is wanted of it, and \
             remove the rest", path = path.display(), kept = kept.display())]
    Kept {
        /// The namespace.
        path: PathBuf,
        /// Where the data is.
        kept: PathBuf,
    },
    /// Anything else the system says.
    #[error("cannot {doing} {path}: {source}; {advice}", path = path.display(), advice = advice(source))]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a home is of no use to plugins, though it is to us.
#[derive(Debug, thiserror::Error)]
pub enum SiblingError {
    /// No directory can be made there.
    #[error("no new plugin can be given a namespace: {0}")]
    Home(#[from] LayoutError),
    /// What is made there may be seen by nobody.
    #[error(
        "{own} is mounted by itself: the namespaces of plugins are made in {home}, on another mount, where plugins may \
         not see them; mount all of {home}", own = own.display(), home = home.display()
    )]
    Apart {
        /// Our namespace.
        own: PathBuf,
        /// Home.
        home: PathBuf,
    },
}

/// What to do about an error of the system.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its disk",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another home",
        io::ErrorKind::PermissionDenied => "give it to the user that we run as, or choose another home",
        io::ErrorKind::Unsupported => {
            "openat2(2) is missing: it takes Linux 5.6, and no filter of system calls that hides it, as systemd's RestrictSUIDSGID= does"
        }
        _ => "see that its disk is sound and all that leads there is as it should be, or choose another home",
    }
}
