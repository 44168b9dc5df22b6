#![doc = include_str!("ARCHITECTURE.md")]

// In the order in which data flows, from the socket to the cluster, then the leaf modules.
pub mod daemon;
pub mod runtimes;

pub mod cli;
pub mod config;

pub mod api;
pub mod layout;
pub mod registry;
pub mod store;

pub mod cluster;

pub mod escape;
pub mod files;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod plugin;
pub mod systemd;
pub mod timestamp;
pub mod wire;
