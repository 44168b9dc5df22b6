//! The files and targets that the Makefile, the workflow and the documents for maintainers name
//! exist, and each make target has a help text.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_make_target_is_listed_by_make_help() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).expect("Makefile");
    let joined = makefile.replace("\\\n", " ");
    let phony: BTreeSet<&str> =
        joined.lines().filter_map(|line| line.strip_prefix(".PHONY:")).flat_map(str::split_whitespace).collect();
    let mut make = Command::new("make");
    make.args(["--no-print-directory", "help"]).current_dir(root).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    let output = make.output().expect("make runs");
    let help = String::from_utf8(output.stdout).expect("text");
    let listed: BTreeSet<&str> = help
        .lines()
        .map(|line| {
            let (target, text) = line.split_once(' ').expect("a target and its text");
            assert!(!text.trim().is_empty(), "{target} has no text");
            target
        })
        .collect();
    assert_eq!(listed, phony, "each target needs its name in .PHONY and a text after `##`");
    assert_eq!(help.lines().count(), listed.len(), "each target has one line");
}

/// Documents for maintainers, whose paths and `make` commands must exist.
const GUIDES: &[&str] = &[
    "CONTRIBUTING.md",
    "README.md",
    "src/ARCHITECTURE.md",
    "SECURITY.md",
    "docs/internals/benchmarks.md",
    "docs/internals/debugging.md",
    "docs/internals/fuzzing.md",
    "docs/internals/testing.md",
    ".github/ISSUE_TEMPLATE/bug.yml",
    ".github/ISSUE_TEMPLATE/feature.yml",
    ".github/PULL_REQUEST_TEMPLATE.md",
    ".github/workflows/ci.yml",
];

/// Returns the words in backticks of a text, and the commands of a workflow.
fn code_of(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let commands = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("run: "));
    quoted.chain(commands).chain(text.lines().filter_map(|line| line.strip_prefix("$ ")))
}

#[test]
fn guides_name_files_and_make_targets_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).expect("Makefile");
    let (mut files, mut targets) = (0, 0);
    for guide in GUIDES {
        let text = fs::read_to_string(root.join(guide)).expect(guide);
        for code in code_of(&text) {
            if let Some(target) = code.strip_prefix("make ") {
                let target = target.split_whitespace().next().unwrap_or_default();
                assert!(makefile.contains(&format!("\n{target}:")), "{guide} names {code}, which is not a target");
                targets += 1;
            }
            let known = ["src/", "tests/", "docs/", "deploy/", "fuzz/", "benches/", "erlang_test/", ".ci/", ".github/"];
            let path = code.split(['{', ':', ' ']).next().unwrap_or_default();
            let is_example = path.contains("NAME") || path.contains("TARGET");
            if !is_example && known.iter().any(|folder| path.starts_with(folder)) {
                assert!(root.join(path).exists(), "{guide} names {code}, which does not exist");
                files += 1;
            }
        }
    }
    assert!(files > 20 && targets > 5, "found {files} files and {targets} targets");
}

#[test]
fn the_testing_page_lists_each_test_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/internals/testing.md")).expect("a page");
    let makefile = fs::read_to_string(root.join("Makefile")).expect("Makefile");
    let names = |variable: &str| {
        let list = makefile.lines().find_map(|line| line.strip_prefix(variable)).expect("a list");
        list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let with_otp: BTreeSet<String> = names("ERLANG_FACING := ").into_iter().chain(names("COMPILING := ")).collect();
    for entry in fs::read_dir(root.join("tests")).expect("tests") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let listed = [format!("`{name}`"), format!("`tests/{name}.rs`")];
            assert!(listed.iter().any(|listed| page.contains(listed)), "the page lacks {name}");
            assert_eq!(page.contains(&format!("`{name}` \u{25c6}")), with_otp.contains(&name), "the mark of {name}");
        }
    }
}

#[test]
fn the_workflow_runs_the_steps_of_ci() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let steps = fs::read_to_string(root.join(".ci/run")).expect(".ci/run");
    let workflow = fs::read_to_string(root.join(".github/workflows/ci.yml")).expect("a workflow");
    let steps: Vec<&str> = steps.lines().filter(|line| line.starts_with("make ")).collect();
    assert!(!steps.is_empty(), "found no steps");
    for step in steps {
        assert!(workflow.lines().any(|line| line.trim() == format!("- run: {step}")), "the workflow lacks {step}");
    }
}

#[test]
fn tests_that_make_check_leaves_out_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).expect("Makefile").replace("\\\n", " ");
    let slow = makefile.lines().find_map(|line| line.strip_prefix("SLOW_UNIT_TESTS := ")).expect("a list");
    let mut names = BTreeSet::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            names.insert(path.file_stem().expect("a name").to_string_lossy().into_owned());
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let functions = text.split("fn ").skip(1).filter_map(|after| after.split('(').next());
                names.extend(functions.map(str::to_owned));
            }
        }
    }
    for name in slow.split_whitespace() {
        assert!(names.contains(name.trim_matches(':')), "the Makefile leaves out {name}, which does not exist");
    }
}
