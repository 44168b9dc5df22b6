use super::*;
use crate::limits;
use crate::plugin::{Field, sample::name};

fn refusal(body: &str) -> (u16, &'static str) {
    let problem = read(body.as_bytes()).expect_err(body);
    (problem.status.as_u16(), problem.code)
}

#[test]
fn the_request_in_the_convention_is_accepted() {
    let body = br#"{
      "name": "hecate-traderd",
      "version": "0.1.0",
      "description": "Trading daemon for Hecate"
    }"#;
    let expected = Registration {
        name: name("hecate-traderd"),
        version: Field::Set("0.1.0".to_owned()),
        description: Field::Set("Trading daemon for Hecate".to_owned()),
        node: Field::Absent,
    };
    assert_eq!(read(body), Ok(expected));
}

#[test]
fn absent_null_and_set_fields_differ() {
    let body = br#"{"name": "hecate-traderd", "version": null, "node": "a@b"}"#;
    let registration = read(body).expect("valid");
    assert_eq!(registration.version, Field::Clear);
    assert_eq!(registration.description, Field::Absent);
    assert_eq!(registration.node, Field::Set("a@b".parse().unwrap()));
}

#[test]
fn unknown_keys_are_ignored_whatever_their_values_are() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for more in [r#""icon": {"a": [1]}"#, r#""icon": 1, "icon": 2"#, &format!("\"icon\": {deep}")] {
        let body = format!(r#"{{"name": "hecate-traderd", {more}}}"#);
        assert!(read(body.as_bytes()).is_ok(), "{}", body.get(..60).unwrap_or(&body));
    }
}

#[test]
fn an_empty_or_incomplete_body_has_its_own_detail() {
    let detail = |body: &str| read(body.as_bytes()).map_err(|problem| problem.detail).expect_err("refused");
    for body in ["", " \n"] {
        assert_eq!(detail(body), "the body is empty; send a JSON object");
    }
    for body in ["{", "{\"name\"", "{\"name\": \"hecate-traderd\""] {
        assert_eq!(detail(body), "the JSON in the body is incomplete; send all of it", "{body}");
    }
    assert!(detail("{]").starts_with("the body is not JSON: "));
}

#[test]
fn a_body_that_is_not_an_object_is_refused() {
    for body in ["", " ", "{", "{\"name\": }", "name=hecate-traderd", "{} {}", "{\"name\": \"\\ud800\"}", "\u{feff}{}"]
    {
        assert_eq!(refusal(body), (400, "not_json"), "{body:?}");
    }
    for body in ["[]", "null", "1", "\"hecate-traderd\"", "[\"hecate-traderd\", null, null, null]"] {
        assert_eq!(refusal(body), (400, "not_an_object"), "{body:?}");
    }
    assert_eq!(read(b"{\"name\": \"hecate-\xff-d\"}").map_err(|problem| problem.code), Err("not_json"));
    let twice = r#"{"name": "hecate-traderd", "name": "hecate-marthad"}"#;
    assert_eq!(refusal(twice), (400, "key_twice"));
    let deep = format!("{{\"version\": {}", "[".repeat(20_000));
    assert_eq!(refusal(&deep).0, 400, "without a stack overflow");
}

#[test]
fn each_invalid_field_has_its_code() {
    let long = |key: &str, length: usize| format!(r#"{{"name": "hecate-traderd", "{key}": "{}"}}"#, "x".repeat(length));
    let table = [
        ("{}".to_owned(), "name_missing"),
        (r#"{"name": null}"#.to_owned(), "field_type"),
        (r#"{"name": 1}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderw"}"#.to_owned(), "name_is_frontend"),
        (r#"{"name": "hecate-daemon"}"#.to_owned(), "name_reserved"),
        (r#"{"name": "../x-d"}"#.to_owned(), "name_bad_character"),
        (r#"{"name": "hecate-traderd", "version": 1}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderd", "description": ["x"]}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderd", "node": {}}"#.to_owned(), "field_type"),
        (r#"{"name": "hecate-traderd", "node": ""}"#.to_owned(), "node_malformed"),
        (r#"{"name": "hecate-traderd", "node": "hecate_traderd"}"#.to_owned(), "node_malformed"),
        (r#"{"name": "hecate-traderd", "version": "1\u0000"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "version": "1\n2"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "\u001b[2J"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "two\nlines"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "\u009b2J"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "description": "a\u202eb"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "version": "1\u2028"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "version": "1\u2066"}"#.to_owned(), "field_bad_character"),
        (r#"{"name": "hecate-traderd", "node": "x@-oProxyCommand"}"#.to_owned(), "node_malformed"),
        (long("version", limits::PLUGIN_VERSION + 1), "field_too_long"),
        (long("description", limits::PLUGIN_DESCRIPTION + 1), "field_too_long"),
        (long("node", beam::limits::NODE_NAME + 1), "field_too_long"),
    ];
    for (body, code) in table {
        assert_eq!(refusal(&body), (422, code), "{}", body.get(..60).unwrap_or(&body));
    }
    for (key, length) in [("version", limits::PLUGIN_VERSION), ("description", limits::PLUGIN_DESCRIPTION)] {
        assert!(read(long(key, length).as_bytes()).is_ok(), "{key} as long as allowed");
    }
}
