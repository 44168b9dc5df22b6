//! Every bound of the daemon on one page: what it bounds, its unit, and the test that crosses it.

use std::time::Duration;

// ---- Terms and frames from peers ------------------------------------------------------------

/// How deep a term may nest. Crossed by `etf::tests::nesting_is_bounded`.
pub const TERM_DEPTH: usize = 512;

// ---- Distribution ---------------------------------------------------------------------------

/// Largest frame from a peer in bytes: a message of 64 MiB and what surrounds it.
/// Crossed by `dist::framing::tests::a_frame_over_the_limit_is_refused_before_it_arrives`.
pub const FRAME: usize = 64 * 1024 * 1024 + 64 * 1024;

/// Largest handshake packet from a peer in bytes. Crossed by `dist::link::tests`.
pub const HANDSHAKE_PACKET: usize = 1024;

/// Longest node name from a peer in bytes, as an atom of Erlang's. Crossed by `dist::handshake::tests`.
pub const NODE_NAME: usize = 255;

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
