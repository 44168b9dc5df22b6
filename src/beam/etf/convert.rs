//! Conversions between terms, encoded terms and bytes. Pure.

use bytes::Bytes;

use super::{Atoms, DecodeError, Raw, Reader, Term, Writer};

impl Term {
    /// Decodes a message of one term, with the leading 131.
    ///
    /// # Errors
    /// The first fault in the bytes.
    pub fn decode(message: &Bytes, atoms: &mut Atoms) -> Result<Self, DecodeError> {
        let mut reader = Reader::with_version(message, atoms)?;
        let term = reader.term()?;
        reader.finish()?;
        Ok(term)
    }

    /// Encodes the term as a message, with the leading 131.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Writer::new(&mut out).version().term(self);
        out
    }

    /// Returns the canonical encoding, which all equal terms share, without the leading 131. It
    /// serves as a key. It is not meant for the wire: references lose their trailing zeros, and
    /// funs their creator.
    #[must_use]
    pub fn canonical(&self) -> Bytes {
        let mut out = Vec::new();
        Writer::canonical(&mut out).term(self);
        out.into()
    }
}

impl Raw {
    /// Encodes a term.
    #[must_use]
    pub fn encode(term: &Term) -> Self {
        let mut out = Vec::new();
        Writer::new(&mut out).term(term);
        Self::checked(out.into())
    }

    /// Encodes the term that `write` writes piece by piece. `write` must write exactly one.
    pub fn build(write: impl FnOnce(&mut Writer<'_>)) -> Self {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        Self::checked(out.into())
    }

    /// Decodes the term.
    ///
    /// # Errors
    /// A term from [`Raw::encode`] or [`Raw::build`] exceeds the limits on terms from peers. A term
    /// from a [`Reader`] never fails.
    pub fn term(&self, atoms: &mut Atoms) -> Result<Term, DecodeError> {
        let mut reader = Reader::new(self.bytes(), atoms);
        let term = reader.term()?;
        reader.finish()?;
        Ok(term)
    }

    /// Returns the canonical encoding, see [`Term::canonical`].
    ///
    /// # Errors
    /// As [`Raw::term`].
    pub fn canonical(&self, atoms: &mut Atoms) -> Result<Bytes, DecodeError> {
        Ok(self.term(atoms)?.canonical())
    }
}
