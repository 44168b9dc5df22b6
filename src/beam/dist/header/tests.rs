//! Tests of headers and fragments from a real node and from the tests' own encoder, and of frames
//! that violate the protocol or the limits.

mod encoder;
mod properties;

use encoder::{Message, Sender};

use super::*;
use crate::etf::{Atom, Pid, Raw, Term};

fn plain(terms: &[Term]) -> Vec<u8> {
    terms.iter().flat_map(|term| Raw::encode(term).bytes().to_vec()).collect()
}

fn agreed() -> Headers {
    Headers::new(flags::ours(false)).expect("headers")
}

#[test]
fn without_atoms_nothing_is_copied() {
    let frame = Bytes::from_static(&[131, 68, 0, 104, 1, 97, 5]);
    let terms = agreed().take(&frame).unwrap().unwrap();
    assert_eq!(terms.as_ptr(), frame[3..].as_ptr());
    assert_eq!(terms, frame[3..]);
}

// ---- What a real node sends -----------------------------------------------------------------------

/// Frames of an OTP 25 node, in order: three messages to `name`, and one in fragments (its binary
/// shortened from 70,000 bytes to 6). A frame refers to atoms that earlier frames added to the
/// cache.
const GOLDEN: [&str; 5] = [
    "8344048ff900230e7265616c406c6f63616c686f73740500a7046e616d65790568656c6c6f\
     6804610658520000000055000000006b072e4e520152025203",
    "83440b07719a88880a2305a7791b05776f726c64de026f6b0c056572726f720e09756e646566696e6564010474727565000566616c7365\
     1c0361206268046106585200000000\
     56000000006b072e4e520152026803520352046c00000007520552065207520152085209520a6a",
    "83440507710a2305a7791a0e66616b65406c6f63616c686f7374\
     6804610658520000000057000000006b072e4e520152026803520358520400000003000000000000004d6105",
    "8345000003280000065300000000000000020507810923\
     05a7290362696e22047461696c68046106585200000000650000\
     00006b072e4e5201520268035203\
     6d00000006070707",
    "834600000328000006530000000000000001\
     0707075204",
];

