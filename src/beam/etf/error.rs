//! Why bytes were refused, and the kinds of terms that refusals speak of. Pure.

use std::fmt;

use super::tag;
use crate::limits;

/// What a term is, as far as its first byte tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An atom.
    Atom,
    /// An integer of any size.
    Integer,
    /// A float.
    Float,
    /// A process identifier.
    Pid,
    /// A port identifier.
    Port,
    /// A reference.
    Reference,
    /// A tuple.
    Tuple,
    /// A list: empty, a string, or of anything, proper or not.
    List,
    /// A map.
    Map,
    /// A binary.
    Binary,
    /// A bit string.
    BitString,
    /// A fun with its environment.
    Fun,
    /// A fun known by name, as `fun lists:map/2`.
    ExternalFun,
}

impl Kind {
    /// The kind of a term that begins with this tag.
    pub(super) fn of(tag: u8) -> Result<Self, DecodeError> {
        Ok(match tag {
            tag::ATOM | tag::SMALL_ATOM | tag::ATOM_UTF8 | tag::SMALL_ATOM_UTF8 => Self::Atom,
            tag::SMALL_INTEGER | tag::INTEGER | tag::SMALL_BIG | tag::LARGE_BIG => Self::Integer,
            tag::NEW_FLOAT | tag::FLOAT => Self::Float,
            tag::PID | tag::NEW_PID => Self::Pid,
            tag::PORT | tag::NEW_PORT | tag::V4_PORT => Self::Port,
            tag::REFERENCE | tag::NEW_REFERENCE | tag::NEWER_REFERENCE => Self::Reference,
            tag::SMALL_TUPLE | tag::LARGE_TUPLE => Self::Tuple,
            tag::NIL | tag::STRING | tag::LIST => Self::List,
            tag::MAP => Self::Map,
            tag::BINARY => Self::Binary,
            tag::BIT_BINARY => Self::BitString,
            tag::NEW_FUN => Self::Fun,
            tag::EXPORT => Self::ExternalFun,
            tag::COMPRESSED => return Err(DecodeError::Compressed),
            tag::FUN => return Err(DecodeError::OldFun),
            _ => return Err(DecodeError::UnknownTag(tag)),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Atom => "an atom",
            Self::Integer => "an integer",
            Self::Float => "a float",
            Self::Pid => "a pid",
            Self::Port => "a port",
            Self::Reference => "a reference",
            Self::Tuple => "a tuple",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Binary => "a binary",
            Self::BitString => "a bit string",
            Self::Fun => "a fun",
            Self::ExternalFun => "an external fun",
        })
    }
}

/// Why bytes are not the term, or not the message, that they should be. The fault is always the sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the term does, or a count promises more elements than there are bytes left.
    #[error("the sender's message ends before its term does, or promises more elements than it can hold")]
    Truncated,
    /// This many bytes follow the term.
    #[error("{0} bytes follow the sender's term, where its message should end")]
    TrailingBytes(usize),
    /// The first byte isn't the version.
    #[error("the sender's message begins with byte {0}, not with {version}, the version of the term format", version = tag::VERSION)]
    Version(u8),
    /// No term begins with this byte.
    #[error("the sender wrote byte {0} where a term should begin, and none begins so")]
    UnknownTag(u8),
    /// A compressed term: it could grow without bound, and no node compresses what it sends to another.
    #[error("the sender's term is compressed: it must be sent plain")]
    Compressed,
    /// A fun as nodes before R8 wrote it, which no living node reads.
    #[error("the sender wrote a fun in the form that was given up in OTP 23")]
    OldFun,
    /// Deeper than [`limits::TERM_DEPTH`].
    #[error("the sender's term nests deeper than {max} levels", max = limits::TERM_DEPTH)]
    TooDeep,
    /// More elements than [`limits::TERM_NODES`].
    #[error("the sender's message has more than {max} elements", max = limits::TERM_NODES)]
    TooManyNodes,
    /// A term of another kind than the message should have here.
    #[error("the sender wrote {found} where {wanted} should be")]
    Unexpected {
        /// What should be here.
        wanted: Kind,
        /// What is here.
        found: Kind,
    },
    /// An atom, but another one than the message should have here.
    #[error("the sender wrote another atom than should be here")]
    OtherAtom,
    /// A tuple of another arity than the message should have here.
    #[error("the sender wrote a tuple of another size than should be here")]
    OtherArity,
    /// A list whose last tail isn't `[]`, where a proper one should be.
    #[error("the sender wrote an improper list where a proper one should be")]
    ImproperList,
    /// An integer outside the range that its place allows.
    #[error("the sender wrote an integer too large for its place")]
    IntegerRange,
    /// An atom of more than [`limits::ATOM_CHARACTERS`] characters.
    #[error("the sender wrote an atom of more than {max} characters", max = limits::ATOM_CHARACTERS)]
    AtomTooLong,
    /// An atom that isn't UTF-8 though its tag says so.
    #[error("the sender wrote an atom that is not UTF-8")]
    AtomUtf8,
    /// A float that isn't finite, or whose text isn't a float.
    #[error("the sender wrote a float that is not a finite number")]
    Float,
    /// A bit string with a number of bits in its last byte that doesn't fit its length.
    #[error("the sender wrote a bit string with {0} bits in its last byte")]
    Bits(u8),
    /// A reference of no word, or of more than [`limits::REFERENCE_WORDS`].
    #[error("the sender wrote a reference of {0} words: it has 1 to {max}", max = limits::REFERENCE_WORDS)]
    ReferenceWords(u16),
    /// A creation above 3 where only two bits count.
    #[error("the sender wrote the creation {0} in a form that has only 0 to 3")]
    Creation(u8),
    /// A fun whose Size isn't its length.
    #[error("the sender wrote a fun whose size is not its length")]
    FunSize,
    /// A map that has a key twice.
    #[error("the sender wrote a map that has the same key twice")]
    DuplicateKey,
}
