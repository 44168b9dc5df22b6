//! `global_group`: answers queries for names of global groups. This node has no such names.
//!
//! Each query needs an answer, because a node that looks up a name sends a cast and waits without a
//! timeout (`names_check_node/1` and `whereis_check_node/2` in `global_search.erl` of OTP's
//! kernel).

use crate::dist::control::Control;
use crate::etf::{Atoms, DecodeError, Pid, Raw, Reader, Term};

/// The registered name.
pub(crate) const NAME: &str = "global_group";

/// Returns the answer of the process `ours` to a cast: `{registered_names_res, []}` to
/// `{registered_names, Pid}`, and `{find_name_res, undefined}` to `{find_name, Pid, Name}`.
///
/// # Errors
/// The cast is a different one, which can be ignored.
pub(crate) fn cast(request: &Raw, ours: &Pid, atoms: &mut Atoms) -> Result<(Control, Raw), DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    let (label, result) = match r.tuple()? {
        2 => {
            r.expect_atom("registered_names")?;
            ("registered_names_res", Term::List(Vec::new()))
        }
        _ => {
            r.expect_atom("find_name")?;
            ("find_name_res", Term::atom("undefined"))
        }
    };
    let control = Control::Send { from: Some(ours.clone()), to: r.pid()? };
    Ok((control, Raw::encode(&Term::tuple([Term::atom(label), result]))))
}
