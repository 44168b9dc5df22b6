//! Sample plugins for unit tests, which change the fields that matter to them.

use std::time::UNIX_EPOCH;

use super::{Field, Plugin, PluginName, Reason, ReasonCode, Registration, Status};

/// Parses a valid name.
pub fn name(text: &str) -> PluginName {
    PluginName::parse(text).expect("valid")
}

/// Returns a plugin that runs since it registered, and gave nothing but its name.
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

/// Returns a request that gives nothing but the name.
pub fn registration(text: &str) -> Registration {
    Registration { name: name(text), version: Field::Absent, description: Field::Absent, node: Field::Absent }
}
