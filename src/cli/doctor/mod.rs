//! `doctor`: what is in a daemon's way on this host, looked at from outside, whether one runs or not. Each finding says what
//! to do, and a verdict ends them. It changes nothing.
//!
//! `place` looks at files and the socket, `files` at what a running daemon has open, `network` at
//! EPMD, names, ports and peers; what a running daemon says of itself comes on top.

use beam::name::NodeName;
use clap::Args;
use hyper::Method;

mod files;
mod network;
mod nodes;
mod place;
mod report;

use nodes::Seen;
use report::{Level, Report};

use crate::cli::support::client::{self, Answer, Call};
use crate::cli::support::exit::Exit;
use crate::cli::support::flags::ServeFlags;
use crate::cli::support::page;
use crate::cli::support::refusal;
use crate::config::{Environment, Places};
use crate::limits;
use crate::wire::{Health, HealthStatus, ProblemCode};

/// The arguments of `doctor`: the settings that a daemon would start with.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print the findings as JSON on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServeFlags,
}

impl Doctor {
    pub(super) async fn run(self) -> Exit {
        let environment = Environment::of_process();
        let mut report = Report::default();
        match Places::find(&self.flags.0, &environment) {
            Ok(places) => examine(&places, &environment, &mut report).await,
            Err(error) => {
                report.fail("configuration", error.to_string(), "nothing else can be looked at until that is mended");
            }
        }
        let printed = match self.json {
            true => page::write(&report.as_json()),
            false => page::show(&report.for_people()),
        };
        if report.is_well() { printed.exit() } else { Exit::Refused }
    }
}

async fn examine(places: &Places<'_>, environment: &Environment, report: &mut Report) {
    settings(places, report);
    place::home_variable(environment, report);
    // What is wrong with a setting has been told; what depends on it can't be looked at.
    let (mut serving, mut running) = (None, None);
    if let Ok(locations) = places.locations() {
        place::home(&locations.home, report);
        serving = files::examine(&locations, report).await;
        running = place::socket(&locations, serving, report).await;
        if let Some(seen) = running.as_ref().and_then(|running| running.seen.as_ref()) {
            place::directories(&locations.home, &seen.plugins, report);
        }
    }
    let cookie_hash = running.as_ref().and_then(|running| Some(running.seen.as_ref()?.cluster.cookie_hash.as_str()));
    place::cookie(places, cookie_hash, report);
    if let Some(running) = &running {
        daemon(running, report);
    }
    network::examine(places, serving.is_some(), running.as_ref(), report).await;
    if let Some(seen) = running.as_ref().and_then(|running| running.seen.as_ref()) {
        nodes::examine(seen, report);
    }
}

/// Whether the daemon would take what it is told. Each error says itself what to do.
fn settings(places: &Places<'_>, report: &mut Report) {
    let checked = places.check();
    let mut told: Vec<String> = Vec::new();
    for row in checked.rows {
        let Err(error) = row.value else {
            continue;
        };
        let error = error.to_string();
        // One mistake may be in the way of several settings.
        if !told.contains(&error) {
            report.tell(Level::Fail, row.name, error.clone());
            told.push(error);
        }
    }
    for warning in &checked.warnings {
        report.tell(Level::Warn, "configuration", warning);
    }
    if told.is_empty() && checked.warnings.is_empty() {
        report.ok("configuration", "every setting is understood");
    }
}

/// Returns whether another check reports a problem of `/health` itself, or has reported its cause.
fn is_reported(code: &ProblemCode, are_files_reported: bool) -> bool {
    match code {
        ProblemCode::EpmdUnavailable | ProblemCode::PluginNodeNotConnected => true,
        ProblemCode::HomeLost | ProblemCode::OwnFilesLost | ProblemCode::SocketForeign | ProblemCode::StoreFailed => {
            are_files_reported
        }
        _ => false,
    }
}

