//! How everybody else asks the registry: a queue of bounded length to its task, and its current view.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::command::{Change, Command, DiskCommand, FileCheck, Reply};
use super::effect::RegistryInput;
use super::refusal::Refusal;
use super::{Membership, Registrant, View};
use crate::layout::{Contents, Removed};
use crate::plugin::{Event, Plugin, PluginName, Registration};

/// The way to the registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) disk: mpsc::Sender<DiskCommand>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<Arc<View>>,
    /// Never read itself: a sender kept here would keep every subscription open beyond the registry's end.
    pub(super) events: Arc<broadcast::Receiver<Event>>,
}

impl Handle {
    /// Registers a plugin, or registers it again. Its directories exist and it is durable when this returns: the plugin as it
    /// is stored now.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing is registered then, though directories may have been made.
    pub async fn register(
        &self,
        registration: Registration,
        registrant: Option<Registrant>,
    ) -> Result<Arc<Plugin>, Refusal> {
        self.ask(|reply| Command::Change(Change::Register { registration, registrant, reply })).await
    }

    /// Removes a plugin from the registry. Its data stays. Gives the plugin as it was.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or it could not be saved.
    pub async fn deregister(&self, name: PluginName) -> Result<Arc<Plugin>, Refusal> {
        self.ask(|reply| Command::Change(Change::Deregister { name, reply })).await
    }

    /// What a plugin keeps in its namespace beyond what we made, as it is on disk now.
    ///
    /// # Errors
    /// [`Refusal::Layout`]: it can't be looked at.
    pub async fn contents(&self, name: PluginName) -> Result<Contents, Refusal> {
        ask(&self.disk, |reply| DiskCommand::Contents { name, reply }).await
    }

    /// Removes the namespace of a plugin that is neither registered nor running, for good. Gives what was removed.
    ///
    /// # Errors
    /// See [`Refusal`]. Nothing is removed then, but for [`Refusal::PurgeIncomplete`].
    pub async fn purge(&self, name: PluginName) -> Result<Removed, Refusal> {
        // One refusal proves nothing: between `bind` and `listen` a living plugin refuses too. What is dead goes first.
        if !self.view().plugins.contains_key(&name) {
            return ask(&self.disk, |reply| DiskCommand::Purge { name, reply }).await;
        }
        self.ask(|reply| Command::Purge { name, reply }).await
    }

    /// Returns whether [`Self::purge`] would remove the namespace of a plugin now. Changes nothing.
    ///
    /// # Errors
    /// Why it would not.
    pub async fn check_purge(&self, name: PluginName) -> Result<(), Refusal> {
        self.ask(|reply| Command::CheckPurge { name, reply }).await
    }

    /// Tells what the cluster shows. Waits while the queue is full; what comes when we stop is of no interest any more.
    pub async fn membership(&self, membership: Membership) {
        let observation = RegistryInput::Membership(membership);
        let _ = self.commands.send(Command::Change(Change::Observation(observation))).await;
    }

    /// Returns the stored events after a revision, at most
    /// [`EVENTS_PAGE`](crate::limits::EVENTS_PAGE): ask again after the last of them until none is
    /// left. Returns `None` if they are no longer (or not yet) known; then only the whole view
    /// helps.
    pub(super) async fn events_after(&self, revision: u64) -> Result<Option<Vec<Event>>, Refusal> {
        self.ask(|reply| Command::EventsAfter { revision, reply }).await
    }

    /// What is registered now. Never waits.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the view: after each commit, and before its answers, the new one is there.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Returns the stored events from now on. A reader that lags by more than
    /// [`EVENTS_BEHIND`](crate::limits::EVENTS_BEHIND) events gets an error for those that it
    /// missed.
    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.resubscribe()
    }

    /// Returns once the registry's task has taken this from its queue: it is not stuck.
    ///
    /// # Errors
    /// [`Refusal::Stopping`]: it has ended.
    pub async fn ping(&self) -> Result<(), Refusal> {
        self.ask(|reply| Command::Ping { reply }).await
    }

    /// Compares the files of the database with those that were opened, and restores vanished ones.
    /// A failure is in [`View::unsaved`].
    ///
    /// # Errors
    /// [`Refusal::Stopping`]: it has ended.
    pub async fn check_files(&self) -> Result<FileCheck, Refusal> {
        self.ask(|reply| Command::CheckFiles { reply }).await
    }

    /// Has the registry end when it has done all that was asked before. Await the task to know that it has.
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
