//! Checks the rules of the source: which modules each module may import, which files are pure, how
//! long a file may be, which words it may contain, and that every limit names a test that exists.

#![allow(clippy::expect_used, reason = "a failed expectation fails the test")]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/guides.rs"]
mod guides;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imports::{Imports, Source};

/// Each module, and the other modules that it may import. A longer path comes before a shorter one.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["config", "cli", "daemon", "log", "runtimes"]),
    ("runtimes", &["limits"]),
    (
        "daemon",
        &[
            "api", "cluster", "config", "files", "layout", "limits", "log", "plugin", "registry", "store", "systemd",
            "wire",
        ],
    ),
    // `doctor` checks EPMD, ports and the database itself, because it may have no daemon to query.
    (
        "cli",
        &[
            "config",
            "store",
            "api::problem",
            "beam::epmd::client",
            "escape",
            "files",
            "layout",
            "limits",
            "plugin",
            "similar",
            "beam::connect::owners",
            "beam::connect::resolve",
            "beam::connect::Holder",
            "timestamp",
            "wire",
        ],
    ),
    ("wire", &["escape"]),
    ("config", &["beam::cookie", "layout", "limits", "log", "plugin", "similar"]),
    (
        "api",
        &[
            "registry",
            "cluster::diagnosis",
            "cluster::view",
            "escape",
            "files",
            "layout",
            "plugin",
            "limits",
            "metrics",
            "beam::fair",
            "beam::stats",
            "beam::trace",
            "log::limit",
            "plugin",
            "timestamp",
            "wire",
        ],
    ),
    // Any code may increment a counter in `metrics`, and must check `log::limit` before it logs a
    // line that an outsider can cause. Neither module imports another one.
    ("registry", &["store", "escape", "layout", "plugin", "limits", "metrics", "log::limit", "timestamp"]),
    ("cluster/view", &["plugin"]),
    ("cluster/terms", &["plugin"]),
    ("cluster/peers", &["cluster::view", "limits", "log::limit", "plugin"]),
    (
        "cluster/plugins",
        &[
            "cluster::peers::records",
            "cluster::terms",
            "cluster::view",
            "layout",
            "limits",
            "log::limit",
            "plugin",
            "registry",
        ],
    ),
    ("cluster/hosts", &["cluster::plugins::server", "cluster::terms", "cluster::view", "limits", "plugin"]),
    ("cluster/diagnosis", &["cluster::peers", "cluster::view", "limits"]),
    ("cluster", &["escape", "layout", "limits", "log::limit", "plugin", "registry"]),
    (
        "beam/node/services",
        &[
            "beam::node::link_id",
            "beam::node::machine",
            "beam::node::process",
            "beam::node::services::gen_server",
            "beam::node::view",
            "beam::dist::control",
            "beam::etf",
            "beam::limits",
            "beam::name",
        ],
    ),
    ("beam/connect", &["beam::cookie", "beam::dist", "beam::epmd", "beam::limits", "beam::name", "beam::trace"]),
    (
        "beam/node",
        &[
            "beam::connect",
            "beam::dist",
            "beam::epmd",
            "beam::etf",
            "beam::fair",
            "beam::limits",
            "beam::stats",
            "beam::log_limit",
            "beam::name",
            "beam::trace",
        ],
    ),
    (
        "beam/api",
        &[
            "beam::cookie",
            "beam::connect",
            "beam::dist",
            "beam::epmd",
            "beam::etf",
            "beam::limits",
            "beam::name",
            "beam::node",
            "beam::Node",
            "beam::Answer",
        ],
    ),
    ("beam/examples", &["beam"]),
    (
        "beam/dist",
        &["beam::etf", "beam::cookie", "beam::fair", "beam::limits", "beam::stats", "beam::name", "beam::trace"],
    ),
    ("beam/epmd", &["beam::fair", "beam::limits", "beam::trace"]),
    (
        "beam/trace",
        &[
            "beam::dist::control",
            "beam::dist::flags",
            "beam::dist::header",
            "beam::epmd::protocol",
            "beam::etf",
            "beam::limits",
            "beam::name",
        ],
    ),
    ("beam/fair", &[]),
    ("files", &[]),
    ("beam/etf", &["beam::limits"]),
    ("store", &["files", "plugin", "limits", "timestamp"]),
    ("layout", &["files", "plugin", "limits"]),
    ("plugin", &["escape", "limits"]),
    ("beam/cookie", &["beam::limits"]),
    ("timestamp", &["limits"]),
    ("limits", &[]),
    ("systemd", &["limits", "log"]),
    ("escape", &[]),
    ("similar", &["limits"]),
    ("log", &["escape", "limits"]),
    ("metrics", &[]),
    ("beam/limits", &[]),
    ("beam/log_limit", &["beam::limits"]),
    ("beam/name", &["beam::etf", "beam::limits"]),
    ("beam/stats", &[]),
];

