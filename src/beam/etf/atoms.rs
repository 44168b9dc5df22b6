//! Atoms, and the table that keeps one copy of each. Pure.
//!
//! The owner of a table is the code that decodes. Nothing here is global, so the atoms of one peer
//! cannot displace the atoms of another.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::work;
use crate::limits;

/// An Erlang atom: a text of at most [`limits::ATOM_CHARACTERS`] characters. It is cheap to clone,
/// and is compared, ordered and hashed by its text.
pub struct Atom(Arc<str>);

impl Clone for Atom {
    fn clone(&self) -> Self {
        work::count(1);
        Self(self.0.clone())
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        work::count(1);
        self.0 == other.0
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        work::count(1);
        // Equal atoms of one table share an allocation, such as the node in the pids of a peer.
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        work::count(1);
        self.0.hash(state);
    }
}

/// The text exceeds [`limits::ATOM_CHARACTERS`] characters, so no Erlang node can have it as an
/// atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text exceeds the limit of {max} characters for an atom", max = limits::ATOM_CHARACTERS)]
pub struct AtomTooLong;

impl Atom {
    /// Creates the atom of a text.
    ///
    /// # Errors
    /// [`AtomTooLong`].
    pub fn new(text: &str) -> Result<Self, AtomTooLong> {
        if fits(text) { Ok(Self(text.into())) } else { Err(AtomTooLong) }
    }

    /// Creates the atom of a text that is known to be short enough.
    pub(crate) fn short(text: &str) -> Self {
        debug_assert!(fits(text), "too long for an atom: {text}");
        Self(text.into())
    }

    /// Creates an atom from a literal in the source code.
    ///
    /// # Panics
    /// If the text has more than [`limits::ATOM_CHARACTERS`] characters. For other texts, use [`Atom::new`].
    #[must_use]
    pub fn literal(text: &'static str) -> Self {
        Self(literal(text).into())
    }

    /// Returns its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the same text, and panics if it is too long for an atom. See [`Atom::literal`].
pub(super) fn literal(text: &'static str) -> &'static str {
    assert!(fits(text), "an atom literal is too long: {text}");
    text
}

/// Returns whether a text is short enough for an atom. For most texts, the number of bytes decides.
pub(super) fn fits(text: &str) -> bool {
    text.len() <= limits::ATOM_CHARACTERS || text.chars().count() <= limits::ATOM_CHARACTERS
}

impl Borrow<str> for Atom {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Atom {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Atom {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.escape_debug())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table of at most [`limits::ATOMS`] atoms. When it is full, further atoms are still decoded,
/// each with its own copy of the text.
#[derive(Debug, Default)]
pub struct Atoms {
    table: HashSet<Atom>,
    bytes: usize,
}

/// Memory of an atom in a table in bytes, without its text: its reference counts and its entry in
/// the table. A table may be less than half full.
const ENTRY: usize = 64;

impl Atoms {
    /// Creates an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the memory of the table in bytes, approximately.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the atom of a text that is known to be short enough, from the table if it has the text.
    pub(super) fn intern(&mut self, text: &str) -> Atom {
        if let Some(atom) = self.table.get(text) {
            return atom.clone();
        }
        let atom = Atom(text.into());
        if self.table.len() < limits::ATOMS {
            self.table.insert(atom.clone());
            self.bytes += ENTRY + text.len();
        }
        atom
    }
}
