//! Commands about the plugins of this host.

pub(super) mod deregister;
pub(super) mod events;
pub(super) mod list;
pub(super) mod paths;
pub(super) mod purge;
pub(super) mod register;
pub(super) mod show;
