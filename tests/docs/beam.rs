//! The examples of `docs/beam.md`, run in a real `erl` beside a daemon.

use std::fmt::from_fn;

use serde_json::json;

use super::page;
use super::support::{Host, PATIENCE, wait_for, wait_within};

/// Returns the expressions of the page's Erlang shell, each with its value.
fn examples(text: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    for block in text.split("```erlang\n").skip(1) {
        for line in block.split("```").next().expect("a block").lines() {
            let prompt = line.split_once("> ").filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
            match (prompt, examples.last_mut()) {
                (Some((_, expression)), _) => {
                    examples.push((expression.trim_end_matches('.').to_owned(), String::new()));
                }
                (None, Some((_, value))) => value.push_str(line),
                (None, None) => panic!("no prompt before {line}"),
            }
        }
    }
    examples
}

/// Returns a value without blanks, process identifiers and times.
fn lasting(value: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (mut text, mut rest) = (String::new(), &*value.split_whitespace().collect::<String>());
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let length = rest[start..].find(|c| !is_number(c)).unwrap_or(rest.len() - start);
        let number = &rest[start..start + length];
        let is_identifier_or_time = number.matches('.').count() == 2 && !rest[..start].ends_with('"') || length > 10;
        text.push_str(&rest[..start]);
        text.push_str(if is_identifier_or_time { "N" } else { number });
        rest = &rest[start + length..];
    }
    text + rest
}

#[test]
fn the_examples_of_the_shell_have_the_values_that_are_shown() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let registration =
        json!({"name": "hecate-traderd", "version": "0.1.0", "description": "Trading daemon for Hecate"});
    assert_eq!(host.register(&registration).status, 201);
    let mut erl = host.erl("hecate_traderd");
    wait_for("its node is connected", || host.plugin("hecate-traderd")["reason_code"] == "node_connected");
    let home = host.home().to_str().unwrap();
    let here = |text: &str| text.replace("/home/user", home).replace("@vm", &format!("@{}", host.name));

    let mut bindings = String::new();
    let examples = examples(&page::read("beam.md"));
    for (expression, value) in &examples {
        let (asked, expected) = (
            here(&format!("{bindings}{expression}")),
            here(value).replace("<<\"vm\">>", &format!("<<\"{}\">>", host.name)),
        );
        let mut came = String::new();
        // Its scope meets the daemon's soon after it was started.
        let is_repeatable = expression.contains("pg:get_members");
        wait_within(PATIENCE, from_fn(|f| write!(f, "{asked} is not {expected}")), || {
            came = if is_repeatable { erl.eval(&format!("catch begin {asked} end")) } else { erl.eval(&asked) };
            (!is_repeatable || came.starts_with('[')).then_some(())
        });
        assert_eq!(lasting(&came), lasting(&expected), "{asked}");
        if expression.starts_with('[') {
            bindings.push_str(&format!("{expression}, "));
        }
    }
    assert_eq!(examples.len(), 13, "all were found");
}
