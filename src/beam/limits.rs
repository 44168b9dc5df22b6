//! Every limit of the node: what it limits, its unit, and the test that crosses it. Constants that
//! only trade speed for memory or latency are private to the module that uses them, under the
//! heading "Tuning constants".

use std::time::Duration;

/// Maximum nesting depth of a term, in lists, tuples, maps and funs. A list that is the tail of a
/// list counts as a level. This limit bounds recursion over terms. Crossed by
/// `etf::tests::bounds::nesting_is_bounded`.
pub const TERM_DEPTH: usize = 512;

/// Maximum number of elements that one reader turns into terms. Each key, value, list tail and
/// character of a string counts as one element, and a fun counts as four. A message with this many
/// elements needs at most 120 MiB of memory in addition to its bytes: 56 bytes for each element,
/// and 32 bytes for each atom that is not interned. An external fun has two such atoms. A message
/// with more elements is not decoded. This limit also bounds the groups and members of a `pg` sync.
/// Crossed by `etf::tests::bounds::the_number_of_elements_is_bounded`.
pub const TERM_NODES: usize = 1 << 20;

/// Maximum number of atoms in one table. A full table needs at most 17 MiB, because an atom has at
/// most 1,020 bytes. Crossed by `etf::tests::bounds::a_full_table_still_decodes`.
pub const ATOMS: usize = 16 * 1024;

/// Maximum length of an atom in characters, as in every OTP release. Crossed by
/// `etf::tests::bounds::atoms_have_at_most_255_characters`.
pub const ATOM_CHARACTERS: usize = 255;

/// Maximum number of words in a reference, as `ERTS_MAX_REF_NUMBERS` of OTP 24 and later.
/// Crossed by `etf::tests::bounds::references_have_one_to_five_words`.
pub const REFERENCE_WORDS: usize = 5;

// ---- Distribution ---------------------------------------------------------------------------

/// Maximum size of a frame from a peer, and of a message in fragments, in bytes. It allows 64 MiB
/// for the payload, and 64 KiB for the control message and the header. Crossed by
/// `dist::framing::tests::a_frame_over_the_limit_is_refused_before_it_arrives` and
/// `dist::header::tests::a_message_is_bounded`.
pub const FRAME: usize = 64 * 1024 * 1024 + 64 * 1024;

/// Unfinished messages in fragments from one peer. Beyond that, the message that has waited longest
/// is dropped. Crossed by
/// `dist::header::tests::unfinished_messages_in_fragments_that_wait_longest_are_dropped`.
pub const FRAGMENTED: usize = 4096;

/// Bytes of a peer's unfinished messages in fragments. Three messages of the largest size fit, and
/// the limit is within the smallest budget ([`PEER_BYTES_LEAST`]). Beyond that, the message that
/// has waited longest is dropped. Crossed by
/// `dist::header::tests::unfinished_messages_in_fragments_that_wait_longest_are_dropped`.
pub const FRAGMENTED_BYTES: usize = 3 * FRAME;

/// Maximum size of a handshake packet from a peer in bytes. Crossed by
/// `dist::setup::tests::a_large_handshake_packet_is_refused_unread`.
pub const HANDSHAKE_PACKET: usize = 1024;

/// Maximum length of a node name in bytes. An atom of ASCII characters has the same limit.
/// Crossed by `dist::handshake::tests::invalid_and_long_names_are_refused` and
/// `name::tests::node_names_have_two_parts`.
pub const NODE_NAME: usize = 255;

/// Time for a whole handshake, as `net_setuptime` of an Erlang node. Crossed by
/// `dist::setup::tests::a_silent_peer_ends_the_handshake_in_time`.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(7);

/// Bytes that may be queued for one peer before its connection is closed: one message of the
/// largest size. Crossed by `dist::link::tests::a_peer_that_reads_nothing_fills_a_bounded_queue`.
pub const LINK_QUEUE: usize = FRAME;

