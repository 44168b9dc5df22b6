//! All documents: their prose wraps at 100 columns, and each file and `#anchor` that they link to
//! exists. Links to other hosts are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Folders that contain no documents of the project.
const SKIPPED: &[&str] = &[".git", "_build", "artifacts", "corpus", "node_modules", "target"];

/// A document, with its link targets and its links.
#[derive(Debug, Default)]
struct Document {
    anchors: BTreeSet<String>,
    links: Vec<String>,
}

/// Returns the Markdown files of the project, relative to its root, in order.
fn documents(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !path.is_symlink() && !SKIPPED.contains(&name.as_ref()) {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(path.strip_prefix(root).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Reads a document. Headings get the anchors that GitHub and mdBook make.
fn read(text: &str) -> Document {
    let mut document = Document::default();
    let mut heading: Option<String> = None;
    let mut used = BTreeMap::new();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_HEADING_ATTRIBUTES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let before: &mut u32 = used.entry(anchor.clone()).or_default();
                let numbered = if *before == 0 { anchor } else { format!("{anchor}-{before}") };
                *before += 1;
                document.anchors.insert(numbered);
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                document.links.push(dest_url.into_string());
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                document.anchors.extend(attributes(&html, &["id", "name"]));
                document.links.extend(attributes(&html, &["href", "src", "srcset"]));
            }
            _ => {}
        }
    }
    document
}

/// Returns the values of these attributes of HTML.
fn attributes(html: &str, names: &[&str]) -> Vec<String> {
    let values = |name: &&str| {
        let attribute = format!(" {name}=\"");
        let values = html.split(&attribute).skip(1).filter_map(|part| part.split('"').next());
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    names.iter().flat_map(values).collect()
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Resolves `..` in a relative path. Returns `None` if it leaves the root.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => normal.pop().then_some(())?,
            Component::Normal(part) => normal.push(part),
            _ => {}
        }
    }
    Some(normal)
}

/// Returns what is wrong with a link in the document at `from`.
fn fault(root: &Path, documents: &BTreeMap<PathBuf, Document>, from: &Path, link: &str) -> Option<&'static str> {
    if let Some((scheme, _)) = link.split_once("://") {
        return (scheme != "https" && scheme != "http").then_some("unknown scheme");
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = match path {
        "" => Some(from.to_owned()),
        _ if path.starts_with('/') => return Some("absolute path"),
        _ => normal(&from.parent().unwrap_or(Path::new("")).join(path)),
    };
    match (target, anchor) {
        (None, _) => Some("outside the repository"),
        (Some(target), _) if !documents.contains_key(&target) && !root.join(&target).exists() => Some("no such file"),
        (Some(_), None) => None,
        (Some(target), Some(anchor)) => match documents.get(&target) {
            Some(document) if document.anchors.contains(anchor) => None,
            _ => Some("no such anchor"),
        },
    }
}

#[test]
fn each_internal_link_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents: BTreeMap<PathBuf, Document> = documents(root)
        .into_iter()
        .map(|path| {
            let document = read(&fs::read_to_string(root.join(&path)).expect("a document is text"));
            (path, document)
        })
        .collect();
    let mut faults = Vec::new();
    for (path, document) in &documents {
        for link in &document.links {
            faults.extend(
                fault(root, &documents, path, link).map(|fault| format!("{}: {link}: {fault}", path.display())),
            );
        }
    }
    assert!(faults.is_empty(), "broken links:\n{}", faults.join("\n"));
    let links: usize = documents.values().map(|document| document.links.len()).sum();
    assert!(documents.len() > 10 && links > 20, "{} documents with {links} links were found", documents.len());
}

#[test]
fn broken_links_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "# One `two`: (three)\n# A\n# A\n<a id=\"x\"></a>\n[a](#a-1) [b](other.md) `[code](gone.md)`\n";
    let document = read(text);
    assert_eq!(document.anchors, ["a", "a-1", "one-two-three", "x"].map(str::to_owned).into());
    assert_eq!(document.links, ["#a-1", "other.md"]);
    let documents = BTreeMap::from([(PathBuf::from("docs/page.md"), document)]);
    let fault = |link| fault(root, &documents, Path::new("docs/page.md"), link);
    assert_eq!(["#a-1", "../Cargo.toml", "../src", "https://example.org/#x"].map(fault), [None; 4]);
    assert_eq!(fault("#a-2"), Some("no such anchor"));
    assert_eq!(fault("other.md"), Some("no such file"));
    assert_eq!(fault("../Cargo.toml#x"), Some("no such anchor"));
    assert_eq!(fault("../../x.md"), Some("outside the repository"));
    assert_eq!(fault("/README.md"), Some("absolute path"));
}

#[test]
fn documents_wrap_at_100_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Tests write these pages from the texts of the API.
    let generated = ["docs/api.md", "docs/events.md"].map(Path::new);
    for path in documents(root).iter().filter(|path| !generated.contains(&path.as_path())) {
        let text = fs::read_to_string(root.join(path)).expect("a document is text");
        let mut is_code = false;
        for line in text.lines() {
            is_code ^= line.trim_start().starts_with("```");
            let is_long = !is_code && !line.starts_with('|') && line.chars().count() > 100;
            assert!(!is_long, "{}: {line}", path.display());
        }
    }
}

/// The book contains only the pages in its summary.
#[test]
fn the_summary_lists_each_page_of_the_book() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let summary = read(&fs::read_to_string(root.join("docs/SUMMARY.md")).expect("a summary"));
    let listed: BTreeSet<PathBuf> = summary.links.iter().map(|link| Path::new("docs").join(link)).collect();
    let pages = documents(root).into_iter().filter(|page| page.starts_with("docs"));
    let pages: BTreeSet<PathBuf> = pages.filter(|page| page != Path::new("docs/SUMMARY.md")).collect();
    assert_eq!(listed, pages, "pages of docs/SUMMARY.md (left) and of docs/");
    assert_eq!(listed.len(), summary.links.len(), "each page is listed once");
}
