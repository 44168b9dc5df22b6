//! Invalid distribution headers and fragments, over connections that negotiated both.

use beam::limits::FRAGMENTED;

use super::wire::{Term, atom, frame, int, list, nil, plain_header, tuple, with};
use super::{Expect, Hostile, Row, row};
use Expect::{Answered, Closed, HungUp, Ignored};

const ENDS_EARLY: Expect = Closed("ends within its distribution header");
const NOT_BEGUN: Expect = Closed("which has not begun, or was dropped");
const NOT_FILLED: Expect = Closed("the empty entry");

pub fn rows() -> Vec<Row> {
    [frames(), caches(), references(), fragments(), bounds()].into_iter().flatten().collect()
}

/// Returns a call to `net_kernel` that the node answers with an error.
fn call(h: &Hostile) -> (Vec<Term>, Term) {
    let request = tuple(&[atom("$gen_call"), tuple(&[h.pid(), h.reference(5)]), atom("nonsense")]);
    (vec![int(6), h.pid(), atom(""), atom("net_kernel")], request)
}

/// Returns the control message and the payload as consecutive terms.
fn terms(h: &Hostile) -> Vec<u8> {
    let (control, payload) = call(h);
    [tuple(&control), payload].concat()
}

fn first(sequence: u64, fragment: u64, header: &[u8], part: &[u8]) -> Vec<u8> {
    frame(&[&[131, 69], &sequence.to_be_bytes()[..], &fragment.to_be_bytes(), header, part].concat())
}

fn next(sequence: u64, fragment: u64, part: &[u8]) -> Vec<u8> {
    frame(&[&[131, 70], &sequence.to_be_bytes()[..], &fragment.to_be_bytes(), part].concat())
}

fn frames() -> Vec<Row> {
    let none = Closed("instead of a distribution header");
    let body = |body: &'static [u8]| move |_: &Hostile| frame(body);
    vec![
        row("a pass-through frame", none, |h| with(&call(h).0, call(h).1)),
        row("a term without header", none, |h| frame(&[vec![131], terms(h)].concat())),
        row("a compressed frame", none, body(&[131, 80, 0xFF, 0xFF, 0xFF, 0xFF, 0x78, 0x9C])),
        row("a frame of one byte", none, body(&[131])),
        row("a header of an unknown kind", none, body(&[131, 71, 0])),
        row("a header without its number of atoms", ENDS_EARLY, body(&[131, 68])),
        row("a header and no terms", Closed("malformed control message"), body(&[131, 68, 0])),
        row("terms with versions", Closed("malformed control message"), |h| {
            frame(&[vec![131, 68, 0, 131], terms(h)].concat())
        }),
        row("a payload with a version", Closed("message that is not a valid term"), |h| {
            plain_header(&call(h).0, [vec![131], call(h).1].concat())
        }),
        row("a valid message", Answered(22, "error"), |h| plain_header(&call(h).0, call(h).1)),
        row("half a header", HungUp, |_| vec![0, 0, 0, 9, 131, 68]),
        row("ten thousand ticks", Ignored, |_| vec![0; 40_000]),
    ]
}

fn caches() -> Vec<Row> {
    let body = |body: &'static [u8]| move |_: &Hostile| frame(body);
    vec![
        row("a count of 255 atoms without atoms", ENDS_EARLY, body(&[131, 68, 255])),
        row("255 atoms with only their flags", ENDS_EARLY, |_| frame(&[&[131, 68, 255][..], &[0x88; 128]].concat())),
        row("an atom that ends early", ENDS_EARLY, body(&[131, 68, 1, 8, 0, 9, b'a'])),
        row("an atom of 65,535 bytes that are missing", ENDS_EARLY, body(&[131, 68, 1, 0x18, 0, 0xFF, 0xFF, b'a'])),
        row("an atom that is not UTF-8", Closed("not UTF-8"), body(&[131, 68, 1, 8, 0, 2, 0xC3, 0x28])),
        row("an atom of 256 characters", Closed("more than 255 characters"), |_| {
            frame(&[&[131, 68, 1, 0x18, 0, 1, 0][..], &[b'a'; 256]].concat())
        }),
        row("an entry that was never filled", NOT_FILLED, body(&[131, 68, 1, 0, 7, 82, 0])),
        row("the last entry, never filled", NOT_FILLED, body(&[131, 68, 1, 7, 255, 82, 0])),
        row("an entry of another segment", NOT_FILLED, |h| {
            let fill = [&[131, 68, 1, 8, 7, 1, b'a'][..], &terms(h)].concat();
            [frame(&fill), frame(&[131, 68, 1, 1, 7, 82, 0])].concat()
        }),
        row("all 2,048 entries filled, over and over", Ignored, |h| {
            let nobody = [tuple(&[int(6), h.pid(), atom(""), atom("nobody")]), nil()].concat();
            let fill = |entry: u16| {
                let [segment, entry] = entry.to_be_bytes();
                frame(&[&[131, 68, 1, 8 | segment, entry, 2, b'a', b'b'][..], &nobody].concat())
            };
            (0..3).flat_map(|_| 0..2048).flat_map(fill).collect()
        }),
    ]
}

