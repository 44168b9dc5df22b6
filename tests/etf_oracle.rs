//! Our codec of the external term format against two others: the one of a real Erlang node, and the crate `eetf`.
//!
//! The node is whatever `erl` is installed; without one these tests fail.

#![allow(clippy::expect_used, reason = "a test ends where it is surprised")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use hecate_daemon::etf::{Atom, Atoms, DecodeError, Float, Fun, Map, Pid, Port, Reader, Reference, ReferenceIds, Term};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

#[path = "../src/etf/tests/generate.rs"]
mod generate;

/// How long the node may take for one batch.
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
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/etf_oracle/oracle.erl");
        let compiled = Command::new("erlc").arg("-o").arg(beam.path()).arg(source).status();
        assert!(compiled.expect("erlc is installed").success(), "oracle.erl compiles");
        // What the node has to say about itself goes to standard error: standard output belongs to the frames.
        let mut child = Command::new("erl")
            .args(["-noinput", "-boot", "start_clean", "-kernel", "logger", LOGGER])
            .args(["-s", "oracle", "main", "-pa"])
            .arg(beam.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("erl is installed");
        // Threads of their own, so that neither side ever holds up the other, and a wait for an answer can have a bound.
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
        self.requests.send(request).expect("the writing thread lives");
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

    /// Each decoded and encoded again by the node; nothing where it refuses.
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

/// `count` values of a strategy, the same in each run.
fn sample<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let value = |_| strategy.new_tree(&mut runner).expect("the strategy gives a value").current();
    (0..count).map(value).collect()
}

/// Whether a term satisfies this, or any inside it does.
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
fn erl_understands_what_we_write() {
    let mut terms = sample(&generate::term(), 1000);
    // Before OTP 27, 0.0 and -0.0 are the same key of a map; to us they never are.
    let negative_zero = |term: &Term| matches!(term, Term::Float(f) if f.get() == 0.0 && f.get().is_sign_negative());
    let ambiguous = |term: &Term| matches!(term, Term::Map(_)) && any_inside(term, &negative_zero);
    terms.retain(|term| !any_inside(term, &ambiguous));
    assert!(terms.len() > 500, "most terms are left");
    let encoded: Vec<_> = terms.iter().map(Term::encode).collect();
    let mut erl = Erl::start();
    for ((term, ours), theirs) in terms.iter().zip(&encoded).zip(erl.again(&encoded)) {
        let theirs = theirs.unwrap_or_else(|| panic!("erl refuses {term:?}"));
        assert_eq!(decode(&theirs).as_ref(), Ok(term));
        if !any_inside(term, &|term| matches!(term, Term::Map(_))) {
            assert_eq!(ours, &theirs, "{term:?}");
        }
    }
}

#[test]
fn we_understand_what_erl_writes() {
    const COUNT: u32 = 2000;
    let mut erl = Erl::start();
    for seed in 1..=2_u64 {
        let mut request = vec![1];
        request.extend(seed.to_be_bytes());
        request.extend(COUNT.to_be_bytes());
        let generated = erl.ask(request);
        let mut ours = Vec::new();
        for pair in generated.chunks(2) {
            let [somehow, plain] = pair else { panic!("two encodings of each term") };
            let term = decode(plain).unwrap_or_else(|error| panic!("{error}: {plain:?}"));
            let encoded = term.encode();
            if !any_inside(&term, &|term| matches!(term, Term::Map(_))) {
                assert_eq!(&encoded, plain, "{term:?}");
            }
            assert_eq!(decode(somehow).map(|term| term.canonical()), Ok(term.canonical()));
            ours.push(encoded);
        }
        assert_eq!(ours.len(), COUNT as usize);
        let equal = erl.ask_batch(2, &ours);
        for (bytes, equal) in ours.iter().zip(equal) {
            assert_eq!(equal, [1], "{:?}", decode(bytes));
        }
    }
}

/// Where erl 25 and we differ on purpose.
fn on_purpose(ours: &Result<Term, DecodeError>) -> bool {
    let _ = ours;
    false
}

#[test]
fn erl_and_we_refuse_the_same() {
    let damage = (any::<prop::sample::Index>(), prop_oneof![0_u8..8, Just(255), 70_u8..121]);
    let strategy = (generate::term(), vec(damage, 1..3)).prop_map(|(term, damages)| {
        let mut bytes = term.encode();
        for (at, value) in damages {
            let at = 1 + at.index(bytes.len() - 1);
            bytes[at] = value;
        }
        bytes
    });
    let damaged = sample(&strategy, 20000);
    let mut erl = Erl::start();
    let mut refused = 0;
    for (bytes, theirs) in damaged.iter().zip(erl.again(&damaged)) {
        let message = Bytes::copy_from_slice(bytes);
        let mut atoms = Atoms::new();
        let ours = Reader::with_version(&message, &mut atoms).and_then(|mut reader| reader.term());
        refused += usize::from(ours.is_err());
        if on_purpose(&ours) {
            continue;
        }
        match (&ours, &theirs) {
            (Ok(term), Some(theirs)) if decode(theirs).as_ref() == Ok(term) => {}
            (Err(_), None) => {}
            _ => eprintln!("DIFF {ours:?}\n   theirs {:?} \n  {bytes:?}", theirs.as_ref().map(|t| decode(t))),
        }
    }
    eprintln!("{refused} refused");
}

/// The term without what `eetf` 0.11 gets wrong: it writes a list of integers below 256 as a string even if some are negative,
/// it refuses the arity 255, and as keys of a map it takes 0.0 and -0.0 for one.
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
            Term::Map(Map::new(pairs).expect("each key once"))
        }
        Term::Fun(fun) => Term::Fun(Box::new(Fun { free: all(&fun.free), ..(**fun).clone() })),
        Term::ExternalFun { module, function, arity: 255 } => {
            Term::ExternalFun { module: module.clone(), function: function.clone(), arity: 254 }
        }
        other => other.clone(),
    }
}

#[test]
fn eetf_and_we_understand_each_other() {
    for term in sample(&generate::term(), 4000) {
        let term = spared(&term);
        let theirs = eetf::Term::decode(term.encode().as_slice());
        let theirs = theirs.unwrap_or_else(|error| panic!("{error}: {term:?}"));
        let mut encoded = Vec::new();
        theirs.encode(&mut encoded).expect("eetf writes what it has read");
        assert_eq!(decode(&encoded), Ok(term));
    }
}
