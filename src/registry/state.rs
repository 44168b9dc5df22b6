//! Decides what is registered, which plugins live, and what is to be done about it. Pure: told what happened and when, it
//! gives events to store and effects to run.
//!
//! Follows the contract's "Status". A plugin whose node has been seen since the registration (or our start) is
//! *governed* by it: the node decides, and its socket only words the reason. Every other is judged by its `api.sock`, and by
//! its node while that is running on this host and refuses to connect: such a plugin runs.
//! Never does anything itself, so the task may try on a copy what it then fails to store, and forget the copy.

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

/// The registry's whole knowledge. What is large in it is persistent or shared, so that a copy of it costs nothing.
#[derive(Debug, Clone)]
pub struct State {
    config: Config,
    revision: u64,
    entries: Entries,
    /// The plugins of `entries`, as others see them.
    plugins: Plugins,
    /// How many of them run.
    running: usize,
    nodes: Arc<Nodes>,
    /// The names that the daemon's own node has, or may get while it has not joined the cluster.
    own_node: Arc<BTreeSet<NodeName>>,
    /// None once every stored plugin has been judged.
    judging: Option<Judging>,
}

/// The time after a start, until no plugin is open.
#[derive(Debug, Clone)]
struct Judging {
    /// Until then nodes may come; if `looking`, until then looks may.
    until: Instant,
    probing: bool,
}

impl State {
    /// Begins with what was stored.
    #[must_use]
    pub fn new(config: Config, now: Now, revision: u64, plugins: Plugins) -> Self {
        let until = now.instant + config.judge;
        let mut entries = Entries::default();
        for plugin in plugins.values() {
            let liveness = Liveness { open: true, ..Liveness::new(now.instant) };
            entries.insert(Entry { plugin: Arc::clone(plugin), liveness });
        }
        let running = plugins.values().filter(|plugin| plugin.status == Status::Running).count();
        let judging = entries.any_open().then_some(Judging { until, probing: false });
        Self { config, revision, entries, plugins, running, nodes: Arc::default(), own_node: Arc::default(), judging }
    }

    /// What everybody else may see.
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

    /// Whether a registration would be taken, so that nothing is made on disk for one that is not.
    ///
    /// # Errors
    /// Why not.
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

