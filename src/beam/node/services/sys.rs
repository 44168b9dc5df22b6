//! System messages, which every process that follows OTP's design principles answers (`do_cmd/6` in
//! `sys.erl` of OTP's stdlib).
//!
//! Our processes can be inspected and terminated. Requests to suspend, change or trace one get the
//! answers that `sys.erl` returns for unknown requests.

use crate::etf::{Atoms, DecodeError, Pid, Raw, Reader, Term};
use crate::limits;
use crate::node::services::gen_server;

/// The request in a system message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SystemMessage {
    /// `get_state`
    State,
    /// `get_status`
    Status,
    /// `{terminate, Reason}`
    Terminate(Raw),
    /// Any other request, with its answer, which is the same for all processes.
    Answered(Raw),
}

/// Reads a request. Every request has an answer.
#[must_use]
pub(crate) fn parse(request: &Raw, atoms: &mut Atoms) -> SystemMessage {
    if let Ok(reason) = terminate(request, atoms) {
        return SystemMessage::Terminate(reason);
    }
    if request.bytes().len() > limits::CALL_ARGUMENTS {
        return SystemMessage::Answered(gen_server::too_large());
    }
    let Ok(term) = request.term(atoms) else { return unknown(request) };
    let debug = |what: Term| Term::tuple([Term::atom("debug"), what]);
    let get = |what: &'static str| debug(Term::tuple([Term::atom(what), Term::atom("get")]));
    let answered = |answer: &Term| SystemMessage::Answered(Raw::encode(answer));
    let ok = |value: Term| answered(&Term::tuple([Term::atom("ok"), value]));
    match &term {
        term if *term == Term::atom("get_state") => SystemMessage::State,
        term if *term == Term::atom("get_status") => SystemMessage::Status,
        // Our processes neither keep nor count events.
        term if *term == get("log") => ok(Term::List(Vec::new())),
        term if *term == get("statistics") => ok(Term::atom("no_statistics")),
        term if *term == debug(Term::atom("no_debug")) => answered(&Term::atom("ok")),
        Term::Tuple(elements) if elements.len() == 2 && elements.first() == Some(&Term::atom("debug")) => {
            answered(&Term::atom("unknown_debug"))
        }
        _ => unknown(request),
    }
}

fn terminate(request: &Raw, atoms: &mut Atoms) -> Result<Raw, DecodeError> {
    let mut r = Reader::resume(request, 0, atoms);
    r.expect_tuple(2)?;
    r.expect_atom("terminate")?;
    r.raw()
}

fn unknown(request: &Raw) -> SystemMessage {
    SystemMessage::Answered(Raw::build(|w| {
        w.tuple(2).atom("error");
        w.tuple(2).atom("unknown_system_msg").raw(request);
    }))
}

/// Returns the answer to [`SystemMessage::State`]: `{ok, State}`, as in OTP 27 and 29.
/// `sys:get_state/1` of OTP 25 returns this tuple itself, as it does for a process of OTP 27.
#[must_use]
pub(crate) fn state(state: Term) -> Raw {
    Raw::encode(&Term::tuple([Term::atom("ok"), state]))
}

/// Returns the answer to [`SystemMessage::Status`]:
/// `{status, Pid, {module, Module}, [PDict, SysState, Parent, Debug, Misc]}`. Our processes have no
/// parent, so `Parent` is the process itself.
#[must_use]
pub(crate) fn status(pid: &Pid, name: &Term, state: Term) -> Raw {
    let pid = Term::Pid(pid.clone());
    let items = vec![Term::List(Vec::new()), Term::atom("running"), pid.clone(), Term::List(Vec::new()), state];
    let module = Term::tuple([Term::atom("module"), name.clone()]);
    Raw::encode(&Term::tuple([Term::atom("status"), pid, module, Term::List(items)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(request: &Term) -> SystemMessage {
        parse(&Raw::encode(request), &mut Atoms::new())
    }

    fn answer(request: &Term) -> Term {
        match parsed(request) {
            SystemMessage::Answered(answer) => answer.term(&mut Atoms::new()).expect("a term"),
            other => panic!("{other:?}"),
        }
    }

    fn pair(a: Term, b: Term) -> Term {
        Term::tuple([a, b])
    }

    #[test]
    fn every_request_has_an_answer() {
        assert_eq!(parsed(&Term::atom("get_state")), SystemMessage::State);
        assert_eq!(parsed(&Term::atom("get_status")), SystemMessage::Status);
        let reason = Term::atom("enough");
        let expected = SystemMessage::Terminate(Raw::encode(&reason));
        assert_eq!(parsed(&pair(Term::atom("terminate"), reason)), expected);
        let debug = |what| pair(Term::atom("debug"), what);
        let get = |what| debug(pair(Term::atom(what), Term::atom("get")));
        assert_eq!(answer(&get("log")), pair(Term::atom("ok"), Term::List(vec![])));
        assert_eq!(answer(&get("statistics")), pair(Term::atom("ok"), Term::atom("no_statistics")));
        assert_eq!(answer(&debug(Term::atom("no_debug"))), Term::atom("ok"));
        assert_eq!(answer(&debug(pair(Term::atom("trace"), Term::atom("true")))), Term::atom("unknown_debug"));
        for request in [Term::atom("suspend"), Term::Int(1), pair(Term::atom("replace_state"), Term::Int(1))] {
            let unknown = pair(Term::atom("unknown_system_msg"), request.clone());
            assert_eq!(answer(&request), pair(Term::atom("error"), unknown));
        }
    }
}