/// Encodes `{6, Pid, '', net_kernel}`, whose atoms are references to these atoms of the header.
fn referring(h: &Hostile, nothing: u8, name: u8) -> Vec<u8> {
    [vec![104, 4], int(6), h.pid(), vec![82, nothing, 82, name]].concat()
}

fn references() -> Vec<Row> {
    // The atoms '' and `net_kernel`.
    let header = || [&[2, 0x88, 0, 0, 0, 1, 10][..], b"net_kernel"].concat();
    let message = move |terms: Vec<u8>| frame(&[vec![131, 68], header(), terms].concat());
    let beyond = Closed("of its header, which lists fewer");
    vec![
        row("valid references", Answered(22, "error"), move |h| message([referring(h, 0, 1), call(h).1].concat())),
        row("a reference beyond the header", beyond, move |h| message([referring(h, 0, 2), call(h).1].concat())),
        row("a reference beyond the header in a payload", beyond, move |h| {
            message([referring(h, 0, 1), tuple(&[vec![82, 255]])].concat())
        }),
        row("a reference without its number", Closed("message that is not a valid term"), move |h| {
            message([referring(h, 0, 1), vec![82]].concat())
        }),
        row("a reference and no atoms", Closed("malformed control message"), |h| {
            frame(&[vec![131, 68, 0], referring(h, 0, 1), nil()].concat())
        }),
        row("a pid whose node is a tuple", Closed("message that is not a valid term"), move |h| {
            message([referring(h, 0, 1), vec![88, 104, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]].concat())
        }),
        row("a list that is shorter than its length", Closed("message that is not a valid term"), move |h| {
            message([referring(h, 0, 1), list(u32::MAX, &[vec![82, 0]], nil())].concat())
        }),
        row("a binary of 4 GiB", Closed("message that is not a valid term"), move |h| {
            message([referring(h, 0, 1), vec![109, 0xFF, 0xFF, 0xFF, 0xFF, 1]].concat())
        }),
        row("a fun with a wrong size", Closed("message that is not a valid term"), move |h| {
            message([referring(h, 0, 1), vec![112, 0, 0, 0, 5], vec![0; 40]].concat())
        }),
        row("two messages after one header", Closed("message that is not a valid term"), move |h| {
            message([referring(h, 0, 1), call(h).1, call(h).1].concat())
        }),
        row("100,000 nested tuples", Ignored, move |h| {
            message([referring(h, 0, 1), [104, 1].repeat(100_000), vec![82, 0]].concat())
        }),
    ]
}

