//! Machines that are joined by a network of queues: every signal goes through the real codec, and a
//! test chooses which frame arrives next.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::dist::control;
use crate::dist::header::Headers;

/// A direction of a connection: whose end, and which link there.
type End = (usize, LinkId);

pub(super) struct Net {
    pub(super) machines: Vec<Machine>,
    names: Vec<&'static str>,
    /// The other end of each end.
    wires: HashMap<End, End>,
    /// Frames under way, a queue for each end that receives: order holds within one connection only.
    under_way: BTreeMap<(usize, u64), VecDeque<Vec<u8>>>,
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
            under_way: BTreeMap::new(),
            last_link: 0,
            processes: Vec::new(),
            now: now(),
        }
    }

    pub(super) fn input(&mut self, node: usize, input: NodeInput) {
        let mut out = Vec::new();
        self.machines[node].handle(self.now, input, &mut out);
        self.carry(node, out);
    }

    pub(super) fn carry(&mut self, node: usize, effects: Vec<NodeEffect>) {
        for effect in effects {
            match effect {
                NodeEffect::Signal(link, control, payload) => {
                    let Some(&(to, there)) = self.wires.get(&(node, link)) else {
                        continue;
                    };
                    let mut frame = Vec::new();
                    control::encode(&control, payload.as_ref(), flags::ours(false), &mut frame);
                    self.under_way.entry((to, there.0)).or_default().push_back(frame.split_off(4));
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

    /// What was sent before the end still arrives, then the other side learns of it.
    pub(super) fn cut(&mut self, node: usize, link: LinkId) {
        let Some((to, there)) = self.wires.remove(&(node, link)) else {
            return;
        };
        self.wires.remove(&(to, there));
        self.under_way.remove(&(node, link.0));
        while let Some(frame) = self.under_way.get_mut(&(to, there.0)).and_then(VecDeque::pop_front) {
            self.deliver(to, there, frame);
        }
        self.input(node, NodeInput::LinkDown { link, reason: "cut".into(), by_peer: false });
        self.input(to, NodeInput::LinkDown { link: there, reason: "cut".into(), by_peer: false });
    }

    pub(super) fn deliver(&mut self, node: usize, link: LinkId, frame: Vec<u8>) {
        let agreed = flags::ours(false);
        let decoded = control::decode(&Bytes::from(frame), Headers::new(agreed).as_mut(), &mut Atoms::new())
            .expect("what we send can be read");
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
        let input = NodeInput::Spawn { name: None, behaviour: Box::new(Answering), groups, token: 1 };
        self.machines[node].handle(self.now, input, &mut out);
        if let Some(NodeEffect::Spawned(_, process)) = out.last() {
            self.processes.push((node, *process, name.to_owned()));
        }
        self.carry(node, out);
    }

    /// Delivers one frame of the `choice`-th connection that has one; tells whether there was any.
    pub(super) fn step(&mut self, choice: usize) -> bool {
        let ready: Vec<(usize, u64)> =
            self.under_way.iter().filter(|(_, frames)| !frames.is_empty()).map(|(end, _)| *end).collect();
        let Some(&(node, link)) = ready.get(choice % ready.len().max(1)) else {
            return false;
        };
        if let Some(frame) = self.under_way.get_mut(&(node, link)).and_then(VecDeque::pop_front) {
            self.deliver(node, LinkId(link), frame);
        }
        true
    }

    pub(super) fn settle(&mut self) {
        let mut steps = 0;
        while self.step(0) {
            steps += 1;
            assert!(steps < 100_000, "machines talk for ever");
        }
    }

    pub(super) fn announced(&self, node: usize) -> Vec<(String, String)> {
        let text = |(name, node): &(Bytes, NodeName)| (String::from_utf8_lossy(name).into_owned(), node.to_string());
        self.machines[node].view().announced.iter().map(text).collect()
    }

    /// What a node should see: what lives on those that it is connected to.
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

    /// Whatever happens in whatever order: when all is delivered, each node sees what lives on those it is connected to.
    #[test]
    fn after_quiescence_every_view_is_right(ops in proptest::collection::vec(op(), 1..80)) {
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
fn stopping_leaves_groups_and_fires_monitors_before_it_closes() {
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
    assert_eq!(leaves, 1, "one process, in one message");
    net.carry(0, out);
    net.settle();
    assert_eq!(net.announced(1), []);
}
