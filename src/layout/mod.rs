//! Home on disk: where everything lies, and how it comes there.
//!
//! Owns the paths of the convention, the making of namespaces, the run files, and the removal of what dead daemons
//! leave. Never knows what a plugin's state is: it does what it is told, and refuses what would follow a symbolic link
//! below home or change what is already there. All of it but `paths` and `socket::stale` makes blocking calls.

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
