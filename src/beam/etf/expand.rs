//! Terms that refer to the atoms of a distribution header, made into such as stand alone. Pure.
//!
//! [`Expander`] walks over terms while they arrive, in pieces cut anywhere, and copies them; where they say "atom 3 of the
//! header" it writes the atom. It builds nothing, keeps no more of a term than the bytes of its tag and counts, and
//! doesn't recurse, so that neither depth nor counts cost anything here. It checks no more than it needs to find its way: whatever it
//! can't read it copies as it is, for the [`Reader`](super::Reader) behind it to refuse.
//!
//! Spec: "Distribution Header" in "External Term Format" of the ERTS user's guide; `dec_term` in
//! `erts/emulator/beam/external.c`.

use std::sync::Arc;

use bytes::BytesMut;

use super::{DecodeError, Kind, atoms, tag};

/// An atom of a distribution header, as it stands in a term: a tag, a length, the text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedAtom(Arc<[u8]>);

impl CachedAtom {
    /// The atom of a text, which is UTF-8.
    ///
    /// # Errors
    /// If the text is none of an atom.
    pub(crate) fn new(text: &[u8]) -> Result<Self, DecodeError> {
        let text = str::from_utf8(text).map_err(|_| DecodeError::AtomUtf8)?;
        if !atoms::fits(text) {
            return Err(DecodeError::AtomTooLong);
        }
        let mut encoded = Vec::with_capacity(3 + text.len());
        super::Writer::new(&mut encoded).atom_text(text);
        Ok(Self(encoded.into()))
    }

    /// Returns its length in a term, in bytes.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.0.len()
    }

    /// Returns its memory in bytes when it is stored alone.
    #[must_use]
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.size()
    }
}

/// Why terms can't be expanded. The fault is the sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpandError {
    /// They refer to this atom of a header that has fewer.
    NoSuchAtom(u8),
    /// They would be longer than they may be.
    TooLong,
}

/// What is known of the terms of one message so far. What it writes, for one message, goes to one buffer that is empty at first.
#[derive(Debug)]
pub(crate) struct Expander {
    atoms: Vec<CachedAtom>,
    /// The beginning of a term, of which the counts have not come.
    held: Vec<u8>,
    /// So many bytes hold no terms and come next.
    skip: usize,
    /// An atom comes next that is part of an identifier, and then so many bytes of the same.
    identifier: Option<usize>,
    /// How many terms are still to come within those that have begun.
    terms: u64,
    /// Funs that have begun: they tell their length.
    funs: Vec<OpenFun>,
    /// By how much what was written is longer than what was read.
    growth: usize,
    /// What comes is no term, or none that is known.
    opaque: bool,
}

#[derive(Debug)]
struct OpenFun {
    /// Where its length stands in what is written.
    at: usize,
    /// How many terms are still to come when it ends.
    terms: u64,
    /// The growth before it.
    growth: usize,
}

impl Expander {
    /// For terms that refer to these atoms.
    #[must_use]
    pub(crate) fn new(atoms: Vec<CachedAtom>) -> Self {
        Self {
            // Without atoms there is nothing to be put anywhere.
            opaque: atoms.is_empty(),
            atoms,
            held: Vec::new(),
            skip: 0,
            identifier: None,
            terms: 0,
            funs: Vec::new(),
            growth: 0,
        }
    }

    /// Returns the memory of its atoms in bytes.
    #[must_use]
    pub(crate) fn memory(&self) -> usize {
        self.atoms.iter().map(CachedAtom::memory).sum()
    }

    /// The atoms, for which there is no more use.
    #[must_use]
    pub(crate) fn into_atoms(self) -> Vec<CachedAtom> {
        self.atoms
    }

