//! Checks that a registration's body is accepted or refused with a reason, and likewise each path.
//!
//! The input is 0 and a body, or a byte that selects the method and a path. Hyper parses heads and
//! the framing of bodies.
#![no_main]

use std::fmt::Write as _;

use hecate_daemon::api::problem::Problem;
use hecate_daemon::api::registration;
use hecate_daemon::api::route::{Route, route};
use hecate_daemon::limits;
use hecate_daemon::plugin::{Field, PluginName, Registration};
use hyper::Method;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const METHODS: [Method; 5] = [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::PUT];

fuzz_target!(|data: &[u8]| match data {
    [0, body @ ..] => register(body),
    [method, path @ ..] => {
        if let Ok(path) = str::from_utf8(path) {
            find(&METHODS[usize::from(*method) % METHODS.len()], path);
        }
    }
    [] => {}
});

fn refused(problem: &Problem, statuses: &[u16]) {
    assert!(statuses.contains(&problem.status.as_u16()), "{problem:?}");
    assert_eq!(problem.allow.is_some(), problem.status.as_u16() == 405);
    assert!(!problem.code.is_empty() && !problem.detail.is_empty());
}

// ---- Bodies -------------------------------------------------------------------------------------

fn register(body: &[u8]) {
    let registration = match registration::read(body) {
        Ok(registration) => registration,
        Err(problem) => return refused(&problem, &[400, 422]),
    };
    assert_eq!(PluginName::parse(registration.name.as_str()), Ok(registration.name.clone()));
    for (field, most) in
        [(&registration.version, limits::PLUGIN_VERSION), (&registration.description, limits::PLUGIN_DESCRIPTION)]
    {
        assert!(!matches!(field, Field::Set(text) if text.chars().count() > most || text.contains('\0')));
    }
    // Encoding the registration yields the same fields, so any other JSON parser would have read
    // the same values.
    let again = written(&registration);
    assert_eq!(registration::read(again.to_string().as_bytes()), Ok(registration));
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        for key in ["name", "version", "description", "node"] {
            assert_eq!(value.get(key), again.get(key), "{key}");
        }
    }
}

fn written(registration: &Registration) -> Value {
    let mut object = json!({ "name": registration.name.as_str() });
    write(&mut object, "version", &registration.version);
    write(&mut object, "description", &registration.description);
    write(&mut object, "node", &registration.node);
    object
}

fn write(object: &mut Value, key: &str, field: &Field<impl AsRef<str>>) {
    match field {
        Field::Absent => {}
        Field::Clear => object[key] = Value::Null,
        Field::Set(text) => object[key] = text.as_ref().into(),
    }
}

// ---- Paths --------------------------------------------------------------------------------------

fn find(method: &Method, path: &str) {
    let found = match route(method, path) {
        Ok(found) => found,
        Err(problem) => return refused(&problem, &[400, 404, 405]),
    };
    let pattern = found.pattern();
    let is_head = *method == Method::HEAD;
    let served = if is_head { &Method::GET } else { method };
    assert!(pattern.starts_with(&format!("{served} /")), "{method} {pattern}");
    if is_head || *method == Method::GET {
        assert_eq!(route(&Method::GET, path), route(&Method::HEAD, path));
    }
    let name = match &found {
        Route::Plugin(name) | Route::Deregister(name) | Route::CheckPurge(name) | Route::Purge(name) => name.as_str(),
        _ => "",
    };
    assert_eq!(name.is_empty(), !pattern.contains("{name}"));
    // The same name with each byte percent-encoded, at its place in the pattern.
    let mut encoded = String::new();
    for byte in name.bytes() {
        write!(encoded, "%{byte:02x}").expect("a string can grow");
    }
    let (its_method, path) = pattern.split_once(' ').expect("a method and a path");
    assert_eq!(route(&its_method.parse().expect("a method"), &path.replace("{name}", &encoded)), Ok(found));
}
