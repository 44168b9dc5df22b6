//! The external term format: what stands between bytes from a peer that may be hostile, and terms.
//!
//! | to | use |
//! | --- | --- |
//! | read a message of known shape, at millions a second | [`Reader`], the pull parser: [`Reader::tuple`], [`Reader::expect_atom`], [`Reader::pid`] … |
//! | pass on, untouched, what somebody else will understand | [`Raw`], one checked term as the sender wrote it |
//! | look at a term of any shape | [`Term`] |
//! | write | [`Writer`], or [`Term::encode`] |
//! | use a term as a key | [`Term`] itself (`Eq`, `Ord` and `Hash` are Erlang's `=:=`), or [`Term::canonical`] and [`Raw::canonical`] |
//!
//! Whatever bytes come in, the answer is a term or a [`DecodeError`]: no panic, no recursion deeper than
//! [`limits::TERM_DEPTH`](crate::limits::TERM_DEPTH), no allocation for more than the message has bytes to fill. Binaries and raw
//! terms are slices of the message, so they keep the whole of it in memory; see [`Raw::detached`].
//!
//! It never reads a socket, a clock or a random value. It knows neither compressed terms nor the distribution header with its
//! atom cache (tags 80, 68 to 70 after 131, 82): both are refused.
//!
//! Spec: "External Term Format" of the ERTS user's guide, and `erts/emulator/beam/external.c` where the guide is silent: what
//! `binary_to_term/1` accepts is accepted and means the same, except that we also refuse what follows a term. What we write
//! is understood by OTP 23 to 29.

mod atoms;
mod error;
mod leaf;
mod raw;
mod reader;
mod tag;
mod term;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub use atoms::{Atom, AtomTooLong, Atoms};
pub use error::{DecodeError, Kind};
pub use raw::Raw;
pub use reader::{ListHeader, Reader};
pub use term::{BigInt, BitString, DuplicateKey, Float, Fun, Map, Pid, Port, Reference, ReferenceIds, Term};
pub use writer::Writer;
