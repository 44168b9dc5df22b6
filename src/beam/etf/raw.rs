//! A term kept as the bytes its sender wrote. Pure.
//!
//! Tags of calls, references and pg groups are echoed byte for byte: re-encoding could change their form, and a node that
//! compares bytes, or that is of another release, would no longer know them.

use std::fmt;

use bytes::Bytes;

use super::tag;

/// Exactly one well-formed term within all bounds, encoded, without the leading 131. Compares by its bytes: two that
/// differ may still be equal terms, see [`Raw::canonical`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Raw(Bytes);

/// The encodings of 0 to 255, so that the elements of a string can be handed out as slices too.
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
    /// A term that [`Reader::raw`](super::Reader::raw) has checked.
    pub(super) fn checked(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// An integer that arrived as an element of a string.
    pub(super) fn byte(byte: u8) -> Self {
        #[allow(clippy::indexing_slicing, reason = "256 elements, indexed by a byte")]
        Self(Bytes::from_static(&BYTES[usize::from(byte)]))
    }

    /// The encoded term, without the leading 131.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The same term in memory of its own: what is kept for long must not keep the whole message it came in.
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
