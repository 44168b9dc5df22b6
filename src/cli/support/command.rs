//! What the client commands share: their options, one request to the daemon, and the printed answer.

use std::path::Path;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use hyper::StatusCode;

use super::client::{self, Answer, Call};
use super::exit::Exit;
use super::flags::ClientFlags;
use super::page::{self, complain};
use crate::limits;
use crate::wire;

/// What every client takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Common {
    #[command(flatten)]
    pub place: ClientFlags,
    /// Print JSON on one line, as the daemon answers it
    #[arg(long)]
    pub json: bool,
}

/// A client that is about one plugin.
#[derive(Debug, Args)]
pub(in crate::cli) struct Named {
    /// The plugin, such as hecate-traderd
    // A shell variable that is not set is wrong usage, and asks nobody.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    #[command(flatten)]
    pub common: Common,
}

pub(in crate::cli) async fn ask(socket: &Path, call: &Call, json: bool) -> Exit {
    match client::send(socket, call, limits::CLIENT_TIME).await {
        Ok(answer) => report(call, &answer, json),
        Err(error) => {
            complain(&error.to_string());
            error.exit()
        }
    }
}

/// Prints an answer, as it came or for people.
pub(in crate::cli) fn report(call: &Call, answer: &Answer, json: bool) -> Exit {
    let whole = json.then(|| page::write(&format!("{}\n", String::from_utf8_lossy(&answer.body))));
    if !answer.status.is_success() {
        complain(&refusal(answer.status, &answer.body));
        return Exit::Refused;
    }
    match (call.show)(&answer.body) {
        Ok(text) => whole.unwrap_or_else(|| page::show(&text)).exit(),
        Err(error) => {
            complain(&format!(
                "what answers is no hecate-daemon of this version ({error}): `hecate-daemon --version` and `hecate-daemon \
                 status --json` tell both"
            ));
            Exit::NoDaemon
        }
    }
}

/// Why the daemon said no, in its own words if they can be read.
pub(in crate::cli) fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<wire::Problem<'_>>(body) {
        Ok(problem) => problem.detail.into_owned(),
        Err(_) => format!("refused with status {status}"),
    }
}
