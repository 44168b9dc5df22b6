//! The requests to the registry, each with its reply channel.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Registrant;
use super::effect::RegistryInput;
use super::refusal::Refusal;
use crate::layout::{Contents, Removed};
use crate::plugin::{Event, Plugin, PluginName, Registration};

/// The channel for an answer.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A request to the registry's task.
#[derive(Debug)]
pub(super) enum Command {
    Change(Change),
    Purge { name: PluginName, reply: Reply<Removed> },
    CheckPurge { name: PluginName, reply: Reply<()> },
    EventsAfter { revision: u64, reply: Reply<Option<Vec<Event>>> },
    Ping { reply: Reply<()> },
    CheckFiles { reply: Reply<FileCheck> },
    Stop,
}

/// A change of the registry. All changes of a batch share one commit.
#[derive(Debug)]
pub(super) enum Change {
    Register { registration: Registration, registrant: Option<Registrant>, reply: Reply<Arc<Plugin>> },
    Deregister { name: PluginName, reply: Reply<Arc<Plugin>> },
    Observation(RegistryInput),
}

/// The result of a check of the database's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileCheck {
    /// They are the opened ones, or were restored.
    Intact,
    /// A file is missing for the first time. The next check restores it.
    Missing,
    /// They could not be restored.
    Failed,
}

/// A request for work on disk that changes no state, see [`super::disk`].
#[derive(Debug)]
pub(super) enum DiskCommand {
    Contents {
        name: PluginName,
        reply: Reply<Contents>,
    },
    /// Removes a dead socket, then sends [`Command::Purge`] to the task.
    Purge {
        name: PluginName,
        reply: Reply<Removed>,
    },
}
