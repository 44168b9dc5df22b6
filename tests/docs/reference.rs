//! `docs/api.md` and `docs/events.md`: the operations, objects and events of the OpenAPI document,
//! with examples.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::examples::{self, Examples, Response};
use super::json::Json;
use super::openapi::Document;
use super::page;

/// Operations with an endless response, which `docs/events.md` describes under these titles.
const STREAMS: &[(&str, &str)] =
    &[("/api/events", "Events of plugins and nodes"), ("/api/cluster/peers/{node}/trace", "Traces of messages")];

/// The only operation whose example would be its whole document.
const WITHOUT_EXAMPLE: &str = "/openapi.json";

#[test]
fn the_references_show_the_openapi_document_and_real_responses() {
    let document = Document::read();
    let examples = examples::run();
    check(&document, &examples);
    let operations = document.operations();
    let mut api = String::new();
    for tag in document.at(&["tags"]).elements() {
        let tag = tag.get("name").and_then(Json::text).expect("a name");
        writeln!(api, "## {}{}\n", tag[..1].to_uppercase(), &tag[1..]).unwrap();
        for (path, method, operation) in &operations {
            if operation.get("tags").expect("tags").elements()[0].text() == Some(tag) {
                write_operation(&document, path, method, operation, &examples, &mut api);
            }
        }
    }
    page::hold("api.md", "operations", &api);
    page::hold("api.md", "refusals", &refusals(&document, &operations));
    page::hold("api.md", "objects", &objects(&document));

    let mut events = String::new();
    for (path, title) in STREAMS {
        let operation = document.at(&["paths", path, "get"]);
        writeln!(events, "## {title}\n\n`GET {path}`: {}\n", page::wrap(text(operation, "description"))).unwrap();
        write_events(&document, operation, &examples.events, &mut events);
    }
    page::hold("events.md", "events", &events);
}

/// Checks each example against its schema, and that no operation and no event is without one.
fn check(document: &Document, examples: &Examples) {
    let mut missing: BTreeSet<(String, String)> = BTreeSet::new();
    let mut unseen: BTreeSet<&String> = examples.events.keys().collect();
    for (path, method, operation) in document.operations() {
        for (name, event) in operation.get("x-events").map(Json::entries).unwrap_or_default() {
            let example = examples.events.get(name).unwrap_or_else(|| panic!("no example of {name}"));
            document.validate(event, &example.value(), name);
            unseen.remove(name);
        }
        let upper = method.to_uppercase();
        let Some(response) = examples.responses.get(&(&*upper, path)) else {
            missing.insert((path.to_owned(), method.to_owned()));
            continue;
        };
        let documented = operation.get("responses").and_then(|all| all.get(&response.status.to_string()));
        let documented = document.resolve(documented.unwrap_or_else(|| panic!("{method} {path}: {}", response.status)));
        let (_, content) = &documented.get("content").expect("a body").entries()[0];
        if let Some(body) = &response.json {
            document.validate(content.get("schema").expect("a schema"), body, path);
        }
    }
    assert_eq!(unseen, BTreeSet::new(), "events that the document does not have");
    let expected = STREAMS.iter().map(|(path, _)| *path).chain([WITHOUT_EXAMPLE]);
    assert_eq!(missing, expected.map(|path| (path.to_owned(), "get".to_owned())).collect(), "without an example");
}

fn text<'a>(json: &'a Json, key: &str) -> &'a str {
    json.get(key).and_then(Json::text).unwrap_or_default()
}

/// Returns a link to the section about an object.
fn link(name: &str) -> String {
    format!("[`{name}`](#{})", name.to_lowercase())
}

