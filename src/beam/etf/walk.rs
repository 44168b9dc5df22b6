//! Walks over one term of any shape, to build it or only to check it. Pure.
//!
//! [`Reader::term`] and [`Reader::raw`] use the same walk with different [`Product`]s, so they
//! accept the same bytes. The walk recurses at most [`limits::TERM_DEPTH`] levels deep. It checks
//! counts against the remaining bytes and elements before it allocates memory for them.
//!
//! Spec: "External Term Format" of the ERTS user's guide; `dec_term` in `erts/emulator/beam/external.c`.

use std::borrow::Cow;

use super::cursor::{ListForm, Reader, unexpected};
use super::leaf::{Leaf, PidParts};
use super::{DecodeError, Fun, Kind, Map, Port, Reference, Term, tag};
use crate::limits;

/// The result of a walk over a term.
pub(super) trait Product: Sized {
    /// # Errors
    /// None that [`Reader`] has not found before.
    fn leaf(reader: &mut Reader<'_>, leaf: Leaf<'_>) -> Result<Self, DecodeError>;
    /// An element of a string.
    fn byte(byte: u8) -> Self;
    fn tuple(elements: Vec<Self>) -> Self;
    fn list(elements: Vec<Self>) -> Self;
    fn improper(elements: Vec<Self>, tail: Self) -> Self;
    /// # Errors
    /// [`DecodeError::DuplicateKey`], if the product compares keys.
    fn map(reader: &mut Reader<'_>, pairs: Vec<(Self, Self)>) -> Result<Self, DecodeError>;
    fn fun(reader: &mut Reader<'_>, head: FunHead<'_>, free: Vec<Self>) -> Self;
}

/// A fun without its free variables.
pub(super) struct FunHead<'a> {
    arity: u8,
    uniq: [u8; 16],
    index: u32,
    module: Cow<'a, str>,
    old_index: i64,
    old_uniq: i64,
    creator: PidParts<'a>,
}

/// The product of a walk that only checks. It has no size, so a `Vec` of it allocates nothing.
pub(super) struct Checked;

impl Product for Checked {
    fn leaf(_: &mut Reader<'_>, _: Leaf<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }

    fn byte(_: u8) -> Self {
        Self
    }

    fn tuple(_: Vec<Self>) -> Self {
        Self
    }

    fn list(_: Vec<Self>) -> Self {
        Self
    }

    fn improper(_: Vec<Self>, _: Self) -> Self {
        Self
    }

    fn map(reader: &mut Reader<'_>, pairs: Vec<(Self, Self)>) -> Result<Self, DecodeError> {
        reader.keys_to_compare |= pairs.len() > 1;
        Ok(Self)
    }

    fn fun(_: &mut Reader<'_>, _: FunHead<'_>, _: Vec<Self>) -> Self {
        Self
    }
}

impl Product for Term {
    fn leaf(reader: &mut Reader<'_>, leaf: Leaf<'_>) -> Result<Self, DecodeError> {
        Ok(match leaf {
            Leaf::Atom(text) => Self::Atom(reader.atoms.intern(&text)),
            Leaf::Int(value) => Self::Int(value),
            Leaf::BigInt(negative, magnitude) => Self::integer(negative, reader.message.slice_ref(magnitude)),
            Leaf::Float(value) => Self::Float(value),
            Leaf::Pid(parts) => Self::Pid(reader.pid_of(parts)),
            Leaf::Port((node, id, creation)) => Self::Port(Port { node: reader.atoms.intern(&node), id, creation }),
            Leaf::Reference((node, creation, ids)) => {
                Self::Reference(Reference { node: reader.atoms.intern(&node), creation, ids })
            }
            Leaf::Binary(bytes) => Self::Binary(reader.message.slice_ref(bytes)),
            Leaf::BitString(bytes, bits) => {
                Self::bits(reader.message.slice_ref(bytes), bits).ok_or(DecodeError::Bits(bits))?
            }
            Leaf::ExternalFun(module, function, arity) => Self::ExternalFun {
                module: reader.atoms.intern(&module),
                function: reader.atoms.intern(&function),
                arity,
            },
        })
    }

    fn byte(byte: u8) -> Self {
        Self::Int(i64::from(byte))
    }

    fn tuple(elements: Vec<Self>) -> Self {
        Self::Tuple(elements)
    }

    fn list(elements: Vec<Self>) -> Self {
        Self::List(elements)
    }

    fn improper(elements: Vec<Self>, tail: Self) -> Self {
        Self::improper(elements, tail)
    }

    fn map(_: &mut Reader<'_>, pairs: Vec<(Self, Self)>) -> Result<Self, DecodeError> {
        let map = Map::new(pairs).map_err(|_| DecodeError::DuplicateKey)?;
        Ok(Self::Map(map))
    }

