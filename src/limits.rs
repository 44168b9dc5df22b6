//! Every bound of the daemon: what it bounds, its unit, and the test that crosses it. Those of the
//! commands are in `limits/command.rs`.

mod command;

use std::time::Duration;

pub use command::*;

// ---- Terms and frames from peers ------------------------------------------------------------

/// How deep a term may nest, in lists, tuples, maps and funs; the tail of a list that is a list again counts as a
/// level. Recursion over terms is bounded by it. Crossed by `etf::tests::bounds::nesting_is_bounded`.
pub const TERM_DEPTH: usize = 512;

/// How many elements one reader turns into terms: each key, value, list tail and character of a string is one, a fun
/// counts as four. A message that reaches it takes at most 120 MiB in memory (56 bytes an element, and 32 for each
/// atom that isn't interned, of which an external fun has two) besides the message and
/// the texts in it. A message that has more is not looked into at all, so that it bounds what a pg sync may hold too: the
/// elements of all groups, and their members. Crossed by `etf::tests::bounds::the_number_of_elements_is_bounded`.
pub const TERM_NODES: usize = 1 << 20;

/// How many atoms one table interns, 17 MiB at the very worst (an atom has at most 1,020 bytes). Crossed by
/// `etf::tests::bounds::a_full_table_still_decodes`.
pub const ATOMS: usize = 16 * 1024;

/// Longest atom in characters, as in every OTP release. Crossed by `etf::tests::bounds::atoms_have_at_most_255_characters`.
pub const ATOM_CHARACTERS: usize = 255;

/// Most words in a reference, as `ERTS_MAX_REF_NUMBERS` of OTP 24 and later. Crossed by
/// `etf::tests::bounds::references_have_one_to_five_words`.
pub const REFERENCE_WORDS: usize = 5;

// ---- Distribution ---------------------------------------------------------------------------

/// Largest frame from a peer in bytes, and its largest message in fragments: one of 64 MiB and what surrounds it. Crossed by
/// `dist::framing::tests::a_frame_over_the_limit_is_refused_before_it_arrives` and
/// `dist::header::tests::a_message_is_bounded`.
pub const FRAME: usize = 64 * 1024 * 1024 + 64 * 1024;

/// Room made for messages whose atoms are put in their places, in bytes; a larger message has its own. Crossed by
/// `dist::header::tests::a_message_is_bounded`.
pub const EXPANDED: usize = 16 * 1024;

/// Messages from one peer that have begun in fragments and not ended; of more, the one that has waited longest is given up. Crossed by
/// `dist::header::tests::of_messages_in_fragments_those_that_wait_longest_give_way`.
pub const FRAGMENTED: usize = 4096;

/// Bytes of a peer's unfinished messages in fragments: three of the largest, which fit into the
/// smallest budget ([`PEER_BYTES_LEAST`]). More drops the one that has waited longest. Crossed by
/// `dist::header::tests::of_messages_in_fragments_those_that_wait_longest_give_way`.
pub const FRAGMENTED_BYTES: usize = 3 * FRAME;

/// Largest handshake packet from a peer in bytes. Crossed by `dist::setup::tests::a_large_handshake_packet_is_refused_unread`.
pub const HANDSHAKE_PACKET: usize = 1024;

/// Longest node name from a peer in bytes, as an atom of Erlang's. Crossed by `dist::handshake::tests::names_are_bounded_and_of_the_right_form` and
/// `name::tests::node_names_have_two_parts`.
pub const NODE_NAME: usize = 255;

/// Time for a whole handshake, as `net_setuptime` of an Erlang node. Crossed by
/// `dist::setup::tests::a_silent_peer_ends_the_handshake_in_time`.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(7);

/// Bytes that may wait for one peer before its connection is given up: it holds one message of the largest size.
/// Crossed by `dist::link::tests::a_peer_that_reads_nothing_fills_a_bounded_queue`.
pub const LINK_QUEUE: usize = FRAME;

/// Time to write what is queued when we close a connection, and for the peer to close its end.
/// Crossed by `dist::link::tests::closing_waits_only_so_long_for_the_peer`.
pub const LINK_FLUSH: Duration = Duration::from_millis(300);

/// Bytes that are sent at once, if the socket takes them, and not by the connection's own task. Crossed by
/// `dist::frames::tests::a_write_takes_so_many_parts_and_few_bytes_go_at_once`.
pub const SENT_AT_ONCE: usize = 64 * 1024;

/// Bytes of a binary, or of a term that came from elsewhere, that isn't copied to be sent. Crossed by
/// `dist::frames::tests::they_are_the_same_bytes_however_they_are_kept_and_written`.
pub const SENT_UNCOPIED: usize = 32 * 1024;

/// Parts of what is queued for a connection that one write is given. Crossed by
/// `dist::frames::tests::a_write_takes_so_many_parts_and_few_bytes_go_at_once`.
pub const PARTS_WRITTEN: usize = 64;

