//! The parts that client commands share: their options, one request to the daemon, and the printed
//! answer.

use std::path::Path;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::client::{self, Answer, Call};
use super::exit::Exit;
use super::flags::ClientFlags;
use super::page::{self, complain};
use super::refusal;
use crate::limits;

/// The options of every client command.
#[derive(Debug, Args)]
pub(in crate::cli) struct Common {
    /// Print JSON on one line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: ClientFlags,
}

/// The arguments of a command about one plugin.
#[derive(Debug, Args)]
pub(in crate::cli) struct Named {
    /// Name of the plugin, such as hecate-traderd
    // An unset shell variable is a usage error, not a request.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    #[command(flatten)]
    pub common: Common,
}

/// Sends a request and prints the answer.
pub(in crate::cli) async fn ask(socket: &Path, call: &Call, json: bool) -> Exit {
    match client::send(socket, call, limits::CLIENT_TIME).await {
        Ok(answer) => report(socket, call, &answer, json).await,
        Err(error) => {
            complain(&error.to_string());
            error.exit()
        }
    }
}

/// Prints an answer: as received if `json` is set, otherwise for people.
pub(in crate::cli) async fn report(socket: &Path, call: &Call, answer: &Answer, json: bool) -> Exit {
    let whole = json.then(|| page::write(&format!("{}\n", String::from_utf8_lossy(&answer.body))));
    if !answer.status.is_success() {
        complain(&refusal::of_call(socket, call, answer).await);
        return Exit::Refused;
    }
    match (call.show)(&answer.body) {
        Ok(text) => whole.unwrap_or_else(|| page::show(&text)).exit(),
        Err(error) => {
            complain(&unreadable(&error));
            Exit::NoDaemon
        }
    }
}

/// Returns the message for an answer that this version of the command cannot read.
pub(in crate::cli) fn unreadable(error: &serde_json::Error) -> String {
    format!(
        "cannot read the daemon's answer ({error}); it may have another version: compare `hecate-daemon status --json` \
         with `hecate-daemon --version`"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Method;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_daemon_causes_a_timeout() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let _listener = tokio::net::UnixListener::bind(&path).expect("bound");
        let call = Call::new(Method::GET, "/health", |_| Ok(String::new()));
        let begun = Instant::now();
        assert!(matches!(ask(&path, &call, true).await, Exit::NoDaemon));
        let promised = Duration::from_secs(10)..Duration::from_millis(10_100);
        assert!(promised.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}
