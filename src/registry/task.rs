//! The task that owns the registry. It takes requests from the queue, lets [`State`] decide, stores
//! the events, publishes the view and sends the answers.
//!
//! A registration is handled in this order: directories, save, publish, answer. All queued changes
//! share one commit. The next batch is queued meanwhile. If a batch cannot be stored, the state
//! does not change. Requests are then refused. Observations of the cluster and of sockets arrive
//! only once, so they are kept and tried again, and the view shows that it is outdated.
//!
//! All blocking work runs in blocking threads.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::pending;
use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use beam::limited;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio::time::sleep_until;

use super::View;
use super::background::{blocking, check_data, clean_up, finish_purges, set_aside, settle_purges, wait_for_exit};
use super::batch::{Batch, SocketCheck, commit, prepare, settle, to_store};
use super::command::{Change, Command, FileCheck, Reply};
use super::disk;
use super::effect::{Config, Now, RegistryEffect, RegistryInput};
use super::handle::Handle;
use super::log::{log_event, log_warning};
use super::refusal::Refusal;
use super::state::State;
use crate::layout::{Layout, Process, Removed, RunError};
use crate::limits;
use crate::log::limit;
use crate::plugin::{Event, PluginName};
use crate::store::{CommitError, Opened, Store};
use crate::timestamp;

// ---- Tuning constants -----------------------------------------------------------------------

/// The maximum number of commands that share one commit. A larger value means fewer commits. With a
/// smaller one, the first command of a batch waits less.
const BATCH: usize = 128;

/// Time until a failed commit is tried again. More means that the view is out of date for longer
/// after the disk works again; less means more failing commits until then.
const COMMIT_RETRY: Duration = Duration::from_secs(1);

/// Starts the registry with the content of the store. The task ends after [`Handle::stop`], or when
/// every handle is dropped. `check_socket` is called before each change is answered.
#[must_use]
pub fn start(
    config: Config,
    layout: Arc<Layout>,
    opened: Opened,
    check_socket: SocketCheck,
) -> (Handle, JoinHandle<()>) {
    let state = State::new(config, now(), opened.revision, opened.plugins);
    let (commands, queue) = mpsc::channel(limits::REGISTRY_QUEUE);
    let (view, current) = watch::channel(Arc::new(state.view()));
    let (events, subscription) = broadcast::channel(limits::EVENTS_BEHIND);
    let (disk, disk_queue) = mpsc::channel(limits::REGISTRY_QUEUE);
    let disk_work = disk::serve(Arc::clone(&layout), disk_queue, commands.downgrade());
    let handle = Handle { disk, commands, view: current, events: Arc::new(subscription) };
    let task = Task {
        state,
        layout,
        check_socket,
        queue,
        view,
        events,
        work: JoinSet::new(),
        clean_ups: BTreeMap::new(),
        clean_up_permits: Arc::new(Semaphore::new(limits::CLEAN_UPS)),
        exits: BTreeMap::new(),
        observations: Vec::new(),
        retry_at: None,
        lost: None,
        suspects_loss: false,
    };
    let both = async {
        tokio::select! {
            () = task.run(opened.store) => {}
            // This ends when every handle is dropped. The task then stores its last observations.
            () = async { disk_work.await; pending().await } => {}
        }
    };
    (handle, tokio::spawn(both))
}

/// Returns the current time. A wrong clock must not prevent registrations, so the time can always
/// be stored.
fn now() -> Now {
    Now { instant: Instant::now(), time: timestamp::storable(SystemTime::now()) }
}

struct Task {
    state: State,
    layout: Arc<Layout>,
    check_socket: SocketCheck,
    queue: mpsc::Receiver<Command>,
    view: watch::Sender<Arc<View>>,
    events: broadcast::Sender<Event>,
    /// The work that runs concurrently. Each task returns its observations.
    work: JoinSet<Vec<RegistryInput>>,
    clean_ups: BTreeMap<PluginName, AbortHandle>,
    /// Bounds the clean-ups in progress.
    clean_up_permits: Arc<Semaphore>,
    exits: BTreeMap<PluginName, (Process, AbortHandle)>,
    /// Observations that are not yet in the state. More than one batch only while the store fails.
    observations: Vec<RegistryInput>,
    retry_at: Option<Instant>,
    /// Why missing or replaced files of the database could not be restored. Cleared by the next
    /// success.
    lost: Option<String>,
    /// Whether a file was missing in the last check.
    suspects_loss: bool,
}

