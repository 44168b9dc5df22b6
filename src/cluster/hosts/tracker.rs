//! Keeps the reports of the other hecate-daemons about their plugins. Decides which daemon to ask
//! for a snapshot, and when. Applies events, and records since when a daemon is lost. Pure.
//!
//! A daemon numbers its events with revisions. Each daemon in the group in `pg` is asked for a
//! snapshot. After that, the event with the next revision is applied, and older events are ignored.
//! A later event shows that an event is missing, so the daemon is asked again.
//!
//! A daemon that connects again is asked as if for the first time, because its revisions may have
//! restarted. It stays lost until it has answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use beam::name::NodeName;
use beam::node::now::Now;

use crate::cluster::hosts::reports::{Change, HostEvent, Snapshot};
use crate::cluster::view::{HostState, HostView, PluginView, PluginViews};
use crate::limits;

/// An input of [`Hosts::handle`].
#[derive(Debug)]
pub enum HostsInput {
    /// These daemons are in the group, each with the number of the connection to its node.
    Members(BTreeMap<NodeName, u64>),
    /// The result of [`HostsEffect::Ask`].
    Answered {
        /// The node of the daemon.
        node: NodeName,
        /// The number of the connection.
        connection: u64,
        /// The answer; none if there was no valid one.
        snapshot: Option<Snapshot>,
    },
    /// A daemon has sent an event.
    Event {
        /// The node of the daemon.
        node: NodeName,
        /// The number of the connection.
        connection: u64,
        /// The event.
        event: HostEvent,
    },
    /// Events were lost, perhaps of all daemons.
    Missed,
    /// Time has passed.
    Tick,
}

/// An effect of [`Hosts::handle`].
#[derive(Debug, PartialEq, Eq)]
pub enum HostsEffect {
    /// Ask this daemon for a snapshot. [`HostsInput::Answered`] must follow, also after a failure.
    Ask {
        /// Its node.
        node: NodeName,
        /// The number of the connection, for the answer.
        connection: u64,
    },
}

/// The other daemons.
#[derive(Debug, Default)]
pub struct Hosts {
    hosts: BTreeMap<NodeName, Host>,
    /// The weight of all reports.
    weight: usize,
    changed: bool,
}

/// Another daemon. It has a link, a report or both.
#[derive(Debug, Default)]
struct Host {
    /// Present while the daemon is in the group in `pg`.
    link: Option<Link>,
    /// Present since the daemon's first answer.
    report: Option<HostReport>,
}

/// A connected daemon.
#[derive(Debug)]
struct Link {
    connection: u64,
    /// The revision of the report; none until the daemon has answered over this connection.
    revision: Option<u64>,
    /// The latest revision of an event since the daemon was asked. The maximum means that the
    /// latest revision is unknown.
    latest: u64,
    asking: bool,
    /// The earliest time of the next request.
    ask_at: Instant,
    /// The time of the next request if no event is missing.
    refresh_at: Instant,
    /// The pause after the next request without an answer.
    pause: Duration,
}

/// The last report of a daemon.
#[derive(Debug)]
struct HostReport {
    state: HostState,
    since: SystemTime,
    /// When the daemon was lost, if it is lost.
    lost_at: Option<Instant>,
    plugins: PluginViews,
    weight: usize,
    left_out: usize,
}

impl Link {
    fn new(now: Instant, connection: u64) -> Self {
        Self {
            connection,
            revision: None,
            latest: 0,
            asking: false,
            ask_at: now,
            refresh_at: now,
            pause: limits::HOST_PAUSE,
        }
    }

    /// Returns when to ask the daemon; `None` while a request waits for its answer.
    fn due(&self) -> Option<Instant> {
        let is_stale = self.revision.is_none_or(|revision| revision < self.latest);
        (!self.asking).then(|| if is_stale { self.ask_at } else { self.refresh_at.max(self.ask_at) })
    }

    /// The daemon did not answer.
    fn fail(&mut self, now: Instant) {
        self.ask_at = now + self.pause;
        self.pause = (self.pause * 2).min(limits::HOST_PAUSE_LONGEST);
        // The events that led to the request are still missing.
        self.latest = u64::MAX;
    }
}

impl HostReport {
    /// Returns a report without plugins.
    fn new(since: SystemTime) -> Self {
        let plugins = PluginViews::default();
        Self { state: HostState::Connected, since, lost_at: None, plugins, weight: 0, left_out: 0 }
    }
}

impl Hosts {
    /// Handles an input, and appends the effects to `out`.
    pub fn handle(&mut self, now: Now, input: HostsInput, out: &mut Vec<HostsEffect>) {
        match input {
            HostsInput::Members(members) => self.members(now, &members),
            HostsInput::Answered { node, connection, snapshot } => self.answered(now, &node, connection, snapshot),
            HostsInput::Event { node, connection, event } => self.event(&node, connection, event),
            HostsInput::Missed => {
                for link in self.hosts.values_mut().filter_map(|host| host.link.as_mut()) {
                    link.latest = u64::MAX;
                }
            }
            HostsInput::Tick => {
                let is_old =
                    |report: &HostReport| report.lost_at.is_some_and(|at| at + limits::HOST_LOST <= now.instant);
                let is_expired = |host: &Host| host.link.is_none() && host.report.as_ref().is_some_and(is_old);
                let expired = self.hosts.iter().filter(|(_, host)| is_expired(host)).map(|(node, _)| node.clone());
                for node in expired.collect::<Vec<_>>() {
                    self.forget(&node);
                }
            }
        }
        for (node, host) in &mut self.hosts {
            let Some(link) = host.link.as_mut().filter(|link| link.due().is_some_and(|at| at <= now.instant)) else {
                continue;
            };
            link.asking = true;
            link.latest = 0;
            link.ask_at = now.instant + limits::HOST_PAUSE;
            out.push(HostsEffect::Ask { node: node.clone(), connection: link.connection });
        }
    }

