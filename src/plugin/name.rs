//! Names of plugins, parsed once.
//!
//! The rules are the convention's ("lowercase, hyphenated", "daemons end in `d`, frontends end in
//! `w`"), so that a name can be used as a directory, in a URL and, with `_` for `-`, as the short
//! name of an Erlang node.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Our own name, which no plugin may take.
pub const PRIMARY: &str = "hecate-daemon";

/// A valid plugin name: two or more words of `[a-z0-9]`, the first beginning with a letter, joined by single
/// hyphens, ending in `d`, at most [`limits::PLUGIN_NAME`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginName(Arc<str>);

/// Why a name was refused. The message says what to do instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("the name is empty: a plugin daemon is named like `hecate-traderd`")]
    Empty,
    /// Longer than [`limits::PLUGIN_NAME`] bytes.
    #[error("the name has {0} bytes, at most {max} are allowed: choose a shorter one", max = limits::PLUGIN_NAME)]
    TooLong(usize),
    /// Our own name.
    #[error("`hecate-daemon` is the primary daemon itself: a plugin needs a name of its own")]
    Reserved,
    /// Ends in `w`.
    #[error("a name ending in `w` is a frontend: it has no namespace, register its daemon, whose name ends in `d`")]
    Frontend,
    /// No hyphen: such names belong to infrastructure directories like `gitops`.
    #[error(
        "a name without a hyphen is kept for infrastructure such as `gitops`: name the daemon like `hecate-traderd`"
    )]
    Infrastructure,
    /// Something other than `[a-z0-9-]`.
    #[error("a name has only lowercase letters, digits and hyphens, and {0:?} is none of them")]
    Character(char),
    /// A hyphen at the beginning or end, or two together.
    #[error("words are joined by single hyphens, none at the beginning or the end, as in `hecate-traderd`")]
    Hyphen,
    /// Begins with a digit.
    #[error("a name begins with a letter, as `hecate-traderd` does")]
    FirstLetter,
    /// Does not end in `d`.
    #[error("daemons end in `d`, as `hecate-traderd` does")]
    NotADaemon,
}

impl NameError {
    /// The stable code of the refusal, for clients to branch on.
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
    /// Parses a name by the rules of the convention.
    ///
    /// # Errors
    /// The first rule that the name breaks, see [`NameError`].
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

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The short name that the plugin's Erlang node has by custom: `-` written `_`.
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
    fn both_families_of_the_ecosystem_pass() {
        for name in ["hecate-traderd", "hecate-app-traderd", "a-d", "hecate-x2d", "hecate-2d"] {
            assert_eq!(PluginName::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
        let longest = format!("{}-{}d", "a".repeat(30), "b".repeat(31));
        assert_eq!(longest.len(), limits::PLUGIN_NAME);
        assert!(PluginName::parse(&longest).is_ok());
    }

    #[test]
    fn each_refusal_has_its_code() {
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
    fn the_node_name_writes_underscores() {
        let name = PluginName::parse("hecate-app-traderd").expect("valid");
        assert_eq!(name.node_short_name(), "hecate_app_traderd");
    }
}
