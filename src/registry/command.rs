//! What the registry is asked, each command with its reply channel.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Registrant;
use super::effect::RegistryInput;
use super::refusal::Refusal;
use crate::layout::{Contents, Removed};
use crate::plugin::{Event, Plugin, PluginName, Registration};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the task is asked.
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

/// What a batch can take: all of one batch share a commit.
#[derive(Debug)]
pub(super) enum Change {
    Register { registration: Registration, registrant: Option<Registrant>, reply: Reply<Arc<Plugin>> },
    Deregister { name: PluginName, reply: Reply<Arc<Plugin>> },
    Observation(RegistryInput),
}

/// The result of a check of the database's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileCheck {
    /// They are the ones that were opened, or were made again.
    Intact,
    /// One is missing for the first time. The next check makes it again.
    Missing,
    /// They could not be made again.
    Failed,
}

/// What `disk` is asked.
#[derive(Debug)]
pub(super) enum DiskCommand {
    Contents {
        name: PluginName,
        reply: Reply<Contents>,
    },
    /// Removes a dead socket, and has the registry purge then.
    Purge {
        name: PluginName,
        reply: Reply<Removed>,
    },
}
