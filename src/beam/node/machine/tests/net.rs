//! Machines that are connected by queues. Every signal passes through the real codec, and a test
//! chooses which frame arrives next.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::dist::control;
use crate::dist::header::Headers;

/// An end of a connection: the node and its link.
type End = (usize, LinkId);

pub(super) struct Net {
    pub(super) machines: Vec<Machine>,
    names: Vec<&'static str>,
    /// The other end of each end.
    wires: HashMap<End, End>,
    /// Frames in flight, with a queue for each receiving end. Only frames of one connection are in
    /// order.
    in_flight: BTreeMap<(usize, u64), VecDeque<Vec<u8>>>,
    last_link: u64,
    pub(super) processes: Vec<(usize, ProcessId, String)>,
    pub(super) now: Now,
}

impl Net {
    pub(super) fn new(names: &[&'static str]) -> Self {
        Self {
            machines: names.iter().map(|name| machine(name)).collect(),
            names: names.to_vec(),
            wires: HashMap::new(),
            in_flight: BTreeMap::new(),
            last_link: 0,
            processes: Vec::new(),
            now: now(),
        }
    }

    pub(super) fn input(&mut self, node: usize, input: NodeInput) {
        let mut out = Vec::new();
        self.machines[node].handle(self.now, input, &mut out);
        self.carry_out(node, out);
    }

    pub(super) fn carry_out(&mut self, node: usize, effects: Vec<NodeEffect>) {
        for effect in effects {
            match effect {
                NodeEffect::Signal(link, control, payload) => {
                    let Some(&(to, there)) = self.wires.get(&(node, link)) else {
                        continue;
                    };
                    let mut frame = Vec::new();
                    control::encode(&control, payload.as_ref(), flags::ours(false), &mut frame);
                    self.in_flight.entry((to, there.0)).or_default().push_back(frame.split_off(4));
                }
                NodeEffect::Close(link, _) => self.cut(node, link),
                NodeEffect::Spawned(..)
                | NodeEffect::Dial(_)
                | NodeEffect::Result(..)
                | NodeEffect::Down(..)
                | NodeEffect::Dropped(..) => {}
            }
        }
    }

    /// Cuts a connection. Frames that this end has sent still arrive before the other end closes.
    pub(super) fn cut(&mut self, node: usize, link: LinkId) {
        let Some((to, there)) = self.wires.remove(&(node, link)) else {
            return;
        };
        self.wires.remove(&(to, there));
        self.in_flight.remove(&(node, link.0));
        while let Some(frame) = self.in_flight.get_mut(&(to, there.0)).and_then(VecDeque::pop_front) {
            self.deliver(to, there, frame);
        }
        self.input(node, NodeInput::LinkDown { link, reason: "cut".into(), by_peer: false });
        self.input(to, NodeInput::LinkDown { link: there, reason: "cut".into(), by_peer: false });
    }

    pub(super) fn deliver(&mut self, node: usize, link: LinkId, frame: Vec<u8>) {
        let agreed = flags::ours(false);
        let decoded = control::decode(&Bytes::from(frame), Headers::new(agreed).as_mut(), &mut Atoms::new())
            .expect("the codec reads its own output");
        self.input(node, NodeInput::Messages(link, decoded.into_iter().collect()));
    }

    pub(super) fn link_between(&self, a: usize, b: usize) -> Option<LinkId> {
        self.wires.iter().find(|((from, _), (to, _))| *from == a && *to == b).map(|((_, link), _)| *link)
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        if a == b || self.link_between(a, b).is_some() {
            return;
        }
        let (here, there) = (LinkId(self.last_link + 1), LinkId(self.last_link + 2));
        self.last_link += 2;
        self.wires.insert((a, here), (b, there));
        self.wires.insert((b, there), (a, here));
        let (to_b, to_a) = (peer(self.names[b]), peer(self.names[a]));
        self.input(a, NodeInput::LinkUp { link: here, peer: to_b, origin: Origin::Dialled });
        self.input(b, NodeInput::LinkUp { link: there, peer: to_a, origin: Origin::Accepted });
    }

    pub(super) fn spawn(&mut self, node: usize, name: &str) {
        let groups = vec![Term::tuple([Term::atom("tag"), Term::binary(name)])];
        let mut out = Vec::new();
        let input = NodeInput::Spawn { name: None, behaviour: Box::new(Echo), groups, token: 1 };
        self.machines[node].handle(self.now, input, &mut out);
        if let Some(NodeEffect::Spawned(_, process)) = out.last() {
            self.processes.push((node, *process, name.to_owned()));
        }
        self.carry_out(node, out);
    }

    /// Delivers one frame of the `choice`-th connection that has any. Returns whether there was
    /// one.
    pub(super) fn step(&mut self, choice: usize) -> bool {
        let ready: Vec<(usize, u64)> =
            self.in_flight.iter().filter(|(_, frames)| !frames.is_empty()).map(|(end, _)| *end).collect();
        let Some(&(node, link)) = ready.get(choice % ready.len().max(1)) else {
            return false;
        };
        if let Some(frame) = self.in_flight.get_mut(&(node, link)).and_then(VecDeque::pop_front) {
            self.deliver(node, LinkId(link), frame);
        }
        true
    }

    pub(super) fn settle(&mut self) {
        let mut steps = 0;
        while self.step(0) {
            steps += 1;
            assert!(steps < 100_000, "the machines never stop sending");
        }
    }

    pub(super) fn announced(&self, node: usize) -> Vec<(String, String)> {
        let text = |(name, node): &(Bytes, NodeName)| (String::from_utf8_lossy(name).into_owned(), node.to_string());
        self.machines[node].view().announced.iter().map(text).collect()
    }

    /// Returns what a node should see: the processes of the nodes that it is connected to.
    pub(super) fn expected(&self, node: usize) -> Vec<(String, String)> {
        let seen = self.processes.iter().filter(|(at, ..)| *at != node && self.link_between(node, *at).is_some());
        let seen: BTreeSet<_> = seen.map(|(at, _, name)| (name.clone(), self.names[*at].to_owned())).collect();
        seen.into_iter().collect()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Connect(usize, usize),
    Cut(usize, usize),
    Spawn(usize, u8),
    Exit(usize),
    Step(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..3_usize, 0..3_usize).prop_map(|(a, b)| Op::Connect(a, b)),
        1 => (0..3_usize, 0..3_usize).prop_map(|(a, b)| Op::Cut(a, b)),
        2 => (0..3_usize, 0..4_u8).prop_map(|(node, name)| Op::Spawn(node, name)),
        1 => (0..8_usize).prop_map(Op::Exit),
        6 => (0..8_usize).prop_map(Op::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// After any sequence of operations, once all frames are delivered, each node sees the
    /// processes of the nodes that it is connected to.
    #[test]
    fn every_view_is_right_after_all_frames_are_delivered(ops in proptest::collection::vec(op(), 1..80)) {
        let mut net = Net::new(&["a@h", "b@h", "c@h"]);
        for op in ops {
            match op {
                Op::Connect(a, b) => net.connect(a, b),
                Op::Cut(a, b) => {
                    if let Some(link) = net.link_between(a, b) {
                        net.cut(a, link);
                    }
                }
                Op::Spawn(node, name) => net.spawn(node, &format!("name-{name}")),
                Op::Exit(which) => {
                    if which < net.processes.len() {
                        let (node, process, _) = net.processes.swap_remove(which);
                        net.input(node, NodeInput::Exit(process, "shutdown"));
                    }
                }
                Op::Step(choice) => {
                    net.step(choice);
                }
            }
        }
        net.settle();
        for node in 0..3 {
            prop_assert_eq!(net.announced(node), net.expected(node));
        }
    }
}

#[test]
fn a_node_that_stops_leaves_its_groups_before_it_closes_connections() {
    let mut net = Net::new(&["a@h", "b@h"]);
    net.connect(0, 1);
    net.spawn(0, "x");
    net.settle();
    assert_eq!(net.announced(1), [("x".to_owned(), "a@h".to_owned())]);
    let mut out = Vec::new();
    net.machines[0].handle(net.now, NodeInput::Stop, &mut out);
    let last_signal = out.iter().rposition(|effect| matches!(effect, NodeEffect::Signal(..))).unwrap();
    let first_close = out.iter().position(|effect| matches!(effect, NodeEffect::Close(..))).unwrap();
    assert!(last_signal < first_close);
    let leaves =
        out.iter().filter(|effect| matches!(effect, NodeEffect::Signal(_, Control::Send { .. }, Some(_)))).count();
    assert_eq!(leaves, 1, "one message for one process");
    net.carry_out(0, out);
    net.settle();
    assert_eq!(net.announced(1), []);
}
