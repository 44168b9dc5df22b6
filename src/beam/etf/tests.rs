//! Tests of each tag and each error, on bytes written by hand. Each input is read both as a term
//! and as a raw term, and the results must agree.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    Atom, AtomTooLong, Atoms, BitString, DecodeError, DuplicateKey, Float, Fun, Kind, Map, Pid, Port, Raw, Reader,
    Reference, ReferenceIds, Term, Writer, tag,
};
use crate::limits;

mod bounds;
mod generate;
mod properties;
mod pull;

const NODE: &[u8] = b"\x77\x03a@b";

/// Decodes one term without a leading 131, and checks that a raw read has the same outcome.
fn decode(bytes: impl AsRef<[u8]>) -> Result<Term, DecodeError> {
    let bytes = Bytes::copy_from_slice(bytes.as_ref());
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(&bytes, &mut atoms);
    let term = reader.term();
    let at = reader.at;
    let mut reader = Reader::new(&bytes, &mut atoms);
    let raw = reader.raw();
    assert_eq!(reader.at, at, "both stop at the same byte");
    match (&term, &raw) {
        (Ok(term), Ok(raw)) => {
            assert_eq!(raw.bytes(), &bytes[..at]);
            assert_eq!(raw.term(&mut atoms).as_ref(), Ok(term));
            assert_eq!(raw.canonical(&mut atoms), Ok(term.canonical()));
            let again = raw.detached();
            assert_eq!(&again, raw);
        }
        (Err(term), Err(raw)) => {
            // A raw read compares keys at the end of the term, so of two faults it may find the
            // other one.
            assert!(term == raw || *term == DecodeError::DuplicateKey, "term {term:?}, raw {raw:?}");
            assert_eq!(at, 0, "a read that fails consumes nothing");
        }
        _ => panic!("term {term:?}, raw {raw:?}"),
    }
    term
}

/// Joins the parts.
fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn atom(text: &str) -> Term {
    Term::Atom(Atom::new(text).expect("short enough"))
}

fn node() -> Atom {
    Atom::literal("a@b")
}

fn float(value: f64) -> Term {
    Term::Float(Float::new(value).expect("finite"))
}

fn float_text(text: &[u8]) -> Vec<u8> {
    let mut bytes = cat(&[&[99], text]);
    bytes.resize(32, 0);
    bytes
}

fn reference(ids: &[u32], creation: u32) -> Term {
    let ids = ReferenceIds::new(ids).expect("one to five words");
    Term::Reference(Reference { node: node(), creation, ids })
}

fn bits(bytes: &'static [u8], bits: u8) -> Term {
    Term::bits(Bytes::from_static(bytes), bits).expect("one to eight bits")
}

fn fun(free: Vec<Term>) -> Fun {
    let creator = Pid { node: node(), id: 1, serial: 2, creation: 3 };
    let (index, old_index, old_uniq) = (7, 5, 1 << 26);
    Fun { module: Atom::literal("m"), index, uniq: [9; 16], old_index, old_uniq, arity: 1, creator, free }
}

fn map(pairs: &[(i64, i64)]) -> Map {
    Map::new(pairs.iter().map(|(k, v)| (Term::Int(*k), Term::Int(*v))).collect()).expect("no key twice")
}

#[test]
fn atoms_of_all_four_tags() {
    for bytes in [&b"\x64\x00\x02ok"[..], b"\x73\x02ok", b"\x76\x00\x02ok", b"\x77\x02ok"] {
        assert_eq!(decode(bytes), Ok(atom("ok")));
    }
    let umlaut = atom("\u{e4}\u{ff}");
    for bytes in [
        &b"\x64\x00\x02\xe4\xff"[..],
        b"\x73\x02\xe4\xff",
        b"\x76\x00\x04\xc3\xa4\xc3\xbf",
        b"\x77\x04\xc3\xa4\xc3\xbf",
    ] {
        assert_eq!(decode(bytes), Ok(umlaut.clone()));
    }
    assert_eq!(decode(b"\x77\x00"), Ok(atom("")));
    assert_eq!(decode(b"\x77\x02\xc3("), Err(DecodeError::AtomUtf8));
    assert_eq!(decode(b"\x76\x00\x03\xed\xa0\x80"), Err(DecodeError::AtomUtf8), "a surrogate");
}

