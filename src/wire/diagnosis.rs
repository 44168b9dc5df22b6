//! What `/api/cluster/peers/{node}/diagnosis` tells.

use serde::{Deserialize, Serialize};

use super::{StageName, StageOutcome};

/// Why a node is, or isn't, connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The node that was asked for.
    pub node: String,
    /// Ours, if it has a name.
    pub our_node: Option<String>,
    /// Whether the two are connected.
    pub connected: bool,
    /// What is in the way first: the code of the first stage that failed, null if none did.
    pub code: Option<String>,
    /// The whole in a sentence: what is in the way and what to do.
    pub verdict: String,
    /// Base64 of our cookie's MD5: nodes with another one can't connect.
    pub cookie_hash: String,
    /// What was found, in the order in which nodes meet it.
    pub stages: Vec<Stage>,
    /// What the node says of itself, asked over the connection; null where there is none.
    pub peer: Option<OwnView>,
}

/// What was found at one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Which.
    pub stage: StageName,
    /// How it ended.
    pub outcome: StageOutcome,
    /// What was seen.
    pub detail: String,
    /// Where it failed, the stable code.
    pub code: Option<String>,
    /// Where it failed, what to do.
    pub advice: Option<String>,
}

/// What a connected node says of itself; null is what it could not be asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnView {
    /// Its release of OTP.
    pub otp_release: Option<String>,
    /// Its `net_ticktime` in seconds.
    pub net_ticktime: Option<u64>,
    /// How long a ping of it took, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// The nodes that it is connected to, hidden ones too; a hecate-daemon tells only those that don't hide.
    pub nodes: Option<Vec<String>>,
    /// Our scopes of process groups.
    pub scopes: Vec<OwnScope>,
}

/// A scope of process groups, as a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnScope {
    /// Its name.
    pub name: String,
    /// Whether one of that name runs there.
    pub runs: Option<bool>,
}
