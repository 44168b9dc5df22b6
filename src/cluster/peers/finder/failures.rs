//! Failed attempts to connect: what is kept of one, and what is logged.

use std::sync::Arc;
use std::time::SystemTime;

use beam::connect::dial::{DialCode, DialError};
use beam::limited;
use beam::name::NodeName;
use beam::node::handle::Stopped;
use tracing::debug;

use crate::cluster::view::DialFailure;
use crate::log::limit;

/// How an attempt failed, if it did. Of two that meet, the peer's goes on: ours was one too many, and no failure.
pub(super) fn failure(result: &Result<Result<(), Arc<DialError>>, Stopped>) -> Option<DialFailure> {
    let Ok(Err(error)) = result else { return None };
    (error.code() != DialCode::Simultaneous).then(|| DialFailure {
        code: error.code(),
        detail: error.to_string(),
        at: SystemTime::now(),
    })
}

/// Logs why an attempt failed. `is_repeated`: the attempt before failed too. Of several failures in
/// a row, only the first is worth a line.
pub(super) fn log(name: &NodeName, error: &DialError, is_repeated: bool) {
    let code = error.code().name();
    match error.code() {
        // Another user's node: nothing is wrong, and nothing is to be done.
        DialCode::ForeignOwner => debug!(peer = %name, code, "not connected: {error}"),
        DialCode::ShortnameLongnameMix => {
            limited!(limit::DIALS, warn, peer = %name, code, "not connected: {error}: give it, or us by HECATE_HOSTNAME, a name of the other kind");
        }
        refusal if refusal.is_refused_by_node() => {
            limited!(limit::DIALS, warn, peer = %name, code, "not connected: {error}; tried again when it is started anew, or in 5 minutes");
        }
        // An attack or, once in millions of handshakes, a coincidence: then the next attempt
        // connects.
        DialCode::ChallengeReflected => {
            limited!(limit::DIALS, warn, peer = %name, code, "not connected: {error}: it may be an attempt to connect without the cookie");
        }
        // Of two attempts that meet, the peer's goes on: in a moment there is a connection.
        DialCode::Simultaneous => debug!(peer = %name, code, "not connected: {error}"),
        _ if is_repeated => debug!(peer = %name, code, "not connected: {error}"),
        _ => {
            limited!(limit::DIALS, info, peer = %name, code, "not connected: {error}; tried again from time to time");
        }
    }
}

#[cfg(test)]
mod tests {
    use beam::dist::HandshakeError;

    use super::*;

    #[test]
    fn of_two_attempts_that_meet_none_has_failed() {
        let failed =
            |error: HandshakeError| failure(&Ok(Err(Arc::new(DialError::Setup(error.into()))))).map(|f| f.code);
        assert_eq!(failed(HandshakeError::Simultaneous), None);
        assert_eq!(failed(HandshakeError::NotAllowed), Some(DialCode::NotAllowed));
    }
}
