//! Compares our codec of the external term format with two others: the codec of a real Erlang node,
//! and the crate `eetf`.
//!
//! The node runs the installed `erl`. Without it, these tests fail.

#![allow(clippy::expect_used, reason = "a failed expectation fails the test")]

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use beam::etf::{Atom, Atoms, DecodeError, Float, Fun, Map, Pid, Port, Reader, Reference, ReferenceIds, Term};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

#[path = "../src/beam/etf/tests/generate.rs"]
mod generate;

/// The number of terms in each test.
const TERMS: usize = 1500;

/// The time limit of the node for one batch.
const PATIENCE: Duration = Duration::from_secs(60);

const LOGGER: &str = "[{handler,default,logger_std_h,#{config=>#{type=>standard_error}}}]";

/// A running `erl` with `etf_oracle/oracle.erl`.
struct Erl {
    child: Child,
    requests: Sender<Vec<u8>>,
    answers: Receiver<Vec<u8>>,
    _beam: tempfile::TempDir,
}

impl Erl {
    fn start() -> Self {
        let beam = tempfile::tempdir().expect("a directory for the compiled module");
        // A copy, because an `erl` of another release sees the machine's temporary files but not
        // the checkout.
        let source = beam.path().join("oracle.erl");
        std::fs::write(&source, include_str!("etf_oracle/oracle.erl")).expect("a directory of our own");
        let compiled = Command::new("erlc").arg("-o").arg(beam.path()).arg(source).status();
        assert!(compiled.expect("erlc is installed").success(), "oracle.erl compiles");
        // Messages of the node go to standard error, because standard output carries the frames.
        let mut child = Command::new("erl")
            .args(["-noinput", "-boot", "start_clean", "-kernel", "logger", LOGGER])
            .args(["-s", "oracle", "main", "-pa"])
            .arg(beam.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("erl is installed");
        // Separate threads, so that neither side blocks the other and the wait for an answer has a
        // limit.
        let mut input = child.stdin.take().expect("piped");
        let (requests, receiver) = channel::<Vec<u8>>();
        std::thread::spawn(move || {
            let write = |request: Vec<u8>| {
                input.write_all(&len32(request.len()))?;
                input.write_all(&request)
            };
            receiver.into_iter().try_for_each(write)
        });
        let mut output = child.stdout.take().expect("piped");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut length = [0; 4];
            while output.read_exact(&mut length).is_ok() {
                let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("64 bits")];
                if output.read_exact(&mut frame).is_err() || sender.send(frame).is_err() {
                    break;
                }
            }
        });
        Self { child, requests, answers, _beam: beam }
    }

    fn ask(&mut self, request: Vec<u8>) -> Vec<Vec<u8>> {
        self.requests.send(request).expect("the writing thread runs");
        let answer = match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => panic!("erl doesn't answer"),
            Err(RecvTimeoutError::Disconnected) => panic!("erl has crashed; see its output"),
        };
        let mut rest = answer.as_slice();
        let mut batch = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).expect("64 bits");
            batch.push(after[..length].to_vec());
            rest = &after[length..];
        }
        batch
    }

    fn ask_batch(&mut self, operation: u8, batch: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut request = vec![operation];
        for bytes in batch {
            request.extend(len32(bytes.len()));
            request.extend(bytes);
        }
        let answer = self.ask(request);
        assert_eq!(answer.len(), batch.len());
        answer
    }

    /// Returns each term after the node decoded and encoded it, or `None` if it refused.
    fn again(&mut self, batch: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        let answers = self.ask_batch(0, batch).into_iter();
        answers.map(|bytes| (!bytes.is_empty()).then_some(bytes)).collect()
    }
}

impl Drop for Erl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn len32(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a short batch").to_be_bytes()
}

fn decode(bytes: &[u8]) -> Result<Term, DecodeError> {
    Term::decode(&Bytes::copy_from_slice(bytes), &mut Atoms::new())
}

/// Returns the form that is the same for equal terms, whatever their encoding. Since OTP 27, a node
/// drops the creator of a fun, which is not part of that form.
fn canonical(bytes: &[u8]) -> Result<Bytes, DecodeError> {
    decode(bytes).map(|term| term.canonical())
}

/// Returns whether every node encodes the term to the same bytes. The pairs of a map have no order,
/// and since OTP 27 funs and ports have other encodings.
fn has_one_form(term: &Term) -> bool {
    !any_inside(term, &|term| matches!(term, Term::Map(_) | Term::Fun(_) | Term::Port(_)))
}

/// Returns `count` values of a strategy, the same in each run.
fn sample<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let value = |_| strategy.new_tree(&mut runner).expect("the strategy gives a value").current();
    (0..count).map(value).collect()
}

