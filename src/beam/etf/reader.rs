//! The pull parser: reads a message of known shape piece by piece, without building terms. Pure.
//!
//! Each term is read by the method for its type. For a tuple, call [`Reader::tuple`], and then read
//! its elements. For a map, call [`Reader::map`], and then read its keys and values in turn. For a
//! list, call [`Reader::list`], and then [`Reader::more`] before each element:
//!
//! ```
//! # use beam::etf::{Atoms, DecodeError, Pid, Reader, Term};
//! # fn members(message: &bytes::Bytes) -> Result<Vec<Pid>, DecodeError> {
//! # let mut atoms = Atoms::new();
//! let mut reader = Reader::with_version(message, &mut atoms)?;
//! let mut members = Vec::new();
//! let mut list = reader.list()?;
//! while reader.more(&mut list)? {
//!     members.push(reader.pid()?);
//! }
//! reader.finish()?;
//! # Ok(members)
//! # }
//! # assert_eq!(members(&Term::List(vec![]).encode().into()), Ok(vec![]));
//! ```
//!
//! A read that fails consumes nothing. Reads allocate only for atoms that are not interned yet, for
//! atoms in Latin-1 beyond ASCII, and for maps inside [`Reader::raw`], whose keys are compared.
//! [`Reader::term`] also allocates its result.

use bytes::Bytes;

use super::cursor::{ListForm, ListHeader, Reader, unexpected};
use super::leaf::Leaf;
use super::walk::Checked;
use super::{Atom, Atoms, DecodeError, Kind, Pid, Port, Raw, Reference, Term, tag};
use crate::limits;

impl<'a> Reader<'a> {
    /// Creates a reader of a checked term that starts at its beginning or at a
    /// [`Reader::position`]. It does not compare map keys again.
    #[must_use]
    pub fn resume(term: &'a Raw, at: usize, atoms: &'a mut Atoms) -> Self {
        Self { at, checked: true, ..Self::new(term.bytes(), atoms) }
    }

    /// Enters a tuple and returns its arity; that many terms follow.
    ///
    /// # Errors
    /// The next term is not a tuple, or the message is too short for its elements.
    pub fn tuple(&mut self) -> Result<u32, DecodeError> {
        self.whole(|r| {
            let arity = match r.tag()? {
                tag::SMALL_TUPLE => u32::from(r.u8()?),
                tag::LARGE_TUPLE => r.u32()?,
                other => return Err(unexpected(Kind::Tuple, other)),
            };
            r.fits(arity, 1)?;
            Ok(arity)
        })
    }

    /// Enters a tuple of this arity.
    ///
    /// # Errors
    /// [`DecodeError::OtherArity`] if the arity differs; or the next term is not a tuple.
    pub fn expect_tuple(&mut self, arity: u32) -> Result<(), DecodeError> {
        self.whole(|r| if r.tuple()? == arity { Ok(()) } else { Err(DecodeError::OtherArity) })
    }

    /// Enters a map and returns its number of pairs; that many keys and values follow in turn. Does
    /// not check for duplicate keys.
    ///
    /// # Errors
    /// The next term is not a map, or the message is too short for its pairs.
    pub fn map(&mut self) -> Result<u32, DecodeError> {
        self.whole(|r| {
            let pairs = match r.tag()? {
                tag::MAP => r.u32()?,
                other => return Err(unexpected(Kind::Map, other)),
            };
            r.fits(pairs, 2)?;
            Ok(pairs)
        })
    }

    /// Enters a list of any form; [`Reader::more`] steps through it.
    ///
    /// # Errors
    /// The next term is not a list, or the message is too short for its elements.
    pub fn list(&mut self) -> Result<ListHeader, DecodeError> {
        self.whole(|r| match r.tag()? {
            tag::NIL => Ok(ListHeader { left: 0, form: ListForm::Nil }),
            tag::STRING => {
                let left = u32::from(r.u16()?);
                let left = r.fits(left, 1)?;
                Ok(ListHeader { left, form: ListForm::String })
            }
            tag::LIST => {
                let left = r.u32()?;
                let left = r.fits(left, 1)?;
                Ok(ListHeader { left, form: ListForm::Terms })
            }
            other => Err(unexpected(Kind::List, other)),
        })
    }

    /// Returns whether the list has another element, which the caller then reads. Consumes the tail
    /// at the end of the list.
    ///
    /// # Errors
    /// [`DecodeError::ImproperList`] at the end of a list whose tail is not `[]`; or the message ends.
    pub fn more(&mut self, list: &mut ListHeader) -> Result<bool, DecodeError> {
        loop {
            if let Some(left) = list.left.checked_sub(1) {
                if list.form == ListForm::String {
                    self.element = Some(self.u8()?);
                }
                list.left = left;
                return Ok(true);
            }
            if list.form != ListForm::Terms {
                return Ok(false);
            }
            if self.peek()? != Kind::List {
                return Err(DecodeError::ImproperList);
            }
            *list = self.list()?;
        }
    }

