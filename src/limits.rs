//! The limits of the daemon, each with its unit and the test that crosses it. The limits of the
//! commands are in `limits/command.rs`, the limits of the node in [`beam::limits`]. Tuning
//! constants are private to the module that uses them, under the heading "Tuning constants".

mod command;

use std::time::Duration;

pub use command::*;

// ---- The node and its peers -----------------------------------------------------------------

/// Most queued calls of peers to the plugins server. Further calls are refused at once. Crossed by
/// `cluster::plugins::server::tests::a_full_queue_refuses_new_calls`.
pub const ORDERS: usize = 256;

/// Interval between two measurements of the round trip to a connected peer. Crossed by
/// `cluster::peers::answers::tests::the_round_trip_is_measured_again`.
pub const ROUND_TRIP_EVERY: Duration = Duration::from_secs(60);

/// Longest OTP release name, in characters. Crossed by
/// `cluster::peers::questions::tests::valid_answers_are_read_and_others_are_refused`.
pub const OTP_RELEASE: usize = 16;

/// Most concurrent diagnoses. Further requests are refused. Crossed by `tests/diagnosis.rs`,
/// `concurrent_diagnoses_are_bounded`.
pub const DIAGNOSES: usize = 4;

/// How long a diagnosis waits for an attempt to connect that has already started. Crossed by
/// `tests/diagnosis.rs`, `a_silent_node_is_reported`.
pub const DIAGNOSIS_WAIT: Duration = Duration::from_secs(1);

/// Time limit of a whole diagnosis, longer than the sum of its stages. Crossed by
/// `cluster::diagnosis::tests::a_diagnosis_that_takes_too_long_reports_the_stages_so_far`.
pub const DIAGNOSIS_TIME: Duration = Duration::from_secs(27);

// ---- Finding peers --------------------------------------------------------------------------

/// Most addresses used of one DNS answer. Crossed by
/// `cluster::peers::strategies::dns::tests::the_number_of_addresses_is_bounded`.
pub const DNS_ADDRESSES: usize = 1024;

/// Interval between two DNS queries for daemons. Up to a quarter is added as jitter. Crossed by
/// `tests/dns.rs`, `daemons_find_each_other_by_dns_and_forget_removed_addresses`.
pub const DNS_POLL: Duration = Duration::from_secs(4);

/// How long the last DNS answer is used while DNS does not answer. Crossed by
/// `cluster::peers::strategies::dns::tests::the_last_answer_is_kept_for_a_while_when_dns_fails`.
pub const DNS_MEMORY: Duration = Duration::from_secs(300);

/// How long a disconnected node that no source names any more is still shown. Crossed by
/// `cluster::peers::redial::tests::a_disconnected_node_that_no_source_names_is_forgotten`.
pub const PEER_MEMORY: Duration = Duration::from_secs(60);

// ---- Other hosts ------------------------------------------------------------------------------

/// Most other hecate-daemons whose reports are kept, including lost ones. For one more, the daemon
/// that was lost first is forgotten. Crossed by
/// `cluster::hosts::tracker::tests::the_number_of_daemons_is_bounded_and_the_one_lost_first_is_forgotten`.
pub const HOSTS: usize = 1024;

/// Most bytes kept of all other hosts' plugins. Each plugin counts as [`HOST_PLUGIN`] bytes plus
/// its texts. Further plugins are omitted and counted. A client can read twice as much at once.
/// Crossed by `cluster::hosts::tracker::tests::all_reports_together_are_bounded`.
pub const HOST_REPORTS: usize = 8 * 1024 * 1024;
/// Bytes of one plugin in [`HOST_REPORTS`], without its texts. Crossed by the same test.
pub const HOST_PLUGIN: usize = 256;

/// Shortest time between two requests to one host, and the first delay after a request without an
/// answer. Each further delay is twice as long. Crossed by
/// `cluster::hosts::tracker::tests::a_daemon_that_does_not_answer_is_asked_with_growing_pauses`.
pub const HOST_PAUSE: Duration = Duration::from_secs(1);

