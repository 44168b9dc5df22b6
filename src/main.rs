//! The `hecate-daemon` program: parses the arguments, starts the log, and returns the exit code.

use std::process::ExitCode;

use hecate_daemon::cli::{Action, Cli, Exit};
use hecate_daemon::config::{self, Config, Environment, Flags};
use hecate_daemon::runtimes::Runtimes;
use hecate_daemon::{daemon, log};

/// The allocator. It returns memory to the system after large messages from peers, with glibc and
/// with musl. Its options are in `.cargo/config.toml`. The allocator of glibc does not return this
/// memory: when a large block is freed, its threshold for `mmap` rises to as much as 32 MiB, and
/// the arena of each thread keeps smaller blocks.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let exit = match Cli::of_process().map(Cli::act) {
        Err(exit) | Ok(Action::Ended(exit)) => exit,
        Ok(Action::Serve(flags)) => match configure(&flags) {
            Some(config) => serve(config),
            None => Exit::Usage,
        },
    };
    exit.into()
}

/// Reads the configuration, then starts the log, whose filter and format are settings.
fn configure(flags: &Flags) -> Option<Config> {
    match config::load(flags, &Environment::of_process()) {
        Ok(loaded) => {
            log::start(&loaded.config.log, loaded.config.log_format);
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            Some(loaded.config)
        }
        Err(error) => {
            log::refuse(&error);
            None
        }
    }
}

fn serve(config: Config) -> Exit {
    let runtimes = match Runtimes::start() {
        Ok(runtimes) => runtimes,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return Exit::Refused;
        }
    };
    match runtimes.run(|node| daemon::run(config, node)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Refused
        }
    }
}
