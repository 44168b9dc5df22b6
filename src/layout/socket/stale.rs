//! Decides when the `api.sock` of a dead plugin may be removed. Pure: it gets the results of probes
//! and the time.
//!
//! A socket is removed in these steps:
//! 1. It refuses two connections, at least [`limits::STALE_SOCKET_GAP`] apart, and is the same
//!    inode both times. One refusal is not enough, because a live socket refuses between `bind` and
//!    `listen`.
//! 2. It is renamed, so that no client finds it, and probed again.
//! 3. If it is the same inode and still refuses, it is unlinked. If not, it is put back, unless
//!    another socket has its path.
//!
//! `EAGAIN` means a full backlog, so the socket is live.

use std::time::Instant;

use crate::files::Inode;
use crate::limits;

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketState {
    /// A process listens on the socket.
    Alive,
    /// The socket refuses connections.
    Refuses(Inode),
    /// There is no file.
    Absent,
    /// The file is not a socket.
    NotASocket,
    /// The daemon has no permission to connect, with the reason. The plugin may be running.
    Denied(String),
    /// The socket could not be probed, with the reason.
    Unclear(String),
}

/// An input of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layout) enum RemovalInput {
    /// Time has passed. The first tick starts the removal.
    Tick,
    /// The result of [`RemovalEffect::Probe`].
    Probed(SocketState),
    /// The result of [`RemovalEffect::SetAside`].
    ProbedAside(SocketState),
}

/// An action for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layout) enum RemovalEffect {
    /// Probe `api.sock`.
    Probe,
    /// Rename `api.sock` and probe it under the new name.
    SetAside,
    /// Put the renamed socket back, unless another one has its path.
    PutBack,
    /// Unlink the renamed socket.
    Unlink,
    /// The removal has ended.
    Done(Verdict),
}

/// The result of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The socket was dead and was removed.
    Removed,
    /// Kept, because a process listens on it, or because it is another socket than before.
    Alive,
    /// There was no file.
    Absent,
    /// Kept, because the file is not a socket.
    NotASocket,
    /// Kept, because it could not be probed.
    Unclear(String),
}

/// The removal of one socket.
#[derive(Debug)]
pub(in crate::layout) struct Removal {
    phase: Phase,
    probes: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    New,
    Probing { refused: Option<(Inode, Instant)> },
    Waiting { refused: (Inode, Instant) },
    Aside { inode: Inode },
    Done,
}

impl Removal {
    pub(in crate::layout) fn new() -> Self {
        Self { phase: Phase::New, probes: 0 }
    }

