//! Decides which plugins are registered and which are running. Pure: it gets inputs and the time,
//! and returns events to store and effects to run.
//!
//! A plugin is *governed* by its node if the node has been connected since the registration or the
//! start of the daemon. Then the node decides its status, and the socket only adds to the reason.
//! Every other plugin is judged by its `api.sock`. In addition, it counts as running while its node
//! is running on this host and refuses to connect.
//!
//! The task applies a batch to a copy of the state, and drops the copy if the batch cannot be
//! stored.

mod cluster;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use beam::name::NodeName;

use super::effect::{Config, Now, RegistryEffect, RegistryInput};
use super::entries::{Entries, Entry, Liveness};
use super::nodes::Nodes;
use super::refusal::Refusal;
use super::{Membership, View};
use crate::layout::Process;
use crate::limits;
use crate::plugin::{Event, EventKind, Field, Plugin, PluginName, Plugins, Reason, ReasonCode, Registration, Status};

/// The state of the registry. Its large parts are persistent or shared, so a copy is cheap.
#[derive(Debug, Clone)]
pub struct State {
    config: Config,
    revision: u64,
    entries: Entries,
    /// The plugins of `entries`, for views.
    plugins: Plugins,
    /// The number of running plugins.
    running: usize,
    nodes: Arc<Nodes>,
    /// The names of the daemon's own node, or those that it may get when it joins the cluster.
    own_node: Arc<BTreeSet<NodeName>>,
    /// None once every stored plugin has been judged.
    judging: Option<Judging>,
}

/// The time after a start during which some stored plugins are unjudged.
#[derive(Debug, Clone)]
struct Judging {
    /// The deadline for nodes to connect, or, if `probing`, for the results of probes.
    until: Instant,
    probing: bool,
}

impl State {
    /// Creates the state from the stored plugins.
    #[must_use]
    pub fn new(config: Config, now: Now, revision: u64, plugins: Plugins) -> Self {
        let until = now.instant + config.judge;
        let mut entries = Entries::default();
        for plugin in plugins.values() {
            let liveness = Liveness { unjudged: true, ..Liveness::new(now.instant) };
            entries.insert(Entry { plugin: Arc::clone(plugin), liveness });
        }
        let running = plugins.values().filter(|plugin| plugin.status == Status::Running).count();
        let judging = entries.any_unjudged().then_some(Judging { until, probing: false });
        Self { config, revision, entries, plugins, running, nodes: Arc::default(), own_node: Arc::default(), judging }
    }