    /// Reads an atom.
    ///
    /// # Errors
    /// The next term is of another type, or malformed.
    pub fn atom(&mut self) -> Result<Atom, DecodeError> {
        self.whole(|r| {
            let text = r.atom_text()?;
            Ok(r.atoms.intern(&text))
        })
    }

    /// Returns whether the next term is the atom of this text, and consumes it only then.
    ///
    /// # Errors
    /// The next term is a malformed atom, or the message ends.
    pub fn atom_is(&mut self, text: &str) -> Result<bool, DecodeError> {
        if self.peek()? != Kind::Atom {
            return Ok(false);
        }
        match self.expect_atom(text) {
            Ok(()) => Ok(true),
            Err(DecodeError::OtherAtom) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads an atom that must have this text.
    ///
    /// # Errors
    /// [`DecodeError::OtherAtom`] if the atom has another text. Another error if the next term is not
    /// an atom.
    pub fn expect_atom(&mut self, text: &str) -> Result<(), DecodeError> {
        self.whole(|r| if r.atom_text()? == text { Ok(()) } else { Err(DecodeError::OtherAtom) })
    }

    /// Reads a process identifier.
    ///
    /// # Errors
    /// The next term is of another type, or malformed.
    pub fn pid(&mut self) -> Result<Pid, DecodeError> {
        self.whole(|r| {
            let parts = r.pid_parts()?;
            Ok(r.pid_of(parts))
        })
    }

    /// Reads a port identifier.
    ///
    /// # Errors
    /// The next term is of another type, or malformed.
    pub fn port(&mut self) -> Result<Port, DecodeError> {
        self.whole(|r| {
            let (node, id, creation) = r.port_parts()?;
            Ok(Port { node: r.atoms.intern(&node), id, creation })
        })
    }

    /// Reads a reference.
    ///
    /// # Errors
    /// The next term is of another type, or malformed.
    pub fn reference(&mut self) -> Result<Reference, DecodeError> {
        self.whole(|r| {
            let (node, creation, ids) = r.reference_parts()?;
            Ok(Reference { node: r.atoms.intern(&node), creation, ids })
        })
    }

    /// Reads an integer of at most 64 bits.
    ///
    /// # Errors
    /// [`DecodeError::IntegerRange`] for a larger one; or the next term is not an integer.
    pub fn integer(&mut self) -> Result<i64, DecodeError> {
        self.whole(|r| match r.number()? {
            Leaf::Int(value) => Ok(value),
            _ => Err(DecodeError::IntegerRange),
        })
    }

    /// Reads a binary, as a slice of the message.
    ///
    /// # Errors
    /// The next term is of another type, or malformed.
    pub fn binary(&mut self) -> Result<Bytes, DecodeError> {
        self.whole(|r| match r.bits()? {
            Leaf::Binary(bytes) => Ok(r.message.slice_ref(bytes)),
            _ => Err(DecodeError::Unexpected { wanted: Kind::Binary, found: Kind::BitString }),
        })
    }

    /// Reads one term of any type and returns its bytes as a slice of the message. Checks it as
    /// [`Reader::term`] does.
    ///
    /// # Errors
    /// The first fault in the term.
    pub fn raw(&mut self) -> Result<Raw, DecodeError> {
        if let Some(byte) = self.element.take() {
            return Ok(Raw::byte(byte));
        }
        let mut check = Reader::new(self.message, self.atoms);
        check.at = self.at;
        let Checked = check.walk(0)?;
        let end = check.at;
        if check.keys_to_compare && !self.checked {
            // Only terms can be compared.
            check.at = self.at;
            check.nodes = limits::TERM_NODES;
            check.term()?;
        }
        let bytes = self.message.slice(self.at..end);
        self.at = end;
        Ok(Raw::checked(bytes))
    }

    /// Reads one term of any type.
    ///
    /// # Errors
    /// The first fault in the term. [`DecodeError::TooManyNodes`] counts all terms that this reader
    /// has built.
    pub fn term(&mut self) -> Result<Term, DecodeError> {
        self.whole(|r| r.walk(0))
    }

    /// Returns whether the message has been read to its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.element.is_none() && self.at == self.message.len()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] if the message has not been read to its end.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.message.len() - self.at + usize::from(self.element.is_some()) {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    /// Returns the unread part of the message, for data after a term that is not a term itself.
    /// Within a string, it begins at the element after the next one.
    #[must_use]
    pub fn remaining(&self) -> Bytes {
        self.message.slice(self.at..)
    }

    /// Runs a read, and restores the position if it fails.
    fn whole<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        let (at, element) = (self.at, self.element);
        let result = read(self);
        if result.is_err() {
            (self.at, self.element) = (at, element);
        }
        result
    }
}