fn fragments() -> Vec<Row> {
    let not_begun = NOT_BEGUN;
    let out_of_order = Closed("expected fragment");
    let cut = |h: &Hostile| {
        let terms = terms(h);
        let (a, bc) = terms.split_at(20);
        let (b, c) = bc.split_at(30);
        [a.to_vec(), b.to_vec(), c.to_vec()]
    };
    let answered = Answered(22, "error");
    vec![
        row("three fragments", answered, move |h| {
            let [a, b, c] = cut(h);
            [first(9, 3, &[0], &a), next(9, 2, &b), next(9, 1, &c)].concat()
        }),
        row("one fragment", answered, |h| first(9, 1, &[0], &terms(h))),
        row("fragments of no bytes", answered, |h| {
            [first(9, 4, &[0], &[]), next(9, 3, &terms(h)), next(9, 2, &[]), next(9, 1, &[])].concat()
        }),
        row("fragments with a message between them", Answered(22, "error"), move |h| {
            let [a, b, c] = cut(h);
            let nobody = plain_header(&[int(6), h.pid(), atom(""), atom("nobody")], nil());
            [first(9, 3, &[0], &a), nobody, next(9, 2, &b), next(9, 1, &c)].concat()
        }),
        row("a continuation without a first fragment", not_begun, |_| next(9, 2, &[97, 1])),
        row("a last fragment alone", not_begun, |_| next(0, 1, &[])),
        row("a continuation of another sequence", not_begun, move |h| {
            [first(9, 2, &[0], &cut(h)[0]), next(8, 1, &[])].concat()
        }),
        row("a continuation after the end", not_begun, |h| {
            [first(9, 1, &[0], &[tuple(&[int(6), h.pid(), atom(""), atom("nobody")]), nil()].concat()), next(9, 1, &[])]
                .concat()
        }),
        row("a first fragment twice", Closed("again before it was complete"), move |h| {
            [first(9, 2, &[0], &cut(h)[0]), first(9, 2, &[0], &cut(h)[0])].concat()
        }),
        row("a fragment left out", out_of_order, move |h| {
            [first(9, 3, &[0], &cut(h)[0]), next(9, 1, &cut(h)[2])].concat()
        }),
        row("a fragment twice", out_of_order, move |h| {
            [first(9, 3, &[0], &cut(h)[0]), next(9, 2, &[]), next(9, 2, &[])].concat()
        }),
        row("fragments that count up", out_of_order, |_| {
            [first(9, 1 << 40, &[0], &[]), next(9, (1 << 40) + 1, &[])].concat()
        }),
        row("a first fragment with number 0", out_of_order, |_| first(9, 0, &[0], &[97, 1])),
        row("a first fragment without header", ENDS_EARLY, |_| {
            frame(&[131, 69, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2])
        }),
        row("half a sequence number", ENDS_EARLY, |_| frame(&[131, 70, 0, 0, 0])),
        row("a first fragment with missing atoms", ENDS_EARLY, |_| first(9, 2, &[200, 0x88], &[])),
        row("a first fragment that refers to an empty entry", NOT_FILLED, |_| first(9, 2, &[1, 0, 7], &[])),
        row("a continuation that refers beyond the header", Closed("of its header, which lists fewer"), |h| {
            let to = tuple(&[int(6), h.pid(), atom(""), atom("net_kernel")]);
            [first(9, 2, &[1, 8, 7, 1, b'a'], &to), next(9, 1, &[82, 1])].concat()
        }),
        row("18 quintillion fragments", Ignored, |_| {
            let mut bytes = first(9, u64::MAX, &[0], &[]);
            (1..1000).for_each(|n| bytes.extend(next(9, u64::MAX - n, &[])));
            bytes
        }),
        row("a thousand unfinished messages", Ignored, move |h| {
            (0..1000).flat_map(|n| first(n, 2, &[0], &cut(h)[0])).collect()
        }),
        row("fragments before the connection ends", HungUp, move |h| first(9, 2, &[0], &cut(h)[0])),
    ]
}

fn bounds() -> Vec<Row> {
    // An atom of 1,020 bytes, referred to by two bytes each.
    let header = || [&[1, 0x18, 0, 3, 0xFC][..], &"\u{1F980}".repeat(255).into_bytes()].concat();
    let to = |h: &Hostile| tuple(&[int(6), h.pid(), atom(""), atom("net_kernel")]);
    let bomb = |count: u32| [&[108][..], &count.to_be_bytes(), &[82, 0].repeat(count as usize), &[106]].concat();
    vec![
        row("1 MB that decodes to 500 MB", Closed("exceeds the limit of"), move |h| {
            frame(&[vec![131, 68], header(), to(h), bomb(500_000)].concat())
        }),
        row("the same in fragments", Closed("exceeds the limit of"), move |h| {
            [first(9, 2, &header(), &to(h)), next(9, 1, &bomb(500_000))].concat()
        }),
        row("twice as many unfinished messages as allowed", Ignored, |_| {
            (0..2 * FRAGMENTED as u64).flat_map(|n| first(n, 2, &[0], &[])).collect()
        }),
        row("a continuation of a message that was dropped for others", NOT_BEGUN, |_| {
            (0..=FRAGMENTED as u64).flat_map(|n| first(n, 2, &[0], &[])).chain(next(0, 1, &[])).collect()
        }),
    ]
}
