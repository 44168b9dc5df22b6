//! Identifies a connection.

/// The number of a connection, which is unique among all connections of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);
