//! An encoded term in pieces, so that its large binaries are sent without being copied. Pure.
//!
//! Spec: `erlang:term_to_iovec/1`.

use std::fmt;

use bytes::Bytes;

use super::{Raw, Term, Writer};
use crate::limits;

/// One encoded term, without the leading 131. Two are equal if they have the same bytes in the same
/// pieces.
#[derive(Clone, PartialEq, Eq)]
pub struct Iovec {
    small: Bytes,
    /// The large binaries, each with its position in `small`, in order.
    large: Vec<(usize, Bytes)>,
}

impl Iovec {
    /// Encodes a term. Binaries of [`limits::SENT_UNCOPIED`] bytes or more are not copied, except those in funs.
    #[must_use]
    pub fn encode(term: &Term) -> Self {
        // Enough for most terms, so that the buffer need not grow.
        let (mut small, mut large) = (Vec::with_capacity(64), Vec::new());
        Writer::in_pieces(&mut small, &mut large).term(term);
        Self { small: small.into(), large }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.large.iter().fold(self.small.len(), |size, (_, bytes)| size + bytes.len())
    }

    /// Returns the bytes in order: each small piece with the large one that follows it, if any.
    pub fn pieces(&self) -> impl Iterator<Item = (&[u8], Option<&Bytes>)> {
        let ends = self.large.iter().map(|(end, bytes)| (*end, Some(bytes))).chain([(self.small.len(), None)]);
        let mut begin = 0;
        ends.map(move |(end, large)| {
            let small = self.small.get(std::mem::replace(&mut begin, end)..end).unwrap_or_default();
            (small, large)
        })
    }
}

impl From<Raw> for Iovec {
    fn from(raw: Raw) -> Self {
        match raw.bytes() {
            large if large.len() >= limits::SENT_UNCOPIED => {
                Self { small: Bytes::new(), large: vec![(0, large.clone())] }
            }
            small => Self { small: small.clone(), large: Vec::new() },
        }
    }
}

impl fmt::Debug for Iovec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iovec({} bytes)", self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etf::{Atom, Fun, Pid};

    fn concat(iovec: &Iovec) -> Vec<u8> {
        iovec.pieces().flat_map(|(small, large)| [small, large.map_or(&[][..], |large| large)].concat()).collect()
    }

    #[test]
    fn only_large_binaries_are_separate_pieces_of_an_encoded_term() {
        let binary = |size| Term::binary(vec![7; size]);
        let large = binary(limits::SENT_UNCOPIED);
        let fun = Fun {
            module: Atom::literal("m"),
            arity: 0,
            uniq: [0; 16],
            index: 0,
            old_index: 0,
            old_uniq: 0,
            creator: Pid { node: Atom::literal("a@h"), id: 1, serial: 0, creation: 1 },
            free: vec![large.clone()],
        };
        for (term, apart) in [
            (Term::atom("small"), 0),
            (binary(limits::SENT_UNCOPIED - 1), 0),
            (large.clone(), 1),
            (Term::tuple([Term::atom("a"), large.clone(), large.clone(), Term::Int(1)]), 2),
            // The length of a fun precedes it.
            (Term::Fun(fun.into()), 0),
        ] {
            let iovec = Iovec::encode(&term);
            let whole = Raw::encode(&term);
            assert_eq!(concat(&iovec), *whole.bytes(), "{apart}");
            assert_eq!(iovec.size(), whole.bytes().len());
            assert_eq!(iovec.pieces().count(), apart + 1);
            assert_eq!(concat(&whole.into()), concat(&iovec));
        }
        let Term::Binary(bytes) = &large else { unreachable!() };
        let iovec = Iovec::encode(&large);
        assert_eq!(iovec.pieces().next().unwrap().1.unwrap().as_ptr(), bytes.as_ptr(), "it is not copied");
    }
}
