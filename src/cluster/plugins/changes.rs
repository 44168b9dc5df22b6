//! Which plugins are to be compared with the registry's view: those of the events since the last time, or all of them where
//! events were missed or nothing was compared yet. Pure.

use std::collections::BTreeSet;

use crate::plugin::PluginName;
use crate::registry::View;

/// What has changed in the registry since it was looked at.
#[derive(Debug)]
pub struct Changes {
    /// Of these something was told.
    names: BTreeSet<PluginName>,
    /// And of any others something may have happened.
    all: bool,
}

impl Changes {
    /// Before the first look.
    #[must_use]
    pub fn new() -> Self {
        Self { names: BTreeSet::new(), all: true }
    }

    /// An event of this plugin was told.
    pub fn told(&mut self, name: PluginName) {
        self.names.insert(name);
    }

    /// Events were missed.
    pub fn missed(&mut self) {
        self.all = true;
    }

    /// The plugins to compare with this view, which need not be told of again; `ours` are those that something is kept of, and
    /// `revision` is that of the last event that was told, or missed.
    pub fn take<'a>(
        &mut self,
        view: &'a View,
        revision: u64,
        ours: impl Iterator<Item = &'a PluginName>,
    ) -> BTreeSet<PluginName> {
        let names = std::mem::take(&mut self.names);
        if !self.all {
            return names;
        }
        // What is not ready tells no status yet; and what was missed may be after this view, of which there is a newer one then.
        self.all = !view.ready || revision > view.revision;
        ours.chain(view.plugins.keys()).cloned().collect()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plugin::{
        Plugin, Reason, ReasonCode,
        sample::{self, name},
    };

    fn view(revision: u64, ready: bool) -> View {
        let plugin = |text| Plugin { reason: Reason::new(ReasonCode::Unknown, ""), ..sample::plugin(text) };
        let plugins = ["a-bd", "c-dd"].map(|text| (name(text), Arc::new(plugin(text))));
        View { revision, ready, plugins: plugins.into_iter().collect(), ..View::default() }
    }

    /// With something kept of a plugin that is registered no more.
    fn take(changes: &mut Changes, view: &View, revision: u64) -> Vec<String> {
        let names = changes.take(view, revision, [name("e-fd")].iter());
        names.iter().map(ToString::to_string).collect()
    }

    const ALL: [&str; 3] = ["a-bd", "c-dd", "e-fd"];

    #[test]
    fn after_the_first_look_only_what_was_told_of_is_looked_at() {
        let mut changes = Changes::new();
        assert_eq!(take(&mut changes, &view(5, true), 5), ALL);
        assert!(take(&mut changes, &view(5, true), 5).is_empty());
        changes.told(name("c-dd"));
        changes.told(name("x-yd"));
        assert_eq!(take(&mut changes, &view(7, true), 7), ["c-dd", "x-yd"]);
        assert!(take(&mut changes, &view(7, true), 7).is_empty());
    }

    #[test]
    fn all_are_looked_at_until_the_registry_is_ready() {
        let mut changes = Changes::new();
        for _ in 0..2 {
            assert_eq!(take(&mut changes, &view(5, false), 5), ALL);
        }
        assert_eq!(take(&mut changes, &view(5, true), 5), ALL);
        assert!(take(&mut changes, &view(5, true), 5).is_empty());
    }

    #[test]
    fn all_are_looked_at_after_a_gap_until_the_view_is_behind_it() {
        let mut changes = Changes::new();
        take(&mut changes, &view(5, true), 5);
        changes.told(name("a-bd"));
        changes.missed();
        assert_eq!(take(&mut changes, &view(9, true), 12), ALL);
        assert_eq!(take(&mut changes, &view(12, true), 12), ALL);
        assert!(take(&mut changes, &view(12, true), 12).is_empty());
    }
}
