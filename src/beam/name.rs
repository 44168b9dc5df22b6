//! Names of nodes, parsed once.
//!
//! A node name is one that `net_kernel` accepts for `-sname` and `-name`, with the host part
//! restricted to what a host name or an address can be.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// The full name of an Erlang node, `name@host`: at most [`limits::NODE_NAME`] bytes, the part
/// before the `@` of `[A-Za-z0-9_-]`, the host part of those, `.` and `:`, without a leading
/// hyphen, so that no program parses it as an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    full: Arc<str>,
    at: usize,
}

/// The text is not the full name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a node name is `name@host`: the name has letters, digits, `_` and `-`; the host may also have `.` and `:` but \
     not begin with `-`; at most {max} bytes in all",
    max = limits::NODE_NAME
)]
pub struct NodeNameError;

impl NodeName {
    /// Parses `name@host`.
    ///
    /// # Errors
    /// [`NodeNameError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NodeNameError> {
        let (name, host) = text.split_once('@').ok_or(NodeNameError)?;
        Self::new(name, host)
    }

    /// Joins the two parts.
    ///
    /// # Errors
    /// [`NodeNameError`] if one of them is empty, has a character it may not have, or both are too long.
    pub fn new(name: &str, host: &str) -> Result<Self, NodeNameError> {
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let in_host = |c: char| in_name(c) || matches!(c, '.' | ':');
        let valid = !name.is_empty()
            && !host.is_empty()
            && !host.starts_with('-')
            && name.len().saturating_add(host.len()) < limits::NODE_NAME
            && name.chars().all(in_name)
            && host.chars().all(in_host);
        if !valid {
            return Err(NodeNameError);
        }
        Ok(Self { full: format!("{name}@{host}").into(), at: name.len() })
    }

    /// The whole, `name@host`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// What stands before the `@`, the name that EPMD knows.
    #[must_use]
    pub fn name(&self) -> &str {
        self.full.get(..self.at).unwrap_or_default()
    }

    /// What stands behind the `@`.
    #[must_use]
    pub fn host(&self) -> &str {
        self.full.get(self.at.saturating_add(1)..).unwrap_or_default()
    }

    /// Whether the host part has a dot, or is an address: long and short names cannot connect to each other.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.host().contains(['.', ':'])
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

/// What the short names of nodes may look like: letters, digits, `_` and `-`, and `*` for any number of any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Box<str>);

impl NamePattern {
    /// Parses a pattern; none if it could match no name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*'));
        (valid && !text.is_empty() && text.len() <= limits::NODE_NAME).then(|| Self(text.into()))
    }

    /// Whether a short name is one of these. Takes the time of both lengths multiplied, and no more.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_have_two_parts() {
        let node = NodeName::parse("trading_app-x1@beam00.lab").expect("valid");
        assert_eq!((node.name(), node.host(), node.is_long()), ("trading_app-x1", "beam00.lab", true));
        assert_eq!(node.as_str(), "trading_app-x1@beam00.lab");
        assert!(!NodeName::parse("node@beam00").expect("valid").is_long());
        assert!(NodeName::parse("node@fd00::1").expect("valid").is_long());
        let longest = format!("a@{}", "b".repeat(limits::NODE_NAME - 2));
        assert!(NodeName::parse(&longest).is_ok());
        let too_long = format!("{longest}b");
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a",
            "a@b@c",
            "a.b@c",
            "a b@c",
            "a@b c",
            "a@b/c",
            "a@-oProxyCommand",
            "a@b\n",
            &too_long,
        ] {
            assert_eq!(NodeName::parse(bad), Err(NodeNameError), "{bad:?}");
        }
        for bad in ["\u{e4}@b", "a@\u{202e}b", "a\u{1b}[2J@b", "a\u{9b}@b", "a@b\u{200b}"] {
            assert_eq!(NodeName::parse(bad), Err(NodeNameError), "{bad:?}");
        }
    }

    #[test]
    fn patterns_of_names() {
        let matches = |pattern: &str, name: &str| NamePattern::parse(pattern).expect("valid").matches(name);
        for (pattern, yes, no) in [
            ("trade*", &["trade", "trade_1", "trades"][..], &["trad", "my_trade", ""][..]),
            ("trade", &["trade"], &["trade_1", "trad"]),
            ("*", &["", "a"], &[]),
            ("a_*d", &["a_traderd", "a_d"], &["a_trader", "ad"]),
            ("a*b*b", &["abb", "a_b_b", "abbbb"], &["ab", "abc", "bb"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("**", &["", "a"], &[]),
        ] {
            assert!(yes.iter().all(|name| matches(pattern, name)), "{pattern} {yes:?}");
            assert!(!no.iter().any(|name| matches(pattern, name)), "{pattern} {no:?}");
        }
        for bad in ["", "a@b", "a b", "a?", "a.b", &"a".repeat(limits::NODE_NAME + 1)] {
            assert_eq!(NamePattern::parse(bad), None, "{bad:?}");
        }
    }
}
