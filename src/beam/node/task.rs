//! The owner of the node's state: takes events, runs the machine, carries out its effects.
//!
//! It never waits for a peer. What there is to send gathers, a connection each, while events that have come already, or are about
//! to, are taken; then it is handed on, and a connection that can't take it is closed.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep_until;
use tracing::debug;

use crate::dist::budget::{self, Budget, Charge, Holding};
use crate::dist::control;
use crate::dist::flags::Flags;
use crate::dist::frames::Frames;
use crate::dist::given_names::GivenName;
use crate::dist::handshake::{HandshakeError, Identity, Status};
use crate::dist::link::{self, CloseReason, LinkSender, QueueFull};
use crate::dist::setup::{Connection, SetupError};
use crate::etf::{Atom, Raw};
use crate::fair::Source;
use crate::log_limit::{self, limited};
use crate::name::NodeName;
use crate::node::accept;
use crate::node::dial::{DialError, Dialer};
use crate::node::event::{Arrival, NodeCommand, Permit};
use crate::node::giving_way::{AttemptChannels, GivingWay};
use crate::node::handle::Handle;
use crate::node::intake;
use crate::node::link_id::LinkId;
use crate::node::listeners::user_of_end;
use crate::node::machine::{Machine, NodeEffect, NodeInput, Parts, Token};
use crate::node::memberships::Memberships;
use crate::node::memory;
use crate::node::now::Now;
use crate::node::pace::Pace;
use crate::node::process::{Functions, ProcessId};
use crate::node::services::functions::Program;
use crate::node::services::pg::Watched;
use crate::node::services::rpc::CallError;
use crate::node::view::{Groups, PeerReason, View};
use crate::{limits, stats};

// ---- Tuning constants -----------------------------------------------------------------------

/// Signals in one batch of events from which the task looks for more events before it sends. Fewer
/// means larger writes; more means that small batches go out sooner.
const MANY_SIGNALS: u64 = 64;

/// How long the task looks for more events before it sends. More means larger writes; less means
/// lower latency under load. [`limits::GATHERED`] bounds the bytes.
const GATHERING_TIME: Duration = Duration::from_millis(1);

/// The least number of monitors at which those that nobody waits for are removed.
const MONITORS_SWEPT: usize = 64;

/// What a node is started with.
pub struct NodeSettings {
    /// Who we are.
    pub identity: Identity,
    /// How other nodes are reached.
    pub dialer: Dialer,
    /// Scopes of process groups.
    pub scopes: Vec<Atom>,
    /// The groups of peers that are shown in the view.
    pub watched: Watched,
    /// What peers can call.
    pub functions: Box<dyn Functions>,
    /// The program that runs the node, as tools show it.
    pub program: Program,
    /// A peer from which nothing comes for this long is gone.
    pub tick_time: Duration,
    /// Limit of the memory for all peers, in bytes.
    pub peer_memory: usize,
}

/// Starts the node, which takes connections from `listener`. The task ends after [`Handle::stop`].
pub fn start(listener: TcpListener, settings: NodeSettings) -> (Handle, JoinHandle<()>) {
    let machine = Machine::new(Parts {
        name: settings.identity.name.clone(),
        creation: settings.identity.creation,
        scopes: settings.scopes,
        watched: settings.watched,
        functions: settings.functions,
        tick_time: settings.tick_time,
        memory: memory::resident,
        program: settings.program,
        hidden: !settings.identity.flags.contains(Flags::PUBLISHED),
    });
    let (inbox, events) = mpsc::channel(limits::NODE_INBOX);
    let (view_sender, view) = watch::channel(Arc::new(machine.view()));
    let (groups_sender, groups) = watch::channel(Arc::new(machine.groups()));
    let local = Arc::new(settings.identity);
    let acceptor = tokio::spawn(accept::run(listener, local.clone(), user_of_end, inbox.clone()));
    let task = Task {
        machine,
        local,
        dialer: Arc::new(settings.dialer),
        dials: Arc::new(Semaphore::new(limits::DIALS)),
        dials_here: Arc::new(Semaphore::new(limits::DIALS)),
        giving_way: GivingWay::default(),
        tick_time: settings.tick_time,
        budget: Budget::new(settings.peer_memory),
        inbox: inbox.clone(),
        links: BTreeMap::new(),
        open: 0,
        last_link: 0,
        last_token: 0,
        connecting: HashMap::new(),
        answers: Vec::new(),
        spawning: HashMap::new(),
        calling: HashMap::new(),
        monitoring: HashMap::new(),
        monitors_swept: MONITORS_SWEPT,
        memberships: Memberships::default(),
        view: view_sender,
        is_stale: false,
        pace: Pace::default(),
        groups: groups_sender,
        stopping: None,
        effects: Vec::new(),
        gathered: Gathered::default(),
        signals: 0,
        now: now(),
    };
    let running = tokio::spawn(async move {
        task.run(events).await;
        acceptor.abort();
    });
    (Handle { inbox, view, groups }, running)
}

