//! Commands about the daemon's node, its peers and the plugins of other hosts.

pub(super) mod diagnose;
pub(super) mod independent;
pub(super) mod peers;
pub(super) mod show;
pub(super) mod trace;