/// The modules of the node's crate that every module of the daemon may import.
const OF_BEAM: &[&str] = &["beam::limits", "beam::limited", "beam::log_limit", "beam::name"];

/// The modules that may import every module of the node's crate.
const USERS_OF_BEAM: &[&str] = &["cluster"];

/// The files that may split text at `@`, each with the reason.
const SPLITS_AT: &[(&str, &str)] = &[
    ("beam/name", "`NodeName` is the one type for node names"),
    ("beam/trace/describe", "an atom that may be a node name is printed without quotes"),
    ("cli/gitops/image", "an OCI image reference has its digest after an `@`"),
];

/// Pure files, which make decisions, and must not read clocks or do input and output.
const PURE: &[&str] = &[
    "api/places",
    "api/route",
    "cli/gitops/image",
    "cli/gitops/templates",
    "cluster/peers/records",
    "cluster/plugins/changes",
    "cluster/diagnosis/advice",
    "cluster/diagnosis/report",
    "cluster/peers/redial",
    "cluster/hosts/tracker",
    "cluster/peers/introduce",
    "cluster/peers/pg_protocol",
    "cluster/plugins/membership",
    "cluster/peers/views",
    "cluster/plugins/nodes",
    "cluster/plugins/refusing",
    "cluster/machine",
    "cluster/hosts/reports",
    "cluster/peers/strategies/",
    "cluster/terms",
    "cluster/view",
    "beam/cookie",
    "beam/dist/challenges/known",
    "beam/dist/control",
    "beam/dist/flags",
    "beam/dist/header/fragments",
    "beam/dist/frames",
    "beam/dist/framing",
    "beam/dist/handshake",
    "beam/dist/header",
    "beam/epmd/protocol",
    "escape",
    "similar",
    "beam/fair",
    "beam/etf/",
    "layout/own_files",
    "layout/paths",
    "layout/socket/stale",
    "log/limit",
    "beam/name",
    "plugin/",
    "beam/node/machine",
    "beam/node/process",
    "beam/node/services/",
    "beam/node/view",
    "beam/trace/describe",
    "registry/entries",
    "registry/nodes",
    "registry/state",
    "timestamp",
];

/// What a pure file must not contain.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::net",
    "std::fs",
    "std::thread",
    "std::os::unix::net",
    "Instant::now",
    "SystemTime::now",
    "getrandom",
    "rustix::",
    // A pure file returns what should be logged, and shares no state.
    "tracing::",
    "warn!(",
    "info!(",
    "debug!(",
    "trace!(",
    "limited!(",
    "log::limit",
    "Mutex",
];

/// Names of code that ends the process on some bytes of a peer, or reveals the cookie. Only one
/// command may use them.
const INDEPENDENT: &[&str] = &["erl_rpc", "eetf::", "erl_dist::term", ".secret()"];

/// The most lines of a source file, without its tests.
const LINES: usize = 520;

/// The most lines of a file with tests.
const TEST_LINES: usize = 600;

/// Returns the Rust files of a folder in order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the sources, each as its path below `src` without `.rs`, and its text without tests.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found = rust_files(&src);
    let mut sources = Vec::new();
    for path in found {
        let name = path.strip_prefix(&src).expect("below src").with_extension("").display().to_string();
        if name.ends_with("tests") || name.contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source is text");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        sources.push((name.trim_end_matches("/mod").to_owned(), code));
    }
    assert!(sources.len() > 50, "too few sources");
    sources
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Returns the imports of all sources.
fn imports() -> Imports {
    let sources = sources().into_iter().map(|(name, text)| {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let is_face = name.ends_with("lib") || src.join(&name).join("mod.rs").exists();
        Source { name, text, is_face }
    });
    Imports::of(&sources.collect::<Vec<_>>())
}

fn is_below(path: &str, module: &str, separator: &str) -> bool {
    path == module || path.starts_with(&format!("{module}{separator}"))
}

#[test]
fn each_module_imports_only_allowed_modules() {
    let imports = imports();
    for (file, paths) in imports.paths.iter().filter(|(file, _)| !matches!(file.as_str(), "lib" | "beam/lib")) {
        let (module, known) = MAY_IMPORT
            .iter()
            .find(|(module, _)| is_below(file, module, "/"))
            .unwrap_or_else(|| panic!("{file} is in no module: add it to MAY_IMPORT"));
        let own = module.replace('/', "::");
        for path in paths {
            let of_beam: &[&str] = match () {
                () if file.starts_with("beam/") => &[],
                () if USERS_OF_BEAM.iter().any(|user| is_below(file, user, "/")) => &["beam"],
                () => OF_BEAM,
            };
            let mut known = known.iter().chain(of_beam);
            let allowed = is_below(path, &own, "::") || known.any(|other| is_below(path, other, "::"));
            assert!(allowed, "{file} names crate::{path}, which {module} may not import");
        }
    }
}

