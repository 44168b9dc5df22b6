//! The exit codes of the commands.

use std::process::ExitCode;

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded.
    Done,
    /// The daemon or the system refused the command, or a check failed.
    Refused,
    /// The command line, the environment or the settings file is invalid.
    Usage,
    /// The daemon is unreachable.
    NoDaemon,
    /// Too many clients wait for the daemon. A retry may succeed.
    Busy,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Refused => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::NoDaemon => Self::from(3),
            Exit::Busy => Self::from(4),
        }
    }
}
