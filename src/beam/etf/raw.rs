//! A term as the bytes that its sender wrote. Pure.
//!
//! Tags of calls, references and `pg` groups are sent back byte for byte. Encoding them again could
//! change their form, and a node that compares bytes, or runs another release, would not recognize
//! them.

use std::fmt;

use bytes::Bytes;

use super::tag;

/// Exactly one well-formed encoded term within all limits, without the leading 131. It is compared
/// by its bytes: two that differ may still be equal terms, see [`Raw::canonical`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Raw(Bytes);

/// The encodings of 0 to 255, so that elements of a string are slices too.
static BYTES: [[u8; 2]; 256] = {
    let mut table = [[tag::SMALL_INTEGER, 0]; 256];
    let mut byte: u8 = 0;
    while byte < u8::MAX {
        byte += 1;
        #[allow(clippy::indexing_slicing, reason = "256 elements, indexed by a byte")]
        {
            table[byte as usize][1] = byte;
        }
    }
    table
};

impl Raw {
    /// Wraps a term that [`Reader::raw`](super::Reader::raw) has checked.
    pub(super) fn checked(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns the encoding of an element of a string.
    pub(super) fn byte(byte: u8) -> Self {
        #[allow(clippy::indexing_slicing, reason = "256 elements, indexed by a byte")]
        Self(Bytes::from_static(&BYTES[usize::from(byte)]))
    }

    /// Returns the encoded term, without the leading 131.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns a copy of the term in separate memory, for a term that is kept longer than its
    /// message.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.len())
    }
}