impl Task {
    /// Runs the registry. Each blocking call takes the store and returns it.
    async fn run(mut self, mut store: Store) {
        let mut inbox = Vec::with_capacity(BATCH);
        // Before any registration, since an interrupted purge may have to be undone.
        let (layout, revision) = (Arc::clone(&self.layout), self.state.view().revision);
        let interrupted = blocking(move || settle_purges(&layout, revision)).await;
        let layout = Arc::clone(&self.layout);
        self.work.spawn_blocking(move || {
            finish_purges(&layout, interrupted);
            Vec::new()
        });
        loop {
            let deadline = self.deadline();
            let has_room = self.observations.len() < limits::REGISTRY_BACKLOG;
            tokio::select! {
                count = self.queue.recv_many(&mut inbox, BATCH), if has_room => {
                    if count == 0 {
                        break;
                    }
                }
                Some(ended) = self.work.join_next(), if has_room => self.collect(ended),
                () = sleep_until_or_forever(deadline) => {}
            }
            while let Some(ended) = self.work.try_join_next() {
                self.collect(ended);
            }
            store = self.handle_commands(store, &mut inbox).await;
        }
        self.work.shutdown().await;
        let layout = Arc::clone(&self.layout);
        let (store, settled) = lend(store, move |store| {
            if layout.check_home().is_err() {
                // The saved data was moved together with home.
                return Ok(());
            }
            if let Err(held @ RunError::Held { .. }) = layout.reclaim_own() {
                tracing::warn!(error = %held, "another daemon uses the files of the registry now; they are not changed");
                return Ok(());
            }
            // This is the last chance to restore the files.
            store.retry_at_once();
            settle(&layout, store)
        })
        .await;
        if let Err(error) = settled {
            tracing::error!(%error, "the next start will not have the last changes of the registry");
        }
        // Closing the database writes its write-ahead log back.
        blocking(move || drop(store)).await;
    }

    /// Returns when to continue without a request: at the next retry while the store fails, else at
    /// the next deadline of the state.
    fn deadline(&self) -> Option<Instant> {
        self.retry_at.or_else(|| self.state.next_deadline())
    }

    fn collect(&mut self, ended: Result<Vec<RegistryInput>, JoinError>) {
        match ended.map_err(JoinError::try_into_panic) {
            Ok(observations) => self.observations.extend(observations),
            Err(Ok(panicked)) => panic::resume_unwind(panicked),
            Err(Err(_aborted)) => {}
        }
    }

    /// Handles all queued commands in order. Changes of the registry share a batch, which ends
    /// before a purge.
    async fn handle_commands(&mut self, mut store: Store, inbox: &mut Vec<Command>) -> Store {
        let mut changes = Vec::new();
        for command in inbox.drain(..) {
            match command {
                Command::Change(change) => changes.push(change),
                Command::Purge { name, reply } => {
                    store = self.run_batch(store, std::mem::take(&mut changes)).await;
                    store = self.purge(store, name, reply).await;
                }
                Command::CheckPurge { name, reply } => {
                    store = self.run_batch(store, std::mem::take(&mut changes)).await;
                    store = self.check_purge(store, name, reply).await;
                }
                Command::EventsAfter { revision, reply } => {
                    let events;
                    (store, events) = lend(store, move |store| store.events_after(revision)).await;
                    let _ = reply.send(events.map_err(Refusal::from));
                }
                Command::Ping { reply } => {
                    let _ = reply.send(Ok(()));
                }
                Command::CheckFiles { reply } => {
                    let found;
                    (store, found) = self.check_files(store).await;
                    let _ = reply.send(Ok(found));
                }
                // Commands that are already queued are still handled.
                Command::Stop => self.queue.close(),
            }
        }
        self.run_batch(store, changes).await
    }