    /// Takes the next bytes of the terms, and appends what can be said of them to `out`, which may come to hold `max` bytes.
    ///
    /// # Errors
    /// See [`ExpandError`]; the expander and what it has written are of no more use.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut BytesMut, max: usize) -> Result<(), ExpandError> {
        // What lies between these two has been read and is to be copied.
        let (mut from, mut rest) = (bytes, bytes);
        loop {
            let skipped = if self.opaque { rest.len() } else { self.skip.min(rest.len()) };
            self.skip = self.skip.saturating_sub(skipped);
            rest = rest.get(skipped..).unwrap_or_default();
            self.end_funs(out);
            let Some((first, after)) = rest.split_first() else {
                return append(out, from, max);
            };
            if self.held.is_empty() {
                match Head::of(rest) {
                    Ok(Some(Head { reference: Some(index), .. })) => {
                        append(out, between(from, rest), max)?;
                        rest = rest.get(2..).unwrap_or_default();
                        from = rest;
                        self.refer(index, out, max)?;
                    }
                    Ok(Some(head)) => {
                        let at = out.len() + between(from, rest).len();
                        rest = rest.get(head.length..).unwrap_or_default();
                        self.enter(&head, at);
                    }
                    Ok(None) => {
                        append(out, between(from, rest), max)?;
                        self.held.extend_from_slice(rest);
                        return Ok(());
                    }
                    Err(Unknown) => self.opaque = true,
                }
                continue;
            }
            // The beginning of a term was in the bytes before these.
            self.held.push(*first);
            (from, rest) = (after, after);
            match Head::of(&self.held) {
                Ok(Some(Head { reference: Some(index), .. })) => {
                    self.held.clear();
                    self.refer(index, out, max)?;
                }
                Ok(Some(head)) => {
                    self.enter(&head, out.len());
                    append(out, &self.held, max)?;
                    self.held.clear();
                }
                Ok(None) | Err(Unknown) => {}
            }
        }
    }

    /// Nothing more comes: what is held is copied too.
    ///
    /// # Errors
    /// [`ExpandError::TooLong`].
    pub(crate) fn finish(&mut self, out: &mut BytesMut, max: usize) -> Result<(), ExpandError> {
        append(out, &std::mem::take(&mut self.held), max)
    }

    /// A term has begun whose first byte is written at `at`.
    fn enter(&mut self, head: &Head, at: usize) {
        if let Some(behind) = self.identifier.take() {
            // Where the node should be named, something else stands; or its name is followed by numbers.
            self.opaque = !head.atom;
            self.skip = head.skip + behind;
            return;
        }
        self.terms = self.terms.saturating_sub(1);
        if head.fun {
            self.funs.push(OpenFun { at: at + 1, terms: self.terms, growth: self.growth });
        }
        self.terms += head.terms;
        self.skip = head.skip;
        self.identifier = head.identifier;
    }

    /// A reference to an atom of the header stands for that atom.
    fn refer(&mut self, index: u8, out: &mut BytesMut, max: usize) -> Result<(), ExpandError> {
        let atom = self.atoms.get(usize::from(index)).ok_or(ExpandError::NoSuchAtom(index))?;
        append(out, &atom.0, max)?;
        self.growth += atom.size() - 2;
        self.enter(&Head { atom: true, ..Head::default() }, 0);
        Ok(())
    }

    /// Those whose terms have all begun are as much longer as the atoms in them. One whose length was a lie keeps a lie.
    fn end_funs(&mut self, out: &mut BytesMut) {
        if self.identifier.is_some() || self.opaque {
            return;
        }
        while let Some(fun) = self.funs.pop_if(|fun| fun.terms == self.terms) {
            let growth = u32::try_from(self.growth - fun.growth).unwrap_or(u32::MAX);
            let field = out.get_mut(fun.at..).and_then(<[u8]>::first_chunk_mut::<4>);
            if let (1.., Some(field)) = (growth, field) {
                *field = u32::from_be_bytes(*field).saturating_add(growth).to_be_bytes();
            }
        }
    }
}

/// What is before `rest` in the slice that it is the end of.
fn between<'a>(whole: &'a [u8], rest: &[u8]) -> &'a [u8] {
    whole.get(..whole.len() - rest.len()).unwrap_or_default()
}

