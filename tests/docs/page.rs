//! A page of `docs/`, with parts that are generated.

use std::fs;
use std::path::{Path, PathBuf};

/// If this variable is set, the tests write the generated text instead of comparing it.
const WRITE: &str = "HECATE_WRITE_DOCS";

fn path(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)
}

/// Returns the text of a page.
pub fn read(page: &str) -> String {
    fs::read_to_string(path(page)).unwrap_or_else(|error| panic!("docs/{page}: {error}"))
}

/// Checks that the generated part of a page is `expected`, or writes it.
pub fn hold(page: &str, part: &str, expected: &str) {
    let text = read(page);
    let (begin, end) = (format!("<!-- begin {part}, written by tests/docs.rs -->\n"), format!("<!-- end {part} -->"));
    let start = text.find(&begin).unwrap_or_else(|| panic!("docs/{page} has no line {begin:?}")) + begin.len();
    let length = text[start..].find(&end).unwrap_or_else(|| panic!("docs/{page} has no line {end:?}"));
    let mut expected = format!("\n{}\n\n", expected.trim());
    while expected.contains("\n\n\n") {
        expected = expected.replace("\n\n\n", "\n\n");
    }
    if std::env::var_os(WRITE).is_some() {
        let written = format!("{}{expected}{}", &text[..start], &text[start + length..]);
        fs::write(path(page), written).expect("written");
        return;
    }
    let found = &text[start..start + length];
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/{page} is out of date: run `{WRITE}=1 cargo test --test docs`. The first difference: {differs:#?}"
    );
}

/// Returns the cells of all table rows of a page, without the heads of tables.
pub fn rows(page: &str) -> Vec<Vec<String>> {
    let text = read(page);
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("| ---"));
    let rows = lines
        .iter()
        .enumerate()
        .filter(|(at, line)| line.starts_with("| ") && !line.starts_with("| ---") && !is_head(*at));
    rows.map(|(_, line)| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Returns the words in backticks of a text.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns a paragraph, wrapped.
pub fn wrap(text: &str) -> String {
    const WIDTH: usize = 100;
    let (mut wrapped, mut used) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used + 1 + length > WIDTH {
            wrapped.push('\n');
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}
