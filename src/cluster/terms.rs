//! The Erlang terms in requests and answers about plugins. Writes them for callers and followers,
//! and reads them from the messages of other daemons. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use beam::etf::{Map, Term};

use crate::plugin::FieldValue;

/// Returns `{ok, Value}`.
pub(super) fn ok(value: Term) -> Term {
    Term::tuple([Term::atom("ok"), value])
}

/// Returns `{error, {Code, Detail}}`.
pub(super) fn error(code: &'static str, detail: &str) -> Term {
    Term::tuple([Term::atom("error"), Term::tuple([Term::atom(code), Term::binary(detail)])])
}

/// Reads text as Erlang programs write it: a binary, a list of characters, or an atom other than
/// `undefined` and `null`.
pub(super) fn text(term: &Term) -> FieldValue {
    let text = match term {
        Term::Atom(atom) if matches!(atom.as_str(), "undefined" | "null") => return FieldValue::Null,
        Term::Atom(atom) => Some(atom.as_str().to_owned()),
        Term::Binary(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        Term::List(characters) => characters
            .iter()
            .map(|c| match c {
                Term::Int(c) => u32::try_from(*c).ok().and_then(char::from_u32),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    text.map_or(FieldValue::NotText, FieldValue::Text)
}

/// Returns a time as milliseconds since the Unix epoch.
pub(super) fn milliseconds(time: SystemTime) -> Term {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    integer(u64::try_from(since).unwrap_or(u64::MAX))
}

/// Returns a number as an integer, at most `i64::MAX`.
pub(super) fn integer(number: u64) -> Term {
    Term::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Returns the atom `undefined`.
pub(super) fn undefined() -> Term {
    Term::atom("undefined")
}

/// Returns a map with these atoms as keys. The keys must differ from each other.
pub(super) fn map(pairs: impl IntoIterator<Item = (&'static str, Term)>) -> Term {
    let pairs = pairs.into_iter().map(|(key, value)| (Term::atom(key), value)).collect();
    Term::Map(Map::new(pairs).unwrap_or_default())
}
