//! An encoder for the tests. Like a node with an atom cache, it writes terms with a header that
//! lists their atoms, whole or in fragments.

use super::*;
use crate::etf::{Atom, Raw, Term};

/// The sender's copy of the receiver's cache: the atom of each entry.
pub(super) struct Sender {
    cache: Vec<Option<Atom>>,
}

/// The header and the terms of one message.
pub(super) struct Message {
    pub(super) header: Vec<u8>,
    pub(super) terms: Vec<u8>,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self { cache: vec![None; CACHE] }
    }

    /// Returns one of a few entries, so that most are often overwritten.
    fn entry(atom: &Atom) -> usize {
        let hash = atom.as_str().bytes().fold(7_usize, |hash, byte| hash.wrapping_mul(31) + usize::from(byte));
        hash % 9 * 255
    }

    /// Encodes terms with a reference for each atom that has an entry.
    pub(super) fn message(&mut self, terms: &[Term]) -> Message {
        let (mut atoms, mut out) = (Vec::new(), Vec::new());
        for term in terms {
            write(term, &mut atoms, &mut out);
        }
        Message { header: self.header(&atoms), terms: out }
    }

    fn header(&mut self, atoms: &[Atom]) -> Vec<u8> {
        let mut header = vec![u8::try_from(atoms.len()).unwrap()];
        if atoms.is_empty() {
            return header;
        }
        let long = atoms.iter().any(|atom| atom.as_str().len() > 255);
        let (mut flags, mut entries) = (vec![0; atoms.len() / 2 + 1], Vec::new());
        let mut flag = |at: usize, bits: u8| flags[at / 2] |= if at.is_multiple_of(2) { bits } else { bits << 4 };
        for (at, atom) in atoms.iter().enumerate() {
            let entry = Self::entry(atom);
            let new = self.cache[entry].as_ref() != Some(atom);
            flag(at, u8::try_from(entry >> 8).unwrap() | u8::from(new) << 3);
            entries.push(u8::try_from(entry & 0xFF).unwrap());
            if new {
                let text = atom.as_str().as_bytes();
                let length = u16::try_from(text.len()).unwrap().to_be_bytes();
                entries.extend_from_slice(if long { &length } else { &length[1..] });
                entries.extend_from_slice(text);
                self.cache[entry] = Some(atom.clone());
            }
        }
        flag(atoms.len(), u8::from(long));
        header.extend(flags);
        header.extend(entries);
        header
    }
}

impl Message {
    pub(super) fn whole(&self) -> Bytes {
        [&[VERSION, NORMAL], &self.header[..], &self.terms].concat().into()
    }

    /// Returns the message in fragments that begin at these positions.
    pub(super) fn fragments(&self, sequence: u64, cuts: &[usize]) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let mut rest = &self.terms[..];
        for cut in cuts.iter().rev() {
            let (before, part) = rest.split_at((*cut).min(rest.len()));
            parts.push(part);
            rest = before;
        }
        parts.push(rest);
        let count = parts.len() as u64;
        let fragment = |(at, part): (usize, &&[u8])| {
            let kind = if at == 0 { FIRST_FRAGMENT } else { FRAGMENT };
            let header = if at == 0 { &self.header[..] } else { &[] };
            let numbers = [sequence.to_be_bytes(), (count - at as u64).to_be_bytes()].concat();
            Bytes::from([&[VERSION, kind], &numbers[..], header, part].concat())
        };
        parts.iter().rev().enumerate().map(fragment).collect()
    }
}

fn write_atom(atom: &Atom, atoms: &mut Vec<Atom>, out: &mut Vec<u8>) {
    let taken = |other: &Atom| other != atom && Sender::entry(other) == Sender::entry(atom);
    let index = atoms.iter().position(|other| other == atom).or_else(|| {
        let has_room = atoms.len() < 255 && !atoms.iter().any(taken);
        has_room.then(|| {
            atoms.push(atom.clone());
            atoms.len() - 1
        })
    });
    match index {
        Some(index) => out.extend([82, u8::try_from(index).unwrap()]),
        None => out.extend_from_slice(Raw::encode(&Term::Atom(atom.clone())).bytes()),
    }
}

/// Writes an identifier, whose node name is preceded by `head` bytes.
fn write_identifier(term: &Term, head: usize, node: &Atom, atoms: &mut Vec<Atom>, out: &mut Vec<u8>) {
    let plain = Raw::encode(term);
    out.extend_from_slice(&plain.bytes()[..head]);
    write_atom(node, atoms, out);
    let name = Raw::encode(&Term::Atom(node.clone())).bytes().len();
    out.extend_from_slice(&plain.bytes()[head + name..]);
}

fn write(term: &Term, atoms: &mut Vec<Atom>, out: &mut Vec<u8>) {
    let plain = Raw::encode(term);
    match term {
        Term::Atom(atom) => write_atom(atom, atoms, out),
        Term::Pid(pid) => write_identifier(term, 1, &pid.node, atoms, out),
        Term::Port(port) => write_identifier(term, 1, &port.node, atoms, out),
        Term::Reference(reference) => write_identifier(term, 3, &reference.node, atoms, out),
        Term::ExternalFun { module, function, .. } => {
            out.push(113);
            write_atom(module, atoms, out);
            write_atom(function, atoms, out);
            out.extend_from_slice(&plain.bytes()[plain.bytes().len() - 2..]);
        }
        Term::Fun(fun) => {
            let start = out.len() + 1;
            out.extend_from_slice(&plain.bytes()[..30]);
            write_atom(&fun.module, atoms, out);
            write(&Term::Int(fun.old_index), atoms, out);
            write(&Term::Int(fun.old_uniq), atoms, out);
            write(&Term::Pid(fun.creator.clone()), atoms, out);
            fun.free.iter().for_each(|free| write(free, atoms, out));
            let size = u32::try_from(out.len() - start).unwrap().to_be_bytes();
            out[start..start + 4].copy_from_slice(&size);
        }
        Term::Tuple(elements) => {
            out.extend_from_slice(&plain.bytes()[..2]);
            elements.iter().for_each(|element| write(element, atoms, out));
        }
        Term::Map(map) => {
            out.extend_from_slice(&plain.bytes()[..5]);
            for (key, value) in map.iter() {
                write(key, atoms, out);
                write(value, atoms, out);
            }
        }
        Term::List(elements) if plain.bytes()[0] == 108 => {
            out.extend_from_slice(&plain.bytes()[..5]);
            elements.iter().for_each(|element| write(element, atoms, out));
            out.push(106);
        }
        Term::ImproperList(elements, tail) => {
            out.extend_from_slice(&plain.bytes()[..5]);
            elements.iter().chain([&**tail]).for_each(|element| write(element, atoms, out));
        }
        _ => out.extend_from_slice(plain.bytes()),
    }
}
