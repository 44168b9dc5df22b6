//! The distribution flags that this node sends, requires and acts upon ("Distribution Flags" in
//! OTP's erts documentation).

use erl_dist::DistributionFlags;

/// The set of capabilities that two nodes agree on.
pub type Flags = DistributionFlags;

/// `DFLAG_MANDATORY_25_DIGEST`: one flag for all that OTP 25 made mandatory.
///
/// erl_dist 0.8.0 has it at bit 36; erts has it at bit 26 (`dist.h`).
pub(crate) const MANDATORY_25_DIGEST: Flags = Flags::from_bits_truncate(1 << 26);

/// `DFLAG_ALTACT_SIG` (OTP 28): the node understands control message 37. erl_dist 0.8.0 lacks it.
pub const ALTACT_SIG: Flags = Flags::from_bits_truncate(1 << 37);

/// Returns the flags that [`MANDATORY_25_DIGEST`] replaces (`DFLAG_MANDATORY_25` in erts'
/// `dist.h`).
fn mandatory_25() -> Flags {
    Flags::EXTENDED_REFERENCES
        | Flags::FUN_TAGS
        | Flags::NEW_FUN_TAGS
        | Flags::EXTENDED_PIDS_PORTS
        | Flags::EXPORT_PTR_TAG
        | Flags::BIT_BINARIES
        | Flags::NEW_FLOATS
        | Flags::UTF8_ATOMS
        | Flags::MAP_TAGS
        | Flags::BIG_CREATION
        | Flags::HANDSHAKE_23
}

/// Every frame has a distribution header, and large messages may arrive in fragments, with other
/// messages between them.
pub const HEADERS: Flags = Flags::from_bits_truncate(Flags::DIST_HDR_ATOM_CACHE.bits() | Flags::FRAGMENTS.bits());

/// Returns whether the frames of a connection have distribution headers. All other frames are
/// pass-through, like the frames of `ei` and jinterface.
#[must_use]
pub(crate) fn headers(agreed: Flags) -> bool {
    agreed.contains(Flags::DIST_HDR_ATOM_CACHE)
}

/// Returns the flags that this node sends.
#[must_use]
pub fn ours(hidden: bool) -> Flags {
    let flags = mandatory_25()
        | MANDATORY_25_DIGEST
        | Flags::V4_NC
        | Flags::UNLINK_ID
        | Flags::DIST_MONITOR
        | Flags::DIST_MONITOR_NAME
        | Flags::SMALL_ATOM_TAGS
        | Flags::SEND_SENDER
        | Flags::BIG_SEQTRACE_LABELS
        | Flags::EXIT_PAYLOAD
        | Flags::SPAWN
        | Flags::ALIAS
        | HEADERS
        | ALTACT_SIG;
    if hidden { flags } else { flags | Flags::PUBLISHED }
}

/// Returns all flags that the peer offers: adds those that the digest flag replaces
/// (`expand_mandatory_25_flag/1` in OTP's `dist_util.erl`).
#[must_use]
pub(crate) fn expand(theirs: Flags) -> Flags {
    if theirs.contains(MANDATORY_25_DIGEST) { theirs | mandatory_25() } else { theirs }
}

/// Returns the mandatory flags that `theirs` lacks, or `None` if it has all. Every node since OTP
/// 23 has them.
#[must_use]
pub(crate) fn missing(theirs: Flags) -> Option<Flags> {
    let missing = mandatory_25().bits() & !expand(theirs).bits();
    (missing != 0).then(|| Flags::from_bits_truncate(missing))
}

