//! The process registered as `hecate_plugins`, by which Erlang nodes ask what is registered on this host. It is our member
//! of the group `hecate_daemons`.

use crate::cluster::proxy::Registered;
use crate::etf::{Atoms, Raw, Term};
use crate::name::PluginName;
use crate::node::process::Behaviour;

/// The registered name.
pub const NAME: &str = "hecate_plugins";
/// The group that it is in.
pub const GROUP: &str = "hecate_daemons";

/// Answers `list` with `{ok, [Info]}` and `{info, Name}` with `{ok, Info}`, anything else with
/// `{error, {bad_request, Detail}}`.
#[derive(Debug)]
pub struct PluginsServer {
    registered: Registered,
}

impl PluginsServer {
    /// A server of what is registered.
    #[must_use]
    pub fn new(registered: Registered) -> Self {
        Self { registered }
    }

    fn info(&self, name: &Term) -> Term {
        let Some(name) = text(name) else {
            return error("name_type", "a name is a binary, a string or an atom");
        };
        let name = match PluginName::parse(&name) {
            Ok(name) => name,
            Err(e) => return error(e.code(), &e.to_string()),
        };
        match self.registered.view.borrow().plugins.get(&name) {
            Some(plugin) => ok(self.registered.info(plugin)),
            None => error("not_found", &format!("no plugin {name} is registered here")),
        }
    }
}

impl Behaviour for PluginsServer {
    fn call(&mut self, request: &Raw, atoms: &mut Atoms) -> Term {
        match request.term(atoms) {
            Ok(request) if request == Term::atom("list") => {
                let view = self.registered.view.borrow();
                ok(Term::List(view.plugins.values().map(|plugin| self.registered.info(plugin)).collect()))
            }
            Ok(Term::Tuple(elements)) => match elements.as_slice() {
                [what, name] if *what == Term::atom("info") => self.info(name),
                _ => unknown(),
            },
            _ => unknown(),
        }
    }
}

fn unknown() -> Term {
    error("bad_request", "ask for list or {info, Name}")
}

fn ok(value: Term) -> Term {
    Term::tuple([Term::atom("ok"), value])
}

fn error(code: &'static str, detail: &str) -> Term {
    Term::tuple([Term::atom("error"), Term::tuple([Term::atom(code), Term::binary(detail)])])
}

/// A name as Erlang programs write it: a binary, a list of characters, or an atom.
fn text(term: &Term) -> Option<String> {
    match term {
        Term::Atom(atom) => Some(atom.as_str().to_owned()),
        Term::Binary(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        Term::List(characters) => characters
            .iter()
            .map(|c| match c {
                Term::Int(c) => u32::try_from(*c).ok().and_then(char::from_u32),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}
