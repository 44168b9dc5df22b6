//! `purge NAME`: removes the data of a plugin that is deregistered, and says how much that was. Whoever sits at a terminal is
//! asked first.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use hyper::Method;

use super::Named;
use super::client::{Call, encode};
use super::page::plain;
use crate::api::wire::Purged;

/// What `purge` takes.
#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    pub named: Named,
    /// Do not ask, even on a terminal
    #[arg(long)]
    yes: bool,
}

impl Purge {
    /// Whether it is meant. Scripts, which nobody can answer for, mean it.
    pub(super) fn is_meant(&self) -> bool {
        if self.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return true;
        }
        let question = format!("Remove all data of {} for good? [y/N] ", plain(&self.named.name));
        let mut answer = String::new();
        let _ = io::stderr().write_all(question.as_bytes());
        let _ = io::stdin().lock().read_line(&mut answer);
        matches!(answer.trim(), "y" | "Y" | "yes")
    }
}

pub(super) fn call(name: &str) -> Call {
    Call::new(Method::DELETE, format!("/api/plugins/{}/data", encode(name)), show)
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
