//! Decides what is registered, which plugins live, and what is to be done about it. Pure: told what happened and when, it
//! gives events to store and effects to run.
//!
//! Follows the contract's "Status". A plugin whose node has been seen since the registration (or our start) is
//! *governed* by it: the node decides, and its socket only words the reason. Every other is judged by its `api.sock`, and by
//! its node while that is running on this host and refuses to connect: such a plugin runs.
//! Never does anything itself, so the task may try on a copy what it then fails to store, and forget the copy.

mod cluster;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::effect::{Config, Effect, Input, Now};
use super::entries::{Entries, Entry, Life};
use super::nodes::Nodes;
use super::refusal::Refusal;
use super::{Membership, View};
use crate::layout::{Look, Process};
use crate::limits;
use crate::plugin::{Event, EventKind, Field, Plugin, PluginName, Plugins, Registration, Status};

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
    own_node: Arc<BTreeSet<String>>,
    /// None once every stored plugin has been judged.
    judging: Option<Judging>,
}

/// The time after a start, until no plugin is open.
#[derive(Debug, Clone)]
struct Judging {
    /// Until then nodes may come; if `looking`, until then looks may.
    until: Instant,
    looking: bool,
}

/// Prefix of the reason of a plugin whose status is unknown. It is stored, and recognized after a
/// restart.
const UNKNOWN: &str = "status unknown: ";

impl State {
    /// Begins with what was stored.
    #[must_use]
    pub fn new(config: Config, now: Now, revision: u64, plugins: Plugins) -> Self {
        let until = now.instant + config.judge;
        let mut entries = Entries::default();
        for plugin in plugins.values() {
            let life = Life { open: true, ..Life::new(now.instant) };
            entries.insert(Entry { plugin: Arc::clone(plugin), life });
        }
        let running = plugins.values().filter(|plugin| plugin.status == Status::Running).count();
        let judging = entries.any_open().then_some(Judging { until, looking: false });
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
    pub fn admit_purge(&self, name: &PluginName, last_node: Option<String>) -> Result<(), Refusal> {
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
    pub fn purged(&mut self, now: Now, name: PluginName, out: &mut Vec<Effect>) {
        let reason = "its data was removed".to_owned();
        let plugin = Plugin { reason, ..unknown(name, now, self.revision + 1) };
        self.store(now, EventKind::DataPurged, Arc::new(plugin), out);
    }

    /// The number of the next event.
    #[must_use]
    pub fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let judging = self.judging.as_ref().map(|judging| judging.until);
        judging.into_iter().chain(self.entries.next_due()).min()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Register { registration, process, ticket } => {
                let result = self.admit(&registration).map(|()| self.register(now, registration, process, out));
                out.push(Effect::Answer { ticket, result });
            }
            Input::Deregister { name, ticket } => {
                let result = self.deregister(now, name, out);
                out.push(Effect::Answer { ticket, result });
            }
            Input::Membership(Membership::WantedNames { names }) => self.own_node = Arc::new(names),
            Input::Membership(Membership::OwnNode { names }) => self.joined(now, names, out),
            Input::Membership(Membership::NodeUp { node, on_this_host }) => self.node_up(now, &node, on_this_host, out),
            Input::Membership(Membership::NodeDown { node, reason }) => self.node_down(now, &node, &reason, out),
            Input::Membership(Membership::NodeRefused { node, code }) => self.node_refused(now, &node, code, out),
            Input::Membership(Membership::NodeEnded { node }) => self.node_ended(now, &node, out),
            Input::Membership(Membership::Announced { plugin, node }) => self.announce(now, plugin, node, out),
            Input::Membership(Membership::Withdrawn { plugin, node }) => self.withdraw(now, &plugin, &node, out),
            Input::Membership(Membership::Settled) => self.look_at_the_rest(now, out),
            Input::Looked { name, look } => self.looked(now, &name, look, out),
            Input::Exited { name, process } => self.exited(now, &name, process, out),
            Input::Tick => self.tick(now, out),
        }
        if !self.entries.any_open() {
            self.judging = None;
        }
    }

    /// Nothing is open about this plugin any more. Tells whether something was.
    fn judged(&mut self, name: &PluginName) -> bool {
        self.entries.change(name, |entry| std::mem::take(&mut entry.life.open)).unwrap_or_default()
    }

    // ---- Commands ---------------------------------------------------------------------------

    fn register(
        &mut self,
        now: Now,
        registration: Registration,
        process: Option<Process>,
        out: &mut Vec<Effect>,
    ) -> Arc<Plugin> {
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
        set_status(&mut plugin, now, revision, Status::Running, "it registered".to_owned());

        let governed = plugin.node.as_ref().is_some_and(|node| self.nodes.is_connected(node));
        let lives = governed || self.is_refusing(&plugin);
        let grace = (!lives).then_some(now.instant + self.config.grace);
        let plugin = Arc::new(plugin);
        let life = Life { governed, grace, process, ..Life::new(now.instant) };
        self.entries.insert(Entry { plugin: Arc::clone(&plugin), life });
        self.store(now, EventKind::Registered, Arc::clone(&plugin), out);
        out.push(Effect::CancelCleanUp(name.clone()));
        out.extend(process.map(|process| Effect::AwaitExit { name: name.clone(), process }));
        self.look_if_due(now, &name, out);
        plugin
    }

