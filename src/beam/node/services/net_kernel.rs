//! `net_kernel`: answers pings (`net_adm:ping/1` calls it with `{is_auth, Node}`) and other queries
//! of peers (`handle_call/3` in `net_kernel.erl` of OTP's kernel).

use std::time::Duration;

use crate::etf::{Atom, Atoms, DecodeError, Kind, Raw, Reader, Term};

/// The registered name.
pub(crate) const NAME: &str = "net_kernel";

/// Returns the answer to a call, or `None` if the request is unknown. `tick_time` is the tick time
/// of this node.
#[must_use]
pub(crate) fn call(request: &Raw, node: &Atom, tick_time: Duration, atoms: &mut Atoms) -> Option<Raw> {
    let answer = answer(request, node, tick_time, atoms).ok().flatten()?;
    Some(Raw::encode(&answer))
}

fn answer(request: &Raw, node: &Atom, tick_time: Duration, atoms: &mut Atoms) -> Result<Option<Term>, DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    if r.peek()? == Kind::Atom {
        return Ok(match r.atom()?.as_str() {
            // In milliseconds; `net_kernel:get_net_ticktime/0` converts it to seconds.
            "ticktime" => Some(Term::Int(i64::try_from(tick_time.as_millis()).unwrap_or(i64::MAX))),
            "nodename" => Some(Term::Atom(node.clone())),
            "longnames" => Some(Term::atom(if node.as_str().contains('.') { "true" } else { "false" })),
            // An empty list allows every node that proves the cookie.
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
    fn queries_are_answered_and_commands_are_not() {
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
