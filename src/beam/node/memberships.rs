//! The groups whose members are followed through
//! [`Handle::members`](super::handle::Handle::members).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::etf::{Atom, Pid};
use crate::node::machine::Machine;
use crate::node::pace::Pace;
use crate::node::services::pg;

struct Followed {
    scope: Atom,
    group: pg::Key,
    members: watch::Sender<Arc<[Pid]>>,
}

/// The followed groups, each once.
#[derive(Default)]
pub(super) struct Memberships {
    followed: Vec<Followed>,
    /// Whether a scope may have changed since the last update.
    is_stale: bool,
    pace: Pace,
}

impl Memberships {
    /// Follows a group, until the receiver is dropped. Returns `None` if there is no such scope.
    pub(super) fn follow(
        &mut self,
        machine: &Machine,
        scope: Atom,
        group: pg::Key,
    ) -> Option<watch::Receiver<Arc<[Pid]>>> {
        self.forget();
        let same = |followed: &&Followed| followed.scope == scope && followed.group == group;
        if let Some(followed) = self.followed.iter().find(same) {
            return Some(followed.members.subscribe());
        }
        let members = machine.members(scope.as_str(), &group)?;
        let (sender, receiver) = watch::channel(members.into());
        self.followed.push(Followed { scope, group, members: sender });
        Some(receiver)
    }

    /// Records that a scope may have changed.
    pub(super) fn touch(&mut self) {
        self.is_stale = !self.followed.is_empty();
    }

    /// Returns when [`Self::show`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.pace.due().filter(|_| self.is_stale)
    }

    /// Updates the receivers if a scope may have changed. The cost grows with the size of the
    /// groups, so large groups are updated less often.
    pub(super) fn show(&mut self, machine: &Machine, now: Instant) {
        if !self.is_stale || !self.pace.is_due(now) {
            return;
        }
        let begun = Instant::now();
        self.forget();
        for Followed { scope, group, members } in &self.followed {
            let now = machine.members(scope.as_str(), group).unwrap_or_default();
            members.send_if_modified(|before| {
                let differs = **before != *now;
                if differs {
                    *before = now.into();
                }
                differs
            });
        }
        self.is_stale = false;
        self.pace.took(Instant::now(), begun.elapsed());
    }

    fn forget(&mut self) {
        self.followed.retain(|followed| !followed.members.is_closed());
    }
}
