//! The position of a [`Reader`] in its message, and the reading of bytes at that position. Pure.

use bytes::Bytes;

use super::{Atoms, DecodeError, Kind, tag, work};
use crate::limits;

/// Reads one message from beginning to end.
#[derive(Debug)]
pub struct Reader<'a> {
    pub(super) message: &'a Bytes,
    /// The position of the next byte.
    pub(super) at: usize,
    /// The element of a string that is read next, as if it were encoded as an integer.
    pub(super) element: Option<u8>,
    /// The number of elements that may still be turned into terms.
    pub(super) nodes: usize,
    /// Whether the walk has passed a map with more than one key.
    pub(super) keys_to_compare: bool,
    /// Whether the message was checked before, so that no map in it has a duplicate key.
    pub(super) checked: bool,
    pub(super) atoms: &'a mut Atoms,
}

/// The progress of reading a list: returned by [`Reader::list`], and updated by [`Reader::more`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListHeader {
    pub(super) left: usize,
    pub(super) form: ListForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListForm {
    /// `[]`.
    Nil,
    /// Integers, as one byte each.
    String,
    /// Terms, followed by a tail.
    Terms,
}

impl ListHeader {
    /// Returns the number of remaining elements of a list that is written in one piece, as every
    /// node writes it. The remaining bytes of the message bound it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Returns whether [`ListHeader::len`] is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Reader<'a> {
    /// Creates a reader of terms without a leading 131.
    #[must_use]
    pub fn new(message: &'a Bytes, atoms: &'a mut Atoms) -> Self {
        let (nodes, keys_to_compare, checked) = (limits::TERM_NODES, false, false);
        Self { message, at: 0, element: None, nodes, keys_to_compare, checked, atoms }
    }

    /// Returns the number of bytes read so far, for [`Reader::resume`]. It has no meaning within a
    /// string.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Creates a reader of terms after a leading 131, and reads that byte.
    ///
    /// # Errors
    /// [`DecodeError::Version`], or [`DecodeError::Truncated`] if the message is empty.
    pub fn with_version(message: &'a Bytes, atoms: &'a mut Atoms) -> Result<Self, DecodeError> {
        let mut reader = Self::new(message, atoms);
        match reader.u8()? {
            tag::VERSION => Ok(reader),
            other => Err(DecodeError::Version(other)),
        }
    }

    /// Returns the table of atoms of this reader.
    pub fn atoms(&mut self) -> &mut Atoms {
        self.atoms
    }

    /// Returns the kind of the next term. Consumes nothing.
    ///
    /// # Errors
    /// The message ends here, or no term begins here.
    pub fn peek(&self) -> Result<Kind, DecodeError> {
        if self.element.is_some() {
            return Ok(Kind::Integer);
        }
        Kind::of(*self.message.get(self.at).ok_or(DecodeError::Truncated)?)
    }

    /// Reads the tag of the next term. For an element of a string, returns the tag that it would
    /// have as an integer.
    pub(super) fn tag(&mut self) -> Result<u8, DecodeError> {
        if self.element.is_some() { Ok(tag::SMALL_INTEGER) } else { self.u8() }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        work::count(1);
        let end = self.at.checked_add(len).ok_or(DecodeError::Truncated)?;
        let bytes = self.message.get(self.at..end).ok_or(DecodeError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.first_chunk().copied().ok_or(DecodeError::Truncated)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a length of 32 bits.
    pub(super) fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.u32()?).map_err(|_| DecodeError::Truncated)
    }

    /// Checks a count against the remaining bytes. Each counted element needs at least `size`
    /// bytes.
    pub(super) fn fits(&self, count: u32, size: usize) -> Result<usize, DecodeError> {
        let left = self.message.len() - self.at;
        usize::try_from(count).ok().filter(|&count| count <= left / size).ok_or(DecodeError::Truncated)
    }
}

/// Returns the error for a term with this tag in the place of a `wanted` one.
pub(super) fn unexpected(wanted: Kind, tag: u8) -> DecodeError {
    match Kind::of(tag) {
        Ok(found) => DecodeError::Unexpected { wanted, found },
        Err(error) => error,
    }
}
