//! The nodes, the network between them and the time. Messages pass through the real codec and
//! arrive in order on each connection. Attempts to connect fail, connections break (at one end
//! before the other), and hosts are cut off from each other.
//!
//! There is no common random generator: each number depends on the seed and its purpose. So a seed
//! determines the history, even though the machines' hash maps order simultaneous effects
//! differently in each run.

#[path = "checks.rs"]
mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use beam::dist::control::{self, Control};
use beam::dist::flags;
use beam::dist::framing::{self, Frame};
use beam::dist::handshake::{Established, Origin, Status};
use beam::dist::header::Headers;
use beam::dist::link::CloseReason;
use beam::etf::{Atoms, Iovec, Pid, Term};
use beam::name::NodeName;
use beam::node::link_id::LinkId;
use beam::node::machine::{NodeEffect, NodeInput};
use beam::node::now::Now;
use beam::node::view::{Census, Peer, PeerReason};
use bytes::BytesMut;
use hecate_daemon::cluster::peers::{introduce, redial};

use super::node::{Kind, Node, Wanted, ask_nodes, connect_node, member};

/// Microseconds since the start.
pub type Time = u64;
pub const SECOND: Time = 1_000_000;

/// The timeout of an attempt that gets no answer.
const DIAL_TIMEOUT: Time = 3 * SECOND;
/// `net_ticktime`: silence is detected after three to five quarters of it.
const TICK_TIME: Time = 60 * SECOND;
/// The delay until a daemon looks at changes.
const LOOK_DELAY: Time = 50_000;
/// The interval at which a node checks for due work.
const WAKE: Time = 200_000;
/// The interval at which a daemon queries EPMD.
const EPMD_POLL: Time = 500_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The dialler has sent its name.
    Name,
    /// The dialler has received a status. The rest of the handshake is one step for each side.
    Status(Status),
    /// The dialler has sent its proof. It is decided whether this connection replaces an older one.
    Reply(bool),
    /// The acceptor has the connection, and its proof is in transit.
    Ack(bool),
    Made,
    Failed,
    Over,
}

/// An attempt to connect, and the connection that results.
struct Connection {
    /// The dialler and the acceptor.
    ends: [usize; 2],
    stage: Stage,
    has: [bool; 2],
    closed: [bool; 2],
    /// Whether nothing more arrives.
    lost: bool,
    /// The arrival time of the last message to each end.
    last: [Time; 2],
    sent: u32,
}

#[derive(Debug)]
enum Event {
    Handshake,
    Bytes(Vec<u8>),
    End,
    Look,
    Wake,
    Epmd,
}

/// The time of an event, then its target, which orders simultaneous events.
type Key = (Time, u32, u8, u32);

/// The traffic, to judge the cost of becoming one cluster.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub messages: u64,
    pub bytes: u64,
    pub attempts: u64,
    pub asked: u64,
    pub introductions: u64,
}

/// The facts that all nodes must agree on: the connected nodes, and the members of each group.
pub type Picture = (BTreeSet<NodeName>, BTreeMap<String, BTreeSet<Pid>>);

pub struct World {
    seed: u64,
    now: Time,
    begun: Instant,
    pub nodes: Vec<Node>,
    by_name: BTreeMap<NodeName, usize>,
    per_host: usize,
    connections: Vec<Connection>,
    agenda: BTreeMap<Key, Event>,
    /// The side of the cut that each host is on.
    sides: Vec<u8>,
    /// The number of failing attempts in 1,000.
    pub failing: u64,
    pub counts: Counts,
    /// A hash of everything that has arrived.
    pub history: u64,
    atoms: Vec<Atoms>,
    effects: Vec<NodeEffect>,
}

impl World {
    /// Makes hosts with one daemon and some plugins each. Each daemon is configured with the first
    /// `seeds` daemons. No nodes are connected.
    pub fn new(seed: u64, hosts: usize, per_host: usize, seeds: usize) -> Self {
        let mut nodes = Vec::new();
        for host in 0..hosts {
            for at in 0..per_host {
                let (kind, short) = match at {
                    0 => (Kind::Daemon, "hecate".to_owned()),
                    at => (Kind::Plugin, format!("hecate_p{at}d")),
                };
                let name = format!("{short}@10.0.{}.{}", host / 250, host % 250).parse().unwrap();
                nodes.push(Node::new(name, kind, 1, chance(seed, nodes.len(), 4)));
            }
        }
        let by_name = nodes.iter().enumerate().map(|(at, node)| (node.name.clone(), at)).collect();
        let atoms = nodes.iter().map(|_| Atoms::new()).collect();
        let mut world = Self {
            seed,
            now: 0,
            begun: Instant::now(),
            nodes,
            by_name,
            per_host,
            connections: Vec::new(),
            agenda: BTreeMap::new(),
            sides: vec![0; hosts],
            failing: 0,
            counts: Counts::default(),
            history: 0,
            atoms,
            effects: Vec::new(),
        };
        let configured: Vec<NodeName> = (0..seeds).map(|host| world.nodes[host * per_host].name.clone()).collect();
        for at in 0..world.nodes.len() {
            world.begin(at, &configured);
            let phase = world.draw(WAKE, at, 1);
            world.at(world.now + phase, at, 0, 1, Event::Wake);
        }
        world
    }