/// Bytes of a message that has begun for which room is made before they have come. Crossed by `tests/pressure.rs`,
/// `messages_of_64_mib_go_both_ways`.
pub const READ_AHEAD: usize = 1024 * 1024;

/// Room made for one read from a connection, in bytes. Crossed by `tests/pressure.rs`, `messages_of_64_mib_go_both_ways`.
pub const READ_CHUNK: usize = 64 * 1024;

/// Challenges of ended handshakes that are still recognized as our own, besides all outstanding
/// ones. A random challenge of an honest peer equals one of them once in 4 million handshakes, and
/// costs a retry. Crossed by
/// `dist::challenges::tests::an_outstanding_challenge_is_never_forgotten_and_ended_ones_are_bounded`.
pub const CHALLENGES_ENDED: usize = 1024;

/// Default limit of the memory for all peers in bytes, see [`dist::budget`](crate::dist::budget).
/// More closes the largest connection of the host that holds the most. Crossed by
/// `tests/budget.rs`, `unfinished_frames_of_many_peers_stay_within_the_budget`.
pub const PEER_BYTES: usize = 256 * 1024 * 1024;

/// Smallest budget that can be configured, in MiB: a message of the largest size, its copy with
/// expanded atoms, and an answer of the same size. Crossed by
/// `config::tests::the_memory_for_peers_has_room_for_the_largest_message`.
pub const PEER_BYTES_LEAST: u64 = 200;

/// Bytes that a connection may hold and still read while the budget is exceeded. Crossed by
/// `dist::budget::tests::a_connection_that_holds_much_waits_and_one_that_holds_little_does_not`.
pub const HELD_FREELY: usize = READ_AHEAD;

/// Names that were given to nameless peers and can be given again, 1.5 MiB at most. Of more, the one
/// that was returned first is forgotten. Crossed by
/// `dist::given_names::tests::names_to_be_given_again_are_bounded`.
pub const GIVEN_NAMES: usize = 4096;

/// Handshakes that may be unfinished at once. Beyond that, the address that has the most loses its
/// oldest. Crossed by
/// `node::accept::tests::the_address_with_the_most_unfinished_handshakes_loses_its_oldest`.
pub const HANDSHAKES: usize = 256;

/// Connections to the distribution port, or to our EPMD, that wait to be accepted, if the system
/// allows as many (`net.core.somaxconn`). The kernel ignores further connections from all clients,
/// and clients retry after 1 s or more. The queue is therefore long, so that a flood rarely fills
/// it before we accept again. Crossed by `node::accept::tests::a_burst_waits_to_be_accepted` and
/// `epmd::server::tests::a_burst_waits_to_be_accepted`.
pub const ACCEPT_QUEUE: u32 = 4096;

/// Connections to peers at once. Crossed by `node::machine::tests::the_number_of_peers_is_bounded`.
pub const PEERS: usize = 4096;

/// Batches of messages that wait for the node's task. Crossed by `tests/pressure.rs`,
/// `a_flood_suspends_nobody_else_and_costs_bounded_memory`.
pub const NODE_INBOX: usize = 256;

/// Messages that a connection hands on at once. Crossed by `dist::link::tests::a_flood_is_handed_on_in_pieces`.
pub const MESSAGES: usize = 256;

/// Events that the node's task takes, and signals that it lets gather, before it sends them. Crossed by
/// `tests/pressure.rs`, `a_flood_suspends_nobody_else_and_costs_bounded_memory`.
pub const NODE_BATCH: usize = 1024;

/// Work of the node's task for one peer before the others have their turn, in bytes of messages.
/// Looking up a process of a group costs as much as 32 bytes. Crossed by
/// `node::machine::tests::backlog::a_large_sync_delays_a_ping_by_one_step`.
pub const NODE_TURN: usize = 256 * 1024;

/// Batches of messages of one connection that the node's task has not handled. Crossed by
/// `node::intake::tests::a_connection_waits_until_its_messages_are_handled`.
pub const LINK_BATCHES: usize = 4;

/// Bytes of a request, or of a function's arguments, that are decoded. A call with more is answered
/// `{error, {too_large, _}}` or `undef`; a larger message is read outside of the node's task.
/// Crossed by `node::machine::tests::served::large_arguments_are_not_decoded`.
pub const CALL_ARGUMENTS: usize = 64 * 1024;

/// Large messages that are read at once, of all connections; the others wait in order. Reading one
/// may briefly use as much memory as [`TERM_NODES`] says, which the memory budget does not count.
/// Crossed by `node::intake::tests::few_large_messages_are_read_at_once_and_the_others_wait`.
pub const LARGE_READERS: usize = 2;

/// Time to make a view, beyond which views are made less often. Crossed by
/// `node::pace::tests::slow_work_is_done_less_often`.
pub const VIEW_TIME: Duration = Duration::from_millis(1);

