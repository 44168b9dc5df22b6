//! `doctor`: checks this host for problems, whether a daemon runs or not, and changes nothing. Each
//! finding includes what to do. A verdict follows the findings.
//!
//! `place` checks files and the socket. `files` checks the open files of a running daemon.
//! `network` checks EPMD, names, ports and peers. `nodes` checks the plugins and peers that a
//! running daemon reports.

use beam::name::NodeName;
use clap::Args;
use hyper::{Method, StatusCode};

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
use crate::config::{self, Environment, Places};
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
                report.fail(
                    "configuration",
                    error.to_string(),
                    "fix this first: the other checks need the configuration",
                );
            }
        }
        let printed = match self.json {
            true => page::write(&report.as_json()),
            false => page::show(&report.for_people()),
        };
        if report.has_no_errors() { printed.exit() } else { Exit::Refused }
    }
}

async fn examine(places: &Places<'_>, environment: &Environment, report: &mut Report) {
    if let Some(owned) = place::owned_by_other(places) {
        return examine_as_other_user(places, &owned, report).await;
    }
    settings(places, false, report);
    place::home_variable(environment, report);
    // An invalid setting is already reported. The checks that depend on it are skipped.
    let (mut serving, mut running) = (None, None);
    if let Ok(locations) = places.locations() {
        place::home(&locations.home, report);
        serving = files::examine(&locations, report).await;
        running = place::socket(&locations.socket, serving, report).await;
        if serving.is_none() && running.is_none() {
            place::lock(&locations.home, report);
            place::database(&locations.home, report);
        }
        if let Some(seen) = running.as_ref().and_then(|running| running.seen.as_ref()) {
            place::directories(&locations.home, &seen.plugins, report);
        }
    }
    let cookie_hash = running.as_ref().and_then(|running| Some(running.seen.as_ref()?.cluster.cookie_hash.as_str()));
    place::cookie(places, cookie_hash, report);
    if let Some(running) = &running {
        daemon(running, report);
    }
    let is_mute = serving.is_some() && running.is_none();
    network::examine(places, serving.is_some(), is_mute, running.as_ref(), report).await;
    if let Some(seen) = running.as_ref().and_then(|running| running.seen.as_ref()) {
        nodes::examine(seen, report);
    }
}

/// Checks the home of another user: only what does not depend on the own user's files and node
/// name.
async fn examine_as_other_user(places: &Places<'_>, owned: &place::Owned, report: &mut Report) {
    settings(places, true, report);
    let running = match places.socket() {
        Ok(socket) => place::socket(&socket, None, report).await,
        Err(_) => None,
    };
    owned.report(running.is_some(), report);
    if let Some(running) = &running {
        daemon(running, report);
    }
    network::examine(places, running.is_some(), running.is_none(), running.as_ref(), report).await;
    if let Some(seen) = running.as_ref().and_then(|running| running.seen.as_ref()) {
        nodes::examine(seen, report);
    }
}

/// Reports invalid settings. Each error includes what to do. `is_others` is whether home belongs to
/// another user: then this user's cookie does not matter, and need not be able to write there.
fn settings(places: &Places<'_>, is_others: bool, report: &mut Report) {
    let checked = places.check();
    let mut reported: Vec<String> = Vec::new();
    for row in checked.rows {
        let Err(error) = row.value else {
            continue;
        };
        if is_others && (row.name == "cookie" || matches!(error, config::Error::HomeNotWritable { .. })) {
            continue;
        }
        let error = error.to_string();
        // One mistake can make several settings invalid.
        if !reported.contains(&error) {
            report.add(Level::Fail, row.name, error.clone());
            reported.push(error);
        }
    }
    for warning in &checked.warnings {
        report.add(Level::Warn, "configuration", warning);
    }
    if reported.is_empty() && checked.warnings.is_empty() {
        report.ok("configuration", "all settings are valid");
    }
}

