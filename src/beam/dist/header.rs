//! Distribution headers: what precedes the terms of a frame where both nodes have agreed on `DFLAG_DIST_HDR_ATOM_CACHE`.
//!
//! A header names the atoms that the terms refer to: by their texts, which then fill an entry of the connection's cache, or by an
//! entry that is filled. With `DFLAG_FRAGMENTS` a message may come in fragments, between which other messages come. Whatever
//! comes, the terms that leave here stand alone: a control message and, where there is one, a payload. Pure.
//!
//! Spec: "Distribution Header" in "External Term Format" of the ERTS user's guide; `erts_prepare_dist_ext` in
//! `erts/emulator/beam/external.c`.

mod fragments;

use bytes::{Bytes, BytesMut};

use super::flags::{self, Flags};
use crate::etf::{CachedAtom, DecodeError, ExpandError, Expander};
use crate::limits;
use fragments::Fragments;

/// What stands before the terms of a frame of ours: no atoms, and no fragments.
pub(super) const OURS: [u8; 3] = [VERSION, NORMAL, 0];

const VERSION: u8 = 131;
const NORMAL: u8 = 68;
const FIRST_FRAGMENT: u8 = 69;
const FRAGMENT: u8 = 70;

/// Bytes of the buffer that messages share once their atoms are in place; a larger message has its own
/// memory. A tuning constant: more means fewer allocations; less means less memory per connection.
const EXPANDED: usize = 16 * 1024;

/// Entries of an atom cache: 8 segments of 256.
const CACHE: usize = 2048;

/// A frame whose header, or whose place among fragments, is wrong: the peer's fault, and the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Something else than a header.
    #[error("the peer sent a frame that begins with {0:?} where distribution headers were agreed")]
    NoHeader(Vec<u8>),
    /// Fragments were not negotiated.
    #[error("the peer sent a fragment, and fragments were not agreed")]
    NotAgreed,
    /// The frame ends before its header does.
    #[error("the peer sent a frame that ends before its distribution header does")]
    Truncated,
    /// An entry of the cache that nothing has filled.
    #[error("the peer refers to entry {0} of the atom cache, which it has not filled")]
    EmptyEntry(usize),
    /// A new entry that is no atom.
    #[error("the peer fills the atom cache with what is no atom: {0}")]
    NoAtom(DecodeError),
    /// A term refers to an atom that the header of its message doesn't have.
    #[error("the peer's message refers to atom {0} of its header, which has fewer")]
    NoSuchAtom(u8),
    /// With its atoms in their places a message is longer than [`limits::FRAME`].
    #[error("the peer's message takes more than the {max} bytes that are taken", max = limits::FRAME)]
    TooLong,
    /// A fragment of a message that has not begun, or was given up as others needed room.
    #[error(
        "the peer sent fragment {fragment} of sequence {sequence}, which has not begun, or waited longest of too many"
    )]
    NotBegun {
        /// The sequence.
        sequence: u64,
        /// The fragment.
        fragment: u64,
    },
    /// The first fragment of a message that has begun.
    #[error("the peer began sequence {0} of fragments again before it had ended")]
    BegunAgain(u64),
    /// Fragments count down to 1.
    #[error("the peer sent fragment {fragment} of sequence {sequence} where {expected} should come")]
    OutOfOrder {
        /// The sequence.
        sequence: u64,
        /// Which came.
        fragment: u64,
        /// Which should have.
        expected: u64,
    },
}

impl From<ExpandError> for HeaderError {
    fn from(e: ExpandError) -> Self {
        match e {
            ExpandError::NoSuchAtom(index) => Self::NoSuchAtom(index),
            ExpandError::TooLong => Self::TooLong,
        }
    }
}

/// What a connection has to remember of the headers that have come over it.
#[derive(Debug)]
pub struct Headers {
    cache: Vec<Option<CachedAtom>>,
    /// Memory of the cache in bytes.
    cached: usize,
    /// `None`: fragments were not agreed.
    fragments: Option<Fragments>,
    /// For the atoms of one header; its memory stays.
    atoms: Vec<CachedAtom>,
    /// For terms that are expanded; many messages share its memory.
    buffer: BytesMut,
}

impl Headers {
    /// Of a connection for which these flags were agreed; none if its frames have no headers.
    #[must_use]
    pub fn new(agreed: Flags) -> Option<Self> {
        flags::headers(agreed).then(|| Self {
            cache: Vec::new(),
            cached: 0,
            fragments: agreed.contains(Flags::FRAGMENTS).then(Fragments::default),
            atoms: Vec::new(),
            buffer: BytesMut::new(),
        })
    }

