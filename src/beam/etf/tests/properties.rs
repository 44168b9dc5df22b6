//! Properties of all terms and of any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::generate::term;
use super::{Atoms, Bytes, Map, Raw, Reader, Reference, ReferenceIds, Term, decode, tag};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

/// Returns an equal term in another form: maps built from reversed pairs, references with more or
/// fewer zeros, other creators of funs.
fn reshaped(term: &Term) -> Term {
    let all = |terms: &[Term]| terms.iter().map(reshaped).collect::<Vec<_>>();
    match term {
        Term::Tuple(elements) => Term::Tuple(all(elements)),
        Term::List(elements) => Term::List(all(elements)),
        Term::ImproperList(elements, tail) => Term::improper(all(elements), reshaped(tail)),
        Term::Map(map) => {
            let pairs = map.iter().rev().map(|(key, value)| (reshaped(key), reshaped(value)));
            Term::Map(Map::new(pairs.collect()).expect("each key once"))
        }
        Term::Reference(reference) => {
            let mut words = reference.ids.to_vec();
            match words.as_slice() {
                [_, .., 0] => words.truncate(words.len() - 1),
                _ => words.push(0),
            }
            let ids = ReferenceIds::new(&words).unwrap_or(reference.ids);
            Term::Reference(Reference { ids, ..reference.clone() })
        }
        Term::Fun(fun) => {
            let mut fun = fun.clone();
            fun.creator.id ^= 1;
            fun.free = all(&fun.free);
            Term::Fun(fun)
        }
        other => other.clone(),
    }
}

/// Encodes a term in unusual formats: lists without strings, maps in reverse order, atoms and small
/// integers in their longest formats.
fn encoded_differently(term: &Term, out: &mut Vec<u8>) {
    let len = |len: usize| u32::try_from(len).expect("short").to_be_bytes();
    match term {
        Term::Int(value) => {
            out.extend([tag::LARGE_BIG, 0, 0, 0, 8, u8::from(*value < 0)]);
            out.extend(value.unsigned_abs().to_le_bytes());
        }
        Term::Atom(atom) => {
            out.push(tag::ATOM_UTF8);
            out.extend(&len(atom.as_str().len())[2..]);
            out.extend(atom.as_str().as_bytes());
        }
        Term::Tuple(elements) => {
            out.push(tag::LARGE_TUPLE);
            out.extend(len(elements.len()));
            elements.iter().for_each(|element| encoded_differently(element, out));
        }
        Term::List(elements) => {
            for element in elements {
                out.extend([tag::LIST, 0, 0, 0, 1]);
                encoded_differently(element, out);
            }
            out.push(tag::NIL);
        }
        Term::Map(map) => {
            out.push(tag::MAP);
            out.extend(len(map.len()));
            for (key, value) in map.iter().rev() {
                encoded_differently(key, out);
                encoded_differently(value, out);
            }
        }
        Term::Binary(bytes) if !bytes.is_empty() => {
            out.push(tag::BIT_BINARY);
            out.extend(len(bytes.len()));
            out.push(8);
            out.extend(bytes);
        }
        other => out.extend(&other.encode()[1..]),
    }
}

/// A change that damages an encoding.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        match self {
            Self::Set(at, value) => bytes[at.index(len)] = *value,
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(at.index(len)),
            Self::Insert(at, more) => drop(bytes.splice(at.index(len)..at.index(len), more.iter().copied())),
            Self::Remove(at) => drop(bytes.remove(at.index(len))),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let small = prop_oneof![0_u8..8, Just(255), tag::NEW_FLOAT..=tag::V4_PORT];
    prop_oneof![
        (any::<Index>(), small).prop_map(|(at, value)| Damage::Set(at, value)),
        (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), vec(any::<u8>(), 1..5)).prop_map(|(at, more)| Damage::Insert(at, more)),
        any::<Index>().prop_map(Damage::Remove),
    ]
}

/// Reads the bytes element by element, with any method that succeeds.
fn pull_all(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(&message, &mut atoms);
    let mut budget = 1000;
    while budget > 0 {
        budget -= 1;
        let entered = reader.tuple().is_ok() || reader.map().is_ok();
        let read = entered
            || reader.atom().is_ok()
            || reader.integer().is_ok()
            || reader.pid().is_ok()
            || reader.port().is_ok()
            || reader.reference().is_ok()
            || reader.binary().is_ok();
        if read {
            continue;
        }
        let Ok(mut list) = reader.list() else {
            if reader.raw().is_err() {
                break;
            }
            continue;
        };
        while matches!(reader.more(&mut list), Ok(true)) && reader.raw().is_ok() {}
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_term_survives_encoding(term in term()) {
        let bytes = term.encode();
        let mut atoms = Atoms::new();
        prop_assert_eq!(Term::decode(&bytes.clone().into(), &mut atoms), Ok(term.clone()));
        prop_assert_eq!(decode(&bytes[1..]).map(|term| term.encode()), Ok(bytes), "in every byte");
        let raw = Raw::encode(&term);
        prop_assert_eq!(raw.term(&mut atoms), Ok(term));
    }

    #[test]
    fn equal_terms_have_one_canonical_form(term in term()) {
        let canonical = term.canonical();
        let again = decode(&canonical).expect("well formed");
        prop_assert_eq!(&again, &term);
        prop_assert_eq!(again.canonical(), canonical.clone());
        let reshaped = reshaped(&term);
        prop_assert_eq!(&reshaped, &term);
        prop_assert_eq!(reshaped.canonical(), canonical.clone());
        let mut bytes = Vec::new();
        encoded_differently(&term, &mut bytes);
        let otherwise = decode(&bytes).expect("well formed");
        prop_assert_eq!(&otherwise, &term);
        prop_assert_eq!(otherwise.canonical(), canonical);
    }

    #[test]
    fn different_terms_have_different_canonical_forms(a in term(), b in term()) {
        prop_assert_eq!(a == b, a.canonical() == b.canonical());
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
    }

    #[test]
    fn any_bytes_are_a_term_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        pull_all(&bytes);
    }

    #[test]
    fn a_damaged_term_is_a_term_or_an_error(term in term(), damages in vec(damage(), 1..4)) {
        let mut bytes = term.encode().split_off(1);
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        pull_all(&bytes);
        if let Ok(damaged) = decode(&bytes) {
            prop_assert_eq!(decode(&damaged.encode()[1..]), Ok(damaged));
        }
    }

    #[test]
    fn a_term_that_is_cut_short_is_refused(term in term(), at in any::<Index>()) {
        let bytes = term.encode().split_off(1);
        let cut = at.index(bytes.len());
        prop_assert!(decode(&bytes[..cut]).is_err());
    }
}
