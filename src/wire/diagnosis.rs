//! The JSON of `/api/cluster/peers/{node}/diagnosis`.

use serde::{Deserialize, Serialize};

use super::{StageName, StageOutcome};

/// Why a node is connected or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The diagnosed node.
    pub node: String,
    /// Our node; null while it has no name.
    pub our_node: Option<String>,
    /// Whether the two are connected.
    pub connected: bool,
    /// The code of the first stage that failed; null if none failed.
    pub code: Option<String>,
    /// A summary: what is wrong and what to do.
    pub verdict: String,
    /// The MD5 of our cookie in Base64. Nodes with another hash cannot connect.
    pub cookie_hash: String,
    /// The stages of a connection, in order.
    pub stages: Vec<Stage>,
    /// The answers of the node itself; null without a connection.
    pub peer: Option<OwnView>,
}

/// The result of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The stage.
    pub stage: StageName,
    /// Its outcome.
    pub outcome: StageOutcome,
    /// What was found.
    pub detail: String,
    /// The stable code of the failure, if it failed.
    pub code: Option<String>,
    /// What to do, if it failed.
    pub advice: Option<String>,
}

/// The answers of a connected node about itself. A field is null if the node did not answer that
/// request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnView {
    /// Its OTP release.
    pub otp_release: Option<String>,
    /// Its `net_ticktime` in seconds.
    pub net_ticktime: Option<u64>,
    /// The round trip of a ping, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// The nodes that it is connected to, including hidden ones. A hecate-daemon omits hidden ones.
    pub nodes: Option<Vec<String>>,
    /// Our scopes of process groups, and whether the node runs them.
    pub scopes: Vec<OwnScope>,
}

/// A scope of process groups on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnScope {
    /// Its name.
    pub name: String,
    /// Whether the node runs this scope.
    pub runs: Option<bool>,
}
