//! The sockets of plugins and of daemons: which are dead, who holds them, and how dead ones are removed.

pub(super) mod dead;
pub(super) mod holders;
pub(super) mod stale;
