//! Checks that each way to read a term accepts any bytes as a term or refuses them with an error.
//! Also checks that a term does not change when it is encoded and decoded again.
//!
//! No other codec reads these bytes, because `eetf` aborts the process on some of them.
#![no_main]

use std::hash::{DefaultHasher, Hash, Hasher};

use beam::etf::{Atoms, DecodeError, Raw, Reader, Term};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let message = Bytes::copy_from_slice(data);
    alone(&message);
    beside_each_other(&message);
    piece_by_piece(&message);
});

fn raw(message: &Bytes, atoms: &mut Atoms) -> Result<Raw, DecodeError> {
    let mut reader = Reader::with_version(message, atoms)?;
    let raw = reader.raw()?;
    reader.finish()?;
    Ok(raw)
}

/// Reads a message that contains one term.
fn alone(message: &Bytes) {
    let mut atoms = Atoms::new();
    let (term, raw) = (Term::decode(message, &mut atoms), raw(message, &mut atoms));
    assert_eq!(term.is_ok(), raw.is_ok(), "both ways agree: {term:?}, {raw:?}");
    let (Ok(term), Ok(raw)) = (term, raw) else { return };
    assert_eq!(*raw.bytes(), message[1..]);
    assert_eq!(raw.term(&mut atoms).as_ref(), Ok(&term));

    let encoded = Bytes::from(term.encode());
    let again = Term::decode(&encoded, &mut atoms).expect("an encoded term decodes");
    assert_eq!(again, term);
    assert_eq!(again.encode(), encoded, "the encoding is stable");

    let canonical = term.canonical();
    assert_eq!(raw.canonical(&mut atoms), Ok(canonical.clone()));
    let mut reader = Reader::new(&canonical, &mut atoms);
    let key = reader.term().expect("well formed");
    assert_eq!(reader.finish(), Ok(()));
    assert_eq!(key, term);
    assert_eq!(key.canonical(), canonical);
}

fn hash(term: &Term) -> u64 {
    let mut hasher = DefaultHasher::new();
    term.hash(&mut hasher);
    hasher.finish()
}

/// Reads two consecutive terms.
fn beside_each_other(message: &Bytes) {
    let mut atoms = Atoms::new();
    let Ok(mut reader) = Reader::with_version(message, &mut atoms) else { return };
    let (Ok(a), Ok(b)) = (reader.term(), reader.term()) else { return };
    assert_eq!(a == b, a.canonical() == b.canonical());
    assert_eq!(a == b, a.cmp(&b).is_eq());
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    assert!(a != b || hash(&a) == hash(&b));
}

/// Reads a message by the method that matches each tag. A failing method consumes nothing.
fn piece_by_piece(message: &Bytes) {
    let mut atoms = Atoms::new();
    let mut reader = Reader::new(message, &mut atoms);
    // Each step consumes at least a byte, or one element of a string.
    for _ in 0..=message.len() {
        let before = reader.remaining();
        let entered = reader.tuple().is_ok() || reader.map().is_ok();
        let read = entered
            || reader.atom_is("ok").is_ok_and(|is_it| is_it)
            || reader.atom().is_ok()
            || reader.integer().is_ok()
            || reader.pid().is_ok()
            || reader.port().is_ok()
            || reader.reference().is_ok()
            || reader.binary().is_ok();
        if read {
            continue;
        }
        assert_eq!(reader.remaining(), before);
        match reader.list() {
            Ok(mut list) => while matches!(reader.more(&mut list), Ok(true)) && reader.raw().is_ok() {},
            Err(_) if reader.raw().is_err() => return,
            Err(_) => {}
        }
    }
}