/// How long the node's task looks whether more is coming before it sends what has gathered. Crossed by
/// `tests/pressure.rs`, `who_asks_again_and_again_does_not_keep_others_from_being_heard`.
pub const NODE_GATHERS: Duration = Duration::from_millis(1);

/// Signals so many that it is worth while to look whether more are coming before they are sent. Crossed by
/// `tests/pressure.rs`, `a_flood_suspends_nobody_else_and_costs_bounded_memory`.
pub const NODE_MANY: u64 = 64;

/// Bytes of frames, to whomever, that gather before they are handed on. Crossed by `tests/pressure.rs`,
/// `who_asks_and_does_not_read_costs_bounded_memory_and_its_own_link`.
pub const GATHERED: usize = 1024 * 1024;

/// Names of nodes that are remembered though they are not connected. Crossed by `node::machine::tests::the_nodes_that_a_peer_knows_are_remembered_up_to_a_bound`.
pub const KNOWN_NODES: usize = 4096;

/// Monitors and links that one peer may have towards our processes. Crossed by `node::machine::tests::monitors_and_links_of_a_peer_are_bounded`.
pub const TIES: usize = 100_000;

/// Members that the scope of one peer may have, over all its groups; 64 bytes of a group's encoding
/// count as one more. Crossed by `node::services::pg::tests::cost::too_many_members_are_refused`.
pub const PG_MEMBERS: usize = 1_000_000;

/// Failed look-ups of members for each process and each group that a `leave` names. More closes the
/// connection. A scope of OTP names several processes or several groups, never both, and so fails
/// at most once for each. Crossed by
/// `node::services::pg::tests::cost::a_leave_of_strangers_from_many_groups_is_refused`.
pub const PG_STRANGERS: usize = 16;

/// Processes of one peer that receive an event, in each scope. Further members do not receive it.
/// Crossed by `node::machine::tests::an_event_goes_to_a_bounded_number_of_processes_of_a_peer`.
pub const PG_RECEIVERS: usize = 1024;

/// Largest group in bytes, as a peer encodes it: the members of a larger one are not kept.
/// Crossed by `node::services::pg::tests::cost::a_group_that_is_too_large_is_not_kept`.
pub const PG_GROUP: usize = 64 * 1024;

/// Plugins that the scope of one peer may announce, as many as one host may have; further ones are
/// not shown. Crossed by `node::services::pg::tests::cost::a_peer_announces_only_so_many`.
pub const PG_ANNOUNCED: usize = PLUGINS;

/// Announcements of all peers in one scope that are shown: each change goes through all of them,
/// and the registry keeps only [`ANNOUNCEMENTS`]. Crossed by
/// `node::services::pg::tests::cost::peers_that_announce_the_most_hide_no_others`.
pub const PG_ANNOUNCED_BY_ALL: usize = 2 * PLUGINS;

/// How often a hidden node looks for scopes of peers that it doesn't know. Crossed by
/// `node::machine::tests::a_hidden_node_looks_again_for_scopes_that_it_does_not_know`.
pub const PG_POLL: Duration = Duration::from_secs(2);

/// Calls to peers that may wait for their results. Crossed by `node::machine::tests::calls_end_with_a_result_a_refusal_a_lost_link_or_their_time`.
pub const CALLS: usize = 1024;

/// Time for the result of a call to a peer. Crossed by `node::machine::tests::calls_end_with_a_result_a_refusal_a_lost_link_or_their_time`.
pub const CALL_TIME: Duration = Duration::from_secs(5);

/// Calls of peers that may wait for our answers; more are refused at once. Crossed by
/// `node::machine::tests::served::calls_that_wait_are_bounded`.
pub const SERVED: usize = 1024;

/// Orders of peers that wait to be carried out; more are refused at once. Crossed by
/// `cluster::plugins_server::tests::a_full_queue_is_told`.
pub const ORDERS: usize = 256;

/// Attempts to connect that are under way at once, to nodes of this host and to others each; more wait.
/// Crossed by `tests/handshake.rs`, `attempts_to_connect_wait_for_each_other`.
pub const DIALS: usize = 32;

/// Time to resolve a host. Crossed by `node::resolve::tests::a_resolver_that_is_stuck_costs_its_time_and_few_threads`.
pub const RESOLVE_TIME: Duration = Duration::from_secs(3);

/// Hosts that are being resolved at once, each by a thread that nothing can hurry: a part of
/// [`NODE_BLOCKING_THREADS`], which the registry does not use. Crossed by
/// `node::resolve::tests::a_resolver_that_is_stuck_costs_its_time_and_few_threads`.
pub const RESOLVERS: usize = 64;

/// Time to connect to an address of a host. Crossed by
/// `node::dial::tests::a_port_that_does_not_answer_costs_only_its_time`.
pub const CONNECT_TIME: Duration = Duration::from_secs(3);

/// How often the round trip to a connected peer is taken. Crossed by
/// `cluster::facts::tests::the_round_trip_is_taken_again`.
pub const ROUND_TRIP_EVERY: Duration = Duration::from_secs(60);

