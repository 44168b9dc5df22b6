//! Every bound of the daemon on one page: what it bounds, its unit, and the test that crosses it.

use std::time::Duration;

// ---- Terms and frames from peers ------------------------------------------------------------

/// How deep a term may nest, in lists, tuples, maps and funs; the tail of a list that is a list again counts as a
/// level. Recursion over terms is bounded by it. Crossed by `etf::tests::nesting_is_bounded`.
pub const TERM_DEPTH: usize = 512;

/// How many elements one reader turns into terms, each key, value, list tail and character of a string included. A
/// term that reaches it takes about 100 MiB (56 bytes an element, 32 more for an atom that isn't interned) besides
/// the message, which its binaries share. Reading with the pull parser isn't bound by it: a pg sync of 10,000 groups
/// passes whatever its number of members. Crossed by `etf::tests::the_number_of_elements_is_bounded`.
pub const TERM_NODES: usize = 1 << 20;

/// How many atoms one table interns, 17 MiB at the very worst (an atom has at most 1,020 bytes). Crossed by
/// `etf::tests::a_full_table_still_decodes`.
pub const ATOMS: usize = 16 * 1024;

/// Longest atom in characters, as in every OTP release. Crossed by `etf::tests::atoms_have_at_most_255_characters`.
pub const ATOM_CHARACTERS: usize = 255;

/// Most words in a reference, as `ERTS_MAX_REF_NUMBERS` of OTP 24 and later. Crossed by
/// `etf::tests::references_have_one_to_five_words`.
pub const REFERENCE_WORDS: usize = 5;

// ---- Distribution ---------------------------------------------------------------------------

/// Time for a whole handshake, as `net_setuptime` of an Erlang node.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(7);

// ---- EPMD -----------------------------------------------------------------------------------

/// Time for one exchange with an EPMD.
pub const EPMD_TIME: Duration = Duration::from_secs(2);

// ---- Registry, store and layout -------------------------------------------------------------

/// Longest plugin name in bytes. Crossed by `name::tests`.
pub const PLUGIN_NAME: usize = 63;

// ---- HTTP -----------------------------------------------------------------------------------

/// Largest request body in bytes.
pub const HTTP_BODY: usize = 64 * 1024;

// ---- Daemon ---------------------------------------------------------------------------------

/// Grace period of a shutdown.
pub const SHUTDOWN_TIME: Duration = Duration::from_millis(900);
