//! `purge NAME`: deletes the data of a plugin that is deregistered and stopped, and reports how
//! much it deleted. It asks for confirmation after the daemon has confirmed that the purge is
//! allowed. Without a terminal it needs `--yes`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use hyper::Method;

use crate::cli::support::client;
use crate::cli::support::client::Call;
use crate::cli::support::command::{Named, ask};
use crate::cli::support::exit::Exit;
use crate::cli::support::page::{complain, counted, plain};
use crate::cli::support::refusal;
use crate::limits;
use crate::wire::{Purgeable, Purged};

/// The arguments of `purge`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Purge {
    #[command(flatten)]
    pub named: Named,
    /// Do not ask for confirmation (required without a terminal)
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub(in crate::cli) async fn run(&self, socket: &Path) -> Exit {
        let name = &self.named.name;
        if !self.yes {
            if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
                complain("cannot ask for confirmation without a terminal; add --yes to delete the data without it");
                return Exit::Usage;
            }
            match confirm(socket, name).await {
                Ok(true) => {}
                Ok(false) => {
                    complain("cancelled; nothing was deleted");
                    return Exit::Refused;
                }
                Err(exit) => return exit,
            }
        }
        ask(socket, &call(name), self.named.common.json).await
    }
}

/// Asks the daemon whether the purge is allowed, then asks the user.
async fn confirm(socket: &Path, name: &str) -> Result<bool, Exit> {
    let check = Call::about_plugin(Method::GET, name, "/data", |_| Ok(String::new()));
    let answer = client::send(socket, &check, limits::CLIENT_TIME).await.map_err(|error| {
        complain(&error.to_string());
        error.exit()
    })?;
    if !answer.status.is_success() {
        complain(&refusal::of_call(socket, &check, &answer).await);
        return Err(Exit::Refused);
    }
    let base_dir = serde_json::from_slice::<Purgeable>(&answer.body).map(|data| data.base_dir);
    let data = base_dir.map_or_else(|_| String::new(), |base_dir| format!(" in {}", plain(&base_dir)));
    let question = format!("Delete all data of {}{data}? This cannot be undone. [y/N] ", plain(name));
    let mut typed = String::new();
    let _ = io::stderr().write_all(question.as_bytes());
    let _ = io::stdin().lock().read_line(&mut typed);
    Ok(matches!(typed.trim(), "y" | "Y" | "yes"))
}

fn call(name: &str) -> Call {
    Call::about_plugin(Method::DELETE, name, "/data", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let Purged { base_dir, removed, .. } = serde_json::from_slice(body)?;
    Ok(format!(
        "deleted {}: {}, {}, {}\n",
        plain(&base_dir),
        counted(removed.directories, "directory", "directories"),
        counted(removed.files, "file", "files"),
        counted(removed.bytes, "byte", "bytes"),
    ))
}
