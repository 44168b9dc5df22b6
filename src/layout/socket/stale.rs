//! When the `api.sock` of a dead plugin may be removed. Pure: it is told what a look at the socket showed, and the time.
//!
//! The recipe: it is a socket; it refuses twice, at least [`limits::STALE_SOCKET_GAP`] apart, and is the same inode both
//! times, for between `bind` and `listen` a living one refuses too; then it is renamed aside, so that nobody can find it
//! any more, and looked at once more. Only if that one too is the same and refuses is it unlinked; else it is put back,
//! never over another. `EAGAIN`, a full backlog, is a sign of life.

use std::time::Instant;

use crate::files::Inode;
use crate::limits;

/// What trying to connect to a socket showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketState {
    /// Somebody listens.
    Alive,
    /// It is a socket, and nobody listens.
    Refuses(Inode),
    /// Nothing is there.
    Absent,
    /// What is there is no socket.
    NotASocket,
    /// We may not connect to it, with the reason: its plugin may be running.
    Denied(String),
    /// It could not be found out, with the reason.
    Unclear(String),
}

/// What moves the removal on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layout) enum RemovalInput {
    /// Time has passed. The first one starts it.
    Tick,
    /// Answer to [`RemovalEffect::Probe`].
    Probed(SocketState),
    /// Answer to [`RemovalEffect::SetAside`]: what the socket set aside showed.
    ProbedAside(SocketState),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layout) enum RemovalEffect {
    /// Probe `api.sock`.
    Probe,
    /// Rename it aside and look at it there.
    SetAside,
    /// Put back what was set aside, unless another has taken its place.
    PutBack,
    /// Unlink what was set aside.
    Unlink,
    /// It is decided.
    Done(Verdict),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was dead and is removed.
    Removed,
    /// Somebody listens, or another socket has taken its place: it stays.
    Alive,
    /// There was nothing.
    Absent,
    /// There is something that is no socket: it stays.
    NotASocket,
    /// It could not be found out: it stays.
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
    Looking { refused: Option<(Inode, Instant)> },
    Waiting { refused: (Inode, Instant) },
    Aside { inode: Inode },
    Done,
}

impl Removal {
    pub(in crate::layout) fn new() -> Self {
        Self { phase: Phase::New, probes: 0 }
    }

