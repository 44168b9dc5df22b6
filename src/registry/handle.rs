//! The handle of the registry: a bounded queue to its task, and its current view.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::command::{Change, Command, DiskCommand, FileCheck, Reply};
use super::effect::RegistryInput;
use super::refusal::Refusal;
use super::{Membership, Registrant, View};
use crate::layout::{Contents, Removed};
use crate::plugin::{Event, Plugin, PluginName, Registration};

/// A handle of the registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) disk: mpsc::Sender<DiskCommand>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<Arc<View>>,
    /// Only used to subscribe. A sender would keep all subscriptions open after the registry ended.
    pub(super) events: Arc<broadcast::Receiver<Event>>,
}

impl Handle {
    /// Registers a plugin, or registers it again. Returns the stored plugin, once it is durable and
    /// its directories exist.
    ///
    /// # Errors
    /// See [`Refusal`]. Directories may have been created even then.
    pub async fn register(
        &self,
        registration: Registration,
        registrant: Option<Registrant>,
    ) -> Result<Arc<Plugin>, Refusal> {
        self.ask(|reply| Command::Change(Change::Register { registration, registrant, reply })).await
    }

    /// Removes a plugin from the registry and keeps its data. Returns the removed plugin.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or the change could not be saved.
    pub async fn deregister(&self, name: PluginName) -> Result<Arc<Plugin>, Refusal> {
        self.ask(|reply| Command::Change(Change::Deregister { name, reply })).await
    }

    /// Returns what a plugin has created in its namespace, read from disk.
    ///
    /// # Errors
    /// [`Refusal::Layout`] if the namespace cannot be read.
    pub async fn contents(&self, name: PluginName) -> Result<Contents, Refusal> {
        ask(&self.disk, |reply| DiskCommand::Contents { name, reply }).await
    }

    /// Removes the namespace of a plugin that is neither registered nor running. Returns what was
    /// removed.
    ///
    /// # Errors
    /// See [`Refusal`]. Nothing is removed then, except for [`Refusal::PurgeIncomplete`].
    pub async fn purge(&self, name: PluginName) -> Result<Removed, Refusal> {
        // A dead socket is removed first, because a single probe cannot tell it from the socket of
        // a plugin between `bind` and `listen`.
        if !self.view().plugins.contains_key(&name) {
            return ask(&self.disk, |reply| DiskCommand::Purge { name, reply }).await;
        }
        self.ask(|reply| Command::Purge { name, reply }).await
    }

    /// Checks whether [`Self::purge`] would remove the namespace of a plugin now.
    ///
    /// # Errors
    /// The refusal that it would return.
    pub async fn check_purge(&self, name: PluginName) -> Result<(), Refusal> {
        self.ask(|reply| Command::CheckPurge { name, reply }).await
    }

    /// Reports a change in the cluster. Waits while the queue is full. Has no effect once the
    /// registry has stopped.
    pub async fn membership(&self, membership: Membership) {
        let observation = RegistryInput::Membership(membership);
        let _ = self.commands.send(Command::Change(Change::Observation(observation))).await;
    }

    /// Returns the stored events after a revision, at most
    /// [`EVENTS_PAGE`](crate::limits::EVENTS_PAGE). Call this again with the last revision for the
    /// next page. Returns `None` if the event after `revision` was deleted, or if the revision does
    /// not exist yet; then the caller needs the whole view.
    pub(super) async fn events_after(&self, revision: u64) -> Result<Option<Vec<Event>>, Refusal> {
        self.ask(|reply| Command::EventsAfter { revision, reply }).await
    }

    /// Returns the current view. Never waits.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Returns a receiver of the view. A new view is published after each commit, and before its
    /// answers are sent.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Subscribes to the events that are stored from now on. A receiver that lags by more than
    /// [`EVENTS_BEHIND`](crate::limits::EVENTS_BEHIND) events gets an error, and misses the oldest
    /// ones.
    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.resubscribe()
    }

    /// Returns once the registry's task has handled this request, which shows that it does not
    /// hang.
    ///
    /// # Errors
    /// [`Refusal::Stopping`] if the task has ended.
    pub async fn ping(&self) -> Result<(), Refusal> {
        self.ask(|reply| Command::Ping { reply }).await
    }

    /// Checks that the files of the database are still the opened ones, and restores missing files.
    /// [`View::unsaved`] has the reason for a failure.
    ///
    /// # Errors
    /// [`Refusal::Stopping`] if the registry's task has ended.
    pub async fn check_files(&self) -> Result<FileCheck, Refusal> {
        self.ask(|reply| Command::CheckFiles { reply }).await
    }

    /// Stops the registry after the requests that are already queued. Await the task for its end.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        ask(&self.commands, command).await
    }
}

async fn ask<C, T>(queue: &mpsc::Sender<C>, command: impl FnOnce(Reply<T>) -> C) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    queue.send(command(reply)).await.map_err(|_| Refusal::Stopping)?;
    answer.await.unwrap_or(Err(Refusal::Stopping))
}