    /// Decides, stores, publishes and answers one batch.
    async fn run_batch(&mut self, store: Store, changes: Vec<Change>) -> Store {
        let now = now();
        let batch = Batch::new(now, self.state.clone(), Arc::clone(&self.layout), Arc::clone(&self.check_socket));
        let observations = std::mem::take(&mut self.observations);
        let (store, (batch, stored)) = lend(store, move |store| batch.run(store, observations, changes)).await;
        match stored {
            Ok(events) => {
                self.retry_at = None;
                self.state = batch.state;
                if !events.is_empty() {
                    self.lost = None;
                }
                self.publish(events, None);
                self.perform(batch.effects);
                for (reply, result) in batch.answers {
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                self.observations = batch.observations;
                self.note_loss(&error);
                self.retry_at = Some(now.instant + COMMIT_RETRY);
                self.publish(Vec::new(), Some(error.to_string()));
                for (reply, _) in batch.answers {
                    let _ = reply.send(Err(error.clone().into()));
                }
            }
        }
        store
    }

    /// Restores missing files of the database. The view shows a failure until they are restored.
    async fn check_files(&mut self, store: Store) -> (Store, FileCheck) {
        let (layout, suspects_loss) = (Arc::clone(&self.layout), self.suspects_loss);
        let (store, (is_intact, settled)) = lend(store, move |store| {
            let is_intact = store.is_intact();
            // A file that is missing for the first time is not restored yet, see `layout::decide`.
            let settled = if is_intact || suspects_loss { settle(&layout, store) } else { Ok(()) };
            (is_intact, settled)
        })
        .await;
        self.suspects_loss = !is_intact;
        let found = match settled {
            Err(error) => {
                limited!(limit::DISK, error, %error, "cannot use the files of the registry");
                self.note_loss(&error);
                self.publish(Vec::new(), Some(error.to_string()));
                FileCheck::Failed
            }
            Ok(()) if is_intact || suspects_loss => {
                if self.lost.take().is_some() && self.retry_at.is_none() {
                    self.publish(Vec::new(), None);
                }
                FileCheck::Intact
            }
            Ok(()) => FileCheck::Missing,
        };
        (store, found)
    }

    fn note_loss(&mut self, error: &CommitError) {
        if matches!(error, CommitError::Vanished(_)) {
            self.lost = Some(error.to_string());
        }
    }

    /// Checks whether a plugin may be purged, without probing its socket.
    async fn admit_purge(&self, store: Store, name: &PluginName) -> (Store, Result<(), Refusal>) {
        let (layout, plugin) = (Arc::clone(&self.layout), name.clone());
        let (store, last_node) = lend(store, move |store| {
            prepare(&layout)?;
            Ok::<_, Refusal>(store.last_node(&plugin)?)
        })
        .await;
        (store, last_node.and_then(|node| self.state.admit_purge(name, node)))
    }

    /// Answers whether [`Self::purge`] would succeed now.
    async fn check_purge(&self, store: Store, name: PluginName, reply: Reply<()>) -> Store {
        let (store, admitted) = self.admit_purge(store, &name).await;
        let layout = Arc::clone(&self.layout);
        let checked = match admitted {
            Ok(()) => blocking(move || check_data(&layout, &name)).await.map(drop),
            Err(refusal) => Err(refusal),
        };
        let _ = reply.send(checked);
        store
    }

    /// Removes the data of a plugin in this order: set aside, save, publish, remove, answer. Other
    /// requests are handled during the removal.
    async fn purge(&mut self, store: Store, name: PluginName, reply: Reply<Removed>) -> Store {
        let (store, admitted) = self.admit_purge(store, &name).await;
        if let Err(refusal) = admitted {
            let _ = reply.send(Err(refusal));
            return store;
        }
        // The purge removes these files too.
        abort(&mut self.clean_ups, &name);
        let (layout, plugin, revision) = (Arc::clone(&self.layout), name.clone(), self.state.next_revision());
        let aside = match blocking(move || set_aside(&layout, &plugin, revision)).await {
            Ok(aside) => aside,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return store;
            }
        };
        let mut effects = Vec::new();
        let before = self.state.clone();
        self.state.purged(now(), name.clone(), &mut effects);
        let events: Vec<Event> = effects.iter().filter_map(to_store).collect();
        let (layout, check_socket, stored) = (Arc::clone(&self.layout), Arc::clone(&self.check_socket), events.clone());
        let (store, committed) = lend(store, move |store| commit(&layout, &*check_socket, store, &stored)).await;
        let layout = Arc::clone(&self.layout);
        if let Err(error) = committed {
            self.state = before;
            self.note_loss(&error);
            let put_back = blocking(move || layout.put_namespace_back(&aside)).await;
            let _ = reply.send(Err(put_back.map_or_else(Refusal::from, |()| error.into())));
            return store;
        }
        self.lost = None;
        self.publish(events, None);
        self.work.spawn_blocking(move || {
            let removed = layout.remove_aside(&aside);
            if let Ok(removed) = removed {
                tracing::info!(plugin = %name, files = removed.files, bytes = removed.bytes, "removed the data of the plugin");
            }
            let _ = reply.send(removed.map_err(|error| Refusal::PurgeIncomplete(error, name)));
            Vec::new()
        });
        store
    }

