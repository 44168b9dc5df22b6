//! `docs/configuration.md` shows every setting.

use std::fmt::Write;

use hecate_daemon::config::settings::{SETTINGS, Setting};

use super::page;

#[test]
fn the_page_has_every_setting_with_its_default_and_its_help() {
    let mut table = "| flag | variable | file key | default | meaning |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for setting in SETTINGS {
        let Setting { flag, env, key, value, .. } = setting;
        let flag = flag.map_or("none".to_owned(), |flag| format!("`--{flag} {value}`"));
        let variables: Vec<String> = env.iter().map(|name| format!("`{name}`")).collect();
        let key = key.map_or("none".to_owned(), |key| format!("`{key}`"));
        let (meaning, default) = parts(setting);
        writeln!(table, "| {flag} | {} | {key} | {default} | {meaning} |", variables.join(", ")).unwrap();
    }
    page::hold("configuration.md", "settings", &table);
}

/// Returns the help of a setting, and the default in it.
fn parts(setting: &Setting) -> (String, String) {
    // It has no flag, and so no help.
    if setting.flag.is_none() {
        return ("The cookie of the cluster. See [The cookie](#the-cookie)".to_owned(), "a file".to_owned());
    }
    let details = if setting.details.is_empty() { String::new() } else { format!(". {}", setting.details) };
    let Some((before, rest)) = setting.help.split_once(" [default: ") else {
        return (format!("{}{details}", setting.help), "none".to_owned());
    };
    let (default, after) = rest.split_once(']').expect("the default ends");
    (format!("{before}{after}{details}"), code(default))
}

/// Returns a default value as code, and a phrase as text.
fn code(default: &str) -> String {
    if default.contains(' ') { default.to_owned() } else { format!("`{default}`") }
}
