//! JSON that keeps the order of keys, and shows it to people.

use std::fmt::{self, Display};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Longest line.
const WIDTH: usize = 110;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// A string, number, boolean or null.
    Plain(Value),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn get(&self, key: &str) -> Option<&Json> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Returns the entries of an object, in order; of other values none.
    pub fn entries(&self) -> &[(String, Json)] {
        match self {
            Self::Object(entries) => entries,
            Self::Plain(_) | Self::Array(_) => &[],
        }
    }

    /// Returns the elements of an array; of other values none.
    pub fn elements(&self) -> &[Json] {
        match self {
            Self::Array(elements) => elements,
            Self::Plain(_) | Self::Object(_) => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(value) => value.as_str(),
            Self::Array(_) | Self::Object(_) => None,
        }
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(&self.to_string()).expect("JSON")
    }

    /// Replaces each plain value. `replace` gets the key that it belongs to.
    pub fn map_plain(&mut self, key: &str, replace: &dyn Fn(&str, &Value) -> Value) {
        match self {
            Self::Plain(value) => *value = replace(key, value),
            Self::Array(elements) => elements.iter_mut().for_each(|element| element.map_plain(key, replace)),
            Self::Object(entries) => entries.iter_mut().for_each(|(key, value)| value.map_plain(key, replace)),
        }
    }

    /// Returns the value over several lines, where one is not enough.
    pub fn pretty(&self) -> String {
        let mut text = String::new();
        self.write(0, 0, &mut text);
        text
    }

    /// `used` is how much of the first line is taken.
    fn write(&self, indent: usize, used: usize, text: &mut String) {
        let line = self.to_string();
        let inner = indent + 2;
        let begin = |at: usize| format!("{}\n{:inner$}", if at == 0 { "" } else { "," }, "");
        match self {
            Self::Array(elements) if used.max(indent) + line.chars().count() > WIDTH => {
                text.push('[');
                if elements.iter().all(|element| matches!(element, Self::Plain(_))) {
                    return fill(elements, indent, text);
                }
                for (at, element) in elements.iter().enumerate() {
                    text.push_str(&begin(at));
                    element.write(inner, 0, text);
                }
                text.push_str(&format!("\n{:indent$}]", ""));
            }
            Self::Object(entries) if used.max(indent) + line.chars().count() > WIDTH => {
                text.push('{');
                for (at, (key, element)) in entries.iter().enumerate() {
                    let key = format!("{}: ", Value::from(key.as_str()));
                    text.push_str(&begin(at));
                    text.push_str(&key);
                    element.write(inner, inner + key.len(), text);
                }
                text.push_str(&format!("\n{:indent$}}}", ""));
            }
            _ => text.push_str(&line),
        }
    }
}

/// Writes the elements of an array and its end, as many on a line as fit.
fn fill(elements: &[Json], indent: usize, text: &mut String) {
    let inner = indent + 2;
    let mut used = WIDTH;
    for (at, element) in elements.iter().enumerate() {
        let element = format!("{element}{}", if at + 1 < elements.len() { "," } else { "" });
        if used + 1 + element.len() > WIDTH {
            text.push_str(&format!("\n{:inner$}{element}", ""));
            used = inner + element.len();
        } else {
            text.push_str(&format!(" {element}"));
            used += 1 + element.len();
        }
    }
    text.push_str(&format!("\n{:indent$}]", ""));
}

/// On one line.
impl Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = |at: usize| if at == 0 { "" } else { ", " };
        match self {
            Self::Plain(value) => value.fmt(f),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (at, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", comma(at))?;
                }
                f.write_str("]")
            }
            Self::Object(entries) => {
                f.write_str("{")?;
                for (at, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{}: {value}", comma(at), Value::from(key.as_str()))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
                Ok(Json::Plain(Value::Null))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    elements.push(element);
                }
                Ok(Json::Array(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Json::Object(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
