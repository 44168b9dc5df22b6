//! Crosses each limit on terms.

use super::*;

#[test]
fn atoms_have_at_most_255_characters() {
    for (character, tag) in [("a", 118), ("\u{1f600}", 118), ("a", 100)] {
        let longest = character.repeat(limits::ATOM_CHARACTERS);
        let encoded =
            |text: &str| cat(&[&[tag], &u16::try_from(text.len()).expect("short").to_be_bytes(), text.as_bytes()]);
        assert_eq!(decode(encoded(&longest)), Ok(atom(&longest)));
        let longer = longest + character;
        assert_eq!(decode(encoded(&longer)), Err(DecodeError::AtomTooLong));
        assert_eq!(Atom::new(&longer), Err(AtomTooLong));
    }
}

#[test]
#[should_panic(expected = "too long")]
fn an_atom_literal_that_is_too_long_panics() {
    let _ = Atom::literal(concat!(
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    ));
}
#[test]
fn a_full_table_still_decodes() {
    let mut atoms = Atoms::new();
    let mut read = |text: &str| {
        let raw = Raw::encode(&atom(text));
        let one = raw.term(&mut atoms).expect("well formed");
        let two = raw.term(&mut atoms).expect("well formed");
        assert_eq!(one, atom(text));
        assert_eq!(one, two);
        one.as_atom().expect("an atom").as_str().as_ptr() == two.as_atom().expect("an atom").as_str().as_ptr()
    };
    for n in 0..limits::ATOMS {
        assert!(read(&n.to_string()), "{n} is interned");
    }
    assert!(!read("one too many"));
    assert!(read("0"), "interned atoms stay in the table");
}

#[test]
fn references_have_one_to_five_words() {
    let words: Vec<u8> = (1..=6_u32).flat_map(u32::to_be_bytes).collect();
    let newer =
        |len: u16| decode(cat(&[&[90], &len.to_be_bytes(), NODE, &[0, 0, 0, 7], &words[..4 * usize::from(len)]]));
    let new = |len: u16| decode(cat(&[&[114], &len.to_be_bytes(), NODE, &[3], &words[..4 * usize::from(len)]]));
    for len in 1..=5 {
        let ids: Vec<u32> = (1..=u32::from(len)).collect();
        assert_eq!(newer(len), Ok(reference(&ids, 7)));
        assert_eq!(new(len), Ok(reference(&ids, 3)));
    }
    for len in [0, 6] {
        assert_eq!(newer(len), Err(DecodeError::ReferenceWords(len)));
        assert_eq!(new(len), Err(DecodeError::ReferenceWords(len)));
    }
    assert_eq!(decode(cat(&[&[90, 255, 255], NODE, &[0; 4]])), Err(DecodeError::ReferenceWords(65535)));
    assert_eq!(decode(cat(&[&[101], NODE, &[0, 0, 0, 9, 2]])), Ok(reference(&[9], 2)));
    assert_eq!(decode(cat(&[&[101], NODE, &[0, 0, 0, 9, 5]])), Err(DecodeError::Creation(5)));
    assert_eq!(decode(cat(&[&[114, 0, 1], NODE, &[5, 0, 0, 0, 9]])), Err(DecodeError::Creation(5)));
    assert!(ReferenceIds::new(&[]).is_none());
    assert!(ReferenceIds::new(&[0; 6]).is_none());
}

#[test]
fn counts_are_checked_against_the_bytes_left() {
    for bytes in [
        &[108, 255, 255, 255, 255][..],
        &[105, 255, 255, 255, 255, 106],
        &[116, 255, 255, 255, 255, 106],
        &[116, 0, 0, 0, 2, 97, 1, 97],
        &[109, 255, 255, 255, 255, 1],
        &[77, 255, 255, 255, 255, 8],
        &[111, 255, 255, 255, 255, 0],
        &[107, 255, 255, 1],
        &[118, 255, 255, 1],
        &[104, 3, 106, 106],
        &[108, 0, 0, 0, 1, 106],
    ] {
        assert_eq!(decode(bytes), Err(DecodeError::Truncated), "{bytes:?}");
    }
    let mut free_variables = Term::Fun(Box::new(fun(vec![]))).encode();
    free_variables[27..31].fill(255);
    assert_eq!(decode(&free_variables[1..]), Err(DecodeError::Truncated));
}

/// Returns terms of each kind around `[]`, nested `levels` deep.
fn nested(levels: usize) -> [Vec<u8>; 5] {
    let around = |before: &[u8], after: &[u8]| cat(&[&before.repeat(levels), &[106], &after.repeat(levels)]);
    [
        around(&[108, 0, 0, 0, 1], &[106]),
        around(&[104, 1], &[]),
        around(&[116, 0, 0, 0, 1, 97, 1], &[]),
        around(&[116, 0, 0, 0, 1], &[106]),
        around(&[108, 0, 0, 0, 1, 97, 1], &[]),
    ]
}

