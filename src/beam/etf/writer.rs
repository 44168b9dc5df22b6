//! Writes terms. Pure.
//!
//! Writes the formats that OTP 23 to 29 read, and that their `term_to_binary(Term, [{minor_version,
//! 2}])` writes, so that encodings can be compared. Only the order of the pairs of a map differs.
//!
//! Spec: "External Term Format" of the ERTS user's guide; `enc_term` in `erts/emulator/beam/external.c`.

use bytes::Bytes;

use super::{Atom, Fun, Pid, Port, Raw, Reference, Term, tag};
use crate::limits;

/// The largest port number that OTP 23 reads: the older format has 28 bits.
const MAX_OLD_PORT: u64 = (1 << 28) - 1;

/// Appends encoded terms to a buffer.
///
/// A tuple, list or map begins with the number of its elements, or of its pairs, which the caller
/// writes next. A list ends with [`Writer::nil`], or with its tail if it is improper. An empty list
/// is `list(0)` and `nil()`, or `nil()` alone.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Whether equal terms must have equal encodings.
    canonical: bool,
    /// Large binaries that are not copied to `out`, each with its position in `out`.
    large: Option<&'a mut Vec<(usize, Bytes)>>,
}

impl<'a> Writer<'a> {
    /// Creates a writer that appends to this buffer.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, canonical: false, large: None }
    }

    /// Creates a writer of canonical encodings, see [`Term::canonical`].
    pub(super) fn canonical(out: &'a mut Vec<u8>) -> Self {
        Self { out, canonical: true, large: None }
    }

    /// Creates a writer that keeps large binaries separately, see [`Iovec`](super::Iovec).
    pub(super) fn in_pieces(out: &'a mut Vec<u8>, large: &'a mut Vec<(usize, Bytes)>) -> Self {
        Self { out, canonical: false, large: Some(large) }
    }

    /// Writes the byte 131, with which every message begins.
    pub fn version(&mut self) -> &mut Self {
        self.bytes(&[tag::VERSION])
    }

    /// Begins a tuple of this many elements.
    pub fn tuple(&mut self, arity: u32) -> &mut Self {
        match u8::try_from(arity) {
            Ok(arity) => self.bytes(&[tag::SMALL_TUPLE, arity]),
            Err(_) => self.bytes(&[tag::LARGE_TUPLE]).bytes(&arity.to_be_bytes()),
        }
    }

    /// Begins a list of this many elements.
    pub fn list(&mut self, len: u32) -> &mut Self {
        match len {
            0 => self,
            len => self.bytes(&[tag::LIST]).bytes(&len.to_be_bytes()),
        }
    }

    /// Writes `[]`, also as the end of a list.
    pub fn nil(&mut self) -> &mut Self {
        self.bytes(&[tag::NIL])
    }

    /// Begins a map of this many pairs.
    pub fn map(&mut self, pairs: u32) -> &mut Self {
        self.bytes(&[tag::MAP]).bytes(&pairs.to_be_bytes())
    }

    /// Writes an atom from a literal in the source code.
    ///
    /// # Panics
    /// As [`Atom::literal`].
    pub fn atom(&mut self, text: &'static str) -> &mut Self {
        self.atom_text(super::atoms::literal(text))
    }

    /// Writes an atom.
    pub fn atom_of(&mut self, atom: &Atom) -> &mut Self {
        self.atom_text(atom.as_str())
    }

    /// Writes the atom of a text that is known to be short enough.
    pub(super) fn atom_text(&mut self, text: &str) -> &mut Self {
        match u8::try_from(text.len()) {
            Ok(len) => self.bytes(&[tag::SMALL_ATOM_UTF8, len]),
            Err(_) => self.bytes(&[tag::ATOM_UTF8]).bytes(&len16(text.len())),
        };
        self.bytes(text.as_bytes())
    }

    /// Writes a process identifier.
    pub fn pid(&mut self, pid: &Pid) -> &mut Self {
        self.bytes(&[tag::NEW_PID]).atom_of(&pid.node);
        for word in [pid.id, pid.serial, pid.creation] {
            self.bytes(&word.to_be_bytes());
        }
        self
    }

    /// Writes a port identifier.
    pub fn port(&mut self, port: &Port) -> &mut Self {
        match u32::try_from(port.id) {
            Ok(id) if port.id <= MAX_OLD_PORT => {
                self.bytes(&[tag::NEW_PORT]).atom_of(&port.node).bytes(&id.to_be_bytes())
            }
            _ => self.bytes(&[tag::V4_PORT]).atom_of(&port.node).bytes(&port.id.to_be_bytes()),
        }
        .bytes(&port.creation.to_be_bytes())
    }

    /// Writes a reference.
    pub fn reference(&mut self, reference: &Reference) -> &mut Self {
        let words = if self.canonical { reference.ids.significant() } else { &reference.ids[..] };
        self.bytes(&[tag::NEWER_REFERENCE]).bytes(&len16(words.len())).atom_of(&reference.node);
        self.bytes(&reference.creation.to_be_bytes());
        for word in words {
            self.bytes(&word.to_be_bytes());
        }
        self
    }

    /// Writes an integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        if let Ok(value) = u8::try_from(value) {
            self.bytes(&[tag::SMALL_INTEGER, value])
        } else if let Ok(value) = i32::try_from(value) {
            self.bytes(&[tag::INTEGER]).bytes(&value.to_be_bytes())
        } else {
            self.big(value < 0, super::term::significant(&value.unsigned_abs().to_le_bytes()))
        }
    }

    fn big(&mut self, negative: bool, magnitude: &[u8]) -> &mut Self {
        match u8::try_from(magnitude.len()) {
            Ok(len) => self.bytes(&[tag::SMALL_BIG, len]),
            Err(_) => self.bytes(&[tag::LARGE_BIG]).bytes(&len32(magnitude.len())),
        }
        .bytes(&[u8::from(negative)])
        .bytes(magnitude)
    }

    /// Writes a binary.
    pub fn binary(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes(&[tag::BINARY]).bytes(&len32(bytes.len())).bytes(bytes)
    }

    /// Writes a term as its sender wrote it.
    pub fn raw(&mut self, raw: &Raw) -> &mut Self {
        self.bytes(raw.bytes())
    }

    /// Writes a term of any shape.
    pub fn term(&mut self, term: &Term) -> &mut Self {
        match term {
            Term::Atom(atom) => self.atom_of(atom),
            Term::Int(value) => self.int(*value),
            Term::BigInt(value) => self.big(value.is_negative(), value.magnitude()),
            Term::Float(value) => self.bytes(&[tag::NEW_FLOAT]).bytes(&value.get().to_be_bytes()),
            Term::Pid(pid) => self.pid(pid),
            Term::Port(port) => self.port(port),
            Term::Reference(reference) => self.reference(reference),
            Term::Tuple(elements) => self.tuple(count(elements.len())).terms(elements),
            Term::List(elements) => self.proper_list(elements),
            Term::ImproperList(elements, tail) => self.list(count(elements.len())).terms(elements).term(tail),
            Term::Map(map) => {
                self.map(count(map.len()));
                for (key, value) in map.iter() {
                    self.term(key).term(value);
                }
                self
            }
            Term::Binary(bytes) => match &mut self.large {
                Some(large) if bytes.len() >= limits::SENT_UNCOPIED => {
                    self.out.push(tag::BINARY);
                    self.out.extend_from_slice(&len32(bytes.len()));
                    large.push((self.out.len(), bytes.clone()));
                    self
                }
                _ => self.binary(bytes),
            },
            Term::BitString(bits) => self
                .bytes(&[tag::BIT_BINARY])
                .bytes(&len32(bits.bytes().len()))
                .bytes(&[bits.bits()])
                .bytes(bits.bytes()),
            Term::Fun(fun) => self.fun(fun),
            Term::ExternalFun { module, function, arity } => {
                self.bytes(&[tag::EXPORT]).atom_of(module).atom_of(function).int(i64::from(*arity))
            }
        }
    }

    fn terms(&mut self, terms: &[Term]) -> &mut Self {
        for term in terms {
            self.term(term);
        }
        self
    }

    /// Writes a list. Like erts, writes a list of bytes as a string if it is short enough.
    fn proper_list(&mut self, elements: &[Term]) -> &mut Self {
        let byte = |term: &Term| match term {
            Term::Int(value) => u8::try_from(*value).ok(),
            _ => None,
        };
        match u16::try_from(elements.len()) {
            Ok(len) if len > 0 && elements.iter().all(|term| byte(term).is_some()) => {
                self.bytes(&[tag::STRING]).bytes(&len.to_be_bytes());
                self.out.extend(elements.iter().filter_map(byte));
                self
            }
            _ => self.list(count(elements.len())).terms(elements).nil(),
        }
    }

    fn fun(&mut self, fun: &Fun) -> &mut Self {
        self.bytes(&[tag::NEW_FUN]);
        let start = self.out.len();
        self.bytes(&[0; 4]).bytes(&[fun.arity]).bytes(&fun.uniq).bytes(&fun.index.to_be_bytes());
        self.bytes(&len32(fun.free.len())).atom_of(&fun.module);
        self.int(fun.old_index).int(fun.old_uniq);
        if self.canonical {
            let no_creator = Pid { node: Atom::literal(""), id: 0, serial: 0, creation: 0 };
            self.pid(&no_creator);
        } else {
            self.pid(&fun.creator);
        }
        // The size covers the free variables, so all of them must be in the buffer.
        let large = self.large.take();
        self.terms(&fun.free);
        self.large = large;
        let size = len32(self.out.len() - start);
        if let Some(field) = self.out.get_mut(start..start + size.len()) {
            field.copy_from_slice(&size);
        }
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }
}

/// Returns a number of elements or bytes in the 32 bits of the format.
///
/// # Panics
/// Above 32 bits. Frames from peers are smaller, and so are the terms of this node.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or_else(|_| panic!("a term of {len} elements or bytes"))
}

fn len32(len: usize) -> [u8; 4] {
    count(len).to_be_bytes()
}

/// The length of an atom or a reference, which is never near the limit of 16 bits.
fn len16(len: usize) -> [u8; 2] {
    let [_, _, high, low] = len32(len);
    [high, low]
}
