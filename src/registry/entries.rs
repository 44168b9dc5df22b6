//! The registered plugins as the state keeps them: by name, and in the order in which something is due for them. Pure.
//!
//! What is due changes with almost everything that is known of a plugin's life, so an entry is only ever changed
//! through [`Entries::change`], which files it anew. Persistent, as all of the state: a copy costs nothing.

use std::sync::Arc;
use std::time::Instant;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::effect::{Now, RegistryEffect};
use crate::layout::Process;
use crate::limits;
use crate::plugin::{Plugin, PluginName, Reason, Status};

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    by_name: RedBlackTreeMapSync<PluginName, Entry>,
    /// Those of which [`Entry::due`] tells a time.
    by_time: RedBlackTreeSetSync<(Instant, PluginName)>,
    /// How many are open.
    open: usize,
}

/// One plugin.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) plugin: Arc<Plugin>,
    pub(super) liveness: Liveness,
}

/// What is known of a plugin's life beyond what is stored.
#[derive(Debug, Clone)]
pub(super) struct Liveness {
    /// Stored before our start, and not yet judged.
    pub(super) open: bool,
    /// Its node has been connected since the registration or our start, and decides.
    pub(super) governed: bool,
    /// When silence since the registration ends it. None once it has shown a sign of life.
    pub(super) grace: Option<Instant>,
    /// How its node left, unless it has connected or refused to connect since.
    pub(super) left: Option<Reason>,
    /// Whether its socket has answered since the registration or our start.
    pub(super) answered: bool,
    /// Whether it was stopped because of its silence since the registration.
    pub(super) silent: bool,
    /// What the last look found instead of a socket that answers.
    pub(super) found: Option<Reason>,
    /// Why we may not connect to its socket, if the last check found that.
    pub(super) denied: Option<String>,
    pub(super) next_probe: Instant,
    pub(super) probing: bool,
    pub(super) process: Option<Process>,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            open: false,
            governed: false,
            grace: None,
            left: None,
            answered: false,
            silent: false,
            found: None,
            denied: None,
            next_probe: now,
            probing: false,
            process: None,
        }
    }

    /// A hint that comes before the answer asks for another look, for this one may have been before it.
    pub(super) fn probe(&mut self, now: Now, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        self.probing = true;
        self.next_probe = now.instant + limits::SOCKET_POLL;
        out.push(RegistryEffect::ProbeSocket(name.clone()));
    }
}

impl Entry {
    /// When something is to be done for it, if time alone can bring that about.
    fn due(&self) -> Option<Instant> {
        [self.liveness.grace, self.due_look()].into_iter().flatten().min()
    }

    /// When its socket is to be looked at next, if that is worth a look from time to time.
    pub(super) fn due_look(&self) -> Option<Instant> {
        let Self { plugin, liveness } = self;
        let watched = !liveness.open && (!liveness.governed || plugin.status == Status::Stopped);
        (watched && !liveness.probing).then_some(liveness.next_probe)
    }
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.by_name.size()
    }

    pub(super) fn get(&self, name: &PluginName) -> Option<&Entry> {
        self.by_name.get(name)
    }

    /// In the place of one of the same name, if there is one.
    pub(super) fn insert(&mut self, entry: Entry) {
        let name = entry.plugin.name.clone();
        self.remove(&name);
        self.file(&name, entry.due(), entry.liveness.open);
        self.by_name.insert_mut(name, entry);
    }

    /// Nothing happens if it is not there.
    pub(super) fn remove(&mut self, name: &PluginName) {
        if let Some(entry) = self.by_name.get(name) {
            self.unfile(name, entry.due(), entry.liveness.open);
            self.by_name.remove_mut(name);
        }
    }

    /// Changes one; nothing happens if it is not there.
    pub(super) fn change<T>(&mut self, name: &PluginName, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.by_name.get_mut(name)?;
        let (due, open) = (entry.due(), entry.liveness.open);
        let result = change(entry);
        let (due_now, open_now) = (entry.due(), entry.liveness.open);
        if (due, open) != (due_now, open_now) {
            self.unfile(name, due, open);
            self.file(name, due_now, open_now);
        }
        Some(result)
    }

    /// The names of those that a condition holds for, in their order. Looks at all of them.
    pub(super) fn names_where(&self, holds: impl Fn(&Entry) -> bool) -> Vec<PluginName> {
        self.by_name.iter().filter(|(_, entry)| holds(entry)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether one of them is open.
    pub(super) fn any_open(&self) -> bool {
        self.open > 0
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// The names of those for which something is due by now, in the order in which it has become so.
    pub(super) fn due(&self, now: Instant) -> Vec<PluginName> {
        self.by_time.iter().take_while(|(due, _)| *due <= now).map(|(_, name)| name.clone()).collect()
    }

    fn file(&mut self, name: &PluginName, due: Option<Instant>, open: bool) {
        if let Some(due) = due {
            self.by_time.insert_mut((due, name.clone()));
        }
        self.open += usize::from(open);
    }

    fn unfile(&mut self, name: &PluginName, due: Option<Instant>, open: bool) {
        if let Some(due) = due {
            self.by_time.remove_mut(&(due, name.clone()));
        }
        self.open -= usize::from(open);
    }
}

#[cfg(test)]
impl Entries {
    /// Panics unless what is filed is what the entries say.
    pub(super) fn check(&self) {
        let due = self.by_name.iter().filter_map(|(name, entry)| Some((entry.due()?, name.clone())));
        let due: std::collections::BTreeSet<_> = due.collect();
        assert!(self.by_time.iter().eq(due.iter()), "{:?} instead of {due:?}", self.by_time);
        assert_eq!(self.open, self.names_where(|entry| entry.liveness.open).len(), "open");
    }
}
