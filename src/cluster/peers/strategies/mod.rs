//! The strategies that find nodes. Each returns the names of the nodes to connect to in the answers
//! of one source. [`super::finder`] asks all sources, and [`super::redial`] decides when to dial
//! each node.
//!
//! ```text
//! epmd     names in this host's EPMD that match a pattern,
//!          or that plugins registered                        polled
//! peers    configured nodes
//! dns      the addresses of a name, each of a node `hecate`  polled
//! learned  the nodes of peers' global name servers, and the
//!          nodes that peers are connected to                 reported, and asked by `introduce`
//! ```
//!
//! Pure. The strategies are independent of each other. [`beam::connect::dial`] checks whether a
//! name may be dialled at all.

/// The default short name of a hecate-daemon's node.
pub const NODE: &str = "hecate";

pub mod dns;
pub mod epmd;
pub mod learned;
pub mod peers;
