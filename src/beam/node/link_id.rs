//! Identifies a connection.

/// The number of a connection. No other connection of this node ever has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);
