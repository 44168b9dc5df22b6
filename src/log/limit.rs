//! The kinds of log lines that outsiders can trigger in the daemon, each with its limit. The node's
//! are in [`beam::log_limit`].

use beam::log_limit::Limit;

use crate::limits;

/// Who was refused on the socket.
pub static STRANGERS: Limit = Limit::new("connections to the API of users who may not call", 1);
/// Connections to the API that were closed for others.
pub static EVICTIONS: Limit = Limit::new("connections to the API that were closed for others", 1);
/// Nodes that could not be connected to: anybody can register names with an EPMD.
pub static DIALS: Limit = Limit::new("nodes that could not be connected to", limits::LOG_DIALS);
/// What was too much for the registry.
pub static SURPLUS: Limit = Limit::new("nodes and announcements that were too many", 1);
/// What was asked of the disk and could not be done.
pub static DISK: Limit = Limit::new("changes on disk that failed", 1);
/// What the service manager did not take.
pub static MANAGER: Limit = Limit::new("messages that the service manager could not be told", 1);
/// What happens to plugins: each is worth a line.
pub static PLUGINS: Limit = Limit::new("changes of plugins", limits::LOG_PLUGINS);

static ALL: [&Limit; 7] = [&STRANGERS, &EVICTIONS, &DIALS, &SURPLUS, &DISK, &MANAGER, &PLUGINS];

/// Ends the window of every kind of line, and logs how many lines were left out. Due each
/// [`beam::limits::LOG_WINDOW`].
pub fn end_windows() {
    beam::log_limit::end_windows();
    for limit in ALL {
        limit.log_left_out();
    }
}
