//! Sends the state of the daemon to systemd, or to another service manager that set
//! `NOTIFY_SOCKET`: sd_notify(3), implemented by the crate `sd-notify`.
//!
//! Without that variable nothing is sent. The texts come from [`crate::daemon`], as does the check
//! that must succeed before the watchdog is notified. The crate does not support sockets in the
//! abstract namespace, whose names begin with `@`. The socket of systemd itself has a path.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use beam::limited;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::limits;
use crate::log::limit;

/// The connection to the service manager. A manager that reads slowly delays nothing: of the states
/// that it has not read yet, only the newest is kept.
#[derive(Debug)]
pub struct Manager {
    wanted: watch::Sender<State>,
    /// None without `NOTIFY_SOCKET`.
    sender: Option<JoinHandle<()>>,
}

/// All that the service manager can learn about the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    ready: bool,
    status: String,
    stopping: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    Ready,
    Status(String),
    Stopping,
    Watchdog,
}

impl Manager {
    /// Starts sending, with `status` as the first status line.
    #[must_use]
    pub fn start(status: &str) -> Self {
        let first = State { status: status.to_owned(), ..State::default() };
        let (wanted, changes) = watch::channel(first.clone());
        let is_managed = std::env::var_os("NOTIFY_SOCKET").is_some();
        let sender = is_managed.then(|| tokio::spawn(send_changes(first, changes, send)));
        Self { wanted, sender }
    }

    /// Reports that the daemon is ready.
    pub fn ready(&self) {
        self.wanted.send_modify(|state| state.ready = true);
    }

    /// Reports that the daemon is stopping.
    pub fn stopping(&self) {
        self.wanted.send_modify(|state| state.stopping = true);
    }

    /// Sets the status line, one line for people. It is sent only if it changed.
    pub fn status(&self, status: String) {
        self.wanted.send_if_modified(|state| {
            let differs = state.status != status;
            state.status = status;
            differs
        });
    }

    /// Returns once everything is sent, or after [`limits::NOTIFY_END`].
    pub async fn end(self) {
        drop(self.wanted);
        if let Some(sender) = self.sender {
            let _ = timeout(limits::NOTIFY_END, sender).await;
        }
    }
}

/// Sends the first status, then the differences between the last state sent and the newest one.
async fn send_changes(first: State, mut wanted: watch::Receiver<State>, send: impl AsyncFn(Message)) {
    send(Message::Status(first.status.clone())).await;
    let mut sent = first;
    loop {
        let state = wanted.borrow_and_update().clone();
        if state.ready && !sent.ready {
            send(Message::Ready).await;
        }
        if state.status != sent.status {
            send(Message::Status(state.status.clone())).await;
        }
        if state.stopping && !sent.stopping {
            send(Message::Stopping).await;
        }
        sent = state;
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Notifies the watchdog, if there is one, at half of its interval. `answers` must return before
/// each notification, so a task that hangs in it makes the service manager restart the daemon.
pub async fn feed_watchdog(answers: impl AsyncFn()) -> Infallible {
    match sd_notify::watchdog_enabled().filter(|time| !time.is_zero()) {
        Some(time) => feed(time / 2, answers, async || send(Message::Watchdog).await).await,
        None => pending().await,
    }
}

async fn feed(every: Duration, answers: impl AsyncFn(), ping: impl AsyncFn()) -> Infallible {
    let mut times = interval(every);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        answers().await;
        ping().await;
    }
}

/// Sends one message. Waits while the buffer of the manager's socket is full.
async fn send(message: Message) {
    let sent = spawn_blocking(move || match &message {
        Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // A line break would end the field and begin another one.
        Message::Status(status) => sd_notify::notify(&[NotifyState::Status(&status.replace(char::is_control, " "))]),
        Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Message::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
    });
    if let Ok(Err(error)) = sent.await {
        limited!(limit::MANAGER, warn, "cannot notify the service manager at NOTIFY_SOCKET: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::{Instant, sleep};

    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_notified_at_each_interval() {
        let pings = Cell::new(0);
        let fed = feed(EVERY, async || {}, async || pings.set(pings.get() + 1));
        assert!(timeout(EVERY * 10 + EVERY / 2, fed).await.is_err(), "it never ends");
        assert_eq!(pings.get(), 11, "the first one at once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_not_notified_while_a_task_hangs() {
        let (begun, pings) = (Instant::now(), Cell::new(0));
        let answers = async || {
            if begun.elapsed() >= EVERY * 2 {
                pending::<()>().await;
            }
        };
        let fed = feed(EVERY, answers, async || pings.set(pings.get() + 1));
        assert!(timeout(EVERY * 100, fed).await.is_err(), "it waits");
        assert_eq!(pings.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_manager_gets_only_the_newest_status() {
        let first = State { status: "starting".to_owned(), ..State::default() };
        let (wanted, changes) = watch::channel(first.clone());
        let manager = Manager { wanted, sender: None };
        let received = RefCell::new(Vec::new());
        let slow = async |message| {
            sleep(EVERY).await;
            received.borrow_mut().push(message);
        };
        let change = async {
            for number in 0..100 {
                manager.status(number.to_string());
            }
            manager.ready();
            sleep(EVERY * 10).await;
            manager.status("99".to_owned());
            manager.stopping();
            drop(manager.wanted);
        };
        tokio::join!(send_changes(first, changes, slow), change);
        let status = |text: &str| Message::Status(text.to_owned());
        assert_eq!(received.into_inner(), [status("starting"), Message::Ready, status("99"), Message::Stopping]);
    }
}
