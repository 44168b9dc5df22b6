//! Nodes of this host: the names in its EPMD that match a pattern. Others are other people's, and not drawn into our mesh. Pure.

use std::sync::Arc;

use crate::name::NamePattern;

/// What is looked for in this host's EPMD.
#[derive(Debug)]
pub struct Epmd {
    us: Arc<str>,
    host: String,
    patterns: Vec<NamePattern>,
}

impl Epmd {
    /// Names that match one of the patterns, for the node `us`.
    #[must_use]
    pub fn new(us: Arc<str>, patterns: Vec<NamePattern>) -> Self {
        let host = us.split('@').nth(1).unwrap_or_default().to_owned();
        Self { us, host, patterns }
    }

    /// The full names of the nodes that are looked for, of what is registered, each with its port. EPMD knows no host part: the
    /// nodes of our host have ours, until one of them says otherwise.
    #[must_use]
    pub fn found(&self, registered: Vec<(String, u16)>) -> Vec<(Arc<str>, u16)> {
        let ours =
            registered.into_iter().filter(|(short, _)| self.patterns.iter().any(|pattern| pattern.matches(short)));
        let full = ours.map(|(short, port)| (Arc::from(format!("{short}@{}", self.host)), port));
        full.filter(|(name, _)| *name != self.us).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_match_are_looked_for_and_our_own_is_not() {
        let found = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|pattern| NamePattern::parse(pattern).unwrap()).collect();
            let registered = ["hecate", "hecate_1000", "hecate_traderd", "rabbit", "my_hecate"];
            let registered = registered.into_iter().zip(1..).map(|(name, port)| (name.to_owned(), port)).collect();
            let found = Epmd::new("hecate@h.lab".into(), patterns).found(registered);
            found.into_iter().map(|(name, port)| format!("{name} {port}")).collect::<Vec<_>>()
        };
        assert_eq!(found(&["hecate*"]), ["hecate_1000@h.lab 2", "hecate_traderd@h.lab 3"]);
        assert_eq!(found(&["hecate_traderd", "rabbit"]), ["hecate_traderd@h.lab 3", "rabbit@h.lab 4"]);
        assert_eq!(found(&[]), Vec::<String>::new());
    }
}
