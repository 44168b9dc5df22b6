//! What we tell systemd, or whoever else started us with `NOTIFY_SOCKET`: sd_notify(3), by the crate `sd-notify`.
//!
//! Without that variable nothing is told to nobody. Knows nothing of the daemon: the texts come from there, as does what must
//! answer for the watchdog to be fed. (The crate does not speak to sockets in the abstract namespace, those whose
//! name begins with `@`; systemd's own is a path.)

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

/// Who is told.
#[derive(Debug, Default)]
pub struct Manager {
    status: String,
}

impl Manager {
    /// We serve.
    pub fn ready(&self) {
        tell(&NotifyState::Ready);
    }

    /// We are on the way out.
    pub fn stopping(&self) {
        tell(&NotifyState::Stopping);
    }

    /// What we do, in one line for people; told where it differs from what was told last.
    pub fn status(&mut self, status: String) {
        if self.status != status {
            // A line break would end the field, and begin another.
            tell(&NotifyState::Status(&status.replace(char::is_control, " ")));
            self.status = status;
        }
    }
}

/// Feeds the watchdog at half of its time, if there is one, each time after `answers` has returned: whatever is stuck in there keeps
/// it hungry.
pub async fn watch(answers: impl AsyncFn()) -> Infallible {
    match sd_notify::watchdog_enabled().filter(|time| !time.is_zero()) {
        Some(time) => feed(time / 2, answers, || tell(&NotifyState::Watchdog)).await,
        None => pending().await,
    }
}

async fn feed(every: Duration, answers: impl AsyncFn(), ping: impl Fn()) -> Infallible {
    let mut times = interval(every);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        answers().await;
        ping();
    }
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        warn!("the service manager can't be told at NOTIFY_SOCKET: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, timeout};

    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn it_is_fed_at_each_time_while_all_answer() {
        let pings = Cell::new(0);
        let fed = feed(EVERY, async || {}, || pings.set(pings.get() + 1));
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
        let fed = feed(EVERY, answers, || pings.set(pings.get() + 1));
        assert!(timeout(EVERY * 100, fed).await.is_err(), "it waits");
        assert_eq!(pings.get(), 2);
    }
}
