//! Home on disk: its paths, the directories of namespaces, the run files, and the removal of dead
//! sockets and of purged data.
//!
//! It follows no symbolic link below home, and does not change existing directories. It does not
//! depend on the state of plugins. All functions block, except in `paths`, `own_files` and
//! `socket::stale`.

mod contents;
mod create;
mod entries;
mod error;
mod guard;
mod inspect;
mod open;
mod own_files;
mod paths;
mod purge;
mod run_files;
mod run_lock;
mod socket;

pub use contents::{Connector, Contents};
pub use create::{Layout, Modes, Owner};
pub use error::{LayoutError, SiblingError};
pub use inspect::{Found, Place};
pub use own_files::{Decision, Loss, Repair, Sights, decide};
pub use paths::{Home, HomeError, Namespace, SocketPathTooLong};
pub use purge::{Incomplete, Removed, SetAside};
pub use run_files::Process;
pub use run_lock::{RunError, RunLock, RunState};
pub use socket::dead::{DeadSocket, Progress};
pub use socket::holders::Holder;
pub use socket::stale::{SocketState, Verdict};
