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

/// Longest path of a Unix socket in bytes: `sun_path` less its closing NUL. Crossed by
/// `layout::paths::tests::a_socket_path_has_at_most_107_bytes`.
pub const SUN_PATH: usize = 107;

/// Longest run file that is read, in bytes. Crossed by `layout::run_files::tests::a_huge_pid_file_is_not_believed`.
pub const RUN_FILE: usize = 32;

/// Time between the two refusals that prove a socket dead. Crossed by
/// `layout::stale_socket::tests::the_second_look_comes_a_second_later_and_not_before`.
pub const STALE_SOCKET_GAP: Duration = Duration::from_secs(1);

/// How often one recipe looks at a socket that is replaced again and again. Crossed by
/// `layout::stale_socket::tests::a_socket_that_is_replaced_for_ever_is_left`.
pub const STALE_SOCKET_LOOKS: u32 = 8;

/// Most plugins of one host. Crossed by `registry::state::tests::registration::plugins_are_bounded`.
pub const PLUGINS: usize = 1024;

/// Most connected nodes the registry keeps in mind. Crossed by `registry::state::tests::node::nodes_and_announcements_are_bounded`.
pub const REGISTRY_NODES: usize = 4096;

/// Most pairs of plugin and announcing node. Crossed by `registry::state::tests::node::nodes_and_announcements_are_bounded`.
pub const ANNOUNCEMENTS: usize = 4096;

/// How long after its registration a plugin may take to show a sign of life, unless configured. Crossed by
/// `registry::state::tests::socket::silence_after_the_registration_stops_it`.
pub const GRACE: Duration = Duration::from_secs(60);

/// How long stored plugins may wait, after a start, for their nodes. Crossed by
/// `registry::state::tests::start::after_the_time_the_socket_judges`.
pub const JUDGE: Duration = Duration::from_secs(5);

/// How long the look at the sockets that ends the judging may take. Crossed by
/// `registry::state::tests::start::a_look_that_hangs_does_not_keep_us_from_being_ready`.
pub const JUDGE_LOOK: Duration = Duration::from_secs(1);

/// Time between two looks at the socket of a plugin without a node. Crossed by
/// `registry::state::tests::socket::without_a_node_the_socket_decides`.
pub const SOCKET_POLL: Duration = Duration::from_secs(3);

/// Commands that wait for the registry; more wait at their sender. Crossed by
/// `registry::task::tests::many_registrations_share_commits`.
pub const REGISTRY_QUEUE: usize = 256;

/// Most commands that share one commit. Crossed by `registry::task::tests::many_registrations_share_commits`.
pub const REGISTRY_BATCH: usize = 128;

/// Facts kept for later while the store fails; at that many no more are read. Crossed by
/// `registry::task::tests::a_full_backlog_makes_the_cluster_wait`.
pub const REGISTRY_BACKLOG: usize = 1024;

/// Time until a failed commit is tried again. Crossed by `registry::task::tests::facts_wait_while_the_store_fails`.
pub const COMMIT_RETRY: Duration = Duration::from_secs(1);

/// Stored events kept; older ones go. Crossed by `store::tests::the_log_is_bounded`.
pub const EVENTS_KEPT: u64 = 10_000;

/// Most stored events read at once. Crossed by `store::tests::events_are_read_in_pages`.
pub const EVENTS_PAGE: usize = 256;

/// Events a subscriber may lag behind before it misses some. Crossed by `registry::task::tests::a_slow_subscriber_is_told`.
pub const EVENTS_BEHIND: usize = 1024;

/// Most damaged databases set aside in one second. Crossed by `store::tests::aside_names_run_out`.
pub const SET_ASIDE: u32 = 100;

/// How long a statement waits for another process that reads the database. Crossed by
/// `store::tests::a_database_in_use_is_refused`.
pub const STORE_BUSY: Duration = Duration::from_secs(2);

// ---- HTTP -----------------------------------------------------------------------------------

/// Largest request body in bytes.
pub const HTTP_BODY: usize = 64 * 1024;

// ---- Daemon ---------------------------------------------------------------------------------

/// Grace period of a shutdown.
pub const SHUTDOWN_TIME: Duration = Duration::from_millis(900);
