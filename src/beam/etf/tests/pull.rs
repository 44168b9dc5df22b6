//! Tests of the pull parser on messages of known shape.

use super::*;

#[test]
fn the_pull_parser_reads_a_message_of_known_shape() {
    let pid = Pid { node: node(), id: 1, serial: 2, creation: 3 };
    let port = Port { node: node(), id: 1 << 40, creation: 3 };
    let reference = Reference { node: node(), creation: 1, ids: [1, 2, 3].into() };
    let tag = Raw::encode(&Term::improper(vec![Term::atom("alias")], Term::Reference(reference.clone())));
    let mut out = Vec::new();
    Writer::new(&mut out).version().tuple(8).atom("$gen_call").pid(&pid).raw(&tag).map(1).atom_of(&node()).port(&port);
    Writer::new(&mut out)
        .int(-5)
        .reference(&reference)
        .list(2)
        .binary(b"x")
        .term(&Term::binary("y"))
        .nil()
        .list(0)
        .nil();
    out.extend(b"payload");

    let message = Bytes::from(out);
    let mut atoms = Atoms::new();
    let mut reader = Reader::with_version(&message, &mut atoms).expect("the version");
    assert_eq!(reader.expect_tuple(7), Err(DecodeError::OtherArity));
    assert_eq!(reader.expect_tuple(8), Ok(()));
    assert_eq!(reader.atom_is("$gen_cast"), Ok(false));
    assert_eq!(reader.expect_atom("$gen_cas"), Err(DecodeError::OtherAtom));
    assert_eq!(reader.pid(), Err(DecodeError::Unexpected { wanted: Kind::Pid, found: Kind::Atom }));
    assert_eq!(reader.atom_is("$gen_call"), Ok(true));
    assert_eq!(reader.atom_is("$gen_call"), Ok(false));
    assert_eq!(reader.pid(), Ok(pid));
    assert_eq!(reader.raw(), Ok(tag));
    assert_eq!(reader.peek(), Ok(Kind::Map));
    assert_eq!(reader.map(), Ok(1));
    assert_eq!(reader.atom(), Ok(node()));
    assert_eq!(reader.port(), Ok(port));
    assert_eq!(reader.integer(), Ok(-5));
    assert_eq!(reader.reference(), Ok(reference));
    let mut list = reader.list().expect("a list");
    assert_eq!((list.len(), list.is_empty()), (2, false));
    let mut texts = Vec::new();
    while reader.more(&mut list).expect("proper") {
        texts.push(reader.binary().expect("a binary"));
    }
    assert_eq!(texts, ["x", "y"]);
    let mut list = reader.list().expect("a list");
    assert_eq!(reader.more(&mut list), Ok(false));
    assert!(!reader.is_empty());
    assert_eq!(reader.remaining(), "payload");
    assert_eq!(reader.finish(), Err(DecodeError::TrailingBytes(7)));
}

#[test]
fn a_list_in_any_form_is_read_element_by_element() {
    for bytes in [
        &[107, 0, 3, 1, 2, 3, 106][..],
        &[108, 0, 0, 0, 3, 97, 1, 97, 2, 97, 3, 106, 106],
        &[108, 0, 0, 0, 1, 97, 1, 107, 0, 2, 2, 3, 106],
        &[108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 0, 108, 0, 0, 0, 2, 97, 2, 97, 3, 106, 106],
    ] {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut atoms = Atoms::new();
        let mut reader = Reader::new(&bytes, &mut atoms);
        let mut list = reader.list().expect("a list");
        assert_eq!(reader.more(&mut list), Ok(true));
        assert_eq!(reader.peek(), Ok(Kind::Integer));
        let not_an_atom = DecodeError::Unexpected { wanted: Kind::Atom, found: Kind::Integer };
        assert_eq!(reader.atom(), Err(not_an_atom));
        assert_eq!(reader.atom_is("x"), Ok(false));
        assert!(reader.tuple().is_err() && reader.list().is_err() && reader.map().is_err());
        assert!(reader.pid().is_err() && reader.port().is_err() && reader.reference().is_err());
        assert!(reader.binary().is_err());
        assert_eq!(reader.integer(), Ok(1));
        assert_eq!(reader.more(&mut list), Ok(true));
        assert_eq!(reader.raw(), Ok(Raw::encode(&Term::Int(2))));
        assert_eq!(reader.more(&mut list), Ok(true));
        assert!(!reader.is_empty());
        assert_eq!(reader.term(), Ok(Term::Int(3)));
        assert_eq!(reader.more(&mut list), Ok(false));
        assert_eq!(reader.more(&mut list), Ok(false));
        assert_eq!(reader.remaining(), [106][..]);
    }
    let every_byte: Vec<u8> = (0..=255).collect();
    let bytes = Bytes::from(cat(&[&[107, 1, 0], &every_byte]));
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(&bytes, &mut atoms);
    let mut list = reader.list().expect("a list");
    for byte in every_byte {
        assert_eq!(reader.more(&mut list), Ok(true));
        assert_eq!(reader.raw().expect("an integer").bytes()[..], [97, byte]);
    }
    assert!(reader.is_empty());
}

