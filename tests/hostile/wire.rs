//! Frames and terms, encoded by hand, so that they can be invalid.

#![allow(dead_code, reason = "each test file is a separate crate and uses only a part of this module")]

pub type Term = Vec<u8>;

pub fn atom(text: impl AsRef<[u8]>) -> Term {
    let text = text.as_ref();
    match u8::try_from(text.len()) {
        Ok(length) => [&[119, length], text].concat(),
        Err(_) => [&[118], &u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat(),
    }
}

pub fn int(value: i32) -> Term {
    [&[98], &value.to_be_bytes()[..]].concat()
}

pub fn tuple(elements: &[Term]) -> Term {
    [vec![104, u8::try_from(elements.len()).unwrap()], elements.concat()].concat()
}

/// Encodes a list with this length, which may be wrong, these elements, and this tail.
pub fn list(count: u32, elements: &[Term], tail: Term) -> Term {
    [[&[108], &count.to_be_bytes()[..]].concat(), elements.concat(), tail].concat()
}

pub fn nil() -> Term {
    vec![106]
}

pub fn pid(node: &str, id: u32, creation: u32) -> Term {
    [vec![88], atom(node), words(&[id, 0, creation])].concat()
}

pub fn reference(node: &str, ids: &[u32], creation: u32) -> Term {
    let count = u16::try_from(ids.len()).unwrap().to_be_bytes();
    [vec![90], count.to_vec(), atom(node), words(&[creation]), words(ids)].concat()
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Encodes `depth` nested lists.
pub fn nested(depth: usize) -> Term {
    [[108, 0, 0, 0, 1].repeat(depth), vec![106; depth + 1]].concat()
}

/// Encodes a frame of an established connection, with its length.
pub fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// Encodes a pass-through frame with a control message and no payload.
pub fn alone(control: &[Term]) -> Vec<u8> {
    frame(&[vec![112, 131], tuple(control)].concat())
}

/// Encodes a pass-through frame with a control message and a payload. The payload starts with a
/// version byte.
pub fn with(control: &[Term], payload: Term) -> Vec<u8> {
    frame(&[vec![112, 131], tuple(control), vec![131], payload].concat())
}

/// Encodes a frame with a distribution header without atoms, a control message, and a payload.
pub fn plain_header(control: &[Term], payload: Term) -> Vec<u8> {
    frame(&[vec![131, 68, 0], tuple(control), payload].concat())
}
