//! The colour of each word of the API for how something is.

use crate::cli::support::page::{Cell, State};
use crate::wire::{EpmdState, HealthStatus, HostState, NodeState, PeerState, PluginStatus};

impl State for PluginStatus {
    fn tone(&self) -> fn(&str) -> Cell {
        match self {
            Self::Running => Cell::good,
            Self::Stopped => Cell::bad,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for NodeState {
    fn tone(&self) -> fn(&str) -> Cell {
        match self {
            Self::Connected => Cell::good,
            Self::NotConnected | Self::Unknown => Cell::odd,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for HealthStatus {
    fn tone(&self) -> fn(&str) -> Cell {
        match self {
            Self::Healthy => Cell::good,
            Self::Starting => Cell::odd,
            Self::Unhealthy => Cell::bad,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for PeerState {
    fn tone(&self) -> fn(&str) -> Cell {
        match self {
            Self::Connected => Cell::good,
            Self::Connecting | Self::Disconnected => Cell::odd,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for EpmdState {
    fn tone(&self) -> fn(&str) -> Cell {
        match self {
            Self::Registered | Self::Served => Cell::good,
            Self::Unknown | Self::Unavailable => Cell::odd,
            Self::NameTaken => Cell::bad,
            Self::Other(_) => Cell::neutral,
        }
    }
}

impl State for HostState {
    fn tone(&self) -> fn(&str) -> Cell {
        match self {
            Self::Connected => Cell::good,
            Self::Lost => Cell::odd,
            Self::Other(_) => Cell::neutral,
        }
    }
}