    fn fun(reader: &mut Reader<'_>, head: FunHead<'_>, free: Vec<Self>) -> Self {
        Self::Fun(Box::new(Fun {
            module: reader.atoms.intern(&head.module),
            index: head.index,
            uniq: head.uniq,
            old_index: head.old_index,
            old_uniq: head.old_uniq,
            arity: head.arity,
            creator: reader.pid_of(head.creator),
            free,
        }))
    }
}

impl<'a> Reader<'a> {
    /// Walks over the next term, which is nested `depth` levels deep.
    pub(super) fn walk<P: Product>(&mut self, depth: usize) -> Result<P, DecodeError> {
        match self.peek()? {
            Kind::Tuple => self.walk_tuple(depth),
            Kind::List => self.walk_list(depth),
            Kind::Map => self.walk_map(depth),
            Kind::Fun => self.walk_fun(depth),
            _ => self.walk_leaf(),
        }
    }

    /// A separate function, so that its stack frame is not part of every level.
    fn walk_leaf<P: Product>(&mut self) -> Result<P, DecodeError> {
        let leaf = self.leaf()?;
        P::leaf(self, leaf)
    }

    fn walk_tuple<P: Product>(&mut self, depth: usize) -> Result<P, DecodeError> {
        let arity = self.tuple()?;
        Ok(P::tuple(self.elements(arity, depth)?))
    }

    /// Walks over a list. It may be written in pieces, each of which is the tail of the one before.
    fn walk_list<P: Product>(&mut self, mut depth: usize) -> Result<P, DecodeError> {
        let mut elements = Vec::new();
        while self.peek()? == Kind::List {
            let piece = self.list()?;
            self.charge(piece.left)?;
            match piece.form {
                ListForm::Nil => return Ok(P::list(elements)),
                ListForm::String => {
                    let bytes = self.take(piece.left)?;
                    elements.extend(bytes.iter().copied().map(P::byte));
                    return Ok(P::list(elements));
                }
                ListForm::Terms => {}
            }
            depth = deeper(depth)?;
            if elements.is_empty() {
                elements.reserve_exact(piece.left);
            }
            for _ in 0..piece.left {
                elements.push(self.walk(depth)?);
            }
        }
        self.charge(1)?;
        let tail = self.walk(depth)?;
        Ok(P::improper(elements, tail))
    }

    fn walk_map<P: Product>(&mut self, depth: usize) -> Result<P, DecodeError> {
        let len = self.map()?;
        let len = self.fits(len, 2)?;
        let depth = deeper(depth)?;
        self.charge(len)?;
        self.charge(len)?;
        let mut pairs = Vec::with_capacity(len);
        for _ in 0..len {
            pairs.push((self.walk(depth)?, self.walk(depth)?));
        }
        P::map(self, pairs)
    }

    fn walk_fun<P: Product>(&mut self, depth: usize) -> Result<P, DecodeError> {
        // A fun takes as much memory as four elements.
        self.charge(3)?;
        let (head, free, end) = self.fun_head()?;
        let free = self.elements(free, depth)?;
        if self.at != end {
            return Err(DecodeError::FunSize);
        }
        Ok(P::fun(self, head, free))
    }

    /// Reads a fun up to its free variables. Also returns their number, and the position at which
    /// the last one must end.
    fn fun_head(&mut self) -> Result<(FunHead<'a>, u32, usize), DecodeError> {
        match self.tag()? {
            tag::NEW_FUN => {}
            other => return Err(unexpected(Kind::Fun, other)),
        }
        // "Size is the total number of bytes, including field Size."
        let end = self.at;
        let end = end.checked_add(self.length()?).ok_or(DecodeError::FunSize)?;
        let (arity, uniq, index, free) = (self.u8()?, self.array()?, self.u32()?, self.u32()?);
        let head = FunHead {
            arity,
            uniq,
            index,
            module: self.atom_text()?,
            old_index: self.integer()?,
            old_uniq: self.integer()?,
            creator: self.pid_parts()?,
        };
        Ok((head, free, end))
    }

    /// Walks over the elements of a term that is nested `depth` levels deep.
    fn elements<P: Product>(&mut self, count: u32, depth: usize) -> Result<Vec<P>, DecodeError> {
        let count = self.fits(count, 1)?;
        let depth = deeper(depth)?;
        self.charge(count)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(self.walk(depth)?);
        }
        Ok(elements)
    }

    /// Subtracts `count` from the elements that the reader may still turn into terms.
    fn charge(&mut self, count: usize) -> Result<(), DecodeError> {
        self.nodes = self.nodes.checked_sub(count).ok_or(DecodeError::TooManyNodes)?;
        Ok(())
    }
}

/// Returns the depth of the elements of a term at `depth`.
fn deeper(depth: usize) -> Result<usize, DecodeError> {
    if depth < limits::TERM_DEPTH { Ok(depth + 1) } else { Err(DecodeError::TooDeep) }
}
