//! Applies the results of socket probes, and the end of processes, to the status of plugins. Pure.

use super::{State, is_unknown};
use crate::layout::{Process, SocketState};
use crate::plugin::{PluginName, Reason, ReasonCode, Status};
use crate::registry::effect::{Now, RegistryEffect};
use crate::registry::entries::Entry;

impl State {
    pub(super) fn probed(&mut self, now: Now, name: &PluginName, socket: SocketState, out: &mut Vec<RegistryEffect>) {
        let was_unjudged = self.take_unjudged(name);
        self.entries.change(name, |Entry { plugin, liveness }| {
            liveness.probing = false;
            liveness.denied = None;
            let was_there = liveness.answered || is_unknown(plugin);
            liveness.no_answer = (socket != SocketState::Alive).then(|| no_answer(&socket, was_there));
        });
        let Some(Entry { plugin, liveness }) = self.entries.get(name).cloned() else {
            return;
        };
        let was_stopped = plugin.status == Status::Stopped && !was_unjudged;
        if liveness.governed {
            if was_stopped {
                let left = liveness.node_left.clone().unwrap_or_else(|| plugin.reason.clone());
                let reason = if socket == SocketState::Alive {
                    Reason::new(left.code, format!("{left}; its socket still answers"))
                } else {
                    left
                };
                self.change_reason(now, name, reason, out);
            }
        } else {
            match &socket {
                SocketState::Alive => {
                    self.entries.change(name, |Entry { liveness, .. }| {
                        liveness.grace = None;
                        liveness.answered = true;
                        liveness.silent = false;
                        liveness.node_left = None;
                    });
                    let reason = Reason::new(ReasonCode::SocketAnswers, "its socket answers");
                    self.run(now, name, reason, out);
                }
                SocketState::Denied(why) => {
                    self.entries.change(name, |Entry { liveness, .. }| liveness.denied = Some(why.clone()));
                    // Soon after a start or a registration, its node may still connect and decide.
                    if !was_unjudged && liveness.grace.is_none() && !self.is_refusing(&plugin) {
                        self.mark_status_unknown(now, name, why, out);
                    }
                }
                _ if was_stopped && liveness.silent => {
                    self.change_reason(now, name, self.no_sign_of_life(liveness.no_answer.as_ref()), out)
                }
                SocketState::Unclear(_) if !was_unjudged => {}
                _ if liveness.grace.is_some() || was_stopped && !is_unknown(&plugin) => {}
                _ if self.is_refusing(&plugin) => {}
                _ => {
                    let reason = match (liveness.node_left, liveness.no_answer) {
                        (Some(left), Some(no_answer)) => Reason::new(left.code, format!("{left}, and {no_answer}")),
                        (left, no_answer) => no_answer.or(left).unwrap_or_else(|| self::no_answer(&socket, true)),
                    };
                    self.stop(now, name, reason, out);
                }
            }
        }
        if was_stopped && matches!(socket, SocketState::Refuses(_)) {
            // The socket may have answered when the plugin was stopped, and have died since.
            self.clean_up(name, out);
        }
    }

    pub(super) fn exited(&mut self, now: Now, name: &PluginName, process: Process, out: &mut Vec<RegistryEffect>) {
        if self.entries.get(name).is_none_or(|entry| entry.liveness.process != Some(process)) {
            return;
        }
        // Only a hint, because a script may have registered the plugin.
        let stopped = self.entries.change(name, |Entry { plugin, liveness }| {
            liveness.next_probe = now.instant;
            plugin.status == Status::Stopped
        });
        if stopped == Some(true) {
            // The process was running when the plugin was stopped, so its run files were kept.
            self.clean_up(name, out);
        }
        self.probe_if_due(now, name, out);
    }
}

/// Returns why a probe found no socket that answers. `was_there` is whether a socket existed
/// before.
fn no_answer(socket: &SocketState, was_there: bool) -> Reason {
    let (code, detail) = match socket {
        SocketState::Alive => (ReasonCode::SocketAnswers, "its socket answers"),
        SocketState::Refuses(_) => (ReasonCode::SocketRefuses, "its socket refuses connections"),
        SocketState::Absent if was_there => (ReasonCode::SocketGone, "its socket is gone"),
        SocketState::Absent => (ReasonCode::SocketMissing, "it has no `sockets/api.sock`"),
        SocketState::NotASocket => (ReasonCode::NotASocket, "its `sockets/api.sock` is not a socket"),
        SocketState::Denied(why) | SocketState::Unclear(why) => {
            return Reason::new(ReasonCode::SocketUnchecked, format!("its socket could not be checked: {why}"));
        }
    };
    Reason::new(code, detail)
}