/// What the daemon behind the socket says.
fn daemon(running: &Running, report: &mut Report) {
    let Running { health, ready, .. } = running;
    let level = if health.status == HealthStatus::Healthy && health.ready { Level::Warn } else { Level::Fail };
    let are_files_reported = report.has_problem("files");
    for problem in health.problems.iter().filter(|problem| !is_reported(&problem.code, are_files_reported)) {
        report.tell(level, "daemon", format!("{}: {}", problem.code, problem.detail));
    }
    match ready {
        Some(why) if health.problems.iter().any(|problem| *why == problem.detail) => {}
        Some(why) if health.status == HealthStatus::Starting => report.tell(Level::Warn, "daemon", why),
        Some(why) => report.tell(Level::Fail, "daemon", why),
        None => {
            let node = health.node_name.as_deref().unwrap_or("no node yet");
            report.ok("daemon", format!("version {}, {node}, {}, ready", health.version, health.status));
        }
    }
    if health.version != env!("CARGO_PKG_VERSION") {
        let detail = format!("it is version {}, and this command is {}", health.version, env!("CARGO_PKG_VERSION"));
        report.warn("daemon", detail, "restart it with this program, or ask with its own");
    }
}

/// What a daemon that runs says of itself.
struct Running {
    health: Health,
    /// Why it is not ready, if it is not.
    ready: Option<String>,
    /// The daemon's plugins and nodes, if it knows them yet.
    seen: Option<Seen>,
}

impl Running {
    /// Returns the full name of the daemon's node, once it has one.
    fn node_name(&self) -> Option<NodeName> {
        self.health.node_name.as_deref().and_then(|name| NodeName::parse(name).ok())
    }

    /// Asks at `/health` and `/readyz`; `Err` is why what answers is of no use.
    async fn ask(socket: &std::path::Path) -> Result<Self, Silence> {
        let health = get(socket, "/health").await?;
        if !health.status.is_success() {
            return Err(Silence::Refuses(refusal::for_people(health.status, &health.body)));
        }
        let health: Health =
            serde_json::from_slice(&health.body).map_err(|error| Silence::Refuses(error.to_string()))?;
        let ready = get(socket, "/readyz").await?;
        let ready = (!ready.status.is_success()).then(|| refusal::detail(ready.status, &ready.body));
        let seen = if health.status == HealthStatus::Starting { None } else { seen(socket).await? };
        Ok(Self { health, ready, seen })
    }
}

/// Asks the daemon for its plugins and peers. None if it is stopping, or has another version.
async fn seen(socket: &std::path::Path) -> Result<Option<Seen>, Silence> {
    let (plugins, cluster) = (get(socket, "/api/plugins").await?, get(socket, "/api/cluster").await?);
    let plugins = serde_json::from_slice(&plugins.body).ok();
    Ok(plugins.zip(serde_json::from_slice(&cluster.body).ok()).map(|(plugins, cluster)| Seen { plugins, cluster }))
}

/// Why nothing is known of a daemon.
enum Silence {
    /// It can't be reached.
    Unreached(client::ClientError),
    /// It answers something else than was asked.
    Refuses(String),
}

async fn get(socket: &std::path::Path, path: &str) -> Result<Answer, Silence> {
    let call = Call::new(Method::GET, path, |_| Ok(String::new()));
    client::send(socket, &call, limits::CLIENT_TIME).await.map_err(Silence::Unreached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_worst() {
        let mut report = Report::default();
        report.ok("home", "there");
        assert_eq!((report.is_well(), report.verdict().as_str()), (true, "all is well"));
        report.warn("socket", "nobody", "start one");
        assert_eq!((report.is_well(), report.verdict().as_str()), (true, "nothing is in the way; 1 thing to look at"));
        report.fail("cookie", "open", "close it");
        assert_eq!((report.is_well(), report.verdict().as_str()), (false, "1 thing to mend, 1 thing to look at"));
        let shown = anstream::adapter::strip_str(&report.for_people()).to_string();
        assert_eq!(
            shown,
            "ok    home    there\nwarn  socket  nobody; start one\nFAIL  cookie  open; close it\n\n\
             verdict: 1 thing to mend, 1 thing to look at\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.as_json()).expect("JSON");
        assert_eq!((&json["ok"], &json["findings"][2]["level"]), (&false.into(), &"fail".into()));
    }
}
