//! Runs the code in `docs/plugins-any-language.md`: the plugins in Python and Node.js against the
//! daemon, and the request in each language that `make deps` installs.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Host, Output, Process, wait_for};

const PLUGIN: &str = "hecate-clockd";

/// The plugin's version in the guide.
const VERSION: &str = "0.1.0";

const SHORT_GRACE: [(&str, &str); 1] = [("HECATE_REGISTRATION_GRACE", "1")];

const INSTALL: &str = "`make deps` installs it";

fn guide() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plugins-any-language.md")).unwrap()
}

/// Returns the first code block after `heading`.
fn code(heading: &str) -> String {
    let guide = guide();
    let (_, section) = guide.split_once(heading).unwrap_or_else(|| panic!("the guide has no {heading:?}"));
    let (_, block) = section.split_once("```").expect("a code block");
    let (_, block) = block.split_once('\n').expect("a language");
    block.split_once("```").expect("the end of the code block").0.to_owned()
}

/// A language of the guide that has a complete plugin.
struct Language {
    heading: &'static str,
    file: &'static str,
    interpreter: &'static str,
}

const PYTHON: Language = Language { heading: "## Example in Python\n", file: "clockd.py", interpreter: "python3" };
const NODE: Language = Language { heading: "## Example in Node.js\n", file: "clockd.mjs", interpreter: "node" };

/// A running plugin of the guide.
struct Plugin {
    process: Process,
    out: Output,
}

impl Plugin {
    fn start(host: &Host, language: &Language) -> Self {
        Self::start_version(host, language, VERSION)
    }

    fn start_version(host: &Host, language: &Language, version: &str) -> Self {
        let file = host.home().join(language.file);
        std::fs::write(&file, code(language.heading).replace(VERSION, version)).unwrap();
        let mut command = Command::new(language.interpreter);
        command.arg(file).env("HOME", host.home()).stdin(Stdio::null()).stdout(Stdio::piped());
        for setting in ["HECATE_HOME", "HECATE_SOCKET_PATH"] {
            command.env_remove(setting);
        }
        let mut process = Process::start(&mut command, INSTALL);
        let out = Output::collect(process.pipes().stdout.take().unwrap(), Some);
        Self { process, out }
    }

    fn registered(&self) {
        wait_for("the plugin serves", || self.out.text().lines().any(|line| line == "registered"));
    }
}

fn run_file(host: &Host, name: &str) -> PathBuf {
    host.namespace(PLUGIN).join("run").join(name)
}

/// Checks each promise of the guide with the plugin of one language.
fn does_what_the_guide_demands(language: &Language) {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut plugin = Plugin::start(&host, language);
    wait_for("the plugin retries", || plugin.out.text().lines().count() > 1);
    let daemon = host.daemon(&SHORT_GRACE);
    daemon.ready();
    plugin.registered();

    // Only a socket that answers keeps a plugin running.
    assert_eq!(host.grace_passes()["reason_code"], "no_sign_of_life");
    host.plugin_until(PLUGIN, "running");
    wait_for("the plugin prints events", || plugin.out.text().contains("plugin_status_changed_v1 hecate-silentd"));

    let socket = host.api_sock(PLUGIN);
    let metadata = std::fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let mut curl = Command::new("curl");
    let output = curl.args(["-sf", "--unix-socket"]).arg(&socket).arg("http://localhost/health").output().unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), json!({"status": "healthy"}));
    assert_eq!(std::fs::read_to_string(run_file(&host, "daemon.pid")).unwrap(), plugin.process.id().to_string());
    assert_eq!(std::fs::read_to_string(run_file(&host, "daemon.state")).unwrap(), "running");

    // A new daemon with an empty database gets the registration again.
    daemon.kill();
    std::fs::remove_dir_all(host.namespace("hecate-daemon").join("sqlite")).unwrap();
    let daemon = host.daemon(&SHORT_GRACE);
    daemon.ready();
    wait_for("the plugin registers again", || host.ask("GET", "/api/plugins/hecate-clockd").status == 200);
    host.grace_passes();
    host.plugin_until(PLUGIN, "running");

    // A second instance of another version ends without a trace.
    let registered_at = host.plugin(PLUGIN)["registered_at"].clone();
    let mut second = Plugin::start_version(&host, language, "0.2.0");
    assert!(!second.process.ended("a second instance ends").success());
    assert!(socket.exists(), "the socket of the first instance stays");
    let entry = host.plugin(PLUGIN);
    assert_eq!((&entry["version"], &entry["registered_at"]), (&json!(VERSION), &registered_at));

    // A killed plugin leaves a dead socket, which its next start replaces.
    plugin.process.kill();
    assert_eq!(host.plugin_until(PLUGIN, "stopped")["reason_code"], "socket_refuses");
    wait_for("the daemon removes the run files", || !run_file(&host, "daemon.pid").exists());
    assert!(!run_file(&host, "daemon.state").exists());
    let mut plugin = Plugin::start(&host, language);
    plugin.registered();
    host.grace_passes();
    host.plugin_until(PLUGIN, "running");

    // As Ctrl-C does.
    plugin.process.signal(rustix::process::Signal::INT);
    assert!(plugin.process.ended("the plugin ends").success());
    for file in [socket, run_file(&host, "daemon.pid"), run_file(&host, "daemon.state")] {
        assert!(!file.exists(), "{}", file.display());
    }
    assert_eq!(host.plugin_until(PLUGIN, "stopped")["reason_code"], "socket_gone");
    daemon.terminate();
}

#[test]
fn the_python_plugin_of_the_guide_works() {
    does_what_the_guide_demands(&PYTHON);
}

#[test]
fn the_node_js_plugin_of_the_guide_works() {
    does_what_the_guide_demands(&NODE);
}

#[test]
fn a_socket_that_answers_again_makes_a_stopped_plugin_run_without_registration() {
    let (host, _epmd, _daemon) = Host::running(&SHORT_GRACE);
    host.register_named(PLUGIN);
    let first = support::plugin::bound(&host.api_sock(PLUGIN));
    support::plugin::listen(&first);
    host.grace_passes();
    host.plugin_until(PLUGIN, "running");
    let registered_at = host.plugin(PLUGIN)["registered_at"].clone();
    drop(first);
    host.plugin_until(PLUGIN, "stopped");
    wait_for("the daemon removes the dead socket", || !host.api_sock(PLUGIN).exists());

    let second = support::plugin::bound(&host.api_sock(PLUGIN));
    support::plugin::listen(&second);
    assert_eq!(host.plugin_until(PLUGIN, "running")["registered_at"], registered_at);
}

#[test]
fn the_requests_of_the_guide_work() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    host.register_named(PLUGIN);
    let expected = host.ask("GET", "/api/plugins").body;
    for language in ["curl", "Python", "Node.js", "Perl"] {
        let line = code(&format!("\n{language}:\n"));
        let mut sh = Command::new("sh");
        let output = sh.args(["-c", &line]).env("S", host.socket()).output().unwrap();
        assert!(output.status.success(), "{language}: {output:?}. {INSTALL}");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), expected, "{language}");
    }
}