    /// Returns whether this node is a daemon.
    fn is_daemon(&self, at: usize) -> bool {
        self.nodes[at].kind == Kind::Daemon
    }

    /// Starts a node: its processes join their groups, and a daemon looks for other nodes.
    fn begin(&mut self, at: usize, configured: &[NodeName]) {
        let plugin =
            |number: usize| Term::tuple([Term::atom("hecate_plugin"), Term::binary(format!("hecate-p{number}d"))]);
        if self.is_daemon(at) {
            self.input(at, member(vec![Term::atom("hecate_daemons")]));
            for number in 1..self.per_host {
                self.input(at, member(vec![Term::atom("hecate_plugins"), plugin(number)]));
            }
            let us = self.nodes[at].name.clone();
            let configured = configured.iter().filter(|name| **name != us).cloned().collect();
            self.find(at, |finder, now, wanted| {
                finder.redial(now, redial::RedialInput::Configured(configured), wanted);
            });
            let phase = self.draw(EPMD_POLL, at, 2);
            self.at(self.now + phase, at, 0, 2, Event::Epmd);
        } else {
            self.input(at, member(vec![Term::atom("workers"), plugin(at % self.per_host)]));
        }
    }

    // ---- Time and chance --------------------------------------------------------------------------

    fn instant(&self) -> Instant {
        self.begun + Duration::from_micros(self.now)
    }

    /// Returns a number below `below`, for one purpose at one place.
    fn draw(&self, below: u64, place: usize, purpose: u64) -> u64 {
        chance(self.seed, place, purpose) % below
    }

    fn at(&mut self, time: Time, place: usize, side: u8, number: u32, event: Event) {
        let before = self.agenda.insert((time, u32::try_from(place).expect("few"), side, number), event);
        assert!(before.is_none(), "two events with one key: {before:?}");
    }

    /// Schedules an arrival at one end of a connection, after everything that was sent there
    /// before.
    fn arrives(&mut self, link: usize, to: usize, after: Time, event: Event) {
        let sent = self.connections[link].sent;
        let jitter = self.draw(2_000, link, 16 + u64::from(sent));
        let connection = &mut self.connections[link];
        connection.sent += 1;
        let time = (self.now + after + 200 + jitter).max(connection.last[to] + 1);
        connection.last[to] = time;
        // Side 0 is a node. Sides 1 and 2 are the ends of a connection.
        self.at(time, link, 1 + u8::try_from(to).expect("two"), sent, event);
    }

    /// Advances the time.
    pub fn run(&mut self, time: Time) {
        let end = self.now + time;
        while let Some(next) = self.agenda.first_entry().filter(|next| next.key().0 <= end) {
            let ((time, place, side, _), event) = next.remove_entry();
            self.now = time;
            self.handle(usize::try_from(place).expect("an index"), side, event);
        }
        self.now = end;
    }

    /// Runs until the cluster is complete, and returns how long that took.
    pub fn settle(&mut self, patience: Time) -> Time {
        let begun = self.now;
        while !self.is_whole() {
            assert!(
                self.now - begun < patience,
                "after {} s: {}",
                (self.now - begun) / SECOND,
                self.missing_connections()
            );
            self.run(SECOND / 4);
        }
        self.now - begun
    }

