//! The `hecate-daemon` program: arguments, the log, and the exit code; nothing else.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use hecate_daemon::cli::{Action, Cli, Exit};
use hecate_daemon::config::{self, Config, Environment, Flags};
use hecate_daemon::daemon;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let exit = match Cli::parse().act() {
        Action::Ended(exit) => exit,
        Action::Serve(flags) => match configure(&flags) {
            Some(config) => serve(config),
            None => Exit::Usage,
        },
    };
    exit.into()
}

/// Reads the configuration and starts the log, in this order: the one says how much the other tells.
fn configure(flags: &Flags) -> Option<Config> {
    match config::load(flags, &Environment::of_process()) {
        Ok(loaded) => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
            // Checked when it was read.
            let filter: Targets = loaded.config.log.parse().unwrap_or_default();
            tracing_subscriber::registry().with(lines).with(filter).init();
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            Some(loaded.config)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hecate-daemon: {error}");
            None
        }
    }
}

fn serve(config: Config) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return Exit::Refused;
        }
    };
    let ended = runtime.block_on(daemon::run(config));
    // What still blocks (a resolver that waits for its server) is nobody's business any more.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Refused
        }
    }
}