/// Longest delay after a request without an answer. Crossed by
/// `cluster::hosts::tracker::tests::a_daemon_that_does_not_answer_is_asked_with_growing_pauses`.
pub const HOST_PAUSE_LONGEST: Duration = Duration::from_secs(60);

/// Interval at which a host is asked for a snapshot even if no event is missing, in case the last
/// event was lost. Crossed by
/// `cluster::hosts::tracker::tests::a_daemon_without_events_is_asked_at_intervals`.
pub const HOST_REFRESH: Duration = Duration::from_secs(300);

/// How long a lost host is shown. Crossed by
/// `cluster::hosts::tracker::tests::a_lost_daemon_is_forgotten_after_a_while`.
pub const HOST_LOST: Duration = Duration::from_secs(24 * 3600);

/// Most queued events of other hosts. If more arrive, the daemon asks their sender for a snapshot.
/// Crossed by
/// `cluster::hosts::listener::tests::events_that_exceed_the_queue_are_counted_as_missed`.
pub const HOST_EVENTS: usize = 1024;

/// Longest accepted status reason of another host's plugin, in bytes. Crossed by
/// `cluster::hosts::reports::tests::texts_and_times_are_bounded`.
pub const PLUGIN_REASON: usize = 2048;

/// Time from 1970 to the end of the year 9999, the last that RFC 3339 can represent. Crossed by
/// `cluster::hosts::reports::tests::texts_and_times_are_bounded`.
pub const TIME: Duration = Duration::from_secs(253_402_300_800);

// ---- EPMD -----------------------------------------------------------------------------------

/// Interval between two requests to this host's EPMD for its names. Crossed by `tests/epmd.rs`,
/// `the_daemon_serves_epmd_to_real_nodes_if_none_runs`.
pub const EPMD_POLL: Duration = Duration::from_millis(500);

/// How long the name of a node must be absent from this host's EPMD before the node counts as
/// ended. After a restart of EPMD, nodes register again within 2 s. Crossed by
/// `cluster::plugins::refusing::tests::a_name_must_be_absent_for_a_while_before_its_node_has_ended`.
pub const EPMD_ABSENCE: Duration = Duration::from_secs(5);

/// How long the daemon tries to register a default name that is in use, before it chooses another.
/// Crossed by `tests/boot.rs`, `a_default_name_that_is_in_use_is_replaced_by_another`.
pub const NAME_PATIENCE: Duration = Duration::from_secs(2);

/// Delay before the daemon tries again to register a name that is in use. Crossed by
/// `tests/boot.rs`, `the_daemon_waits_for_an_explicit_name_that_is_in_use`.
pub const NAME_RETRY: Duration = Duration::from_secs(1);

// ---- Registry, store and layout -------------------------------------------------------------

/// Longest plugin name in bytes. Crossed by `plugin::name::tests::each_error_has_its_code`.
pub const PLUGIN_NAME: usize = 63;

/// Longest path of a Unix socket in bytes: `sun_path` less its closing NUL. Crossed by
/// `layout::paths::tests::a_socket_path_has_at_most_107_bytes`.
pub const SUN_PATH: usize = 107;

/// Longest run file that is read, in bytes. Crossed by
/// `layout::run_files::tests::a_pid_file_beyond_the_limit_is_ignored`.
pub const RUN_FILE: usize = 32;

/// Time between the two refusals that prove a socket dead. Crossed by
/// `layout::socket::stale::tests::the_second_probe_follows_after_the_gap`.
pub const STALE_SOCKET_GAP: Duration = Duration::from_secs(1);

/// Most probes of a socket that keeps being replaced, within one removal. Crossed by
/// `layout::socket::stale::tests::a_socket_that_is_replaced_again_and_again_is_kept`.
pub const STALE_SOCKET_PROBES: u32 = 8;

/// Most connector sockets, and most further directories, listed for one plugin. Crossed by
/// `layout::contents::tests::what_is_listed_is_bounded`.
pub const CONTENTS: usize = 256;

/// Most nested directories that a purge holds open. Deeper ones are moved up first. Crossed by
/// `layout::purge::tests::directories_that_are_open_at_once_are_bounded`.
pub const PURGE_DEPTH: usize = 128;