/// Time to send the queue of a connection that this node closes, and for the peer to close its end.
/// Crossed by `dist::link::tests::closing_waits_a_bounded_time_for_the_peer`.
pub const LINK_FLUSH: Duration = Duration::from_millis(300);

/// Size in bytes from which a binary, or a term that a peer encoded, is sent without being copied.
/// Crossed by
/// `dist::frames::tests::queued_frames_keep_their_bytes_and_large_binaries_are_not_copied`.
pub const SENT_UNCOPIED: usize = 32 * 1024;

/// Maximum number of challenges that are remembered after their handshakes have ended. Outstanding
/// challenges do not count. The random challenge of an honest peer equals a remembered challenge
/// once in 4 million handshakes. That handshake fails and must be retried. Crossed by
/// `dist::challenges::tests::an_outstanding_challenge_is_never_forgotten_and_ended_ones_are_bounded`.
pub const CHALLENGES_ENDED: usize = 1024;

/// Default limit of the memory for all peers in bytes, see `dist::budget`. Beyond that, the host
/// that holds the most loses its largest connection. Crossed by `tests/budget.rs`,
/// `unfinished_frames_of_many_peers_stay_within_the_budget`.
pub const PEER_BYTES: usize = 256 * 1024 * 1024;

/// Smallest budget that can be configured, in MiB: a message of the largest size, its copy with
/// expanded atoms, and an answer of the same size. Crossed by
/// `config::tests::the_peer_memory_is_large_enough_for_the_largest_message`.
pub const PEER_BYTES_LEAST: u64 = 200;

/// Bytes that a connection may hold and still read while the budget is exceeded. Crossed by
/// `dist::budget::tests::a_connection_that_holds_much_waits_and_one_that_holds_little_does_not`.
pub const HELD_FREELY: usize = 1024 * 1024;

/// Released names of nameless peers that are remembered. They need at most 1.5 MiB. Beyond that,
/// the name that was released first is forgotten. Crossed by
/// `dist::given_names::tests::released_names_are_bounded`.
pub const GIVEN_NAMES: usize = 4096;

/// Handshakes that may be unfinished at once. Beyond that, the address with the most unfinished
/// handshakes loses its oldest one. Crossed by
/// `node::accept::tests::the_address_with_the_most_unfinished_handshakes_loses_its_oldest_one`.
pub const HANDSHAKES: usize = 256;

/// Connections to peers at once. Crossed by `node::machine::tests::the_number_of_peers_is_bounded`.
pub const PEERS: usize = 4096;

/// Batches of messages that wait for the node's task. Crossed by `tests/pressure.rs`,
/// `a_flood_suspends_no_other_peer_and_uses_bounded_memory`.
pub const NODE_INBOX: usize = 256;

/// Messages in one batch from a connection to the node's task. Crossed by
/// `dist::link::tests::a_flood_reaches_the_owner_in_batches`.
pub const MESSAGES: usize = 256;

/// Events that the node's task handles, and signals that it collects, before it sends the signals.
/// Crossed by `tests/pressure.rs`, `a_flood_suspends_no_other_peer_and_uses_bounded_memory`.
pub const NODE_BATCH: usize = 1024;

/// Work of the node's task for one peer before the others have their turn, in bytes of messages.
/// Looking up a process of a group costs as much as 32 bytes. Crossed by
/// `node::machine::tests::backlog::a_large_sync_delays_a_ping_by_one_step`.
pub const NODE_TURN: usize = 256 * 1024;

/// Batches of messages of one connection that the node's task has not handled. Crossed by
/// `node::intake::tests::a_connection_waits_until_its_messages_are_handled`.
pub const LINK_BATCHES: usize = 4;

/// Bytes of a request, or of a function's arguments, that are decoded. A call that exceeds this
/// limit is answered `{error, {too_large, _}}` or `undef`. A larger message is read outside of the
/// node's task. Crossed by `node::machine::tests::served::large_arguments_are_not_decoded`.
pub const CALL_ARGUMENTS: usize = 64 * 1024;

