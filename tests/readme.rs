//! The README: its commands run as written, their output matches the README, and the README stays
//! short.
//!
//! The commands are the lines after `$` in its `console` blocks, and the lines after an Erlang
//! prompt. They run in order, in a shell with a new `HOME`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;

use std::path::Path;
use std::process::Command;

use support::Host;
use support::daemon::Daemon;
use support::erl::Erl;

/// A command, and the output that the README shows after it.
#[derive(Debug)]
struct Step {
    command: String,
    shown: String,
    /// Whether the command is an expression in an Erlang shell.
    erlang: bool,
}

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// Returns the expression after an Erlang prompt, such as `(name@host)1> nodes().`
fn expression(line: &str) -> Option<&str> {
    let (_, expression) = line.strip_prefix('(')?.split_once("> ")?;
    Some(expression.trim_end_matches('.'))
}

/// Returns the steps of each console block. A command continues after a line that ends in a
/// backslash.
fn blocks(readme: &str) -> Vec<Vec<Step>> {
    let mut blocks: Vec<Vec<Step>> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for line in readme.lines() {
        if line == "```console" {
            inside = true;
            blocks.push(Vec::new());
            continue;
        }
        inside &= line != "```";
        if !inside {
            continue;
        }
        let steps = blocks.last_mut().unwrap();
        let command = line.strip_prefix("$ ").map(|command| (command, false));
        match (command.or(expression(line).map(|expression| (expression, true))), steps.last_mut()) {
            (Some((command, erlang)), _) => {
                steps.push(Step { command: command.to_owned(), shown: String::new(), erlang });
                continued = line.ends_with('\\');
            }
            (None, Some(step)) if continued => {
                step.command = format!("{}\n{line}", step.command);
                continued = line.ends_with('\\');
            }
            (None, Some(step)) => step.shown.extend([line, "\n"]),
            (None, None) => panic!("a console block begins with a command: {line}"),
        }
    }
    blocks
}

/// Removes what differs from run to run: times, ages, and the widths of columns that contain them.
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

/// Removes line breaks and the numbers of pids.
fn lasting_term(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    let mut parts = text.split('<');
    let mut lasting = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('>') {
            Some((pid, rest)) if pid.chars().all(|c| c.is_ascii_digit() || c == '.') => {
                lasting.extend(["PID", rest]);
            }
            _ => lasting.extend(["<", part]),
        }
    }
    lasting
}

/// Runs the tour.
struct Tour {
    host: Host,
    daemon: Option<Daemon>,
    /// The node of a plugin, with the plugin's name.
    node: Option<(Erl, String)>,
    /// Shell variables that earlier commands have set.
    variables: String,
    /// Erlang variables, each with the expression that replaces it.
    bindings: Vec<(String, String)>,
    ran: Vec<String>,
}

impl Tour {
    /// Replaces the user and the host of the README by those of the test.
    fn here(&self, text: &str) -> String {
        text.replace("/home/user", self.host.home().to_str().unwrap()).replace("@vm", &format!("@{}", self.host.name))
    }

    fn run(&mut self, step: &Step) {
        match step.command.split_whitespace().next().unwrap() {
            _ if step.erlang => self.evaluate(step),
            // The two commands for developers.
            "make" | "cargo" => {}
            "hecate-daemon" if self.daemon.is_none() => {
                let started = self.host.daemon(&[]);
                started.ready();
                assert_eq!(started.ready_line().unwrap(), self.here(step.shown.trim_end()));
                self.daemon = Some(started);
            }
            "erl" => {
                let name = step.command.rsplit(' ').next().unwrap();
                let node = self.host.erl(name);
                let plugin = name.replace('_', "-");
                support::wait_for("the daemon connects to the plugin's node", || {
                    self.host.plugin(&plugin)["node_state"] == "connected"
                });
                self.node = Some((node, plugin));
            }
            _ if step.command.starts_with("S=") => self.variables = format!("{}\n", step.command),
            _ => self.shell(step),
        }
        self.ran.push(step.command.clone());
    }