    fn handle(&mut self, place: usize, side: u8, event: Event) {
        match event {
            Event::Handshake => self.handshake(place),
            Event::Bytes(bytes) => self.arrive(place, usize::from(side - 1), bytes),
            Event::End => self.down(place, usize::from(side - 1)),
            Event::Look => {
                self.nodes[place].looking = false;
                if self.is_daemon(place) {
                    let view = self.nodes[place].machine.view();
                    self.find(place, |finder, now, wanted| finder.changed(now, &view, wanted));
                }
            }
            Event::Wake => {
                self.at(self.now + WAKE, place, 0, 1, Event::Wake);
                let now = self.instant();
                if self.nodes[place].machine.next_deadline().is_some_and(|at| at <= now) {
                    self.input(place, NodeInput::Tick);
                }
                if self.is_daemon(place) {
                    self.find(place, |finder, now, wanted| finder.time_passed(now, wanted));
                }
            }
            Event::Epmd => {
                self.at(self.now + EPMD_POLL, place, 0, 2, Event::Epmd);
                // Each incarnation has another port.
                let port = |node: &Node| u16::try_from(1000 + node.creation).expect("few lives");
                let host = &self.nodes[place + 1..place + self.per_host];
                let names = host.iter().map(|node| (node.name.clone(), port(node))).collect();
                self.find(place, |finder, now, wanted| finder.redial(now, redial::RedialInput::Epmd(names), wanted));
            }
        }
    }

    // ---- Nodes ------------------------------------------------------------------------------------

    fn input(&mut self, at: usize, input: NodeInput) {
        let mut effects = std::mem::take(&mut self.effects);
        let now = Now { instant: self.instant(), wall: SystemTime::UNIX_EPOCH + Duration::from_micros(self.now) };
        self.nodes[at].machine.handle(now, input, &mut effects);
        while self.nodes[at].machine.step(now, &mut effects).is_some() {}
        self.carry_out(at, &mut effects);
        self.effects = effects;
        let connect = std::mem::take(&mut *self.nodes[at].introduced.lock().expect("one thread"));
        for name in connect {
            self.input(at, NodeInput::Connect(name));
        }
        if self.nodes[at].machine.take_changed() && !std::mem::replace(&mut self.nodes[at].looking, true) {
            self.at(self.now + LOOK_DELAY, at, 0, 0, Event::Look);
        }
    }

    /// Runs a daemon's decisions, and carries out the requested actions.
    fn find(&mut self, at: usize, decide: impl FnOnce(&mut super::node::Finder, Instant, &mut Wanted)) {
        let (mut wanted, now) = (Wanted::default(), self.instant());
        decide(&mut self.nodes[at].finder, now, &mut wanted);
        self.carry_out_wanted(wanted, at);
    }

    fn carry_out_wanted(&mut self, wanted: Wanted, at: usize) {
        for name in wanted.dial {
            if self.nodes[at].machine.is_connected(&name) {
                self.dialled(at, name);
            } else {
                self.nodes[at].connecting.insert(name.clone());
                self.input(at, NodeInput::Connect(name));
            }
        }
        if !wanted.forget.is_empty() {
            self.input(at, NodeInput::Forget(wanted.forget));
        }
        for effect in wanted.introduce {
            match effect {
                introduce::IntroducerEffect::AskNodes { of, asked } => {
                    self.counts.asked += 1;
                    let token = self.counts.asked;
                    self.nodes[at].calling.insert(token, (of.clone(), asked));
                    self.input(at, NodeInput::Call { node: of, function: ask_nodes(), token: Some(token) });
                }
                introduce::IntroducerEffect::Connect { on, to } => {
                    self.counts.introductions += 1;
                    self.input(at, NodeInput::Call { node: on, function: connect_node(&to), token: None });
                }
                introduce::IntroducerEffect::KeepApart { old, new } => panic!("all nodes speak alike: {old}, {new}"),
            }
        }
    }

    fn carry_out(&mut self, at: usize, effects: &mut Vec<NodeEffect>) {
        let mut written: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let (mut closed, mut dialled, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for effect in effects.drain(..) {
            match effect {
                NodeEffect::Signal(LinkId(link), control, payload) => {
                    self.counts.messages += 1;
                    let buffer = written.entry(index(link)).or_default();
                    control::encode(&control, payload.as_ref(), flags::ours(false), buffer);
                }
                NodeEffect::Close(LinkId(link), _) => closed.push(index(link)),
                NodeEffect::Dial(name) => dialled.push(name),
                NodeEffect::Spawned(..) | NodeEffect::Down(..) | NodeEffect::Dropped(..) => {}
                NodeEffect::Result(token, result) => results.push((token, result)),
            }
        }
        for (link, bytes) in written {
            self.counts.bytes += bytes.len() as u64;
            let connection = &self.connections[link];
            let to = usize::from(connection.ends[0] == at);
            if !connection.closed[1 - to] && !connection.lost {
                self.arrives(link, to, 0, Event::Bytes(bytes));
            }
        }
        closed.sort_unstable();
        for link in closed {
            let to = usize::from(self.connections[link].ends[0] == at);
            self.closes(link, 1 - to);
        }
        for name in dialled {
            self.dial(at, &name);
        }
        results.sort_by_key(|(token, _)| *token);
        for (token, result) in results {
            let question = self.nodes[at].calling.remove(&token).expect("asked once");
            if let Ok(nodes) = result {
                self.find(at, |finder, now, wanted| finder.nodes(now, &question, &nodes, wanted));
            }
        }
    }

    // ---- Network ----------------------------------------------------------------------------------

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.sides[a / self.per_host] != self.sides[b / self.per_host]
    }

