//! Distribution headers, which precede the terms of a frame if both nodes have
//! `DFLAG_DIST_HDR_ATOM_CACHE`. Pure.
//!
//! A header lists the atoms to which the terms refer. A new atom is listed by its text, which then
//! fills an entry of the connection's cache. A known atom is listed by its entry. With
//! `DFLAG_FRAGMENTS`, a message may arrive in fragments, with other messages between them. The
//! results are terms without references: a control message and, for some messages, a payload.
//!
//! Spec: "Distribution Header" in "External Term Format" of the ERTS user's guide; `erts_prepare_dist_ext` in
//! `erts/emulator/beam/external.c`.

mod fragments;

use bytes::{Bytes, BytesMut};

use super::flags::{self, Flags};
use crate::etf::{CachedAtom, DecodeError, ExpandError, Expander};
use crate::limits;
use fragments::Fragments;

/// The header of the frames that this node sends: no atoms, and no fragments.
pub(super) const OURS: [u8; 3] = [VERSION, NORMAL, 0];

const VERSION: u8 = 131;
const NORMAL: u8 = 68;
const FIRST_FRAGMENT: u8 = 69;
const FRAGMENT: u8 = 70;

/// Bytes of the buffer that messages share once their atoms are in place. A larger message gets
/// separate memory. A tuning constant: more means fewer allocations; less means less memory per
/// connection.
const EXPANDED: usize = 16 * 1024;

/// Entries of an atom cache: 8 segments of 256.
const CACHE: usize = 2048;

/// A malformed header or a fragment out of order. The peer is at fault, and the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame has no header.
    #[error("the peer sent a frame that begins with {0:?} instead of a distribution header")]
    NoHeader(Vec<u8>),
    /// Fragments were not negotiated.
    #[error("the peer sent a fragment, but fragments were not agreed upon")]
    NotAgreed,
    /// The frame ends within its header.
    #[error("the peer sent a frame that ends within its distribution header")]
    Truncated,
    /// A reference to an empty entry of the cache.
    #[error("the peer referred to the empty entry {0} of the atom cache")]
    EmptyEntry(usize),
    /// A new entry that is not an atom.
    #[error("the peer sent an invalid atom for the atom cache: {0}")]
    NoAtom(DecodeError),
    /// A term refers to an atom that the header of its message does not list.
    #[error("the peer's message refers to atom {0} of its header, which lists fewer")]
    NoSuchAtom(u8),
    /// The message exceeds [`limits::FRAME`] once its atoms are in place.
    #[error("the peer's message exceeds the limit of {max} bytes", max = limits::FRAME)]
    TooLong,
    /// A fragment of a message that has not begun, or that was dropped because others needed its
    /// memory.
    #[error(
        "the peer sent fragment {fragment} of sequence {sequence}, which has not begun, or was dropped because too many \
         were unfinished"
    )]
    NotBegun {
        /// The sequence.
        sequence: u64,
        /// The fragment.
        fragment: u64,
    },
    /// A second first fragment of an unfinished message.
    #[error("the peer began sequence {0} of fragments again before it was complete")]
    BegunAgain(u64),
    /// A fragment out of order: their numbers count down to 1.
    #[error("the peer sent fragment {fragment} of sequence {sequence}; expected fragment {expected}")]
    OutOfOrder {
        /// The sequence.
        sequence: u64,
        /// The received number.
        fragment: u64,
        /// The expected number.
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

/// The atom cache and the unfinished messages of a connection.
#[derive(Debug)]
pub struct Headers {
    cache: Vec<Option<CachedAtom>>,
    /// Memory of the cache in bytes.
    cached: usize,
    /// `None` if fragments were not agreed upon.
    fragments: Option<Fragments>,
    /// For the atoms of one header. Its memory is used again.
    atoms: Vec<CachedAtom>,
    /// For expanded terms. Many messages share its memory.
    buffer: BytesMut,
}

impl Headers {
    /// Creates the state of a connection with these agreed flags. Returns `None` if its frames have
    /// no headers.
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

    /// Handles a frame. Returns the terms of the message that it completes, without references and
    /// without a version byte, or `None` if the message is not complete yet.
    ///
    /// # Errors
    /// See [`HeaderError`]. The terms are checked only as far as the references in them require.
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
            // The header lists no atoms, so a valid term has no references to replace. The reader
            // refuses a term that has a reference.
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

    /// Reads the number of atoms, their flags and the atoms, and fills the cache. Each atom has
    /// four bits of flags, and four more bits apply to all atoms. The lower half of a byte comes
    /// first.
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

/// Reads fields from the front of a frame.
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
