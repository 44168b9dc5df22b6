//! The external term format: what stands between bytes from a peer that may be hostile, and terms.
//!
//! | to | use |
//! | --- | --- |
//! | read a message of known shape, at millions a second | [`Reader`], the pull parser: [`Reader::tuple`], [`Reader::expect_atom`], [`Reader::pid`] … |
//! | pass on, untouched, what somebody else will understand | [`Raw`], one checked term as the sender wrote it |
//! | look at a term of any shape | [`Term`] |
//! | make a term stand alone that refers to the atoms of a distribution header | `Expander`, inside this crate |
//! | write | [`Writer`], or [`Term::encode`]; [`Iovec`] to send what may have large binaries in it |
//! | use a term as a key | [`Term`] itself (`Eq`, `Ord` and `Hash` are Erlang's `=:=`), or [`Term::canonical`] and [`Raw::canonical`] |
//!
//! Whatever bytes come in, the answer is a term or a [`DecodeError`]: no panic, no recursion deeper than
//! [`limits::TERM_DEPTH`](crate::limits::TERM_DEPTH), no allocation for more than the message has bytes to fill. Binaries and raw
//! terms are slices of the message, so they keep the whole of it in memory; see [`Raw::detached`].
//!
//! It never reads a socket, a clock or a random value. It doesn't know compressed terms (tag 80), and of a distribution header
//! (68 to 70 after 131) only what terms say of it: `Expander` puts the atoms of the header where a term refers to them
//! (tag 82); anywhere else such a term is refused.
//!
//! Spec: "External Term Format" of the ERTS user's guide, and `erts/emulator/beam/external.c` where the guide is silent: what
//! `binary_to_term/1` accepts is accepted and means the same, except that we also refuse what follows a term. What we write
//! is understood by OTP 23 to 29.

mod atoms;
mod convert;
mod cursor;
mod error;
mod expand;
mod iovec;
mod leaf;
mod raw;
mod reader;
mod tag;
mod term;
mod walk;
#[cfg(not(feature = "internals"))]
pub(crate) mod work;
#[cfg(feature = "internals")]
pub mod work;
mod writer;

#[cfg(test)]
mod tests;

pub use atoms::{Atom, AtomTooLong, Atoms};
pub use cursor::{ListHeader, Reader};
pub use error::{DecodeError, Kind};
pub(crate) use expand::{CachedAtom, ExpandError, Expander};
pub use iovec::Iovec;
pub use raw::Raw;
pub use term::{BigInt, BitString, DuplicateKey, Float, Fun, Map, Pid, Port, Reference, ReferenceIds, Term};
pub use writer::Writer;
