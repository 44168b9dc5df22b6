//! Checks after all messages are delivered: the connections of each node, and the group members
//! that it sees.

use super::*;

impl World {
    fn census(&self, at: usize) -> Census {
        self.nodes[at].machine.groups().into_values().next().expect("a scope")
    }

    /// Returns whether each node is connected to all others and sees all their group members.
    pub fn is_whole(&self) -> bool {
        let censuses: Vec<Census> = (0..self.nodes.len()).map(|at| self.census(at)).collect();
        let members: usize = censuses.iter().map(|census| census.own_members).sum();
        let groups: usize = censuses.iter().map(|census| census.own_groups).sum();
        let is_whole = |census: &Census| {
            census.peer_members + census.own_members == members && census.peer_groups + census.own_groups == groups
        };
        censuses.iter().all(is_whole)
    }

    /// Checks that no node is connected across the cut.
    pub fn sees_its_side_only(&self) {
        for at in 0..self.nodes.len() {
            for (name, _) in self.nodes[at].machine.view().peers.iter().filter(|(_, peer)| peer.is_up()) {
                assert!(!self.is_cut(at, self.by_name[name]), "{} is connected to {name}", self.nodes[at].name);
            }
        }
    }

    pub(super) fn missing_connections(&self) -> String {
        let mut missing = Vec::new();
        for node in &self.nodes {
            let view = node.machine.view();
            let apart: Vec<_> = self
                .by_name
                .keys()
                .filter(|name| **name != node.name && !view.peers.get(*name).is_some_and(Peer::is_up))
                .collect();
            if !apart.is_empty() {
                missing.push(format!("{} is apart from {} nodes, such as {}", node.name, apart.len(), apart[0]));
            }
        }
        format!("{} nodes are apart from others: {:#?}", missing.len(), missing.iter().take(5).collect::<Vec<_>>())
    }

    /// Returns what a node sees of the others.
    fn seen(&mut self, at: usize) -> Picture {
        let view = self.nodes[at].machine.view();
        let peers = view.peers.iter().filter(|(_, peer)| peer.is_up()).map(|(name, _)| name.clone()).collect();
        let mut names: Vec<Term> = ["hecate_daemons", "hecate_plugins", "workers"].map(Term::atom).to_vec();
        let plugins = (1..self.per_host).map(|number| format!("hecate-p{number}d"));
        names.extend(plugins.map(|name| Term::tuple([Term::atom("hecate_plugin"), Term::binary(name)])));
        let mut groups = BTreeMap::new();
        for group in names {
            let now = Now { instant: self.instant(), wall: SystemTime::UNIX_EPOCH };
            let mut out = Vec::new();
            let message = Iovec::encode(&Term::atom("message"));
            let input = NodeInput::Publish { group: group.canonical(), message };
            self.nodes[at].machine.handle(now, input, &mut out);
            let to = |effect| match effect {
                NodeEffect::Signal(_, Control::Send { to, .. }, Some(_)) => to,
                other => panic!("{other:?}"),
            };
            groups.insert(format!("{group:?}"), out.into_iter().map(to).collect());
        }
        (peers, groups)
    }

    /// Returns what all nodes see, and checks that each node sees all of it except itself.
    pub fn picture(&mut self) -> Picture {
        let seen: Vec<Picture> = (0..self.nodes.len()).map(|at| self.seen(at)).collect();
        let mut whole = Picture::default();
        for (peers, groups) in &seen {
            whole.0.extend(peers.iter().cloned());
            for (group, pids) in groups {
                whole.1.entry(group.clone()).or_default().extend(pids.iter().cloned());
            }
        }
        assert_eq!(whole.0.len(), self.nodes.len());
        for (node, (peers, groups)) in self.nodes.iter().zip(&seen) {
            assert_eq!(peers.len(), whole.0.len() - 1, "{}", node.name);
            for (group, pids) in groups {
                let others = whole.1[group].iter().filter(|pid| *pid.node.as_str() != *node.name);
                assert!(others.eq(pids), "{} sees another {group}", node.name);
            }
        }
        whole
    }
}
