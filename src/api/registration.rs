//! Reads the body of a registration.

use std::borrow::Cow;
use std::fmt;

use hyper::StatusCode;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::problem::Problem;
use crate::plugin::{FieldValue, Registration, RegistrationRequest};

/// Reads the body of a registration.
///
/// # Errors
/// 400 if it is no JSON object, 422 if a field is wrong.
pub fn read(body: &[u8]) -> Result<Registration, Problem> {
    let request: RegistrationBody = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let example = "the body must be one JSON object, such as {\"name\": \"hecate-traderd\"}";
            Problem::new(StatusCode::BAD_REQUEST, "not_an_object", example)
        }
        _ => {
            let detail = format!("the body is not JSON: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "not_json", detail)
        }
    })?;
    if let Some(key) = request.twice {
        let detail = format!("duplicate key `{key}`: give it once");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "key_twice", detail));
    }
    let given = |value: Option<Value>| match value {
        None => FieldValue::Absent,
        Some(Value::Null) => FieldValue::Null,
        Some(Value::String(text)) => FieldValue::Text(text),
        Some(_) => FieldValue::NotText,
    };
    let request = RegistrationRequest {
        name: given(request.name),
        version: given(request.version),
        description: given(request.description),
        node: given(request.node),
    };
    request.check().map_err(|wrong| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, wrong.code, wrong.detail))
}

/// The keys that we read; others are ignored.
#[derive(Default)]
struct RegistrationBody {
    name: Option<Value>,
    version: Option<Value>,
    description: Option<Value>,
    node: Option<Value>,
    /// One of these keys that stood there more than once: which one holds would be a guess.
    twice: Option<&'static str>,
}

/// By hand, as a derived one takes an array for an object.
impl<'de> Deserialize<'de> for RegistrationBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = RegistrationBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RegistrationBody, A::Error> {
                let mut request = RegistrationBody::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let (key, slot) = match key.as_ref() {
                        "name" => ("name", &mut request.name),
                        "version" => ("version", &mut request.version),
                        "description" => ("description", &mut request.description),
                        "node" => ("node", &mut request.node),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if slot.replace(map.next_value()?).is_some() {
                        request.twice = Some(key);
                    }
                }
                Ok(request)
            }
        }
        deserializer.deserialize_any(Keys)
    }
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
