//! Every bound of the daemon on one page: what it bounds, its unit, and the test that crosses it.

use std::time::Duration;

// ---- Terms and frames from peers ------------------------------------------------------------

/// How deep a term may nest. Crossed by `etf::tests::nesting_is_bounded`.
pub const TERM_DEPTH: usize = 512;

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