#[test]
fn services_do_not_import_each_other() {
    for (file, paths) in imports().paths.iter().filter(|(file, _)| file.starts_with("beam/node/services/")) {
        let own = file.split('/').nth(3).unwrap_or_default();
        for path in paths {
            let another = path
                .strip_prefix("beam::node::services::")
                .is_some_and(|other| !other.starts_with("gen_server") && !is_below(other, own, "::"));
            assert!(!another, "{file} names crate::{path}");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    assert_eq!(imports().cycle(), None);
}

#[test]
fn only_node_names_are_split_at_the_at_sign() {
    let splits = ["'@'", "split(\"@\")", "split_once(\"@\")", "find(\"@\")", "b'@'"];
    for (name, text) in sources() {
        if SPLITS_AT.iter().any(|(file, _)| is_below(&name, file, "/")) {
            continue;
        }
        for line in code_lines(&text) {
            let found = splits.iter().find(|split| line.contains(**split));
            assert!(found.is_none(), "{name}: use `NodeName` instead of {}: {line}", found.unwrap());
        }
    }
}

#[test]
fn pure_files_name_no_socket_clock_or_lock() {
    let mut seen = BTreeSet::new();
    for (file, text) in sources() {
        let Some(pure) = PURE.iter().find(|pure| is_below(&file, pure.trim_end_matches('/'), "/")) else {
            continue;
        };
        seen.insert(*pure);
        for line in code_lines(&text) {
            for impure in IMPURE {
                assert!(!line.contains(impure), "{file} is pure, and contains {impure}: {line}");
            }
        }
    }
    assert_eq!(seen.len(), PURE.len(), "every pure file exists: {seen:?}");
}

#[test]
fn only_the_independent_mode_uses_code_that_may_end_the_process() {
    let mut seen = BTreeSet::new();
    for (file, text) in sources() {
        for line in code_lines(&text) {
            for name in INDEPENDENT.iter().filter(|name| line.contains(**name)) {
                assert_eq!(file, "cli/cluster/independent", "{file} names {name}: {line}");
                seen.insert(*name);
            }
        }
    }
    assert!(seen.len() >= 3, "the list has names that are not used: {seen:?}");
}

/// Includes the hexadecimal bytes in tests, and files that are not Rust.
#[test]
fn the_beam_crate_mentions_neither_hecate_nor_plugins() {
    let words = ["hecate", "plugin"].map(|word| {
        let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        (word, hex)
    });
    let (mut files, mut folders) = (0, vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/beam")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = format!("{}\n{}", path.display(), fs::read_to_string(&path).expect("text")).to_lowercase();
            let text = text.split_once("src/beam").expect("below it").1;
            for (word, hex) in &words {
                let found = text.lines().find(|line| line.contains(word) || line.contains(hex));
                assert_eq!(found, None, "{} names {word}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 50, "too few sources");
}

#[test]
fn files_are_short_and_start_with_their_purpose() {
    for (file, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES, "{file} has {lines} lines, more than {LINES}");
        assert!(text.starts_with("//!") || text.starts_with("#!"), "{file} does not start with a module comment");
    }
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        for path in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let lines = fs::read_to_string(&path).expect("a source is text").lines().count();
            assert!(lines <= TEST_LINES, "{} has {lines} lines, more than {TEST_LINES}", path.display());
        }
    }
}

#[test]
fn every_limit_names_a_test_that_crosses_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).expect(file);
    let limits = read("src/beam/limits.rs") + &read("src/limits.rs") + &read("src/limits/command.rs");
    let mut tests = String::new();
    for path in ["src", "tests"].iter().flat_map(|folder| rust_files(&root.join(folder))) {
        if !path.ends_with("limits.rs") {
            tests.push_str(&fs::read_to_string(path).expect("a source"));
        }
    }
    let bounds: Vec<&str> = limits.split("\npub const ").collect();
    for (doc, bound) in bounds.iter().zip(bounds.iter().skip(1)) {
        let doc = doc.rsplit("\n\n").next().unwrap_or_default();
        assert!(
            doc.contains("Crossed by"),
            "{} does not name the test that crosses it",
            bound.split(':').next().unwrap_or(bound)
        );
    }
    let doc: String = limits.lines().map(|line| line.trim_start_matches("///").trim()).collect::<Vec<_>>().join(" ");
    let mut named = 0;
    for crossing in doc.split("Crossed by ").skip(1) {
        let crossing = crossing.split(". ").next().unwrap_or_default().split("pub const").next().unwrap_or_default();
        for name in crossing.split('`').skip(1).step_by(2) {
            if let Some(file) = name.strip_prefix("tests/") {
                assert!(root.join("tests").join(file).exists(), "limits.rs names {name}, which does not exist");
                continue;
            }
            let test = name.rsplit("::").next().unwrap_or(name);
            assert_ne!(test, "tests", "limits.rs names {name}, which is not a single test");
            assert!(tests.contains(&format!("fn {test}(")), "limits.rs names {name}, which does not exist");
            named += 1;
        }
    }
    assert!(named > 20, "too few names");
}