    fn deregister(&mut self, now: Now, name: PluginName, out: &mut Vec<Effect>) -> Result<Arc<Plugin>, Refusal> {
        let Some(Entry { plugin, life }) = self.entries.get(&name).cloned() else {
            return Err(Refusal::NotFound { name });
        };
        self.entries.remove(&name);
        self.store(now, EventKind::Deregistered, Arc::clone(&plugin), out);
        out.push(Effect::Forget(name.clone()));
        // Nobody will look again: what a plugin left that died just now, or before, goes as it would have gone.
        out.push(Effect::CleanUp { name, process: life.process });
        Ok(plugin)
    }

    // ---- Sockets ----------------------------------------------------------------------------

    fn looked(&mut self, now: Now, name: &PluginName, look: Look, out: &mut Vec<Effect>) {
        let was_open = self.judged(name);
        self.entries.change(name, |Entry { plugin, life }| {
            life.looking = false;
            life.denied = None;
            life.found = (look != Look::Alive).then(|| without_answer(&look, life.answered || is_unknown(plugin)));
        });
        let Some(Entry { plugin, life }) = self.entries.get(name).cloned() else {
            return;
        };
        let was_stopped = plugin.status == Status::Stopped && !was_open;
        let found = life.found.clone().unwrap_or_default();
        if life.governed {
            if was_stopped {
                let left = life.left.clone().unwrap_or_else(|| plugin.reason.clone());
                let reason = if look == Look::Alive { format!("{left}; its socket still answers") } else { left };
                self.reword(now, name, reason, out);
            }
        } else {
            match &look {
                Look::Alive => {
                    self.entries.change(name, |Entry { life, .. }| {
                        life.grace = None;
                        life.answered = true;
                        life.silent = false;
                        life.left = None;
                    });
                    self.run(now, name, "its socket answers", out);
                }
                Look::Denied(why) => {
                    self.entries.change(name, |Entry { life, .. }| life.denied = Some(why.clone()));
                    // Right after a start or a registration, its node may still connect and decide.
                    if !was_open && life.grace.is_none() && !self.is_refusing(&plugin) {
                        self.doubt(now, name, why, out);
                    }
                }
                _ if was_stopped && life.silent => self.reword(now, name, self.silence(&found), out),
                Look::Unclear(_) if !was_open => {}
                _ if life.grace.is_some() || was_stopped && !is_unknown(&plugin) => {}
                _ if self.is_refusing(&plugin) => {}
                _ => {
                    let reason = match &life.left {
                        Some(left) => format!("{left}, and {found}"),
                        None => found,
                    };
                    self.stop(now, name, reason, out);
                }
            }
        }
        if was_stopped && matches!(look, Look::Refuses(_)) {
            // It may have answered when the plugin stopped, and died since.
            self.clean_up(name, out);
        }
    }

    fn exited(&mut self, now: Now, name: &PluginName, process: Process, out: &mut Vec<Effect>) {
        if self.entries.get(name).is_none_or(|entry| entry.life.process != Some(process)) {
            return;
        }
        // A hint, no proof: a script may have registered for a plugin.
        let stopped = self.entries.change(name, |Entry { plugin, life }| {
            life.next_look = now.instant;
            plugin.status == Status::Stopped
        });
        if stopped == Some(true) {
            // It still ran when the plugin stopped, and its run files stayed.
            self.clean_up(name, out);
        }
        self.look_if_due(now, name, out);
    }

    // ---- Time -------------------------------------------------------------------------------

    fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        match &self.judging {
            Some(Judging { until, looking: false, .. }) if *until <= now.instant => self.look_at_the_rest(now, out),
            Some(Judging { until, looking: true, .. }) if *until <= now.instant => self.judge_the_rest(now, out),
            _ => {}
        }
        for name in self.entries.due(now.instant) {
            self.end_grace(now, &name, out);
            self.look_if_due(now, &name, out);
        }
    }

    /// If there was no sign of life all the time.
    fn end_grace(&mut self, now: Now, name: &PluginName, out: &mut Vec<Effect>) {
        let ended = self.entries.change(name, |Entry { life, .. }| {
            life.grace.take_if(|until| *until <= now.instant).map(|_| {
                life.silent = life.denied.is_none();
                // The reason says what lies at the path of its socket now.
                life.next_look = now.instant;
                (life.found.clone().unwrap_or_default(), life.denied.clone())
            })
        });
        match ended.flatten() {
            Some((_, Some(why))) => self.doubt(now, name, &why, out),
            Some((found, None)) => self.stop(now, name, self.silence(&found), out),
            None => {}
        }
    }

    /// Returns the reason for a plugin without a sign of life since its registration. `found` is
    /// what the last look found, and empty before the first look.
    fn silence(&self, found: &str) -> String {
        let grace = humantime::format_duration(self.config.grace);
        let found = if found.is_empty() { String::new() } else { format!(" ({found})") };
        format!("no sign of life within {grace} of its registration{found}")
    }

    /// Every node that could come has come: the sockets judge the plugins that are still open.
    fn look_at_the_rest(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(judging @ Judging { looking: false, .. }) = &mut self.judging else {
            return;
        };
        *judging = Judging { until: now.instant + limits::JUDGE_LOOK, looking: true };
        for name in self.entries.names_where(|entry| entry.life.open) {
            self.entries.change(&name, |Entry { life, .. }| life.look(now, &name, out));
        }
    }

    /// A look that takes so long keeps nobody from being served.
    fn judge_the_rest(&mut self, now: Now, out: &mut Vec<Effect>) {
        for name in self.entries.names_where(|entry| entry.life.open) {
            self.judged(&name);
            self.stop(now, &name, "its socket could not be looked at in time".to_owned(), out);
        }
    }

    fn look_where_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        for name in self.entries.due(now.instant) {
            self.look_if_due(now, &name, out);
        }
    }

    fn look_if_due(&mut self, now: Now, name: &PluginName, out: &mut Vec<Effect>) {
        if self.entries.get(name).and_then(Entry::due_look).is_some_and(|due| due <= now.instant) {
            self.entries.change(name, |Entry { life, .. }| life.look(now, name, out));
        }
    }

    // ---- Changes ----------------------------------------------------------------------------

    fn run(&mut self, now: Now, name: &PluginName, reason: &str, out: &mut Vec<Effect>) {
        let node = self.entries.get(name).and_then(|entry| entry.plugin.node.clone());
        self.change(now, name, Status::Running, node, reason.to_owned(), out);
    }

    fn stop(&mut self, now: Now, name: &PluginName, reason: String, out: &mut Vec<Effect>) {
        let node = self.entries.get(name).and_then(|entry| entry.plugin.node.clone());
        self.change(now, name, Status::Stopped, node, reason, out);
        self.clean_up(name, out);
    }

    fn clean_up(&self, name: &PluginName, out: &mut Vec<Effect>) {
        let process = self.entries.get(name).and_then(|entry| entry.life.process);
        out.push(Effect::CleanUp { name: name.clone(), process });
    }

    /// Keeps the status and changes the reason: a socket that we may not connect to proves nothing.
    fn doubt(&mut self, now: Now, name: &PluginName, why: &str, out: &mut Vec<Effect>) {
        self.reword(now, name, format!("{UNKNOWN}{why}"), out);
    }

    /// Creates an event if the status or the node differs. Otherwise the first reason is kept,
    /// unless it was an unknown status.
    fn change(
        &mut self,
        now: Now,
        name: &PluginName,
        status: Status,
        node: Option<String>,
        reason: String,
        out: &mut Vec<Effect>,
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
            out.push(Effect::CancelCleanUp(name.clone()));
        }
    }

    /// Makes an event of it if the reason differs.
    fn reword(&mut self, now: Now, name: &PluginName, reason: String, out: &mut Vec<Effect>) {
        let Some(Entry { plugin, .. }) = self.entries.get(name) else {
            return;
        };
        if plugin.reason != reason {
            let changed = Plugin { reason, ..Plugin::clone(plugin) };
            self.replace(now, changed, out);
        }
    }

    fn replace(&mut self, now: Now, changed: Plugin, out: &mut Vec<Effect>) {
        let changed = Arc::new(changed);
        self.entries.change(&changed.name, |entry| entry.plugin = Arc::clone(&changed));
        self.store(now, EventKind::StatusChanged, changed, out);
    }

    fn store(&mut self, now: Now, kind: EventKind, plugin: Arc<Plugin>, out: &mut Vec<Effect>) {
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
        out.push(Effect::Store(Event { revision: self.revision, at: now.time, kind, plugin }));
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
        reason: String::new(),
        registered_at: now.time,
        incarnation: revision,
    }
}

fn set_status(plugin: &mut Plugin, now: Now, revision: u64, status: Status, reason: String) {
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
    plugin.reason.starts_with(UNKNOWN)
}

/// Describes what a look found instead of a socket that answers. `was_there` is whether there has
/// been a socket.
fn without_answer(look: &Look, was_there: bool) -> String {
    match look {
        Look::Alive => "its socket answers".to_owned(),
        Look::Refuses(_) => "its socket refuses connections".to_owned(),
        Look::Absent if was_there => "its socket is gone".to_owned(),
        Look::Absent => "there is no socket at its path".to_owned(),
        Look::NotASocket => "what lies at the path of its socket is no socket".to_owned(),
        Look::Denied(why) | Look::Unclear(why) => format!("its socket could not be looked at: {why}"),
    }
}
