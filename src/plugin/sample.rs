//! Sample plugins for unit tests.

use std::time::UNIX_EPOCH;

use super::{Field, Plugin, PluginName, Reason, ReasonCode, Registration, Status};

/// Parses a valid name.
pub fn name(text: &str) -> PluginName {
    PluginName::parse(text).expect("valid")
}

/// Returns a running plugin that registered with only its name.
pub fn plugin(text: &str) -> Plugin {
    Plugin {
        name: name(text),
        version: None,
        description: None,
        node: None,
        node_given: false,
        status: Status::Running,
        since: UNIX_EPOCH,
        reason: Reason::new(ReasonCode::Registered, "it registered"),
        registered_at: UNIX_EPOCH,
        incarnation: 1,
    }
}

/// Returns a registration with only a name.
pub fn registration(text: &str) -> Registration {
    Registration { name: name(text), version: Field::Absent, description: Field::Absent, node: Field::Absent }
}
