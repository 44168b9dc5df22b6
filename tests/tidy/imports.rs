//! The imports of the sources: paths in `use` and in code, with nested braces, `super` and
//! re-exports resolved, and the import graph of the files.

use std::collections::{BTreeMap, BTreeSet};

/// A source file: its path below `src` without `.rs` and `/mod`, and its code without tests.
pub struct Source {
    pub name: String,
    pub text: String,
    /// Whether the file is `mod.rs` or `lib.rs`, which re-export what their modules define.
    pub is_face: bool,
}

/// Returns the module path of a file: `beam/etf/reader` is `beam::etf::reader`, and `beam/lib` is
/// `beam`.
fn module(name: &str) -> String {
    let name = name.strip_suffix("/lib").unwrap_or(name);
    if name == "lib" { String::new() } else { name.replace('/', "::") }
}

fn join(parent: &str, child: &str) -> String {
    if parent.is_empty() { child.to_owned() } else { format!("{parent}::{child}") }
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// Returns the code without comments.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join(" ")
}

/// Writes out the braces of a `use` tree: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return vec![path.trim_end_matches("::self").to_owned()];
    };
    let (head, list) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())]);
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = list[start..at].trim();
                start = (at + 1).min(list.len());
                if item == "self" {
                    paths.push(head.trim_end_matches("::").to_owned());
                } else if !item.is_empty() {
                    paths.extend(expand(&format!("{head}{item}")));
                }
            }
            _ => {}
        }
    }
    paths
}

/// Returns the absolute form of a path in this module, if it names a module or an item of this
/// project.
fn absolute(path: &str, file: &str, module: &str, modules: &BTreeSet<String>) -> Option<String> {
    let root = if file.starts_with("beam/") { "beam" } else { "" };
    let (first, rest) = path.split_once("::").unwrap_or((path, ""));
    let base = match first {
        "crate" => root.to_owned(),
        "self" => module.to_owned(),
        "super" => return absolute_below(parent(module), rest),
        "beam" if root.is_empty() => "beam".to_owned(),
        _ if modules.contains(&join(module, first)) => return Some(join(module, path)),
        _ => return None,
    };
    absolute_below(&base, rest)
}

fn absolute_below(base: &str, rest: &str) -> Option<String> {
    match rest.strip_prefix("super::") {
        Some(rest) => absolute_below(parent(base), rest),
        None => Some(if rest.is_empty() { base.to_owned() } else { join(base, rest) }),
    }
}

/// The imports of all sources.
pub struct Imports {
    /// For each file, the absolute paths that it names. Paths in the node's crate begin with
    /// `beam`.
    pub paths: BTreeMap<String, BTreeSet<String>>,
    /// For each file, the files that define what it names. A file and those in the directory of its
    /// name are one.
    pub graph: BTreeMap<String, BTreeSet<String>>,
}

impl Imports {
    pub fn of(sources: &[Source]) -> Self {
        let files: BTreeMap<String, &Source> = sources.iter().map(|source| (module(&source.name), source)).collect();
        let modules: BTreeSet<String> = files.keys().cloned().collect();
        let (mut paths, mut faces) = (BTreeMap::new(), BTreeMap::new());
        for (module, source) in &files {
            let (own, face) = named(source, module, &modules);
            paths.insert(source.name.clone(), own);
            faces.insert(module.clone(), face);
        }
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (file, named) in &paths {
            let defining = named.iter().filter_map(|path| definer(path, &modules, &faces, 0));
            let defining = defining.filter_map(|module| files.get(&module)).map(|source| unit(source, &files));
            let from = unit(files[&module(file)], &files);
            let defining: Vec<String> = defining.filter(|to| *to != from).collect();
            graph.entry(from).or_default().extend(defining);
        }
        Self { paths, graph }
    }

    /// Returns a cycle of files that import each other, if there is one.
    pub fn cycle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.graph.keys().find_map(|file| self.cycle_from(file, &mut Vec::new(), &mut done))
    }

    fn cycle_from(&self, file: &str, trail: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        if let Some(at) = trail.iter().position(|earlier| earlier == file) {
            return Some(trail[at..].to_vec());
        }
        if !done.insert(file.to_owned()) {
            return None;
        }
        trail.push(file.to_owned());
        let imported = self.graph.get(file).into_iter().flatten();
        let found = imported.into_iter().find_map(|next| self.cycle_from(next, trail, done));
        trail.pop();
        found
    }
}

