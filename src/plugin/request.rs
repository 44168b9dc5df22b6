//! Checks the fields of a request to register a plugin, from JSON or from Erlang terms. Pure.

use beam::name::NodeName;

use super::PluginName;
use crate::escape::is_forbidden;
use crate::limits;

/// A field of a registration: an absent field keeps the stored value, and `null` clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field<T = String> {
    /// Keep the stored value.
    #[default]
    Absent,
    /// Clear the stored value.
    Clear,
    /// Replace the stored value.
    Set(T),
}

impl<T> Field<T> {
    /// Applies the field to a stored value.
    pub fn apply(self, value: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Clear => *value = None,
            Self::Set(new) => *value = Some(new),
        }
    }
}

/// A request to register a plugin, with valid fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The plugin to register.
    pub name: PluginName,
    /// The version.
    pub version: Field,
    /// The description.
    pub description: Field,
    /// The full name (`name@host`) of the plugin's node.
    pub node: Field<NodeName>,
}

/// The unchecked value of a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FieldValue {
    /// The request does not have the field.
    #[default]
    Absent,
    /// `null` in JSON, `undefined` or `null` in Erlang.
    Null,
    /// A string.
    Text(String),
    /// A value of another type.
    NotText,
}

/// The unchecked fields of a request. Other fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrationRequest {
    /// The name of the plugin.
    pub name: FieldValue,
    /// The version.
    pub version: FieldValue,
    /// The description.
    pub description: FieldValue,
    /// The full name of the plugin's node.
    pub node: FieldValue,
}

/// An invalid field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct InvalidField {
    /// The stable code of the error, for clients to branch on.
    pub code: &'static str,
    /// The error, and how to correct it.
    pub detail: String,
}

impl RegistrationRequest {
    /// Checks all fields.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn check(self) -> Result<Registration, InvalidField> {
        let name = match self.name {
            FieldValue::Absent => {
                return Err(invalid("name_missing", "`name` is missing; set it to the name of the plugin"));
            }
            FieldValue::Null => return Err(invalid("field_type", "`name` must be a string, not null")),
            FieldValue::NotText => return Err(not_text("name")),
            FieldValue::Text(name) => name,
        };
        let name = PluginName::parse(&name).map_err(|error| invalid(error.code(), error.to_string()))?;
        let node = field("node", self.node, beam::limits::NODE_NAME)?;
        let node = match node {
            Field::Absent => Field::Absent,
            Field::Clear => Field::Clear,
            Field::Set(node) => Field::Set(
                NodeName::parse(&node).map_err(|error| invalid("node_malformed", format!("`node`: {error}")))?,
            ),
        };
        Ok(Registration {
            name,
            version: field("version", self.version, limits::PLUGIN_VERSION)?,
            description: field("description", self.description, limits::PLUGIN_DESCRIPTION)?,
            node,
        })
    }
}

fn field(key: &str, given: FieldValue, max: usize) -> Result<Field, InvalidField> {
    let text = match given {
        FieldValue::Absent => return Ok(Field::Absent),
        FieldValue::Null => return Ok(Field::Clear),
        FieldValue::NotText => return Err(not_text(key)),
        FieldValue::Text(text) => text,
    };
    let length = text.chars().count();
    if length > max {
        let detail = format!("`{key}` has {length} characters, which exceeds the limit of {max}");
        return Err(invalid("field_too_long", detail));
    }
    if let Some(bad) = text.chars().find(|c| is_forbidden(*c)) {
        let detail = format!(
            "invalid character U+{:04X} in `{key}`; remove control, bidirectional and line-separator characters",
            u32::from(bad)
        );
        return Err(invalid("field_bad_character", detail));
    }
    Ok(Field::Set(text))
}

fn not_text(key: &str) -> InvalidField {
    invalid("field_type", format!("`{key}` must be a string"))
}

fn invalid(code: &'static str, detail: impl Into<String>) -> InvalidField {
    InvalidField { code, detail: detail.into() }
}
