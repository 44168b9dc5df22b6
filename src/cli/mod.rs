//! The command line: its commands, and which function runs each.
//!
//! Most commands are clients of a running daemon: they send requests to its socket
//! (`support::client`). `run` starts the daemon itself. Only `gitops` changes files: its
//! repository, and directories of home.

use std::ffi::OsString;
use std::io::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

mod cluster;
mod daemon;
mod doctor;
mod gitops;
mod help;
mod plugins;
mod support;

use crate::config::{self, Environment, Flags};
use crate::wire;
use cluster::{diagnose, trace};
use daemon::{check_config, healthcheck, status};
use plugins::{deregister, events, list, paths, purge, register, show};
use support::command::{Common, Named, ask};
pub use support::exit::Exit;
use support::flags::ServeFlags;
use support::page::{self, complain};

/// The primary Hecate daemon: a plugin registry and a node of the BEAM cluster
#[derive(Debug, Parser)]
#[command(name = "hecate-daemon", version, long_about = help::ABOUT, after_long_help = help::DAEMON, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Serve {
    /// Show the settings and their sources, and exit
    #[arg(long, long_help = help::CHECK_CONFIG)]
    check_config: bool,
    #[command(flatten)]
    flags: ServeFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground (the default)
    #[command(after_long_help = help::RUN)]
    Run(Serve),
    #[command(flatten)]
    Client(ClientCommand),
    /// Check this host for problems
    #[command(after_long_help = help::DOCTOR)]
    Doctor(doctor::Doctor),
    /// Manage what is deployed on this host, in a Git repository
    #[command(subcommand, after_long_help = help::GITOPS)]
    Gitops(gitops::Gitops),
    /// Print the OpenAPI document of the HTTP API
    #[command(after_long_help = help::OPENAPI)]
    Openapi,
    /// Generate shell completions
    #[command(after_long_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The commands that send requests to a running daemon.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Show the daemon's health
    #[command(after_long_help = help::STATUS)]
    Status(Common),
    /// List plugins
    #[command(after_long_help = help::PLUGINS)]
    Plugins(list::Plugins),
    /// Show a plugin
    #[command(after_long_help = help::PLUGIN)]
    Plugin(Named),
    /// Register a plugin, or renew its registration
    #[command(after_long_help = help::REGISTER)]
    Register(register::Register),
    /// Deregister a plugin and keep its data
    #[command(after_long_help = help::DEREGISTER)]
    Deregister(Named),
    /// Delete the data of a deregistered plugin
    #[command(after_long_help = help::PURGE)]
    Purge(purge::Purge),
    /// Follow changes of plugins and nodes
    #[command(after_long_help = help::EVENTS)]
    Events(Common),
    /// Show this node, its peers, and the plugins of all hosts
    #[command(after_long_help = help::CLUSTER)]
    Cluster(Common),
    /// Explain why a node is, or is not, connected
    #[command(after_long_help = help::DIAGNOSE)]
    Diagnose(diagnose::Diagnose),
    /// Follow the messages between this node and another
    #[command(after_long_help = help::TRACE)]
    Trace(trace::Trace),
    /// Show the directories of a plugin
    #[command(after_long_help = help::PATHS)]
    Paths(Named),
    /// Check that the daemon answers, for probes
    #[command(after_long_help = help::HEALTHCHECK)]
    Healthcheck(Common),
}

/// The result of a command line.
#[derive(Debug)]
pub enum Action {
    /// The daemon must be started with these flags.
    Serve(Flags),
    /// The command has run.
    Ended(Exit),
}

/// Returns the definition of the command line, with its help texts.
#[must_use]
pub fn command() -> clap::Command {
    help::arranged(Cli::command())
}

impl Cli {
    /// Parses the process's arguments. Prints the help or the version if they ask for it.
    ///
    /// # Errors
    /// The exit code, after the help or a usage error has been printed.
    pub fn of_process() -> Result<Self, Exit> {
        Self::of_arguments(std::env::args_os()).map_err(|error| {
            // An error quotes arguments, which may come from elsewhere.
            let text = error.render().ansi().to_string();
            let text = crate::escape::coloured(&text);
            // If this fails, no output is left to report it on.
            if error.use_stderr() {
                let _ = write!(anstream::stderr(), "{text}");
                Exit::Usage
            } else {
                let _ = write!(anstream::stdout(), "{text}");
                Exit::Done
            }
        })
    }

    fn of_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(arguments).map_err(explained)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// Runs a command to its end. Returns the flags instead if the daemon must be started.
    #[must_use]
    pub fn act(self) -> Action {
        Action::Ended(match self.command {
            None => return self.serve.act(),
            Some(Command::Run(serve)) => return serve.act(),
            Some(Command::Client(command)) => run(command.run()),
            Some(Command::Doctor(doctor)) => run(doctor.run()),
            Some(Command::Gitops(gitops)) => run(gitops.run()),
            Some(Command::Openapi) => page::verbatim(wire::OPENAPI).exit(),
            Some(Command::Completions { shell }) => completions(shell),
        })
    }
}