    /// When the next [`RemovalInput::Tick`] is due.
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
            (Phase::Looking { refused }, RemovalInput::Probed(probe)) => self.probed(now, refused, probe, out),
            (Phase::Aside { inode }, RemovalInput::ProbedAside(probe)) => {
                if probe == SocketState::Refuses(inode) {
                    out.push(RemovalEffect::Unlink);
                    self.done(Verdict::Removed, out);
                } else {
                    out.push(RemovalEffect::PutBack);
                    self.end(probe, out);
                }
            }
            // A tick too early, while an answer is awaited, or after the end.
            _ => {}
        }
    }

    fn probe(&mut self, refused: Option<(Inode, Instant)>, out: &mut Vec<RemovalEffect>) {
        self.probes += 1;
        self.phase = Phase::Looking { refused };
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
            // The first refusal of this one, whatever was there before.
            _ => self.phase = Phase::Waiting { refused: (inode, now) },
        }
    }

    /// Ends with the socket where it was.
    fn end(&mut self, probe: SocketState, out: &mut Vec<RemovalEffect>) {
        let verdict = match probe {
            // Refusing, but not the one that was to be removed: another daemon is on its way up.
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

        fn say(&mut self, input: RemovalInput) -> Vec<RemovalEffect> {
            let mut out = Vec::new();
            self.removal.handle(self.now, input, &mut out);
            out
        }

        /// Lets the time pass that the machine asks for.
        fn wait(&mut self) -> Vec<RemovalEffect> {
            self.now = self.removal.next_deadline().expect("it waits");
            self.say(RemovalInput::Tick)
        }

        fn refused_twice() -> Self {
            let mut script = Self::new();
            assert_eq!(script.say(RemovalInput::Tick), [RemovalEffect::Probe]);
            assert_eq!(script.say(RemovalInput::Probed(FIRST)), []);
            assert_eq!(script.wait(), [RemovalEffect::Probe]);
            assert_eq!(script.say(RemovalInput::Probed(FIRST)), [RemovalEffect::SetAside]);
            script
        }
    }

    #[test]
    fn two_refusals_and_one_aside_remove_it() {
        let mut script = Script::refused_twice();
        let end = script.say(RemovalInput::ProbedAside(FIRST));
        assert_eq!(end, [RemovalEffect::Unlink, RemovalEffect::Done(Verdict::Removed)]);
        assert_eq!(script.removal.next_deadline(), None);
        assert_eq!(script.say(RemovalInput::Tick), []);
    }

    #[test]
    fn the_second_look_comes_a_second_later_and_not_before() {
        let mut script = Script::new();
        script.say(RemovalInput::Tick);
        script.say(RemovalInput::Probed(FIRST));
        let start = script.now;
        assert_eq!(script.removal.next_deadline(), Some(start + limits::STALE_SOCKET_GAP));
        script.now += limits::STALE_SOCKET_GAP - std::time::Duration::from_nanos(1);
        assert_eq!(script.say(RemovalInput::Tick), []);
        assert_eq!(script.wait(), [RemovalEffect::Probe]);
    }

    #[test]
    fn what_does_not_refuse_stays_at_either_look() {
        let table = [
            (SocketState::Alive, Verdict::Alive),
            (SocketState::Absent, Verdict::Absent),
            (SocketState::NotASocket, Verdict::NotASocket),
            (SocketState::Denied("why".into()), Verdict::Unclear("why".into())),
            (SocketState::Unclear("why".into()), Verdict::Unclear("why".into())),
        ];
        for (probe, verdict) in table {
            let mut script = Script::new();
            script.say(RemovalInput::Tick);
            assert_eq!(script.say(RemovalInput::Probed(probe.clone())), [RemovalEffect::Done(verdict.clone())]);

            let mut script = Script::new();
            script.say(RemovalInput::Tick);
            script.say(RemovalInput::Probed(FIRST));
            script.wait();
            assert_eq!(script.say(RemovalInput::Probed(probe.clone())), [RemovalEffect::Done(verdict.clone())]);

            let mut script = Script::refused_twice();
            assert_eq!(
                script.say(RemovalInput::ProbedAside(probe)),
                [RemovalEffect::PutBack, RemovalEffect::Done(verdict)]
            );
        }
    }

    #[test]
    fn another_inode_begins_anew() {
        let mut script = Script::new();
        script.say(RemovalInput::Tick);
        script.say(RemovalInput::Probed(FIRST));
        script.wait();
        assert_eq!(script.say(RemovalInput::Probed(SECOND)), []);
        assert_eq!(script.removal.next_deadline(), Some(script.now + limits::STALE_SOCKET_GAP));
        assert_eq!(script.wait(), [RemovalEffect::Probe]);
        assert_eq!(script.say(RemovalInput::Probed(SECOND)), [RemovalEffect::SetAside]);
    }

    #[test]
    fn another_one_set_aside_is_put_back() {
        let mut script = Script::refused_twice();
        let end = script.say(RemovalInput::ProbedAside(SECOND));
        assert_eq!(end, [RemovalEffect::PutBack, RemovalEffect::Done(Verdict::Alive)]);
    }

    #[test]
    fn a_socket_that_is_replaced_for_ever_is_left() {
        let mut script = Script::new();
        script.say(RemovalInput::Tick);
        for number in 1..limits::STALE_SOCKET_PROBES {
            let inode = Inode { device: 1, number: number.into() };
            assert_eq!(script.say(RemovalInput::Probed(SocketState::Refuses(inode))), []);
            assert_eq!(script.wait(), [RemovalEffect::Probe]);
        }
        let inode = Inode { device: 1, number: 99 };
        assert_eq!(
            script.say(RemovalInput::Probed(SocketState::Refuses(inode))),
            [RemovalEffect::Done(Verdict::Alive)]
        );
    }
}
