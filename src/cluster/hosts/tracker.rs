//! What each other hecate-daemon said of its plugins: whom to ask for all of it, and when; what events change in it; since
//! when who said it is lost.
//!
//! Pure. A daemon counts its events: a revision names what it has at one moment. One that pg shows is asked for a snapshot; from
//! then on an event whose revision is the next is applied, an older one is known, and a later one shows that something is
//! missing, so that the daemon is asked anew. Who comes back comes by another connection and is asked as if for the first time:
//! nothing of before is compared, as its revisions may begin anew. Until it has answered it stays lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use beam::name::NodeName;
use beam::node::now::Now;

use crate::cluster::hosts::reports::{Change, HostEvent, Snapshot};
use crate::cluster::view::{HostState, HostView, PluginView, PluginViews};
use crate::limits;

/// What happened.
#[derive(Debug)]
pub enum HostsInput {
    /// These daemons are in the group, each with the number of the connection to its node.
    Members(BTreeMap<NodeName, u64>),
    /// [`HostsEffect::Ask`] was answered, or was not.
    Answered {
        /// Who was asked.
        node: NodeName,
        /// Over which connection.
        connection: u64,
        /// What it said.
        said: Option<Snapshot>,
    },
    /// A daemon tells of an event.
    Event {
        /// Which.
        node: NodeName,
        /// Over which connection.
        connection: u64,
        /// What happened there.
        event: HostEvent,
    },
    /// Events were lost on the way, of whomever.
    Missed,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum HostsEffect {
    /// Ask this daemon for a snapshot, and say [`HostsInput::Answered`] in any case.
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
    /// What all that was said weighs.
    weight: usize,
    changed: bool,
}

/// Never without one of the two.
#[derive(Debug, Default)]
struct Host {
    /// While pg shows it.
    link: Option<Link>,
    /// Once it has answered.
    said: Option<HostReport>,
}

/// How we stand with a daemon that is there.
#[derive(Debug)]
struct Link {
    connection: u64,
    /// The revision that `said` is of; none until it has answered over this connection.
    revision: Option<u64>,
    /// The latest revision that it has told of since it was asked.
    told: u64,
    asking: bool,
    /// When it may be asked, and when it is in any case.
    ask_at: Instant,
    refresh_at: Instant,
    /// The next pause, if it does not answer.
    pause: Duration,
}

/// What a daemon said last.
#[derive(Debug)]
struct HostReport {
    state: HostState,
    since: SystemTime,
    /// When it was lost, if it was.
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
            told: 0,
            asking: false,
            ask_at: now,
            refresh_at: now,
            pause: limits::HOST_PAUSE,
        }
    }

    /// When it is to be asked; none while it is.
    fn due(&self) -> Option<Instant> {
        let lacking = self.revision.is_none_or(|revision| revision < self.told);
        (!self.asking).then(|| if lacking { self.ask_at } else { self.refresh_at.max(self.ask_at) })
    }

    /// It was not answered.
    fn fail(&mut self, now: Instant) {
        self.ask_at = now + self.pause;
        self.pause = (self.pause * 2).min(limits::HOST_PAUSE_LONGEST);
        // What it was asked for is still lacking.
        self.told = u64::MAX;
    }
}

impl HostReport {
    /// Begins with nothing.
    fn new(since: SystemTime) -> Self {
        let plugins = PluginViews::default();
        Self { state: HostState::Connected, since, lost_at: None, plugins, weight: 0, left_out: 0 }
    }
}

impl Hosts {
    /// Takes an input; what is to be done is added to `out`.
    pub fn handle(&mut self, now: Now, input: HostsInput, out: &mut Vec<HostsEffect>) {
        match input {
            HostsInput::Members(members) => self.members(now, &members),
            HostsInput::Answered { node, connection, said } => self.answered(now, &node, connection, said),
            HostsInput::Event { node, connection, event } => self.event(&node, connection, event),
            HostsInput::Missed => {
                for link in self.hosts.values_mut().filter_map(|host| host.link.as_mut()) {
                    link.told = u64::MAX;
                }
            }
            HostsInput::Tick => {
                let forgotten =
                    |said: &HostReport| said.lost_at.is_some_and(|at| at + limits::HOST_LOST <= now.instant);
                let gone = |host: &Host| host.link.is_none() && host.said.as_ref().is_some_and(forgotten);
                let gone = self.hosts.iter().filter(|(_, host)| gone(host)).map(|(node, _)| node.clone());
                for node in gone.collect::<Vec<_>>() {
                    self.forget(&node);
                }
            }
        }
        for (node, host) in &mut self.hosts {
            let Some(link) = host.link.as_mut().filter(|link| link.due().is_some_and(|at| at <= now.instant)) else {
                continue;
            };
            link.asking = true;
            link.told = 0;
            link.ask_at = now.instant + limits::HOST_PAUSE;
            out.push(HostsEffect::Ask { node: node.clone(), connection: link.connection });
        }
    }