/// The flags that this node sends, by their names in erts (`DFLAG_*` in `dist.h`).
const NAMES: &[(Flags, &str)] = &[
    (Flags::PUBLISHED, "PUBLISHED"),
    (Flags::EXTENDED_REFERENCES, "EXTENDED_REFERENCES"),
    (Flags::DIST_MONITOR, "DIST_MONITOR"),
    (Flags::FUN_TAGS, "FUN_TAGS"),
    (Flags::DIST_MONITOR_NAME, "DIST_MONITOR_NAME"),
    (Flags::NEW_FUN_TAGS, "NEW_FUN_TAGS"),
    (Flags::EXTENDED_PIDS_PORTS, "EXTENDED_PIDS_PORTS"),
    (Flags::EXPORT_PTR_TAG, "EXPORT_PTR_TAG"),
    (Flags::BIT_BINARIES, "BIT_BINARIES"),
    (Flags::NEW_FLOATS, "NEW_FLOATS"),
    (Flags::SMALL_ATOM_TAGS, "SMALL_ATOM_TAGS"),
    (Flags::DIST_HDR_ATOM_CACHE, "DIST_HDR_ATOM_CACHE"),
    (Flags::UTF8_ATOMS, "UTF8_ATOMS"),
    (Flags::MAP_TAGS, "MAP_TAG"),
    (Flags::BIG_CREATION, "BIG_CREATION"),
    (Flags::SEND_SENDER, "SEND_SENDER"),
    (Flags::BIG_SEQTRACE_LABELS, "BIG_SEQTRACE_LABELS"),
    (Flags::EXIT_PAYLOAD, "EXIT_PAYLOAD"),
    (Flags::FRAGMENTS, "FRAGMENTS"),
    (Flags::HANDSHAKE_23, "HANDSHAKE_23"),
    (Flags::UNLINK_ID, "UNLINK_ID"),
    (MANDATORY_25_DIGEST, "MANDATORY_25_DIGEST"),
    (Flags::SPAWN, "SPAWN"),
    (Flags::V4_NC, "V4_NC"),
    (Flags::ALIAS, "ALIAS"),
    (ALTACT_SIG, "ALTACT_SIG"),
];

/// Returns the names of these flags, except those that this node does not send.
#[must_use]
pub fn names(flags: Flags) -> Vec<&'static str> {
    NAMES.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect()
}

/// Flags that other nodes may send, and this node does not.
const NOT_OURS: &[(u64, &str)] =
    &[(1 << 1, "ATOM_CACHE"), (1 << 6, "HIDDEN_ATOM_CACHE"), (1 << 12, "UNICODE_IO"), (1 << 33, "NAME_ME")];

/// Returns the names of all flags that a node sent, and the bits without a name.
#[must_use]
pub(crate) fn all_names(bits: u64) -> (Vec<&'static str>, u64) {
    let ours = NAMES.iter().map(|(flag, name)| (flag.bits(), *name));
    let known = ours.chain(NOT_OURS.iter().copied()).filter(|(flag, _)| bits & flag == *flag);
    known.fold((Vec::new(), bits), |(mut names, rest), (flag, name)| {
        names.push(name);
        (names, rest & !flag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_flag_stands_for_the_mandatory_set() {
        assert_eq!(missing(MANDATORY_25_DIGEST), None);
        assert!(expand(MANDATORY_25_DIGEST).contains(Flags::MAP_TAGS));
    }

    #[test]
    fn no_more_flags_are_required_than_by_otp_25() {
        // The mandatory flags of `erts_internal:get_dflags()`, and those that jinterface 1.13.1
        // offers.
        assert_eq!(mandatory_25().bits(), 0x0107_0F94);
        assert_eq!(missing(Flags::from_bits_truncate(0x4_0707_0F94)), None);
        assert_eq!(missing(Flags::from_bits_truncate(0x0107_0F94)), None);
    }

    #[test]
    fn missing_flags_are_returned() {
        let theirs =
            Flags::from_bits_truncate(ours(false).bits() & !MANDATORY_25_DIGEST.bits() & !Flags::MAP_TAGS.bits());
        assert_eq!(missing(theirs), Some(Flags::MAP_TAGS));
        assert_eq!(missing(ours(true)), None);
    }

    #[test]
    fn each_flag_that_we_send_has_a_name() {
        let bits = NAMES.iter().fold(0, |bits, (flag, _)| bits | flag.bits());
        assert_eq!(bits, ours(false).bits());
        assert_eq!(names(Flags::SPAWN | Flags::MAP_TAGS), ["MAP_TAG", "SPAWN"]);
    }

    #[test]
    fn flags_without_a_name_are_left_over() {
        assert_eq!(all_names(1 | 1 << 12 | 1 << 40), (vec!["PUBLISHED", "UNICODE_IO"], 1 << 40));
        assert_eq!(all_names(0), (Vec::new(), 0));
    }

    #[test]
    fn a_hidden_node_is_not_published() {
        assert!(ours(false).contains(Flags::PUBLISHED));
        assert!(!ours(true).contains(Flags::PUBLISHED));
    }
}
