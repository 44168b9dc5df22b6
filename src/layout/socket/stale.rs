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
pub enum Look {
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
pub(in crate::layout) enum Input {
    /// Time has passed. The first one starts it.
    Tick,
    /// Answer to [`Effect::Look`].
    Looked(Look),
    /// Answer to [`Effect::SetAside`]: what the socket set aside showed.
    LookedAside(Look),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layout) enum Effect {
    /// Look at `api.sock`.
    Look,
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
    looks: u32,
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
        Self { phase: Phase::New, looks: 0 }
    }

    /// When the next [`Input::Tick`] is due.
    pub(in crate::layout) fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { refused: (_, since) } => Some(since + limits::STALE_SOCKET_GAP),
            _ => None,
        }
    }

    pub(in crate::layout) fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Effect>) {
        match (self.phase, input) {
            (Phase::New, Input::Tick) => self.look(None, out),
            (Phase::Waiting { refused }, Input::Tick) if now >= refused.1 + limits::STALE_SOCKET_GAP => {
                self.look(Some(refused), out);
            }
            (Phase::Looking { refused }, Input::Looked(look)) => self.looked(now, refused, look, out),
            (Phase::Aside { inode }, Input::LookedAside(look)) => {
                if look == Look::Refuses(inode) {
                    out.push(Effect::Unlink);
                    self.done(Verdict::Removed, out);
                } else {
                    out.push(Effect::PutBack);
                    self.end(look, out);
                }
            }
            // A tick too early, while an answer is awaited, or after the end.
            _ => {}
        }
    }

    fn look(&mut self, refused: Option<(Inode, Instant)>, out: &mut Vec<Effect>) {
        self.looks += 1;
        self.phase = Phase::Looking { refused };
        out.push(Effect::Look);
    }

    fn looked(&mut self, now: Instant, before: Option<(Inode, Instant)>, look: Look, out: &mut Vec<Effect>) {
        let Look::Refuses(inode) = look else {
            return self.end(look, out);
        };
        match before {
            Some((first, _)) if first == inode => {
                self.phase = Phase::Aside { inode };
                out.push(Effect::SetAside);
            }
            _ if self.looks >= limits::STALE_SOCKET_LOOKS => self.end(Look::Alive, out),
            // The first refusal of this one, whatever was there before.
            _ => self.phase = Phase::Waiting { refused: (inode, now) },
        }
    }

    /// Ends with the socket where it was.
    fn end(&mut self, look: Look, out: &mut Vec<Effect>) {
        let verdict = match look {
            // Refusing, but not the one that was to be removed: another daemon is on its way up.
            Look::Alive | Look::Refuses(_) => Verdict::Alive,
            Look::Absent => Verdict::Absent,
            Look::NotASocket => Verdict::NotASocket,
            Look::Denied(why) | Look::Unclear(why) => Verdict::Unclear(why),
        };
        self.done(verdict, out);
    }

    fn done(&mut self, verdict: Verdict, out: &mut Vec<Effect>) {
        self.phase = Phase::Done;
        out.push(Effect::Done(verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Look = Look::Refuses(Inode { device: 1, number: 1 });
    const SECOND: Look = Look::Refuses(Inode { device: 1, number: 2 });

    struct Script {
        removal: Removal,
        now: Instant,
    }

    impl Script {
        fn new() -> Self {
            Self { removal: Removal::new(), now: Instant::now() }
        }

        fn say(&mut self, input: Input) -> Vec<Effect> {
            let mut out = Vec::new();
            self.removal.handle(self.now, input, &mut out);
            out
        }

        /// Lets the time pass that the machine asks for.
        fn wait(&mut self) -> Vec<Effect> {
            self.now = self.removal.next_deadline().expect("it waits");
            self.say(Input::Tick)
        }

        fn refused_twice() -> Self {
            let mut script = Self::new();
            assert_eq!(script.say(Input::Tick), [Effect::Look]);
            assert_eq!(script.say(Input::Looked(FIRST)), []);
            assert_eq!(script.wait(), [Effect::Look]);
            assert_eq!(script.say(Input::Looked(FIRST)), [Effect::SetAside]);
            script
        }
    }

    #[test]
    fn two_refusals_and_one_aside_remove_it() {
        let mut script = Script::refused_twice();
        let end = script.say(Input::LookedAside(FIRST));
        assert_eq!(end, [Effect::Unlink, Effect::Done(Verdict::Removed)]);
        assert_eq!(script.removal.next_deadline(), None);
        assert_eq!(script.say(Input::Tick), []);
    }

    #[test]
    fn the_second_look_comes_a_second_later_and_not_before() {
        let mut script = Script::new();
        script.say(Input::Tick);
        script.say(Input::Looked(FIRST));
        let start = script.now;
        assert_eq!(script.removal.next_deadline(), Some(start + limits::STALE_SOCKET_GAP));
        script.now += limits::STALE_SOCKET_GAP - std::time::Duration::from_nanos(1);
        assert_eq!(script.say(Input::Tick), []);
        assert_eq!(script.wait(), [Effect::Look]);
    }

    #[test]
    fn what_does_not_refuse_stays_at_either_look() {
        let table = [
            (Look::Alive, Verdict::Alive),
            (Look::Absent, Verdict::Absent),
            (Look::NotASocket, Verdict::NotASocket),
            (Look::Denied("why".into()), Verdict::Unclear("why".into())),
            (Look::Unclear("why".into()), Verdict::Unclear("why".into())),
        ];
        for (look, verdict) in table {
            let mut script = Script::new();
            script.say(Input::Tick);
            assert_eq!(script.say(Input::Looked(look.clone())), [Effect::Done(verdict.clone())]);

            let mut script = Script::new();
            script.say(Input::Tick);
            script.say(Input::Looked(FIRST));
            script.wait();
            assert_eq!(script.say(Input::Looked(look.clone())), [Effect::Done(verdict.clone())]);

            let mut script = Script::refused_twice();
            assert_eq!(script.say(Input::LookedAside(look)), [Effect::PutBack, Effect::Done(verdict)]);
        }
    }

    #[test]
    fn another_inode_begins_anew() {
        let mut script = Script::new();
        script.say(Input::Tick);
        script.say(Input::Looked(FIRST));
        script.wait();
        assert_eq!(script.say(Input::Looked(SECOND)), []);
        assert_eq!(script.removal.next_deadline(), Some(script.now + limits::STALE_SOCKET_GAP));
        assert_eq!(script.wait(), [Effect::Look]);
        assert_eq!(script.say(Input::Looked(SECOND)), [Effect::SetAside]);
    }

    #[test]
    fn another_one_set_aside_is_put_back() {
        let mut script = Script::refused_twice();
        let end = script.say(Input::LookedAside(SECOND));
        assert_eq!(end, [Effect::PutBack, Effect::Done(Verdict::Alive)]);
    }

    #[test]
    fn a_socket_that_is_replaced_for_ever_is_left() {
        let mut script = Script::new();
        script.say(Input::Tick);
        for number in 1..limits::STALE_SOCKET_LOOKS {
            let inode = Inode { device: 1, number: number.into() };
            assert_eq!(script.say(Input::Looked(Look::Refuses(inode))), []);
            assert_eq!(script.wait(), [Effect::Look]);
        }
        let inode = Inode { device: 1, number: 99 };
        assert_eq!(script.say(Input::Looked(Look::Refuses(inode))), [Effect::Done(Verdict::Alive)]);
    }
}
