//! The owner of the node's state: takes events, runs the machine, carries out its effects.
//!
//! It never waits for a peer. What there is to send gathers, a connection each, while events that have come already, or are about
//! to, are taken; then it is handed on, and a connection that can't take it is closed.

mod links;
mod output;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep_until;

use crate::connect::dial::{DialError, Dialer};
use crate::connect::owners::user_of_end;
use crate::dist::budget::{Budget, Charge, Holding};
use crate::dist::flags::Flags;
use crate::dist::frames::Frames;
use crate::dist::given_names::GivenName;
use crate::dist::handshake::{Identity, Status};
use crate::dist::link::LinkSender;
use crate::etf::Atom;
use crate::fair::Source;
use crate::limits;
use crate::name::NodeName;
use crate::node::accept;
use crate::node::event::{NodeCommand, Permit};
use crate::node::giving_way::GivingWay;
use crate::node::handle::Handle;
use crate::node::link_id::LinkId;
use crate::node::machine::{Machine, NodeEffect, NodeInput, Parts};
use crate::node::memberships::Memberships;
use crate::node::memory;
use crate::node::now::Now;
use crate::node::pace::Pace;
use crate::node::process::Functions;
use crate::node::replies::{Ready, Replies};
use crate::node::services::functions::Program;
use crate::node::services::pg::Watched;
use crate::node::view::{Groups, View};

// ---- Tuning constants -----------------------------------------------------------------------

/// Signals in one batch of events from which the task looks for more events before it sends. Fewer
/// means larger writes; more means that small batches go out sooner.
const MANY_SIGNALS: u64 = 64;

/// How long the task looks for more events before it sends. More means larger writes; less means
/// lower latency under load. [`limits::GATHERED`] bounds the bytes.
const GATHERING_TIME: Duration = Duration::from_millis(1);

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
        connecting: HashMap::new(),
        replies: Replies::default(),
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
    (Handle { inbox, view, groups, tokens: Arc::default() }, running)
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
    connecting: HashMap<NodeName, Vec<Waiting>>,
    replies: Replies,
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
                        let more = self.replies.has_ready() || self.signals - before >= MANY_SIGNALS;
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

    fn take(&mut self, event: NodeCommand) {
        let input = match event {
            NodeCommand::Link(id, arrival, permit) => return self.arrived(id, arrival, permit),
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
                    self.replies.ready([Ready::Dialled(answer, Ok(()))]);
                    return;
                }
                self.connecting.entry(name.clone()).or_default().push(answer);
                NodeInput::Connect(name)
            }
            NodeCommand::Operation(operation) => operation,
            NodeCommand::Request(operation, token, reply) => {
                for dropped in self.replies.sweep() {
                    self.handle(NodeInput::Demonitor(dropped));
                }
                self.replies.wait(token, reply);
                operation
            }
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

    /// Tells the machine, and carries out what it wants done; but what it wants sent only gathers.
    fn handle(&mut self, input: NodeInput) {
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.handle(self.now, input, &mut effects);
        self.carry_out(effects);
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now() }
}