/// Adds a tip to the error for an option of the daemon that is in front of a command.
fn explained(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand)
        && error.kind() == ErrorKind::ArgumentConflict
    {
        let tip = format!("put options after the command, as in `hecate-daemon {command} --option`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

impl Serve {
    fn act(self) -> Action {
        match self.check_config {
            true => Action::Ended(check_config::run(&self.flags.0)),
            false => Action::Serve(self.flags.0),
        }
    }
}

fn run(command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            // Does not wait for a name that is still being resolved.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            Exit::Refused
        }
    }
}

fn completions(shell: Shell) -> Exit {
    use clap_complete::Shell as For;
    let shell = match shell {
        Shell::Bash => For::Bash,
        Shell::Zsh => For::Zsh,
        Shell::Fish => For::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "hecate-daemon", &mut script);
    // If the program's name has a hyphen, the bash script of clap_complete 4.6.11 stores a
    // subcommand under one name and looks it up under another. Only those look-ups contain the
    // replaced text.
    let script = String::from_utf8_lossy(&script).replace("hecate__subcmd__daemon", "hecate__daemon");
    page::verbatim(&script).exit()
}

impl ClientCommand {
    async fn run(self) -> Exit {
        let probing = matches!(self, Self::Healthcheck(_));
        if let Self::Diagnose(diagnose) = &self
            && diagnose.is_independent()
        {
            return diagnose.run_independent().await;
        }
        let socket = match config::socket_path(&self.common().place.0, &Environment::of_process()) {
            Ok(socket) => socket,
            Err(error) => {
                complain(&error.to_string());
                return Exit::Usage;
            }
        };
        let json = self.common().json;
        let call = match self {
            Self::Diagnose(diagnose) => return diagnose.run(&socket).await,
            Self::Trace(trace) => return trace.run(&socket).await,
            Self::Purge(purge) => return purge.run(&socket).await,
            Self::Cluster(_) => return cluster::show::run(&socket, json).await,
            Self::Events(_) => return events::run(&socket, json).await,
            Self::Status(_) => status::call(),
            Self::Plugins(plugins) => plugins.call(),
            Self::Plugin(named) => show::call(&named.name),
            Self::Register(register) => register.call(),
            Self::Deregister(named) => deregister::call(&named.name),
            Self::Paths(named) => paths::call(&named.name),
            Self::Healthcheck(_) => healthcheck::call(),
        };
        match ask(&socket, &call, json).await {
            // Probes distinguish only two codes.
            Exit::NoDaemon | Exit::Busy if probing => Exit::Refused,
            exit => exit,
        }
    }

    fn common(&self) -> &Common {
        match self {
            Self::Plugins(plugins) => &plugins.common,
            Self::Status(common) | Self::Events(common) | Self::Cluster(common) | Self::Healthcheck(common) => common,
            Self::Plugin(named) | Self::Deregister(named) | Self::Paths(named) => &named.common,
            Self::Register(register) => &register.common,
            Self::Diagnose(diagnose) => &diagnose.common,
            Self::Trace(trace) => &trace.common,
            Self::Purge(purge) => &purge.named.common,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Result<Flags, clap::error::ErrorKind> {
        let arguments = std::iter::once(&"hecate-daemon").chain(arguments).map(OsString::from);
        match Cli::of_arguments(arguments).map_err(|error| error.kind())?.act() {
            Action::Serve(flags) => Ok(flags),
            Action::Ended(exit) => panic!("a client ran and ended with {exit:?}"),
        }
    }

    #[test]
    fn the_command_line_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        assert_eq!(flags(&[]), Ok(Flags::new()));
        let given = Flags::from([("home", "/x".to_owned()), ("hidden", "true".to_owned())]);
        assert_eq!(flags(&["--home", "/x", "--hidden"]), Ok(given.clone()));
        assert_eq!(flags(&["run", "--hidden=true", "--home=/x"]), Ok(given));
        assert_eq!(flags(&["--introduce-peers=false"]), Ok(Flags::from([("introduce-peers", "false".to_owned())])));
    }

    #[test]
    fn usage_errors_are_refused() {
        use clap::error::ErrorKind;
        for (arguments, kind) in [
            (&["serve"][..], ErrorKind::InvalidSubcommand),
            (&["--cookie", "x"], ErrorKind::UnknownArgument),
            (&["register"], ErrorKind::MissingRequiredArgument),
            (&["--home", "/x", "plugins"], ErrorKind::ArgumentConflict),
            (&["plugins", "--hidden"], ErrorKind::UnknownArgument),
            (&["completions", "powershell"], ErrorKind::InvalidValue),
            (&["--help"], ErrorKind::DisplayHelp),
        ] {
            assert_eq!(flags(arguments), Err(kind), "{arguments:?}");
        }
    }

    #[test]
    fn an_option_before_the_command_gets_a_tip() {
        let error = |arguments: &[&str]| {
            let arguments = std::iter::once(&"hecate-daemon").chain(arguments).map(OsString::from);
            Cli::of_arguments(arguments).expect_err("refused").render().to_string()
        };
        let refused = error(&["--home", "/x", "status"]);
        assert!(refused.contains("put options after the command, as in `hecate-daemon status --option`"), "{refused}");
        assert!(!error(&["status", "--jsn"]).contains("put options"));
    }
}
