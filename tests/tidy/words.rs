//! Keeps words without good uses out of sources, documents and texts of the CLI.

use std::fs;
use std::path::Path;

/// Folders and files that are checked, with everything below them.
const CHECKED: &[&str] =
    &["README.md", "CONTRIBUTING.md", "docs", "src", "tests", "benches", "fuzz/fuzz_targets", "erlang_test", "deploy"];

/// The word list itself, and a licence.
const EXCEPT: &[&str] = &["tests/tidy/words.rs", "src/beam/LICENSE"];

/// Words and phrases, in lower case.
const WORDS: &[&str] =
    &["anew", "lest", "mend", "whoever", "whom", "is told", "is none", "what is no", "be had", "of ours"];

/// Phrases that are allowed although they contain one of [`WORDS`].
const ALLOWED: &[&str] = &["there is none"];

/// Returns the first of [`WORDS`] in a line, as whole words.
fn found(line: &str) -> Option<&'static str> {
    let mut line = line.to_lowercase();
    for phrase in ALLOWED {
        line = line.replace(phrase, "");
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    WORDS.iter().copied().find(|word| {
        line.match_indices(*word).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + word.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
    })
}

#[test]
fn words_without_good_uses_are_absent() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = CHECKED.iter().map(|path| root.join(path)).collect();
    let (mut files, mut faults) = (0, Vec::new());
    while let Some(path) = paths.pop() {
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        if EXCEPT.iter().any(|except| name.starts_with(except)) || name.ends_with("_build") {
            continue;
        }
        if path.is_dir() {
            paths.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        // Files that are not UTF-8 contain no texts.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        files += 1;
        for (number, line) in text.lines().enumerate() {
            faults.extend(found(line).map(|word| format!("{}:{}: {word:?}", name.display(), number + 1)));
        }
    }
    assert!(files > 300, "only {files} files were found");
    assert!(faults.is_empty(), "words to avoid:\n{}", faults.join("\n"));
}

#[test]
fn only_whole_words_are_found() {
    assert_eq!(found("Lest it fails"), Some("lest"));
    assert_eq!(found("the smallest; recommend; if there is none"), None);
    assert_eq!(found("whom, said"), Some("whom"));
}