/// Longest name of a release of OTP in characters. Crossed by
/// `cluster::questions::tests::what_a_node_answers_is_read_and_what_it_might_is_refused`.
pub const OTP_RELEASE: usize = 16;

/// Diagnoses that are under way at once; more are refused. Crossed by `tests/diagnosis.rs`, `diagnoses_at_once_are_bounded`.
pub const DIAGNOSES: usize = 4;

/// How long a diagnosis waits for an attempt to connect that is under way. Crossed by `tests/diagnosis.rs`,
/// `a_node_that_says_nothing`.
pub const DIAGNOSIS_WAIT: Duration = Duration::from_secs(1);

/// Time for a whole diagnosis, longer than its stages take together. Crossed by
/// `cluster::diagnosis::tests::a_diagnosis_that_takes_too_long_tells_what_it_has`.
pub const DIAGNOSIS_TIME: Duration = Duration::from_secs(27);

/// Addresses of one host that are tried. Crossed by `node::dial::tests::only_so_many_addresses_of_a_host_are_tried`.
pub const ADDRESSES: usize = 4;

/// Pause after the distribution port could not take a connection. Crossed by `tests/log.rs`,
/// `without_descriptors_the_distribution_port_waits`.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// ---- Finding peers --------------------------------------------------------------------------

/// Sockets that listen at one port of this host, of which the kernel tells; where there are more, its tables are read. Crossed by
/// `node::sock_diag::tests::a_list_is_read_to_its_end_or_not_at_all`.
pub const LISTENERS: usize = 1024;

/// Open files of processes that are looked at to find which process serves EPMD. Crossed by
/// `node::socket_holder::tests::no_more_files_are_looked_at_than_allowed`.
pub const SOCKET_HOLDERS: usize = 65_536;

/// Nodes that are found by one answer of DNS. Crossed by
/// `cluster::strategies::dns::tests::no_more_addresses_are_taken_than_are_allowed`.
pub const DNS_ADDRESSES: usize = 1024;

/// How often DNS is asked for more daemons, or up to a quarter later. Crossed by `tests/dns.rs`,
/// `daemons_find_each_other_by_dns_and_forget_who_has_left_it`.
pub const DNS_POLL: Duration = Duration::from_secs(4);

/// How long what DNS said last is believed while it doesn't answer. Crossed by
/// `cluster::strategies::dns::tests::what_was_found_is_believed_through_a_failure_and_not_for_ever`.
pub const DNS_MEMORY: Duration = Duration::from_secs(300);

/// How long a node that has gone, and that nobody names any more, is shown all the same. Crossed by
/// `cluster::discovery::tests::who_has_gone_and_is_named_by_nobody_is_forgotten`.
pub const PEER_MEMORY: Duration = Duration::from_secs(60);

// ---- Other hosts ------------------------------------------------------------------------------

/// Other hecate-daemons whose plugins are kept, lost ones among them: of those the one that was lost first gives way. Crossed by
/// `cluster::hosts::tests::hosts_are_bounded_and_who_was_lost_first_gives_way`.
pub const HOSTS: usize = 1024;

/// Bytes of all that is kept of other hosts' plugins, each of which counts as [`HOST_PLUGIN`] besides its texts; more is left
/// out, and counted. A client reads twice as much at once. Crossed by `cluster::hosts::tests::what_hosts_say_is_bounded_in_all`.
pub const HOSTS_SAID: usize = 8 * 1024 * 1024;
/// See [`HOSTS_SAID`]. Crossed by the same.
pub const HOST_PLUGIN: usize = 256;

/// Shortest time between two questions to one host, and first pause after one that was not answered; each later one is twice as long.
/// Crossed by `cluster::hosts::tests::who_does_not_answer_is_asked_less_and_less`.
pub const HOST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause after a question that was not answered. Crossed by
/// `cluster::hosts::tests::who_does_not_answer_is_asked_less_and_less`.
pub const HOST_PAUSE_LONGEST: Duration = Duration::from_secs(60);

/// Time after which a host is asked though it told of nothing: what it could not tell is missing for no longer. Crossed by
/// `cluster::hosts::tests::a_silent_host_is_asked_now_and_then`.
pub const HOST_REFRESH: Duration = Duration::from_secs(300);

/// How long a lost host is shown. Crossed by `cluster::hosts::tests::who_stays_lost_is_forgotten`.
pub const HOST_LOST: Duration = Duration::from_secs(24 * 3600);

/// Events of other hosts that wait to be looked at; what is lost beyond is asked for. Crossed by
/// `cluster::listener::tests::events_that_find_no_room_are_missed_and_that_is_told`.
pub const HOST_EVENTS: usize = 1024;

/// Longest reason that is taken of another host's plugin, in bytes. Crossed by
/// `cluster::said::tests::texts_and_times_are_bounded`.
pub const PLUGIN_REASON: usize = 2048;

