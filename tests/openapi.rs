//! Compares the served `openapi.json` with the running server. Each operation is requested, and the
//! document must name its response, with the same schema.

#![allow(clippy::expect_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hecate_daemon::api::{Limits, Phase};
use hecate_daemon::registry::Membership;
use serde_json::{Value, json};
use support::client::{ask, get, post};
use support::http::Answer;
use support::world::World;

const METHODS: [&str; 3] = ["get", "post", "delete"];

/// The document that clients get.
struct Document(Value);

impl Document {
    async fn of(world: &World) -> Self {
        let answer = get(world, "/openapi.json").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        Self(answer.body)
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).expect(reference),
            None => value,
        }
    }

    /// Returns the path, the method and the description of each operation.
    fn operations(&self) -> Vec<(&str, &str, &Value)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let operations = paths.iter().flat_map(|(path, item)| {
            METHODS.iter().filter_map(move |method| Some((path.as_str(), *method, item.get(*method)?)))
        });
        operations.collect()
    }

    /// Checks a response against the operation.
    fn check(&self, path: &str, method: &str, answer: &Answer) {
        let what = format!("{method} {path} gave {}: {}", answer.status, answer.text);
        let response = &self.0["paths"][path][method]["responses"][answer.status.to_string()];
        assert!(!response.is_null(), "undocumented: {what}");
        let response = self.resolve(response);
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            assert_eq!(answer.text, "", "{what}");
            return;
        };
        let media_type = answer.header("content-type").expect("a type");
        let schema =
            &content.get(media_type).unwrap_or_else(|| panic!("{media_type} is undocumented: {what}"))["schema"];
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        let validator = jsonschema::draft202012::new(&schema).expect("a schema");
        let body = if media_type.starts_with("text/") { Value::from(&*answer.text) } else { answer.body.clone() };
        let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{what}");
        for (name, header) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
            assert!(answer.header(&name.to_lowercase()).is_some(), "{header} {name} is missing: {what}");
        }
    }
}

fn request(method: &str, path: &str, head: &str) -> String {
    format!("{} {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n", method.to_uppercase())
}

/// Registers plugins, also such as the schema and the server must both refuse.
async fn check_registrations(
    world: &World,
    registration: &jsonschema::Validator,
    check: &mut impl FnMut(&str, &str, &Answer),
) {
    let bodies = [
        json!({"name": "hecate-traderd", "version": "0.1.0", "description": "two words", "node": "hecate_traderd@h"}),
        json!({"name": "hecate-traderd", "version": null, "unknown": 1}),
        json!({"name": "hecate-traderw"}),
        json!({"name": "Hecate-traderd"}),
        json!({"name": "hecate-daemon"}),
        json!({"name": "hecate--traderd"}),
        json!({"name": "gitops"}),
        json!({"name": "hecate-traderd", "version": "x".repeat(129)}),
        json!({"name": "hecate-traderd", "version": "\u{e4}".repeat(128)}),
        json!({"name": "hecate-traderd", "description": "\u{1b}"}),
        json!({"name": "hecate-traderd", "node": "nowhere"}),
        json!({"name": 1}),
        json!({}),
        json!([]),
    ];
    let path = "/api/plugins/register";
    for body in bodies {
        let answer = ask(world, &post(&body.to_string())).await;
        assert_eq!(
            answer.status == 201,
            registration.is_valid(&body),
            "the schema and the server disagree about {body}"
        );
        check(path, "post", &answer);
    }
    world
        .registry
        .membership(Membership::NodeUp { node: "hecate_traderd@h".parse().expect("a name"), on_this_host: true })
        .await;
    for body in [
        r#"{"name": "hecate-traderd", "node": "hecate_traderd@h"}"#,
        r#"{"name": "hecate-traderd", "node": "x@h"}"#,
        "{",
    ] {
        check(path, "post", &ask(world, &post(body)).await);
    }
    check(path, "post", &ask(world, &post(&"x".repeat(100_000))).await);
    let text = request("post", path, "Content-Type: text/plain\r\nContent-Length: 2\r\n") + "{}";
    check(path, "post", &ask(world, &text).await);
}

/// Shows and deregisters plugins, and purges their data.
async fn check_plugins(world: &World, check: &mut impl FnMut(&str, &str, &Answer)) {
    for (name, status) in [("hecate-traderd", 200), ("hecate-nobodyd", 404), ("%zz", 400)] {
        let answer = ask(world, &request("get", &format!("/api/plugins/{name}"), "")).await;
        assert_eq!(answer.status, status);
        check("/api/plugins/{name}", "get", &answer);
    }
    for (operation, path) in [
        ("/api/plugins/{name}/data", "/api/plugins/hecate-traderd/data"),
        ("/api/plugins/{name}", "/api/plugins/hecate-traderd"),
        ("/api/plugins/{name}", "/api/plugins/hecate-traderd"),
        ("/api/plugins/{name}", "/api/plugins/%zz"),
    ] {
        check(operation, "delete", &ask(world, &request("delete", path, "")).await);
    }
    let dry_run = request("get", "/api/plugins/hecate-traderd/data", "");
    // Its node is still connected.
    check("/api/plugins/{name}/data", "get", &ask(world, &dry_run).await);
    world
        .registry
        .membership(Membership::NodeDown { node: "hecate_traderd@h".parse().expect("a name"), reason: "gone".into() })
        .await;
    check("/api/plugins/{name}/data", "get", &ask(world, &dry_run).await);
    for path in ["hecate-traderd", "hecate-traderd", "%zz"] {
        let path = format!("/api/plugins/{path}/data");
        check("/api/plugins/{name}/data", "delete", &ask(world, &request("delete", &path, "")).await);
        check("/api/plugins/{name}/data", "get", &ask(world, &request("get", &path, "")).await);
    }
}

