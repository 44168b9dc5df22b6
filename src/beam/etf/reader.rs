//! The pull parser: reads a message whose shape is known, piece by piece, without building terms. Pure.
//!
//! The grammar of its use: a term is read by the one method that fits it; a tuple by [`Reader::tuple`] and then its elements;
//! a map by [`Reader::map`] and then key, value, key, value; a list by [`Reader::list`] and [`Reader::more`]:
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
//! A read that fails consumes nothing. Nothing here allocates, but for an atom that isn't interned yet, for one in Latin-1 beyond
//! ASCII, and for maps inside [`Reader::raw`], whose keys are compared; [`Reader::term`] allocates what it returns.

use bytes::Bytes;

use super::cursor::{ListForm, ListHeader, Reader, unexpected};
use super::leaf::Leaf;
use super::walk::Checked;
use super::{Atom, Atoms, DecodeError, Kind, Pid, Port, Raw, Reference, Term, tag};
use crate::limits;

impl<'a> Reader<'a> {
    /// Reads a checked term from its beginning or from a [`Reader::position`], without comparing
    /// map keys again.
    #[must_use]
    pub fn resume(term: &'a Raw, at: usize, atoms: &'a mut Atoms) -> Self {
        Self { at, checked: true, ..Self::new(term.bytes(), atoms) }
    }

    /// Enters a tuple and returns its arity; that many terms follow.
    ///
    /// # Errors
    /// If the next term isn't a tuple, or the message can't hold as many elements.
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
    /// [`DecodeError::OtherArity`] if it has another one, or if the next term isn't a tuple.
    pub fn expect_tuple(&mut self, arity: u32) -> Result<(), DecodeError> {
        self.whole(|r| if r.tuple()? == arity { Ok(()) } else { Err(DecodeError::OtherArity) })
    }

    /// Enters a map and returns its number of pairs; as many times, a key and a value follow. Whether a key comes twice isn't checked.
    ///
    /// # Errors
    /// If the next term isn't a map, or the message can't hold as many pairs.
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

    /// Enters a list, whatever its form; [`Reader::more`] steps through it.
    ///
    /// # Errors
    /// If the next term isn't a list, or the message can't hold as many elements.
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

    /// Whether the list has another element, which is then to be read. At its end the tail is consumed.
    ///
    /// # Errors
    /// [`DecodeError::ImproperList`] at the end of a list whose tail isn't `[]`, or if the message ends.
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
    /// If the next term isn't one.
    pub fn atom(&mut self) -> Result<Atom, DecodeError> {
        self.whole(|r| {
            let text = r.atom_text()?;
            Ok(r.atoms.intern(&text))
        })
    }

    /// Whether the next term is the atom of this text; only then it is consumed.
    ///
    /// # Errors
    /// If the next term is an atom that is malformed, or the message ends.
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

    /// Reads the atom of this text.
    ///
    /// # Errors
    /// [`DecodeError::OtherAtom`] if it is another one, or if the next term isn't an atom.
    pub fn expect_atom(&mut self, text: &str) -> Result<(), DecodeError> {
        self.whole(|r| if r.atom_text()? == text { Ok(()) } else { Err(DecodeError::OtherAtom) })
    }

    /// Reads a process identifier.
    ///
    /// # Errors
    /// If the next term isn't one.
    pub fn pid(&mut self) -> Result<Pid, DecodeError> {
        self.whole(|r| {
            let parts = r.pid_parts()?;
            Ok(r.pid_of(parts))
        })
    }

    /// Reads a port identifier.
    ///
    /// # Errors
    /// If the next term isn't one.
    pub fn port(&mut self) -> Result<Port, DecodeError> {
        self.whole(|r| {
            let (node, id, creation) = r.port_parts()?;
            Ok(Port { node: r.atoms.intern(&node), id, creation })
        })
    }

    /// Reads a reference.
    ///
    /// # Errors
    /// If the next term isn't one.
    pub fn reference(&mut self) -> Result<Reference, DecodeError> {
        self.whole(|r| {
            let (node, creation, ids) = r.reference_parts()?;
            Ok(Reference { node: r.atoms.intern(&node), creation, ids })
        })
    }

    /// Reads an integer that fits 64 bits.
    ///
    /// # Errors
    /// [`DecodeError::IntegerRange`] for a larger one, or if the next term isn't an integer.
    pub fn integer(&mut self) -> Result<i64, DecodeError> {
        self.whole(|r| match r.number()? {
            Leaf::Int(value) => Ok(value),
            _ => Err(DecodeError::IntegerRange),
        })
    }

    /// Reads a binary, as a slice of the message.
    ///
    /// # Errors
    /// If the next term isn't one.
    pub fn binary(&mut self) -> Result<Bytes, DecodeError> {
        self.whole(|r| match r.bits()? {
            Leaf::Binary(bytes) => Ok(r.message.slice_ref(bytes)),
            _ => Err(DecodeError::Unexpected { wanted: Kind::Binary, found: Kind::BitString }),
        })
    }

    /// Reads over any one term and returns it as it is, as a slice of the message. It is checked as [`Reader::term`] would.
    ///
    /// # Errors
    /// Whatever is wrong with the term first.
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

    /// Reads any one term.
    ///
    /// # Errors
    /// Whatever is wrong with the term first; [`DecodeError::TooManyNodes`] counts all the terms that this reader has made.
    pub fn term(&mut self) -> Result<Term, DecodeError> {
        self.whole(|r| r.walk(0))
    }

    /// Whether the message has been read to its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.element.is_none() && self.at == self.message.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] if the message hasn't been read to its end.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.message.len() - self.at + usize::from(self.element.is_some()) {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    /// The part of the message that hasn't been read, for what follows a term that isn't a term. Between the elements of a
    /// string it begins at the element after the next.
    #[must_use]
    pub fn remaining(&self) -> Bytes {
        self.message.slice(self.at..)
    }

    /// Runs a read that may fail half-way, and goes back to where it began if so.
    fn whole<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        let (at, element) = (self.at, self.element);
        let result = read(self);
        if result.is_err() {
            (self.at, self.element) = (at, element);
        }
        result
    }
}