    /// Whether the data of a plugin may be purged, as far as is known without looking at its socket. `last_node` is the one
    /// that it had while it was registered.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_purge(&self, name: &PluginName, last_node: Option<NodeName>) -> Result<(), Refusal> {
        if self.entries.get(name).is_some() {
            return Err(Refusal::Registered { name: name.clone() });
        }
        let last = last_node.as_ref();
        let connected = last.filter(|node| self.nodes.is_connected(node)).cloned();
        let sign = if let Some(node) = connected.or_else(|| self.nodes.best_here(name, None)) {
            format!("its node {node} is connected")
        } else if let Some(node) = self.nodes.refusing_here(name, last) {
            format!("its node {node} is running")
        } else {
            return Ok(());
        };
        Err(Refusal::StillRunning { name: name.clone(), sign })
    }

    /// The data of a plugin that is not registered has been set aside: makes an event of it.
    pub fn purged(&mut self, now: Now, name: PluginName, out: &mut Vec<RegistryEffect>) {
        let reason = Reason::new(ReasonCode::DataPurged, "its data was removed");
        let plugin = Plugin { reason, ..unknown(name, now, self.revision + 1) };
        self.store(now, EventKind::DataPurged, Arc::new(plugin), out);
    }

    /// The number of the next event.
    #[must_use]
    pub fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// When the next [`RegistryInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let judging = self.judging.as_ref().map(|judging| judging.until);
        judging.into_iter().chain(self.entries.next_due()).min()
    }

    /// Takes one input.
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
            RegistryInput::Membership(Membership::Settled) => self.look_at_the_rest(now, out),
            RegistryInput::SocketProbed { name, state } => self.probed(now, &name, state, out),
            RegistryInput::Exited { name, process } => self.exited(now, &name, process, out),
            RegistryInput::Tick => self.tick(now, out),
        }
        self.settle_judging();
    }

    fn settle_judging(&mut self) {
        if !self.entries.any_open() {
            self.judging = None;
        }
    }

    /// Nothing is open about this plugin any more. Tells whether something was.
    fn judged(&mut self, name: &PluginName) -> bool {
        self.entries.change(name, |entry| std::mem::take(&mut entry.liveness.open)).unwrap_or_default()
    }

    // ---- Commands ---------------------------------------------------------------------------

    /// Registers a plugin whose directories exist; `process` sent the request, if it can be seen.
    /// Returns the plugin after it.
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
        let lives = governed || self.is_refusing(&plugin);
        let grace = (!lives).then_some(now.instant + self.config.grace);
        let plugin = Arc::new(plugin);
        let liveness = Liveness { governed, grace, process, ..Liveness::new(now.instant) };
        self.entries.insert(Entry { plugin: Arc::clone(&plugin), liveness });
        self.store(now, EventKind::Registered, Arc::clone(&plugin), out);
        out.push(RegistryEffect::CancelCleanUp(name.clone()));
        out.extend(process.map(|process| RegistryEffect::AwaitExit { name: name.clone(), process }));
        self.look_if_due(now, &name, out);
        self.settle_judging();
        Ok(plugin)
    }

    /// Removes a plugin. Returns the plugin before it.
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
        // Nobody will look again: what a plugin left that died just now, or before, goes as it would have gone.
        out.push(RegistryEffect::CleanUp { name, process: liveness.process });
        self.settle_judging();
        Ok(plugin)
    }

    // ---- Time -------------------------------------------------------------------------------

    fn tick(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        match &self.judging {
            Some(Judging { until, probing: false, .. }) if *until <= now.instant => self.look_at_the_rest(now, out),
            Some(Judging { until, probing: true, .. }) if *until <= now.instant => self.judge_the_rest(now, out),
            _ => {}
        }
        for name in self.entries.due(now.instant) {
            self.end_grace(now, &name, out);
            self.look_if_due(now, &name, out);
        }
    }

    /// If there was no sign of life all the time.
    fn end_grace(&mut self, now: Now, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        let ended = self.entries.change(name, |Entry { liveness, .. }| {
            liveness.grace.take_if(|until| *until <= now.instant).map(|_| {
                liveness.silent = liveness.denied.is_none();
                // The reason says what lies at the path of its socket now.
                liveness.next_probe = now.instant;
                (liveness.found.clone(), liveness.denied.clone())
            })
        });
        match ended.flatten() {
            Some((_, Some(why))) => self.doubt(now, name, &why, out),
            Some((found, None)) => self.stop(now, name, self.silence(found.as_ref()), out),
            None => {}
        }
    }

    /// Returns the reason for a plugin without a sign of life since its registration. `found` is
    /// what the last look found; none before the first look.
    fn silence(&self, found: Option<&Reason>) -> Reason {
        let grace = humantime::format_duration(self.config.grace);
        let found = found.map(|found| format!(" ({found})")).unwrap_or_default();
        let detail = format!("no sign of life within {grace} of its registration{found}");
        Reason::new(ReasonCode::NoSignOfLife, detail)
    }

    /// Every node that could come has come: the sockets judge the plugins that are still open.
    fn look_at_the_rest(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        let Some(judging @ Judging { probing: false, .. }) = &mut self.judging else {
            return;
        };
        *judging = Judging { until: now.instant + limits::JUDGE_LOOK, probing: true };
        for name in self.entries.names_where(|entry| entry.liveness.open) {
            self.entries.change(&name, |Entry { liveness, .. }| liveness.probe(now, &name, out));
        }
    }

    /// A look that takes so long keeps nobody from being served.
    fn judge_the_rest(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        for name in self.entries.names_where(|entry| entry.liveness.open) {
            self.judged(&name);
            let reason = Reason::new(ReasonCode::SocketUnchecked, "its socket could not be looked at in time");
            self.stop(now, &name, reason, out);
        }
    }

    fn look_where_due(&mut self, now: Now, out: &mut Vec<RegistryEffect>) {
        for name in self.entries.due(now.instant) {
            self.look_if_due(now, &name, out);
        }
    }

    fn look_if_due(&mut self, now: Now, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        if self.entries.get(name).and_then(Entry::due_look).is_some_and(|due| due <= now.instant) {
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

    /// Keeps the status and changes the reason: a socket that we may not connect to proves nothing.
    fn doubt(&mut self, now: Now, name: &PluginName, why: &str, out: &mut Vec<RegistryEffect>) {
        let reason = Reason::new(ReasonCode::StatusUnknown, format!("status unknown: {why}"));
        self.reword(now, name, reason, out);
    }

    /// Creates an event if the status or the node differs. Otherwise the first reason is kept,
    /// unless it was an unknown status.
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

    /// Makes an event of it if the reason differs.
    fn reword(&mut self, now: Now, name: &PluginName, reason: Reason, out: &mut Vec<RegistryEffect>) {
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
            // There is none of this name.
            EventKind::DataPurged => {}
        }
        out.push(RegistryEffect::Store(Event { revision: self.revision, at: now.time, kind, plugin }));
    }
}

/// A plugin of which nothing but the name is known.
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