/// What lies between 1970 and the first time that RFC 3339 can't write. Crossed by
/// `cluster::said::tests::texts_and_times_are_bounded`.
pub const TIME: Duration = Duration::from_secs(253_402_300_800);

// ---- EPMD -----------------------------------------------------------------------------------

/// Time for one exchange with an EPMD. Crossed by `epmd::client::tests::a_stalling_epmd_costs_only_its_time`.
pub const EPMD_TIME: Duration = Duration::from_secs(2);

/// Most bytes read of an EPMD's answer: some 10,000 names. Crossed by
/// `epmd::client::tests::an_endless_answer_is_cut`.
pub const EPMD_ANSWER: u64 = 1024 * 1024;

/// Longest request to the EPMD that we serve, in bytes, as `INBUF_SIZE` of the real one allows.
/// Crossed by `epmd::server::tests::who_stalls_or_floods_costs_nobody_else`.
pub const EPMD_REQUEST: usize = 3057;

/// Longest time between two bytes of a request to the EPMD that we serve. The real one allows 60 s.
/// Crossed by `epmd::server::tests::a_request_may_be_slow_but_must_not_stop`.
pub const EPMD_SILENCE: Duration = Duration::from_secs(5);

/// Time for a whole request to the EPMD that we serve: enough for the longest name at two bytes per
/// second. Crossed by `epmd::server::tests::a_request_may_be_slow_but_must_not_stop`.
pub const EPMD_REQUEST_TIME: Duration = Duration::from_secs(600);

/// Connections to our EPMD whose request is not finished, each of which holds up to
/// [`EPMD_REQUEST`] bytes. Beyond that, the user or address that has the most loses its oldest.
/// Crossed by `epmd::server::tests::a_flood_from_one_address_costs_no_other_its_request`.
pub const EPMD_UNFINISHED: usize = 64;

/// Longest name that may be registered with our EPMD, in characters of UTF-8, as with the real one.
/// Crossed by `epmd::protocol::tests::a_name_has_at_most_255_characters`.
pub const EPMD_NAME: usize = 255;

/// Most extra data that a node may register with our EPMD, in bytes, as with the real one.
/// Crossed by `epmd::protocol::tests::extra_data_has_at_most_1020_bytes_and_is_returned`.
pub const EPMD_EXTRA: usize = 1020;

/// Bytes of all names and extra data that are registered with our EPMD. It bounds an answer that
/// lists them. One user has at most half of them, and never more than are free. Crossed by
/// `epmd::protocol::tests::long_names_are_bounded_and_leave_room_for_other_users`.
pub const EPMD_NODES_BYTES: usize = 256 * 1024;

/// Names that may be registered with our EPMD, each of which keeps a connection open. One user has
/// at most half of them, and never more than are free. Crossed by
/// `epmd::protocol::tests::names_are_bounded_and_no_user_keeps_them_from_others`.
pub const EPMD_NODES: usize = 1024;

/// Keepalive of the connection of a registered name: the silence before the first probe, the
/// interval of probes, and how many may go unanswered. Crossed by
/// `epmd::server::tests::the_kernel_checks_connections_that_keep_a_name`.
pub const EPMD_KEEPALIVE: Duration = Duration::from_secs(30);
/// See [`EPMD_KEEPALIVE`]. Crossed by the same.
pub const EPMD_KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// See [`EPMD_KEEPALIVE`]. Crossed by the same.
pub const EPMD_KEEPALIVE_PROBES: u32 = 3;

/// How often this host's EPMD is asked for its names. Crossed by `tests/epmd.rs`,
/// `where_there_is_none_we_serve_one_that_real_nodes_use`.
pub const EPMD_POLL: Duration = Duration::from_millis(500);

/// How long the name of a node must be absent from this host's EPMD before the node has ended: after
/// a restart of EPMD, nodes register again within 2 s. Crossed by
/// `cluster::refusing::tests::a_name_must_be_absent_for_a_while_before_its_node_has_ended`.
pub const EPMD_ABSENCE: Duration = Duration::from_secs(5);

/// Pause before an EPMD that didn't answer is tried again, and before a lost one is (as `erl_epmd` does). Crossed by
/// `tests/boot.rs`, `after_epmd_was_restarted_we_are_registered_as_who_we_were`.
pub const EPMD_RETRY: Duration = Duration::from_secs(2);

/// How often, and with which pause, an EPMD that was just started is tried. Crossed by `tests/boot.rs`,
/// `the_systems_epmd_is_started_where_none_answers`.
pub const EPMD_START_TRIES: u32 = 40;
/// See [`EPMD_START_TRIES`]. Crossed by the same.
pub const EPMD_START_PAUSE: Duration = Duration::from_millis(50);

/// How long a default name that is taken is asked for, before another is taken. Crossed by `tests/boot.rs`,
/// `a_default_name_that_is_taken_gives_way`.
pub const NAME_PATIENCE: Duration = Duration::from_secs(2);