    /// Returns the memory of unfinished messages in fragments and of the cache, in bytes.
    pub(super) fn held(&self) -> usize {
        self.cached + self.fragments.as_ref().map_or(0, Fragments::bytes)
    }

    /// Takes a frame, and gives the terms of the message that it ends: plain, and without a version. `None`: the message is not complete.
    ///
    /// # Errors
    /// See [`HeaderError`]. What follows the header is not checked any further than it must be to put atoms in their places.
    pub fn take(&mut self, frame: &Bytes) -> Result<Option<Bytes>, HeaderError> {
        let mut fields = Fields(frame);
        match (fields.u8(), fields.u8()) {
            (Ok(VERSION), Ok(NORMAL)) => self.whole(frame, fields).map(Some),
            (Ok(VERSION), Ok(kind @ (FIRST_FRAGMENT | FRAGMENT))) => self.fragment(kind, fields),
            _ => Err(HeaderError::NoHeader(frame.iter().take(2).copied().collect())),
        }
    }

    fn whole(&mut self, frame: &Bytes, mut fields: Fields<'_>) -> Result<Bytes, HeaderError> {
        let mut atoms = std::mem::take(&mut self.atoms);
        self.read_atoms(&mut fields, &mut atoms)?;
        if atoms.is_empty() {
            // There is nothing to put in its place: a term that refers to an atom is refused where it is read.
            return Ok(frame.slice_ref(fields.0));
        }
        if self.buffer.capacity() < fields.0.len() {
            self.buffer.reserve(fields.0.len().max(EXPANDED));
        }
        let mut expander = Expander::new(atoms);
        expander.push(fields.0, &mut self.buffer, limits::FRAME)?;
        expander.finish(&mut self.buffer, limits::FRAME)?;
        self.atoms = expander.into_atoms();
        self.atoms.clear();
        let terms = self.buffer.split().freeze();
        if terms.len() > EXPANDED {
            // The message keeps this memory.
            self.buffer = BytesMut::new();
        }
        Ok(terms)
    }

    fn fragment(&mut self, kind: u8, mut fields: Fields<'_>) -> Result<Option<Bytes>, HeaderError> {
        if self.fragments.is_none() {
            return Err(HeaderError::NotAgreed);
        }
        let (sequence, fragment) = (fields.u64()?, fields.u64()?);
        let mut first = None;
        if kind == FIRST_FRAGMENT {
            let mut atoms = Vec::new();
            self.read_atoms(&mut fields, &mut atoms)?;
            first = Some(Expander::new(atoms));
        }
        let Some(fragments) = &mut self.fragments else { return Err(HeaderError::NotAgreed) };
        if let Some(expander) = first {
            fragments.begin(sequence, fragment, expander)?;
        }
        fragments.append(sequence, fragment, fields.0)
    }

    /// Reads the number of atoms, their flags (four bits each, the first in the lower half of a byte, and four for all of them) and
    /// the atoms, and fills the cache.
    fn read_atoms(&mut self, fields: &mut Fields<'_>, atoms: &mut Vec<CachedAtom>) -> Result<(), HeaderError> {
        let count = usize::from(fields.u8()?);
        if count == 0 {
            return Ok(());
        }
        let flags = fields.bytes(count / 2 + 1)?;
        let flags =
            |at: usize| flags.get(at / 2).map_or(0, |byte| if at.is_multiple_of(2) { byte & 0xF } else { byte >> 4 });
        let long = flags(count) & 1 != 0;
        if self.cache.is_empty() {
            self.cache.resize(CACHE, None);
            self.cached = CACHE * size_of::<Option<CachedAtom>>();
        }
        for at in 0..count {
            let entry = usize::from(flags(at) & 7) << 8 | usize::from(fields.u8()?);
            let cached = self.cache.get_mut(entry).ok_or(HeaderError::EmptyEntry(entry))?;
            if flags(at) & 8 != 0 {
                let length = if long { usize::from(fields.u16()?) } else { usize::from(fields.u8()?) };
                let atom = CachedAtom::new(fields.bytes(length)?).map_err(HeaderError::NoAtom)?;
                self.cached += atom.size();
                self.cached -= cached.replace(atom).map_or(0, |before| before.size());
            }
            atoms.push(cached.clone().ok_or(HeaderError::EmptyEntry(entry))?);
        }
        Ok(())
    }
}

/// Takes fields off the front of a frame.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], HeaderError> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(HeaderError::Truncated)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(HeaderError::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, HeaderError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, HeaderError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, HeaderError> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
