//! The position of a [`Reader`] in its message, and the bytes that it reads there. Pure.

use bytes::Bytes;

use super::{Atoms, DecodeError, Kind, tag, work};
use crate::limits;

/// Reads one message from its beginning to its end.
#[derive(Debug)]
pub struct Reader<'a> {
    pub(super) message: &'a Bytes,
    /// Where the next byte is read.
    pub(super) at: usize,
    /// The element of a string that is to be read next, as if it stood there as an integer.
    pub(super) element: Option<u8>,
    /// How many elements may still be turned into terms.
    pub(super) nodes: usize,
    /// Whether a map with more than one key has been walked over.
    pub(super) keys_to_compare: bool,
    /// Whether the message was checked before, so that the keys of its maps are known to differ.
    pub(super) checked: bool,
    pub(super) atoms: &'a mut Atoms,
}

/// Where the reading of a list is; from [`Reader::list`], for [`Reader::more`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListHeader {
    pub(super) left: usize,
    pub(super) form: ListForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListForm {
    /// `[]`.
    Nil,
    /// Bytes that stand for integers.
    String,
    /// Terms, followed by a tail.
    Terms,
}

impl ListHeader {
    /// How many elements are still to come: for a list that is written in one piece, as every node does. It is bounded by
    /// the bytes that are left in the message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether no elements are still to come, as far as [`ListHeader::len`] knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Reader<'a> {
    /// Reads terms without a leading 131.
    #[must_use]
    pub fn new(message: &'a Bytes, atoms: &'a mut Atoms) -> Self {
        let (nodes, keys_to_compare, checked) = (limits::TERM_NODES, false, false);
        Self { message, at: 0, element: None, nodes, keys_to_compare, checked, atoms }
    }

    /// Returns the number of bytes read so far, for [`Reader::resume`]. Not available within a
    /// string.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads terms after a leading 131, which is consumed.
    ///
    /// # Errors
    /// [`DecodeError::Version`], or [`DecodeError::Truncated`] if there is nothing at all.
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

    /// What the next term is. Consumes nothing.
    ///
    /// # Errors
    /// At the end of the message, and where no term begins.
    pub fn peek(&self) -> Result<Kind, DecodeError> {
        if self.element.is_some() {
            return Ok(Kind::Integer);
        }
        Kind::of(*self.message.get(self.at).ok_or(DecodeError::Truncated)?)
    }

    /// The tag of the next term. That of an element of a string is the one it would have as an integer.
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

    /// A number of bytes in 32 bits.
    pub(super) fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.u32()?).map_err(|_| DecodeError::Truncated)
    }

    /// Checks a count against the bytes that are left: each of what it counts takes at least `size` of them.
    pub(super) fn fits(&self, count: u32, size: usize) -> Result<usize, DecodeError> {
        let left = self.message.len() - self.at;
        usize::try_from(count).ok().filter(|&count| count <= left / size).ok_or(DecodeError::Truncated)
    }
}

/// The error of a term that begins with this tag where one of another kind should be.
pub(super) fn unexpected(wanted: Kind, tag: u8) -> DecodeError {
    match Kind::of(tag) {
        Ok(found) => DecodeError::Unexpected { wanted, found },
        Err(error) => error,
    }
}
