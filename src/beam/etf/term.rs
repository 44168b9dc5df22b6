//! Erlang terms. Pure.
//!
//! Equality, order and hash follow Erlang's `=:=`: `1` and `1.0` differ, and the encoding of a term
//! does not matter. The order is total and suits keys and sorting. It is not the order of Erlang's
//! `<`. Constructors normalize values that have several forms (maps, big integers, bit strings), so
//! that fields can be compared directly.
//!
//! Spec: the data types of the Erlang reference manual; `eq` in `erts/emulator/beam/utils.c` for
//! references and funs.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

use super::{Atom, work};
use crate::limits;

/// Any Erlang term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// An atom.
    Atom(Atom),
    /// An integer of at most 64 bits, which is never a [`Term::BigInt`].
    Int(i64),
    /// An integer that exceeds 64 bits.
    BigInt(BigInt),
    /// A float.
    Float(Float),
    /// A process identifier.
    Pid(Pid),
    /// A port identifier.
    Port(Port),
    /// A reference.
    Reference(Reference),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A proper list. A string is a list of integers.
    List(Vec<Term>),
    /// A list of at least one element whose tail is not a list. Built by [`Term::improper`].
    ImproperList(Vec<Term>, Box<Term>),
    /// A map.
    Map(Map),
    /// A binary.
    Binary(Bytes),
    /// A bit string whose length is not a multiple of 8 bits.
    BitString(BitString),
    /// A fun with its environment.
    Fun(Box<Fun>),
    /// A fun that is known by name, such as `fun lists:map/2`.
    ExternalFun {
        /// The module.
        module: Atom,
        /// The function.
        function: Atom,
        /// The number of arguments.
        arity: u8,
    },
}

/// A process identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid {
    /// The full name of its node.
    pub node: Atom,
    /// The lower half of the process number.
    pub id: u32,
    /// The upper half of the process number.
    pub serial: u32,
    /// The creation of its node.
    pub creation: u32,
}

/// A port identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The full name of its node.
    pub node: Atom,
    /// The number of the port.
    pub id: u64,
    /// The creation of its node.
    pub creation: u32,
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The full name of its node.
    pub node: Atom,
    /// The creation of its node.
    pub creation: u32,
    /// Its number.
    pub ids: ReferenceIds,
}

/// The number of a reference: one to [`limits::REFERENCE_WORDS`] words, the least significant
/// first. Comparison ignores trailing zero words, but they are kept, because a node recognizes its
/// references by their number of words.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceIds {
    words: [u32; limits::REFERENCE_WORDS],
    len: u8,
}

impl ReferenceIds {
    /// Creates the number of these words. Returns `None` for no words or too many.
    #[must_use]
    pub fn new(ids: &[u32]) -> Option<Self> {
        let mut words = [0; limits::REFERENCE_WORDS];
        words.get_mut(..ids.len())?.copy_from_slice(ids);
        let len = u8::try_from(ids.len()).ok().filter(|&len| len > 0)?;
        Some(Self { words, len })
    }

    /// Returns the words without trailing zeros.
    pub(super) fn significant(&self) -> &[u32] {
        let used = self.iter().rposition(|&word| word != 0).map_or(1, |last| last + 1);
        self.words.get(..used).unwrap_or_default()
    }
}

/// Creates a number of three words, the size that every supported release uses.
impl From<[u32; 3]> for ReferenceIds {
    fn from([a, b, c]: [u32; 3]) -> Self {
        Self { words: [a, b, c, 0, 0], len: 3 }
    }
}

impl Deref for ReferenceIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.words.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl PartialEq for ReferenceIds {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Eq for ReferenceIds {}

impl PartialOrd for ReferenceIds {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ReferenceIds {
    fn cmp(&self, other: &Self) -> Ordering {
        self.words.cmp(&other.words)
    }
}

impl Hash for ReferenceIds {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words.hash(state);
    }
}

/// An integer that exceeds 64 bits. Created only by [`Term::integer`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BigInt {
    negative: bool,
    magnitude: Bytes,
}

impl BigInt {
    /// Returns whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Returns the absolute value, least significant byte first, without trailing zeros.
    #[must_use]
    pub fn magnitude(&self) -> &Bytes {
        &self.magnitude
    }
}

/// A finite float, compared by its bits: `0.0` and `-0.0` differ, as they do for `=:=` since OTP
/// 27.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Float(u64);

impl Float {
    /// Creates a float. Returns `None` if the value is not finite, because Erlang has only finite
    /// floats.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value.to_bits()))
    }

    /// Returns the value.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// A bit string with one to seven bits in its last byte. Created only by [`Term::bits`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitString {
    bytes: Bytes,
    bits: u8,
}

impl BitString {
    /// Returns the bytes. The last byte has its bits at the upper end, followed by zeros.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the number of bits in the last byte, 1 to 7.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }
}

/// A map: pairs with distinct keys, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Map(Vec<(Term, Term)>);

/// The pairs of a new map have a duplicate key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pairs of the map have a duplicate key")]
pub struct DuplicateKey;