#[test]
fn nesting_is_bounded() {
    for bytes in nested(limits::TERM_DEPTH) {
        assert!(decode(bytes).is_ok());
    }
    for bytes in nested(limits::TERM_DEPTH + 1) {
        assert_eq!(decode(bytes), Err(DecodeError::TooDeep));
    }
    for bytes in nested(1 << 20) {
        assert_eq!(decode(bytes), Err(DecodeError::TooDeep));
    }
    let mut funs = Term::Int(0);
    for _ in 0..=limits::TERM_DEPTH {
        funs = Term::Fun(Box::new(fun(vec![funs])));
    }
    assert_eq!(decode(&funs.encode()[1..]), Err(DecodeError::TooDeep));
    let Term::Fun(inner) = funs else { panic!("a fun") };
    assert_eq!(decode(&inner.free[0].encode()[1..]).as_ref(), Ok(&inner.free[0]));
}

/// A worker thread has a stack of 2 MiB, which it shares with other code. A release build takes
/// less than half as much as a debug build.
#[test]
fn the_deepest_term_fits_the_stack_of_a_worker() {
    let mut funs = Term::Int(0);
    for _ in 0..limits::TERM_DEPTH {
        funs = Term::Fun(Box::new(fun(vec![funs])));
    }
    let funs = funs.encode().split_off(1);
    let work = move || {
        for bytes in nested(limits::TERM_DEPTH).into_iter().chain([funs]) {
            let term = decode(bytes).expect("not too deep");
            assert_eq!(decode(&term.encode()[1..]).as_ref(), Ok(&term));
            assert_eq!(HashSet::from([term.clone(), term]).len(), 1);
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work).expect("a thread");
    thread.join().expect("no panic");
}

#[test]
fn the_number_of_elements_is_bounded() {
    let list = |len: usize| {
        let len32 = u32::try_from(len).expect("fits").to_be_bytes();
        cat(&[&[108], &len32, &vec![106; len + 1]])
    };
    assert!(decode(list(limits::TERM_NODES)).is_ok());
    assert_eq!(decode(list(limits::TERM_NODES + 1)), Err(DecodeError::TooManyNodes));
    let string = cat(&[&[107, 255, 255], &[1; 65535]]);
    let strings = |count: u8| cat(&[&[104, count], &string.repeat(usize::from(count))]);
    assert!(decode(strings(15)).is_ok());
    assert_eq!(decode(strings(16)), Ok(Term::Tuple(vec![Term::List(vec![Term::Int(1); 65535]); 16])));
    assert_eq!(decode(strings(17)), Err(DecodeError::TooManyNodes));
    let pairs = u32::try_from(limits::TERM_NODES / 2 + 1).expect("fits").to_be_bytes();
    let map = cat(&[&[116], &pairs, &vec![106; limits::TERM_NODES + 2]]);
    assert_eq!(decode(map), Err(DecodeError::TooManyNodes));

    let improper = |len: usize| {
        let len32 = u32::try_from(len).expect("fits").to_be_bytes();
        cat(&[&[108], &len32, &[108, 0, 0, 0, 1, 106, 97, 5].repeat(len), &[106]])
    };
    assert!(decode(improper(limits::TERM_NODES / 3)).is_ok());
    let one_more = decode(improper(limits::TERM_NODES / 3 + 1));
    assert_eq!(one_more, Err(DecodeError::TooManyNodes), "a tail is an element");

    let funs = |len: usize| {
        let len32 = u32::try_from(len).expect("fits").to_be_bytes();
        let fun = Term::Fun(Box::new(fun(vec![]))).encode().split_off(1);
        cat(&[&[105], &len32, &fun.repeat(len)])
    };
    assert!(decode(funs(limits::TERM_NODES / 4)).is_ok());
    let one_more = decode(funs(limits::TERM_NODES / 4 + 1));
    assert_eq!(one_more, Err(DecodeError::TooManyNodes), "a fun is large");

    // Repeated reads of one reader share the limit. Raw terms build nothing and are free.
    let half = Bytes::from(list(limits::TERM_NODES / 2 + 1).repeat(2));
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(&half, &mut atoms);
    assert!(reader.term().is_ok());
    assert_eq!(reader.term(), Err(DecodeError::TooManyNodes));
    assert!(reader.raw().is_ok());
    assert!(reader.finish().is_ok());
}

#[test]
fn a_term_has_the_size_that_its_limit_assumes() {
    assert_eq!(size_of::<Term>(), 56, "the documentation of limits::TERM_NODES uses this size");
}
