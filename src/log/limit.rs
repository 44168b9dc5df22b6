//! The kinds of log lines that outsiders can trigger in the daemon, each with its limit. The limits
//! of the node are in [`beam::log_limit`].

use beam::log_limit::Limit;

use crate::limits;

/// Refused connections to the API.
pub static STRANGERS: Limit = Limit::new("connections to the API of users without permission", 1);
/// Connections to the API that were closed to make room for new ones.
pub static EVICTIONS: Limit = Limit::new("connections to the API that were closed to make room for new ones", 1);
/// Failed connection attempts: everyone can register names with an EPMD.
pub static DIALS: Limit = Limit::new("nodes that could not be connected to", limits::LOG_DIALS);
/// Nodes and announcements beyond the limits of the registry.
pub static SURPLUS: Limit = Limit::new("nodes and announcements beyond a limit", 1);
/// Failed changes on disk.
pub static DISK: Limit = Limit::new("changes on disk that failed", 1);
/// Messages that could not be sent to the service manager.
pub static MANAGER: Limit = Limit::new("messages that could not be sent to the service manager", 1);
/// Events of plugins. Each is worth a line, so this limit is high.
pub static PLUGINS: Limit = Limit::new("changes of plugins", limits::LOG_PLUGINS);

static ALL: [&Limit; 7] = [&STRANGERS, &EVICTIONS, &DIALS, &SURPLUS, &DISK, &MANAGER, &PLUGINS];

/// Ends the window of every kind of line, and logs how many lines were left out. Call this once per
/// [`beam::limits::LOG_WINDOW`].
pub fn end_windows() {
    beam::log_limit::end_windows();
    for limit in ALL {
        limit.log_left_out();
    }
}