/// Returns whether another check reports a problem of `/health`, or has reported its cause.
fn is_reported(code: &ProblemCode, are_files_reported: bool) -> bool {
    match code {
        ProblemCode::EpmdUnavailable | ProblemCode::PluginNodeNotConnected => true,
        ProblemCode::HomeLost | ProblemCode::OwnFilesLost | ProblemCode::SocketForeign | ProblemCode::StoreFailed => {
            are_files_reported
        }
        _ => false,
    }
}

/// Reports the version, the readiness and the problems of the running daemon.
fn daemon(running: &Running, report: &mut Report) {
    let Running { health, ready, .. } = running;
    let level = if health.status == HealthStatus::Healthy && health.ready { Level::Warn } else { Level::Fail };
    let are_files_reported = report.has_problem("files");
    for problem in health.problems.iter().filter(|problem| !is_reported(&problem.code, are_files_reported)) {
        report.add(level, "daemon", format!("{}: {}", problem.code, problem.detail));
    }
    match ready {
        Some(why) if health.problems.iter().any(|problem| *why == problem.detail) => {}
        Some(why) if health.status == HealthStatus::Starting => report.add(Level::Warn, "daemon", why),
        Some(why) => report.add(Level::Fail, "daemon", why),
        None => {
            let node = health.node_name.as_deref().unwrap_or("no node yet");
            report.ok("daemon", format!("version {}, {node}, {}, ready", health.version, health.status));
        }
    }
    if health.version != env!("CARGO_PKG_VERSION") {
        let detail = format!("the daemon has version {}, this command {}", health.version, env!("CARGO_PKG_VERSION"));
        report.warn("daemon", detail, "restart the daemon with this program");
    }
}

/// The answers of a running daemon.
struct Running {
    health: Health,
    /// Why the daemon is not ready, if it is not.
    ready: Option<String>,
    /// The daemon's plugins and nodes, unless it is starting.
    seen: Option<Seen>,
}

impl Running {
    /// Returns the full name of the daemon's node, once it has one.
    fn node_name(&self) -> Option<NodeName> {
        self.health.node_name.as_deref().and_then(|name| NodeName::parse(name).ok())
    }

    /// Requests `/health` and `/readyz`, and the plugins and peers unless the daemon is starting.
    async fn ask(socket: &std::path::Path) -> Result<Self, Silence> {
        let health = get(socket, "/health").await?;
        if health.status == StatusCode::FORBIDDEN {
            return Err(Silence::Forbidden);
        }
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

/// Requests the daemon's plugins and peers. Returns `None` if it is stopping or has another
/// version.
async fn seen(socket: &std::path::Path) -> Result<Option<Seen>, Silence> {
    let (plugins, cluster) = (get(socket, "/api/plugins").await?, get(socket, "/api/cluster").await?);
    let plugins = serde_json::from_slice(&plugins.body).ok();
    Ok(plugins.zip(serde_json::from_slice(&cluster.body).ok()).map(|(plugins, cluster)| Seen { plugins, cluster }))
}

/// Why a daemon has not answered.
enum Silence {
    /// The socket cannot be reached.
    Unreached(client::ClientError),
    /// The daemon does not allow this user.
    Forbidden,
    /// The answer is a refusal, or cannot be read.
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
    fn the_verdict_counts_errors_and_warnings() {
        let mut report = Report::default();
        report.ok("home", "exists");
        assert_eq!((report.has_no_errors(), report.verdict().as_str()), (true, "no problems"));
        report.warn("socket", "no daemon", "start one");
        assert_eq!((report.has_no_errors(), report.verdict().as_str()), (true, "no errors, 1 warning"));
        report.fail("cookie", "public", "chmod it");
        assert_eq!((report.has_no_errors(), report.verdict().as_str()), (false, "1 error, 1 warning"));
        let shown = anstream::adapter::strip_str(&report.for_people()).to_string();
        assert_eq!(
            shown,
            "ok    home    exists\nwarn  socket  no daemon; start one\nFAIL  cookie  public; chmod it\n\n\
             verdict: 1 error, 1 warning\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.as_json()).expect("JSON");
        assert_eq!((&json["ok"], &json["findings"][2]["level"]), (&false.into(), &"fail".into()));
    }
}
