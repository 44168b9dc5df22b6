//! Reads terms that hold no other terms: atoms, numbers, identifiers, binaries. Pure.
//!
//! The result borrows from the message. Code that builds terms makes a term from it; code that only
//! checks the message drops it.
//!
//! Spec: "External Term Format" of the ERTS user's guide; `dec_term` and `decoded_size` in `erts/emulator/beam/external.c`.

use std::borrow::Cow;

use super::cursor::{Reader, unexpected};
use super::{DecodeError, Float, Kind, Pid, ReferenceIds, atoms, tag, term};
use crate::limits;

/// A term without terms inside, which borrows from the message.
pub(super) enum Leaf<'a> {
    Atom(Cow<'a, str>),
    Int(i64),
    /// Whether the integer is negative, and its absolute value, for one that exceeds 64 bits.
    BigInt(bool, &'a [u8]),
    Float(Float),
    Pid(PidParts<'a>),
    Port(PortParts<'a>),
    Reference(ReferenceParts<'a>),
    Binary(&'a [u8]),
    /// Bytes, and the number of bits in the last, 1 to 7.
    BitString(&'a [u8], u8),
    /// Module, function, arity.
    ExternalFun(Cow<'a, str>, Cow<'a, str>, u8),
}

/// Node, id, serial, creation.
pub(super) type PidParts<'a> = (Cow<'a, str>, u32, u32, u32);
/// Node, id, creation.
pub(super) type PortParts<'a> = (Cow<'a, str>, u64, u32);
/// Node, creation, number.
pub(super) type ReferenceParts<'a> = (Cow<'a, str>, u32, ReferenceIds);

impl<'a> Reader<'a> {
    pub(super) fn pid_of(&mut self, (node, id, serial, creation): PidParts<'_>) -> Pid {
        Pid { node: self.atoms.intern(&node), id, serial, creation }
    }

    /// Reads a term of any kind that holds no terms. Refuses the others, which the walk enters.
    pub(super) fn leaf(&mut self) -> Result<Leaf<'a>, DecodeError> {
        match self.peek()? {
            Kind::Atom => self.atom_text().map(Leaf::Atom),
            Kind::Integer => self.number(),
            Kind::Float => self.float().map(Leaf::Float),
            Kind::Pid => self.pid_parts().map(Leaf::Pid),
            Kind::Port => self.port_parts().map(Leaf::Port),
            Kind::Reference => self.reference_parts().map(Leaf::Reference),
            Kind::Binary | Kind::BitString => self.bits(),
            Kind::ExternalFun | Kind::Fun | Kind::Tuple | Kind::List | Kind::Map => self.external_fun(),
        }
    }

    /// Reads the text of an atom. Copies it only if it is in Latin-1 and not in ASCII.
    pub(super) fn atom_text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let tag = self.tag()?;
        let len = match tag {
            tag::SMALL_ATOM_UTF8 | tag::SMALL_ATOM => u16::from(self.u8()?),
            tag::ATOM_UTF8 | tag::ATOM => self.u16()?,
            other => return Err(unexpected(Kind::Atom, other)),
        };
        let bytes = self.take(usize::from(len))?;
        let latin1 = matches!(tag, tag::SMALL_ATOM | tag::ATOM);
        let text = if latin1 && !bytes.is_ascii() {
            Cow::Owned(bytes.iter().copied().map(char::from).collect())
        } else {
            Cow::Borrowed(str::from_utf8(bytes).map_err(|_| DecodeError::AtomUtf8)?)
        };
        if atoms::fits(&text) { Ok(text) } else { Err(DecodeError::AtomTooLong) }
    }

    /// Reads a [`Leaf::Int`] or [`Leaf::BigInt`]. As in erts, any sign other than 0 means negative,
    /// and trailing zeros are ignored.
    pub(super) fn number(&mut self) -> Result<Leaf<'a>, DecodeError> {
        let len = match self.tag()? {
            tag::SMALL_INTEGER => {
                let value = match self.element.take() {
                    Some(byte) => byte,
                    None => self.u8()?,
                };
                return Ok(Leaf::Int(i64::from(value)));
            }
            tag::INTEGER => {
                let value = i32::from_be_bytes(self.array()?);
                return Ok(Leaf::Int(i64::from(value)));
            }
            tag::SMALL_BIG => usize::from(self.u8()?),
            tag::LARGE_BIG => self.length()?,
            other => return Err(unexpected(Kind::Integer, other)),
        };
        let negative = self.u8()? != 0;
        let magnitude = self.take(len)?;
        Ok(match term::small(negative, magnitude) {
            Some(value) => Leaf::Int(value),
            None => Leaf::BigInt(negative, magnitude),
        })
    }

    pub(super) fn float(&mut self) -> Result<Float, DecodeError> {
        let value = match self.tag()? {
            tag::NEW_FLOAT => Some(f64::from_be_bytes(self.array()?)),
            tag::FLOAT => float_of_text(&self.array()?),
            other => return Err(unexpected(Kind::Float, other)),
        };
        value.and_then(Float::new).ok_or(DecodeError::Float)
    }

    pub(super) fn pid_parts(&mut self) -> Result<PidParts<'a>, DecodeError> {
        let tag = self.tag()?;
        if !matches!(tag, tag::NEW_PID | tag::PID) {
            return Err(unexpected(Kind::Pid, tag));
        }
        let (node, id, serial) = (self.atom_text()?, self.u32()?, self.u32()?);
        let creation = if tag == tag::PID { self.small_creation()? } else { self.u32()? };
        Ok((node, id, serial, creation))
    }

    pub(super) fn port_parts(&mut self) -> Result<PortParts<'a>, DecodeError> {
        let tag = self.tag()?;
        if !matches!(tag, tag::V4_PORT | tag::NEW_PORT | tag::PORT) {
            return Err(unexpected(Kind::Port, tag));
        }
        let node = self.atom_text()?;
        let id = match tag {
            tag::V4_PORT => u64::from_be_bytes(self.array()?),
            _ => u64::from(self.u32()?),
        };
        let creation = if tag == tag::PORT { self.small_creation()? } else { self.u32()? };
        Ok((node, id, creation))
    }

    pub(super) fn reference_parts(&mut self) -> Result<ReferenceParts<'a>, DecodeError> {
        let tag = self.tag()?;
        let mut words = [0; limits::REFERENCE_WORDS];
        if tag == tag::REFERENCE {
            // One word, which precedes the creation.
            let (node, word) = (self.atom_text()?, self.u32()?);
            let ids = ReferenceIds::new(&[word]).ok_or(DecodeError::ReferenceWords(1))?;
            return Ok((node, self.small_creation()?, ids));
        }
        if !matches!(tag, tag::NEWER_REFERENCE | tag::NEW_REFERENCE) {
            return Err(unexpected(Kind::Reference, tag));
        }
        let len = self.u16()?;
        let node = self.atom_text()?;
        let creation = if tag == tag::NEW_REFERENCE { self.small_creation()? } else { self.u32()? };
        let refused = DecodeError::ReferenceWords(len);
        let words = words.get_mut(..usize::from(len)).ok_or(refused)?;
        for word in words.iter_mut() {
            *word = self.u32()?;
        }
        Ok((node, creation, ReferenceIds::new(words).ok_or(refused)?))
    }

    /// Reads a [`Leaf::Binary`] or [`Leaf::BitString`].
    pub(super) fn bits(&mut self) -> Result<Leaf<'a>, DecodeError> {
        let tag = self.tag()?;
        if !matches!(tag, tag::BINARY | tag::BIT_BINARY) {
            return Err(unexpected(Kind::Binary, tag));
        }
        let len = self.length()?;
        if tag == tag::BINARY {
            return self.take(len).map(Leaf::Binary);
        }
        let bits = self.u8()?;
        let bytes = self.take(len)?;
        match bits {
            0 if len == 0 => Ok(Leaf::Binary(bytes)),
            8 if len > 0 => Ok(Leaf::Binary(bytes)),
            1..=7 if len > 0 => Ok(Leaf::BitString(bytes, bits)),
            _ => Err(DecodeError::Bits(bits)),
        }
    }

    pub(super) fn external_fun(&mut self) -> Result<Leaf<'a>, DecodeError> {
        match self.tag()? {
            tag::EXPORT => {
                let (module, function) = (self.atom_text()?, self.atom_text()?);
                let arity = self.integer()?.try_into().map_err(|_| DecodeError::IntegerRange)?;
                Ok(Leaf::ExternalFun(module, function, arity))
            }
            other => Err(unexpected(Kind::ExternalFun, other)),
        }
    }

    /// Reads the creation of the oldest formats: a byte of which "only two bits are significant".
    /// Like erts, refuses larger values.
    fn small_creation(&mut self) -> Result<u32, DecodeError> {
        match self.u8()? {
            creation @ 0..=3 => Ok(u32::from(creation)),
            other => Err(DecodeError::Creation(other)),
        }
    }
}

/// Parses the text of `FLOAT_EXT`: "a float in string format", as `sprintf` writes it for `%.20e`,
/// up to the first zero byte.
fn float_of_text(text: &[u8; 31]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next()?;
    let (sign, unsigned) = match text.split_first()? {
        (b'+' | b'-', rest) => (1, rest),
        _ => (0, text),
    };
    let point = sign + unsigned.iter().position(|&byte| byte == b'.')?;
    let exponent = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let digits = |part: Option<&[u8]>| part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    let exponent_is_right = exponent.is_none_or(|at| {
        let part = text.get(at + 1..).unwrap_or_default();
        digits(Some(part.strip_prefix(b"+").or(part.strip_prefix(b"-")).unwrap_or(part)))
    });
    let fraction = text.get(point + 1..exponent.unwrap_or(text.len()));
    if !digits(text.get(sign..point)) || !digits(fraction) || !exponent_is_right {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}
