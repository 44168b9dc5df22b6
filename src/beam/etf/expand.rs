//! Replaces references to the atoms of a distribution header with the atoms themselves. Pure.
//!
//! [`Expander`] copies terms while they arrive, in pieces that may end anywhere, and writes an atom
//! for each reference to the header. It builds no terms and does not recurse, so neither depth nor
//! counts cost memory. It remembers only the bytes of an incomplete tag and its counts. It checks
//! only what it needs to find the references. It copies invalid bytes unchanged, and the
//! [`Reader`](super::Reader) then refuses them.
//!
//! Spec: "Distribution Header" in "External Term Format" of the ERTS user's guide; `dec_term` in
//! `erts/emulator/beam/external.c`.

use std::sync::Arc;

use bytes::BytesMut;

use super::{DecodeError, Kind, atoms, tag};

/// An atom of a distribution header in its encoded form: tag, length and text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedAtom(Arc<[u8]>);

impl CachedAtom {
    /// Creates the atom of a text in UTF-8.
    ///
    /// # Errors
    /// The text is not valid UTF-8, or too long for an atom.
    pub(crate) fn new(text: &[u8]) -> Result<Self, DecodeError> {
        let text = str::from_utf8(text).map_err(|_| DecodeError::AtomUtf8)?;
        if !atoms::fits(text) {
            return Err(DecodeError::AtomTooLong);
        }
        let mut encoded = Vec::with_capacity(3 + text.len());
        super::Writer::new(&mut encoded).atom_text(text);
        Ok(Self(encoded.into()))
    }

    /// Returns its encoded length in bytes.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.0.len()
    }

    /// Returns the memory of one that shares its text with no other, in bytes.
    #[must_use]
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.size()
    }
}

/// Why terms cannot be expanded. The sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpandError {
    /// A reference to this atom of a header that has fewer.
    NoSuchAtom(u8),
    /// The expanded terms exceed the limit.
    TooLong,
}

/// The progress through the terms of one message. The output buffer of a message must be empty at
/// first.
#[derive(Debug)]
pub(crate) struct Expander {
    atoms: Vec<CachedAtom>,
    /// The beginning of a term whose counts have not arrived yet.
    held: Vec<u8>,
    /// The number of following bytes that hold no terms.
    skip: usize,
    /// The next term is the node name within an identifier, and this many bytes of the identifier
    /// follow it.
    identifier: Option<usize>,
    /// The number of terms that are missing in the open terms.
    terms: u64,
    /// The open funs, whose length fields must be adjusted.
    funs: Vec<OpenFun>,
    /// By how many bytes the output exceeds the input.
    growth: usize,
    /// Whether the rest is copied unchanged, because it cannot be read as terms.
    opaque: bool,
}

#[derive(Debug)]
struct OpenFun {
    /// The position of its length field in the output.
    at: usize,
    /// The value of `Expander::terms` when it ends.
    terms: u64,
    /// The value of `Expander::growth` when it began.
    growth: usize,
}

impl Expander {
    /// Creates an expander for terms that refer to these atoms.
    #[must_use]
    pub(crate) fn new(atoms: Vec<CachedAtom>) -> Self {
        Self {
            // Without atoms, nothing needs to be replaced.
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

    /// Returns the atoms, to use their memory again.
    #[must_use]
    pub(crate) fn into_atoms(self) -> Vec<CachedAtom> {
        self.atoms
    }

    /// Expands the next bytes of the terms and appends the result to `out`, which may grow to `max`
    /// bytes.
    ///
    /// # Errors
    /// See [`ExpandError`]. The expander and its output cannot be used afterwards.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut BytesMut, max: usize) -> Result<(), ExpandError> {
        // The bytes between these two have been read, and are to be copied.
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
                        self.write_referenced(index, out, max)?;
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
            // The previous piece ended within the beginning of a term.
            self.held.push(*first);
            (from, rest) = (after, after);
            match Head::of(&self.held) {
                Ok(Some(Head { reference: Some(index), .. })) => {
                    self.held.clear();
                    self.write_referenced(index, out, max)?;
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

    /// Ends the message: copies the beginning of a term that is still held.
    ///
    /// # Errors
    /// [`ExpandError::TooLong`].
    pub(crate) fn finish(&mut self, out: &mut BytesMut, max: usize) -> Result<(), ExpandError> {
        append(out, &std::mem::take(&mut self.held), max)
    }

    /// Enters a term whose first byte is written at `at`.
    fn enter(&mut self, head: &Head, at: usize) {
        if let Some(numbers) = self.identifier.take() {
            // Anything but an atom in the place of the node name is malformed. The name is followed
            // by numbers.
            self.opaque = !head.atom;
            self.skip = head.skip + numbers;
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

    /// Writes the atom that a reference refers to.
    fn write_referenced(&mut self, index: u8, out: &mut BytesMut, max: usize) -> Result<(), ExpandError> {
        let atom = self.atoms.get(usize::from(index)).ok_or(ExpandError::NoSuchAtom(index))?;
        append(out, &atom.0, max)?;
        self.growth += atom.size() - 2;
        self.enter(&Head { atom: true, ..Head::default() }, 0);
        Ok(())
    }

    /// Ends the funs whose terms are complete, and adds the growth of their terms to their length
    /// fields. A length that was wrong stays wrong.
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

/// Returns the part of `whole` before `rest`, which is its end.
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

/// No known term begins with this byte.
struct Unknown;

/// The structure of a term, as far as its first bytes show it.
#[derive(Default)]
struct Head {
    /// The number of these bytes: the tag and the counts.
    length: usize,
    /// The number of bytes that follow and hold no terms.
    skip: usize,
    /// The number of terms that follow these.
    terms: u64,
    /// For an identifier: the number of bytes after the node name, which comes next.
    identifier: Option<usize>,
    atom: bool,
    fun: bool,
    /// The index of the atom, for a reference to the header.
    reference: Option<u8>,
}

impl Head {
    /// Reads the first bytes of a term. Returns `None` if more bytes are needed.
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
                // Length, arity, unique, index and the number of free variables; then the module,
                // two integers, the creator and the variables.
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

    fn identifier(length: usize, numbers: usize) -> Self {
        Self { length, identifier: Some(numbers), ..Self::default() }
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
            // One more byte has the sign.
            tag::SMALL_BIG => Self::plain(2, usize::from(*rest.first()?) + 1),
            _ => Self::plain(5, size(u32_of(rest)? + 1)),
        })
    }
}

/// Returns the length of a creation in bytes.
fn creation(old: bool) -> usize {
    if old { 1 } else { 4 }
}

/// Converts a length to `usize`. So many bytes that it does not fit can never arrive.
fn size(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn u16_of(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|number| usize::from(u16::from_be_bytes(*number)))
}

fn u32_of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from(u32::from_be_bytes(*number)))
}