/// A connection as the owner holds it.
struct Link {
    sender: LinkSender,
    peer: NodeName,
    flags: Flags,
    /// Whose process the peer is, where that is on this host.
    owner: Option<u32>,
    /// The source that its memory is counted for.
    source: Source,
    holding: Arc<Holding>,
    /// The counted memory of what the machine keeps of the peer.
    kept: Charge,
    /// What has gathered to be sent.
    frames: Frames,
    /// The permits of batches that are not fully handled.
    permits: Vec<Permit>,
    /// The name that we gave the peer, if it had none. It is released with this value.
    _given: Option<GivenName>,
}

/// Where it is told how an attempt to connect has ended.
type Waiting = oneshot::Sender<Result<(), Arc<DialError>>>;

/// What somebody is waiting for. Who has given up waiting is told nothing.
enum Completion {
    Dialled(Waiting, Result<(), Arc<DialError>>),
    Spawned(oneshot::Sender<ProcessId>, ProcessId),
    Result(oneshot::Sender<Result<Raw, CallError>>, Result<Raw, CallError>),
}

impl Completion {
    fn send(self) {
        match self {
            Self::Dialled(to, result) => drop(to.send(result)),
            Self::Spawned(to, process) => drop(to.send(process)),
            Self::Result(to, result) => drop(to.send(result)),
        }
    }
}

struct Task {
    machine: Machine,
    local: Arc<Identity>,
    dialer: Arc<Dialer>,
    /// Bounds the attempts to connect that are under way.
    dials: Arc<Semaphore>,
    /// The same, of this host: what is here need not wait for what is far.
    dials_here: Arc<Semaphore>,
    giving_way: GivingWay,
    tick_time: Duration,
    /// The memory budget of all connections.
    budget: Arc<Budget>,
    inbox: mpsc::Sender<NodeCommand>,
    links: BTreeMap<LinkId, Link>,
    /// Connections whose tasks have not ended yet.
    open: usize,
    last_link: u64,
    last_token: Token,
    connecting: HashMap<NodeName, Vec<Waiting>>,
    /// They go out once what they tell is to be seen.
    answers: Vec<Completion>,
    spawning: HashMap<Token, oneshot::Sender<ProcessId>>,
    calling: HashMap<Token, oneshot::Sender<Result<Raw, CallError>>>,
    monitoring: HashMap<Token, oneshot::Sender<Raw>>,
    /// How many there are in `monitoring` when those without a receiver are removed.
    monitors_swept: usize,
    memberships: Memberships,
    view: watch::Sender<Arc<View>>,
    /// The view has changed since it was shown.
    is_stale: bool,
    pace: Pace,
    /// Apart from the view, which is no news to anybody when a process joins some group.
    groups: watch::Sender<Arc<Groups>>,
    stopping: Option<oneshot::Sender<()>>,
    /// None: their memory is what is kept.
    effects: Vec<NodeEffect>,
    /// What waits in `links` to be sent.
    gathered: Gathered,
    /// How many signals have ever been.
    signals: u64,
    /// When what is being taken was.
    now: Now,
}