    fn dial(&mut self, at: usize, name: &NodeName) {
        self.counts.attempts += 1;
        let to = self.by_name[name];
        let link = self.connections.len();
        let ends = [at, to];
        let (has, closed) = ([false; 2], [false; 2]);
        self.connections.push(Connection { ends, stage: Stage::Name, has, closed, lost: false, last: [0; 2], sent: 0 });
        self.arrives(link, 1, 0, Event::Handshake);
    }

    fn handshake(&mut self, link: usize) {
        let Connection { ends: [dialler, acceptor], stage, closed, .. } = self.connections[link];
        let names = [self.nodes[dialler].name.clone(), self.nodes[acceptor].name.clone()];
        let fails = self.draw(1000, link, 3) < self.failing && stage == Stage::Name;
        let stage = match stage {
            Stage::Made | Stage::Over => return,
            // The dialling node has ended.
            _ if closed[0] => Stage::Over,
            Stage::Failed => {
                self.connections[link].stage = Stage::Over;
                return self.dial_ended(dialler, names[1].clone());
            }
            _ if fails || self.is_cut(dialler, acceptor) || (closed[1] && !matches!(stage, Stage::Ack(_))) => {
                self.connections[link].stage = Stage::Failed;
                return self.arrives(link, 0, DIAL_TIMEOUT, Event::Handshake);
            }
            Stage::Name => match self.nodes[acceptor].machine.accept_status(&names[0]) {
                Status::Nok | Status::NotAllowed => Stage::Failed,
                status => Stage::Status(status),
            },
            Stage::Status(Status::Alive) if !self.nodes[dialler].machine.still_wanted(&names[1]) => Stage::Failed,
            Stage::Status(status) => Stage::Reply(status == Status::Alive),
            Stage::Reply(replacing) => {
                self.connections[link].stage = Stage::Ack(replacing);
                self.arrives(link, 0, 0, Event::Handshake);
                return self.up(link, 1, replacing);
            }
            Stage::Ack(replacing) => {
                self.connections[link].stage = Stage::Made;
                self.up(link, 0, replacing);
                return self.dial_ended(dialler, names[1].clone());
            }
        };
        self.connections[link].stage = stage;
        let to = usize::from(matches!(stage, Stage::Reply(_)));
        self.arrives(link, to, 0, Event::Handshake);
    }

    fn dial_ended(&mut self, at: usize, name: NodeName) {
        self.input(at, NodeInput::DialEnded(name.clone()));
        if self.nodes[at].connecting.remove(&name) {
            self.dialled(at, name);
        }
    }

    fn dialled(&mut self, at: usize, name: NodeName) {
        let (mut wanted, now) = (Wanted::default(), self.instant());
        let connected = self.nodes[at].machine.is_connected(&name);
        self.nodes[at].finder.dialled(now, name, connected, &mut wanted);
        self.carry_out_wanted(wanted, at);
    }

    fn up(&mut self, link: usize, end: usize, replacing: bool) {
        let connection = &mut self.connections[link];
        connection.has[end] = true;
        let (at, peer) = (connection.ends[end], connection.ends[1 - end]);
        let origin = match (replacing, end) {
            (true, _) => Origin::Replacing,
            (false, 0) => Origin::Dialled,
            (false, _) => Origin::Accepted,
        };
        let peer = &self.nodes[peer];
        let peer = Established {
            name: peer.name.clone(),
            creation: peer.creation,
            flags: flags::ours(false),
            published: true,
        };
        self.input(at, NodeInput::LinkUp { link: LinkId(link as u64), peer, origin });
    }