/// Returns whether a term or any term in it satisfies `test`.
fn any_inside(term: &Term, test: &impl Fn(&Term) -> bool) -> bool {
    let any = |terms: &[Term]| terms.iter().any(|term| any_inside(term, test));
    test(term)
        || match term {
            Term::Tuple(elements) | Term::List(elements) => any(elements),
            Term::ImproperList(elements, tail) => any(elements) || any_inside(tail, test),
            Term::Map(map) => map.iter().any(|(key, value)| any_inside(key, test) || any_inside(value, test)),
            Term::Fun(fun) => any(&fun.free),
            _ => false,
        }
}

#[test]
fn erl_decodes_our_terms() {
    let terms = sample(&generate::term(), TERMS);
    let encoded: Vec<_> = terms.iter().map(Term::encode).collect();
    let mut erl = Erl::start();
    for ((term, ours), theirs) in terms.iter().zip(&encoded).zip(erl.again(&encoded)) {
        let Some(theirs) = theirs else {
            assert!(has_minus_zero(term), "erl refuses {term:?}");
            continue;
        };
        assert_eq!(canonical(&theirs), Ok(term.canonical()), "{term:?}");
        if has_one_form(term) {
            assert_eq!(ours, &theirs, "{term:?}");
        }
    }
}

#[test]
fn we_decode_the_terms_of_erl() {
    const COUNT: u32 = 500;
    let mut erl = Erl::start();
    for seed in 1..=2_u64 {
        let mut request = vec![1];
        request.extend(seed.to_be_bytes());
        request.extend(COUNT.to_be_bytes());
        let generated = erl.ask(request);
        let mut ours = Vec::new();
        for pair in generated.chunks(2) {
            let [varied, plain] = pair else { panic!("two encodings of each term") };
            let term = decode(plain).unwrap_or_else(|error| panic!("{error}: {plain:?}"));
            let encoded = term.encode();
            if has_one_form(&term) {
                assert_eq!(&encoded, plain, "{term:?}");
            }
            assert_eq!(canonical(varied), Ok(term.canonical()));
            ours.push(encoded);
        }
        assert_eq!(ours.len(), COUNT as usize);
        let equal = erl.ask_batch(2, &ours);
        for (bytes, equal) in ours.iter().zip(equal) {
            assert_eq!(equal, [1], "{:?}", decode(bytes));
        }
    }
}

/// Before OTP 27, Erlang treats 0.0 and -0.0 as the same key of a map, so it may refuse maps that
/// have both.
fn has_minus_zero(term: &Term) -> bool {
    any_inside(term, &|term| matches!(term, Term::Float(value) if value.get().to_bits() == (-0.0_f64).to_bits()))
}

#[test]
fn erl_and_we_refuse_the_same_bytes() {
    let damage = (any::<prop::sample::Index>(), prop_oneof![0_u8..8, Just(255), 70_u8..121]);
    let strategy = (generate::term(), vec(damage, 1..3)).prop_map(|(term, damages)| {
        let mut bytes = term.encode();
        for (at, value) in damages {
            let at = 1 + at.index(bytes.len() - 1);
            bytes[at] = value;
        }
        bytes
    });
    let damaged = sample(&strategy, 4 * TERMS);
    let mut erl = Erl::start();
    let answers = erl.again(&damaged);
    let accepted = damaged.iter().zip(&answers).filter(|(bytes, theirs)| agreed(bytes, theirs.as_deref())).count();
    let refused = damaged.len() - accepted;
    assert!(accepted > TERMS / 2 && refused > TERMS / 2, "{accepted} accepted, {refused} refused");
}

/// Checks that the node and our codec agree about these bytes. Returns whether they are a term.
fn agreed(bytes: &[u8], theirs: Option<&[u8]>) -> bool {
    let message = Bytes::copy_from_slice(bytes);
    let mut atoms = Atoms::new();
    // `binary_to_term/1` accepts bytes after the term.
    let ours = Reader::with_version(&message, &mut atoms).and_then(|mut reader| reader.term());
    match (ours, theirs) {
        (Ok(term), Some(theirs)) => {
            assert_eq!(canonical(theirs), Ok(term.canonical()), "{bytes:?}");
            true
        }
        (Ok(term), None) => {
            // OTP 25 accepts a bit binary without bits, later releases do not.
            let no_bits = bytes == [131, 77, 0, 0, 0, 0, 0];
            assert!(has_minus_zero(&term) || no_bits, "erl refuses {term:?}, {bytes:?}");
            false
        }
        // Erlang does not check the size of a fun, accepts tags that never leave a node, and reads
        // references of no words.
        (Err(DecodeError::FunSize | DecodeError::UnknownTag(73 | 75) | DecodeError::ReferenceWords(0)), Some(_)) => {
            false
        }
        (Err(error), Some(_)) => panic!("erl accepts, but {error}: {bytes:?}"),
        (Err(_), None) => false,
    }
}

