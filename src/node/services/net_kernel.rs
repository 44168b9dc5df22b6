//! `net_kernel`: answers pings (`net_adm:ping/1` calls it with `{is_auth, Node}`, `net_kernel.erl` in OTP's kernel).

use crate::etf::{Atoms, DecodeError, Raw, Reader, Term};

/// The registered name.
pub const NAME: &str = "net_kernel";

/// The answer to a call, if it is one that we have an answer to.
#[must_use]
pub fn call(request: &Raw, atoms: &mut Atoms) -> Option<Raw> {
    is_auth(request, atoms).is_ok().then(|| Raw::encode(&Term::atom("yes")))
}

fn is_auth(request: &Raw, atoms: &mut Atoms) -> Result<(), DecodeError> {
    let mut r = Reader::new(request.bytes(), atoms);
    r.expect_tuple(2)?;
    r.expect_atom("is_auth")?;
    r.atom()?;
    Ok(())
}