#[test]
fn headers_and_fragments_of_a_real_node_are_decoded() {
    let mut headers = agreed();
    let mut terms = GOLDEN.map(|hex| {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        headers.take(&(0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>().into()).unwrap()
    });
    assert_eq!(terms[3].take(), None, "the last fragment completes it");
    let real = Atom::literal("real@localhost");
    let atoms = ["ok", "error", "undefined", "", "true", "false", "a b"].map(Term::atom).to_vec();
    let fake = Term::Pid(Pid { node: Atom::literal("fake@localhost"), id: 3, serial: 0, creation: 77 });
    let messages = [
        (0x55, Term::atom("hello")),
        (0x56, Term::tuple([Term::atom("hello"), Term::atom("world"), Term::List(atoms)])),
        (0x57, Term::tuple([Term::atom("hello"), fake, Term::Int(5)])),
        (0x65, Term::tuple([Term::atom("bin"), Term::binary(vec![7; 6]), Term::atom("tail")])),
    ];
    for ((id, message), terms) in messages.into_iter().zip(terms.into_iter().flatten()) {
        let from = Term::Pid(Pid { node: real.clone(), id, serial: 0, creation: 0x6b07_2e4e });
        let control = Term::tuple([Term::Int(6), from, Term::atom(""), Term::atom("name")]);
        assert_eq!(terms, plain(&[control, message]));
    }
}

// ---- Violations of the protocol ---------------------------------------------------------------

/// Returns the first two of three fragments, and a whole message.
fn three() -> (Vec<Bytes>, Bytes) {
    let message = Sender::new().message(&[Term::tuple([Term::atom("a"), Term::binary(vec![7; 30])])]);
    (message.fragments(5, &[10, 20]), message.whole())
}

#[test]
fn frames_without_header_are_refused() {
    for frame in [&[][..], &[112], &[131], &[112, 131, 104, 1, 97, 5], &[131, 104], &[131, 80, 0], &[131, 71]] {
        let refused = agreed().take(&Bytes::copy_from_slice(frame));
        assert!(matches!(refused, Err(HeaderError::NoHeader(_))), "{frame:?}: {refused:?}");
    }
}

#[test]
fn headers_that_end_early_are_refused() {
    let message = Sender::new().message(&[Term::atom("abc"), Term::atom("x".repeat(255).leak())]);
    let (whole, first) = (message.whole(), message.fragments(1, &[1]).remove(0));
    for (frame, header) in [(whole, 2 + message.header.len()), (first, 18 + message.header.len())] {
        for cut in 2..header {
            assert_eq!(agreed().take(&frame.slice(..cut)), Err(HeaderError::Truncated), "{frame:?} cut at {cut}");
        }
        assert!(agreed().take(&frame.slice(..header)).is_ok());
    }
    assert_eq!(agreed().take(&Bytes::from_static(&[131, 70, 0, 0, 0])), Err(HeaderError::Truncated));
}

#[test]
fn a_reference_to_an_empty_cache_entry_is_refused() {
    let (mut headers, new) = (agreed(), Bytes::from_static(&[131, 68, 1, 8 + 3, 7, 1, b'a', 82, 0]));
    assert_eq!(
        headers.take(&Bytes::from_static(&[131, 68, 1, 3, 7, 82, 0])),
        Err(HeaderError::EmptyEntry(3 * 256 + 7))
    );
    assert_eq!(headers.take(&new), Ok(Some(Bytes::from_static(&[119, 1, b'a']))));
    assert_eq!(
        headers.take(&Bytes::from_static(&[131, 68, 1, 3, 7, 82, 0])),
        Ok(Some(Bytes::from_static(&[119, 1, b'a'])))
    );
    assert_eq!(
        headers.take(&Bytes::from_static(&[131, 68, 1, 4, 7, 82, 0])),
        Err(HeaderError::EmptyEntry(4 * 256 + 7))
    );
    // Each connection has a separate cache.
    assert!(agreed().take(&Bytes::from_static(&[131, 68, 1, 3, 7, 82, 0])).is_err());
}

#[test]
fn only_atoms_fill_the_cache() {
    let no_utf8 = [131, 68, 1, 8, 0, 2, 0xC3, 0x28];
    assert_eq!(agreed().take(&Bytes::copy_from_slice(&no_utf8)), Err(HeaderError::NoAtom(DecodeError::AtomUtf8)));
    let long = [&[131, 68, 1, 0x18, 0, 1, 0][..], &[b'x'; 256]].concat();
    assert_eq!(agreed().take(&long.into()), Err(HeaderError::NoAtom(DecodeError::AtomTooLong)));
}

#[test]
fn a_reference_beyond_the_header_is_refused() {
    let (mut headers, refused) = (agreed(), Err(HeaderError::NoSuchAtom(1)));
    assert_eq!(headers.take(&Bytes::from_static(&[131, 68, 1, 8, 0, 1, b'a', 104, 1, 82, 1])), refused);
    // If the header lists no atoms, the reader refuses the reference.
    assert_eq!(agreed().take(&Bytes::from_static(&[131, 68, 0, 82, 0])), Ok(Some(Bytes::from_static(&[82, 0]))));
}

#[test]
fn fragments_must_arrive_in_order() {
    let (fragments, _) = three();
    let number = |fragment: &Bytes, number: u64| {
        let mut fragment = fragment.to_vec();
        fragment[10..18].copy_from_slice(&number.to_be_bytes());
        Bytes::from(fragment)
    };
    let refused = |frames: &[&Bytes]| {
        let mut headers = agreed();
        let (last, before) = frames.split_last().unwrap();
        before.iter().for_each(|frame| assert_eq!(headers.take(frame), Ok(None)));
        headers.take(last).unwrap_err()
    };
    let out_of_order = |fragment, expected| HeaderError::OutOfOrder { sequence: 5, fragment, expected };
    let [first, second, third] = &fragments[..] else { panic!("three") };
    assert_eq!(refused(&[second]), HeaderError::NotBegun { sequence: 5, fragment: 2 });
    assert_eq!(refused(&[first, first]), HeaderError::BegunAgain(5));
    assert_eq!(refused(&[first, third]), out_of_order(1, 2));
    assert_eq!(refused(&[first, second, second]), out_of_order(2, 1));
    assert_eq!(refused(&[first, second, &number(third, 0)]), out_of_order(0, 1));
    assert_eq!(refused(&[first, &number(second, u64::MAX)]), out_of_order(u64::MAX, 2));
    assert_eq!(refused(&[&number(first, 0)]), out_of_order(0, 1));
    // A sequence number can be used again after the end of a sequence, but the ended sequence
    // cannot continue.
    let mut headers = agreed();
    for _ in 0..2 {
        assert_eq!(headers.take(first), Ok(None));
        assert_eq!(headers.take(second), Ok(None));
        assert!(matches!(headers.take(third), Ok(Some(_))));
    }
    assert_eq!(headers.take(third), Err(HeaderError::NotBegun { sequence: 5, fragment: 1 }));
    // The first fragment may also be the last.
    assert_eq!(agreed().take(&number(first, 1)).unwrap().unwrap()[..], [104, 2, 119, 1, b'a', 109, 0, 0, 0, 30, 7]);
}

#[test]
fn fragments_that_were_not_agreed_are_refused() {
    let mut headers = Headers::new(Flags::DIST_HDR_ATOM_CACHE).unwrap();
    let (fragments, whole) = three();
    for fragment in fragments {
        assert_eq!(headers.take(&fragment), Err(HeaderError::NotAgreed));
    }
    assert!(matches!(headers.take(&whole), Ok(Some(_))));
    assert!(Headers::new(Flags::FRAGMENTS).is_none(), "without headers there are no fragments");
}

// ---- Bounds ---------------------------------------------------------------------------------------

/// Returns a header with one atom of 1,020 bytes, and a list of this many references to it.
fn bomb(references: usize) -> Message {
    let atom = Term::Atom(Atom::new(&"\u{1F980}".repeat(255)).unwrap());
    let Message { header, .. } = Sender::new().message(std::slice::from_ref(&atom));
    let count = u32::try_from(references).unwrap().to_be_bytes();
    Message { header, terms: [&[108], &count[..], &[82, 0].repeat(references), &[106]].concat() }
}

const REFERENCE: usize = 1_023;

#[test]
fn a_message_is_bounded() {
    // 128 KiB would expand to more than 64 MiB.
    let fits = (limits::FRAME - 6) / REFERENCE;
    let terms = agreed().take(&bomb(fits).whole()).unwrap().unwrap();
    assert!(terms.len() > limits::FRAME - REFERENCE && terms.len() > EXPANDED);
    assert_eq!(agreed().take(&bomb(fits + 1).whole()), Err(HeaderError::TooLong));
    let take_all = |message: Message| {
        let mut headers = agreed();
        let half = message.terms.len() / 2;
        message.fragments(1, &[half]).iter().map(|fragment| headers.take(fragment)).last().unwrap()
    };
    assert!(take_all(bomb(fits)).is_ok());
    assert_eq!(take_all(bomb(fits + 1)), Err(HeaderError::TooLong));
    // The same limit holds for fragments, each of which is small enough.
    let (mut headers, part) = (agreed(), vec![7; limits::FRAME / 4 + 1]);
    let numbers = |number: u64| [1_u64.to_be_bytes(), number.to_be_bytes()].concat();
    let fragment =
        |kind, number, header: &[u8]| Bytes::from([&[131, kind], &numbers(number)[..], header, &part].concat());
    assert_eq!(headers.take(&fragment(69, 4, &[0])), Ok(None));
    assert_eq!(headers.take(&fragment(70, 3, &[])), Ok(None));
    assert_eq!(headers.take(&fragment(70, 2, &[])), Ok(None));
    assert_eq!(headers.take(&fragment(70, 1, &[])), Err(HeaderError::TooLong));
}

#[test]
fn the_cache_and_messages_in_fragments_are_counted() {
    let mut headers = agreed();
    assert_eq!(headers.held(), 0);
    let [one, two] = [1, 2].map(|sequence| bomb(2).fragments(sequence, &[1]));
    assert_eq!(headers.take(&one[0]), Ok(None));
    let begun = headers.held();
    assert!(
        begun > CACHE * size_of::<CachedAtom>() + 2 * REFERENCE,
        "the cache and the message have the atom: {begun}"
    );
    // The atom fills the same entry.
    assert_eq!(headers.take(&two[0]), Ok(None));
    let message = headers.held() - begun;
    assert!(message > REFERENCE && message < begun, "{message}");
    for last in [&one[1], &two[1]] {
        assert!(matches!(headers.take(last), Ok(Some(_))));
    }
    assert_eq!(headers.held(), begun - message, "the cache stays");
}

#[test]
fn unfinished_messages_in_fragments_that_wait_longest_are_dropped() {
    let numbers = |sequence: usize, number: u64| [(sequence as u64).to_be_bytes(), number.to_be_bytes()].concat();
    let first = |sequence: usize, header: &[u8], part: &[u8]| {
        Bytes::from([&[131, 69], &numbers(sequence, 3)[..], header, part].concat())
    };
    let next = |sequence, number| Bytes::from([&[131, 70], &numbers(sequence, number)[..]].concat());
    let given_up = |sequence: usize, fragment| Err(HeaderError::NotBegun { sequence: sequence as u64, fragment });
    // This many may be unfinished. Sequence 0 began first, and has continued since.
    let mut headers = agreed();
    for sequence in 0..limits::FRAGMENTED {
        assert_eq!(headers.take(&first(sequence, &[0], &[])), Ok(None));
    }
    assert_eq!(headers.take(&next(0, 2)), Ok(None));
    assert_eq!(headers.take(&first(limits::FRAGMENTED, &[0], &[])), Ok(None));
    assert!(matches!(headers.take(&next(0, 1)), Ok(Some(_))));
    assert_eq!(headers.take(&next(2, 2)), Ok(None));
    assert_eq!(headers.take(&next(1, 2)), given_up(1, 2));
    // This many bytes may be unfinished.
    let (mut headers, part) = (agreed(), vec![7; limits::FRAME]);
    for sequence in 0..3 {
        assert_eq!(headers.take(&first(sequence, &[0], &part)), Ok(None));
    }
    assert_eq!(headers.take(&next(0, 2)), Ok(None), "exactly the limit");
    assert_eq!(headers.take(&first(3, &[0], &[7])), Ok(None));
    for sequence in [0, 2, 3] {
        assert!(headers.take(&next(sequence, if sequence == 0 { 1 } else { 2 })).is_ok());
    }
    assert_eq!(headers.take(&next(1, 2)), given_up(1, 2));
    // The atoms of a message count, because only the message may keep them in memory.
    let mut headers = agreed();
    for sequence in 0..3 {
        assert_eq!(headers.take(&first(sequence, &[0], &part)), Ok(None));
    }
    assert_eq!(headers.take(&first(3, &bomb(0).header, &[])), Ok(None));
    assert_eq!(headers.take(&next(0, 2)), given_up(0, 2));
    // A complete message no longer counts.
    let mut headers = agreed();
    for sequence in 0..4 {
        assert_eq!(headers.take(&first(sequence, &bomb(0).header, &part)), Ok(None), "{sequence}");
        assert_eq!(headers.take(&next(sequence, 2)), Ok(None));
        assert!(matches!(headers.take(&next(sequence, 1)), Ok(Some(_))));
    }
}
