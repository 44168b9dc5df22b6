//! Commands about the daemon itself: its state and its configuration.

pub(super) mod check_config;
pub(super) mod healthcheck;
pub(super) mod status;
