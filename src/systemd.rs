//! What we tell systemd, or whoever else started us with `NOTIFY_SOCKET`: sd_notify(3), by the crate `sd-notify`.
//!
//! Without that variable nothing is told to nobody. Knows nothing of the daemon: the texts come from there, as does what must
//! answer for the watchdog to be fed. (The crate does not speak to sockets in the abstract namespace, those whose
//! name begins with `@`; systemd's own is a path.)

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

/// Who is told. One who doesn't listen holds up nobody: of what he has not taken, the last is kept.
#[derive(Debug)]
pub struct Manager {
    wanted: watch::Sender<Words>,
    /// None if nobody wants to be told.
    teller: Option<JoinHandle<()>>,
}

/// All that there is to be told of us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Words {
    ready: bool,
    status: String,
    stopping: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Ready,
    Status(String),
    Stopping,
    Watchdog,
}

impl Manager {
    /// Begins with what we do at first.
    #[must_use]
    pub fn start(status: &str) -> Self {
        let first = Words { status: status.to_owned(), ..Words::default() };
        let (wanted, changes) = watch::channel(first.clone());
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        let teller = is_there.then(|| tokio::spawn(follow(first, changes, tell)));
        Self { wanted, teller }
    }

    /// We serve.
    pub fn ready(&self) {
        self.wanted.send_modify(|words| words.ready = true);
    }

    /// We are on the way out.
    pub fn stopping(&self) {
        self.wanted.send_modify(|words| words.stopping = true);
    }

    /// What we do, in one line for people; told where it differs from what was told last.
    pub fn status(&self, status: String) {
        self.wanted.send_if_modified(|words| {
            let differs = words.status != status;
            words.status = status;
            differs
        });
    }

    /// Returns once all is told, or after [`limits::NOTIFY_END`].
    pub async fn end(self) {
        drop(self.wanted);
        if let Some(teller) = self.teller {
            let _ = timeout(limits::NOTIFY_END, teller).await;
        }
    }
}

/// Tells the first words, and then what differs each time from what was told before.
async fn follow(first: Words, mut wanted: watch::Receiver<Words>, tell: impl AsyncFn(Word)) {
    tell(Word::Status(first.status.clone())).await;
    let mut told = first;
    loop {
        let words = wanted.borrow_and_update().clone();
        if words.ready && !told.ready {
            tell(Word::Ready).await;
        }
        if words.status != told.status {
            tell(Word::Status(words.status.clone())).await;
        }
        if words.stopping && !told.stopping {
            tell(Word::Stopping).await;
        }
        told = words;
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Feeds the watchdog at half of its time, if there is one, each time after `answers` has returned: whatever is stuck in there keeps
/// it hungry.
pub async fn watch(answers: impl AsyncFn()) -> Infallible {
    match sd_notify::watchdog_enabled().filter(|time| !time.is_zero()) {
        Some(time) => feed(time / 2, answers, async || tell(Word::Watchdog).await).await,
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

/// Takes as long as it takes the manager to have room for it.
async fn tell(word: Word) {
    let told = spawn_blocking(move || match &word {
        Word::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // A line break would end the field, and begin another.
        Word::Status(status) => sd_notify::notify(&[NotifyState::Status(&status.replace(char::is_control, " "))]),
        Word::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Word::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
    });
    if let Ok(Err(error)) = told.await {
        limited!(limit::MANAGER, warn, "the service manager can't be told at NOTIFY_SOCKET: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::{Instant, sleep};

    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn it_is_fed_at_each_time_while_all_answer() {
        let pings = Cell::new(0);
        let fed = feed(EVERY, async || {}, async || pings.set(pings.get() + 1));
        assert!(timeout(EVERY * 10 + EVERY / 2, fed).await.is_err(), "it goes on");
        assert_eq!(pings.get(), 11, "the first at once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stuck_keeps_it_hungry() {
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
    async fn of_what_is_not_taken_the_last_is_told() {
        let first = Words { status: "starting".to_owned(), ..Words::default() };
        let (wanted, changes) = watch::channel(first.clone());
        let manager = Manager { wanted, teller: None };
        let heard = RefCell::new(Vec::new());
        let slow = async |word| {
            sleep(EVERY).await;
            heard.borrow_mut().push(word);
        };
        let say = async {
            for number in 0..100 {
                manager.status(number.to_string());
            }
            manager.ready();
            sleep(EVERY * 10).await;
            manager.status("99".to_owned());
            manager.stopping();
            drop(manager.wanted);
        };
        tokio::join!(follow(first, changes, slow), say);
        let status = |text: &str| Word::Status(text.to_owned());
        assert_eq!(heard.into_inner(), [status("starting"), Word::Ready, status("99"), Word::Stopping]);
    }
}