    /// Returns when the next [`RemovalInput::Tick`] is due.
    pub(in crate::layout) fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { refused: (_, since) } => Some(since + limits::STALE_SOCKET_GAP),
            _ => None,
        }
    }

    pub(in crate::layout) fn handle(&mut self, now: Instant, input: RemovalInput, out: &mut Vec<RemovalEffect>) {
        match (self.phase, input) {
            (Phase::New, RemovalInput::Tick) => self.probe(None, out),
            (Phase::Waiting { refused }, RemovalInput::Tick) if now >= refused.1 + limits::STALE_SOCKET_GAP => {
                self.probe(Some(refused), out);
            }
            (Phase::Probing { refused }, RemovalInput::Probed(probe)) => self.probed(now, refused, probe, out),
            (Phase::Aside { inode }, RemovalInput::ProbedAside(probe)) => {
                if probe == SocketState::Refuses(inode) {
                    out.push(RemovalEffect::Unlink);
                    self.done(Verdict::Removed, out);
                } else {
                    out.push(RemovalEffect::PutBack);
                    self.end(probe, out);
                }
            }
            // The tick is too early, a probe is in progress, or the removal has ended.
            _ => {}
        }
    }

    fn probe(&mut self, refused: Option<(Inode, Instant)>, out: &mut Vec<RemovalEffect>) {
        self.probes += 1;
        self.phase = Phase::Probing { refused };
        out.push(RemovalEffect::Probe);
    }

    fn probed(
        &mut self,
        now: Instant,
        before: Option<(Inode, Instant)>,
        probe: SocketState,
        out: &mut Vec<RemovalEffect>,
    ) {
        let SocketState::Refuses(inode) = probe else {
            return self.end(probe, out);
        };
        match before {
            Some((first, _)) if first == inode => {
                self.phase = Phase::Aside { inode };
                out.push(RemovalEffect::SetAside);
            }
            _ if self.probes >= limits::STALE_SOCKET_PROBES => self.end(SocketState::Alive, out),
            // The first refusal of this socket.
            _ => self.phase = Phase::Waiting { refused: (inode, now) },
        }
    }

    /// Ends the removal and keeps the socket.
    fn end(&mut self, probe: SocketState, out: &mut Vec<RemovalEffect>) {
        let verdict = match probe {
            // A socket that refuses is a new one here, and its plugin is starting.
            SocketState::Alive | SocketState::Refuses(_) => Verdict::Alive,
            SocketState::Absent => Verdict::Absent,
            SocketState::NotASocket => Verdict::NotASocket,
            SocketState::Denied(why) | SocketState::Unclear(why) => Verdict::Unclear(why),
        };
        self.done(verdict, out);
    }

    fn done(&mut self, verdict: Verdict, out: &mut Vec<RemovalEffect>) {
        self.phase = Phase::Done;
        out.push(RemovalEffect::Done(verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: SocketState = SocketState::Refuses(Inode { device: 1, number: 1 });
    const SECOND: SocketState = SocketState::Refuses(Inode { device: 1, number: 2 });

    struct Script {
        removal: Removal,
        now: Instant,
    }

    impl Script {
        fn new() -> Self {
            Self { removal: Removal::new(), now: Instant::now() }
        }

        fn input(&mut self, input: RemovalInput) -> Vec<RemovalEffect> {
            let mut out = Vec::new();
            self.removal.handle(self.now, input, &mut out);
            out
        }

        /// Moves the clock to the next deadline.
        fn wait(&mut self) -> Vec<RemovalEffect> {
            self.now = self.removal.next_deadline().expect("it waits");
            self.input(RemovalInput::Tick)
        }

        fn refused_twice() -> Self {
            let mut script = Self::new();
            assert_eq!(script.input(RemovalInput::Tick), [RemovalEffect::Probe]);
            assert_eq!(script.input(RemovalInput::Probed(FIRST)), []);
            assert_eq!(script.wait(), [RemovalEffect::Probe]);
            assert_eq!(script.input(RemovalInput::Probed(FIRST)), [RemovalEffect::SetAside]);
            script
        }
    }

    #[test]
    fn a_socket_that_refuses_three_times_is_removed() {
        let mut script = Script::refused_twice();
        let end = script.input(RemovalInput::ProbedAside(FIRST));
        assert_eq!(end, [RemovalEffect::Unlink, RemovalEffect::Done(Verdict::Removed)]);
        assert_eq!(script.removal.next_deadline(), None);
        assert_eq!(script.input(RemovalInput::Tick), []);
    }

    #[test]
    fn the_second_probe_follows_after_the_gap() {
        let mut script = Script::new();
        script.input(RemovalInput::Tick);
        script.input(RemovalInput::Probed(FIRST));
        let start = script.now;
        assert_eq!(script.removal.next_deadline(), Some(start + limits::STALE_SOCKET_GAP));
        script.now += limits::STALE_SOCKET_GAP - std::time::Duration::from_nanos(1);
        assert_eq!(script.input(RemovalInput::Tick), []);
        assert_eq!(script.wait(), [RemovalEffect::Probe]);
    }

    #[test]
    fn a_socket_that_does_not_refuse_is_kept_at_any_probe() {
        let table = [
            (SocketState::Alive, Verdict::Alive),
            (SocketState::Absent, Verdict::Absent),
            (SocketState::NotASocket, Verdict::NotASocket),
            (SocketState::Denied("why".into()), Verdict::Unclear("why".into())),
            (SocketState::Unclear("why".into()), Verdict::Unclear("why".into())),
        ];
        for (probe, verdict) in table {
            let mut script = Script::new();
            script.input(RemovalInput::Tick);
            assert_eq!(script.input(RemovalInput::Probed(probe.clone())), [RemovalEffect::Done(verdict.clone())]);

            let mut script = Script::new();
            script.input(RemovalInput::Tick);
            script.input(RemovalInput::Probed(FIRST));
            script.wait();
            assert_eq!(script.input(RemovalInput::Probed(probe.clone())), [RemovalEffect::Done(verdict.clone())]);

            let mut script = Script::refused_twice();
            assert_eq!(
                script.input(RemovalInput::ProbedAside(probe)),
                [RemovalEffect::PutBack, RemovalEffect::Done(verdict)]
            );
        }
    }

    #[test]
    fn another_inode_restarts_the_removal() {
        let mut script = Script::new();
        script.input(RemovalInput::Tick);
        script.input(RemovalInput::Probed(FIRST));
        script.wait();
        assert_eq!(script.input(RemovalInput::Probed(SECOND)), []);
        assert_eq!(script.removal.next_deadline(), Some(script.now + limits::STALE_SOCKET_GAP));
        assert_eq!(script.wait(), [RemovalEffect::Probe]);
        assert_eq!(script.input(RemovalInput::Probed(SECOND)), [RemovalEffect::SetAside]);
    }

    #[test]
    fn another_inode_that_was_set_aside_is_put_back() {
        let mut script = Script::refused_twice();
        let end = script.input(RemovalInput::ProbedAside(SECOND));
        assert_eq!(end, [RemovalEffect::PutBack, RemovalEffect::Done(Verdict::Alive)]);
    }

    #[test]
    fn a_socket_that_is_replaced_again_and_again_is_kept() {
        let mut script = Script::new();
        script.input(RemovalInput::Tick);
        for number in 1..limits::STALE_SOCKET_PROBES {
            let inode = Inode { device: 1, number: number.into() };
            assert_eq!(script.input(RemovalInput::Probed(SocketState::Refuses(inode))), []);
            assert_eq!(script.wait(), [RemovalEffect::Probe]);
        }
        let inode = Inode { device: 1, number: 99 };
        assert_eq!(
            script.input(RemovalInput::Probed(SocketState::Refuses(inode))),
            [RemovalEffect::Done(Verdict::Alive)]
        );
    }
}