/// Large messages of all connections that are read at once. Further messages wait in order. Reading
/// a message may briefly use as much memory as [`TERM_NODES`] says. The memory budget does not
/// count this memory. Crossed by
/// `node::intake::tests::the_large_messages_decoded_at_once_are_bounded`.
pub const LARGE_READERS: usize = 2;

/// Bytes of frames, to all peers together, that are collected before they are sent. Crossed by `tests/pressure.rs`,
/// `a_peer_that_calls_without_reading_uses_bounded_memory_and_loses_its_link`.
pub const GATHERED: usize = 1024 * 1024;

/// Names of unconnected nodes that are remembered. Crossed by
/// `node::machine::tests::the_nodes_that_peers_know_are_bounded`.
pub const KNOWN_NODES: usize = 4096;

/// Monitors and links from one peer to processes of this node. Crossed by
/// `node::machine::tests::monitors_and_links_of_a_peer_are_bounded`.
pub const TIES: usize = 100_000;

/// Members of the scope of one peer, over all its groups. Every 64 bytes of a group's encoding
/// count as one more member.
/// Crossed by `node::services::pg::tests::cost::too_many_members_are_refused`.
pub const PG_MEMBERS: usize = 1_000_000;

/// Failed look-ups of members for each process and each group that a `leave` names. Beyond that,
/// the connection is closed. A scope of OTP names several processes or several groups, but never
/// both, so at most one look-up fails for each.
/// Crossed by `node::services::pg::tests::cost::a_leave_of_strangers_from_many_groups_is_refused`.
pub const PG_STRANGERS: usize = 16;

/// Processes of one peer that receive an event, in each scope. Further members do not receive it.
/// Crossed by `node::machine::tests::a_published_message_goes_to_a_bounded_number_of_processes_of_a_peer`.
pub const PG_RECEIVERS: usize = 1024;

/// Maximum size of a group in bytes, as a peer encodes it. The members of a larger group are not
/// kept.
/// Crossed by `node::services::pg::tests::cost::groups_over_the_size_limit_are_ignored`.
pub const PG_GROUP: usize = 64 * 1024;

/// Announcements of one peer in one scope. Further announcements are not shown. Crossed by
/// `node::services::pg::tests::cost::the_announced_groups_of_a_peer_are_bounded`.
pub const PG_ANNOUNCED: usize = 16 * 1024;

/// Announcements of all peers in one scope that are shown. Their number is bounded, because each
/// change processes all of them. Crossed by
/// `node::services::pg::tests::cost::peers_that_announce_many_groups_do_not_hide_the_groups_of_others`.
pub const PG_ANNOUNCED_BY_ALL: usize = 2 * PG_ANNOUNCED;

/// Interval at which a hidden node looks for new scopes of its peers. Crossed by
/// `node::machine::tests::a_hidden_node_discovers_unknown_scopes_again`.
pub const PG_POLL: Duration = Duration::from_secs(2);

/// Calls to peers that may wait for their results. Crossed by `node::machine::tests::a_call_ends_with_a_result_a_refusal_a_lost_connection_or_a_timeout`.
pub const CALLS: usize = 1024;

/// Time for the result of a call to a peer. Crossed by `node::machine::tests::a_call_ends_with_a_result_a_refusal_a_lost_connection_or_a_timeout`.
pub const CALL_TIME: Duration = Duration::from_secs(5);

/// Calls of peers that may wait for our answers. Further calls are refused at once. Crossed by
/// `node::machine::tests::served::waiting_calls_of_peers_are_bounded`.
pub const SERVED: usize = 1024;

/// Links, or monitors, of one process that `erlang:process_info` shows. Crossed by
/// `node::machine::tests::tools::shown_links_and_monitors_are_bounded`.
pub const PROCESS_TIES: usize = 1024;