/// Entries of a directory that are read at a time before they are removed, and most failed removals
/// per directory. Crossed by `layout::purge::tests::failed_removals_of_a_directory_are_bounded`.
pub const PURGE_PAGE: usize = 1024;

/// Most plugins on one host. Crossed by
/// `registry::state::tests::registration::plugins_are_bounded`.
pub const PLUGINS: usize = 16 * 1024;

/// Most connected nodes that the registry records. Crossed by
/// `registry::state::tests::node::nodes_and_announcements_are_bounded`.
pub const REGISTRY_NODES: usize = 4096;

/// Most unregistered plugins per daemon start that get directories because a node announced them.
/// Nodes may announce any number of names. Crossed by
/// `registry::state::tests::node::directories_of_unregistered_plugins_are_bounded`.
pub const UNREGISTERED: usize = 64;

/// Most pairs of plugin and announcing node. Crossed by
/// `registry::state::tests::node::nodes_and_announcements_are_bounded`.
pub const ANNOUNCEMENTS: usize = 4096;

/// How long after its registration a plugin may take to show a sign of life, unless configured.
/// Crossed by `registry::state::tests::socket::a_plugin_without_a_sign_of_life_is_stopped`.
pub const GRACE: Duration = Duration::from_secs(60);

/// How long stored plugins may wait, after a start, for their nodes. Crossed by
/// `registry::state::tests::start::the_socket_decides_if_the_node_does_not_connect_in_time`.
pub const JUDGE: Duration = Duration::from_secs(4);

/// Time limit of the last socket probes before stored plugins are judged after a start. Crossed by
/// `registry::state::tests::start::a_probe_that_hangs_does_not_delay_readiness`.
pub const JUDGE_LOOK: Duration = Duration::from_secs(1);

/// Interval between two probes of the socket of a plugin without a node. Crossed by
/// `registry::state::tests::socket::the_socket_decides_without_a_node`.
pub const SOCKET_POLL: Duration = Duration::from_secs(3);

/// Most queued commands for the registry. Senders of further commands wait. Crossed by
/// `registry::task::tests::commands_that_wait_are_bounded`.
pub const REGISTRY_QUEUE: usize = 256;

/// Most observations kept while the store fails. At this number, the registry reads no more.
/// Crossed by `registry::task::tests::a_full_backlog_makes_the_cluster_wait`.
pub const REGISTRY_BACKLOG: usize = 1024;

/// Most plugins whose dead socket or run files are removed at a time. Each needs two open files for
/// a second. Further plugins wait. Crossed by `tests/status.rs`,
/// `only_a_few_dead_plugins_are_cleaned_up_at_once`.
pub const CLEAN_UPS: usize = 64;

/// Longest delay before a failed copy of the database is written again. Crossed by
/// `store::backoff::tests::the_delay_doubles_up_to_its_limit`.
pub const COPY_RETRY: Duration = Duration::from_secs(30);

/// Most stored events. The oldest are deleted. Crossed by
/// `store::database::tests::stored_events_are_bounded`.
pub const EVENTS_KEPT: u64 = 10_000;

/// Largest row that is recovered from a damaged database, in bytes: larger than any row of a
/// plugin. Crossed by
/// `store::salvage::tests::a_row_is_read_from_its_overflow_pages_up_to_the_limit`.
pub const SALVAGED_ROW: usize = 64 * 1024;

/// Largest revision that is read or written: the largest integer that every JSON parser represents
/// exactly. Crossed by `store::database::tests::a_revision_that_has_no_successor_is_damage`.
pub const REVISION: u64 = (1 << 53) - 1;

/// Most stored events read at once. Crossed by `store::database::tests::events_are_read_in_pages`.
pub const EVENTS_PAGE: usize = 256;

/// Most events that are kept in memory for a follower that lags behind. Then it reads from the
/// store. Crossed by `registry::task::tests::a_follower_that_falls_behind_misses_nothing`.
pub const EVENTS_BEHIND: usize = 1024;

/// Most damaged databases set aside in one second. Crossed by
/// `store::database::tests::aside_names_run_out`.
pub const SET_ASIDE: u32 = 100;

