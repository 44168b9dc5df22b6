//! Why a configuration was refused: each says where the fault stands and what is allowed. No byte of a cookie is in any.

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
    /// A value is not one of those allowed.
    #[error("{source_of_value}: {value} is refused; allowed is {allowed}")]
    Invalid {
        /// Where it stands.
        source_of_value: Source,
        /// The value.
        value: String,
        /// What would be right.
        allowed: String,
    },
    /// What was given cannot be home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The cookie, which must not be shown, is not one.
    #[error("{source_of_value}: {error}")]
    Cookie {
        /// Where it stands.
        source_of_value: Source,
        /// What is wrong with it.
        error: CookieTextError,
    },
    /// The cookie is a number or a list.
    #[error("{0}: the cookie must be a string or an atom")]
    CookieNotText(Source),
    /// The cookie's file is of no use.
    #[error(transparent)]
    CookieFile(#[from] CookieFileError),
    /// Two names of one setting say different things.
    #[error("{0} and {1} are the same setting, but are set to different values: set one of them")]
    Contradiction(&'static str, &'static str),
    /// A variable that is no text.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// The file cannot be read.
    #[error("{source_of_value}: cannot read {}: {error}", path.display())]
    File {
        /// What named it.
        source_of_value: Source,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The file is too large.
    #[error("{} is larger than {max} bytes: that is no sys.config", .0.display(), max = limits::SYS_CONFIG)]
    FileTooLarge(PathBuf),
    /// The file is no `sys.config`.
    #[error("{} {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: SyntaxError,
    },
    /// `~` stands for nothing.
    #[error("HOME is not set, and ~/.hecate needs it: set HOME{advice} or HECATE_HOME")]
    NoHome {
        /// The account's home directory, to copy.
        advice: String,
    },
    /// `HOME` is no home.
    #[error(
        "HOME is {0:?}, which is no home directory: set HOME to the user's, or set HECATE_HOME and HECATE_ERLANG_COOKIE"
    )]
    BadHome(PathBuf),
    /// What is at `HOME` cannot be looked at.
    #[error("cannot look at {path:?} (from HOME): {error}; see that its disk is sound, or set HECATE_HOME")]
    HomeUnseen {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// Something else is where a directory belongs.
    #[error("{0:?} (from HOME) is not a directory: move it away, or set HOME or HECATE_HOME")]
    HomeNoDirectory(PathBuf),
    /// `HOME` belongs to somebody else, or is read-only.
    #[error(
        "{path:?} (from HOME) is not ours to write ({error}): it belongs to uid {owner}, and we are uid {uid}; {}",
        advice(error, owner == uid)
    )]
    HomeNotOurs {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
        /// Its owner.
        owner: u32,
        /// Us.
        uid: u32,
    },
    /// The host's name cannot be in a node's name.
    #[error("the host is called {0:?}, which cannot stand in a node's name: set HECATE_HOSTNAME")]
    Hostname(String),
}

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found {found}")]
pub struct SyntaxError {
    /// The line, counted from 1.
    pub line: usize,
    /// What would have been right.
    pub expected: String,
    /// What stood there instead.
    pub found: String,
}

/// Returns what to do about a home that cannot be written.
fn advice(error: &io::Error, is_ours: bool) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if is_ours => "run `chmod u+rwx` on it, or set HECATE_HOME",
        _ => "set HOME or HECATE_HOME",
    }
}