fn append(out: &mut BytesMut, bytes: &[u8], max: usize) -> Result<(), ExpandError> {
    if bytes.len() > max.saturating_sub(out.len()) {
        return Err(ExpandError::TooLong);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// No term begins so, as far as we know.
struct Unknown;

/// What the first bytes of a term tell of it.
#[derive(Default)]
struct Head {
    /// How many bytes these are: the tag, and counts.
    length: usize,
    /// So many bytes follow that hold no terms.
    skip: usize,
    /// Then so many terms.
    terms: u64,
    /// An atom follows, and so many bytes behind it.
    identifier: Option<usize>,
    atom: bool,
    fun: bool,
    /// It is a reference to an atom of the header.
    reference: Option<u8>,
}

impl Head {
    /// `None`: it takes more bytes to tell.
    fn of(bytes: &[u8]) -> Result<Option<Self>, Unknown> {
        let Some((&tag, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let head = match tag {
            tag::CACHE_REFERENCE => rest.first().map(|index| Self { reference: Some(*index), ..Self::default() }),
            _ => match Kind::of(tag).map_err(|_| Unknown)? {
                Kind::Atom => Self::atom(tag, rest),
                Kind::Integer => Self::integer(tag, rest),
                Kind::Float => Some(Self::plain(1, if tag == tag::FLOAT { 31 } else { 8 })),
                Kind::Pid => Some(Self::identifier(1, 8 + creation(tag == tag::PID))),
                Kind::Port => Some(match tag {
                    tag::V4_PORT => Self::identifier(1, 12),
                    _ => Self::identifier(1, 4 + creation(tag == tag::PORT)),
                }),
                Kind::Reference => match tag {
                    tag::REFERENCE => Some(Self::identifier(1, 5)),
                    _ => u16_of(rest).map(|words| Self::identifier(3, creation(tag == tag::NEW_REFERENCE) + 4 * words)),
                },
                Kind::Tuple => match tag {
                    tag::SMALL_TUPLE => rest.first().map(|arity| Self::holding(2, u64::from(*arity))),
                    _ => u32_of(rest).map(|arity| Self::holding(5, arity)),
                },
                Kind::List => match tag {
                    tag::NIL => Some(Self::plain(1, 0)),
                    tag::STRING => u16_of(rest).map(|length| Self::plain(3, length)),
                    _ => u32_of(rest).map(|length| Self::holding(5, length + 1)),
                },
                Kind::Map => u32_of(rest).map(|pairs| Self::holding(5, 2 * pairs)),
                Kind::Binary => u32_of(rest).map(|length| Self::plain(5, size(length))),
                Kind::BitString => u32_of(rest).map(|length| Self::plain(5, size(length + 1))),
                // Length, arity, unique, index, and the number of free variables; then the module, two integers, the creator
                // and the variables.
                Kind::Fun => {
                    rest.get(25..).and_then(u32_of).map(|free| Self { fun: true, ..Self::holding(30, free + 4) })
                }
                Kind::ExternalFun => Some(Self::holding(1, 3)),
            },
        };
        Ok(head)
    }

    fn plain(length: usize, skip: usize) -> Self {
        Self { length, skip, ..Self::default() }
    }

    fn holding(length: usize, terms: u64) -> Self {
        Self { length, terms, ..Self::default() }
    }

    fn identifier(length: usize, behind: usize) -> Self {
        Self { length, identifier: Some(behind), ..Self::default() }
    }

    fn atom(tag: u8, rest: &[u8]) -> Option<Self> {
        let head = match tag {
            tag::SMALL_ATOM | tag::SMALL_ATOM_UTF8 => Self::plain(2, usize::from(*rest.first()?)),
            _ => Self::plain(3, u16_of(rest)?),
        };
        Some(Self { atom: true, ..head })
    }

    fn integer(tag: u8, rest: &[u8]) -> Option<Self> {
        Some(match tag {
            tag::SMALL_INTEGER => Self::plain(1, 1),
            tag::INTEGER => Self::plain(1, 4),
            // The sign is a byte of its own.
            tag::SMALL_BIG => Self::plain(2, usize::from(*rest.first()?) + 1),
            _ => Self::plain(5, size(u32_of(rest)? + 1)),
        })
    }
}

/// Bytes of a creation.
fn creation(old: bool) -> usize {
    if old { 1 } else { 4 }
}

/// What can't be counted here doesn't come either.
fn size(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn u16_of(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|number| usize::from(u16::from_be_bytes(*number)))
}

fn u32_of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from(u32::from_be_bytes(*number)))
}