/// Rare forms: old tags, and values at the edge of validity.
#[test]
fn erl_and_we_decode_rare_forms_alike() {
    let text = |text: &[u8]| {
        let mut bytes = [&[99], text].concat();
        bytes.resize(32, 0);
        bytes
    };
    let node = b"\x77\x03a@b";
    let with_node = |tag: &[u8], rest: &[u8]| [tag, node, rest].concat();
    let mut rare: Vec<Vec<u8>> = vec![
        b"\x64\x00\x01\xe4".to_vec(),
        b"\x73\x01\xe4".to_vec(),
        [&[100, 0, 255][..], &[97; 255]].concat(),
        [&[100, 1, 0][..], &[97; 256]].concat(),
        [&[118, 1, 0][..], &[97; 256]].concat(),
        b"\x76\x00\x03\xed\xa0\x80".to_vec(),
        vec![110, 0, 0],
        vec![110, 1, 1, 0],
        vec![110, 1, 2, 9],
        vec![110, 3, 0, 9, 0, 0],
        vec![111, 0, 0, 0, 1, 0, 9],
        vec![107, 0, 0],
        vec![108, 0, 0, 0, 0, 97, 5],
        vec![108, 0, 0, 0, 1, 97, 1, 107, 0, 1, 2],
        vec![108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 2, 97, 3],
        vec![116, 0, 0, 0, 2, 97, 1, 97, 1, 98, 0, 0, 0, 1, 97, 2],
        vec![105, 0, 0, 0, 1, 106],
        vec![108, 255, 255, 255, 255, 106],
        [b"\x71\x77\x01m\x77\x01f", &[98, 0, 0, 0, 255][..]].concat(),
        vec![88, 97, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![117, 0, 0, 0, 0, 106],
    ];
    for (len, bits) in [(0, 0), (0, 3), (0, 8), (1, 0), (1, 3), (1, 7), (1, 8), (1, 9), (1, 255)] {
        rare.push([&[77, 0, 0, 0, len, bits][..], &vec![255; usize::from(len)]].concat());
    }
    for creation in [0, 3, 4, 255] {
        rare.push(with_node(&[103], &[0, 0, 0, 1, 0, 0, 0, 2, creation]));
        rare.push(with_node(&[102], &[0, 0, 0, 1, creation]));
        rare.push(with_node(&[101], &[0, 0, 0, 1, creation]));
        rare.push(with_node(&[114, 0, 1], &[creation, 0, 0, 0, 1]));
    }
    for words in [1, 5, 6] {
        rare.push(with_node(&[90, 0, words], &[1; 28]));
    }
    for digits in
        ["1.5e1", "-2.5E-1", "1.5000000000000000000000000000", "1.5\u{0}x", "15", "1.", ".5", "1.5e999", "nan"]
    {
        rare.push(text(digits.as_bytes()));
    }
    rare.iter_mut().for_each(|bytes| bytes.insert(0, 131));
    let answers = Erl::start().again(&rare);
    let accepted = rare.iter().zip(&answers).filter(|(bytes, theirs)| agreed(bytes, theirs.as_deref())).count();
    assert!((25..rare.len() - 15).contains(&accepted), "{accepted} of {} accepted", rare.len());
}

/// Replaces the parts of a term that `eetf` 0.11 handles wrongly. It encodes a list of integers
/// below 256 as a string, even if some integers are negative. It refuses the arity 255, and treats
/// 0.0 and -0.0 as the same key of a map.
fn spared(term: &Term) -> Term {
    let all = |terms: &[Term]| terms.iter().map(spared).collect::<Vec<_>>();
    match term {
        Term::Int(value) => Term::Int(value.saturating_abs()),
        Term::Float(value) if value.get() == 0.0 => Term::Int(0),
        Term::Tuple(elements) => Term::Tuple(all(elements)),
        Term::List(elements) => Term::List(all(elements)),
        Term::ImproperList(elements, tail) => Term::improper(all(elements), spared(tail)),
        Term::Map(map) => {
            let mut pairs: Vec<_> = map.iter().map(|(key, value)| (spared(key), spared(value))).collect();
            pairs.sort();
            pairs.dedup_by(|(a, _), (b, _)| a == b);
            Term::Map(Map::new(pairs).expect("unique keys"))
        }
        Term::Fun(fun) => Term::Fun(Box::new(Fun { free: all(&fun.free), ..(**fun).clone() })),
        Term::ExternalFun { module, function, arity: 255 } => {
            Term::ExternalFun { module: module.clone(), function: function.clone(), arity: 254 }
        }
        other => other.clone(),
    }
}

#[test]
fn eetf_and_we_decode_each_others_terms() {
    for term in sample(&generate::term(), TERMS) {
        let term = spared(&term);
        let theirs = eetf::Term::decode(term.encode().as_slice());
        let theirs = theirs.unwrap_or_else(|error| panic!("{error}: {term:?}"));
        let mut encoded = Vec::new();
        theirs.encode(&mut encoded).expect("eetf writes what it has read");
        assert_eq!(decode(&encoded), Ok(term));
    }
}
