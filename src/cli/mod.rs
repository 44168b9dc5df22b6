//! The command line: what may be asked for, and the commands that are clients of a running daemon, one a file.
//!
//! No command here opens the registry or the cluster: each asks the socket, over the one `client`. Serving itself is
//! `daemon`'s. `gitops` alone changes something by itself: the repository, and directories of home.

use std::io::Write as _;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

mod cluster;
mod daemon;
mod doctor;
mod gitops;
mod plugins;
mod support;

use crate::config::{self, Environment, Flags};
use cluster::{diagnose, trace};
use daemon::{check_config, healthcheck, status};
use plugins::{deregister, events, list, paths, purge, register, show};
use support::command::{Common, Named, ask};
pub use support::exit::Exit;
use support::flags::ServeFlags;
use support::page::{self, complain};

const EXAMPLES: &str = "\
Examples:
  hecate-daemon                                     serve in the foreground
  hecate-daemon --config /etc/hecate/sys.config     the same, told by a file
  HECATE_CLUSTER_PEERS=beam00,beam01 hecate-daemon  and join the daemons of other hosts
  hecate-daemon --check-config                      what it is told, and by what
  hecate-daemon doctor                              what is in its way
  hecate-daemon register hecate-traderd --version 0.1.0
  hecate-daemon plugins
  hecate-daemon paths hecate-traderd --json | jq -r .paths.sqlite
  hecate-daemon events --json
  hecate-daemon diagnose hecate_traderd@beam00      why it is, or isn't, connected
  hecate-daemon trace hecate_traderd@beam00         what our node and it exchange
  hecate-daemon gitops add hecate-traderd --image registry.example/hecate-traderd:0.1.0
  hecate-daemon completions bash > ~/.local/share/bash-completion/completions/hecate-daemon

Exit codes: 0 success, 1 refused, 2 usage error, 3 daemon unreachable, 4 daemon busy (retry).";

/// The primary Hecate daemon: plugin registry on a Unix socket, and a node of a BEAM cluster
#[derive(Debug, Parser)]
#[command(name = "hecate-daemon", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What serving takes.
#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    flags: ServeFlags,
    /// Do not serve: print every setting with its value and where that comes from; exit 0, or 2 with what is wrong
    #[arg(long)]
    check_config: bool,
}

/// What may be asked for.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground; the same as no command at all
    Run(Serve),
    #[command(flatten)]
    Client(ClientCommand),
    /// What is in the daemon's way, whether it runs or not: exit 0 if nothing is, else 1
    #[command(
        after_help = "Examples:\n  hecate-daemon doctor\n  hecate-daemon doctor --json | jq '.findings[] | select(.level != \"ok\")'"
    )]
    Doctor(doctor::Doctor),
    /// What is deployed on this host: the Git repository HOME/gitops, for Flux and for Quadlet
    #[command(subcommand)]
    Gitops(gitops::Gitops),
    /// Print what completes this command's words in a shell
    #[command(after_help = "\
Examples:
  hecate-daemon completions bash > ~/.local/share/bash-completion/completions/hecate-daemon
  hecate-daemon completions zsh > ~/.zfunc/_hecate-daemon
  hecate-daemon completions fish > ~/.config/fish/completions/hecate-daemon.fish")]
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// The shells that have completions.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What a running daemon may be asked for.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// How the daemon is doing
    Status(Common),
    /// List the registered plugins
    #[command(after_help = "\
Examples:
  hecate-daemon plugins --json | jq -r '.[] | select(.status == \"stopped\") | .name'
  hecate-daemon plugins --cluster --json | jq -r '.plugins[] | select(.lost_since) | \"\\(.host) \\(.name)\"'")]
    Plugins(list::Plugins),
    /// All that is known of a plugin
    Plugin(Named),
    /// Register a plugin daemon, or renew its registration
    #[command(
        after_help = "Example:\n  hecate-daemon register hecate-traderd --version 0.1.0 --node hecate_traderd@beam00"
    )]
    Register(register::Register),
    /// Take a plugin off the registry; its data stays
    Deregister(Named),
    /// Remove the data of a plugin that is deregistered
    #[command(
        after_help = "Example:\n  hecate-daemon deregister hecate-traderd && hecate-daemon purge hecate-traderd --yes"
    )]
    Purge(purge::Purge),
    /// Follow what happens to plugins and nodes, until it is stopped
    #[command(
        after_help = "Example:\n  hecate-daemon events --json | jq -c 'select(.event == \"plugin_status_changed_v1\") | .data'"
    )]
    Events(Common),
    /// Our node, its EPMD and its peers, and the plugins of every host
    #[command(
        after_help = "Example:\n  hecate-daemon cluster --json | jq -r '.peers[] | select(.state != \"connected\") | .name'"
    )]
    Cluster(Common),
    /// Why a node is, or isn't, connected, stage by stage, and what to do: exit 0 if nothing is in the way, else 1
    #[command(after_help = "\
Examples:
  hecate-daemon diagnose hecate_traderd@beam00
  hecate-daemon diagnose hecate@beam01 --json | jq -r .code
  hecate-daemon diagnose hecate_traderd@beam00 --independent")]
    Diagnose(diagnose::Diagnose),
    /// Follow the frames, handshake packets and EPMD messages between our node and another, until Ctrl-C
    #[command(after_help = "\
Examples:
  hecate-daemon trace hecate_traderd@beam00
  hecate-daemon trace hecate@beam01 --json | jq -r 'select(.data.layer == \"handshake\") | .data.text'

The node need not be connected: handshakes with it are shown too. Cookies, challenges, digests and the contents of
messages are never shown.")]
    Trace(trace::Trace),
    /// The directories of a plugin
    #[command(after_help = "Example:\n  hecate-daemon paths hecate-traderd --json | jq -r .paths.sqlite")]
    Paths(Named),
    /// For probes: exit 0 if the daemon answers, else 1
    Healthcheck(Common),
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
    /// Parses the process's arguments. Prints the help or the version if they ask for it.
    ///
    /// # Errors
    /// The exit code, after the help or a usage error has been printed.
    pub fn of_process() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| {
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

    /// Runs a client to its end, or says that it is serving that was asked for.
    #[must_use]
    pub fn act(self) -> Action {
        Action::Ended(match self.command {
            None => return self.serve.act(),
            Some(Command::Run(serve)) => return serve.act(),
            Some(Command::Client(command)) => run(command.run()),
            Some(Command::Doctor(doctor)) => run(doctor.run()),
            Some(Command::Gitops(gitops)) => run(gitops.run()),
            Some(Command::Completions { shell }) => completions(shell),
        })
    }
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
            // A name that is still being resolved is nobody's business any more.
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
    clap_complete::generate(shell, &mut Cli::command(), "hecate-daemon", &mut script);
    // For bash, the crate (4.6.11) enters a subcommand under one name and looks for it under another where the program's own
    // name has a hyphen; no other text of a script has the latter.
    let script = String::from_utf8_lossy(&script).replace("hecate__subcmd__daemon", "hecate__daemon");
    page::script(&script).exit()
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
            // Probes know two codes only.
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
            (&["completions", "powershell"], ErrorKind::InvalidValue),
            (&["--help"], ErrorKind::DisplayHelp),
        ] {
            assert_eq!(flags(arguments), Err(kind), "{arguments:?}");
        }
    }
}