/// How long a statement waits for another process that reads the database. Crossed by
/// `store::database::tests::a_commit_to_a_locked_database_is_refused`.
pub const STORE_BUSY: Duration = Duration::from_secs(2);

// ---- HTTP -----------------------------------------------------------------------------------

/// Largest request body, in bytes. Crossed by `tests/api_bounds.rs`,
/// `a_body_over_the_limit_is_refused_and_the_client_sees_it`.
pub const HTTP_BODY: usize = 64 * 1024;

/// Time for a whole request body. Crossed by `tests/api_bounds.rs`, `a_slow_body_ends_with_408`.
pub const HTTP_BODY_TIME: Duration = Duration::from_secs(10);

/// Time for a request head, and idle time of a connection between two requests. Crossed by
/// `tests/api_bounds.rs`, `a_slow_head_and_an_idle_connection_are_closed`.
pub const HTTP_HEAD_TIME: Duration = Duration::from_secs(15);

/// Most header fields of a request. This is the default of hyper, which is faster than a configured
/// limit. Crossed by `tests/api_bounds.rs`, `request_heads_are_bounded`.
pub const HTTP_HEADERS: usize = 100;

/// Largest request head, in bytes. Crossed by `tests/api_bounds.rs`, `request_heads_are_bounded`.
pub const HTTP_HEAD: usize = 16 * 1024;

/// Most connections served at a time. For one more, the process with the most idle connections
/// loses its longest-idle connection. Crossed by `tests/api_crowds.rs`,
/// `the_connection_that_was_idle_longest_is_closed`.
pub const HTTP_CONNECTIONS: usize = 256;

/// Connections that wait to be accepted. Further clients block in `connect`, or get `EAGAIN`.
/// Crossed by `api::socket::tests::the_queue_of_unaccepted_connections_is_bounded`.
pub const HTTP_BACKLOG: i32 = 256;

/// Most served connections of one process. Crossed by `tests/api_crowds.rs`,
/// `thousands_of_connections_of_one_process_delay_no_other_client`.
pub const HTTP_SHARE: usize = 128;

/// Most served connections of all processes of one user in pid namespaces that the kernel does not
/// show. Crossed by `api::places::tests::a_process_at_its_share_evicts_only_its_own_connections`.
pub const HTTP_USER_SHARE: usize = 192;

/// Most further connections, which may call only the probes. For one more, the oldest is closed.
/// Crossed by `api::places::tests::limited_connections_are_bounded_and_the_oldest_is_closed`.
pub const HTTP_LIMITED: usize = 256;

/// Largest request head on a limited connection, in bytes. Crossed by `tests/api_crowds.rs`,
/// `beyond_the_limit_only_probes_are_answered`.
pub const HTTP_LIMITED_HEAD: usize = 8 * 1024;

/// Time for a request head on a limited connection. Crossed by `tests/api_crowds.rs`,
/// `beyond_the_limit_only_probes_are_answered`.
pub const HTTP_LIMITED_TIME: Duration = Duration::from_secs(1);

/// Evicted connections that may still be open before another is accepted. Crossed by
/// `tests/api_crowds.rs`, `thousands_of_connections_of_one_process_delay_no_other_client`.
pub const HTTP_CLOSING: usize = 64;

/// Most connections of users who may not call. For one more, the oldest is closed. Crossed by
/// `api::server::tests::connections_of_other_users_are_refused_and_bounded`.
pub const HTTP_STRANGERS: usize = 16;

/// How long a client may pause while it reads a response. Crossed by
/// `api::stall::tests::a_write_to_a_client_that_stops_reading_fails`.
pub const HTTP_STALL: Duration = Duration::from_secs(15);

/// How long the rest of a refused body is read, so that its sender receives the response.
/// Crossed by `tests/api_bounds.rs`, `an_endless_body_is_read_for_a_limited_time`.
pub const HTTP_LINGER: Duration = Duration::from_secs(2);

/// How long a call waits while the daemon starts. Crossed by `tests/api_bounds.rs`,
/// `a_request_waits_for_the_start_for_a_limited_time`.
pub const HTTP_READY: Duration = Duration::from_secs(5);