impl Map {
    /// Creates a map of pairs in any order.
    ///
    /// # Errors
    /// [`DuplicateKey`].
    pub fn new(mut pairs: Vec<(Term, Term)>) -> Result<Self, DuplicateKey> {
        pairs.sort_unstable_by(|(a, _), (b, _)| {
            work::count(1);
            a.cmp(b)
        });
        let twice = |pair: &[(Term, Term)]| matches!(pair, [(a, _), (b, _)] if a == b);
        if pairs.windows(2).any(twice) { Err(DuplicateKey) } else { Ok(Self(pairs)) }
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &Term) -> Option<&Term> {
        let at = self.0.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Returns the value of the key that is the atom of this text.
    #[must_use]
    pub fn get_atom(&self, key: &str) -> Option<&Term> {
        self.0.iter().find_map(|(k, value)| (*k.as_atom()? == *key).then_some(value))
    }
}

/// The pairs in key order.
impl Deref for Map {
    type Target = [(Term, Term)];

    fn deref(&self) -> &[(Term, Term)] {
        &self.0
    }
}

/// A fun with its environment. Comparison ignores the creator.
#[derive(Debug, Clone)]
pub struct Fun {
    /// The module that defines it.
    pub module: Atom,
    /// The index in the module's table of funs.
    pub index: u32,
    /// The MD5 of the significant parts of the module.
    pub uniq: [u8; 16],
    /// The index as older releases number it.
    pub old_index: i64,
    /// A hash of the fun's code, in older releases.
    pub old_uniq: i64,
    /// The number of arguments.
    pub arity: u8,
    /// The process that created it.
    pub creator: Pid,
    /// The values of its free variables.
    pub free: Vec<Term>,
}

impl Fun {
    /// Returns the fields that are compared.
    fn identity(&self) -> (&Atom, u32, &[u8; 16], i64, i64, u8, &[Term]) {
        (&self.module, self.index, &self.uniq, self.old_index, self.old_uniq, self.arity, &self.free)
    }
}

impl PartialEq for Fun {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Fun {}

impl PartialOrd for Fun {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fun {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for Fun {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl Term {
    /// Creates an atom from a literal in the source code. For other texts, use [`Atom::new`].
    ///
    /// # Panics
    /// As [`Atom::literal`].
    #[must_use]
    pub fn atom(text: &'static str) -> Self {
        Self::Atom(Atom::literal(text))
    }

    /// Creates a binary from a copy of a text or bytes.
    #[must_use]
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// Creates a tuple.
    #[must_use]
    pub fn tuple(elements: impl Into<Vec<Self>>) -> Self {
        Self::Tuple(elements.into())
    }

    /// Creates an Erlang string: the list of the code points of a text.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::List(text.chars().map(|c| Self::Int(i64::from(u32::from(c)))).collect())
    }

    /// Creates the list `[Element, … | Tail]`. It is proper if the tail is a proper list. Returns
    /// the tail if there are no elements.
    #[must_use]
    pub fn improper(mut elements: Vec<Self>, tail: Self) -> Self {
        match tail {
            tail if elements.is_empty() => tail,
            Self::List(rest) => {
                elements.extend(rest);
                Self::List(elements)
            }
            Self::ImproperList(rest, tail) => {
                elements.extend(rest);
                Self::ImproperList(elements, tail)
            }
            tail => Self::ImproperList(elements, Box::new(tail)),
        }
    }

    /// Creates an integer of any size from its sign and absolute value, least significant byte
    /// first.
    #[must_use]
    pub fn integer(negative: bool, magnitude: Bytes) -> Self {
        match small(negative, &magnitude) {
            Some(value) => Self::Int(value),
            None => Self::BigInt(BigInt { negative, magnitude: magnitude.slice_ref(significant(&magnitude)) }),
        }
    }

    /// Creates the bit string of these bytes, with the upper `bits` bits of the last one; for 8 it
    /// is a binary. Returns `None` if `bits` is not 1 to 8.
    #[must_use]
    pub fn bits(bytes: Bytes, bits: u8) -> Option<Self> {
        if bits == 8 || bytes.is_empty() && bits == 0 {
            return Some(Self::Binary(bytes));
        }
        let unused = 8_u8.checked_sub(bits).filter(|_| bits > 0)?;
        let (&last, before) = bytes.split_last()?;
        let clean = last >> unused << unused;
        if clean == last {
            return Some(Self::BitString(BitString { bytes, bits }));
        }
        let bytes = [before, &[clean]].concat().into();
        Some(Self::BitString(BitString { bytes, bits }))
    }

    /// Returns the atom, if the term is one.
    #[must_use]
    pub fn as_atom(&self) -> Option<&Atom> {
        match self {
            Self::Atom(atom) => Some(atom),
            _ => None,
        }
    }
}

/// Returns the bytes of a number without zeros at the most significant end.
pub(super) fn significant(magnitude: &[u8]) -> &[u8] {
    let len = magnitude.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    magnitude.get(..len).unwrap_or_default()
}

/// Returns the integer with this sign and absolute value, if it has at most 64 bits.
pub(super) fn small(negative: bool, magnitude: &[u8]) -> Option<i64> {
    let significant = significant(magnitude);
    let mut bytes = [0; 8];
    bytes.get_mut(..significant.len())?.copy_from_slice(significant);
    let magnitude = u64::from_le_bytes(bytes);
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

impl From<i64> for Term {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Atom> for Term {
    fn from(atom: Atom) -> Self {
        Self::Atom(atom)
    }
}

impl From<Pid> for Term {
    fn from(pid: Pid) -> Self {
        Self::Pid(pid)
    }
}

impl From<Reference> for Term {
    fn from(reference: Reference) -> Self {
        Self::Reference(reference)
    }
}

impl From<Map> for Term {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}
