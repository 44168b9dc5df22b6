//! Finds nodes that authenticated peers report: the nodes of their global name servers, and the
//! nodes that they are connected to. Pure.

use std::collections::BTreeSet;

use beam::etf::{Atoms, DecodeError, Raw, Reader};
use beam::name::NodeName;

/// The strategy.
#[derive(Debug)]
pub struct Learned {
    us: NodeName,
    /// The last known nodes of peers' global name servers.
    known: BTreeSet<NodeName>,
}

impl Learned {
    /// Returns the strategy of the node `us`.
    #[must_use]
    pub fn new(us: NodeName) -> Self {
        Self { us, known: BTreeSet::new() }
    }

    /// Returns the nodes of peers' global name servers that were not in `known` at the last call.
    pub fn known(&mut self, known: &BTreeSet<NodeName>) -> Vec<NodeName> {
        let learned = self.others(known.difference(&self.known));
        self.known.clone_from(known);
        learned
    }

    /// Returns the nodes that a peer is connected to, except our own.
    #[must_use]
    pub fn connected(&self, nodes: &BTreeSet<NodeName>) -> Vec<NodeName> {
        self.others(nodes.iter())
    }

    fn others<'a>(&self, names: impl Iterator<Item = &'a NodeName>) -> Vec<NodeName> {
        names.filter(|name| **name != self.us).cloned().collect()
    }
}

/// Reads the answer of a peer to `nodes()`: a list of atoms. Returns at most
/// [`beam::limits::KNOWN_NODES`] of them.
///
/// # Errors
/// The answer is not a list of atoms.
pub fn nodes(answer: &Raw) -> Result<BTreeSet<NodeName>, DecodeError> {
    let mut table = Atoms::new();
    let mut r = Reader::new(answer.bytes(), &mut table);
    let mut elements = r.list()?;
    let mut nodes = BTreeSet::new();
    while r.more(&mut elements)? {
        let atom = r.atom()?;
        // An invalid node name is neither shown nor dialled.
        if nodes.len() < beam::limits::KNOWN_NODES
            && let Ok(name) = NodeName::parse(atom.as_str())
        {
            nodes.insert(name);
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use beam::etf::Term;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn new_names_are_returned_except_our_own() {
        let mut learned = Learned::new("us@h".parse().unwrap());
        assert_eq!(learned.known(&names(&["a@h", "us@h"])), ["a@h"]);
        assert_eq!(learned.known(&names(&["a@h", "b@h"])), ["b@h"]);
        assert!(learned.known(&names(&["b@h"])).is_empty());
        assert_eq!(learned.known(&names(&["a@h"])), ["a@h"], "known again");
        assert_eq!(learned.connected(&names(&["us@h", "b@h"])), ["b@h"]);
    }

    #[test]
    fn an_answer_is_a_bounded_list_of_names() {
        let list = |names: Vec<Term>| Raw::encode(&Term::List(names));
        let odd = Term::Atom(beam::etf::Atom::new("c@h\u{1b}[2J").unwrap());
        assert_eq!(nodes(&list(vec![Term::atom("a@h"), odd, Term::atom("b@h")])).unwrap(), names(&["a@h", "b@h"]));
        assert!(nodes(&list(vec![Term::Int(1)])).is_err());
        assert!(nodes(&Raw::encode(&Term::atom("nodedown"))).is_err());
        let many =
            (0..beam::limits::KNOWN_NODES + 10).map(|i| Term::Atom(beam::etf::Atom::new(&format!("n{i}@h")).unwrap()));
        assert_eq!(nodes(&list(many.collect())).unwrap().len(), beam::limits::KNOWN_NODES);
    }
}
