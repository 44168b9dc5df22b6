//! Lists the tests of each attack and misuse that once succeeded. Attacks that can run beside
//! others and beside a well-behaved client are also in `attacks.rs`.

use std::path::Path;

/// A fault, and the tests that reproduce it, each with its file and its name.
type Held = (&'static str, &'static [(&'static str, &'static str)]);

const HELD: &[Held] = &[
    (
        "own files vanish, and registrations with them",
        &[
            ("tests/vanish.rs", "a_registration_after_the_database_was_removed_survives_a_restart"),
            ("tests/vanish.rs", "a_backup_that_is_restored_over_the_database_is_used_by_the_next_start"),
            ("tests/vanish.rs", "a_replaced_database_is_reported_without_a_registration"),
            ("src/store/vanished/tests.rs", "a_copy_of_the_state_is_kept_at_each_replacement"),
            ("src/registry/task/tests/home.rs", "a_replaced_database_is_reported_until_it_is_moved_away"),
            ("tests/vanish.rs", "a_directory_that_was_replaced_by_a_link_is_reported"),
            ("src/layout/run_files.rs", "all_files_are_written_again_after_run_was_removed"),
            ("tests/vanish.rs", "a_removed_socket_is_bound_again"),
            ("tests/vanish.rs", "a_foreign_socket_at_our_path_is_reported_and_left_alone"),
            ("tests/vanish.rs", "a_removed_home_ends_the_daemon_and_is_not_created_again"),
            ("tests/vanish.rs", "a_replaced_home_ends_the_daemon_and_is_left_alone"),
            ("tests/doctor.rs", "files_that_a_running_daemon_lost_are_reported"),
            ("tests/siege.rs", "refused_requests_and_a_removed_socket_delay_no_client"),
        ],
    ),
    (
        "a damaged database empties the registry",
        &[
            ("tests/database.rs", "a_damaged_database_is_set_aside_and_reported_until_it_is_moved_away"),
            ("src/store/salvage/tests.rs", "a_damaged_page_loses_only_its_own_rows"),
        ],
    ),
    (
        "a purge deletes data without a confirmation, or reports more than it deleted",
        &[
            ("tests/cli.rs", "each_command_works_with_a_running_daemon"),
            ("tests/cli.rs", "purge_asks_for_confirmation_on_a_terminal"),
            ("src/layout/purge.rs", "data_of_any_depth_is_removed"),
            ("src/layout/purge.rs", "entries_that_cannot_be_removed_are_named_and_the_rest_is_removed"),
        ],
    ),
    (
        "a stored time ends every listing",
        &[
            ("tests/database.rs", "invalid_stored_times_are_shown_as_the_nearest_valid_time"),
            ("src/store/tests.rs", "times_and_revisions_that_cannot_be_stored_are_refused_on_write"),
        ],
    ),
    (
        "one machine blocks upgrades, and a denied socket stops a plugin",
        &[
            ("src/registry/state/tests/socket.rs", "a_denied_connection_changes_only_the_reason"),
            ("src/cli/gitops/templates.rs", "a_stopped_machine_does_not_block_the_upgrade_of_another"),
            ("erlang_test/test/hecate_siege_SUITE.erl", "the_socket_follows_the_directory_of_sockets"),
        ],
    ),
    (
        "a node without the cookie reflects our own challenge",
        &[
            ("tests/handshake/challenges.rs", "our_own_challenge_is_not_answered_to_a_node_that_we_dial"),
            ("tests/handshake/challenges.rs", "a_challenge_for_one_node_that_we_dial_is_not_answered_to_another"),
            ("tests/handshake/challenges.rs", "our_own_challenge_is_not_answered_after_alive"),
            ("tests/handshake/challenges.rs", "a_diagnosis_does_not_answer_a_challenge_of_our_node"),
            ("tests/siege.rs", "silent_and_reflecting_handshakes_delay_no_client"),
        ],
    ),
    (
        "names and texts drive a terminal",
        &[
            ("tests/escapes.rs", "odd_names_in_epmd_and_in_handshakes_are_neither_dialled_nor_shown"),
            ("tests/escapes.rs", "texts_that_an_older_version_stored_load_and_are_shown_escaped"),
            ("tests/siege.rs", "hostile_names_in_epmd_reach_no_terminal"),
        ],
    ),
    (
        "wrong nodes, hosts and responses are accepted",
        &[
            ("tests/escapes.rs", "nodes_that_no_plugin_can_run_as_are_refused"),
            ("tests/api_contract.rs", "a_request_has_exactly_one_host"),
            ("tests/siege.rs", "refused_requests_and_a_removed_socket_delay_no_client"),
            ("erlang_test/test/hecate_siege_SUITE.erl", "a_registration_for_another_plugin_or_place_is_refused"),
        ],
    ),
    (
        "another user takes the daemon's names in EPMD",
        &[("tests/boot.rs", "a_user_who_registers_the_default_names_cannot_block_the_daemon")],
    ),
    (
        "a message costs more than its bytes",
        &[
            ("tests/pressure.rs", "the_cost_of_a_leave_is_linear_in_its_bytes"),
            ("src/cluster/hosts/reports.rs", "snapshots_and_events_cost_n_log_n"),
            ("tests/siege.rs", "leaves_of_many_processes_from_many_groups_delay_no_client"),
        ],
    ),
    (
        "a busy node starves HTTP and other peers",
        &[
            ("tests/pressure.rs", "a_busy_node_occupies_no_thread_of_the_api"),
            ("src/beam/node/machine/tests/backlog.rs", "a_large_sync_delays_a_ping_by_one_step"),
            ("src/beam/node/machine/tests/served.rs", "large_arguments_are_not_decoded"),
            ("tests/siege.rs", "large_arguments_of_calls_delay_no_client"),
        ],
    ),
    (
        "connections block other clients",
        &[
            ("tests/api_crowds.rs", "thousands_of_connections_of_many_processes_delay_no_other_client"),
            ("tests/api_crowds.rs", "connections_that_close_and_reopen_reset_no_complete_request"),
            ("tests/api_crowds.rs", "beyond_the_limit_only_probes_are_answered"),
            ("tests/siege.rs", "idle_and_unread_connections_delay_no_client"),
            ("erlang_test/test/hecate_siege_SUITE.erl", "clients_that_do_nothing_block_no_other"),
        ],
    ),
    (
        "memory is bounded per peer only",
        &[
            ("tests/budget.rs", "unfinished_frames_of_many_peers_stay_within_the_budget"),
            ("tests/budget.rs", "fragments_of_several_peers_stay_within_the_budget"),
            ("tests/budget.rs", "memory_returns_after_large_messages"),
            ("tests/siege.rs", "unfinished_frames_of_many_peers_share_one_budget"),
            ("tests/siege.rs", "unfinished_fragments_of_many_peers_share_one_budget"),
        ],
    ),
    (
        "announced names create directories without limit",
        &[
            ("tests/layout.rs", "a_node_that_announces_many_plugins_gets_few_directories"),
            ("tests/siege.rs", "groups_of_unregistered_names_create_few_directories"),
        ],
    ),
    (
        "floods before authentication keep honest nodes out",
        &[
            ("src/beam/fair.rs", "a_flood_from_one_source_displaces_only_itself"),
            ("tests/siege.rs", "silent_and_reflecting_handshakes_delay_no_client"),
            ("tests/siege.rs", "unfinished_requests_to_epmd_delay_no_node"),
        ],
    ),
    (
        "unread streams and many plugins cost memory, time and threads",
        &[
            ("tests/api_crowds.rs", "unread_streams_share_a_few_snapshots"),
            ("src/api/listing.rs", "the_plugins_of_health_share_their_bytes"),
            ("src/api/changes.rs", "all_streams_share_the_events_of_a_change"),
            ("src/runtimes.rs", "blocking_threads_are_bounded"),
            ("tests/siege.rs", "unread_streams_delay_no_client"),
        ],
    ),
    (
        "a plugin whose node is not connected looks well",
        &[
            ("tests/status.rs", "a_node_with_another_cookie_is_shown_as_not_connected"),
            ("tests/doctor.rs", "stopped_plugins_and_unconnected_nodes_are_reported"),
            ("tests/doctor.rs", "a_cookie_file_that_changed_after_the_start_is_reported"),
        ],
    ),
    (
        "followers outlive their readers",
        &[
            ("tests/cli.rs", "events_ends_when_its_reader_closes_even_without_an_event"),
            ("tests/api_events.rs", "a_client_that_leaves_frees_its_stream_at_once"),
            ("tests/siege.rs", "refused_requests_and_a_removed_socket_delay_no_client"),
        ],
    ),
];

#[test]
fn the_tests_of_each_attack_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for (fault, tests) in HELD {
        for (file, name) in *tests {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            let is_test = |line: &str| {
                // A test in Rust, or a case of Common Test, whose argument is its configuration.
                line.contains(&format!("fn {name}(")) || line.starts_with(&format!("{name}(Config) ->"))
            };
            if !text.lines().any(is_test) {
                missing.push(format!("{fault}: {name} in {file}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
