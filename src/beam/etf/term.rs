//! The terms. Pure.
//!
//! Equality, order and hash of everything here are those of Erlang's `=:=`: `1` and `1.0` differ, and two terms are equal
//! however they were encoded. The order is total and good for keys and sorting; it isn't the one of Erlang's `<`.
//! What has more than one form for one value (maps, big integers, bit strings) is brought to one form by its constructor,
//! so that this is plain comparison of fields.
//!
//! Spec: the types of the Erlang reference manual; `eq` in `erts/emulator/beam/utils.c` for references and funs.

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
    /// An integer that fits 64 bits; it is never a [`Term::BigInt`].
    Int(i64),
    /// An integer that doesn't fit 64 bits.
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
    /// A proper list. `[]` is the empty one, and a string is a list of integers.
    List(Vec<Term>),
    /// A list that ends in something other than a list: at least one element, and the tail. Build it by [`Term::improper`].
    ImproperList(Vec<Term>, Box<Term>),
    /// A map.
    Map(Map),
    /// A binary.
    Binary(Bytes),
    /// A bit string whose length isn't a multiple of eight.
    BitString(BitString),
    /// A fun with its environment.
    Fun(Box<Fun>),
    /// A fun known by name, as `fun lists:map/2`.
    ExternalFun {
        /// The module.
        module: Atom,
        /// The function.
        function: Atom,
        /// Number of its arguments.
        arity: u8,
    },
}

/// A process identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid {
    /// Full name of its node.
    pub node: Atom,
    /// Number of the process, its lower half.
    pub id: u32,
    /// Its upper half.
    pub serial: u32,
    /// Which life of the node it belongs to.
    pub creation: u32,
}

/// A port identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Full name of its node.
    pub node: Atom,
    /// Number of the port.
    pub id: u64,
    /// Which life of the node it belongs to.
    pub creation: u32,
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Full name of its node.
    pub node: Atom,
    /// Which life of the node it belongs to.
    pub creation: u32,
    /// Its number.
    pub ids: ReferenceIds,
}

/// The number of a reference: one to [`limits::REFERENCE_WORDS`] words, the least significant first. Words of zero at the
/// end don't count when two are compared, but are kept: a node knows its own references by their number of words.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceIds {
    words: [u32; limits::REFERENCE_WORDS],
    len: u8,
}

impl ReferenceIds {
    /// The number made of these words; none if there are too many or none at all.
    #[must_use]
    pub fn new(ids: &[u32]) -> Option<Self> {
        let mut words = [0; limits::REFERENCE_WORDS];
        words.get_mut(..ids.len())?.copy_from_slice(ids);
        let len = u8::try_from(ids.len()).ok().filter(|&len| len > 0)?;
        Some(Self { words, len })
    }

    /// The words without the zeros at the end.
    pub(super) fn significant(&self) -> &[u32] {
        let used = self.iter().rposition(|&word| word != 0).map_or(1, |last| last + 1);
        self.words.get(..used).unwrap_or_default()
    }
}

/// Three words, as every node of today makes them.
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

/// An integer that doesn't fit 64 bits. Made by [`Term::integer`] only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BigInt {
    negative: bool,
    magnitude: Bytes,
}

impl BigInt {
    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Its absolute value, least significant byte first, without zeros at the end.
    #[must_use]
    pub fn magnitude(&self) -> &Bytes {
        &self.magnitude
    }
}

/// A finite float. Equal if the bits are: `0.0` and `-0.0` differ, as they do for `=:=` since OTP 27.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Float(u64);

impl Float {
    /// The float of this value; none if it isn't finite, as there are no others in Erlang.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value.to_bits()))
    }

    /// Its value.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// A bit string with one to seven bits in its last byte. Made by [`Term::bits`] only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitString {
    bytes: Bytes,
    bits: u8,
}

impl BitString {
    /// Its bytes; the bits of the last are its upper ones, the others are zero.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bits of the last byte belong to it, 1 to 7.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }
}

/// A map: its pairs, each key once, in the order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Map(Vec<(Term, Term)>);

/// A map was to be made of pairs that have a key twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a map has each key once, and these pairs have one twice")]
pub struct DuplicateKey;

impl Map {
    /// The map of these pairs, given in any order.
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

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &Term) -> Option<&Term> {
        let at = self.0.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The value of a key that is an atom of this text.
    #[must_use]
    pub fn get_atom(&self, key: &str) -> Option<&Term> {
        self.0.iter().find_map(|(k, value)| (*k.as_atom()? == *key).then_some(value))
    }
}

/// The pairs, in the order of their keys.
impl Deref for Map {
    type Target = [(Term, Term)];

    fn deref(&self) -> &[(Term, Term)] {
        &self.0
    }
}

/// A fun with its environment. Who made it doesn't count when two are compared.
#[derive(Debug, Clone)]
pub struct Fun {
    /// The module it was written in.
    pub module: Atom,
    /// Its place in the module.
    pub index: u32,
    /// MD5 of the significant parts of the module.
    pub uniq: [u8; 16],
    /// Its place in the module, by the older reckoning.
    pub old_index: i64,
    /// Hash of its source.
    pub old_uniq: i64,
    /// Number of its arguments.
    pub arity: u8,
    /// The process that made it.
    pub creator: Pid,
    /// The values it took from around itself.
    pub free: Vec<Term>,
}

impl Fun {
    /// What makes it equal to another.
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
    /// An atom that stands in our own source; others are made by [`Atom::new`].
    ///
    /// # Panics
    /// As [`Atom::literal`].
    #[must_use]
    pub fn atom(text: &'static str) -> Self {
        Self::Atom(Atom::literal(text))
    }

    /// A binary with the bytes of a text, or any others.
    #[must_use]
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// A tuple.
    #[must_use]
    pub fn tuple(elements: impl Into<Vec<Self>>) -> Self {
        Self::Tuple(elements.into())
    }

    /// A string as Erlang has it: the list of its code points.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::List(text.chars().map(|c| Self::Int(i64::from(u32::from(c)))).collect())
    }

    /// The list of these elements and this tail, as `[Element, … | Tail]` gives it: proper if the tail is a proper list,
    /// and the tail itself if there are no elements.
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

    /// The integer with this sign and absolute value (least significant byte first), however large.
    #[must_use]
    pub fn integer(negative: bool, magnitude: Bytes) -> Self {
        match small(negative, &magnitude) {
            Some(value) => Self::Int(value),
            None => Self::BigInt(BigInt { negative, magnitude: magnitude.slice_ref(significant(&magnitude)) }),
        }
    }

    /// The bit string of these bytes, of whose last only the upper `bits` belong to it: a binary if they are 8. None if `bits`
    /// isn't 1 to 8.
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

    /// The atom, if it is one.
    #[must_use]
    pub fn as_atom(&self) -> Option<&Atom> {
        match self {
            Self::Atom(atom) => Some(atom),
            _ => None,
        }
    }
}

/// The bytes of a number without the zeros at its most significant end.
pub(super) fn significant(magnitude: &[u8]) -> &[u8] {
    let len = magnitude.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    magnitude.get(..len).unwrap_or_default()
}

/// The integer with this sign and absolute value, if it fits 64 bits.
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
