//! `docs/troubleshooting.md` has every code that the source can return, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use beam::connect::dial::DialCode;
use hecate_daemon::plugin::ReasonCode;

use super::json::Json;
use super::openapi::Document;
use super::page;

const PAGE: &str = "troubleshooting.md";

/// The words before a code, anywhere in the source.
const BEFORE: &[&str] = &["Problem::unavailable(", "PeerReason::new(", "invalid(", "blocker(", "code: "];

/// Further words before a code, in these files and directories.
const TABLES: &[(&str, &[&str])] = &[
    ("src/cluster/plugins/", &["error("]),
    ("src/registry/refusal.rs", &["=>"]),
    ("src/plugin/name.rs", &["=>"]),
    ("src/beam/dist/link.rs", &["=>"]),
    ("src/beam/node/view.rs", &["Self::new("]),
    ("src/daemon.rs", &["=> ("]),
    ("src/api/handlers.rs", &["=> ("]),
];

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
            found.push(path);
        }
    }
}

/// Returns whether the text before a word makes the word a code.
fn makes_a_code(before: &str, file: &str) -> bool {
    let before = before.trim_end();
    let ends = |word: &&str| before.ends_with(word.trim_end());
    let refusal = before.strip_suffix(',').and_then(|before| before.rsplit_once("Problem::new("));
    let is_refusal =
        refusal.is_some_and(|(_, status)| status.trim().starts_with("StatusCode::") && !status.contains(','));
    let table = TABLES.iter().find(|(name, _)| file.starts_with(name)).map(|(_, words)| *words).unwrap_or_default();
    is_refusal || BEFORE.iter().chain(table).any(ends)
}

/// Returns the codes in the source, without its tests.
fn codes_of_source() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut codes = BTreeSet::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("a source");
        let text = text.split("#[cfg(test)]").next().expect("a part");
        let file = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
        for (at, _) in text.match_indices('"') {
            let rest = &text[at + 1..];
            let word = rest.split('"').next().expect("a part");
            if is_word(word) && makes_a_code(&text[..at], &file) {
                codes.insert(word.to_owned());
            }
        }
    }
    codes
}

#[test]
fn every_code_has_its_meaning_and_remedy() {
    let mut codes = codes_of_source();
    codes.extend(DialCode::ALL.map(|code| code.name().to_owned()));
    codes.extend(ReasonCode::ALL.map(|code| code.name().to_owned()));
    // The codes in OpenAPI are included, in whichever file they are created.
    let document = Document::read();
    for (_, response) in document.at(&["components", "responses"]).entries() {
        let description = response.get("description").and_then(Json::text).expect("a description");
        codes.extend(page::quoted(description).filter(|word| is_word(word)).map(str::to_owned));
    }
    let text = page::read(PAGE);
    let quoted: BTreeSet<&str> = page::quoted(&text).collect();
    let missing: Vec<&String> = codes.iter().filter(|code| !quoted.contains(&***code)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "codes that docs/{PAGE} does not have");

    let rows = page::rows(PAGE);
    let is_code =
        |cell: &str| cell.strip_prefix('`')?.strip_suffix('`').filter(|code| is_word(code)).map(str::to_owned);
    let documented: BTreeSet<String> = rows.iter().filter_map(|row| is_code(&row[0])).collect();
    let unknown: Vec<&String> = documented.iter().filter(|code| !codes.contains(*code)).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "codes that the source does not have");
    assert!(documented.len() > 90, "the codes were found: {documented:?}");
}
