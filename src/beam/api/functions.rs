//! The functions that a program offers to other nodes.

use std::collections::HashMap;

use crate::etf::{Atom, Term};
use crate::node::process::{Answer, BadArg, Caller, Functions};

/// One function.
pub(super) type Body = Box<dyn FnMut(&[Term]) -> Result<Term, BadArg> + Send>;

/// The functions by module, name and arity, and the callback for all others.
#[derive(Default)]
pub(super) struct Table {
    pub(super) functions: HashMap<(Atom, Atom, usize), Body>,
    pub(super) others: Option<Box<dyn Functions>>,
}

impl Functions for Table {
    fn call(
        &mut self,
        module: &Atom,
        function: &Atom,
        args: &[Term],
        caller: &Caller,
    ) -> Option<Result<Answer, BadArg>> {
        match self.functions.get_mut(&(module.clone(), function.clone(), args.len())) {
            Some(body) => Some(body(args).map(Answer::Now)),
            None => self.others.as_mut()?.call(module, function, args, caller),
        }
    }
}
