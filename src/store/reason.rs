//! Finds the codes of reasons that earlier releases stored as sentences only (schema versions 1
//! and 2).
//!
//! This is the only place that derives a code from text.

use crate::plugin::{Reason, ReasonCode};

/// The first words of the sentences of those releases, and their codes. A `*` is the name of a
/// node.
const SENTENCES: [(&str, ReasonCode); 14] = [
    ("status unknown: ", ReasonCode::StatusUnknown),
    ("it registered", ReasonCode::Registered),
    ("its node * is connected", ReasonCode::NodeConnected),
    ("its node * left the cluster: ", ReasonCode::NodeDown),
    ("its node * is running, but refuses to connect", ReasonCode::NodeRefused),
    ("its node * has ended", ReasonCode::NodeEnded),
    ("its socket answers", ReasonCode::SocketAnswers),
    ("its socket refuses connections", ReasonCode::SocketRefuses),
    ("its socket is gone", ReasonCode::SocketGone),
    ("there is no socket at its path", ReasonCode::SocketMissing),
    ("what lies at the path of its socket is no socket", ReasonCode::NotASocket),
    ("its socket could not be looked at", ReasonCode::SocketUnchecked),
    ("no sign of life within ", ReasonCode::NoSignOfLife),
    ("its data was removed", ReasonCode::DataPurged),
];

/// Returns the reason in a row, with the stored code or else the one for its sentence.
pub(super) fn stored(code: Option<&str>, detail: String) -> Reason {
    Reason { code: code.map_or_else(|| of_sentence(&detail), ReasonCode::parse), detail }
}

fn of_sentence(detail: &str) -> ReasonCode {
    let is = |begin: &str| match begin.split_once('*') {
        // The name of a node has no spaces.
        Some((before, after)) => detail
            .strip_prefix(before)
            .and_then(|rest| rest.find(' ').and_then(|end| rest.get(end..)))
            .is_some_and(|rest| rest.starts_with(after)),
        None => detail.starts_with(begin),
    };
    SENTENCES.iter().find(|(begin, _)| is(begin)).map_or(ReasonCode::Unknown, |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_without_a_code_gets_one() {
        let table = [
            ("status unknown: permission denied", "status_unknown"),
            ("it registered", "registered"),
            ("its node a_bd@h is connected", "node_connected"),
            ("its node a_bd@h left the cluster: connection closed by the peer", "node_down"),
            ("its node a_bd@h is running, but refuses to connect (not_allowed)", "node_refused"),
            ("its node a_bd@h has ended, and its socket is gone", "node_ended"),
            ("its socket answers", "socket_answers"),
            ("its socket refuses connections", "socket_refuses"),
            ("its socket is gone", "socket_gone"),
            ("there is no socket at its path", "socket_missing"),
            ("what lies at the path of its socket is no socket", "not_a_socket"),
            ("its socket could not be looked at in time", "socket_unchecked"),
            ("no sign of life within 1m of its registration (its socket is gone)", "no_sign_of_life"),
            ("its data was removed", "data_purged"),
            ("its node ", "unknown"),
            ("its node a_bd@h", "unknown"),
            ("as it was", "unknown"),
            ("", "unknown"),
        ];
        for (sentence, code) in table {
            assert_eq!(stored(None, sentence.to_owned()).code.name(), code, "{sentence:?}");
        }
        assert_eq!(stored(Some("node_down"), "it registered".to_owned()).code, ReasonCode::NodeDown);
    }
}
