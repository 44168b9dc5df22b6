//! The whole user interface of the command line, as text files in `tests/cli/`: the help, the
//! errors, the tables and the prompts. The tests compare the files with the built program, which
//! uses a real daemon and a real Erlang node. `SNAPSHOTS=overwrite cargo test --test cli_snapshots`
//! rewrites the files, and `docs/cli.md`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;
#[path = "support/transcript.rs"]
mod transcript;

use std::fmt::Write as _;

use serde_json::{Value, json};
use support::Host;
use transcript::{Transcript, matches};

/// Every command, with its subcommands, as the words after `hecate-daemon`.
fn commands(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
    found.push((words.to_owned(), command.clone()));
    for subcommand in command.get_subcommands() {
        let words = format!("{words} {}", subcommand.get_name());
        commands(subcommand, words.trim_start(), found);
    }
}

fn all_commands() -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    commands(&hecate_daemon::cli::command(), "", &mut found);
    found
}

#[test]
fn the_help_of_every_command() {
    let host = Host::new();
    for (words, command) in all_commands() {
        let mut transcript = Transcript::new(&host);
        let name = if words.is_empty() { "hecate-daemon".to_owned() } else { words.replace(' ', "-") };
        for flag in ["-h", "--help"] {
            let line = format!("{words} {flag}");
            let text = transcript.run(line.trim_start());
            let too_long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
            assert!(too_long.is_empty(), "{words}: more than 100 columns: {too_long:#?}");
            assert!(flag == "-h" || text.contains("\nExamples:\n"), "{words} has no examples");
        }
        assert!(command.get_about().is_some(), "{words} has no summary");
        matches(transcript, &format!("help/{name}"));
    }
}

#[test]
fn the_usual_errors() {
    let host = Host::new();
    let mut transcript = Transcript::new(&host);
    for line in [
        "plugins",
        "status --json",
        "healthcheck",
        "trace hecate_traderd@beam00",
        "pluginz",
        "plugins --jsn",
        "register",
        "plugin ''",
        "diagnose hecate-traderd",
        "completions tcsh",
        "--home /tmp plugins",
        "--dir-mode 9",
        "run --log-format xml",
        "--config /nowhere/sys.config",
        "purge hecate-traderd",
        "gitops status",
        "gitops add hecate-traderd --image hecate-traderd",
        "gitops add trader --image trader:1",
    ] {
        transcript.run(line);
    }
    matches(transcript, "errors");
}

/// A daemon with two plugins, of which one has a connected node.
#[test]
fn the_commands_with_a_running_daemon() {
    let (host, _epmd, _daemon) = Host::running(&[("HECATE_LISTEN", "127.0.0.1")]);
    let mut transcript = Transcript::new(&host);
    let node = host.node("hecate_traderd");
    transcript.run("plugins");
    transcript.run("register hecate-traderd --version 1.2.0 --description 'Trades energy'");
    transcript.run("register hecate-weatherd");
    let _erl = host.erl("hecate_traderd");
    support::wait_for("the plugin's node is connected and measured", || {
        let cluster = host.ask("GET", "/api/cluster").body;
        let measured = |peer: &Value| !peer["round_trip_ms"].is_null() && !peer["net_ticktime"].is_null();
        host.plugin("hecate-traderd")["reason_code"] == "node_connected"
            && cluster["peers"].as_array().unwrap().iter().all(measured)
    });
    let release = host.ask("GET", "/api/cluster").body["peers"][0]["otp_release"].as_str().unwrap().to_owned();
    transcript.hide(&release, "[OTP]");
    for line in [
        "plugins",
        "plugins --cluster",
        "plugin hecate-traderd",
        "paths hecate-traderd",
        "status",
        "healthcheck",
        "cluster",
        "doctor",
        &format!("diagnose {node}"),
        "purge hecate-wetherd --yes",
        &format!("diagnose {}", host.node("hecate_tradrd")),
        &format!("diagnose {node} --independent"),
        "--check-config",
        "plugin hecate-trader",
        "paths unlike-any-other-d",
        "register hecate-traderw",
        &format!("register hecate-otherd --node {}", host.node("hecate")),
        "purge hecate-traderd --yes",
        "deregister hecate-wetherd",
        "deregister hecate-weatherd",
    ] {
        transcript.run(line);
    }
    transcript.first_lines("events", 1);
    transcript.first_lines(&format!("trace {}", host.node("hecate_tradrd")), 1);
    matches(transcript, "daemon");
}

#[test]
fn the_prompts() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    host.register_named("hecate-traderd");
    let mut transcript = Transcript::new(&host);
    transcript.run("deregister hecate-traderd");
    transcript.run("purge hecate-traderd");
    transcript.on_a_terminal("purge hecate-traderd", "n\n");
    transcript.on_a_terminal("purge hecate-traderd", "y\n");
    transcript.on_a_terminal("purge hecate-traderd", "y\n");
    matches(transcript, "prompts");
}

#[test]
fn the_deployment() {
    let host = Host::new();
    let mut transcript = Transcript::new(&host);
    for line in [
        "gitops init",
        "gitops init",
        "gitops add hecate-traderd --uid 1001 --image registry.example/hecate-traderd:0.1.0",
        "gitops status",
        "gitops remove hecate-tradred",
        "gitops remove hecate-traderd",
    ] {
        transcript.run(line);
    }
    matches(transcript, "gitops");
}

/// The program prints the document that the daemon serves.
#[test]
fn openapi_prints_the_served_document() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let served = host.ask("GET", "/openapi.json");
    let printed = Transcript::new(&host).run("openapi");
    assert!(printed.trim_end() == served.text.trim_end(), "the documents differ");
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["info"]["title"], json!("hecate-daemon"));
}

/// `docs/cli.md`, generated from the definition of the command line.
#[test]
fn the_reference_is_current() {
    let mut page = "\
# Command line

For operators and authors of plugins: every command of `hecate-daemon`, with its options and
examples. This is the output of `hecate-daemon COMMAND --help`; `tests/cli_snapshots.rs` generates
the page.

- **Colours** appear only on a terminal, and not if `NO_COLOR` is set.
- **`--json`** prints the response of the API on one line. `cluster` merges two responses into one
  object, those of `GET /api/cluster` and `GET /api/cluster/plugins`. `events` and `trace` print one
  object per line. `doctor`, `gitops` and `diagnose --independent` print one object, which is not a
  response of the API.
- **`events`** runs until its output is closed, and **`trace`** until Ctrl-C.
"
    .to_owned();
    for (words, mut command) in all_commands() {
        let title = format!("hecate-daemon {words}");
        let name = title.trim_end().to_owned();
        let help = command.clone().bin_name(name.clone()).render_long_help().to_string();
        let about = command.get_about().unwrap().to_string();
        let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        write!(page, "\n## {name}\n\n{about}.\n\n```text\n{help}```\n").unwrap();
        command.build();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    snapbox::Assert::new().action_env("SNAPSHOTS").eq(page, snapbox::Data::read_from(path.as_ref(), None).raw());
}
