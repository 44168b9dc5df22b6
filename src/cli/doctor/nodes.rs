//! `doctor`'s check of a running daemon's plugins and peers: stopped plugins, and nodes that are
//! not connected. Nodes with the same failure are one finding, and a cause is reported only once.

use std::collections::BTreeMap;

use beam::name::NodeName;

use super::report::Report;
use crate::cli::support::page::counted;
use crate::config::DEFAULT_NODE;
use crate::limits;
use crate::wire::{Cluster, FailureCode, LastFailure, NodeState, PeerEntry, PeerState, PluginEntry, PluginStatus};

/// The plugins and peers that the daemon reports.
#[derive(Debug)]
pub(super) struct Seen {
    pub plugins: Vec<PluginEntry>,
    pub cluster: Cluster,
}

/// Nodes with the same failure.
#[derive(Debug, Default)]
struct Failed<'a> {
    /// Each node, with its plugin if it has one.
    nodes: BTreeMap<&'a str, Option<&'a str>>,
}

/// Examines plugins and nodes. Must run last, when the findings that explain a failure exist.
pub(super) fn examine(seen: &Seen, report: &mut Report) {
    stopped(&seen.plugins, report);
    let mut failures = failures(seen);
    let (epmd, cookie) = (report.has_problem("epmd"), report.has_problem("cookie"));
    let explained = |code: &FailureCode| match code {
        FailureCode::CookieMismatch => cookie,
        FailureCode::EpmdUnreachable | FailureCode::NotRegistered => epmd,
        _ => false,
    };
    failures.retain(|code, _| !explained(code));
    if failures.is_empty() {
        let connected = seen.plugins.iter().filter(|plugin| plugin.node_state == Some(NodeState::Connected)).count();
        report.ok("nodes", counted(connected, "node of a plugin is connected", "nodes of plugins are connected"));
    }
    for (code, failed) in &failures {
        failed.report(code, &seen.cluster.cookie_hash, report);
    }
}

fn stopped(plugins: &[PluginEntry], report: &mut Report) {
    let stopped: Vec<String> = plugins
        .iter()
        .filter(|plugin| plugin.status == PluginStatus::Stopped)
        .map(|plugin| format!("{} ({})", plugin.name, plugin.reason))
        .collect();
    if stopped.is_empty() {
        return report.ok("plugins", format!("{} registered, none stopped", plugins.len()));
    }
    let detail = format!("{} of {} stopped: {}", stopped.len(), plugins.len(), shown(&stopped));
    report.warn("plugins", detail, "start them, or deregister the unneeded ones with `hecate-daemon deregister NAME`");
}

/// Returns the failures by code.
fn failures(seen: &Seen) -> BTreeMap<&FailureCode, Failed<'_>> {
    let mut failures: BTreeMap<&FailureCode, Failed<'_>> = BTreeMap::new();
    for peer in &seen.cluster.peers {
        if let Some(code) = refusal(peer) {
            failures.entry(code).or_default().nodes.insert(&peer.name, None);
        }
    }
    for plugin in &seen.plugins {
        if let (Some(node), Some(NodeState::NotConnected)) = (plugin.node.as_deref(), &plugin.node_state) {
            let code = plugin.node_failure.as_ref().unwrap_or(&FailureCode::ConnectionLost);
            // The node of a stopped plugin need not exist.
            if plugin.status != PluginStatus::Running && !code.is_refusal() {
                continue;
            }
            failures.entry(code).or_default().nodes.insert(node, Some(&plugin.name));
        }
    }
    failures
}

/// Returns the code with which a peer has refused this node since the last connection.
fn refusal(peer: &PeerEntry) -> Option<&FailureCode> {
    let LastFailure { code, at, .. } = peer.last_failure.as_ref().filter(|_| peer.state != PeerState::Connected)?;
    // Both are RFC 3339 in UTC, to the millisecond.
    (at >= &peer.since && code.is_refusal()).then_some(code)
}

impl Failed<'_> {
    fn report(&self, code: &FailureCode, cookie_hash: &str, report: &mut Report) {
        let name = |(node, plugin): (&&str, &Option<&str>)| match plugin {
            Some(plugin) => format!("{node} of {plugin}"),
            None => (*node).to_owned(),
        };
        let nodes: Vec<String> = self.nodes.iter().map(name).collect();
        let count = counted(nodes.len(), "node is not connected", "nodes are not connected");
        let detail = format!("{count} ({code}): {}", shown(&nodes));
        let first = self.nodes.keys().next().copied().unwrap_or_default();
        let mut advice = format!("run `hecate-daemon diagnose {first}`");
        if *code == FailureCode::CookieMismatch {
            // A primary daemon is not an Erlang release.
            let is_daemon = |node: &&str| NodeName::parse(node).is_ok_and(|node| node.short_name() == DEFAULT_NODE);
            let rebar3 = match self.nodes.keys().all(is_daemon) {
                true => "",
                false => " (`rebar3 release` writes another cookie to vm.args)",
            };
            advice = format!("start them with the daemon's cookie, whose hash is {cookie_hash}{rebar3}; {advice}");
        }
        if self.nodes.values().any(Option::is_some) && code.is_refusal() {
            report.fail("nodes", detail, advice);
        } else {
            report.warn("nodes", detail, advice);
        }
    }
}

