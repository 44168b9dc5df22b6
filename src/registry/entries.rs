//! The registered plugins, indexed by name and by the time of their next deadline. Pure.
//!
//! Almost every change of an entry moves its deadline, so entries are changed only through
//! [`Entries::change`], which updates the index. Persistent like the rest of the state, so a copy
//! is cheap.

use std::sync::Arc;
use std::time::Instant;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::effect::{Now, RegistryEffect};
use crate::layout::Process;
use crate::limits;
use crate::plugin::{Plugin, PluginName, Reason, Status};

/// All entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    by_name: RedBlackTreeMapSync<PluginName, Entry>,
    /// The entries with a deadline, see [`Entry::due`].
    by_time: RedBlackTreeSetSync<(Instant, PluginName)>,
    /// The number of unjudged entries.
    unjudged: usize,
}

/// A plugin, and whether it is alive.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) plugin: Arc<Plugin>,
    pub(super) liveness: Liveness,
}

/// The signs of life of a plugin, which are not stored. "Since the registration" means since the
/// last registration or the start of the daemon.
#[derive(Debug, Clone)]
pub(super) struct Liveness {
    /// Whether it was stored before the start and has not been judged since.
    pub(super) unjudged: bool,
    /// Whether its node has been connected since the registration, so that the node decides the
    /// status.
    pub(super) governed: bool,
    /// The end of the grace period. None once the plugin has shown a sign of life.
    pub(super) grace: Option<Instant>,
    /// Why its node left, unless the node has connected or refused to connect since.
    pub(super) node_left: Option<Reason>,
    /// Whether its socket has answered since the registration.
    pub(super) answered: bool,
    /// Whether it was stopped because it showed no sign of life during the grace period.
    pub(super) silent: bool,
    /// Why the last probe found no socket that answers.
    pub(super) no_answer: Option<Reason>,
    /// Why the last probe was not permitted to connect to the socket.
    pub(super) denied: Option<String>,
    pub(super) next_probe: Instant,
    pub(super) probing: bool,
    /// The process that registered it.
    pub(super) process: Option<Process>,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            unjudged: false,
            governed: false,
            grace: None,
            node_left: None,
            answered: false,
            silent: false,
            no_answer: None,
            denied: None,
            next_probe: now,
            probing: false,
            process: None,
        }
    }

    /// Starts a probe. A hint that arrives before the result sets `next_probe` to the present. Then
    /// another probe follows, because the first one may have preceded the cause of the hint.
    pub(super) fn probe(&mut self, now: Now, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        self.probing = true;
        self.next_probe = now.instant + limits::SOCKET_POLL;
        out.push(RegistryEffect::ProbeSocket(name.clone()));
    }
}

impl Entry {
    /// Returns the time of its next deadline.
    fn due(&self) -> Option<Instant> {
        [self.liveness.grace, self.probe_due()].into_iter().flatten().min()
    }

    /// Returns when its socket must be probed next. None while its node decides that it runs, while
    /// it is unjudged, or while a probe is in progress.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        let Self { plugin, liveness } = self;
        let is_polled = !liveness.unjudged && (!liveness.governed || plugin.status == Status::Stopped);
        (is_polled && !liveness.probing).then_some(liveness.next_probe)
    }
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.by_name.size()
    }

    pub(super) fn get(&self, name: &PluginName) -> Option<&Entry> {
        self.by_name.get(name)
    }

    /// Inserts an entry, or replaces the one with the same name.
    pub(super) fn insert(&mut self, entry: Entry) {
        let name = entry.plugin.name.clone();
        self.remove(&name);
        self.index(&name, entry.due(), entry.liveness.unjudged);
        self.by_name.insert_mut(name, entry);
    }

    /// Removes an entry, if it exists.
    pub(super) fn remove(&mut self, name: &PluginName) {
        if let Some(entry) = self.by_name.get(name) {
            self.unindex(name, entry.due(), entry.liveness.unjudged);
            self.by_name.remove_mut(name);
        }
    }

    /// Changes an entry, and returns the result of `change`. Returns `None` if there is no entry.
    pub(super) fn change<T>(&mut self, name: &PluginName, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.by_name.get_mut(name)?;
        let (due, unjudged) = (entry.due(), entry.liveness.unjudged);
        let result = change(entry);
        let (due_now, unjudged_now) = (entry.due(), entry.liveness.unjudged);
        if (due, unjudged) != (due_now, unjudged_now) {
            self.unindex(name, due, unjudged);
            self.index(name, due_now, unjudged_now);
        }
        Some(result)
    }

    /// Returns the names of the entries that satisfy a condition, in name order. Reads all entries.
    pub(super) fn names_where(&self, holds: impl Fn(&Entry) -> bool) -> Vec<PluginName> {
        self.by_name.iter().filter(|(_, entry)| holds(entry)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn any_unjudged(&self) -> bool {
        self.unjudged > 0
    }

    /// Returns the next deadline of all entries.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Returns the names of the entries whose deadline has passed, earliest deadline first.
    pub(super) fn due(&self, now: Instant) -> Vec<PluginName> {
        self.by_time.iter().take_while(|(due, _)| *due <= now).map(|(_, name)| name.clone()).collect()
    }

    fn index(&mut self, name: &PluginName, due: Option<Instant>, unjudged: bool) {
        if let Some(due) = due {
            self.by_time.insert_mut((due, name.clone()));
        }
        self.unjudged += usize::from(unjudged);
    }

    fn unindex(&mut self, name: &PluginName, due: Option<Instant>, unjudged: bool) {
        if let Some(due) = due {
            self.by_time.remove_mut(&(due, name.clone()));
        }
        self.unjudged -= usize::from(unjudged);
    }
}

#[cfg(test)]
impl Entries {
    /// Panics unless the index agrees with the entries.
    pub(super) fn check(&self) {
        let due = self.by_name.iter().filter_map(|(name, entry)| Some((entry.due()?, name.clone())));
        let due: std::collections::BTreeSet<_> = due.collect();
        assert!(self.by_time.iter().eq(due.iter()), "{:?} instead of {due:?}", self.by_time);
        assert_eq!(self.unjudged, self.names_where(|entry| entry.liveness.unjudged).len(), "unjudged");
    }
}