/// Pause before a name that is taken is asked for again. Crossed by `tests/boot.rs`,
/// `an_explicit_name_that_is_taken_is_waited_for`.
pub const NAME_RETRY: Duration = Duration::from_secs(1);

/// Time in which an EPMD should have noticed that we gave a name back. Crossed by
/// `epmd::client::tests::an_epmd_that_keeps_the_connection_of_a_name_is_not_waited_for`.
pub const EPMD_GIVE_BACK: Duration = Duration::from_millis(200);

// ---- Registry, store and layout -------------------------------------------------------------

/// Longest plugin name in bytes. Crossed by `name::tests::each_refusal_has_its_code`.
pub const PLUGIN_NAME: usize = 63;

/// Longest path of a Unix socket in bytes: `sun_path` less its closing NUL. Crossed by
/// `layout::paths::tests::a_socket_path_has_at_most_107_bytes`.
pub const SUN_PATH: usize = 107;

/// Longest run file that is read, in bytes. Crossed by `layout::run_files::tests::a_huge_pid_file_is_not_believed`.
pub const RUN_FILE: usize = 32;

/// How long a home that is held is asked for. Crossed by `layout::run_files::tests::a_hold_that_ends_soon_is_waited_for`.
pub const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Time between the two refusals that prove a socket dead. Crossed by
/// `layout::stale_socket::tests::the_second_look_comes_a_second_later_and_not_before`.
pub const STALE_SOCKET_GAP: Duration = Duration::from_secs(1);

/// How often one recipe looks at a socket that is replaced again and again. Crossed by
/// `layout::stale_socket::tests::a_socket_that_is_replaced_for_ever_is_left`.
pub const STALE_SOCKET_LOOKS: u32 = 8;

/// Connector sockets, and directories of its own, that are listed of a plugin. Crossed by
/// `layout::contents::tests::what_is_listed_is_bounded`.
pub const CONTENTS: usize = 256;

/// Nested directories that a purge holds open. Deeper ones are moved up first. Crossed by
/// `layout::purge::tests::data_of_any_depth_is_removed`.
pub const PURGE_DEPTH: usize = 128;

/// Entries of a directory that are read before they are removed, and failed removals per directory.
/// Crossed by `layout::purge::tests::a_directory_with_much_in_it_is_emptied_page_by_page`.
pub const PURGE_PAGE: usize = 1024;

/// Most plugins of one host. Crossed by `registry::state::tests::registration::plugins_are_bounded`.
pub const PLUGINS: usize = 16 * 1024;

/// Most connected nodes the registry keeps in mind. Crossed by `registry::state::tests::node::nodes_and_announcements_are_bounded`.
pub const REGISTRY_NODES: usize = 4096;

/// Unregistered plugins per daemon start whose directories are made because a node announced them:
/// nodes may announce any number of names. Crossed by
/// `registry::state::tests::node::directories_of_unregistered_plugins_are_bounded`.
pub const UNREGISTERED: usize = 64;

/// Most pairs of plugin and announcing node. Crossed by `registry::state::tests::node::nodes_and_announcements_are_bounded`.
pub const ANNOUNCEMENTS: usize = 4096;

/// How long after its registration a plugin may take to show a sign of life, unless configured. Crossed by
/// `registry::state::tests::socket::silence_after_the_registration_stops_it`.
pub const GRACE: Duration = Duration::from_secs(60);

/// How long stored plugins may wait, after a start, for their nodes. Crossed by
/// `registry::state::tests::start::after_the_time_the_socket_judges`.
pub const JUDGE: Duration = Duration::from_secs(4);

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

/// Plugins whose dead socket or run files are removed at a time, each with two open files for a second; more wait. Crossed by
/// `tests/status.rs`, `of_many_that_die_at_once_few_are_cleared_away_at_a_time`.
pub const CLEAN_UPS: usize = 64;

/// Longest delay before a failed copy of the database is written again. Crossed by
/// `store::backoff::tests::the_delay_doubles_up_to_its_limit`.
pub const COPY_RETRY: Duration = Duration::from_secs(30);

/// Stored events kept; older ones go. Crossed by `store::tests::the_log_is_bounded`.
pub const EVENTS_KEPT: u64 = 10_000;

/// Largest row that is recovered from a damaged database, in bytes: larger than any row of a
/// plugin. Crossed by
/// `store::salvage::tests::a_row_of_any_length_is_followed_through_its_pages_up_to_the_limit`.
pub const SALVAGED_ROW: usize = 64 * 1024;

/// Largest revision that is read or written: the largest integer that every JSON parser represents
/// exactly. Crossed by `store::tests::a_revision_that_has_no_successor_is_damage`.
pub const REVISION: u64 = (1 << 53) - 1;

/// Most stored events read at once. Crossed by `store::tests::events_are_read_in_pages`.
pub const EVENTS_PAGE: usize = 256;

