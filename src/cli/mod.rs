//! The command line: what may be asked for, and the commands that are clients of a running daemon, one a file.
//!
//! No command here opens the registry or the cluster: each asks the socket, over the one `client`. Serving itself is
//! `daemon`'s.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod client;
mod deregister;
mod flags;
mod healthcheck;
mod paths;
mod plugins;
mod register;
mod status;

use crate::api::wire;
use crate::config::{self, Environment, Flags};
use crate::limits;
use client::{Answer, Call};
use flags::{ClientFlags, ServeFlags};

const EXAMPLES: &str = "\
Examples:
  hecate-daemon                                     serve in the foreground
  hecate-daemon --config /etc/hecate/sys.config     the same, told by a file
  HECATE_CLUSTER_PEERS=beam00,beam01 hecate-daemon  and join the daemons of other hosts
  hecate-daemon register hecate-traderd --version 0.1.0
  hecate-daemon plugins --json
  hecate-daemon paths hecate-traderd

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no daemon answers.";

/// The primary Hecate daemon: plugin registry on a Unix socket, and a node of a BEAM cluster
#[derive(Debug, Parser)]
#[command(name = "hecate-daemon", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What may be asked for.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground; the same as no command at all
    Run(ServeFlags),
    #[command(flatten)]
    Client(ClientCommand),
}

/// What a running daemon may be asked for.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// How the daemon is doing
    Status(Common),
    /// List the registered plugins
    Plugins(Common),
    /// Register a plugin daemon, or renew its registration
    Register(register::Register),
    /// Take a plugin off the registry; its data stays
    Deregister(Named),
    /// The directories of a plugin
    Paths(Named),
    /// For probes: exit 0 if the daemon answers, else 1
    Healthcheck(Common),
}

/// What every client takes.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    place: ClientFlags,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

/// A client that is about one plugin.
#[derive(Debug, Args)]
struct Named {
    /// The plugin, such as hecate-traderd
    name: String,
    #[command(flatten)]
    common: Common,
}

/// How a command ended, as the shell sees it.
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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Refused => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::NoDaemon => Self::from(3),
        }
    }
}

/// What a command line comes to.
#[derive(Debug)]
pub enum Action {
    /// Serve with these flags.
    Serve(Flags),
    /// A client has run.
    Ended(Exit),
}

impl Cli {
    /// Runs a client to its end, or says that it is serving that was asked for.
    #[must_use]
    pub fn act(self) -> Action {
        let command = match self.command {
            None => return Action::Serve(self.serve.0),
            Some(Command::Run(serve)) => return Action::Serve(serve.0),
            Some(Command::Client(command)) => command,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Action::Ended(match runtime {
            Ok(runtime) => runtime.block_on(command.run()),
            Err(error) => {
                complain(&format!("cannot start: {error}"));
                Exit::Refused
            }
        })
    }
}

impl ClientCommand {
    async fn run(self) -> Exit {
        let probing = matches!(self, Self::Healthcheck(_));
        let (call, common) = self.call();
        let socket = match config::socket_path(&common.place.0, &Environment::of_process()) {
            Ok(socket) => socket,
            Err(error) => {
                complain(&error.to_string());
                return Exit::Usage;
            }
        };
        match client::send(&socket, &call, limits::CLIENT_TIME).await {
            Ok(answer) => report(&call, &answer, common.json),
            Err(error) => {
                complain(&error.to_string());
                // Probes know two codes only.
                if probing { Exit::Refused } else { Exit::NoDaemon }
            }
        }
    }

    fn call(self) -> (Call, Common) {
        match self {
            Self::Status(common) => (status::call(), common),
            Self::Plugins(common) => (plugins::call(), common),
            Self::Register(register) => register.call(),
            Self::Deregister(named) => (deregister::call(&named.name), named.common),
            Self::Paths(named) => (paths::call(&named.name), named.common),
            Self::Healthcheck(common) => (healthcheck::call(), common),
        }
    }
}

/// Prints an answer, as it came or for people.
fn report(call: &Call, answer: &Answer, json: bool) -> Exit {
    if json {
        print(&format!("{}\n", String::from_utf8_lossy(&answer.body)));
    }
    if answer.status.is_success() {
        match (call.show)(&answer.body) {
            Ok(_) if json => {}
            Ok(text) => print(&plain(&text)),
            Err(error) => {
                complain(&format!("what answers at the socket is no hecate-daemon of this version: {error}"));
                return Exit::NoDaemon;
            }
        }
        return Exit::Done;
    }
    match serde_json::from_slice::<wire::Problem<'_>>(&answer.body) {
        Ok(problem) => complain(&problem.detail),
        Err(_) => complain(&format!("refused with status {}", answer.status)),
    }
    Exit::Refused
}

/// What others wrote, without what could drive a terminal.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', " ")
}

/// Lines of cells, each column as wide as its widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// A reader that has gone, as `head` does, is no failure of ours.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "hecate-daemon: {}", plain(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn flags(arguments: &[&str]) -> Result<Flags, clap::error::ErrorKind> {
        let arguments = std::iter::once(&"hecate-daemon").chain(arguments);
        match Cli::try_parse_from(arguments).map_err(|error| error.kind())?.act() {
            Action::Serve(flags) => Ok(flags),
            Action::Ended(exit) => panic!("a client ran and ended with {exit:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_and_has_a_name() {
        assert_eq!(flags(&[]), Ok(Flags::new()));
        let given = Flags::from([("home", "/x".to_owned()), ("hidden", "true".to_owned())]);
        assert_eq!(flags(&["--home", "/x", "--hidden"]), Ok(given.clone()));
        assert_eq!(flags(&["run", "--hidden=true", "--home=/x"]), Ok(given));
        assert_eq!(flags(&["--introduce-peers=false"]), Ok(Flags::from([("introduce-peers", "false".to_owned())])));
    }

    #[test]
    fn wrong_usage_is_told() {
        use clap::error::ErrorKind;
        for (arguments, kind) in [
            (&["serve"][..], ErrorKind::InvalidSubcommand),
            (&["--cookie", "x"], ErrorKind::UnknownArgument),
            (&["register"], ErrorKind::MissingRequiredArgument),
            (&["--home", "/x", "plugins"], ErrorKind::ArgumentConflict),
            (&["plugins", "--hidden"], ErrorKind::UnknownArgument),
            (&["--help"], ErrorKind::DisplayHelp),
        ] {
            assert_eq!(flags(arguments), Err(kind), "{arguments:?}");
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&rows), "a    bb\nccc\n");
    }

    #[test]
    fn a_terminal_is_not_driven_by_others() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb\nc");
    }
}
