//! `global_group`: the names of our global group, of which there are none.
//!
//! Whoever looks for a name on a certain node asks by a cast and waits without a time limit (`names_check_node/1` and
//! `whereis_check_node/2` in `global_search.erl` of OTP's kernel): so each is answered.

use crate::dist::control::Control;
use crate::etf::{Atoms, DecodeError, Pid, Raw, Reader, Term};

/// The registered name.
pub(crate) const NAME: &str = "global_group";

/// The answer to a cast: `{registered_names, Pid}` gets `{registered_names_res, []}`, and `{find_name, Pid, Name}`
/// `{find_name_res, undefined}`. `ours` is the process that answers.
///
/// # Errors
/// It is another request; all others can be ignored.
pub(crate) fn cast(request: &Raw, ours: &Pid, atoms: &mut Atoms) -> Result<(Control, Raw), DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    let (label, nothing) = match r.tuple()? {
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
    Ok((control, Raw::encode(&Term::tuple([Term::atom(label), nothing]))))
}
