//! Atoms, and the table that keeps one copy of each. Pure.
//!
//! A table is owned by whoever decodes: nothing here is global, so one peer's atoms can't crowd out another's.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::work;
use crate::limits;

/// An Erlang atom: at most [`limits::ATOM_CHARACTERS`] characters. Cheap to clone; equal, ordered and hashed by its text.
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

/// The text has more than [`limits::ATOM_CHARACTERS`] characters, so no Erlang node could hold it as an atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an atom has at most {max} characters, and the text has more: shorten it", max = limits::ATOM_CHARACTERS)]
pub struct AtomTooLong;

impl Atom {
    /// The atom of a text.
    ///
    /// # Errors
    /// [`AtomTooLong`].
    pub fn new(text: &str) -> Result<Self, AtomTooLong> {
        if fits(text) { Ok(Self(text.into())) } else { Err(AtomTooLong) }
    }

    /// The atom of a text that is known to be short enough.
    pub(crate) fn short(text: &str) -> Self {
        debug_assert!(fits(text), "too long for an atom: {text}");
        Self(text.into())
    }

    /// The atom of a text that stands in our own source.
    ///
    /// # Panics
    /// If the text has more than [`limits::ATOM_CHARACTERS`] characters. Text from elsewhere goes through [`Atom::new`].
    #[must_use]
    pub fn literal(text: &'static str) -> Self {
        Self(literal(text).into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The same text, if it is short enough for an atom; see [`Atom::literal`].
pub(super) fn literal(text: &'static str) -> &'static str {
    assert!(fits(text), "a literal atom in our source is too long: {text}");
    text
}

/// Whether a text is short enough for an atom. Almost every one is by its bytes alone.
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

/// A table of at most [`limits::ATOMS`] atoms. Once it is full, further atoms are decoded all the same, each with a copy of
/// its text.
#[derive(Debug, Default)]
pub struct Atoms {
    table: HashSet<Atom>,
    bytes: usize,
}

/// Memory of an atom in a table in bytes, without its text: reference counts and the entry in the
/// table, of which less than half may be in use.
const ENTRY: usize = 64;

impl Atoms {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the memory of the table in bytes, approximately.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The atom of a text that is known to be short enough.
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