#[derive(Default)]
struct Gathered {
    signals: usize,
    bytes: usize,
}

impl Task {
    async fn run(mut self, mut events: mpsc::Receiver<NodeCommand>) {
        let mut batch = Vec::new();
        let budget = self.budget.clone();
        loop {
            let shown_at = self.pace.due().filter(|_| self.is_stale);
            let deadlines = [self.machine.next_deadline(), shown_at, self.memberships.next_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                taken = events.recv_many(&mut batch, limits::NODE_BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    let begun = Instant::now();
                    loop {
                        let before = self.signals;
                        self.take_all(&mut batch);
                        // Who sends much, or was answered, is about to want more: it goes out in the same write, which a peer
                        // takes far more easily than many small ones.
                        let more = !self.answers.is_empty() || self.signals - before >= MANY_SIGNALS;
                        if !more || begun.elapsed() >= GATHERING_TIME {
                            break;
                        }
                        self.show();
                        yield_now().await;
                        if events.is_empty() {
                            break;
                        }
                        events.recv_many(&mut batch, limits::NODE_BATCH).await;
                    }
                },
                () = budget.exceeded() => {
                    self.now = now();
                    self.keep_to_budget();
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    self.now = now();
                    self.handle(NodeInput::Tick);
                }
                () = yield_now(), if self.machine.has_backlog() => {}
            }
            self.step();
            self.send();
            if self.open == 0
                && let Some(stopped) = self.stopping.take()
            {
                let _ = stopped.send(());
                return;
            }
        }
    }

    fn take_all(&mut self, events: &mut Vec<NodeCommand>) {
        self.now = now();
        for event in events.drain(..) {
            self.take(event);
            self.keep_to_budget();
            self.send_if_much();
        }
    }

    /// Closes connections, the largest first, until the others are within the budget.
    fn keep_to_budget(&mut self) {
        if self.budget.is_exceeded() {
            // Counted again, because monitors of local processes that ended meanwhile are gone.
            for (id, link) in &mut self.links {
                link.kept.set(self.machine.kept(*id));
            }
        }
        while self.budget.is_exceeded() {
            let holds = |(id, link): (&LinkId, &Link)| (*id, link.source, link.holding.bytes());
            let connections: Vec<_> = self.links.iter().map(holds).collect();
            let Some((id, reason)) = budget::largest(self.budget.limit(), &connections) else { return };
            let Some(link) = self.links.remove(&id) else { return };
            limited!(log_limit::NODES, warn, peer = %link.peer, "node down: {reason}");
            link.sender.abort();
            let reason = PeerReason::new("memory_limit", reason.to_string());
            self.handle(NodeInput::LinkDown { link: id, reason, by_peer: false });
        }
    }