#[test]
fn integers() {
    let big = |tag: &[u8], sign: u8, magnitude: &[u8]| decode(cat(&[tag, &[sign], magnitude]));
    assert_eq!(decode([97, 255]), Ok(Term::Int(255)));
    assert_eq!(decode([98, 255, 255, 255, 254]), Ok(Term::Int(-2)));
    assert_eq!(big(&[110, 0], 0, &[]), Ok(Term::Int(0)));
    assert_eq!(big(&[110, 1], 1, &[0]), Ok(Term::Int(0)), "-0 does not exist");
    assert_eq!(big(&[110, 1], 7, &[9]), Ok(Term::Int(-9)), "any sign other than 0 means negative");
    assert_eq!(big(&[110, 3], 0, &[9, 0, 0]), Ok(Term::Int(9)), "leading zeros");
    assert_eq!(big(&[111, 0, 0, 0, 1], 0, &[9]), Ok(Term::Int(9)));
    assert_eq!(big(&[110, 8], 0, &i64::MAX.to_le_bytes()), Ok(Term::Int(i64::MAX)));
    assert_eq!(big(&[110, 8], 1, &[0, 0, 0, 0, 0, 0, 0, 128]), Ok(Term::Int(i64::MIN)));
    let above = big(&[110, 8], 0, &[0, 0, 0, 0, 0, 0, 0, 128]).expect("well formed");
    let below = big(&[110, 8], 1, &[1, 0, 0, 0, 0, 0, 0, 128]).expect("well formed");
    for (term, negative) in [(above, false), (below, true)] {
        let Term::BigInt(value) = &term else { panic!("{term:?}") };
        assert_eq!((value.is_negative(), value.magnitude().len()), (negative, 8));
        assert_eq!(decode(&term.encode()[1..]), Ok(term));
    }
    let long = big(&[111, 0, 0, 1, 1], 0, &[&[1; 256][..], &[0]].concat()).expect("well formed");
    let Term::BigInt(value) = &long else { panic!("{long:?}") };
    assert_eq!(value.magnitude().len(), 256, "without its leading zero");
    assert_eq!(long.encode()[..6], [131, 111, 0, 0, 1, 0]);
}

#[test]
fn floats() {
    assert_eq!(decode(cat(&[&[70], &1.5_f64.to_be_bytes()])), Ok(float(1.5)));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(decode(cat(&[&[70], &value.to_be_bytes()])), Err(DecodeError::Float));
        assert_eq!(Float::new(value), None);
    }
    for (text, value) in [
        (&b"1.50000000000000000000e+00"[..], 1.5),
        (b"-2.5e-1", -0.25),
        (b"+2.5E1", 25.0),
        (b"0.1", 0.1),
        (b"1.5\x00e9", 1.5),
        (b"1.50000000000000000000000000000", 1.5),
    ] {
        assert_eq!(decode(float_text(text)), Ok(float(value)));
    }
    for text in [
        &b""[..],
        b"1",
        b".5",
        b"1.",
        b"1.e1",
        b"1e1",
        b"1.5e",
        b"1.5e+",
        b"1.5e1.5",
        b"--1.5",
        b"+-1.5",
        b" 1.5",
        b"1.5 ",
        b"inf",
        b"nan",
        b"1.5e999",
        b"0x1.5",
        b"1_0.5",
        b"1.5e1e1",
        b"e1.5",
        b"1.\xff",
        b"1.5e+-1",
        b"-",
    ] {
        assert_eq!(decode(float_text(text)), Err(DecodeError::Float), "{}", text.escape_ascii());
    }
}

