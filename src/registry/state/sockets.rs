//! Applies what looks at sockets find, and the end of processes, to the status of plugins. Pure.

use super::{State, is_unknown};
use crate::layout::{Process, SocketState};
use crate::plugin::{PluginName, Reason, ReasonCode, Status};
use crate::registry::effect::{Now, RegistryEffect};
use crate::registry::entries::Entry;

impl State {
    pub(super) fn probed(&mut self, now: Now, name: &PluginName, socket: SocketState, out: &mut Vec<RegistryEffect>) {
        let was_open = self.judged(name);
        self.entries.change(name, |Entry { plugin, liveness }| {
            liveness.probing = false;
            liveness.denied = None;
            let was_there = liveness.answered || is_unknown(plugin);
            liveness.found = (socket != SocketState::Alive).then(|| without_answer(&socket, was_there));
        });
        let Some(Entry { plugin, liveness }) = self.entries.get(name).cloned() else {
            return;
        };
        let was_stopped = plugin.status == Status::Stopped && !was_open;
        if liveness.governed {
            if was_stopped {
                let left = liveness.left.clone().unwrap_or_else(|| plugin.reason.clone());
                let reason = if socket == SocketState::Alive {
                    Reason::new(left.code, format!("{left}; its socket still answers"))
                } else {
                    left
                };
                self.reword(now, name, reason, out);
            }
        } else {
            match &socket {
                SocketState::Alive => {
                    self.entries.change(name, |Entry { liveness, .. }| {
                        liveness.grace = None;
                        liveness.answered = true;
                        liveness.silent = false;
                        liveness.left = None;
                    });
                    let reason = Reason::new(ReasonCode::SocketAnswers, "its socket answers");
                    self.run(now, name, reason, out);
                }
                SocketState::Denied(why) => {
                    self.entries.change(name, |Entry { liveness, .. }| liveness.denied = Some(why.clone()));
                    // Right after a start or a registration, its node may still connect and decide.
                    if !was_open && liveness.grace.is_none() && !self.is_refusing(&plugin) {
                        self.doubt(now, name, why, out);
                    }
                }
                _ if was_stopped && liveness.silent => {
                    self.reword(now, name, self.silence(liveness.found.as_ref()), out)
                }
                SocketState::Unclear(_) if !was_open => {}
                _ if liveness.grace.is_some() || was_stopped && !is_unknown(&plugin) => {}
                _ if self.is_refusing(&plugin) => {}
                _ => {
                    let reason = match (liveness.left, liveness.found) {
                        (Some(left), Some(found)) => Reason::new(left.code, format!("{left}, and {found}")),
                        (left, found) => found.or(left).unwrap_or_else(|| without_answer(&socket, true)),
                    };
                    self.stop(now, name, reason, out);
                }
            }
        }
        if was_stopped && matches!(socket, SocketState::Refuses(_)) {
            // It may have answered when the plugin stopped, and died since.
            self.clean_up(name, out);
        }
    }

    pub(super) fn exited(&mut self, now: Now, name: &PluginName, process: Process, out: &mut Vec<RegistryEffect>) {
        if self.entries.get(name).is_none_or(|entry| entry.liveness.process != Some(process)) {
            return;
        }
        // A hint, no proof: a script may have registered for a plugin.
        let stopped = self.entries.change(name, |Entry { plugin, liveness }| {
            liveness.next_probe = now.instant;
            plugin.status == Status::Stopped
        });
        if stopped == Some(true) {
            // It still ran when the plugin stopped, and its run files stayed.
            self.clean_up(name, out);
        }
        self.look_if_due(now, name, out);
    }
}

/// Describes what a look found instead of a socket that answers. `was_there` is whether there has
/// been a socket.
fn without_answer(socket: &SocketState, was_there: bool) -> Reason {
    let (code, detail) = match socket {
        SocketState::Alive => (ReasonCode::SocketAnswers, "its socket answers"),
        SocketState::Refuses(_) => (ReasonCode::SocketRefuses, "its socket refuses connections"),
        SocketState::Absent if was_there => (ReasonCode::SocketGone, "its socket is gone"),
        SocketState::Absent => (ReasonCode::SocketMissing, "there is no socket at its path"),
        SocketState::NotASocket => (ReasonCode::NotASocket, "what lies at the path of its socket is no socket"),
        SocketState::Denied(why) | SocketState::Unclear(why) => {
            return Reason::new(ReasonCode::SocketUnchecked, format!("its socket could not be looked at: {why}"));
        }
    };
    Reason::new(code, detail)
}
