//! The checks when nothing is in transit.

use std::collections::BTreeSet;

use beam::dist::control::{Control, Proc};
use beam::etf::{Iovec, Pid, Term};
use beam::name::NodeName;
use beam::node::link_id::LinkId;
use beam::node::machine::{NodeEffect, NodeInput, Pending};
use bytes::Bytes;

use crate::Side;
use crate::network::TieState;
use crate::node::{GROUPS, SCOPES, foreign_pid, foreign_reference, group, name_of};
use crate::world::World;

impl World {
    pub fn check(&mut self) {
        let held = self.held(Side::A);
        assert_eq!(held, self.held(Side::B), "both nodes hold the same connection");
        for side in [Side::A, Side::B] {
            assert!(self.node(side).calling.is_empty(), "each call has a result");
            assert!(self.node(side).spawning.is_empty());
            self.check_groups(side, held);
            let expected = Pending { ties: self.ties(side.other(), held), ..Pending::default() };
            assert_eq!(self.node(side).machine.pending(), expected, "{side:?}");
        }
    }

    /// Returns whether the nodes show each other's groups: two hidden nodes do not.
    fn shows_groups(&self, held: Option<LinkId>) -> bool {
        held.is_some() && !self.nodes.iter().all(|node| node.hidden)
    }

    /// Returns the number of monitors and links of a side that the other must have: the active
    /// ones, and one monitor for each scope.
    fn ties(&mut self, of: Side, held: Option<LinkId>) -> usize {
        let Some(LinkId(at)) = held else { return 0 };
        let scopes = if self.shows_groups(held) { SCOPES.len() } else { 0 };
        let ties = &self.connections[usize::try_from(at).expect("an index")].end(of).ties;
        scopes + ties.values().filter(|tie| tie.state == TieState::Active).count()
    }

    fn check_groups(&mut self, side: Side, held: Option<LinkId>) {
        let (ours, theirs) = (&self.nodes[side as usize], &self.nodes[side.other() as usize]);
        let shown = self.shows_groups(held);
        let members = |node: &crate::node::Node| (0..GROUPS).map(|group| node.members(group)).collect::<Vec<_>>();
        let groups = |members: &[usize]| members.iter().filter(|count| **count > 0).count();
        let (own, peer) = (members(ours), if shown { members(theirs) } else { vec![0; GROUPS] });
        let censuses = ours.machine.groups();
        assert_eq!(censuses.len(), SCOPES.len());
        for (scope, census) in censuses {
            assert_eq!((census.own_groups, census.own_members), (groups(&own), own.iter().sum()), "{scope}");
            assert_eq!((census.peer_groups, census.peer_members), (groups(&peer), peer.iter().sum()), "{scope}");
        }
        let (view, name) = (ours.machine.view(), name_of(side.other()));
        let grouped: BTreeSet<NodeName> = (peer[0] > 0).then(|| name.clone()).into_iter().collect();
        let announced = (peer[1] > 0).then(|| (Bytes::from_static(b"hecate-traderd"), name));
        assert_eq!((view.grouped, view.announced), (grouped, announced.into_iter().collect()));
        for (number, count) in peer.into_iter().enumerate() {
            let pids = self.published(side, number, held);
            assert_eq!(pids.len(), count, "{:?} in {:?}", pids, group(number));
            for pid in pids {
                self.check_lives(side.other(), pid, held);
            }
        }
    }

    /// Returns the processes that a message to a group is sent to.
    fn published(&mut self, side: Side, number: usize, held: Option<LinkId>) -> Vec<Pid> {
        let message = Iovec::encode(&Term::atom("message"));
        let effects = self.effects(side, NodeInput::Publish { group: group(number).canonical(), message });
        let to = |effect| match effect {
            NodeEffect::Signal(link, Control::Send { to, .. }, Some(_)) if Some(link) == held => to,
            other => panic!("{other:?}"),
        };
        let pids: Vec<Pid> = effects.into_iter().map(to).collect();
        assert_eq!(pids.iter().collect::<std::collections::HashSet<_>>().len(), pids.len(), "each process once");
        pids
    }

    /// Checks that a process is alive: a monitor of it is not answered.
    fn check_lives(&mut self, side: Side, pid: Pid, held: Option<LinkId>) {
        let (creation, link) = (self.node(side.other()).creation, held.expect("a connection"));
        let (from, reference) = (foreign_pid(side.other(), creation, 0), foreign_reference(side.other(), creation, 0));
        let to = Proc::Pid(pid);
        let monitor = Control::Monitor { from: from.clone(), to: to.clone(), reference: reference.clone() };
        for control in [monitor, Control::Demonitor { from, to, reference }] {
            assert_eq!(self.effects(side, NodeInput::Messages(link, vec![(control, None)])), []);
        }
    }
}
