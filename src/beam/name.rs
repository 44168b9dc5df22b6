//! Node names, parsed once.
//!
//! A node name must be valid for `-sname` or `-name` of `erl`, and its host part must have the form
//! of a host name or an address. The rules are the same for every source: this node's own name, the
//! handshake, EPMD, the configuration, and names that peers send.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use crate::etf::Atom;
use crate::limits;

// A name has only ASCII characters, so it always fits into an atom.
const _: () = assert!(limits::NODE_NAME <= limits::ATOM_CHARACTERS);

/// The full name of an Erlang node, `name@host`, of at most [`limits::NODE_NAME`] bytes. The part
/// before the `@` has characters of `[A-Za-z0-9_-]`. The host part may also have `.` and `:`, but
/// no leading hyphen, so that no program parses it as an option.
///
/// Clones share the text. Equality, order and hash are the same as for the text, so a `&str` can
/// look up a key of this type.
#[derive(Clone)]
pub struct NodeName {
    full: Arc<str>,
    /// The position of the `@`.
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
        Self::check(name, host)?;
        Ok(Self { full: text.into(), at: name.len() })
    }

    /// Joins the two parts.
    ///
    /// # Errors
    /// [`NodeNameError`] if a part is empty or has an invalid character, or both together are too
    /// long.
    pub fn new(name: &str, host: &str) -> Result<Self, NodeNameError> {
        Self::check(name, host)?;
        Ok(Self { full: format!("{name}@{host}").into(), at: name.len() })
    }

    /// Returns whether a text has the form of a full name, valid or not. Short names and hosts have
    /// no `@`.
    #[must_use]
    pub fn is_full(text: &str) -> bool {
        text.contains('@')
    }

    fn check(name: &str, host: &str) -> Result<(), NodeNameError> {
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let in_host = |c: char| in_name(c) || matches!(c, '.' | ':');
        let valid = !name.is_empty()
            && !host.is_empty()
            && !host.starts_with('-')
            && name.len().saturating_add(host.len()) < limits::NODE_NAME
            && name.chars().all(in_name)
            && host.chars().all(in_host);
        if valid { Ok(()) } else { Err(NodeNameError) }
    }

    /// Returns the text, `name@host`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// Returns the name as an atom.
    #[must_use]
    pub fn atom(&self) -> Atom {
        Atom::short(&self.full)
    }

    /// Returns the part before the `@`, which is registered with EPMD.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.full.get(..self.at).unwrap_or_default()
    }

    /// Returns the part after the `@`.
    #[must_use]
    pub fn host(&self) -> &str {
        self.full.get(self.at.saturating_add(1)..).unwrap_or_default()
    }

    /// Returns the name of a node with the same short name on another host.
    ///
    /// # Errors
    /// [`NodeNameError`] if the host has an invalid character, or the name is too long.
    pub(crate) fn with_host(&self, host: &str) -> Result<Self, NodeNameError> {
        Self::new(self.short_name(), host)
    }

    /// Returns whether the host part has a dot, or is an address.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.host().contains(['.', ':'])
    }

    /// Returns whether one name is long and the other short. Such nodes never connect.
    #[must_use]
    pub fn is_mixed_with(&self, other: &Self) -> bool {
        self.is_long() != other.is_long()
    }

    /// Returns whether both nodes have the same short name, on any hosts.
    #[must_use]
    pub fn has_short_name_of(&self, other: &Self) -> bool {
        self.short_name() == other.short_name()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.full)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.full, f)
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        Self::parse(text)
    }
}

impl Deref for NodeName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.full
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.full
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.full
    }
}

impl Hash for NodeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.full.hash(state);
    }
}

impl PartialEq for NodeName {
    fn eq(&self, other: &Self) -> bool {
        self.full == other.full
    }
}

impl Eq for NodeName {}

impl PartialEq<str> for NodeName {
    fn eq(&self, other: &str) -> bool {
        *self.full == *other
    }
}

impl PartialEq<&str> for NodeName {
    fn eq(&self, other: &&str) -> bool {
        *self.full == **other
    }
}

impl PartialOrd for NodeName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodeName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.full.cmp(&other.full)
    }
}

/// A pattern for short names: letters, digits, `_` and `-`, and `*` for any number of any
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Box<str>);

impl NamePattern {
    /// Parses a pattern. Returns `None` if no name can match it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*'));
        (valid && !text.is_empty() && text.len() <= limits::NODE_NAME).then(|| Self(text.into()))
    }

    /// Returns whether a short name matches. The time is bounded by the product of both lengths.
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

/// Returns the node name that a test writes as a literal.
#[cfg(test)]
pub(crate) fn node(text: &str) -> NodeName {
    text.parse().unwrap()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    #[test]
    fn node_names_have_two_parts() {
        let node = NodeName::parse("trading_app-x1@beam00.lab").expect("valid");
        assert_eq!((node.short_name(), node.host(), node.is_long()), ("trading_app-x1", "beam00.lab", true));
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
    fn equality_order_and_hash_are_those_of_the_text() {
        // `a-b@h` precedes `a@h` in text order, and follows it in the order of short names.
        let texts = ["a-b@h", "a@h", "a@h-b", "a@h.b", "b@a"];
        let names = texts.map(|text| NodeName::parse(text).expect("valid"));
        assert!(texts.is_sorted() && names.is_sorted());
        let sorted: BTreeSet<NodeName> = names.iter().rev().cloned().collect();
        let hashed: HashSet<NodeName> = names.iter().cloned().collect();
        for (text, name) in texts.iter().zip(&names) {
            assert_eq!(name.as_str(), *text);
            assert_eq!(name, &node(text));
            assert!(sorted.contains(*text) && hashed.contains(*text));
        }
        assert!(!sorted.contains("a") && !hashed.contains("a"));
    }

    #[test]
    fn names_are_compared_by_their_parts() {
        assert_eq!(node("a@h").with_host("g.lab"), Ok(node("a@g.lab")));
        for bad in ["", "g@h", "g h", &"g".repeat(limits::NODE_NAME)] {
            assert_eq!(node("a@h").with_host(bad), Err(NodeNameError), "{bad:?}");
        }
        assert!(node("a@h").has_short_name_of(&node("a@g")) && !node("a@h").has_short_name_of(&node("ab@h")));
        assert!(node("a@h").is_mixed_with(&node("a@h.lab")) && !node("a@::1").is_mixed_with(&node("a@h.lab")));
    }

    #[test]
    fn name_patterns_match_short_names() {
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