/// Most event streams at a time. Crossed by `tests/api_events.rs`,
/// `a_hundred_streams_run_at_once_and_more_are_refused`.
pub const HTTP_STREAMS: usize = 128;

/// Snapshots of all plugins, at different revisions, that are kept for streams that have not read
/// them. Crossed by `api::listing::tests::few_snapshots_are_kept_for_slow_readers`.
pub const HTTP_SNAPSHOTS: usize = 4;

/// Encoded changes of the cluster that are kept, for streams that have reported different views.
/// Crossed by `api::changes::tests::the_kept_changes_are_bounded`.
pub const HTTP_CHANGES: usize = 4;

/// Most event streams of one process. Crossed by `tests/api_events.rs`,
/// `one_process_cannot_occupy_all_streams`.
pub const HTTP_STREAM_SHARE: usize = 112;

/// Time between two heartbeats of an event stream, as hecate-web expects. Crossed by
/// `tests/api_events.rs`, `an_idle_stream_sends_heartbeats`.
pub const HTTP_HEARTBEAT: Duration = Duration::from_secs(30);

/// Time for a call, longer than each time limit within it. Crossed by `tests/api_bounds.rs`,
/// `a_request_that_takes_too_long_times_out`.
pub const HTTP_CALL: Duration = Duration::from_secs(30);

/// How long requests may continue after the daemon has begun to stop. Crossed by
/// `tests/api_bounds.rs`, `a_stop_waits_for_requests_for_a_limited_time`.
pub const HTTP_DRAIN: Duration = Duration::from_millis(300);

/// Pause after a connection could not be accepted. Crossed by `tests/log.rs`,
/// `the_socket_pauses_without_free_descriptors`.
pub const HTTP_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Longest version of a plugin in characters. Crossed by
/// `api::registration::tests::each_invalid_field_has_its_code`.
pub const PLUGIN_VERSION: usize = 128;

/// Longest description of a plugin in characters. Crossed by
/// `api::registration::tests::each_invalid_field_has_its_code`.
pub const PLUGIN_DESCRIPTION: usize = 4096;

// ---- Daemon ---------------------------------------------------------------------------------

/// Most log lines about changes of plugins, per window. Crossed by `tests/log.rs`,
/// `changes_of_plugins_are_logged_and_do_not_fill_the_log`.
pub const LOG_PLUGINS: u64 = 100;

/// Most log lines about failed attempts to connect to nodes, per window. Crossed by `tests/log.rs`,
/// `names_that_others_register_do_not_fill_the_log`.
pub const LOG_DIALS: u64 = 10;

/// Interval between two checks of the daemon's own files. It also checks them before it answers a
/// change. Crossed by `tests/vanish.rs`, `a_removed_socket_is_bound_again`.
pub const OWN_FILES: Duration = Duration::from_secs(1);

/// How long the daemon still answers after its home has vanished, so that clients can read the
/// reason. Crossed by `tests/vanish.rs`, `a_removed_home_ends_the_daemon_and_is_not_created_again`.
pub const HOME_LOST: Duration = Duration::from_secs(2);

/// Grace period of a shutdown. Crossed by `tests/boot.rs`, `a_stop_does_not_wait_for_a_slow_disk`.
pub const SHUTDOWN_TIME: Duration = Duration::from_millis(900);

/// How long the daemon waits at its end until the service manager has received its last message.
/// Crossed by `tests/systemd.rs`, `a_full_notify_socket_does_not_delay_the_daemon`.
pub const NOTIFY_END: Duration = Duration::from_millis(50);

/// Highest soft limit of open files that the daemon sets, if the hard limit allows it. The usual
/// soft limit of 1,024 protects only programs that call `select`, which the daemon does not use.
/// Crossed by `daemon::tests::the_limit_of_open_files_is_raised_only_as_far_as_needed`.
pub const OPEN_FILES: u64 = 65_536;

/// Most names in one problem of `/health` or one finding of `doctor`; beyond that, only the number
/// is shown. Crossed by `daemon::tests::plugins_with_the_same_failure_code_share_one_problem` and
/// `cli::doctor::nodes::tests::one_cause_is_one_finding`.
pub const NAMED_AT_ONCE: usize = 5;
