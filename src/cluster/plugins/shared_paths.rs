//! The functions of the module `shared_paths`, which return the paths of this daemon's directories.
//! Besides those that describe the node (`node::services::functions`), they are the only functions
//! that peers can call on our node. The paths belong to our own namespace.

use beam::etf::{Atom, Term};
use beam::node::{Answer, BadArg, Caller, Functions};
use tokio::sync::mpsc;

use crate::cluster::plugins::orders::{Order, queue_is_full};
use crate::layout::Namespace;

/// The module `shared_paths`.
#[derive(Debug)]
pub struct SharedPaths {
    own: Namespace,
    orders: mpsc::Sender<Order>,
}

impl SharedPaths {
    /// Returns the module for our own namespace. `orders` creates directories.
    #[must_use]
    pub fn new(own: Namespace, orders: mpsc::Sender<Order>) -> Self {
        Self { own, orders }
    }
}

impl Functions for SharedPaths {
    fn call(
        &mut self,
        module: &Atom,
        function: &Atom,
        args: &[Term],
        caller: &Caller,
    ) -> Option<Result<Answer, BadArg>> {
        if *module != "shared_paths" {
            return None;
        }
        let string = |path: &std::path::Path| Answer::Now(Term::string(&path.to_string_lossy()));
        let below = |path: &std::path::Path, name| join(&path.to_string_lossy(), name).map(Answer::Now);
        Some(match (function.as_str(), args) {
            ("base_dir", []) => Ok(string(self.own.base())),
            ("connectors_dir", []) => Ok(string(&self.own.connectors())),
            ("sqlite_path", [name]) => below(&self.own.sqlite(), name),
            ("reckon_path", [name]) => below(&self.own.reckon_db(), name),
            ("socket_path", [name]) => below(&self.own.sockets(), name),
            ("run_path", [name]) => below(&self.own.run(), name),
            ("ensure_layout", []) => Ok(match self.orders.try_send(Order::EnsureLayout(caller.call)) {
                Ok(()) => Answer::Later,
                Err(_) => Answer::Now(queue_is_full()),
            }),
            _ => return None,
        })
    }
}

/// Joins a name to an absolute directory, as `filename:join(Directory, Name)` does. An absolute name
/// replaces the directory. Repeated slashes become one, and a slash at the end is removed. The path
/// is a binary if the name is one (`filename.erl` of OTP's stdlib).
fn join(directory: &str, name: &Term) -> Result<Term, BadArg> {
    let binary = matches!(name, Term::Binary(_));
    let mut text = String::new();
    match name {
        Term::Binary(bytes) => text.push_str(str::from_utf8(bytes).map_err(|_| BadArg)?),
        name => flatten(name, &mut text)?,
    }
    let whole = if text.starts_with('/') { text } else { format!("{directory}/{text}") };
    let mut path = String::with_capacity(whole.len());
    for part in whole.split('/').filter(|part| !part.is_empty()) {
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() {
        path.push('/');
    }
    Ok(if binary { Term::binary(path) } else { Term::string(&path) })
}

/// Appends an atom, or a nested list of characters and atoms, as `filename:flatten/1` does. The
/// decoder bounds the depth of a term.
fn flatten(name: &Term, text: &mut String) -> Result<(), BadArg> {
    match name {
        Term::Atom(atom) => text.push_str(atom.as_str()),
        Term::List(elements) => {
            for element in elements {
                match element {
                    Term::Int(c) => {
                        text.push(u32::try_from(*c).ok().and_then(char::from_u32).ok_or(BadArg)?);
                    }
                    other => flatten(other, text)?,
                }
            }
        }
        _ => return Err(BadArg),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_as_filename_does() {
        let list = |elements: &[Term]| Term::List(elements.to_vec());
        for (name, path) in [
            (Term::string("x.db"), Some(Term::string("/home/sqlite/x.db"))),
            (Term::atom("x"), Some(Term::string("/home/sqlite/x"))),
            (Term::string(""), Some(Term::string("/home/sqlite"))),
            (Term::string("a//b/"), Some(Term::string("/home/sqlite/a/b"))),
            (Term::string("../x"), Some(Term::string("/home/sqlite/../x"))),
            (Term::string("/x"), Some(Term::string("/x"))),
            (Term::string("//"), Some(Term::string("/"))),
            (list(&[Term::string("a"), Term::Int(98), Term::atom("c")]), Some(Term::string("/home/sqlite/abc"))),
            (Term::binary("x"), Some(Term::binary("/home/sqlite/x"))),
            (Term::Int(1), None),
            (list(&[Term::binary("x")]), None),
            (list(&[Term::Int(-1)]), None),
        ] {
            assert_eq!(join("/home/sqlite", &name).ok(), path, "{name:?}");
        }
    }
}
