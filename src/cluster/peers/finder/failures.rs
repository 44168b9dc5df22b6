//! Records and logs failed attempts to connect.

use std::sync::Arc;
use std::time::SystemTime;

use beam::connect::dial::{DialCode, DialError};
use beam::limited;
use beam::name::NodeName;
use beam::node::handle::Stopped;
use tracing::debug;

use crate::cluster::view::DialFailure;
use crate::log::limit;

/// Returns the failure of an attempt, if it failed. If both nodes dial at once, the peer's attempt
/// continues, and ours has not failed.
pub(super) fn failure(result: &Result<Result<(), Arc<DialError>>, Stopped>) -> Option<DialFailure> {
    let Ok(Err(error)) = result else { return None };
    (error.code() != DialCode::Simultaneous).then(|| DialFailure {
        code: error.code(),
        detail: error.to_string(),
        at: SystemTime::now(),
    })
}

/// Logs why an attempt failed. `is_repeated` means that the attempt before failed too: of several
/// failures in a row, only the first has a line at `info`.
pub(super) fn log(name: &NodeName, error: &DialError, is_repeated: bool) {
    let code = error.code().name();
    match error.code() {
        // Nodes of other users are not an error.
        DialCode::ForeignOwner => debug!(peer = %name, code, "not connected: {error}"),
        DialCode::ShortnameLongnameMix => {
            limited!(limit::DIALS, warn, peer = %name, code, "not connected: {error}; change the kind of name of that node, or of this daemon with HECATE_HOSTNAME");
        }
        refusal if refusal.is_refused_by_node() => {
            limited!(limit::DIALS, warn, peer = %name, code, "not connected: {error}; retrying after 5 min, or when the node registers with EPMD again");
        }
        // An attack or, once in millions of handshakes, a coincidence, after which the next attempt
        // succeeds.
        DialCode::ChallengeReflected => {
            limited!(limit::DIALS, warn, peer = %name, code, "not connected: {error}; that program may be trying to connect without the cookie");
        }
        // The peer's own attempt continues instead.
        DialCode::Simultaneous => debug!(peer = %name, code, "not connected: {error}"),
        _ if is_repeated => debug!(peer = %name, code, "not connected: {error}"),
        _ => {
            limited!(limit::DIALS, info, peer = %name, code, "not connected: {error}; retrying with growing pauses");
        }
    }
}

#[cfg(test)]
mod tests {
    use beam::dist::HandshakeError;

    use super::*;

    #[test]
    fn a_simultaneous_attempt_has_not_failed() {
        let failed =
            |error: HandshakeError| failure(&Ok(Err(Arc::new(DialError::Setup(error.into()))))).map(|f| f.code);
        assert_eq!(failed(HandshakeError::Simultaneous), None);
        assert_eq!(failed(HandshakeError::NotAllowed), Some(DialCode::NotAllowed));
    }
}