/// Events a follower may lag behind before it reads on in the store. Crossed by `registry::task::tests::a_follower_that_falls_behind_misses_nothing`.
pub const EVENTS_BEHIND: usize = 1024;

/// Most damaged databases set aside in one second. Crossed by `store::tests::aside_names_run_out`.
pub const SET_ASIDE: u32 = 100;

/// How long a statement waits for another process that reads the database. Crossed by
/// `store::tests::a_database_in_use_is_refused`.
pub const STORE_BUSY: Duration = Duration::from_secs(2);

// ---- HTTP -----------------------------------------------------------------------------------

/// Largest request body in bytes. Crossed by `tests/api_bounds.rs`, `a_body_over_the_limit_is_refused_and_the_client_sees_it`.
pub const HTTP_BODY: usize = 64 * 1024;

/// Time for a whole request body. Crossed by `tests/api_bounds.rs`, `a_slow_body_ends_with_408`.
pub const HTTP_BODY_TIME: Duration = Duration::from_secs(10);

/// Time for a whole request head, and how long a connection may idle between two. Crossed by
/// `tests/api_bounds.rs`, `a_slow_head_and_an_idle_connection_are_closed`.
pub const HTTP_HEAD_TIME: Duration = Duration::from_secs(15);

/// Most header fields of a request: the bound that hyper keeps by itself, and more cheaply than one that it is told. Crossed by
/// `tests/api_bounds.rs`, `heads_are_bounded`.
pub const HTTP_HEADERS: usize = 100;

/// Largest request head in bytes. Crossed by `tests/api_bounds.rs`, `heads_are_bounded`.
pub const HTTP_HEAD: usize = 16 * 1024;

/// Most connections served at a time. For one more, the process with the most idle connections
/// loses the one that has been idle longest. Crossed by `tests/api_crowds.rs`,
/// `the_connection_that_was_idle_longest_is_closed`.
pub const HTTP_CONNECTIONS: usize = 256;

/// Connections that wait to be accepted. Further clients block in `connect`, or get `EAGAIN`.
/// Crossed by `api::socket::tests::the_queue_of_unaccepted_connections_is_bounded`.
pub const HTTP_BACKLOG: i32 = 256;

/// Most served connections of one process. Crossed by `tests/api_crowds.rs`,
/// `thousands_of_connections_of_one_process_delay_no_other_client`.
pub const HTTP_SHARE: usize = 128;

/// Most served connections of all processes of one user in pid namespaces that the kernel does not
/// show. Crossed by `api::places::tests::a_process_at_its_share_evicts_only_its_own`.
pub const HTTP_USER_SHARE: usize = 192;

/// Most connections beyond these, which may call only the probes; for one more, the oldest is
/// closed. Crossed by
/// `api::places::tests::limited_connections_are_bounded_and_the_oldest_is_closed`.
pub const HTTP_LIMITED: usize = 256;

/// Largest request head on such a connection in bytes. Crossed by `tests/api_crowds.rs`,
/// `beyond_the_limit_only_probes_are_answered`.
pub const HTTP_LIMITED_HEAD: usize = 8 * 1024;

/// Time for a request head on such a connection. Crossed by `tests/api_crowds.rs`,
/// `beyond_the_limit_only_probes_are_answered`.
pub const HTTP_LIMITED_TIME: Duration = Duration::from_secs(1);

/// Evicted connections that may still be open before another is accepted. Crossed by
/// `tests/api_crowds.rs`, `thousands_of_connections_of_one_process_delay_no_other_client`.
pub const HTTP_CLOSING: usize = 64;

/// Most connections at a time of users who are refused; for one more, the oldest is closed.
/// Crossed by `api::server::tests::strangers_are_refused_and_few`.
pub const HTTP_STRANGERS: usize = 16;

/// How long a client may take nothing of an answer. Crossed by
/// `api::stall::tests::who_takes_nothing_is_given_up`.
pub const HTTP_STALL: Duration = Duration::from_secs(15);

/// How long the rest of a refused body is taken, so that its sender sees the answer. Crossed by
/// `tests/api_bounds.rs`, `an_endless_body_is_not_read_for_ever`.
pub const HTTP_LINGER: Duration = Duration::from_secs(2);

/// How long a call waits for the daemon to be up. Crossed by `tests/api_bounds.rs`, `a_call_waits_only_so_long`.
pub const HTTP_READY: Duration = Duration::from_secs(5);

/// Most streams of events at a time, so that they leave room for calls. Crossed by `tests/api_events.rs`,
/// `a_hundred_follow_at_once_and_too_many_are_refused`.
pub const HTTP_STREAMS: usize = 128;

/// Snapshots of all plugins, at different revisions, that are kept for streams that have not read
/// them. Crossed by `api::listing::tests::few_snapshots_are_kept_for_slow_readers`.
pub const HTTP_SNAPSHOTS: usize = 4;

/// Changes of the cluster that are kept encoded for streams that know different views. Crossed by
/// `api::changes::tests::the_changes_for_streams_that_know_different_views_are_few`.
pub const HTTP_CHANGES: usize = 4;

