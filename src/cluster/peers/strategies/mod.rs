//! The ways in which nodes are found. Each knows how to ask and what of the answer is the name of a node that we look for;
//! [`super::finder`] does the asking, all of them at once and for as long as we run, and [`super::redial`] decides when
//! which node is dialled.
//!
//! ```text
//! epmd     the names in this host's EPMD that look like ours,
//!          or that plugins registered                             asked again and again
//! peers    the nodes that were configured
//! dns      the addresses of a name, each of a node `hecate`       asked again and again
//! learned  what peers know, and what they are connected to        told, and asked by `introduce`
//! ```
//!
//! Pure. None knows of another, and none says whether a name may be dialled at all:
//! [`beam::connect::dial`] does.

/// What the node of a hecate-daemon is called, unless it is told otherwise or somebody of its host has that name.
pub const NODE: &str = "hecate";

pub mod dns;
pub mod epmd;
pub mod learned;
pub mod peers;