    /// Returns a view of the state.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            revision: self.revision,
            ready: self.judging.is_none(),
            plugins: self.plugins.clone(),
            running: self.running,
            unsaved: None,
            is_lost: false,
        }
    }

    /// Checks whether a registration would be accepted, before directories are created for it.
    ///
    /// # Errors
    /// [`Refusal::OwnNode`], [`Refusal::Full`] or [`Refusal::NodeConflict`].
    pub fn admit(&self, registration: &Registration) -> Result<(), Refusal> {
        if let Field::Set(node) = &registration.node
            && self.own_node.contains(node)
        {
            return Err(Refusal::OwnNode { node: node.clone() });
        }
        let Some(Entry { plugin, .. }) = self.entries.get(&registration.name) else {
            return if self.entries.len() < limits::PLUGINS { Ok(()) } else { Err(Refusal::Full) };
        };
        match (&registration.node, &plugin.node) {
            (Field::Set(node), Some(holder)) if node != holder && self.nodes.is_connected(holder) => {
                Err(Refusal::NodeConflict { name: plugin.name.clone(), holder: holder.clone(), since: plugin.since })
            }
            _ => Ok(()),
        }
    }

    /// Checks whether the data of a plugin may be purged, without probing its socket. `last_node`
    /// is its node from when it was registered.
    ///
    /// # Errors
    /// [`Refusal::Registered`] or [`Refusal::StillRunning`].
    pub fn admit_purge(&self, name: &PluginName, last_node: Option<NodeName>) -> Result<(), Refusal> {
        if self.entries.get(name).is_some() {
            return Err(Refusal::Registered { name: name.clone() });
        }
        let last = last_node.as_ref();
        let connected = last.filter(|node| self.nodes.is_connected(node)).cloned();
        let sign = if let Some(node) = connected.or_else(|| self.nodes.best_on_this_host(name, None)) {
            format!("its node {node} is connected")
        } else if let Some(node) = self.nodes.refusing_on_this_host(name, last) {
            format!("its node {node} is running")
        } else {
            return Ok(());
        };
        Err(Refusal::StillRunning { name: name.clone(), sign })
    }

    /// Creates the event for a purge, after the data of an unregistered plugin was set aside.
    pub fn purged(&mut self, now: Now, name: PluginName, out: &mut Vec<RegistryEffect>) {
        let reason = Reason::new(ReasonCode::DataPurged, "its data was removed");
        let plugin = Plugin { reason, ..unknown(name, now, self.revision + 1) };
        self.store(now, EventKind::DataPurged, Arc::new(plugin), out);
    }

    /// Returns the revision of the next event.
    #[must_use]
    pub fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// Returns when the next [`RegistryInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let judging = self.judging.as_ref().map(|judging| judging.until);
        judging.into_iter().chain(self.entries.next_due()).min()
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Now, input: RegistryInput, out: &mut Vec<RegistryEffect>) {
        match input {
            RegistryInput::Membership(Membership::WantedNames { names }) => self.own_node = Arc::new(names),
            RegistryInput::Membership(Membership::OwnNode { names }) => self.joined(now, names, out),
            RegistryInput::Membership(Membership::NodeUp { node, on_this_host }) => {
                self.node_up(now, &node, on_this_host, out)
            }
            RegistryInput::Membership(Membership::NodeDown { node, reason }) => {
                self.node_down(now, &node, &reason, out)
            }
            RegistryInput::Membership(Membership::NodeRefused { node, code }) => {
                self.node_refused(now, &node, code, out)
            }
            RegistryInput::Membership(Membership::NodeEnded { node }) => self.node_ended(now, &node, out),
            RegistryInput::Membership(Membership::Announced { plugin, node }) => self.announce(now, plugin, node, out),
            RegistryInput::Membership(Membership::Withdrawn { plugin, node }) => {
                self.withdraw(now, &plugin, &node, out)
            }
            RegistryInput::Membership(Membership::Settled) => self.probe_unjudged(now, out),
            RegistryInput::SocketProbed { name, state } => self.probed(now, &name, state, out),
            RegistryInput::Exited { name, process } => self.exited(now, &name, process, out),
            RegistryInput::Tick => self.tick(now, out),
        }
        self.settle_judging();
    }

    fn settle_judging(&mut self) {
        if !self.entries.any_unjudged() {
            self.judging = None;
        }
    }

    /// Marks a plugin as judged. Returns whether it was unjudged before.
    fn take_unjudged(&mut self, name: &PluginName) -> bool {
        self.entries.change(name, |entry| std::mem::take(&mut entry.liveness.unjudged)).unwrap_or_default()
    }

    // ---- Commands ---------------------------------------------------------------------------

    /// Registers a plugin whose directories exist. `process` sent the request; it is `None` if it
    /// is not visible. Returns the registered plugin.
    ///
    /// # Errors
    /// See [`Self::admit`].
    pub fn register(
        &mut self,
        now: Now,
        registration: Registration,
        process: Option<Process>,
        out: &mut Vec<RegistryEffect>,
    ) -> Result<Arc<Plugin>, Refusal> {
        self.admit(&registration)?;
        let name = registration.name;
        Arc::make_mut(&mut self.nodes).registered(&name);
        let before = self.entries.get(&name).map(|entry| Plugin::clone(&entry.plugin));
        let revision = self.revision + 1;
        let mut plugin = before.unwrap_or_else(|| unknown(name.clone(), now, revision));
        registration.version.apply(&mut plugin.version);
        registration.description.apply(&mut plugin.description);
        if registration.node != Field::Absent {
            plugin.node_given = registration.node != Field::Clear;
        }
        registration.node.apply(&mut plugin.node);
        plugin.node = self.nodes.node_of(&plugin);
        let reason = Reason::new(ReasonCode::Registered, "it registered");
        set_status(&mut plugin, now, revision, Status::Running, reason);

        let governed = plugin.node.as_ref().is_some_and(|node| self.nodes.is_connected(node));
        let has_node = governed || self.is_refusing(&plugin);
        let grace = (!has_node).then_some(now.instant + self.config.grace);
        let plugin = Arc::new(plugin);
        let liveness = Liveness { governed, grace, process, ..Liveness::new(now.instant) };
        self.entries.insert(Entry { plugin: Arc::clone(&plugin), liveness });
        self.store(now, EventKind::Registered, Arc::clone(&plugin), out);
        out.push(RegistryEffect::CancelCleanUp(name.clone()));
        out.extend(process.map(|process| RegistryEffect::AwaitExit { name: name.clone(), process }));
        self.probe_if_due(now, &name, out);
        self.settle_judging();
        Ok(plugin)
    }

    /// Removes a plugin, and returns it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn deregister(
        &mut self,
        now: Now,
        name: PluginName,
        out: &mut Vec<RegistryEffect>,
    ) -> Result<Arc<Plugin>, Refusal> {
        let Some(Entry { plugin, liveness }) = self.entries.get(&name).cloned() else {
            return Err(Refusal::NotFound { name });
        };
        self.entries.remove(&name);
        self.store(now, EventKind::Deregistered, Arc::clone(&plugin), out);
        out.push(RegistryEffect::Forget(name.clone()));
        // The socket is not probed again, so this is the last chance to remove the files of a dead
        // plugin.
        out.push(RegistryEffect::CleanUp { name, process: liveness.process });
        self.settle_judging();
        Ok(plugin)
    }

    // ---- Time -------------------------------------------------------------------------------

    fn tick(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        match &self.judging {
            Some(Judging { until, probing: false, .. }) if *until <= now.instant => self.probe_unjudged(now, out),
            Some(Judging { until, probing: true, .. }) if *until <= now.instant => self.stop_unjudged(now, out),
            _ => {}
        }
        for name in self.entries.due(now.instant) {
            self.end_grace(now, &name, out);
            self.probe_if_due(now, &name, out);
        }
    }

    /// Stops a plugin whose grace period has passed without a sign of life.
    fn end_grace(&mut self, now: Now, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        let ended = self.entries.change(name, |Entry { liveness, .. }| {
            liveness.grace.take_if(|until| *until <= now.instant).map(|_| {
                liveness.silent = liveness.denied.is_none();
                // At once, because the reason includes the present state of the socket.
                liveness.next_probe = now.instant;
                (liveness.no_answer.clone(), liveness.denied.clone())
            })
        });
        match ended.flatten() {
            Some((_, Some(why))) => self.mark_status_unknown(now, name, &why, out),
            Some((no_answer, None)) => self.stop(now, name, self.no_sign_of_life(no_answer.as_ref()), out),
            None => {}
        }
    }

    /// Returns the reason for a plugin that showed no sign of life in its grace period. `no_answer`
    /// is the result of the last probe.
    fn no_sign_of_life(&self, no_answer: Option<&Reason>) -> Reason {
        let grace = self.config.grace.as_secs();
        let no_answer = no_answer.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let detail = format!("no sign of life within {grace} s of its registration{no_answer}");
        Reason::new(ReasonCode::NoSignOfLife, detail)
    }

    /// Probes the sockets of the plugins whose nodes have not connected since the start.
    fn probe_unjudged(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        let Some(judging @ Judging { probing: false, .. }) = &mut self.judging else {
            return;
        };
        *judging = Judging { until: now.instant + limits::JUDGE_LOOK, probing: true };
        for name in self.entries.names_where(|entry| entry.liveness.unjudged) {
            self.entries.change(&name, |Entry { liveness, .. }| liveness.probe(now, &name, out));
        }
    }

    /// Stops the plugins whose probes take too long, so that the daemon becomes ready.
    fn stop_unjudged(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        for name in self.entries.names_where(|entry| entry.liveness.unjudged) {
            self.take_unjudged(&name);
            let reason = Reason::new(ReasonCode::SocketUnchecked, "its socket could not be checked in time");
            self.stop(now, &name, reason, out);
        }
    }

    fn probe_all_due(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        for name in self.entries.due(now.instant) {
            self.probe_if_due(now, &name, out);
        }
    }

    fn probe_if_due(&mut self, now: Now, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        if self.entries.get(name).and_then(Entry::probe_due).is_some_and(|due| due <= now.instant) {
            self.entries.change(name, |Entry { liveness, .. }| liveness.probe(now, name, out));
        }
    }

    // ---- Changes ----------------------------------------------------------------------------

    fn run(&mut self, now: Now, name: &PluginName, reason: Reason, out: &mut Vec<RegistryEffect>) {
        let node = self.entries.get(name).and_then(|entry| entry.plugin.node.clone());
        self.change(now, name, Status::Running, node, reason, out);
    }

    fn stop(&mut self, now: Now, name: &PluginName, reason: Reason, out: &mut Vec<RegistryEffect>) {
        let node = self.entries.get(name).and_then(|entry| entry.plugin.node.clone());
        self.change(now, name, Status::Stopped, node, reason, out);
        self.clean_up(name, out);
    }

    fn clean_up(&self, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        let process = self.entries.get(name).and_then(|entry| entry.liveness.process);
        out.push(RegistryEffect::CleanUp { name: name.clone(), process });
    }

    /// Keeps the status and changes the reason, because the daemon has no permission to connect to
    /// the socket.
    fn mark_status_unknown(&mut self, now: Now, name: &PluginName, why: &str, out: &mut Vec<RegistryEffect>) {
        let reason = Reason::new(ReasonCode::StatusUnknown, format!("status unknown: {why}"));
        self.change_reason(now, name, reason, out);
    }

    /// Creates an event if the status or the node differs. Otherwise the first reason is kept,
    /// unless it is [`ReasonCode::StatusUnknown`].
    fn change(
        &mut self,
        now: Now,
        name: &PluginName,
        status: Status,
        node: Option<NodeName>,
        reason: Reason,
        out: &mut Vec<RegistryEffect>,
    ) {
        let revision = self.revision + 1;
        let Some(Entry { plugin, .. }) = self.entries.get(name) else {
            return;
        };
        if plugin.status == status && plugin.node == node && !is_unknown(plugin) {
            return;
        }
        let mut changed = Plugin { node, ..Plugin::clone(plugin) };
        set_status(&mut changed, now, revision, status, reason);
        self.replace(now, changed, out);
        if status == Status::Running {
            out.push(RegistryEffect::CancelCleanUp(name.clone()));
        }
    }

    /// Creates an event if the reason differs.
    fn change_reason(&mut self, now: Now, name: &PluginName, reason: Reason, out: &mut Vec<RegistryEffect>) {
        let Some(Entry { plugin, .. }) = self.entries.get(name) else {
            return;
        };
        if plugin.reason != reason {
            let changed = Plugin { reason, ..Plugin::clone(plugin) };
            self.replace(now, changed, out);
        }
    }

    fn replace(&mut self, now: Now, changed: Plugin, out: &mut Vec<RegistryEffect>) {
        let changed = Arc::new(changed);
        self.entries.change(&changed.name, |entry| entry.plugin = Arc::clone(&changed));
        self.store(now, EventKind::StatusChanged, changed, out);
    }

    fn store(&mut self, now: Now, kind: EventKind, plugin: Arc<Plugin>, out: &mut Vec<RegistryEffect>) {
        self.revision += 1;
        let runs = |plugin: &Arc<Plugin>| usize::from(plugin.status == Status::Running);
        self.running -= self.plugins.get(&plugin.name).map_or(0, runs);
        match kind {
            EventKind::Registered | EventKind::StatusChanged => {
                self.running += runs(&plugin);
                self.plugins.insert_mut(plugin.name.clone(), Arc::clone(&plugin));
            }
            EventKind::Deregistered => {
                self.plugins.remove_mut(&plugin.name);
            }
            // The plugin is not registered.
            EventKind::DataPurged => {}
        }
        out.push(RegistryEffect::Store(Event { revision: self.revision, at: now.time, kind, plugin }));
    }
}

/// Returns a stopped plugin with only a name.
fn unknown(name: PluginName, now: Now, revision: u64) -> Plugin {
    Plugin {
        name,
        version: None,
        description: None,
        node: None,
        node_given: false,
        status: Status::Stopped,
        since: now.time,
        reason: Reason::new(ReasonCode::Unknown, ""),
        registered_at: now.time,
        incarnation: revision,
    }
}

fn set_status(plugin: &mut Plugin, now: Now, revision: u64, status: Status, reason: Reason) {
    if plugin.status != status {
        plugin.since = now.time;
        if status == Status::Running {
            plugin.incarnation = revision;
        }
    }
    plugin.status = status;
    plugin.reason = reason;
}

fn is_unknown(plugin: &Plugin) -> bool {
    plugin.reason.code == ReasonCode::StatusUnknown
}