/// Items that one `erlang:process_info/2` may request. OTP has fewer. Crossed by
/// `node::machine::tests::tools::requested_items_are_bounded`.
pub const PROCESS_ITEMS: usize = 64;

/// Attempts in a row to connect that end without a connection because the peer dials this node.
/// Crossed by `node::giving_way::tests::the_attempts_that_give_way_without_a_connection_are_bounded`.
pub const GIVEN_WAY: u32 = 3;

/// Simultaneous attempts to connect, counted separately for nodes of this host and of others.
/// Further attempts wait. Crossed by `tests/handshake.rs`,
/// `concurrent_attempts_to_connect_are_bounded`.
pub const DIALS: usize = 32;

/// Time to resolve a host. Crossed by `connect::resolve::tests::a_stuck_resolver_uses_bounded_time_and_threads`.
pub const RESOLVE_TIME: Duration = Duration::from_secs(3);

/// Hosts that are being resolved at once, each in a blocking thread that cannot be interrupted.
/// Crossed by
/// `connect::resolve::tests::a_stuck_resolver_uses_bounded_time_and_threads`.
pub const RESOLVERS: usize = 64;

/// Time to connect to an address of a host. Crossed by
/// `connect::dial::tests::a_silent_port_delays_a_dial_for_a_limited_time`.
pub const CONNECT_TIME: Duration = Duration::from_secs(3);

/// Addresses of one host that are tried. Crossed by
/// `connect::dial::tests::only_so_many_addresses_of_a_host_are_tried`.
pub const ADDRESSES: usize = 4;

/// Pause after a failure to accept a connection on the distribution port. Crossed by
/// `tests/log.rs`, `the_distribution_port_pauses_without_free_descriptors`.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// ---- Finding peers --------------------------------------------------------------------------

/// Listening sockets of one port that are read from the kernel's answer. If there are more, the
/// tables in `/proc` are read instead. Crossed by
/// `connect::sock_diag::tests::an_incomplete_or_long_list_of_sockets_is_not_used`.
pub const LISTENERS: usize = 1024;

/// Open files of processes that are inspected to find the process that serves EPMD. Crossed by
/// `connect::socket_holder::tests::the_number_of_inspected_files_is_bounded`.
pub const SOCKET_HOLDERS: usize = 65_536;

// ---- EPMD -----------------------------------------------------------------------------------

/// Time for one exchange with an EPMD. Crossed by `epmd::client::tests::a_stalling_epmd_delays_a_request_for_a_limited_time`.
pub const EPMD_TIME: Duration = Duration::from_secs(2);

/// Pause before a retry with an EPMD that did not answer or was lost, as in `erl_epmd`. Crossed by
/// `tests/boot.rs`, `the_daemon_registers_as_the_same_node_after_a_restart_of_epmd`.
pub const EPMD_RETRY: Duration = Duration::from_secs(2);

/// Number of attempts to reach a system's `epmd` that was just started. Crossed by `tests/boot.rs`,
/// `the_systems_epmd_is_started_if_none_answers`.
pub const EPMD_START_TRIES: u32 = 40;
/// Pause between these attempts. Crossed by the same.
pub const EPMD_START_PAUSE: Duration = Duration::from_millis(50);

/// Maximum size of an answer from EPMD in bytes: about 10,000 names. Crossed by
/// `epmd::client::tests::an_endless_answer_is_cut`.
pub const EPMD_ANSWER: u64 = 1024 * 1024;

/// Maximum size of a request to this node's EPMD in bytes, as `INBUF_SIZE` of OTP's `epmd` allows.
/// Crossed by `epmd::server::tests::stalled_and_large_requests_do_not_affect_others`.
pub const EPMD_REQUEST: usize = 3057;

/// Maximum time between two bytes of a request to this node's EPMD. OTP's `epmd` allows 60 s.
/// Crossed by `epmd::server::tests::a_request_may_be_slow_but_must_not_stop`.
pub const EPMD_SILENCE: Duration = Duration::from_secs(5);