fn write_operation(
    document: &Document,
    path: &str,
    method: &str,
    operation: &Json,
    examples: &Examples,
    out: &mut String,
) {
    let method = method.to_uppercase();
    let about = page::wrap(&format!("{}. {}", text(operation, "summary"), text(operation, "description")));
    writeln!(out, "### `{method} {path}`\n\n{about}\n").unwrap();
    let shared = document.at(&["paths", path]).get("parameters").map(Json::elements).unwrap_or_default();
    let own = operation.get("parameters").map(Json::elements).unwrap_or_default();
    let mut rows = String::new();
    for parameter in shared.iter().chain(own) {
        let kind = if text(parameter, "in") == "path" { "path" } else { "header, optional" };
        writeln!(rows, "| `{}` ({kind}) | {} |", text(parameter, "name"), text(parameter, "description")).unwrap();
    }
    if let Some(body) = operation.get("requestBody") {
        let (media_type, content) = &body.get("content").expect("content").entries()[0];
        let object = Document::name_of(content.get("schema").expect("a schema")).expect("a named schema");
        writeln!(rows, "| body, `{media_type}` | {} |", link(object)).unwrap();
    }
    let mut refusals = Vec::new();
    for (status, response) in operation.get("responses").expect("responses").entries() {
        if Document::name_of(response).is_some() {
            refusals.push(status.as_str());
            continue;
        }
        let schema = response.get("content").and_then(|content| content.entries().first()?.1.get("schema"));
        let object = schema.map(kind).filter(|kind| kind.contains('['));
        let object = object.map(|object| format!(" Body: {object}.")).unwrap_or_default();
        writeln!(rows, "| {status} | {}{object} |", text(response, "description")).unwrap();
    }
    writeln!(out, "| part | meaning |\n| --- | --- |\n{rows}| {} | [refused](#refusals) |\n", refusals.join(", "))
        .unwrap();
    if let Some((_, title)) = STREAMS.iter().find(|(stream, _)| *stream == path) {
        let anchor = title.to_lowercase().replace(' ', "-");
        writeln!(out, "See [{title}](events.md#{anchor}).\n").unwrap();
    }
    if let Some(Response { request, status, head, body, json }) = examples.responses.get(&(&*method, path)) {
        let head = head.as_ref().map(|line| format!("{line}\n")).unwrap_or_default();
        let language = if json.is_some() && request.lines().count() == 1 && head.is_empty() { "json" } else { "http" };
        if language == "json" {
            writeln!(out, "```json\n{body}\n```\n").unwrap();
        } else {
            writeln!(out, "```text\n{request}\n\n{status}\n{head}\n{body}\n```\n").unwrap();
        }
    }
}