    /// Returns when [`HostsInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = |host: &Host| match (&host.link, &host.report) {
            (Some(link), _) => link.due(),
            (None, report) => report.as_ref()?.lost_at.map(|at| at + limits::HOST_LOST),
        };
        self.hosts.values().filter_map(deadline).min()
    }

    /// Returns whether [`Self::view`] has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns the daemons that have answered, in the order of their nodes' names.
    #[must_use]
    pub fn view(&self) -> Vec<HostView> {
        let host = |(node, host): (&NodeName, &Host)| {
            let report = host.report.as_ref()?;
            Some(HostView {
                daemon: node.clone(),
                state: report.state,
                since: report.since,
                plugins: report.plugins.clone(),
                left_out: report.left_out,
            })
        };
        self.hosts.iter().filter_map(host).collect()
    }

    fn members(&mut self, now: Now, members: &BTreeMap<NodeName, u64>) {
        for (node, host) in &mut self.hosts {
            let Some(link) = &host.link else { continue };
            if members.get(node) != Some(&link.connection) {
                host.link = None;
                if let Some(report) = host.report.as_mut().filter(|report| report.state == HostState::Connected) {
                    (report.state, report.since, report.lost_at) = (HostState::Lost, now.wall, Some(now.instant));
                    self.changed = true;
                }
            }
        }
        self.hosts.retain(|_, host| host.link.is_some() || host.report.is_some());
        for (node, connection) in members {
            let known = self.hosts.contains_key(node);
            // A daemon beyond the limit is tried again at the next change of the members.
            if known || self.hosts.len() < limits::HOSTS || self.forget_lost() {
                let host = self.hosts.entry(node.clone()).or_default();
                host.link.get_or_insert_with(|| Link::new(now.instant, *connection));
            }
        }
    }

    fn answered(&mut self, now: Now, node: &str, connection: u64, snapshot: Option<Snapshot>) {
        let Some(host) = self.hosts.get_mut(node) else { return };
        let Some(link) = host.link.as_mut().filter(|link| link.connection == connection) else { return };
        link.asking = false;
        let Some(snapshot) = snapshot else { return link.fail(now.instant) };
        (link.pause, link.refresh_at) = (limits::HOST_PAUSE, now.instant + limits::HOST_REFRESH);
        // Events that arrived before the snapshot may be newer.
        if link.revision.is_some_and(|revision| revision > snapshot.revision) {
            return;
        }
        link.revision = Some(snapshot.revision);
        let before = host.report.take();
        let since = before.as_ref().filter(|report| report.state == HostState::Connected).map(|report| report.since);
        self.weight -= before.map_or(0, |report| report.weight);
        host.report = Some(HostReport { left_out: snapshot.left_out, ..HostReport::new(since.unwrap_or(now.wall)) });
        for plugin in snapshot.plugins {
            self.put(node, plugin);
        }
        self.changed = true;
    }

    fn event(&mut self, node: &str, connection: u64, HostEvent { revision, change }: HostEvent) {
        let Some(host) = self.hosts.get_mut(node) else { return };
        let Some(link) = host.link.as_mut().filter(|link| link.connection == connection) else { return };
        if link.revision.is_none_or(|known| known.checked_add(1) != Some(revision)) {
            link.latest = link.latest.max(revision);
            return;
        }
        link.revision = Some(revision);
        match change {
            Change::Put(plugin) => self.put(node, plugin),
            Change::Removed(name) => self.remove(node, &name),
            Change::Nothing => return,
        }
        self.changed = true;
    }

    /// Adds or replaces a plugin, unless all reports together would exceed their limit.
    fn put(&mut self, node: &str, plugin: PluginView) {
        self.remove(node, &plugin.name);
        let weight = weight(&plugin);
        while self.weight + weight > limits::HOST_REPORTS && self.forget_lost() {}
        let Some(report) = self.hosts.get_mut(node).and_then(|host| host.report.as_mut()) else { return };
        if self.weight + weight > limits::HOST_REPORTS {
            report.left_out += 1;
            return;
        }
        self.weight += weight;
        report.weight += weight;
        report.plugins.insert_mut(plugin.name.clone(), Arc::new(plugin));
    }

    fn remove(&mut self, node: &str, name: &str) {
        let Some(report) = self.hosts.get_mut(node).and_then(|host| host.report.as_mut()) else { return };
        let weight = report.plugins.get(name).map_or(0, |plugin| weight(plugin));
        report.plugins.remove_mut(name);
        report.weight -= weight;
        self.weight -= weight;
    }

    /// Forgets the daemon that was lost first. Returns `false` if no daemon is lost.
    fn forget_lost(&mut self) -> bool {
        let lost = self.hosts.iter().filter(|(_, host)| host.link.is_none());
        let first = lost.min_by_key(|(_, host)| host.report.as_ref().and_then(|report| report.lost_at));
        let first = first.map(|(node, _)| node.clone());
        first.is_some_and(|node| {
            self.forget(&node);
            true
        })
    }

    fn forget(&mut self, node: &str) {
        let report = self.hosts.remove(node).and_then(|host| host.report);
        self.weight -= report.map_or(0, |report| report.weight);
        self.changed = true;
    }
}

/// Returns the approximate memory of a plugin in bytes.
fn weight(plugin: &PluginView) -> usize {
    let PluginView { name, version, description, node, socket, status: _, since: _, reason } = plugin;
    let node = node.as_ref().map_or(0, |node| node.len());
    let set = [version, description].into_iter().flatten();
    limits::HOST_PLUGIN + node + set.chain([name, socket, &reason.detail]).map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests;
