//! The task that owns the registry: takes what is queued, has [`State`] decide, stores, publishes, answers.
//!
//! The order of a registration is: directories, save, publish, answer. All that is queued shares one commit, and while it
//! is written the next batch gathers. What cannot be stored has not happened: the state stays as it was, commands
//! are refused, and observations (what the cluster and the sockets showed, which nobody repeats) are kept and tried again, while
//! the view says that it lags behind. Never does blocking work itself.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::pending;
use std::panic;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use beam::limited;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio::time::sleep_until;

use super::View;
use super::background::{blocking, check_data, clean_up, exit_of, finish_purges, set_aside, settle_purges};
use super::batch::{Batch, SocketCheck, commit, prepare, settle, to_store};
use super::command::{Change, Command, FileCheck, Reply};
use super::disk;
use super::effect::{Config, Now, RegistryEffect, RegistryInput, Warning};
use super::handle::Handle;
use super::refusal::Refusal;
use super::state::State;
use crate::layout::{Layout, Process, Removed, RunError};
use crate::limits;
use crate::log::limit;
use crate::plugin::{Event, EventKind, PluginName};
use crate::store::{CommitError, Opened, Store};
use crate::timestamp;

/// Commands that share one commit, at most. A tuning constant: more means fewer commits; less means that
/// the first of a batch waits less.
const BATCH: usize = 128;

/// Starts the registry with what the store held. The task ends after [`Handle::stop`], or when every handle is gone.
/// `check_socket` is called before each change is answered.
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
        clean_ups_at_once: Arc::new(Semaphore::new(limits::CLEAN_UPS)),
        exits: BTreeMap::new(),
        observations: Vec::new(),
        retry_at: None,
        lost: None,
        suspects: false,
    };
    let both = async {
        tokio::select! {
            () = task.run(opened.store) => {}
            // It ends when every handle is gone; the task then stores what it has learned.
            () = async { disk_work.await; pending().await } => {}
        }
    };
    (handle, tokio::spawn(both))
}

/// Returns a time that can be stored, even if the clock is wrong, so that registrations still work.
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
    /// All that runs beside this task; each ends with what it has to tell.
    work: JoinSet<Vec<RegistryInput>>,
    clean_ups: BTreeMap<PluginName, AbortHandle>,
    /// What each of them that does something holds a permit of.
    clean_ups_at_once: Arc<Semaphore>,
    exits: BTreeMap<PluginName, (Process, AbortHandle)>,
    /// What was learned and is not yet in the state: more than one batch of it only while the store fails.
    observations: Vec<RegistryInput>,
    retry_at: Option<Instant>,
    /// Why the files of the database, which vanished or were replaced, could not be restored. Only
    /// a later success clears it.
    lost: Option<String>,
    /// Whether a file was missing in the last check.
    suspects: bool,
}

impl Task {
    /// The store isn't a part of the task: it is lent to one blocking call at a time.
    async fn run(mut self, mut store: Store) {
        let mut inbox = Vec::with_capacity(BATCH);
        // Before anybody registers: a name may have to be given back.
        let (layout, revision) = (Arc::clone(&self.layout), self.state.view().revision);
        let left = blocking(move || settle_purges(&layout, revision)).await;
        let layout = Arc::clone(&self.layout);
        self.work.spawn_blocking(move || {
            finish_purges(&layout, left);
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
                Some(ended) = self.work.join_next(), if has_room => self.learn(ended),
                () = sleep_until_or_for_ever(deadline) => {}
            }
            while let Some(ended) = self.work.try_join_next() {
                self.learn(ended);
            }
            store = self.work_through(store, &mut inbox).await;
        }
        self.work.shutdown().await;
        let layout = Arc::clone(&self.layout);
        let (store, settled) = lend(store, move |store| {
            if layout.check_home().is_err() {
                // The saved data moved with home.
                return Ok(());
            }
            if let Err(held @ RunError::Held { .. }) = layout.reclaim_own() {
                tracing::warn!(error = %held, "the registry's files belong to another daemon now and are left alone");
                return Ok(());
            }
            // This is the last chance to restore the files.
            store.retry_at_once();
            settle(&layout, store)
        })
        .await;
        if let Err(error) = settled {
            tracing::error!(%error, "the next start will miss committed changes");
        }
        // Closing writes the log back into the database.
        blocking(move || drop(store)).await;
    }

    /// While the store fails, the time to try again is what counts.
    fn deadline(&self) -> Option<Instant> {
        self.retry_at.or_else(|| self.state.next_deadline())
    }

    fn learn(&mut self, ended: Result<Vec<RegistryInput>, JoinError>) {
        match ended.map_err(JoinError::try_into_panic) {
            Ok(observations) => self.observations.extend(observations),
            Err(Ok(panicked)) => panic::resume_unwind(panicked),
            Err(Err(_aborted)) => {}
        }
    }

