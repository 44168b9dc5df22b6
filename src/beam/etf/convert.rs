//! Between terms, encoded terms and bytes. Pure.

use bytes::Bytes;

use super::{Atoms, DecodeError, Raw, Reader, Term, Writer};

impl Term {
    /// Decodes a term that stands alone, with the leading 131.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes first.
    pub fn decode(message: &Bytes, atoms: &mut Atoms) -> Result<Self, DecodeError> {
        let mut reader = Reader::with_version(message, atoms)?;
        let term = reader.term()?;
        reader.finish()?;
        Ok(term)
    }

    /// Encodes it to stand alone, with the leading 131.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Writer::new(&mut out).version().term(self);
        out
    }

    /// The one encoding that all equal terms have, without the leading 131: a key to find a term by. It isn't meant for the
    /// wire: references lose their zeros at the end, and funs their creator.
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

    /// A term that `write` writes piece by piece; it must write exactly one.
    pub fn build(write: impl FnOnce(&mut Writer<'_>)) -> Self {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        Self::checked(out.into())
    }

    /// Decodes it.
    ///
    /// # Errors
    /// None for what a [`Reader`] gave; for what [`Raw::encode`] made of a term of our own, the bounds on terms from peers.
    pub fn term(&self, atoms: &mut Atoms) -> Result<Term, DecodeError> {
        let mut reader = Reader::new(self.bytes(), atoms);
        let term = reader.term()?;
        reader.finish()?;
        Ok(term)
    }

    /// The one encoding that all equal terms have, see [`Term::canonical`].
    ///
    /// # Errors
    /// As [`Raw::term`].
    pub fn canonical(&self, atoms: &mut Atoms) -> Result<Bytes, DecodeError> {
        Ok(self.term(atoms)?.canonical())
    }
}
