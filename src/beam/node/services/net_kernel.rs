//! `net_kernel`: answers pings (`net_adm:ping/1` calls it with `{is_auth, Node}`) and what else a peer may ask of it
//! (`handle_call/3` in `net_kernel.erl` of OTP's kernel).

use std::time::Duration;

use crate::etf::{Atom, Atoms, DecodeError, Kind, Raw, Reader, Term};

/// The registered name.
pub(crate) const NAME: &str = "net_kernel";

/// The answer to a call, if it is one that we have an answer to. `tick_time` is ours.
#[must_use]
pub(crate) fn call(request: &Raw, node: &Atom, tick_time: Duration, atoms: &mut Atoms) -> Option<Raw> {
    let answer = answer(request, node, tick_time, atoms).ok().flatten()?;
    Some(Raw::encode(&answer))
}

fn answer(request: &Raw, node: &Atom, tick_time: Duration, atoms: &mut Atoms) -> Result<Option<Term>, DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    if r.peek()? == Kind::Atom {
        return Ok(match r.atom()?.as_str() {
            // In milliseconds, of which `net_kernel:get_net_ticktime/0` makes seconds.
            "ticktime" => Some(Term::Int(i64::try_from(tick_time.as_millis()).unwrap_or(i64::MAX))),
            "nodename" => Some(Term::Atom(node.clone())),
            "longnames" => Some(Term::atom(if node.as_str().contains('.') { "true" } else { "false" })),
            // No list of allowed nodes: whoever proves the cookie is.
            "allowed" => Some(Term::tuple([Term::atom("ok"), Term::List(Vec::new())])),
            _ => None,
        });
    }
    r.expect_tuple(2)?;
    r.expect_atom("is_auth")?;
    r.atom()?;
    Ok(Some(Term::atom("yes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_have_answers_and_orders_have_none() {
        let ask = |request: &Term| {
            let mut atoms = Atoms::new();
            let answer = call(&Raw::encode(request), &Atom::literal("m@h.x"), Duration::from_secs(60), &mut atoms);
            answer.map(|answer| answer.term(&mut atoms).expect("a term"))
        };
        assert_eq!(ask(&Term::tuple([Term::atom("is_auth"), Term::atom("p@h")])), Some(Term::atom("yes")));
        assert_eq!(ask(&Term::atom("ticktime")), Some(Term::Int(60_000)));
        assert_eq!(ask(&Term::atom("nodename")), Some(Term::atom("m@h.x")));
        assert_eq!(ask(&Term::atom("longnames")), Some(Term::atom("true")));
        assert_eq!(ask(&Term::tuple([Term::atom("disconnect"), Term::atom("p@h")])), None);
        assert_eq!(ask(&Term::atom("get_state")), None);
        assert_eq!(ask(&Term::Int(1)), None);
    }
}
