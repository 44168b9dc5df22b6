//! A request to register a plugin, whatever language it was made in: which values its fields may have. Pure.

use beam::name::NodeName;

use super::PluginName;
use crate::escape::is_forbidden;
use crate::limits;

/// A field of a registration request: re-registration keeps what is absent and clears what is `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field<T = String> {
    /// The key was absent: the stored value stays.
    #[default]
    Absent,
    /// The key was `null`: the stored value goes.
    Clear,
    /// The key had this value.
    Set(T),
}

impl<T> Field<T> {
    /// Makes a stored value what the request wants.
    pub fn apply(self, value: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Clear => *value = None,
            Self::Set(new) => *value = Some(new),
        }
    }
}

/// A request to register a plugin, valid in form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The plugin to register.
    pub name: PluginName,
    /// New version.
    pub version: Field,
    /// New description.
    pub description: Field,
    /// New node, a full name `name@host`.
    pub node: Field<NodeName>,
}

/// The value of a field as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FieldValue {
    /// It was not.
    #[default]
    Absent,
    /// It was, as nothing: `null`, `undefined`.
    Null,
    /// A text.
    Text(String),
    /// Something else.
    NotText,
}

/// The fields of a request; what else it had is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrationRequest {
    /// Name of the plugin.
    pub name: FieldValue,
    /// Its version.
    pub version: FieldValue,
    /// Its description.
    pub description: FieldValue,
    /// Full name of its node.
    pub node: FieldValue,
}

/// A field that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct InvalidField {
    /// Stable, for clients to branch on.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
}

impl RegistrationRequest {
    /// The request, if each of its fields is valid.
    ///
    /// # Errors
    /// The first that isn't.
    pub fn check(self) -> Result<Registration, InvalidField> {
        let name = match self.name {
            FieldValue::Absent => {
                return Err(wrong("name_missing", "`name` is missing: it is the name of the plugin daemon"));
            }
            FieldValue::Null => return Err(wrong("field_type", "`name` must be a string, not null")),
            FieldValue::NotText => return Err(no_text("name")),
            FieldValue::Text(name) => name,
        };
        let name = PluginName::parse(&name).map_err(|error| wrong(error.code(), error.to_string()))?;
        let node = field("node", self.node, beam::limits::NODE_NAME)?;
        let node = match node {
            Field::Absent => Field::Absent,
            Field::Clear => Field::Clear,
            Field::Set(node) => {
                Field::Set(NodeName::parse(&node).map_err(|error| wrong("node_malformed", format!("`node`: {error}")))?)
            }
        };
        Ok(Registration {
            name,
            version: field("version", self.version, limits::PLUGIN_VERSION)?,
            description: field("description", self.description, limits::PLUGIN_DESCRIPTION)?,
            node,
        })
    }
}

fn field(key: &str, given: FieldValue, most: usize) -> Result<Field, InvalidField> {
    let text = match given {
        FieldValue::Absent => return Ok(Field::Absent),
        FieldValue::Null => return Ok(Field::Clear),
        FieldValue::NotText => return Err(no_text(key)),
        FieldValue::Text(text) => text,
    };
    let length = text.chars().count();
    if length > most {
        return Err(wrong("field_too_long", format!("`{key}` has {length} characters, at most {most} are allowed")));
    }
    if let Some(bad) = text.chars().find(|c| is_forbidden(*c)) {
        let detail = format!(
            "`{key}` has the character U+{:04X}: leave out control, bidirectional and line-separator characters",
            u32::from(bad)
        );
        return Err(wrong("field_bad_character", detail));
    }
    Ok(Field::Set(text))
}

fn no_text(key: &str) -> InvalidField {
    wrong("field_type", format!("`{key}` must be a string"))
}

fn wrong(code: &'static str, detail: impl Into<String>) -> InvalidField {
    InvalidField { code, detail: detail.into() }
}
