//! Nodes of this host: the names in its EPMD that match a pattern, or that plugins registered as theirs. Others are other
//! people's, and not drawn into our mesh. Pure.

use std::collections::{BTreeMap, BTreeSet};

use beam::name::{NamePattern, NodeName};

/// What is looked for in this host's EPMD.
#[derive(Debug)]
pub struct Epmd {
    us: NodeName,
    patterns: Vec<NamePattern>,
    /// The full names of the nodes of plugins, on whichever host.
    plugins: BTreeSet<NodeName>,
}

impl Epmd {
    /// Names that match one of the patterns, for the node `us`.
    #[must_use]
    pub fn new(us: NodeName, patterns: Vec<NamePattern>) -> Self {
        Self { us, patterns, plugins: BTreeSet::new() }
    }

    /// These are the nodes that plugins registered.
    pub fn plugins(&mut self, nodes: BTreeSet<NodeName>) {
        self.plugins = nodes;
    }

    /// The full names of the nodes that are looked for, of what is registered, each with its port. EPMD knows no host part: the
    /// nodes of our host have ours, until one of them says otherwise.
    #[must_use]
    pub fn found(&self, registered: Vec<(String, u16)>) -> Vec<(NodeName, u16)> {
        let ours = registered.into_iter().filter_map(|(short, port)| {
            // EPMD accepts any text as a name, from any user of the host.
            let name = NodeName::new(&short, self.us.host()).ok()?;
            let matches = self.patterns.iter().any(|pattern| pattern.matches(&short));
            (matches || self.plugins.contains(&name)).then_some((name, port))
        });
        ours.filter(|(name, _)| *name != self.us).collect()
    }

    /// Returns the nodes of plugins that are on this host (`is_here`) and missing from its EPMD,
    /// which has the short names in `registered`.
    #[must_use]
    pub fn missing(
        &self,
        registered: &BTreeMap<String, u16>,
        is_here: impl Fn(&NodeName) -> bool,
    ) -> BTreeSet<NodeName> {
        let is_missing = |node: &NodeName| is_here(node) && !registered.contains_key(node.short_name());
        self.plugins.iter().filter(|node| is_missing(node)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_match_are_looked_for_and_our_own_is_not() {
        let found = |patterns: &[&str], plugins: &[&str]| {
            let patterns = patterns.iter().map(|pattern| NamePattern::parse(pattern).unwrap()).collect();
            let odd = ["hecate\u{1b}[2J", "hecate_\u{202e}", "hecate x", "hecate@x", ""];
            let registered = ["hecate", "hecate_1000", "hecate_traderd", "rabbit", "my_hecate"].into_iter().chain(odd);
            let registered = registered.zip(1..).map(|(name, port)| (name.to_owned(), port)).collect();
            let mut epmd = Epmd::new("hecate@h.lab".parse().unwrap(), patterns);
            epmd.plugins(plugins.iter().map(|name| name.parse().unwrap()).collect());
            let found = epmd.found(registered);
            found.into_iter().map(|(name, port)| format!("{name} {port}")).collect::<Vec<_>>()
        };
        assert_eq!(found(&["hecate*"], &[]), ["hecate_1000@h.lab 2", "hecate_traderd@h.lab 3"]);
        assert_eq!(found(&["*"], &[]).len(), 4, "no name that could drive a terminal");
        assert_eq!(found(&["hecate_traderd", "rabbit"], &[]), ["hecate_traderd@h.lab 3", "rabbit@h.lab 4"]);
        assert_eq!(found(&[], &[]), Vec::<String>::new());
        let plugins = ["rabbit@h.lab", "my_hecate@other.lab", "hecate@h.lab", "gone@h.lab"];
        assert_eq!(found(&[], &plugins), ["rabbit@h.lab 4"], "a plugin's, of this host, that is there");
        let mut epmd = Epmd::new("hecate@h.lab".parse().unwrap(), Vec::new());
        epmd.plugins(plugins.iter().map(|name| name.parse().unwrap()).collect());
        let registered = BTreeMap::from([("rabbit".to_owned(), 1), ("hecate".to_owned(), 2)]);
        let missing = epmd.missing(&registered, |node| node.ends_with("@h.lab"));
        assert_eq!(
            missing,
            BTreeSet::from(["gone@h.lab".parse().unwrap()]),
            "a plugin's, of this host, that is not there"
        );
    }
}
