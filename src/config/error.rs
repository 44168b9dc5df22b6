//! Errors of the configuration. Each names the source and the allowed values. None contains a part
//! of a cookie.

use std::io;
use std::path::PathBuf;

use beam::cookie::CookieTextError;

use super::cookie::CookieFileError;
use super::source::Source;
use crate::layout::HomeError;
use crate::limits;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value is not allowed.
    #[error("{source_of_value}: invalid value {value}; expected {allowed}")]
    Invalid {
        /// The source of the value.
        source_of_value: Source,
        /// The value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// The directory cannot be home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The cookie is invalid. Its value must not be shown.
    #[error("{source_of_value}: {error}")]
    Cookie {
        /// The source of the value.
        source_of_value: Source,
        /// Why it is invalid.
        error: CookieTextError,
    },
    /// The cookie is a number or a list.
    #[error("{0}: the cookie must be a string or an atom")]
    CookieNotText(Source),
    /// The cookie file cannot be used.
    #[error(transparent)]
    CookieFile(#[from] CookieFileError),
    /// Two names of one setting have different values.
    #[error("{0} and {1} are the same setting but have different values: set only one of them")]
    Contradiction(&'static str, &'static str),
    /// A variable is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// The file cannot be read.
    #[error("{source_of_value}: cannot read {}: {error}", path.display())]
    File {
        /// The source of the path.
        source_of_value: Source,
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file is too large.
    #[error("{} is larger than {max} bytes, the limit for a sys.config", .0.display(), max = limits::SYS_CONFIG)]
    FileTooLarge(PathBuf),
    /// The file is not a valid `sys.config`.
    #[error("{} {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why it is invalid.
        error: SyntaxError,
    },
    /// `HOME` is needed but not set.
    #[error("HOME is not set, and ~/.hecate needs it: set HOME{advice} or HECATE_HOME")]
    NoHome {
        /// Names the home directory of the account; empty if it is unknown.
        advice: String,
    },
    /// `HOME` is not a home directory.
    #[error(
        "HOME is {0:?}, which is not a home directory: set HOME to the user's, or set HECATE_HOME and HECATE_ERLANG_COOKIE"
    )]
    BadHome(PathBuf),
    /// The system cannot read the directory at `HOME`.
    #[error("cannot check {path:?} (from HOME): {error}; check its disk, or set HECATE_HOME")]
    HomeUnreadable {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file is at the path of a directory.
    #[error("{0:?} (from HOME) is not a directory: move it away, or set HOME or HECATE_HOME")]
    HomeNotADirectory(PathBuf),
    /// `HOME` is not writable.
    #[error(
        "{path:?} (from HOME) is not writable ({error}): its owner is uid {owner}, and the daemon runs as uid {uid}; {}",
        advice(error, owner == uid)
    )]
    HomeNotWritable {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
        /// The owner of the directory.
        owner: u32,
        /// The user of the daemon.
        uid: u32,
    },
    /// The host name cannot be part of a node name.
    #[error("the host name {0:?} cannot be part of a node name: set HECATE_HOSTNAME")]
    Hostname(String),
}

/// A syntax error in a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found {found}")]
pub struct SyntaxError {
    /// The line, counted from 1.
    pub line: usize,
    /// The expected text.
    pub expected: String,
    /// The actual text.
    pub found: String,
}

/// Returns what to do if home is not writable.
fn advice(error: &io::Error, is_ours: bool) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if is_ours => "run `chmod u+rwx` on it, or set HECATE_HOME",
        _ => "set HOME or HECATE_HOME",
    }
}
