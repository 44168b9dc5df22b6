//! Finds nodes of this host: the names in its EPMD that match a pattern, or that plugins
//! registered. Other nodes may not belong to the cluster, and are not connected. Pure.

use std::collections::{BTreeMap, BTreeSet};

use beam::name::{NamePattern, NodeName};

/// The nodes to find in this host's EPMD.
#[derive(Debug)]
pub struct Epmd {
    us: NodeName,
    patterns: Vec<NamePattern>,
    /// The full names of the nodes of plugins, on any host.
    plugins: BTreeSet<NodeName>,
}

impl Epmd {
    /// Returns the strategy of the node `us`, which finds names that match one of the patterns.
    #[must_use]
    pub fn new(us: NodeName, patterns: Vec<NamePattern>) -> Self {
        Self { us, patterns, plugins: BTreeSet::new() }
    }

    /// Plugins have registered these nodes.
    pub fn plugins(&mut self, nodes: BTreeSet<NodeName>) {
        self.plugins = nodes;
    }

    /// Returns the nodes to connect to among the names that EPMD has, each with its port. EPMD has
    /// no host parts, so each name gets ours. A node with another host part is found out when it is
    /// dialled.
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
    fn matching_names_and_nodes_of_plugins_are_found_except_our_own() {
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
        assert_eq!(found(&["*"], &[]).len(), 4, "no name that could control a terminal");
        assert_eq!(found(&["hecate_traderd", "rabbit"], &[]), ["hecate_traderd@h.lab 3", "rabbit@h.lab 4"]);
        assert_eq!(found(&[], &[]), Vec::<String>::new());
        let plugins = ["rabbit@h.lab", "my_hecate@other.lab", "hecate@h.lab", "gone@h.lab"];
        assert_eq!(found(&[], &plugins), ["rabbit@h.lab 4"], "a plugin's node on this host that is in EPMD");
        let mut epmd = Epmd::new("hecate@h.lab".parse().unwrap(), Vec::new());
        epmd.plugins(plugins.iter().map(|name| name.parse().unwrap()).collect());
        let registered = BTreeMap::from([("rabbit".to_owned(), 1), ("hecate".to_owned(), 2)]);
        let missing = epmd.missing(&registered, |node| node.ends_with("@h.lab"));
        assert_eq!(
            missing,
            BTreeSet::from(["gone@h.lab".parse().unwrap()]),
            "a plugin's node on this host that is not in EPMD"
        );
    }
}
