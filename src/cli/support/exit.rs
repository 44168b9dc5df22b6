//! The exit codes of the commands.

use std::process::ExitCode;

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Done,
    /// The daemon, or the system, said no.
    Refused,
    /// The command line, the environment or the file is wrong.
    Usage,
    /// No daemon answers.
    NoDaemon,
    /// The daemon has more clients than it can accept: a retry may succeed.
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