/// Returns the paths that a file names, and what it only re-exports: the names with their paths.
fn named(source: &Source, module: &str, modules: &BTreeSet<String>) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let (mut paths, mut face) = (BTreeSet::new(), BTreeMap::new());
    let code = code(&source.text);
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let Some((before, tree)) = statement.split_once("use ").filter(|(before, tree)| {
            let before = before.rsplit(['{', '}', ']']).next().unwrap_or_default().trim();
            let in_tree = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_:{},*;".contains(c);
            (before.is_empty() || before.starts_with("pub")) && tree.chars().all(in_tree)
        }) else {
            rest.push_str(statement);
            continue;
        };
        let is_public = before.trim_end().ends_with("pub");
        for path in expand(tree.trim_end_matches(';')) {
            let Some(path) = absolute(&path, &source.name, module, modules) else { continue };
            if is_public && source.is_face {
                let name = path.rsplit("::").next().unwrap_or_default().to_owned();
                face.insert(name, path);
            } else {
                paths.insert(path);
            }
        }
    }
    for root in ["crate::", "super::", "beam::"] {
        for (at, _) in rest.match_indices(root) {
            let before = &rest[..at];
            // `pub(in path)` limits visibility and imports nothing.
            let is_start = !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'))
                && !before.ends_with("pub(in ");
            let path: String =
                rest[at..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            if is_start {
                paths.extend(absolute(path.trim_end_matches(':'), &source.name, module, modules));
            }
        }
    }
    (paths, face)
}

/// Returns the module that defines what a path names.
fn definer(
    path: &str,
    modules: &BTreeSet<String>,
    faces: &BTreeMap<String, BTreeMap<String, String>>,
    depth: usize,
) -> Option<String> {
    let mut module = path;
    while !modules.contains(module) && !module.is_empty() {
        module = parent(module);
    }
    let item = path.strip_prefix(module)?.trim_start_matches("::").split("::").next().unwrap_or_default();
    match faces.get(module).and_then(|face| face.get(item)) {
        Some(real) if depth < 8 => definer(real, modules, faces, depth + 1),
        _ => Some(module.to_owned()),
    }
}

/// Returns the outermost file that a file is a part of: `a/b` for `a/b/c`, unless `a/b` is a face.
fn unit(source: &Source, files: &BTreeMap<String, &Source>) -> String {
    let mut unit = source.name.clone();
    let mut above = parent(&module(&source.name)).to_owned();
    while !above.is_empty() {
        if let Some(file) = files.get(&above).filter(|file| !file.is_face) {
            unit = file.name.clone();
        }
        above = parent(&above).to_owned();
    }
    unit
}

#[test]
fn nested_imports_are_written_out() {
    assert_eq!(expand("a::{b, c::{d, self}, e as f}"), ["a::b", "a::c::d", "a::c", "a::e"]);
    let modules = BTreeSet::from(["a".to_owned(), "a::b".to_owned()]);
    let absolute = |path| absolute(path, "a/b", "a::b", &modules);
    assert_eq!(absolute("super::super::x::Y"), Some("x::Y".to_owned()));
    assert_eq!(absolute("super::c"), Some("a::c".to_owned()));
    assert_eq!(absolute("std::fmt"), None);
}

#[test]
fn a_cycle_is_found_through_super_nested_braces_and_re_exports() {
    let source = |name: &str, text: &str, is_face| Source { name: name.to_owned(), text: text.to_owned(), is_face };
    let mut sources = vec![
        source("a", "mod b;\nmod c;\npub use c::C;", true),
        source("a/b", "use super::{C, d};", false),
        source("a/c", "use crate::{x::{self, Y}};", false),
        source("x", "pub struct Y;", false),
    ];
    assert_eq!(Imports::of(&sources).cycle(), None);
    sources[3].text = "fn f() { crate::a::b::g() }".to_owned();
    let cycle = Imports::of(&sources).cycle().expect("a/b, a/c, x");
    assert_eq!(cycle.len(), 3, "{cycle:?}");
}