    fn arrive(&mut self, link: usize, end: usize, bytes: Vec<u8>) {
        let connection = &self.connections[link];
        let at = connection.ends[end];
        if connection.closed[end] || connection.lost {
            return;
        }
        for byte in self.now.to_le_bytes().iter().chain(&bytes) {
            self.history = (self.history ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut messages: Vec<(Control, _)> = Vec::new();
        let mut headers = Headers::new(flags::ours(false));
        while let Some(frame) = framing::next(&mut buffer).expect("within bounds") {
            let Frame::Message(frame) = frame else { continue };
            messages.extend(
                control::decode(&frame, headers.as_mut(), &mut self.atoms[at]).expect("a message of the node decodes"),
            );
        }
        self.input(at, NodeInput::Messages(LinkId(link as u64), messages));
    }

    /// Closes one end by its node. Sent data still arrives, and then the end of the stream.
    fn closes(&mut self, link: usize, end: usize) {
        if !std::mem::replace(&mut self.connections[link].closed[end], true) && !self.connections[link].lost {
            self.arrives(link, 1 - end, 0, Event::End);
        }
    }

    /// Notifies one end that the connection has ended.
    fn down(&mut self, link: usize, end: usize) {
        if !self.connections[link].has[end] || self.connections[link].closed[end] {
            return;
        }
        let by_peer = !self.connections[link].lost;
        self.closes(link, end);
        let at = self.connections[link].ends[end];
        self.input(
            at,
            NodeInput::LinkDown {
                link: LinkId(link as u64),
                reason: PeerReason::from(&CloseReason::ClosedByPeer),
                by_peer,
            },
        );
    }

    /// Loses a connection. Each end detects the silence by itself later.
    fn lose(&mut self, link: usize, within: Time) {
        if std::mem::replace(&mut self.connections[link].lost, true) {
            return;
        }
        for end in 0..2 {
            let noticed = within * 3 / 4 + self.draw(within / 2, link, 8 + end as u64);
            self.arrives(link, end, noticed, Event::End);
        }
    }

    // ---- Faults -----------------------------------------------------------------------------------

    /// Cuts the network: two hosts reach each other only if `side` returns the same value for both.
    pub fn cut(&mut self, side: impl Fn(usize) -> u8) {
        for (host, is) in self.sides.iter_mut().enumerate() {
            *is = side(host);
        }
        for link in 0..self.connections.len() {
            let Connection { ends: [a, b], has, closed, .. } = self.connections[link];
            if (0..2).any(|end| has[end] && !closed[end]) && self.is_cut(a, b) {
                self.lose(link, TICK_TIME);
            }
        }
    }

    /// Undoes [`Self::cut`].
    pub fn heal(&mut self) {
        self.sides.fill(0);
    }

    /// Breaks this many of 1,000 connections to a daemon: half of them at once, half silently.
    /// Connections between plugin nodes do not break. Daemons would not introduce two plugin nodes
    /// again while both stay connected to the daemons.
    pub fn break_some(&mut self, of_1000: u64, round: u64) {
        for link in 0..self.connections.len() {
            let connection = &self.connections[link];
            let stands = connection.stage == Stage::Made && connection.closed == [false; 2];
            let to_daemon = connection.ends.iter().any(|end| self.is_daemon(*end));
            if stands && to_daemon && self.draw(1000, link, 100 + round) < of_1000 {
                let within = if self.draw(2, link, 200 + round) == 0 { 100_000 } else { TICK_TIME };
                self.lose(link, within);
            }
        }
    }

    /// Ends a node, and starts it again.
    pub fn restart(&mut self, at: usize) {
        for link in 0..self.connections.len() {
            for end in 0..2 {
                if self.connections[link].ends[end] == at {
                    self.closes(link, end);
                }
            }
        }
        let Node { name, kind, creation, looking, .. } = &self.nodes[at];
        let mut node = Node::new(name.clone(), *kind, creation + 1, chance(self.seed, at, 5));
        node.looking = *looking;
        self.nodes[at] = node;
        let place = u32::try_from(at).expect("few");
        self.agenda.retain(|(_, on, side, number), _| (*on, *side, *number) != (place, 0, 2));
        let first: Vec<NodeName> = vec![self.nodes[0].name.clone()];
        self.begin(at, &first);
    }

    /// Returns the seconds since the start.
    pub fn seconds(&self) -> Time {
        self.now / SECOND
    }
}

/// Returns a number derived from the seed, for one purpose at one place, as in SplitMix64.
fn chance(seed: u64, place: usize, purpose: u64) -> u64 {
    let place = (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut z = seed ^ place ^ purpose.wrapping_mul(0xD1B5_4A32_D192_ED03);
    for multiplier in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        z = (z ^ (z >> 30)).wrapping_mul(multiplier).wrapping_add(0x2545_F491_4F6C_DD1D);
    }
    z ^ (z >> 31)
}

fn index(link: u64) -> usize {
    usize::try_from(link).expect("an index")
}
