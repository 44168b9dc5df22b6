//! Names of plugins, parsed once.
//!
//! The rules follow Hecate's naming convention: "lowercase, hyphenated", "daemons end in `d`,
//! frontends end in `w`". So a name can be used as a directory, in a URL and, with `_` for `-`, as
//! the short name of an Erlang node.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// The name of the primary daemon itself, which no plugin may have.
pub const PRIMARY: &str = "hecate-daemon";

/// A valid plugin name: two or more words of `[a-z0-9]`, joined by single hyphens. It begins with a
/// letter, ends in `d`, and has at most [`limits::PLUGIN_NAME`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginName(Arc<str>);

/// Why a name is invalid. The message shows what a valid name looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty; a plugin needs a name like `hecate-traderd`")]
    Empty,
    /// The name is longer than [`limits::PLUGIN_NAME`] bytes.
    #[error("the name has {0} bytes, which exceeds the limit of {max}", max = limits::PLUGIN_NAME)]
    TooLong(usize),
    /// The name is reserved for the primary daemon.
    #[error("`hecate-daemon` is the name of the primary daemon; choose another name")]
    Reserved,
    /// The name ends in `w`.
    #[error(
        "a name that ends in `w` is a frontend, which has no directory; register its daemon, whose name ends in `d`"
    )]
    Frontend,
    /// The name has no hyphen. Such names are reserved for infrastructure directories like
    /// `gitops`.
    #[error(
        "a name without a hyphen is reserved for infrastructure such as `gitops`; use a name like `hecate-traderd`"
    )]
    Infrastructure,
    /// The name has a character other than `[a-z0-9-]`.
    #[error("invalid character {0:?} in the name; only lowercase letters, digits and hyphens are allowed")]
    Character(char),
    /// The name begins or ends with a hyphen, or has two hyphens in a row.
    #[error("hyphens must be single and between words, as in `hecate-traderd`")]
    Hyphen,
    /// The name begins with a digit.
    #[error("the name must begin with a letter, as in `hecate-traderd`")]
    FirstLetter,
    /// The name does not end in `d`.
    #[error("the name of a daemon must end in `d`, as in `hecate-traderd`")]
    NotADaemon,
}

impl NameError {
    /// Returns the stable code of the error, for clients to branch on.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "name_empty",
            Self::TooLong(_) => "name_too_long",
            Self::Reserved => "name_reserved",
            Self::Frontend => "name_is_frontend",
            Self::Infrastructure => "name_is_infrastructure",
            Self::Character(_) => "name_bad_character",
            Self::Hyphen => "name_bad_hyphen",
            Self::FirstLetter => "name_first_letter",
            Self::NotADaemon => "name_not_a_daemon",
        }
    }
}

impl PluginName {
    /// Parses a name.
    ///
    /// # Errors
    /// The first rule that the name breaks, as a [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > limits::PLUGIN_NAME {
            return Err(NameError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(bad));
        }
        if text == PRIMARY {
            return Err(NameError::Reserved);
        }
        if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
            return Err(NameError::Hyphen);
        }
        if !text.contains('-') {
            return Err(NameError::Infrastructure);
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(NameError::FirstLetter);
        }
        if text.ends_with('w') {
            return Err(NameError::Frontend);
        }
        if !text.ends_with('d') {
            return Err(NameError::NotADaemon);
        }
        Ok(Self(text.into()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the short name that the plugin's Erlang node has by convention, with `_` for `-`.
    #[must_use]
    pub fn node_short_name(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_names_are_accepted() {
        for name in ["hecate-traderd", "hecate-app-traderd", "a-d", "hecate-x2d", "hecate-2d"] {
            assert_eq!(PluginName::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
        let longest = format!("{}-{}d", "a".repeat(30), "b".repeat(31));
        assert_eq!(longest.len(), limits::PLUGIN_NAME);
        assert!(PluginName::parse(&longest).is_ok());
    }

    #[test]
    fn each_error_has_its_code() {
        let too_long = format!("{}-{}d", "a".repeat(30), "b".repeat(32));
        let table = [
            ("", "name_empty"),
            (too_long.as_str(), "name_too_long"),
            ("hecate-daemon", "name_reserved"),
            ("hecate-traderw", "name_is_frontend"),
            ("gitops", "name_is_infrastructure"),
            ("traderd", "name_is_infrastructure"),
            ("Hecate-traderd", "name_bad_character"),
            ("hecate/traderd", "name_bad_character"),
            ("hecate.traderd", "name_bad_character"),
            ("../hecate-d", "name_bad_character"),
            ("hecate-tr\u{e4}d", "name_bad_character"),
            ("hecate-trader\0d", "name_bad_character"),
            ("hecate_traderd", "name_bad_character"),
            ("hecate--traderd", "name_bad_hyphen"),
            ("-traderd", "name_bad_hyphen"),
            ("hecate-traderd-", "name_bad_hyphen"),
            ("2hecate-d", "name_first_letter"),
            ("hecate-trader", "name_not_a_daemon"),
        ];
        for (name, code) in table {
            assert_eq!(PluginName::parse(name).map_err(NameError::code), Err(code), "{name:?}");
        }
    }

    #[test]
    fn the_short_node_name_has_underscores() {
        let name = PluginName::parse("hecate-app-traderd").expect("valid");
        assert_eq!(name.node_short_name(), "hecate_app_traderd");
    }
}