/// Time for a whole request to this node's EPMD: enough for the longest name at two bytes per
/// second. Crossed by `epmd::server::tests::a_request_may_be_slow_but_must_not_stop`.
pub const EPMD_REQUEST_TIME: Duration = Duration::from_secs(600);

/// Connections to our EPMD with unfinished requests. Each connection holds up to [`EPMD_REQUEST`]
/// bytes. Beyond that, the user or address with the most connections loses its oldest one.
/// Crossed by `epmd::server::tests::a_flood_from_one_address_does_not_affect_other_addresses`.
pub const EPMD_UNFINISHED: usize = 64;

/// Maximum length of a name that is registered with this node's EPMD, in characters of UTF-8, as
/// with OTP's `epmd`. Crossed by `epmd::protocol::tests::a_name_has_at_most_255_characters`.
pub const EPMD_NAME: usize = 255;

/// Maximum size of the extra data of a node that registers with this node's EPMD, in bytes, as with
/// OTP's `epmd`. Crossed by
/// `epmd::protocol::tests::extra_data_has_at_most_1020_bytes_and_is_returned`.
pub const EPMD_EXTRA: usize = 1020;

/// Bytes of all names and extra data that are registered with our EPMD. This limit bounds an answer
/// that lists them. One user has at most half of these bytes, and never more than are free.
/// Crossed by `epmd::protocol::tests::long_names_are_bounded_and_leave_space_for_other_users`.
pub const EPMD_NODES_BYTES: usize = 256 * 1024;

/// Names that may be registered with our EPMD. Each name keeps a connection open. One user has at
/// most half of the names, and never more than are free. Crossed by
/// `epmd::protocol::tests::names_are_bounded_and_no_user_can_hold_all`.
pub const EPMD_NODES: usize = 1024;

/// Keepalive of the connection of a registered name: the silence before the first probe, the
/// interval of probes, and the number of probes that may go unanswered. Crossed by
/// `epmd::server::tests::the_kernel_checks_connections_that_keep_a_name`.
pub const EPMD_KEEPALIVE: Duration = Duration::from_secs(30);
/// See [`EPMD_KEEPALIVE`]. Crossed by the same.
pub const EPMD_KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// See [`EPMD_KEEPALIVE`]. Crossed by the same.
pub const EPMD_KEEPALIVE_PROBES: u32 = 3;

/// Time for EPMD to notice that a name was freed. Crossed by
/// `epmd::client::tests::freeing_a_name_waits_a_bounded_time_for_epmd`.
pub const EPMD_UNREGISTER: Duration = Duration::from_millis(200);

/// Maximum length of a cookie in bytes. An atom of ASCII characters has the same limit. Crossed by
/// `config::cookie::tests::contents`.
pub const COOKIE: usize = 255;

// ---- Log ------------------------------------------------------------------------------------

/// The window in which log lines that outsiders can trigger are counted. At its end, the number of
/// lines that were left out is logged. Crossed by
/// `tests/log.rs`, `a_storm_on_the_distribution_port_logs_few_lines_and_a_count`.
pub const LOG_WINDOW: Duration = Duration::from_secs(10);

/// Log lines about connected and lost nodes in each window. Crossed by
/// `log_limit::tests::lines_below_the_limit_are_all_logged`.
pub const LOG_NODES: u64 = 100;

// ---- Trace ----------------------------------------------------------------------------------

/// Maximum length of the text of a traced event in bytes. A longer text is cut. Crossed by
/// `trace::tests::a_text_is_escaped_and_cut`.
pub const TRACE_TEXT: usize = 1024;

/// Events that wait for one subscriber. Further events are dropped and counted. Crossed by
/// `trace::tests::a_slow_subscriber_loses_events_and_learns_how_many`.
pub const TRACE_QUEUE: usize = 1024;

/// Subscriptions to traces at once. Crossed by `trace::tests::subscriptions_are_bounded`.
pub const TRACE_SUBSCRIPTIONS: usize = 8;
