//! `purge NAME`: removes the data of a plugin that is deregistered and stopped, and reports how
//! much it removed. It asks first, or needs `--yes` without a terminal. Before it asks, the daemon
//! confirms that the purge is allowed.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use hyper::Method;

use crate::cli::support::client;
use crate::cli::support::client::{Call, encode};
use crate::cli::support::command::{Named, ask, refusal};
use crate::cli::support::exit::Exit;
use crate::cli::support::page::{complain, plain};
use crate::limits;
use crate::wire::{Purgeable, Purged};

/// The arguments of `purge`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Purge {
    #[command(flatten)]
    pub named: Named,
    /// Do not ask; required where standard input or standard error is not a terminal
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub(in crate::cli) async fn run(&self, socket: &Path) -> Exit {
        let name = &self.named.name;
        if !self.yes {
            if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
                complain(
                    "purge asks before it removes data, but there is no terminal to ask on: add --yes to skip the question",
                );
                return Exit::Usage;
            }
            match confirm(socket, name).await {
                Ok(true) => {}
                Ok(false) => {
                    complain("nothing was removed");
                    return Exit::Refused;
                }
                Err(exit) => return exit,
            }
        }
        ask(socket, &call(name), self.named.common.json).await
    }
}

/// Asks the daemon whether it would purge, then the user.
async fn confirm(socket: &Path, name: &str) -> Result<bool, Exit> {
    let check = Call::new(Method::GET, path(name), |_| Ok(String::new()));
    let answer = client::send(socket, &check, limits::CLIENT_TIME).await.map_err(|error| {
        complain(&error.to_string());
        error.exit()
    })?;
    if !answer.status.is_success() {
        complain(&refusal(answer.status, &answer.body));
        return Err(Exit::Refused);
    }
    let base_dir = serde_json::from_slice::<Purgeable>(&answer.body).map(|data| data.base_dir);
    let data = base_dir.map_or_else(|_| String::new(), |base_dir| format!(" in {}", plain(&base_dir)));
    let question = format!("Remove all data of {}{data} for good? [y/N] ", plain(name));
    let mut typed = String::new();
    let _ = io::stderr().write_all(question.as_bytes());
    let _ = io::stdin().lock().read_line(&mut typed);
    Ok(matches!(typed.trim(), "y" | "Y" | "yes"))
}

fn path(name: &str) -> String {
    format!("/api/plugins/{}/data", encode(name))
}

fn call(name: &str) -> Call {
    Call::new(Method::DELETE, path(name), show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let Purged { base_dir, removed, .. } = serde_json::from_slice(body)?;
    let counted = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    Ok(format!(
        "removed {}: {}, {}, {}\n",
        plain(&base_dir),
        counted(removed.directories, "directory", "directories"),
        counted(removed.files, "file", "files"),
        counted(removed.bytes, "byte", "bytes"),
    ))
}