/// Most event streams of one process. Crossed by `tests/api_events.rs`,
/// `one_process_may_not_have_all_streams`.
pub const HTTP_STREAM_SHARE: usize = 112;

/// How often a stream of events shows that it is alive, as hecate-web expects. Crossed by `tests/api_events.rs`,
/// `a_stream_shows_that_it_is_alive`.
pub const HTTP_HEARTBEAT: Duration = Duration::from_secs(30);

/// Time for a whole call, longer than those within it. Crossed by `tests/api_bounds.rs`, `a_call_ends`.
pub const HTTP_CALL: Duration = Duration::from_secs(30);

/// How long requests may take to end once we stop. Crossed by `tests/api_bounds.rs`, `stopping_does_not_wait_for_ever`.
pub const HTTP_DRAIN: Duration = Duration::from_millis(300);

/// Pause after the socket could not take a connection. Crossed by `tests/log.rs`,
/// `without_descriptors_the_socket_waits`.
pub const HTTP_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Longest version of a plugin in characters. Crossed by
/// `api::wire::tests::a_wrong_field_is_told_by_its_code`.
pub const PLUGIN_VERSION: usize = 128;

/// Longest description of a plugin in characters. Crossed by
/// `api::wire::tests::a_wrong_field_is_told_by_its_code`.
pub const PLUGIN_DESCRIPTION: usize = 4096;

// ---- Daemon ---------------------------------------------------------------------------------

/// How long lines that outsiders can bring about are counted, before it is told how many were left out. Crossed by
/// `tests/log.rs`, `a_storm_on_the_distribution_port_is_a_line_and_a_sum`.
pub const LOG_WINDOW: Duration = Duration::from_secs(10);

/// Lines of nodes that came or went, in each window. Crossed by `log::limit::tests::what_happens_now_and_then_is_written_each_time`.
pub const LOG_NODES: u64 = 100;

/// Lines of what happens to plugins, in each window. Crossed by `tests/log.rs`,
/// `what_happens_to_plugins_is_told_and_does_not_fill_the_log`.
pub const LOG_PLUGINS: u64 = 100;

/// Lines of nodes that could not be connected to, in each window. Crossed by `tests/log.rs`,
/// `names_that_anybody_registers_do_not_fill_the_log`.
pub const LOG_DIALS: u64 = 10;

/// Worker threads of each of the two runtimes, at most. Crossed by
/// `runtimes::tests::workers_are_two_at_least_and_bounded`.
pub const WORKER_THREADS: usize = 8;

/// Blocking threads of the registry and the API: one for each of [`CLEAN_UPS`], and as many more.
/// Crossed by `runtimes::tests::blocking_threads_are_bounded`.
pub const API_BLOCKING_THREADS: usize = 128;

/// Blocking threads of the node: [`RESOLVERS`], [`LARGE_READERS`], and the rest to find the owners
/// of connections. Crossed by `runtimes::tests::blocking_threads_are_bounded`.
pub const NODE_BLOCKING_THREADS: usize = 96;

/// How often the daemon checks its own files, besides before each answer to a change. Crossed by
/// `tests/vanish.rs`, `a_socket_that_is_removed_is_bound_again`.
pub const OWN_FILES: Duration = Duration::from_secs(1);

/// How soon the check that confirms a loss follows the one that found it. Not at once, because an
/// `rm -rf` may still be running. Crossed by `daemon::own_files::tests::a_loss_is_confirmed_soon`.
pub const OWN_FILES_AGAIN: Duration = Duration::from_millis(250);

/// How long a daemon whose home was lost still answers before it ends, so that clients see why.
/// Crossed by `tests/vanish.rs`, `a_home_that_is_removed_ends_the_daemon_and_is_not_made_again`.
pub const HOME_LOST: Duration = Duration::from_secs(2);

/// Grace period of a shutdown. Crossed by `tests/boot.rs`, `a_stop_does_not_wait_for_a_disk_that_is_slow`.
pub const SHUTDOWN_TIME: Duration = Duration::from_millis(900);

/// How long the end waits, after all else, for the service manager to be told. Crossed by `tests/systemd.rs`,
/// `who_reads_nothing_holds_up_nothing`.
pub const NOTIFY_END: Duration = Duration::from_millis(50);

/// Most open files that we let ourselves have, if the system lets us: the soft limit of old, 1,024, is of use to `select` alone,
/// which we don't call. Crossed by `daemon::tests::more_open_files_than_we_need_are_not_asked_for`.
pub const OPEN_FILES: u64 = 65_536;

/// Most names in one problem of `/health` or one finding of `doctor`; beyond that, only the number
/// is shown. Crossed by
/// `daemon::tests::plugins_whose_nodes_fail_alike_are_one_problem` and `cli::doctor::nodes::tests::one_cause_is_one_finding`.
pub const NAMED_AT_ONCE: usize = 5;