    /// Publishes the new view, then its events. While the files of the database are lost, the view
    /// has the reason, even if there is nothing to save.
    fn publish(&mut self, events: Vec<Event>, unsaved: Option<String>) {
        let view =
            View { unsaved: unsaved.or_else(|| self.lost.clone()), is_lost: self.lost.is_some(), ..self.state.view() };
        self.view.send_if_modified(|shown| {
            let is_new = shown.revision != view.revision
                || shown.ready != view.ready
                || shown.unsaved != view.unsaved
                || shown.is_lost != view.is_lost;
            if is_new {
                *shown = Arc::new(view);
            }
            is_new
        });
        for event in events {
            log_event(&event);
            // There may be no subscriber.
            let _ = self.events.send(event);
        }
    }

    // ---- Effects ----------------------------------------------------------------------------

    fn perform(&mut self, effects: Vec<RegistryEffect>) {
        let mut probes = Vec::new();
        let mut layouts = Vec::new();
        for effect in effects {
            match effect {
                RegistryEffect::Store(_) => {}
                RegistryEffect::ProbeSocket(name) => probes.push(name),
                RegistryEffect::EnsureLayout(name) => layouts.push(name),
                RegistryEffect::CleanUp { name, process } => self.clean_up(name, process),
                RegistryEffect::CancelCleanUp(name) => abort(&mut self.clean_ups, &name),
                RegistryEffect::AwaitExit { name, process } => self.await_exit(name, process),
                RegistryEffect::Warn(warning) => log_warning(&warning),
                RegistryEffect::Forget(name) => {
                    if let Some((_, waiting)) = self.exits.remove(&name) {
                        waiting.abort();
                    }
                }
            }
        }
        self.probe(probes);
        self.ensure(layouts);
    }

    fn probe(&mut self, names: Vec<PluginName>) {
        if names.is_empty() {
            return;
        }
        let layout = Arc::clone(&self.layout);
        self.work.spawn_blocking(move || {
            let probe = |name| RegistryInput::SocketProbed { state: layout.probe_socket(&name), name };
            names.into_iter().map(probe).collect()
        });
    }

    fn ensure(&mut self, names: Vec<PluginName>) {
        if names.is_empty() {
            return;
        }
        let layout = Arc::clone(&self.layout);
        self.work.spawn_blocking(move || {
            for name in names {
                if let Err(error) = layout.ensure(&name, None) {
                    limited!(limit::DISK, warn, plugin = %name, %error, "cannot create the directories of the plugin");
                }
            }
            Vec::new()
        });
    }

    fn clean_up(&mut self, name: PluginName, process: Option<Process>) {
        if self.clean_ups.get(&name).is_some_and(|running| !running.is_finished()) {
            return;
        }
        let (layout, permits) = (Arc::clone(&self.layout), Arc::clone(&self.clean_up_permits));
        let plugin = name.clone();
        let running = self.work.spawn(async move {
            // The semaphore is never closed, so this does not fail.
            let _permit = permits.acquire_owned().await;
            clean_up(layout, plugin, process).await;
            Vec::new()
        });
        self.clean_ups.insert(name, running);
    }

    fn await_exit(&mut self, name: PluginName, process: Process) {
        if self.exits.get(&name).is_some_and(|(awaited, waiting)| *awaited == process && !waiting.is_finished()) {
            return;
        }
        let plugin = name.clone();
        let waiting = self.work.spawn(async move {
            wait_for_exit(process).await;
            vec![RegistryInput::Exited { name: plugin, process }]
        });
        if let Some((_, before)) = self.exits.insert(name, (process, waiting)) {
            before.abort();
        }
    }
}

fn abort(running: &mut BTreeMap<PluginName, AbortHandle>, name: &PluginName) {
    if let Some(running) = running.remove(name) {
        running.abort();
    }
}

async fn sleep_until_or_forever(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn lend<T: Send + 'static>(mut store: Store, work: impl FnOnce(&mut Store) -> T + Send + 'static) -> (Store, T) {
    blocking(move || {
        let result = work(&mut store);
        (store, result)
    })
    .await
}
