//! Logs the events and warnings of the registry.

use beam::limited;

use super::effect::Warning;
use crate::limits;
use crate::log::limit;
use crate::plugin::{Event, EventKind};

/// Logs an event. The status and the reason of a plugin that is no longer registered mean nothing.
pub(super) fn log_event(event: &Event) {
    let Event { revision, kind, plugin, .. } = event;
    let (name, what) = (&plugin.name, kind.name());
    match kind {
        EventKind::Registered | EventKind::StatusChanged => {
            let (status, reason) = (plugin.status.name(), plugin.reason.detail.as_str());
            limited!(limit::PLUGINS, info, plugin = %name, revision, %status, reason, "{what}");
        }
        EventKind::Deregistered | EventKind::DataPurged => {
            limited!(limit::PLUGINS, info, plugin = %name, revision, "{what}");
        }
    }
}

pub(super) fn log_warning(warning: &Warning) {
    match warning {
        Warning::TooManyNodes { node } => {
            let what = "too many connected nodes; this one does not count for plugins";
            limited!(limit::SURPLUS, warn, %node, max = limits::REGISTRY_NODES, "{what}");
        }
        Warning::TooManyRefusals { node } => {
            let what = "too many nodes that refuse to connect; ignored this one";
            limited!(limit::SURPLUS, warn, %node, max = limits::REGISTRY_NODES, "{what}");
        }
        Warning::TooManyAnnouncements { node, plugin } => {
            let what = "too many announcements of plugins; ignored this one";
            limited!(limit::SURPLUS, warn, %node, %plugin, max = limits::ANNOUNCEMENTS, "{what}");
        }
        Warning::TooManyUnregistered { plugin } => {
            let what = "too many announced plugins are not registered; register this one to create its directories";
            limited!(limit::SURPLUS, warn, %plugin, max = limits::UNREGISTERED, "{what}");
        }
        Warning::OwnNode { node, plugin } => {
            let what = "ignored the `node` of the plugin, which is the node of this hecate-daemon; register the plugin \
                        again without `node`";
            limited!(limit::PLUGINS, warn, %plugin, %node, "{what}");
        }
    }
}