/// Requests each operation, in an order and with headers and bodies that produce every response
/// that a client can cause.
#[tokio::test]
async fn every_response_matches_the_document() {
    let world = World::start(Limits::default()).await;
    let document = Document::of(&world).await;
    let schema = document.0["components"]["schemas"]["Registration"].clone();
    let registration = jsonschema::draft202012::new(&schema).expect("a schema");
    let mut seen: BTreeMap<(String, String), BTreeSet<u16>> = BTreeMap::new();
    let mut check = |path: &str, method: &str, answer: &Answer| {
        document.check(path, method, answer);
        seen.entry((path.to_owned(), method.to_owned())).or_default().insert(answer.status);
    };

    check_registrations(&world, &registration, &mut check).await;
    check_plugins(&world, &mut check).await;

    for (node, status) in [("x@y", 200), ("nonsense", 404), ("%zz", 400)] {
        let answer = ask(&world, &request("get", &format!("/api/cluster/peers/{node}/diagnosis"), "")).await;
        assert_eq!(answer.status, status);
        check("/api/cluster/peers/{node}/diagnosis", "get", &answer);
    }

    // `tests/trace.rs` tests its stream.
    for (node, status) in [("nonsense", 404), ("%zz", 400)] {
        let answer = ask(&world, &request("get", &format!("/api/cluster/peers/{node}/trace"), "")).await;
        assert_eq!(answer.status, status);
        check("/api/cluster/peers/{node}/trace", "get", &answer);
    }

    let list = ask(&world, &request("get", "/api/plugins", "")).await;
    check("/api/plugins", "get", &list);
    let known = format!("If-None-Match: {}\r\n", list.header("etag").expect("an ETag"));
    check("/api/plugins", "get", &ask(&world, &request("get", "/api/plugins", &known)).await);
    check("/api/cluster/plugins", "get", &ask(&world, &request("get", "/api/cluster/plugins", "")).await);
    world.cluster.send_replace(Arc::new(support::world::with_a_lost_host("hecate-traderd")));
    for path in ["/api/cluster", "/api/cluster/plugins", "/health", "/livez", "/readyz", "/metrics", "/openapi.json"] {
        check(path, "get", &ask(&world, &request("get", path, "")).await);
    }
    world.status.send_modify(|status| status.phase = Phase::Stopping);
    check("/readyz", "get", &ask(&world, &request("get", "/readyz", "")).await);

    // Every documented operation was requested, and every response that a client can cause was
    // seen.
    let whole = |(path, method, _): (&str, &str, &Value)| (path.to_owned(), method.to_owned());
    let mut documented: BTreeSet<_> = document.operations().into_iter().map(whole).collect();
    assert!(documented.remove(&("/api/events".to_owned(), "get".to_owned())), "tests/api_events.rs tests it");
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), documented);
    let statuses =
        |path: &str, method: &str| seen[&(path.to_owned(), method.to_owned())].iter().copied().collect::<Vec<_>>();
    assert_eq!(statuses("/api/plugins/register", "post"), [201, 400, 409, 413, 415, 422]);
    assert_eq!(statuses("/api/plugins/{name}", "delete"), [200, 400, 404]);
    assert_eq!(statuses("/api/plugins/{name}/data", "delete"), [200, 400, 404, 409]);
    assert_eq!(statuses("/api/plugins/{name}/data", "get"), [200, 400, 404, 409]);
    assert_eq!(statuses("/api/plugins", "get"), [200, 304]);
}

/// `Allow` and the document have the same methods for every path.
#[tokio::test]
async fn every_allowed_method_is_documented() {
    let world = World::start(Limits::default()).await;
    let document = Document::of(&world).await;
    let mut methods: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in document.operations() {
        let methods = methods.entry(path).or_default();
        methods.insert(method.to_uppercase());
        if method == "get" {
            methods.insert("HEAD".to_owned());
        }
    }
    for (path, methods) in methods {
        let refused = ask(&world, &request("patch", &path.replace("{name}", "hecate-traderd"), "")).await;
        assert_eq!(refused.refusal(), (405, "method_not_allowed".to_owned()), "{path}");
        let allow: BTreeSet<String> =
            refused.header("allow").expect("methods").split(", ").map(str::to_owned).collect();
        assert_eq!(allow, methods, "{path}");
    }
}

#[tokio::test]
async fn the_document_is_served_before_the_daemon_is_ready() {
    let world = World::starting(Limits::default()).await;
    assert_eq!(get(&world, "/openapi.json").await.body["openapi"], "3.1.0");
}