#[test]
fn a_reader_within_a_string_is_not_at_the_end() {
    let bytes = Bytes::from_static(&[107, 0, 1, 5]);
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(&bytes, &mut atoms);
    let mut list = reader.list().expect("a list");
    assert_eq!(reader.more(&mut list), Ok(true));
    assert!(!reader.is_empty());
    assert_eq!(reader.finish(), Err(DecodeError::TrailingBytes(1)));
}

#[test]
fn an_improper_list_is_refused_where_a_proper_one_is_expected() {
    let bytes = Bytes::from_static(&[108, 0, 0, 0, 1, 97, 1, 97, 2]);
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(&bytes, &mut atoms);
    let mut list = reader.list().expect("a list");
    assert_eq!(reader.more(&mut list), Ok(true));
    assert_eq!(reader.integer(), Ok(1));
    assert_eq!(reader.more(&mut list), Err(DecodeError::ImproperList));
    assert_eq!(reader.integer(), Ok(2), "the tail can still be read");
}

#[test]
fn big_integers_and_bit_strings_are_refused_by_typed_reads() {
    let big = Term::integer(false, Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 128]));
    let message = Bytes::from([&big.encode()[1..], &bits(&[128], 1).encode()[1..]].concat());
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(&message, &mut atoms);
    assert_eq!(reader.integer(), Err(DecodeError::IntegerRange));
    assert_eq!(reader.term(), Ok(big));
    assert_eq!(reader.binary(), Err(DecodeError::Unexpected { wanted: Kind::Binary, found: Kind::BitString }));
    assert_eq!(reader.term(), Ok(bits(&[128], 1)));
    assert_eq!(reader.peek(), Err(DecodeError::Truncated));
}

#[test]
fn binaries_are_slices_of_the_message() {
    let message = Bytes::from(Term::tuple([Term::binary("x"), Term::binary("a text")]).encode());
    let Term::Tuple(elements) = Term::decode(&message, &mut Atoms::new()).expect("well formed") else {
        panic!("a tuple")
    };
    let Term::Binary(bytes) = &elements[1] else { panic!("a binary") };
    assert_eq!(bytes.as_ptr(), message[message.len() - 6..].as_ptr());
    let mut atoms = Atoms::new();
    let mut reader = Reader::with_version(&message, &mut atoms).expect("the version");
    let raw = reader.raw().expect("well formed");
    assert_eq!(raw.bytes().as_ptr(), message[1..].as_ptr());
    assert_ne!(raw.detached().bytes().as_ptr(), raw.bytes().as_ptr());
}

#[test]
fn a_count_that_the_message_cannot_hold_is_refused_at_once() {
    let counted = |tag: u8, count: u8, left: usize| Bytes::from(cat(&[&[tag, 0, 0, 0, count], &vec![106; left]]));
    let mut atoms = Atoms::new();
    let (short, long) = (counted(116, 3, 5), counted(116, 3, 6));
    assert_eq!(Reader::new(&short, &mut atoms).map(), Err(DecodeError::Truncated));
    assert_eq!(Reader::new(&long, &mut atoms).map(), Ok(3));
    let (short, long) = (counted(105, 3, 2), counted(105, 3, 3));
    assert_eq!(Reader::new(&short, &mut atoms).tuple(), Err(DecodeError::Truncated));
    assert_eq!(Reader::new(&long, &mut atoms).tuple(), Ok(3));
    let (short, long) = (counted(108, 3, 2), counted(108, 3, 3));
    assert_eq!(Reader::new(&short, &mut atoms).list().err(), Some(DecodeError::Truncated));
    assert_eq!(Reader::new(&long, &mut atoms).list().map(|list| list.len()), Ok(3));
}
