//! The README's commands, run as written: every line behind `$` in its console blocks that needs no other program than curl, ls and
//! ours, in order, in a shell whose `HOME` is a new one. What it shows must be what comes.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;

use std::process::Command;

use support::Host;

/// One command with what the README shows behind it.
struct Step {
    command: String,
    shown: String,
}

/// The steps of all console blocks, in order. A command goes on after a line that ends in a backslash.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut begun, mut continued) = (false, false, false);
    for line in readme.lines() {
        match line {
            "```console" => (inside, begun) = (true, false),
            "```" => inside = false,
            _ if !inside => {}
            _ if continued => {
                let step = steps.last_mut().unwrap();
                step.command.push('\n');
                step.command.push_str(line);
                continued = line.ends_with('\\');
            }
            _ if line.starts_with("$ ") => {
                steps.push(Step { command: line[2..].to_owned(), shown: String::new() });
                begun = true;
                continued = line.ends_with('\\');
            }
            // A block that begins with an Erlang prompt belongs to no command.
            _ if begun => {
                let step = steps.last_mut().unwrap();
                step.shown.push_str(line);
                step.shown.push('\n');
            }
            _ => {}
        }
    }
    steps
}

/// A text without what differs from run to run: times, how long ago they were, and how wide columns are for it.
fn lasting(text: &str) -> String {
    let is_time = |word: &str| word.len() > 18 && word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    let lines = text.lines().map(|line| {
        let pieces: Vec<&str> = line.split('"').map(|piece| if is_time(piece) { "TIME" } else { piece }).collect();
        let line = pieces.join("\"");
        let words = line.split_whitespace().map(|word| if is_time(word) { "TIME" } else { word });
        let mut line = words.collect::<Vec<_>>().join(" ");
        while let Some(start) = line.find("TIME (") {
            let end = line[start..].find(')').expect("an age ends");
            line.replace_range(start..=start + end, "TIME AGO");
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_readme_is_true() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let host = Host::new();
    let _epmd = host.epmd();
    let home = host.home().to_str().unwrap();
    let here = |text: &str| text.replace("/home/user", home).replace("@vm", &format!("@{}", host.name));
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_hecate-daemon")).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());

    let mut daemon = None;
    let mut variables = String::new();
    let mut ran = Vec::new();
    for Step { command, shown } in steps(&readme) {
        match command.split_whitespace().next().unwrap() {
            // The two commands of its first section, of which the one has no output to hold it to.
            "make" => {}
            "cargo" if shown.is_empty() || daemon.is_some() => {}
            "cargo" => {
                let started = host.daemon(&[]);
                started.ready();
                assert_eq!(started.ready_line().as_deref(), Some(here(shown.trim_end()).as_str()));
                daemon = Some(started);
            }
            // What the README shows of its shell, other tests hold to it. Here it is there, and is killed.
            "erl" => {
                let name = command.rsplit(' ').next().unwrap();
                let erl = host.erl(name);
                let plugin = name.replace('_', "-");
                support::wait_for("it is the plugin's node", || host.plugin(&plugin)["node"] == host.node(name));
                erl.kill();
                host.plugin_until(&plugin, "stopped");
            }
            _ if command.starts_with("S=") => {
                variables = format!("{command}\n");
            }
            _ => {
                let mut sh = Command::new("sh");
                sh.args(["-c", &format!("{variables}{command}")]);
                sh.env_clear().env("HOME", host.home()).env("PATH", &path).current_dir(host.home());
                let output = sh.output().unwrap();
                assert!(output.status.success(), "{command}\n{output:?}");
                let came = String::from_utf8(output.stdout).unwrap();
                assert_eq!(lasting(&came), lasting(&here(&shown)), "what comes (left) of {command}");
                ran.push(command);
            }
        }
    }
    let of = |program: &str| ran.iter().filter(|command| command.starts_with(program)).count();
    assert!(of("curl") >= 4 && of("ls") >= 1 && of("hecate-daemon") >= 3, "the commands were found: {ran:#?}");
}