#[test]
fn pids_and_ports() {
    let pid = |id, serial, creation| Ok(Term::Pid(Pid { node: node(), id, serial, creation }));
    let (one, two) = (1_u32.to_be_bytes(), 2_u32.to_be_bytes());
    assert_eq!(decode(cat(&[&[88], NODE, &one, &two, &[255; 4]])), pid(1, 2, u32::MAX));
    assert_eq!(decode(cat(&[&[103], NODE, &one, &two, &[3]])), pid(1, 2, 3));
    assert_eq!(decode(cat(&[&[103], NODE, &one, &two, &[4]])), Err(DecodeError::Creation(4)));
    assert_eq!(decode(cat(&[&[103], b"\x64\x00\x03a@b", &one, &two, &[0]])), pid(1, 2, 0));
    let port = |id, creation| Ok(Term::Port(Port { node: node(), id, creation }));
    assert_eq!(decode(cat(&[&[102], NODE, &one, &[3]])), port(1, 3));
    assert_eq!(decode(cat(&[&[102], NODE, &one, &[9]])), Err(DecodeError::Creation(9)));
    assert_eq!(decode(cat(&[&[89], NODE, &one, &two])), port(1, 2));
    assert_eq!(decode(cat(&[&[120], NODE, &one, &two, &two])), port((1 << 32) + 2, 2));
    let no_node = DecodeError::Unexpected { wanted: Kind::Atom, found: Kind::Integer };
    assert_eq!(decode([88, 97, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(no_node));
    let written = |id| Term::Port(Port { node: node(), id, creation: 1 }).encode()[1];
    assert_eq!((written((1 << 28) - 1), written(1 << 28), written(1 << 32)), (89, 120, 120));
}

#[test]
fn trailing_zero_words_of_a_reference_are_ignored() {
    let (short, long) = (reference(&[1, 2], 1), reference(&[1, 2, 0], 1));
    assert_eq!(short, long);
    assert_eq!(short.canonical(), long.canonical());
    assert_eq!(HashSet::from([short.clone(), long.clone()]).len(), 1);
    assert_ne!(short.encode(), long.encode(), "they are kept");
    assert_ne!(reference(&[1, 0, 1], 1), reference(&[1], 1));
    assert_eq!(reference(&[0], 1).canonical(), reference(&[0; 5], 1).canonical());
}

#[test]
fn tuples() {
    assert_eq!(decode([104, 0]), Ok(Term::tuple([])));
    assert_eq!(decode([104, 2, 97, 1, 106]), Ok(Term::tuple([Term::Int(1), Term::List(vec![])])));
    assert_eq!(decode([105, 0, 0, 0, 1, 97, 1]), Ok(Term::tuple([Term::Int(1)])));
    let wide = Term::Tuple(vec![Term::Int(0); 256]);
    assert_eq!(wide.encode()[..6], [131, 105, 0, 0, 1, 0]);
    assert_eq!(decode(&wide.encode()[1..]), Ok(wide));
}

#[test]
fn lists_in_every_form_are_one_list() {
    let ints = |values: &[i64]| Term::List(values.iter().copied().map(Term::Int).collect());
    assert_eq!(decode([106]), Ok(ints(&[])));
    assert_eq!(decode([107, 0, 0]), Ok(ints(&[])));
    assert_eq!(decode([107, 0, 2, 1, 255]), Ok(ints(&[1, 255])));
    assert_eq!(decode([108, 0, 0, 0, 2, 97, 1, 97, 2, 106]), Ok(ints(&[1, 2])));
    assert_eq!(decode([108, 0, 0, 0, 1, 97, 1, 107, 0, 1, 2]), Ok(ints(&[1, 2])));
    assert_eq!(decode([108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 2, 106]), Ok(ints(&[1, 2])));
    assert_eq!(decode([108, 0, 0, 0, 0, 106]), Ok(ints(&[])));
    assert_eq!(decode([108, 0, 0, 0, 0, 97, 5]), Ok(Term::Int(5)), "as in erts");
    let improper = Term::ImproperList(vec![Term::Int(1), Term::Int(2)], Box::new(atom("x")));
    assert_eq!(decode(b"\x6c\x00\x00\x00\x02\x61\x01\x61\x02\x77\x01x"), Ok(improper.clone()));
    assert_eq!(decode(b"\x6c\x00\x00\x00\x01\x61\x01\x6c\x00\x00\x00\x01\x61\x02\x77\x01x"), Ok(improper.clone()));
    let built = |tail| Term::improper(vec![Term::Int(1)], tail);
    assert_eq!(built(Term::improper(vec![Term::Int(2)], atom("x"))), improper);
    assert_eq!(built(ints(&[2])), ints(&[1, 2]));
    assert_eq!(Term::improper(vec![], Term::Int(5)), Term::Int(5));
}

#[test]
fn lists_of_bytes_are_written_as_erts_writes_them() {
    let list = |len: usize, value: i64| Term::List(vec![Term::Int(value); len]).encode();
    assert_eq!(list(0, 1), [131, 106]);
    assert_eq!(list(2, 255), [131, 107, 0, 2, 255, 255]);
    assert_eq!(list(65535, 1)[..4], [131, 107, 255, 255]);
    assert_eq!(list(65536, 1)[..6], [131, 108, 0, 1, 0, 0]);
    assert_eq!(list(1, 256), [131, 108, 0, 0, 0, 1, 98, 0, 0, 1, 0, 106]);
    assert_eq!(list(1, -1), [131, 108, 0, 0, 0, 1, 98, 255, 255, 255, 255, 106]);
    assert_eq!(Term::string("h\u{e4}").encode(), [131, 107, 0, 2, b'h', 0xe4]);
    assert_eq!(Term::string("\u{20ac}").encode()[..7], [131, 108, 0, 0, 0, 1, 98]);
}

#[test]
fn maps_have_each_key_once() {
    assert_eq!(decode([116, 0, 0, 0, 0]), Ok(Term::Map(Map::default())));
    let two = [116, 0, 0, 0, 2, 97, 2, 97, 20, 97, 1, 97, 10];
    let expected = map(&[(1, 10), (2, 20)]);
    assert_eq!(decode(two), Ok(Term::Map(expected.clone())));
    assert_eq!(expected.get(&Term::Int(2)), Some(&Term::Int(20)));
    assert_eq!(expected.get(&Term::Int(3)), None);
    let named = Map::new(vec![(Term::atom("name"), Term::Int(1)), (Term::Int(1), Term::Int(2))]).expect("two keys");
    assert_eq!(named.get_atom("name"), Some(&Term::Int(1)));
    assert_eq!(named.get_atom("nam"), None);
    let twice = Err(DecodeError::DuplicateKey);
    assert_eq!(decode([116, 0, 0, 0, 2, 97, 1, 97, 1, 97, 1, 97, 2]), twice);
    assert_eq!(decode([116, 0, 0, 0, 2, 97, 1, 97, 1, 98, 0, 0, 0, 1, 97, 2]), twice, "in any encoding");
    let list_keys = [116, 0, 0, 0, 2, 107, 0, 1, 7, 106, 108, 0, 0, 0, 1, 97, 7, 106, 106];
    assert_eq!(decode(list_keys), twice);
    assert_eq!(decode(cat(&[&[104, 1], &list_keys])), twice, "inside others");
    assert_eq!(decode(cat(&[&[104, 2], &list_keys])), twice, "before another fault");
    assert_eq!(Map::new(vec![(Term::Int(1), Term::Int(1)); 2]), Err(DuplicateKey));
    let mixed = [116, 0, 0, 0, 2, 97, 1, 97, 1, 70, 63, 240, 0, 0, 0, 0, 0, 0, 97, 2];
    assert!(decode(mixed).is_ok(), "1 and 1.0 are two keys");
    let zeros = [116, 0, 0, 0, 2, 70, 0, 0, 0, 0, 0, 0, 0, 0, 97, 1, 70, 128, 0, 0, 0, 0, 0, 0, 0, 97, 2];
    assert!(decode(zeros).is_ok(), "0.0 and -0.0 are two keys");
}

#[test]
fn binaries_and_bit_strings() {
    assert_eq!(decode(b"\x6d\x00\x00\x00\x02ab"), Ok(Term::binary("ab")));
    assert_eq!(decode([109, 0, 0, 0, 0]), Ok(Term::binary("")));
    assert_eq!(decode([77, 0, 0, 0, 1, 8, 97]), Ok(Term::binary("a")));
    assert_eq!(decode([77, 0, 0, 0, 0, 0]), Ok(Term::binary("")));
    let term = decode([77, 0, 0, 0, 2, 3, 255, 255]).expect("well formed");
    assert_eq!(term, bits(&[255, 0b1110_0000], 3), "unused bits are ignored");
    let Term::BitString(value) = &term else { panic!("{term:?}") };
    assert_eq!((&value.bytes()[..], BitString::bits(value)), (&[255, 0b1110_0000][..], 3));
    assert_eq!(term.encode(), [131, 77, 0, 0, 0, 2, 3, 255, 0b1110_0000]);
    for (len, bits) in [(0, 3), (0, 8), (1, 0), (1, 9), (1, 255)] {
        let bytes = cat(&[&[77, 0, 0, 0, len, bits], &vec![255; usize::from(len)]]);
        assert_eq!(decode(bytes), Err(DecodeError::Bits(bits)));
        assert_eq!(Term::bits(vec![255; usize::from(len)].into(), bits).is_some(), (len, bits) == (0, 8));
    }
}

#[test]
fn funs() {
    let value = fun(vec![Term::Int(1), atom("x")]);
    let term = Term::Fun(Box::new(value.clone()));
    let bytes = term.encode();
    assert_eq!(decode(&bytes[1..]), Ok(term.clone()));
    for size in [0, 1, u8::MAX] {
        let mut wrong = bytes.clone();
        wrong[5] = size;
        assert_eq!(decode(&wrong[1..]), Err(DecodeError::FunSize));
    }
    let mut elsewhere = value.clone();
    elsewhere.creator.id += 1;
    let elsewhere = Term::Fun(Box::new(elsewhere));
    assert_eq!(term, elsewhere, "the creator is ignored");
    assert_eq!(term.canonical(), elsewhere.canonical());
    assert_ne!(term, Term::Fun(Box::new(Fun { index: 8, ..value.clone() })));
    assert_ne!(term, Term::Fun(Box::new(fun(vec![]))));
    assert!(decode(term.canonical()).is_ok());
    let twice = Term::Fun(Box::new(fun(vec![Term::Map(map(&[(0, 0), (3, 0)]))]))).encode();
    let at = twice.windows(2).rposition(|pair| pair == [97, 3]).expect("the second key");
    let twice: Vec<u8> = twice.iter().enumerate().map(|(i, &b)| if i == at + 1 { 0 } else { b }).collect();
    assert_eq!(decode(&twice[1..]), Err(DecodeError::DuplicateKey));
    assert_eq!(decode([117, 0, 0, 0, 0]), Err(DecodeError::OldFun));

    let external = |arity| decode(cat(&[b"\x71\x77\x01m\x77\x01f", arity]));
    let (module, function) = (Atom::literal("m"), Atom::literal("f"));
    assert_eq!(external(&[97, 255]), Ok(Term::ExternalFun { module, function, arity: 255 }));
    assert_eq!(external(&[98, 0, 0, 1, 0]), Err(DecodeError::IntegerRange));
    assert_eq!(external(&[98, 255, 255, 255, 255]), Err(DecodeError::IntegerRange));
    assert_eq!(external(&[106]), Err(DecodeError::Unexpected { wanted: Kind::Integer, found: Kind::List }));
}

#[test]
fn unknown_tags_are_refused() {
    let known = [
        70, 77, 80, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114,
        115, 116, 117, 118, 119, 120,
    ];
    for byte in 0..=255 {
        let refused = decode([byte]);
        match byte {
            80 => assert_eq!(refused, Err(DecodeError::Compressed)),
            117 => assert_eq!(refused, Err(DecodeError::OldFun)),
            106 => assert_eq!(refused, Ok(Term::List(vec![]))),
            byte if known.contains(&byte) => assert_eq!(refused, Err(DecodeError::Truncated), "{byte}"),
            byte => assert_eq!(refused, Err(DecodeError::UnknownTag(byte))),
        }
    }
}

#[test]
fn a_message_is_a_version_and_one_term() {
    let decode = |bytes: &'static [u8]| Term::decode(&Bytes::from_static(bytes), &mut Atoms::new());
    assert_eq!(decode(&[131, 97, 1]), Ok(Term::Int(1)));
    assert_eq!(decode(&[130, 97, 1]), Err(DecodeError::Version(130)));
    assert_eq!(decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[131]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[131, 97, 1, 2, 3]), Err(DecodeError::TrailingBytes(2)));
    assert_eq!(decode(&[131, 80, 0, 0, 0, 2]), Err(DecodeError::Compressed));
    assert_eq!(decode(&[131, 68, 0]), Err(DecodeError::UnknownTag(68)));
}

#[test]
fn equality_is_that_of_exactly_equal() {
    assert_ne!(Term::Int(1), float(1.0));
    assert_ne!(float(0.0), float(-0.0));
    assert_ne!(float(0.0).canonical(), float(-0.0).canonical());
    assert_ne!(Term::binary("a"), Term::string("a"));
    assert_ne!(atom("a"), Term::binary("a"));
    assert_ne!(bits(&[128], 1), bits(&[128], 2));
    assert_eq!(map(&[(1, 1), (2, 2)]), map(&[(2, 2), (1, 1)]));
    assert_ne!(map(&[(1, 1), (2, 2)]), map(&[(1, 2), (2, 1)]));
    assert_eq!(node(), "a@b");
    assert_eq!(node(), *"a@b");
}
