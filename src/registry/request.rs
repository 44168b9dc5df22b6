//! A request to register a plugin, whatever language it was made in: which values its fields may have. Pure.

use beam::name::NodeName;

use super::{Field, Registration};
use crate::escape::is_forbidden;
use crate::limits;
use crate::name::PluginName;

/// The value of a field as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Given {
    /// It was not.
    #[default]
    Absent,
    /// It was, as nothing: `null`, `undefined`.
    Null,
    /// A text.
    Text(String),
    /// Something else.
    NoText,
}

/// The fields of a request; what else it had is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Name of the plugin.
    pub name: Given,
    /// Its version.
    pub version: Given,
    /// Its description.
    pub description: Given,
    /// Full name of its node.
    pub node: Given,
}

/// A field that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Wrong {
    /// Stable, for clients to branch on.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
}

impl Request {
    /// The request, if each of its fields is valid.
    ///
    /// # Errors
    /// The first that isn't.
    pub fn check(self) -> Result<Registration, Wrong> {
        let name = match self.name {
            Given::Absent => {
                return Err(wrong("name_missing", "`name` is missing: it is the name of the plugin daemon"));
            }
            Given::Null => return Err(wrong("field_type", "`name` must be a string, not null")),
            Given::NoText => return Err(no_text("name")),
            Given::Text(name) => name,
        };
        let name = PluginName::parse(&name).map_err(|error| wrong(error.code(), error.to_string()))?;
        let node = field("node", self.node, beam::limits::NODE_NAME)?;
        if let Field::Set(node) = &node {
            NodeName::parse(node).map_err(|error| wrong("node_malformed", format!("`node`: {error}")))?;
        }
        Ok(Registration {
            name,
            version: field("version", self.version, limits::PLUGIN_VERSION)?,
            description: field("description", self.description, limits::PLUGIN_DESCRIPTION)?,
            node,
        })
    }
}

fn field(key: &str, given: Given, most: usize) -> Result<Field, Wrong> {
    let text = match given {
        Given::Absent => return Ok(Field::Absent),
        Given::Null => return Ok(Field::Clear),
        Given::NoText => return Err(no_text(key)),
        Given::Text(text) => text,
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

fn no_text(key: &str) -> Wrong {
    wrong("field_type", format!("`{key}` must be a string"))
}

fn wrong(code: &'static str, detail: impl Into<String>) -> Wrong {
    Wrong { code, detail: detail.into() }
}
