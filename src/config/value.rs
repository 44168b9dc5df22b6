//! A value with its source, and functions that read it as a type. Each error names the source, the
//! value and the allowed values.
//!
//! The same functions read text of flags and variables and terms of `sys.config`, so a value has
//! the same meaning in each source.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::error::Error;
use super::source::Source;
use crate::limits;

/// A value that is not interpreted yet. Does not implement `Debug`, because the value may be the
/// cookie.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Text of a flag or variable, or a string, atom or binary in the file.
    Text(String),
    /// A number in the file.
    Number(u64),
    /// A list in the file.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if text.chars().count() > SHOWN => {
                let start: String = text.chars().take(SHOWN).collect();
                write!(f, "{start:?}...")
            }
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(_) => f.write_str("a list"),
        }
    }
}

/// How many characters of an invalid value an error shows.
const SHOWN: usize = 80;

/// A value and its source. Does not implement `Debug`, because the value may be the cookie.
pub(super) struct Given {
    value: Value,
    source: Source,
}

impl Given {
    pub(super) fn new(value: Value, source: Source) -> Self {
        Self { value, source }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the error for this value. `allowed` completes "expected ...".
    pub(super) fn refuse(&self, allowed: impl Into<String>) -> Error {
        Error::Invalid { source_of_value: self.source.clone(), value: self.value.to_string(), allowed: allowed.into() }
    }

    /// Returns the value if it is text.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::List(_) => None,
        }
    }

    /// Reads text that is not empty.
    pub(super) fn text(&self, allowed: &str) -> Result<&str, Error> {
        let text = self.as_text().filter(|text| !text.is_empty());
        text.ok_or_else(|| self.refuse(allowed))
    }

    /// Reads a whole number from `least` to `most`.
    pub(super) fn number(&self, least: u64, most: u64) -> Result<u64, Error> {
        let number = match &self.value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => decimal(text),
            Value::List(_) => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.refuse(format!("a whole number from {least} to {most}")))
    }

    pub(super) fn port(&self) -> Result<u16, Error> {
        let number = self.number(1, u64::from(u16::MAX))?;
        u16::try_from(number).map_err(|_| self.refuse("a port"))
    }

    pub(super) fn seconds(&self, least: u64, most: u64) -> Result<Duration, Error> {
        Ok(Duration::from_secs(self.number(least, most)?))
    }

    pub(super) fn boolean(&self) -> Result<bool, Error> {
        match &self.value {
            Value::Text(text) if text == "true" => Ok(true),
            Value::Text(text) if text == "false" => Ok(false),
            _ => Err(self.refuse("`true` or `false`")),
        }
    }

    /// Reads a file mode: octal if it is text, in any base if it is a number in the file. It must
    /// contain the bits of `owner`.
    pub(super) fn mode(&self, owner: u32) -> Result<u32, Error> {
        let mode = match &self.value {
            Value::Number(number) => u32::try_from(*number).ok(),
            Value::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => u32::from_str_radix(text, 8).ok(),
            _ => None,
        };
        mode.filter(|mode| *mode <= 0o777 && mode & owner == owner).ok_or_else(|| {
            self.refuse(format!("an octal mode up to 0777 that includes {owner:04o} (in the file 8#{owner:o})"))
        })
    }

    /// Reads a list: text separated by commas, or a list or a single value in the file. Each
    /// element has the same source, for its errors.
    pub(super) fn list(&self) -> Result<Vec<Given>, Error> {
        let values: Vec<Value> = match (&self.value, &self.source) {
            (Value::List(values), _) => values.clone(),
            (Value::Text(text), Source::Flag(_) | Source::Variable(_)) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts.map(|part| Value::Text(part.to_owned())).collect()
            }
            // The empty string and the empty list are the same term.
            (Value::Text(text), _) if text.is_empty() => Vec::new(),
            (value, _) => vec![value.clone()],
        };
        if values.len() > limits::CONFIG_LIST {
            return Err(self.refuse(format!("at most {} elements", limits::CONFIG_LIST)));
        }
        let given = |value| Given::new(value, self.source.clone());
        Ok(values.into_iter().map(given).collect())
    }

    /// Reads an absolute path. `~` at its beginning means the directory that `home` returns.
    pub(super) fn path(&self, home: impl FnOnce() -> Result<PathBuf, Error>) -> Result<PathBuf, Error> {
        const ALLOWED: &str = "a path that begins with `/` or `~/` and has no `..`";
        let text = self.text(ALLOWED)?;
        let path = match text.strip_prefix('~') {
            Some("") => home()?,
            Some(rest) => home()?.join(rest.strip_prefix('/').ok_or_else(|| self.refuse(ALLOWED))?),
            None => PathBuf::from(text),
        };
        if !plain_absolute(&path) {
            return Err(self.refuse(ALLOWED));
        }
        // Removes a trailing slash.
        Ok(path.components().collect())
    }
}

/// Returns whether a path is absolute, has no `..` and no NUL byte.
pub(super) fn plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && !path.as_os_str().as_encoded_bytes().contains(&0)
        && !path.components().any(|part| part == Component::ParentDir)
}

/// Parses digits. `u64::from_str` would also accept a sign.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
