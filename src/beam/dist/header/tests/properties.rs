//! Properties: encoded terms are decoded unchanged however the messages are cut and interleaved,
//! and any bytes result in terms or an error.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::etf::{Fun, Map, Port, Reference};

fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        8 => "[a-d]{0,2}",
        2 => "\\PC{0,9}",
        1 => Just("\u{1F980}".repeat(255)),
        1 => Just("x".repeat(255)),
    ]
    .prop_map(|text| Atom::new(&text).expect("short"))
}

fn pid() -> impl Strategy<Value = Pid> {
    (atom(), any::<[u32; 3]>()).prop_map(|(node, [id, serial, creation])| Pid { node, id, serial, creation })
}

fn term() -> impl Strategy<Value = Term> {
    let leaf = prop_oneof![
        atom().prop_map(Term::Atom),
        atom().prop_map(Term::Atom),
        any::<i64>().prop_map(Term::Int),
        vec(any::<u8>(), 9..40).prop_map(|bytes| Term::integer(true, bytes.into())),
        any::<i16>().prop_map(|value| Term::Float(crate::etf::Float::new(f64::from(value)).expect("finite"))),
        vec(any::<u8>(), 0..40).prop_map(Term::binary),
        (vec(any::<u8>(), 1..9), 1..8_u8).prop_map(|(bytes, bits)| Term::bits(bytes.into(), bits).expect("bits")),
        vec(any::<u8>().prop_map(|byte| Term::Int(byte.into())), 0..9).prop_map(Term::List),
        pid().prop_map(Term::Pid),
        (atom(), any::<u64>(), any::<u32>()).prop_map(|(node, id, creation)| Term::Port(Port { node, id, creation })),
        (atom(), any::<u32>(), any::<[u32; 3]>()).prop_map(|(node, creation, ids)| Term::Reference(Reference {
            node,
            creation,
            ids: ids.into()
        })),
        (atom(), atom(), any::<u8>()).prop_map(|(module, function, arity)| Term::ExternalFun {
            module,
            function,
            arity
        }),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let many = || vec(inner.clone(), 0..5);
        prop_oneof![
            many().prop_map(Term::Tuple),
            many().prop_map(Term::List),
            (vec(inner.clone(), 1..4), atom())
                .prop_map(|(elements, tail)| Term::ImproperList(elements, Box::new(Term::Atom(tail)))),
            vec((inner.clone(), inner.clone()), 0..3)
                .prop_filter_map("the same key twice", |pairs| { Map::new(pairs).ok().map(Term::Map) }),
            (atom(), pid(), any::<(u32, u8, i32)>(), many()).prop_map(
                |(module, creator, (index, arity, old), free)| {
                    let (old_index, old_uniq) = (old.into(), i64::from(old) + 1);
                    Term::Fun(Box::new(Fun { module, index, uniq: [9; 16], old_index, old_uniq, arity, creator, free }))
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn messages_are_decoded_however_they_are_cut_and_interleaved(
        messages in vec((vec(term(), 1..3), vec(any::<prop::sample::Index>(), 0..5)), 1..5),
        order in vec(any::<prop::sample::Index>(), 32),
    ) {
        let (mut sender, mut headers) = (Sender::new(), agreed());
        // The unsent frames of each message. Its first frame fills the cache, in the order of
        // sending.
        let mut queues: Vec<(usize, Vec<Bytes>)> = Vec::new();
        let (mut unsent, mut order) = (messages.iter().enumerate(), order.iter().cycle());
        let mut came = vec![false; messages.len()];
        loop {
            let next = order.next().expect("a cycle");
            if queues.is_empty() || next.index(3) == 0 {
                match unsent.next() {
                    Some((at, (terms, cuts))) => {
                        let message = sender.message(terms);
                        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(message.terms.len())).collect();
                        cuts.sort_unstable();
                        let frames = if cuts.is_empty() { vec![message.whole()] } else { message.fragments(at as u64, &cuts) };
                        let mut frames: Vec<Bytes> = frames.into_iter().rev().collect();
                        // The first frame is sent immediately, because the next message's header
                        // relies on it.
                        let taken = headers.take(&frames.pop().expect("one at least"));
                        if frames.is_empty() {
                            prop_assert_eq!(taken, Ok(Some(plain(terms).into())));
                            came[at] = true;
                        } else {
                            prop_assert_eq!(taken, Ok(None));
                            queues.push((at, frames));
                        }
                    }
                    None if queues.is_empty() => break,
                    None => {}
                }
                continue;
            }
            let queue = next.index(queues.len());
            let (at, frames) = &mut queues[queue];
            let (at, taken) = (*at, headers.take(&frames.pop().expect("one at least")));
            if frames.is_empty() {
                prop_assert_eq!(taken, Ok(Some(plain(&messages[at].0).into())));
                came[at] = true;
                queues.remove(queue);
            } else {
                prop_assert_eq!(taken, Ok(None));
            }
        }
        prop_assert!(came.iter().all(|came| *came));
    }

    /// Malformed terms lose no bytes that the reader needs to refuse them.
    #[test]
    fn malformed_terms_are_copied_alike_in_one_piece_and_in_many(
        terms in vec(term(), 1..3),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..4),
        cuts in vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let mut message = Sender::new().message(&terms);
        for (at, byte, how) in changes {
            let at = at.index(message.terms.len());
            match how {
                0 => message.terms[at] = byte,
                1 => message.terms.insert(at, byte),
                _ => message.terms.truncate(at.max(1)),
            }
        }
        let whole = agreed().take(&message.whole());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(message.terms.len())).collect();
        cuts.sort_unstable();
        let mut headers = agreed();
        let mut last = Ok(None);
        for fragment in message.fragments(1, &cuts) {
            prop_assert_eq!(last, Ok(None));
            last = headers.take(&fragment);
            if last.is_err() {
                break;
            }
        }
        prop_assert_eq!(last, whole);
    }

    #[test]
    fn any_bytes_are_terms_or_an_error(kind in 68_u8..71, frames in vec(vec(any::<u8>(), 0..40), 1..9)) {
        let mut headers = agreed();
        for frame in frames {
            let _ = headers.take(&Bytes::from([&[VERSION, kind], &frame[..]].concat()));
        }
    }
}