    fn shell(&self, step: &Step) {
        let programs = Path::new(env!("CARGO_BIN_EXE_hecate-daemon")).parent().unwrap().display();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("{}{}", self.variables, step.command)]);
        sh.env_clear().env("HOME", self.host.home()).env("PATH", path).current_dir(self.host.home());
        let output = sh.output().unwrap();
        assert!(output.status.success(), "{}\n{output:?}", step.command);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.ends_with('\n'), "the output ends with a newline: {printed:?}");
        assert_eq!(lasting(&printed), lasting(&self.here(&step.shown)), "the output (left) of {}", step.command);
    }

    fn evaluate(&mut self, step: &Step) {
        let mut expression = self.here(&step.command);
        for (variable, value) in &self.bindings {
            expression = expression.replace(variable, value);
        }
        if let Some((variable, value)) = expression.strip_prefix('[').and_then(|list| list.split_once("] = ")) {
            self.bindings.push((variable.to_owned(), format!("hd({value})")));
            expression = value.to_owned();
        }
        let (node, _) = self.node.as_mut().expect("an Erlang shell");
        if expression.contains("pg:get_members") {
            support::wait_for("the proxy is in its group", || node.eval(&expression).contains('<'));
        }
        let value = node.eval(&expression);
        assert_eq!(lasting_term(&value), lasting_term(&self.here(&step.shown)), "the value (left) of {expression}");
    }
}

#[test]
fn the_tour_is_true() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut tour =
        Tour { host, daemon: None, node: None, variables: String::new(), bindings: Vec::new(), ran: Vec::new() };
    for (number, steps) in blocks(&readme()).iter().enumerate() {
        for step in steps {
            tour.run(step);
        }
        // The reader ends the node after the block that follows its own.
        if steps.iter().all(|step| !step.erlang)
            && let Some((node, plugin)) = tour.node.take()
        {
            node.kill();
            tour.host.plugin_until(&plugin, "stopped");
            tour.ran.push(format!("end of the node in block {number}"));
        }
    }
    let count = |program: &str| tour.ran.iter().filter(|command| command.starts_with(program)).count();
    for (program, least) in [("curl", 1), ("ls", 1), ("hecate-daemon", 5), ("erl ", 1), ("pg:", 1), ("end", 1)] {
        assert!(count(program) >= least, "{program} was found: {:#?}", tour.ran);
    }
}

/// A reader decides within 20 seconds, and tries it within five minutes.
#[test]
fn the_readme_is_short() {
    const LINES: usize = 180;
    const WORDS: usize = 1_500;
    const COLUMNS: usize = 100;
    let readme = readme();
    assert!(readme.lines().count() <= LINES, "{} lines", readme.lines().count());
    let words = readme.split_whitespace().count();
    assert!(words <= WORDS, "{words} words");
    let mut is_output = false;
    for line in readme.lines() {
        is_output = match line {
            "```" => false,
            _ if line.starts_with("```") => true,
            _ => is_output,
        };
        let is_table = line.starts_with('|');
        let is_command = line.starts_with("$ ");
        assert!((is_output && !is_command) || is_table || line.chars().count() <= COLUMNS, "too long: {line}");
    }
}

/// `docs/assets/tour.svg` is a picture of the tour: it shows only lines that are in the README.
#[test]
fn the_picture_of_the_tour_is_true() {
    let svg = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/assets/tour.svg")).unwrap();
    let text = readme();
    let mut lines = 0;
    for line in svg.lines().filter(|line| line.starts_with("<text class=\"line")) {
        let content = line.split('>').skip(1).filter_map(|part| part.split('<').next()).collect::<String>();
        let shown = content.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
        let shown = shown.trim_end_matches('\u{2026}');
        assert!(text.lines().any(|line| line.starts_with(shown)), "not in the README: {shown}");
        lines += 1;
    }
    assert!(lines > 20, "{lines} lines were found");
}