    fn take(&mut self, event: NodeCommand) {
        let input = match event {
            NodeCommand::Link(id, Arrival::Messages(batch), permit) => {
                self.handle(NodeInput::Messages(id, batch));
                self.count_kept(id);
                return self.keep(id, permit);
            }
            NodeCommand::Link(id, Arrival::Large(message), permit) => {
                self.handle(NodeInput::Read(id, message));
                self.count_kept(id);
                return self.keep(id, permit);
            }
            NodeCommand::Link(id, Arrival::Closed(reason), _) => {
                self.open -= 1;
                if matches!(reason, CloseReason::TickTimeout(_)) {
                    stats::LINK_TICK_TIMEOUTS.add(1);
                }
                if let Some(link) = self.links.remove(&id) {
                    limited!(log_limit::NODES, info, peer = %link.peer, "node down: {reason}");
                }
                let by_peer = reason == CloseReason::ClosedByPeer;
                NodeInput::LinkDown { link: id, reason: PeerReason::from(&reason), by_peer }
            }
            NodeCommand::Accepting { name, answer } => {
                let status =
                    if self.stopping.is_some() { Status::NotAllowed } else { self.machine.accept_status(&name) };
                if status == Status::OkSimultaneous {
                    self.giving_way.give_way(&name);
                }
                let _ = answer.send(status);
                return;
            }
            NodeCommand::StillWanted(name, answer) => {
                let _ = answer.send(self.machine.still_wanted(&name));
                return;
            }
            NodeCommand::Connected(connection, owner) => return self.connected(connection, owner),
            NodeCommand::Dialled(name, result) => return self.dialled(name, result),
            NodeCommand::Connect(name, answer) => {
                if self.machine.is_connected(&name) {
                    self.answers.push(Completion::Dialled(answer, Ok(())));
                    return;
                }
                self.connecting.entry(name.clone()).or_default().push(answer);
                NodeInput::Connect(name)
            }
            NodeCommand::Spawn { name, behaviour, groups, answer } => {
                let token = self.new_token();
                self.spawning.insert(token, answer);
                NodeInput::Spawn { name, behaviour, groups, token }
            }
            NodeCommand::Forget(names) => NodeInput::Forget(names),
            NodeCommand::Exit(process, reason) => NodeInput::Exit(process, reason),
            NodeCommand::Answer(call, value) => NodeInput::Answer(call, value),
            NodeCommand::Publish { group, message } => NodeInput::Publish { group, message },
            NodeCommand::Call(node, function, answer) => {
                let token = answer.map(|answer| {
                    let token = self.new_token();
                    self.calling.insert(token, answer);
                    token
                });
                NodeInput::Call { node, function, token }
            }
            NodeCommand::Ask { node, name, request, answer } => {
                let token = self.new_token();
                self.calling.insert(token, answer);
                NodeInput::Ask { node, name, request, token }
            }
            NodeCommand::Send { to, message, answer } => {
                let token = self.new_token();
                self.calling.insert(token, answer);
                NodeInput::Send { to, message, token }
            }
            NodeCommand::Monitor { to, down } => {
                self.sweep_monitors();
                let token = self.new_token();
                self.monitoring.insert(token, down);
                NodeInput::Monitor { to, token }
            }
            NodeCommand::LinkTo(process, to) => NodeInput::LinkTo { process, to },
            NodeCommand::Members { scope, group, answer } => {
                let _ = answer.send(self.memberships.follow(&self.machine, scope, group));
                return;
            }
            NodeCommand::Exchanges(node, answer) => {
                let _ = answer.send(self.machine.exchanges(&node));
                return;
            }
            NodeCommand::Pulse(answer) => {
                let _ = answer.send(());
                return;
            }
            NodeCommand::Stop(answer) => {
                self.stopping = Some(answer);
                NodeInput::Stop
            }
        };
        self.handle(input);
    }