    /// Does all that was queued, in its order: what changes only the registry in one batch, and in two where a purge comes
    /// between.
    async fn work_through(&mut self, mut store: Store, inbox: &mut Vec<Command>) -> Store {
        let mut changes = Vec::new();
        for command in inbox.drain(..) {
            match command {
                Command::Change(change) => changes.push(change),
                Command::Purge { name, reply } => {
                    store = self.decide(store, std::mem::take(&mut changes)).await;
                    store = self.purge(store, name, reply).await;
                }
                Command::CheckPurge { name, reply } => {
                    store = self.decide(store, std::mem::take(&mut changes)).await;
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
                // What is queued behind it is still done, and nothing more is taken.
                Command::Stop => self.queue.close(),
            }
        }
        self.decide(store, changes).await
    }

    /// One batch: all of it is decided, stored, shown and answered together.
    async fn decide(&mut self, store: Store, changes: Vec<Change>) -> Store {
        let now = now();
        let batch = Batch::new(now, self.state.clone(), Arc::clone(&self.layout), Arc::clone(&self.check_socket));
        let observations = std::mem::take(&mut self.observations);
        let (store, (batch, stored)) = lend(store, move |store| batch.carry_out(store, observations, changes)).await;
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
                self.retry_at = Some(now.instant + limits::COMMIT_RETRY);
                self.publish(Vec::new(), Some(error.to_string()));
                for (reply, _) in batch.answers {
                    let _ = reply.send(Err(error.clone().into()));
                }
            }
        }
        store
    }

    /// Restores vanished files of the database. A failure is shown until they are restored.
    async fn check_files(&mut self, store: Store) -> (Store, FileCheck) {
        let (layout, suspects) = (Arc::clone(&self.layout), self.suspects);
        let (store, (is_intact, settled)) = lend(store, move |store| {
            let is_intact = store.is_intact();
            // A file that is missing for the first time is only noted: see `layout::decide`.
            let settled = if is_intact || suspects { settle(&layout, store) } else { Ok(()) };
            (is_intact, settled)
        })
        .await;
        self.suspects = !is_intact;
        let found = match settled {
            Err(error) => {
                limited!(limit::DISK, error, %error, "the registry's files cannot be used");
                self.note_loss(&error);
                self.publish(Vec::new(), Some(error.to_string()));
                FileCheck::Failed
            }
            Ok(()) if is_intact || suspects => {
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

    /// Checks whether a plugin may be purged, as far as the registry knows without its socket.
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

    /// Removes the data of a plugin: set aside, save, publish, remove, answer. While it is removed others are served.
    async fn purge(&mut self, store: Store, name: PluginName, reply: Reply<Removed>) -> Store {
        let (store, admitted) = self.admit_purge(store, &name).await;
        if let Err(refusal) = admitted {
            let _ = reply.send(Err(refusal));
            return store;
        }
        // All of it is removed in a moment.
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
                tracing::info!(plugin = %name, files = removed.files, bytes = removed.bytes, "purged its data");
            }
            let _ = reply.send(removed.map_err(|error| Refusal::PurgeIncomplete(error, name)));
            Vec::new()
        });
        store
    }

    /// Shows the new view, then sends the events that made it. While the files are lost, the view
    /// shows why, also if nothing was left to save.
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
            let Event { revision, kind, plugin, .. } = &event;
            // What a deregistered plugin was like before is no reason for it.
            let why = if *kind == EventKind::Deregistered { "" } else { plugin.reason.detail.as_str() };
            limited!(limit::PLUGINS, info, plugin = %plugin.name, revision, status = ?plugin.status, why, "{}", kind.name());
            // Nobody needs to listen.
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
                RegistryEffect::Warn(warning) => warn(&warning),
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
            let probe = |name| RegistryInput::SocketProbed { state: layout.look_at_socket(&name), name };
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
                    let what = "its node has joined, but its directories could not be made";
                    limited!(limit::DISK, warn, plugin = %name, %error, "{what}");
                }
            }
            Vec::new()
        });
    }

    fn clean_up(&mut self, name: PluginName, process: Option<Process>) {
        if self.clean_ups.get(&name).is_some_and(|running| !running.is_finished()) {
            return;
        }
        let (layout, at_once) = (Arc::clone(&self.layout), Arc::clone(&self.clean_ups_at_once));
        let plugin = name.clone();
        let running = self.work.spawn(async move {
            // Never closed, so there is always a permit in the end.
            let _permit = at_once.acquire_owned().await;
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
            exit_of(process).await;
            vec![RegistryInput::Exited { name: plugin, process }]
        });
        if let Some((_, before)) = self.exits.insert(name, (process, waiting)) {
            before.abort();
        }
    }
}

fn warn(warning: &Warning) {
    match warning {
        Warning::TooManyNodes { node } => {
            let what = "too many nodes: this one decides nothing here";
            limited!(limit::SURPLUS, warn, %node, max = limits::REGISTRY_NODES, "{what}");
        }
        Warning::TooManyRefusals { node } => {
            let what = "too many nodes refuse to connect: this one is ignored";
            limited!(limit::SURPLUS, warn, %node, max = limits::REGISTRY_NODES, "{what}");
        }
        Warning::TooManyAnnouncements { node, plugin } => {
            let what = "too many announcements: this one is not heard";
            limited!(limit::SURPLUS, warn, %node, %plugin, max = limits::ANNOUNCEMENTS, "{what}");
        }
        Warning::TooManyUnregistered { plugin } => {
            let what = "too many plugins are announced and not registered: this one gets no directories until it is \
                        registered";
            limited!(limit::SURPLUS, warn, %plugin, max = limits::UNREGISTERED, "{what}");
        }
        Warning::OwnNode { node, plugin } => {
            let what = "ignored the plugin's `node`, which is the node of this hecate-daemon: register it again without \
                        `node`";
            limited!(limit::PLUGINS, warn, %plugin, %node, "{what}");
        }
    }
}

fn abort(running: &mut BTreeMap<PluginName, AbortHandle>, name: &PluginName) {
    if let Some(running) = running.remove(name) {
        running.abort();
    }
}

async fn sleep_until_or_for_ever(deadline: Option<Instant>) {
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
