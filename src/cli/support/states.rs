//! The colour of each state in the API.

use crate::cli::support::page::{Cell, State};
use crate::wire::{EpmdState, HealthStatus, HostState, NodeState, PeerState, PluginStatus};

impl State for PluginStatus {
    fn colour(&self) -> fn(&str) -> Cell {
        match self {
            Self::Running => Cell::good,
            Self::Stopped => Cell::bad,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for NodeState {
    fn colour(&self) -> fn(&str) -> Cell {
        match self {
            Self::Connected => Cell::good,
            Self::NotConnected | Self::Unknown => Cell::warning,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for HealthStatus {
    fn colour(&self) -> fn(&str) -> Cell {
        match self {
            Self::Healthy => Cell::good,
            Self::Starting => Cell::warning,
            Self::Unhealthy => Cell::bad,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for PeerState {
    fn colour(&self) -> fn(&str) -> Cell {
        match self {
            Self::Connected => Cell::good,
            Self::Connecting | Self::Disconnected => Cell::warning,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for EpmdState {
    fn colour(&self) -> fn(&str) -> Cell {
        match self {
            Self::Registered | Self::Served => Cell::good,
            Self::Unknown | Self::Unavailable => Cell::warning,
            Self::NameTaken => Cell::bad,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for HostState {
    fn colour(&self) -> fn(&str) -> Cell {
        match self {
            Self::Connected => Cell::good,
            Self::Lost => Cell::warning,
            Self::Other(_) => Cell::neutral,
        }
    }
}
