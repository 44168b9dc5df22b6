//! Nodes that authenticated peers tell us of: those that their name servers know, and those that they are connected to. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use beam::etf::{Atoms, DecodeError, Raw, Reader};
use beam::name::NodeName;

/// What was learned.
#[derive(Debug)]
pub struct Learned {
    us: Arc<str>,
    /// What peers' name servers knew when they were looked at last.
    known: BTreeSet<Arc<str>>,
}

impl Learned {
    /// For the node `us`.
    #[must_use]
    pub fn new(us: Arc<str>) -> Self {
        Self { us, known: BTreeSet::new() }
    }

    /// What is new in what peers' name servers know.
    pub fn known(&mut self, known: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let learned = self.others(known.difference(&self.known));
        self.known.clone_from(known);
        learned
    }

    /// What is among the nodes that a peer is connected to.
    #[must_use]
    pub fn connected(&self, nodes: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        self.others(nodes.iter())
    }

    fn others<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
        names.filter(|name| **name != self.us && NodeName::parse(name).is_ok()).cloned().collect()
    }
}

/// The answer of a peer to `nodes()`: a list of atoms, of which at most
/// [`beam::limits::KNOWN_NODES`] are taken.
///
/// # Errors
/// It is no such list.
pub fn nodes(answer: &Raw) -> Result<BTreeSet<Arc<str>>, DecodeError> {
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
            nodes.insert(Arc::from(name.as_str()));
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use beam::etf::Term;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn what_is_new_is_learned_and_we_know_ourselves() {
        let mut learned = Learned::new("us@h".into());
        assert_eq!(learned.known(&names(&["a@h", "us@h"])), ["a@h".into()]);
        assert_eq!(learned.known(&names(&["a@h", "b@h"])), ["b@h".into()]);
        assert_eq!(learned.known(&names(&["b@h"])), []);
        assert_eq!(learned.known(&names(&["a@h"])), ["a@h".into()], "known anew");
        assert_eq!(learned.connected(&names(&["us@h", "b@h", "c@\u{202e}h", "d\n@h"])), ["b@h".into()]);
    }

    #[test]
    fn an_answer_is_a_list_of_names_and_bounded() {
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