    /// Counts what the machine keeps of a peer.
    fn count_kept(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.kept.set(self.machine.kept(id));
        }
    }

    /// Pauses a connection while it has unhandled messages.
    fn keep(&mut self, id: LinkId, permit: Permit) {
        if self.machine.has_waiting(id)
            && let Some(link) = self.links.get_mut(&id)
        {
            link.permits.push(permit);
        }
    }

    /// Handles a bounded part of the waiting messages.
    fn step(&mut self) {
        let mut cost = 0;
        self.now = now();
        while cost < limits::NODE_TURN {
            let mut effects = std::mem::take(&mut self.effects);
            let step = self.machine.step(self.now, &mut effects);
            self.carry_out(effects);
            let Some((id, spent)) = step else { break };
            cost += spent;
            self.send_if_much();
            let Some(id) = id else { continue };
            self.count_kept(id);
            if !self.machine.has_waiting(id)
                && let Some(link) = self.links.get_mut(&id)
            {
                link.permits.clear();
            }
        }
    }

    fn connected(&mut self, mut connection: Connection, owner: Option<u32>) {
        if self.stopping.is_some() {
            return;
        }
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let (peer, origin) = (connection.peer.clone(), connection.origin);
        let (mut probe, monitor) = (Vec::new(), self.machine.probe());
        // A peer that can't be asked so answers each tick by another, as jinterface and `ei` do.
        if monitor.is_known_with(peer.flags) {
            control::encode(&monitor, None, peer.flags, &mut probe);
        }
        let (received_sender, received) = mpsc::channel(1);
        let address = connection.peer_address().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let (source, holding) = (Source::new(address, owner), self.budget.holding());
        let given = connection.given.take();
        let (probe, held) = (probe.into(), holding.clone());
        let sender = link::start(connection, self.tick_time, probe, held, received_sender, |event| event);
        tokio::spawn(intake::run(id, received, self.inbox.clone()));
        self.open += 1;
        let (kept, frames, permits) = (holding.charge(0), Frames::default(), Vec::new());
        let (peer_name, flags, _given) = (peer.name.clone(), peer.flags, given);
        let link = Link { sender, peer: peer_name, flags, owner, source, holding, kept, frames, permits, _given };
        self.links.insert(id, link);
        let (name, creation, published) = (peer.name.clone(), peer.creation, peer.published);
        let again = self.machine.has_met(&name);
        // The connection that this one replaces is closed by this: what is said of it later would be taken to be of the node.
        self.handle(NodeInput::LinkUp { link: id, peer, origin });
        // Of two that crossed each other, the one that gives way never was up.
        if self.machine.holds(id) {
            self.giving_way.connected(&name, self.local.name < name);
            limited!(log_limit::NODES, info, peer = %name, creation, "node up{}", if published { "" } else { " (hidden)" });
            stats::LINK_RECONNECTS.add(u64::from(again));
        }
    }

    fn dialled(&mut self, name: NodeName, result: Result<(Connection, Option<u32>), DialError>) {
        self.giving_way.ended(&name);
        let waiting = self.connecting.remove(&name).unwrap_or_default();
        let mut failed = None;
        match result {
            Ok((connection, owner)) => self.connected(connection, owner),
            Err(e) => {
                debug!(peer = %name, code = e.code().name(), "not connected: {e}");
                failed = Some(Arc::new(e));
            }
        }
        self.handle(NodeInput::DialEnded(name.clone()));
        // An attempt that ended because the peer connected to us has not failed.
        let failed = failed.filter(|_| !self.machine.is_connected(&name));
        let result = || failed.clone().map_or(Ok(()), Err);
        self.answers.extend(waiting.into_iter().map(|answer| Completion::Dialled(answer, result())));
    }

    /// Tells the machine, and carries out what it wants done; but what it wants sent only gathers.
    fn handle(&mut self, input: NodeInput) {
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.handle(self.now, input, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, mut effects: Vec<NodeEffect>) {
        for effect in effects.drain(..) {
            match effect {
                NodeEffect::Signal(id, signal, payload) => {
                    if let Some(link) = self.links.get_mut(&id).filter(|link| signal.is_known_with(link.flags)) {
                        self.signals += 1;
                        self.gathered.signals += 1;
                        self.gathered.bytes +=
                            link.sender.push(&mut link.frames, &signal, payload.as_ref(), link.flags);
                    }
                }
                NodeEffect::Close(id, reason) => {
                    // What a queue that is full leaves unsent goes with the connection.
                    if let Some(mut link) = self.links.remove(&id) {
                        let _ = link.sender.send(&mut link.frames);
                        limited!(log_limit::NODES, info, peer = %link.peer, "connection closed: {reason}");
                    }
                }
                NodeEffect::Dial(name) => self.dial(name),
                NodeEffect::Spawned(token, process) => {
                    if let Some(answer) = self.spawning.remove(&token) {
                        self.answers.push(Completion::Spawned(answer, process));
                    }
                }
                NodeEffect::Down(token, reason) => {
                    if let Some(down) = self.monitoring.remove(&token) {
                        let _ = down.send(reason);
                    }
                }
                NodeEffect::Result(token, result) => {
                    if let Some(answer) = self.calling.remove(&token) {
                        self.answers.push(Completion::Result(answer, result));
                    }
                }
            }
        }
        effects.shrink_to(limits::NODE_BATCH);
        self.effects = effects;
    }

    fn send_if_much(&mut self) {
        if self.gathered.bytes > limits::GATHERED || self.gathered.signals >= limits::NODE_BATCH {
            self.send();
        }
    }

    /// Hands what has gathered to the connections. One whose queue is full ends, which may be worth telling others.
    fn send(&mut self) {
        loop {
            stats::LINK_SENT_MESSAGES.add_size(std::mem::take(&mut self.gathered).signals);
            let waiting = self.links.iter_mut().filter(|(_, link)| !link.frames.is_empty());
            let full: Vec<(LinkId, QueueFull)> =
                waiting.filter_map(|(id, link)| Some((*id, link.sender.send(&mut link.frames).err()?))).collect();
            if full.is_empty() {
                break;
            }
            for (id, reason) in full {
                if let Some(link) = self.links.remove(&id) {
                    limited!(log_limit::NODES, info, peer = %link.peer, "node down: {reason}");
                }
                let reason = PeerReason::new("queue_full", reason.to_string());
                self.handle(NodeInput::LinkDown { link: id, reason, by_peer: false });
            }
        }
        self.show();
    }

    /// Shows what has changed, and then answers: whoever is told something finds it in the view.
    fn show(&mut self) {
        self.is_stale |= self.machine.take_changed();
        // A large view, made again after each small message, would use all the time.
        if self.is_stale && (self.pace.is_due(self.now.instant) || self.stopping.is_some()) {
            let begun = Instant::now();
            self.view.send_replace(Arc::new(self.seen()));
            self.is_stale = false;
            self.pace.took(Instant::now(), begun.elapsed());
        }
        if self.machine.take_groups_changed() {
            self.groups.send_replace(Arc::new(self.machine.groups()));
            self.memberships.touch();
        }
        self.memberships.show(&self.machine, self.now.instant);
        if !self.is_stale {
            self.answers.drain(..).for_each(Completion::send);
        }
    }

    /// What the machine tells, and whose the peers of this host are, which it need not know.
    fn seen(&self) -> View {
        let mut view = self.machine.view();
        for peer in view.peers.values_mut().filter(|peer| peer.is_up()) {
            peer.owner = self.links.get(&LinkId(peer.connection)).and_then(|link| link.owner);
        }
        view
    }

    fn dial(&mut self, name: NodeName) {
        let AttemptChannels { end, answered } = self.giving_way.begin(name.clone());
        let (dialer, local, inbox) = (self.dialer.clone(), self.local.clone(), self.inbox.clone());
        let dials = if dialer.is_here(&name) { self.dials_here.clone() } else { self.dials.clone() };
        tokio::spawn(async move {
            let still_wanted = async || {
                let (answer, answered) = oneshot::channel();
                inbox.send(NodeCommand::StillWanted(name.clone(), answer)).await.is_ok()
                    && answered.await.unwrap_or(false)
            };
            let attempt = async {
                // Never closed, so there is always a permit in the end.
                let _permit = dials.acquire_owned().await;
                dialer.dial(name.clone(), &local, &answered, still_wanted).await
            };
            let result = tokio::select! {
                result = attempt => result,
                Ok(()) = end => Err(SetupError::Handshake(HandshakeError::Simultaneous).into()),
            };
            let _ = inbox.send(NodeCommand::Dialled(name.clone(), result)).await;
        });
    }

    /// Removes the monitors that nobody waits for, each time that their number has doubled.
    fn sweep_monitors(&mut self) {
        if self.monitoring.len() < self.monitors_swept {
            return;
        }
        let dropped: Vec<Token> =
            self.monitoring.iter().filter(|(_, down)| down.is_closed()).map(|(token, _)| *token).collect();
        for token in dropped {
            self.monitoring.remove(&token);
            self.handle(NodeInput::Demonitor(token));
        }
        self.monitors_swept = MONITORS_SWEPT.max(2 * self.monitoring.len());
    }

    fn new_token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now() }
}