/// Lists the first names, and the number of the others.
pub(super) fn shown(all: &[String]) -> String {
    let first = all.get(..limits::NAMED_AT_ONCE).unwrap_or(all);
    match all.len() - first.len() {
        0 => first.join(", "),
        more => format!("{}, and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Level;
    use crate::wire::{Epmd, EpmdState};

    fn plugin(name: &str, state: Option<(&str, Option<&str>)>, status: &str) -> PluginEntry {
        PluginEntry {
            name: name.to_owned(),
            version: None,
            socket: "/s".to_owned(),
            status: status.into(),
            description: None,
            node: state.map(|_| format!("{}@h", name.replace('-', "_"))),
            since: "2026-01-01T00:00:00.000Z".to_owned(),
            reason: "its socket is gone".to_owned(),
            reason_code: "socket_gone".to_owned(),
            node_state: state.map(|(state, _)| state.into()),
            node_failure: state.and_then(|(_, failure)| failure).map(FailureCode::from),
        }
    }

    fn peer(name: &str, state: &str, failure: Option<(&str, &str)>) -> PeerEntry {
        let last_failure = failure.map(|(code, at)| LastFailure {
            code: code.into(),
            detail: String::new(),
            at: format!("2026-01-01T00:00:{at}.000Z"),
        });
        PeerEntry {
            name: name.to_owned(),
            state: state.into(),
            since: "2026-01-01T00:00:10.000Z".to_owned(),
            reason: String::new(),
            reason_code: String::new(),
            introduced_by: None,
            attempts: 1,
            last_failure,
            hidden: None,
            flags: None,
            otp_release: None,
            net_ticktime: None,
            round_trip_ms: None,
        }
    }

    fn seen(plugins: Vec<PluginEntry>, peers: Vec<PeerEntry>) -> Seen {
        let cluster = Cluster {
            node: None,
            epmd: Epmd { state: EpmdState::Registered, reason: None },
            peers,
            scopes: Vec::new(),
            unregistered: Vec::new(),
            cookie_hash: "HASH".to_owned(),
        };
        Seen { plugins, cluster }
    }

    fn found(seen: &Seen, mut report: Report) -> Vec<(Level, &'static str, String)> {
        let before = report.findings.len();
        examine(seen, &mut report);
        report.findings.drain(before..).map(|finding| (finding.level, finding.check, finding.detail)).collect()
    }

    #[test]
    fn one_cause_is_one_finding() {
        let mismatch = Some(("not_connected", Some("cookie_mismatch")));
        let names = ["a-ad", "a-bd", "a-cd", "a-dd", "a-ed", "a-fd", "a-gd"];
        let mut plugins: Vec<_> = names.iter().map(|name| plugin(name, mismatch, "running")).collect();
        plugins.push(plugin("a-yd", Some(("not_connected", None)), "running"));
        plugins.push(plugin("a-zd", Some(("not_connected", Some("not_registered"))), "stopped"));
        let peers = vec![
            peer("a_ad@h", "disconnected", Some(("cookie_mismatch", "11"))),
            peer("far@x", "disconnected", Some(("cookie_mismatch", "11"))),
            peer("old@x", "disconnected", Some(("not_allowed", "09"))),
            peer("on@x", "connected", Some(("not_allowed", "11"))),
            peer("shut@x", "disconnected", Some(("not_allowed", "11"))),
            peer("slow@x", "disconnected", Some(("tcp_timeout", "11"))),
        ];
        let seen = seen(plugins, peers);
        let first = "a_ad@h of a-ad, a_bd@h of a-bd, a_cd@h of a-cd, a_dd@h of a-dd, a_ed@h of a-ed";
        let stopped = (Level::Warn, "plugins", "1 of 9 stopped: a-zd (its socket is gone)".to_owned());
        let lost = (Level::Warn, "nodes", "1 node is not connected (connection_lost): a_yd@h of a-yd".to_owned());
        let shut = (Level::Warn, "nodes", "1 node is not connected (not_allowed): shut@x".to_owned());
        let differ =
            (Level::Fail, "nodes", format!("8 nodes are not connected (cookie_mismatch): {first}, and 3 more"));
        let all = found(&seen, Report::default());
        assert_eq!(all, [stopped.clone(), lost.clone(), differ, shut.clone()].map(|finding| finding));
        // The cookie file differs: the cause is reported already.
        let mut report = Report::default();
        report.fail("cookie", "it differs", "restart");
        assert_eq!(found(&seen, report), [stopped, lost, shut]);
    }

    #[test]
    fn only_erlang_nodes_get_the_hint_about_releases() {
        let advice = |node: &str| {
            let mut report = Report::default();
            let peers = vec![peer(node, "disconnected", Some(("cookie_mismatch", "11")))];
            examine(&seen(Vec::new(), peers), &mut report);
            report.findings.pop().and_then(|finding| finding.advice).expect("advice")
        };
        assert!(advice("hecate_ad@h").contains("rebar3"));
        assert!(!advice("hecate@h").contains("rebar3"));
    }

    #[test]
    fn an_epmd_that_is_down_is_not_reported_again_for_each_plugin() {
        let state = Some(("not_connected", Some("epmd_unreachable")));
        let seen = seen(vec![plugin("a-bd", state, "running")], Vec::new());
        let mut report = Report::default();
        report.warn("epmd", "it is down", "wait");
        assert!(found(&seen, report).iter().all(|(level, ..)| *level == Level::Ok));
        assert!(found(&seen, Report::default()).iter().any(|(level, ..)| *level == Level::Warn));
    }
}
