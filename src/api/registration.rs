//! Reads the body of a registration.

use std::borrow::Cow;
use std::fmt;

use hyper::StatusCode;
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::problem::Problem;
use crate::plugin::{FieldValue, Registration, RegistrationRequest};

/// Reads the body of a registration.
///
/// # Errors
/// 400 if the body is not a JSON object, 422 if a field is invalid.
pub fn read(body: &[u8]) -> Result<Registration, Problem> {
    let (request, duplicate) = parse(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let example = "the body must be one JSON object, such as {\"name\": \"hecate-traderd\"}";
            Problem::new(StatusCode::BAD_REQUEST, "not_an_object", example)
        }
        category => {
            let detail = match category {
                _ if body.trim_ascii().is_empty() => "the body is empty; send a JSON object".to_owned(),
                serde_json::error::Category::Eof => "the JSON in the body is incomplete; send all of it".to_owned(),
                _ => format!("the body is not JSON: {error}"),
            };
            Problem::new(StatusCode::BAD_REQUEST, "not_json", detail)
        }
    })?;
    if let Some(key) = duplicate {
        let detail = format!("duplicate key `{key}`: send it once");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "key_twice", detail));
    }
    request.check().map_err(|wrong| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, wrong.code, wrong.detail))
}

/// A request, and one of its keys that occurs more than once. Such a request is ambiguous.
type Parsed = (RegistrationRequest, Option<&'static str>);

fn parse(body: &[u8]) -> serde_json::Result<Parsed> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = json.deserialize_any(Keys)?;
    json.end()?;
    Ok(parsed)
}

/// Reads the keys of a request and ignores others. Not derived, because a derived implementation
/// also accepts an array.
struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let (mut request, mut duplicate) = (RegistrationRequest::default(), None);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let (key, field) = match key.as_ref() {
                "name" => ("name", &mut request.name),
                "version" => ("version", &mut request.version),
                "description" => ("description", &mut request.description),
                "node" => ("node", &mut request.node),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value = match map.next_value()? {
                Value::Null => FieldValue::Null,
                Value::String(text) => FieldValue::Text(text),
                _ => FieldValue::NotText,
            };
            if std::mem::replace(field, value) != FieldValue::Absent {
                duplicate = Some(key);
            }
        }
        Ok((request, duplicate))
    }
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
