//! The limits of configuration, deployment and clients of the API socket.

use std::time::Duration;

// ---- Configuration --------------------------------------------------------------------------

/// Largest `sys.config`, in bytes. Crossed by `config::tests::an_oversized_file_is_refused`.
pub const SYS_CONFIG: usize = 256 * 1024;

/// Deepest nesting of terms in `sys.config`. Crossed by
/// `config::sys_config::tests::nesting_is_bounded`.
pub const SYS_CONFIG_DEPTH: usize = 64;

/// Most misspelled environment variables that are reported. Crossed by
/// `config::tests::only_the_first_misspelled_variables_are_reported`.
pub const MISSPELLED_VARIABLES: usize = 8;

/// Most elements in a list of the configuration. Crossed by `config::tests::lists_are_bounded`.
pub const CONFIG_LIST: usize = 256;

/// Most bytes of `/etc/group` or `/etc/passwd` that are searched. Crossed by
/// `config::accounts::tests::only_the_beginning_of_a_large_file_is_read`.
pub const ACCOUNTS: usize = 4 * 1024 * 1024;

// ---- Deployment -----------------------------------------------------------------------------

/// Longest name of an image that registries accept, in bytes, without tag and digest. Crossed by
/// `cli::gitops::image::tests::the_name_of_an_image_is_bounded`.
pub const IMAGE_NAME: usize = 255;

/// Largest file that is read from `gitops/`, in bytes. Crossed by `tests/gitops.rs`,
/// `foreign_and_changed_repositories_are_refused`.
pub const GITOPS_FILE: u64 = 1024 * 1024;

// ---- Clients of the socket ------------------------------------------------------------------

/// How long a client waits until the daemon accepts its connection. Crossed by
/// `cli::support::client::tests::a_client_waits_for_a_busy_daemon_and_reports_that_it_is_busy`.
pub const CLIENT_CONNECT: Duration = Duration::from_secs(2);

/// Time for a call of a client, longer than a starting daemon delays a call. Crossed by
/// `cli::support::command::tests::a_silent_daemon_causes_a_timeout`.
pub const CLIENT_TIME: Duration = Duration::from_secs(10);

/// Time that a client waits for a diagnosis, longer than the time limit of the daemon. Crossed by
/// `cli::cluster::diagnose::tests::a_silent_daemon_causes_a_timeout_of_the_diagnosis`.
pub const CLIENT_DIAGNOSIS: Duration = Duration::from_secs(30);

/// Time for a diagnosis without the daemon. Crossed by `tests/diagnosis.rs`,
/// `a_silent_node_delays_the_independent_mode_for_a_limited_time`.
pub const INDEPENDENT_TIME: Duration = Duration::from_secs(15);

/// Largest response that a client reads, in bytes. Crossed by
/// `cli::support::client::tests::an_answer_is_bounded`.
pub const CLIENT_ANSWER: usize = 16 * 1024 * 1024;

/// Largest event that a client reads, in bytes: a snapshot of the maximum number of plugins.
/// Crossed by `cli::support::sse::tests::an_event_is_bounded`.
pub const CLIENT_EVENT: usize = CLIENT_ANSWER;

/// Silence after which a client that follows events considers its connection lost: more than two
/// heartbeats. Crossed by `cli::support::follow::tests::silence_is_a_loss_and_a_heartbeat_is_not`.
pub const CLIENT_SILENCE: Duration = Duration::from_secs(75);

/// Most pairs of bytes that are compared to find a name like a misspelled one, enough for 10,000
/// names of 40 bytes. Crossed by `similar::tests::the_work_is_bounded`.
pub const SUGGESTION_WORK: usize = 16 * 1024 * 1024;
