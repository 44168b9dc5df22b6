//! Decides which plugins to compare with the registry's view. These are the plugins with events
//! since the last comparison, or all plugins if events were missed or nothing was compared yet.
//! Pure.

use std::collections::BTreeSet;

use crate::plugin::PluginName;
use crate::registry::View;

/// The plugins that may have changed in the registry since the last comparison.
#[derive(Debug)]
pub struct Changes {
    /// The plugins with events.
    names: BTreeSet<PluginName>,
    /// Whether any other plugin may have changed too.
    all: bool,
}

impl Changes {
    /// Returns the state before the first comparison.
    #[must_use]
    pub fn new() -> Self {
        Self { names: BTreeSet::new(), all: true }
    }

    /// An event of this plugin was delivered.
    pub fn delivered(&mut self, name: PluginName) {
        self.names.insert(name);
    }

    /// Events were missed.
    pub fn missed(&mut self) {
        self.all = true;
    }

    /// Returns the plugins to compare with this view, once. `kept` are the plugins that the caller
    /// has state for. `revision` is the revision of the last event that was delivered or missed.
    pub fn take<'a>(
        &mut self,
        view: &'a View,
        revision: u64,
        kept: impl Iterator<Item = &'a PluginName>,
    ) -> BTreeSet<PluginName> {
        let names = std::mem::take(&mut self.names);
        if !self.all {
            return names;
        }
        // A view that is not ready has no status yet. A missed event may be newer than this view.
        // If so, a newer view follows.
        self.all = !view.ready || revision > view.revision;
        kept.chain(view.plugins.keys()).cloned().collect()
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

    /// Takes the changes, with state for the plugin `e-fd`, which is not registered.
    fn take(changes: &mut Changes, view: &View, revision: u64) -> Vec<String> {
        let names = changes.take(view, revision, [name("e-fd")].iter());
        names.iter().map(ToString::to_string).collect()
    }

    const ALL: [&str; 3] = ["a-bd", "c-dd", "e-fd"];

    #[test]
    fn after_the_first_comparison_only_plugins_with_events_are_compared() {
        let mut changes = Changes::new();
        assert_eq!(take(&mut changes, &view(5, true), 5), ALL);
        assert!(take(&mut changes, &view(5, true), 5).is_empty());
        changes.delivered(name("c-dd"));
        changes.delivered(name("x-yd"));
        assert_eq!(take(&mut changes, &view(7, true), 7), ["c-dd", "x-yd"]);
        assert!(take(&mut changes, &view(7, true), 7).is_empty());
    }

    #[test]
    fn all_plugins_are_compared_until_the_registry_is_ready() {
        let mut changes = Changes::new();
        for _ in 0..2 {
            assert_eq!(take(&mut changes, &view(5, false), 5), ALL);
        }
        assert_eq!(take(&mut changes, &view(5, true), 5), ALL);
        assert!(take(&mut changes, &view(5, true), 5).is_empty());
    }

    #[test]
    fn all_plugins_are_compared_until_the_view_includes_the_missed_events() {
        let mut changes = Changes::new();
        take(&mut changes, &view(5, true), 5);
        changes.delivered(name("a-bd"));
        changes.missed();
        assert_eq!(take(&mut changes, &view(9, true), 12), ALL);
        assert_eq!(take(&mut changes, &view(12, true), 12), ALL);
        assert!(take(&mut changes, &view(12, true), 12).is_empty());
    }
}
