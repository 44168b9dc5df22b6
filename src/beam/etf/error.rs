//! Why bytes were refused, and the kinds of terms that errors name. Pure.

use std::fmt;

use super::tag;
use crate::limits;

/// The kind of a term, as its first byte shows.
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
    /// A list: empty, a string, or one of any terms, proper or improper.
    List,
    /// A map.
    Map,
    /// A binary.
    Binary,
    /// A bit string.
    BitString,
    /// A fun with its environment.
    Fun,
    /// A fun that is known by name, such as `fun lists:map/2`.
    ExternalFun,
}

impl Kind {
    /// Returns the kind of a term that begins with this tag.
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

/// Why bytes are not the expected term or message. The sender is always at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a term, or a count exceeds the number of elements that the remaining
    /// bytes can hold.
    #[error("the sender's message ends within a term, or has fewer elements than it announces")]
    Truncated,
    /// This many bytes follow the term.
    #[error("the sender's message has {0} bytes after its term")]
    TrailingBytes(usize),
    /// The first byte is not the version.
    #[error("the sender's message begins with byte {0} instead of {version}, the version of the term format", version = tag::VERSION)]
    Version(u8),
    /// No term begins with this byte.
    #[error("the sender's message has the unknown term tag {0}")]
    UnknownTag(u8),
    /// A compressed term. It could grow without bound, and no node compresses what it sends to
    /// others.
    #[error("the sender's term is compressed, which is not supported")]
    Compressed,
    /// A fun in the format of nodes before R8, which no supported release reads.
    #[error("the sender wrote a fun in a format that OTP 23 removed")]
    OldFun,
    /// A term that nests deeper than [`limits::TERM_DEPTH`].
    #[error("the sender's term nests more than {max} levels deep", max = limits::TERM_DEPTH)]
    TooDeep,
    /// A message with more elements than [`limits::TERM_NODES`].
    #[error("the sender's message has more than {max} elements", max = limits::TERM_NODES)]
    TooManyNodes,
    /// A term of an unexpected kind.
    #[error("the sender wrote {found} where {wanted} is expected")]
    Unexpected {
        /// The expected kind.
        wanted: Kind,
        /// The kind that was found.
        found: Kind,
    },
    /// An atom with an unexpected text.
    #[error("the sender wrote an unexpected atom")]
    OtherAtom,
    /// A tuple of an unexpected arity.
    #[error("the sender wrote a tuple of an unexpected size")]
    OtherArity,
    /// A list whose last tail is not `[]`, in the place of a proper list.
    #[error("the sender wrote an improper list where a proper one is expected")]
    ImproperList,
    /// An integer outside of the range that is valid here.
    #[error("the sender wrote an integer that is out of range")]
    IntegerRange,
    /// An atom of more than [`limits::ATOM_CHARACTERS`] characters.
    #[error("the sender wrote an atom of more than {max} characters", max = limits::ATOM_CHARACTERS)]
    AtomTooLong,
    /// An atom that is not UTF-8, although its tag says so.
    #[error("the sender wrote an atom that is not UTF-8")]
    AtomUtf8,
    /// A float that is not finite, or whose text is not a float.
    #[error("the sender wrote a float that is not a finite number")]
    Float,
    /// A bit string whose last byte has an invalid number of bits.
    #[error("the sender wrote a bit string with an invalid number of bits in its last byte: {0}")]
    Bits(u8),
    /// A reference without words, or with more than [`limits::REFERENCE_WORDS`].
    #[error("the sender wrote a reference of {0} words; valid are 1 to {max}", max = limits::REFERENCE_WORDS)]
    ReferenceWords(u16),
    /// A creation above 3, in a format that has two bits for it.
    #[error("the sender wrote the creation {0} in a format that allows only 0 to 3")]
    Creation(u8),
    /// A fun whose size field differs from its length.
    #[error("the sender wrote a fun whose size field differs from its length")]
    FunSize,
    /// A map with a duplicate key.
    #[error("the sender wrote a map with a duplicate key")]
    DuplicateKey,
}
