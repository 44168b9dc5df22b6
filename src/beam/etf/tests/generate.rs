//! Strategies that generate terms of every kind. The tests against other codecs include this file
//! by its path.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Atom, Float, Fun, Map, Pid, Port, Reference, ReferenceIds, Term};

fn atom() -> impl Strategy<Value = Atom> {
    let text = prop_oneof![
        8 => "[a-z_@]{1,8}",
        2 => "[ -~\u{a0}-\u{ff}]{0,20}",
        2 => "\\PC{0,20}",
        1 => Just("\u{e4}".repeat(255)),
        1 => Just("\u{1f600}".repeat(255)),
        1 => Just("a".repeat(255)),
    ];
    text.prop_map(|text| Atom::new(&text).expect("at most 255 characters"))
}

fn pid() -> impl Strategy<Value = Pid> {
    // Older nodes have 15 bits of id and 13 of serial, and refuse larger numbers.
    let words = (0_u32..1 << 15, 0_u32..1 << 13, 4_u32..);
    (atom(), words).prop_map(|(node, (id, serial, creation))| Pid { node, id, serial, creation })
}

fn port() -> impl Strategy<Value = Port> {
    let id = prop_oneof![0_u64..1 << 28, any::<u64>()];
    (atom(), id, 4_u32..).prop_map(|(node, id, creation)| Port { node, id, creation })
}

fn reference() -> impl Strategy<Value = Reference> {
    let word = || prop_oneof![Just(0), any::<u32>()];
    (atom(), 4_u32.., 0_u32..1 << 18, vec(word(), 0..5)).prop_map(|(node, creation, first, rest)| {
        let ids = ReferenceIds::new(&[vec![first], rest].concat()).expect("one to five words");
        Reference { node, creation, ids }
    })
}

fn integer() -> impl Strategy<Value = Term> {
    let edge = |at: i64| (-2_i64..3).prop_map(move |by| at.saturating_add(by));
    let edges = prop_oneof![edge(0), edge(256), edge(i64::from(i32::MAX)), edge(i64::from(i32::MIN)), edge(1 << 59)];
    let edges = prop_oneof![edges, edge(-(1 << 59)), edge(i64::MAX), edge(i64::MIN)];
    let magnitude = prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 250..260)];
    let large = (any::<bool>(), magnitude).prop_map(|(negative, bytes)| Term::integer(negative, bytes.into()));
    prop_oneof![3 => edges.prop_map(Term::Int), 1 => any::<i64>().prop_map(Term::Int), 1 => large]
}

fn leaf() -> impl Strategy<Value = Term> {
    let float = any::<f64>().prop_filter_map("finite", Float::new).prop_map(Term::Float);
    let zero = prop_oneof![Just(0.0), Just(-0.0)].prop_filter_map("finite", Float::new).prop_map(Term::Float);
    let bytes = || vec(any::<u8>(), 0..24);
    let bits = (bytes(), 1_u8..=8).prop_filter_map("no bits in no bytes", |(b, bits)| Term::bits(b.into(), bits));
    let external = (atom(), atom(), any::<u8>());
    prop_oneof![
        4 => integer(),
        3 => atom().prop_map(Term::Atom),
        2 => prop_oneof![4 => float, 1 => zero],
        2 => bytes().prop_map(Term::binary),
        1 => bits,
        1 => bytes().prop_map(|bytes| Term::List(bytes.into_iter().map(|b| Term::Int(i64::from(b))).collect())),
        1 => pid().prop_map(Term::Pid),
        1 => port().prop_map(Term::Port),
        1 => reference().prop_map(Term::Reference),
        1 => external.prop_map(|(module, function, arity)| Term::ExternalFun { module, function, arity }),
    ]
}

/// Creates a map of the pairs, and keeps one of those with equal keys.
fn map(mut pairs: Vec<(Term, Term)>) -> Term {
    pairs.sort();
    pairs.dedup_by(|(a, _), (b, _)| a == b);
    Term::Map(Map::new(pairs).expect("each key once"))
}

fn fun(free: impl Strategy<Value = Vec<Term>>) -> impl Strategy<Value = Term> {
    let numbers = (any::<[u8; 16]>(), any::<u32>(), 0_i64..1 << 10, 0_i64..1 << 27, any::<u8>());
    (atom(), numbers, pid(), free).prop_map(|(module, (uniq, index, old_index, old_uniq, arity), creator, free)| {
        Term::Fun(Box::new(Fun { module, index, uniq, old_index, old_uniq, arity, creator, free }))
    })
}

/// Terms of every kind, some levels deep.
pub(super) fn term() -> impl Strategy<Value = Term> {
    leaf().prop_recursive(5, 48, 6, |inner| {
        let terms = |len| vec(inner.clone(), len);
        let pairs = |len| vec((inner.clone(), inner.clone()), len).prop_map(map);
        prop_oneof![
            4 => terms(0..6).prop_map(Term::Tuple),
            4 => terms(0..6).prop_map(Term::List),
            2 => (terms(1..4), inner.clone()).prop_map(|(elements, tail)| Term::improper(elements, tail)),
            4 => pairs(0..5),
            1 => pairs(33..36),
            1 => fun(terms(0..3)),
        ]
    })
}