/// Returns how people call the type of a schema.
fn kind(schema: &Json) -> String {
    if let Some(name) = Document::name_of(schema) {
        return link(name);
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = schema.get("enum") {
        let values: Vec<String> =
            values.elements().iter().map(|value| format!("`{}`", value.text().expect("a word"))).collect();
        return values.join(", ");
    }
    let types = schema.get("type").expect("a type");
    let names = if types.elements().is_empty() { std::slice::from_ref(types) } else { types.elements() };
    let name = |name: &Json| match name.text().expect("a type") {
        "string" if text(schema, "format") == "date-time" => "time".to_owned(),
        "array" => {
            let items = schema.get("items").expect("items");
            let of = if items.get("properties").is_some() || items.get("allOf").is_some() {
                "object".to_owned()
            } else {
                kind(items)
            };
            format!("array of {of}")
        }
        name => name.to_owned(),
    };
    names.iter().map(name).collect::<Vec<_>>().join(" or ")
}

/// Writes the rows of an object's table. `prefix` leads to the object.
fn write_keys(document: &Document, schema: &Json, prefix: &str, rows: &mut String) {
    let required: BTreeSet<&str> =
        schema.get("required").map(Json::elements).unwrap_or_default().iter().filter_map(Json::text).collect();
    for (key, property) in schema.get("properties").map(Json::entries).unwrap_or_default() {
        let optional = if required.contains(&**key) { "" } else { ", optional" };
        let about = Document::name_of(property).map(|_| document.resolve(property)).unwrap_or(property);
        let meaning = text(about, "description");
        writeln!(rows, "| `{prefix}{key}` | {}{optional} | {meaning} |", kind(property)).unwrap();
        write_keys(document, property, &format!("{prefix}{key}."), rows);
        if let Some(items) = property.get("items") {
            let prefix = format!("{prefix}{key}[].");
            write_parts(document, items, &prefix, rows);
        }
    }
}

/// Writes the rows of an object that may consist of several.
fn write_parts(document: &Document, schema: &Json, prefix: &str, rows: &mut String) {
    write_keys(document, schema, prefix, rows);
    for part in schema.get("allOf").map(Json::elements).unwrap_or_default() {
        match Document::name_of(part) {
            Some(name) => writeln!(rows, "| `{prefix}…` | | All keys of {}. |", link(name)).unwrap(),
            None => write_keys(document, part, prefix, rows),
        }
    }
}

fn write_object(document: &Document, name: &str, schema: &Json, out: &mut String) {
    let mut rows = String::new();
    write_parts(document, schema, "", &mut rows);
    writeln!(
        out,
        "### {name}\n\n{}\n\n| key | type | meaning |\n| --- | --- | --- |\n{rows}",
        page::wrap(text(schema, "description"))
    )
    .unwrap();
}

/// Returns the names of the objects that only events have.
fn objects_of_events(document: &Document) -> BTreeSet<&str> {
    let operations = document.operations();
    let events = operations.iter().filter_map(|(_, _, operation)| operation.get("x-events")).flat_map(Json::entries);
    events.filter_map(|(_, event)| Document::name_of(event)).collect()
}

fn objects(document: &Document) -> String {
    let of_events = objects_of_events(document);
    let mut out = String::new();
    for (name, schema) in document.at(&["components", "schemas"]).entries() {
        if !of_events.contains(&**name) {
            write_object(document, name, schema, &mut out);
        }
    }
    out
}

/// Returns the table of the refusals: their statuses, and what they mean.
fn refusals(document: &Document, operations: &[(&str, &str, &Json)]) -> String {
    let mut statuses: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, _, operation) in operations {
        for (status, response) in operation.get("responses").expect("responses").entries() {
            if Document::name_of(response).is_some() {
                statuses.insert(status, text(document.resolve(response), "description"));
            }
        }
    }
    let mut out = "| status | meaning, and `code` |\n| --- | --- |\n".to_owned();
    for (status, meaning) in statuses {
        writeln!(out, "| {status} | {meaning} |").unwrap();
    }
    out
}

fn write_events(document: &Document, operation: &Json, examples: &BTreeMap<String, Json>, out: &mut String) {
    let events = operation.get("x-events").expect("events").entries();
    out.push_str("| event | meaning | data |\n| --- | --- | --- |\n");
    for (name, event) in events {
        let object = Document::name_of(event).expect("a named schema");
        writeln!(out, "| `{name}` | {} | {} |", text(event, "description"), link(object)).unwrap();
    }
    out.push('\n');
    let mut written = BTreeSet::new();
    for (_, event) in events {
        let object = Document::name_of(event).expect("a named schema");
        if !written.insert(object) {
            continue;
        }
        write_object(document, object, document.resolve(event), out);
        out.push('\n');
        for (name, _) in events.iter().filter(|(_, event)| Document::name_of(event) == Some(object)) {
            writeln!(out, "`{name}`:\n\n```json\n{}\n```\n", examples[name].pretty()).unwrap();
        }
    }
    // Objects of the API, which are on another page.
    let on_this_page: Vec<String> = objects_of_events(document).into_iter().map(link).collect();
    for (name, _) in document.at(&["components", "schemas"]).entries() {
        let (here, there) = (link(name), link(name).replace("](#", "](api.md#"));
        if !on_this_page.contains(&here) {
            *out = out.replace(&here, &there);
        }
    }
}
