//! Checks frames with distribution headers:
//! - Each frame of a connection is a message or ends the connection.
//! - A message is the same in one frame and in fragments of any size.
//!
//! The input is a byte with the fragment size, then the frames of one connection, each after its
//! length in four bytes.
#![no_main]

use beam::dist::control;
use beam::dist::flags;
use beam::dist::framing::{self, Frame};
use beam::dist::header::{HeaderError, Headers};
use beam::etf::Atoms;
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, data)) = data.split_first() else { return };
    let headers = || Headers::new(flags::ours(false)).expect("the flags include headers");
    let (mut whole, mut cut, mut decoded) = (headers(), headers(), Some(headers()));
    let (mut buffer, mut atoms) = (BytesMut::from(data), Atoms::new());
    let mut sequence = u64::MAX;
    while let Ok(Some(frame)) = framing::next(&mut buffer) {
        let Frame::Message(frame) = frame else { continue };
        sequence -= 1;
        // The upper half of the sequence numbers is reserved for the fragments that this target
        // makes.
        if let [131, 69 | 70, 128..=255, ..] = &frame[..] {
            return;
        }
        let taken = whole.take(&frame);
        assert_eq!(in_fragments(&mut cut, &frame, usize::from(*size) + 1, sequence), taken);
        let decoded = control::decode(&frame, decoded.as_mut(), &mut atoms);
        match taken {
            Ok(None) => assert_eq!(decoded, Ok(None)),
            Ok(Some(_)) => {}
            Err(e) => {
                assert!(!e.to_string().is_empty());
                assert!(decoded.is_err());
                return;
            }
        }
    }
});

/// Returns the offset of the terms in a frame with a complete header.
fn terms_at(frame: &[u8]) -> Option<usize> {
    let (131, 68, count) = (*frame.first()?, *frame.get(1)?, usize::from(*frame.get(2)?)) else { return None };
    if count == 0 {
        return Some(3);
    }
    let flag = |at: usize| frame.get(3 + at / 2).map(|byte| if at % 2 == 0 { byte & 15 } else { byte >> 4 });
    let long = flag(count)? & 1 != 0;
    let mut at = 3 + count / 2 + 1;
    for atom in 0..count {
        at += 1;
        if flag(atom)? & 8 != 0 {
            let length = match long {
                false => 1 + usize::from(*frame.get(at)?),
                true => 2 + usize::from(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?])),
            };
            at += length;
        }
    }
    (at <= frame.len()).then_some(at)
}

/// Decodes the same message in fragments of this size. Other frames are decoded unchanged.
fn in_fragments(
    headers: &mut Headers,
    frame: &Bytes,
    size: usize,
    sequence: u64,
) -> Result<Option<Bytes>, HeaderError> {
    let Some(terms) = terms_at(frame) else { return headers.take(frame) };
    let parts: Vec<&[u8]> = frame[terms..].chunks(size).collect();
    let mut left = parts.len().max(1) as u64;
    let mut of = |kind, header: &[u8], part: &[u8]| {
        let fragment = [&[131, kind], &sequence.to_be_bytes()[..], &left.to_be_bytes(), header, part].concat();
        left -= 1;
        headers.take(&fragment.into())
    };
    let mut last = of(69, &frame[2..terms], parts.first().unwrap_or(&&[][..]));
    for part in parts.iter().skip(1) {
        if last.is_err() {
            return last;
        }
        assert_eq!(last, Ok(None));
        last = of(70, &[], part);
    }
    last
}
