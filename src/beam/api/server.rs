//! Processes with the callbacks of `gen_server`.

use crate::etf::{Atoms, Raw, Term};
use crate::node::process::{Answer, Behaviour, Caller, Source};

/// A process that other nodes call, cast to and send messages to, with the callbacks of
/// `gen_server`.
///
/// The callbacks run in the node's task, one at a time, so they must return at once. A call that
/// needs longer returns [`Answer::Later`] and is answered by [`Node::reply`](crate::Node::reply).
pub trait GenServer: Send {
    /// Answers a `gen_server:call/2,3`.
    fn handle_call(&mut self, request: Term, from: &Caller) -> Answer;

    /// Handles a `gen_server:cast/2`. Ignores it by default.
    fn handle_cast(&mut self, _request: Term, _from: &Source) {}

    /// Handles any other message. Ignores it by default.
    fn handle_info(&mut self, _message: Term, _from: &Source) {}

    /// Returns what `sys:get_state/1` and `observer` show; the atom `undefined` by default.
    /// `sys:get_state/1` of OTP 25 returns it as `{ok, State}`.
    fn state(&self) -> Term {
        Term::atom("undefined")
    }
}

/// Decodes messages for a [`GenServer`].
pub(super) struct Adapter<S>(pub(super) S);

impl<S: GenServer> Behaviour for Adapter<S> {
    fn call(&mut self, request: &Raw, caller: &Caller, atoms: &mut Atoms) -> Answer {
        match request.term(atoms) {
            Ok(request) => self.0.handle_call(request, caller),
            Err(_) => Answer::Now(Term::tuple([Term::atom("error"), Term::atom("badarg")])),
        }
    }

    fn cast(&mut self, request: &Raw, from: &Source, atoms: &mut Atoms) {
        if let Ok(request) = request.term(atoms) {
            self.0.handle_cast(request, from);
        }
    }

    fn message(&mut self, message: &Raw, from: &Source, atoms: &mut Atoms) {
        if let Ok(message) = message.term(atoms) {
            self.0.handle_info(message, from);
        }
    }

    fn state(&self) -> Term {
        self.0.state()
    }
}