    /// When [`HostsInput::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = |host: &Host| match (&host.link, &host.said) {
            (Some(link), _) => link.due(),
            (None, said) => said.as_ref()?.lost_at.map(|at| at + limits::HOST_LOST),
        };
        self.hosts.values().filter_map(deadline).min()
    }

    /// Whether [`Self::view`] has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// All that have ever answered, in the order of their nodes' names.
    #[must_use]
    pub fn view(&self) -> Vec<HostView> {
        let host = |(node, host): (&NodeName, &Host)| {
            let said = host.said.as_ref()?;
            Some(HostView {
                daemon: node.clone(),
                state: said.state,
                since: said.since,
                plugins: said.plugins.clone(),
                left_out: said.left_out,
            })
        };
        self.hosts.iter().filter_map(host).collect()
    }

    fn members(&mut self, now: Now, members: &BTreeMap<NodeName, u64>) {
        for (node, host) in &mut self.hosts {
            let Some(link) = &host.link else { continue };
            if members.get(node) != Some(&link.connection) {
                host.link = None;
                if let Some(said) = host.said.as_mut().filter(|said| said.state == HostState::Connected) {
                    (said.state, said.since, said.lost_at) = (HostState::Lost, now.wall, Some(now.instant));
                    self.changed = true;
                }
            }
        }
        self.hosts.retain(|_, host| host.link.is_some() || host.said.is_some());
        for (node, connection) in members {
            let known = self.hosts.contains_key(node);
            // Who finds no room is looked at again whenever something changes.
            if known || self.hosts.len() < limits::HOSTS || self.forget_one() {
                let host = self.hosts.entry(node.clone()).or_default();
                host.link.get_or_insert_with(|| Link::new(now.instant, *connection));
            }
        }
    }

    fn answered(&mut self, now: Now, node: &str, connection: u64, said: Option<Snapshot>) {
        let Some(host) = self.hosts.get_mut(node) else { return };
        let Some(link) = host.link.as_mut().filter(|link| link.connection == connection) else { return };
        link.asking = false;
        let Some(snapshot) = said else { return link.fail(now.instant) };
        (link.pause, link.refresh_at) = (limits::HOST_PAUSE, now.instant + limits::HOST_REFRESH);
        // Its events may have overtaken it.
        if link.revision.is_some_and(|revision| revision > snapshot.revision) {
            return;
        }
        link.revision = Some(snapshot.revision);
        let before = host.said.take();
        let since = before.as_ref().filter(|said| said.state == HostState::Connected).map(|said| said.since);
        self.weight -= before.map_or(0, |said| said.weight);
        host.said = Some(HostReport { left_out: snapshot.left_out, ..HostReport::new(since.unwrap_or(now.wall)) });
        for plugin in snapshot.plugins {
            self.put(node, plugin);
        }
        self.changed = true;
    }

    fn event(&mut self, node: &str, connection: u64, HostEvent { revision, change }: HostEvent) {
        let Some(host) = self.hosts.get_mut(node) else { return };
        let Some(link) = host.link.as_mut().filter(|link| link.connection == connection) else { return };
        if link.revision.is_none_or(|known| known.checked_add(1) != Some(revision)) {
            link.told = link.told.max(revision);
            return;
        }
        link.revision = Some(revision);
        match change {
            Change::Is(plugin) => self.put(node, plugin),
            Change::Gone(name) => self.remove(node, &name),
            Change::Nothing => return,
        }
        self.changed = true;
    }

    /// A plugin of this host is so, if there is room for it.
    fn put(&mut self, node: &str, plugin: PluginView) {
        self.remove(node, &plugin.name);
        let weight = weight(&plugin);
        while self.weight + weight > limits::HOSTS_SAID && self.forget_one() {}
        let Some(said) = self.hosts.get_mut(node).and_then(|host| host.said.as_mut()) else { return };
        if self.weight + weight > limits::HOSTS_SAID {
            said.left_out += 1;
            return;
        }
        self.weight += weight;
        said.weight += weight;
        said.plugins.insert_mut(plugin.name.clone(), Arc::new(plugin));
    }

    fn remove(&mut self, node: &str, name: &str) {
        let Some(said) = self.hosts.get_mut(node).and_then(|host| host.said.as_mut()) else { return };
        let weight = said.plugins.get(name).map_or(0, |plugin| weight(plugin));
        said.plugins.remove_mut(name);
        said.weight -= weight;
        self.weight -= weight;
    }

    /// Makes room: who was lost first is forgotten, if anybody is lost.
    fn forget_one(&mut self) -> bool {
        let lost = self.hosts.iter().filter(|(_, host)| host.link.is_none());
        let first = lost.min_by_key(|(_, host)| host.said.as_ref().and_then(|said| said.lost_at));
        let first = first.map(|(node, _)| node.clone());
        first.is_some_and(|node| {
            self.forget(&node);
            true
        })
    }

    fn forget(&mut self, node: &str) {
        let said = self.hosts.remove(node).and_then(|host| host.said);
        self.weight -= said.map_or(0, |said| said.weight);
        self.changed = true;
    }
}

/// What a plugin takes in memory, about.
fn weight(plugin: &PluginView) -> usize {
    let PluginView { name, version, description, node, socket, status: _, since: _, reason } = plugin;
    let node = node.as_ref().map_or(0, |node| node.len());
    let set = [version, description].into_iter().flatten();
    limits::HOST_PLUGIN + node + set.chain([name, socket, &reason.detail]).map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests;
