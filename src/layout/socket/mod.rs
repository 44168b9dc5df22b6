//! The sockets of plugins: probing them, and removing dead ones. Also the processes that serve a
//! home.

pub(super) mod dead;
pub(super) mod holders;
pub(super) mod stale;
