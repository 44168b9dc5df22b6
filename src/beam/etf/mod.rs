//! The external term format: converts between terms and bytes from peers, which may be hostile.
//!
//! | to | use |
//! | --- | --- |
//! | read a message of known shape, at millions a second | [`Reader`], the pull parser: [`Reader::tuple`], [`Reader::expect_atom`], [`Reader::pid`] … |
//! | pass a term on unchanged | [`Raw`], one checked term as the sender wrote it |
//! | inspect a term of any shape | [`Term`] |
//! | replace references to the atoms of a distribution header | `Expander`, inside this crate |
//! | write | [`Writer`], or [`Term::encode`]; [`Iovec`] to send a term that may have large binaries |
//! | use a term as a key | [`Term`] itself (`Eq`, `Ord` and `Hash` are Erlang's `=:=`), or [`Term::canonical`] and [`Raw::canonical`] |
//!
//! Any bytes result in a term or a [`DecodeError`]. Nothing panics, recurses deeper than
//! [`limits::TERM_DEPTH`](crate::limits::TERM_DEPTH), or allocates for more elements than the
//! message has bytes for. Binaries and raw terms are slices of the message, so they keep all of it
//! in memory; see [`Raw::detached`].
//!
//! Compressed terms (tag 80) are not supported. Of distribution headers (68 to 70 after 131), only
//! references to their atoms (tag 82) are: `Expander` replaces them with the atoms, and all other
//! code refuses them.
//!
//! Spec: "External Term Format" of the ERTS user's guide, and `erts/emulator/beam/external.c` for
//! what the guide omits. Accepts what `binary_to_term/1` accepts, with the same meaning, but
//! refuses bytes after the term. OTP 23 to 29 read the terms that it writes.

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
