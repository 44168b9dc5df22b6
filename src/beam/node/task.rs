//! The task that owns the node's state: handles commands, runs the machine, carries out its
//! effects.
//!
//! It never waits for a peer. Signals gather for each connection while the task handles the waiting
//! commands. Then it hands them to the connections, and closes each whose queue is full.

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
use crate::node::giving_way::Attempts;
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

/// If a batch of commands causes this many signals, the task looks for more commands before it
/// sends. Fewer means larger writes; more means that small batches are sent sooner.
const MANY_SIGNALS: u64 = 64;

/// How long the task looks for more commands before it sends. More means larger writes; less means
/// lower latency under load. [`limits::GATHERED`] bounds the bytes.
const GATHERING_TIME: Duration = Duration::from_millis(1);

/// The settings of a node.
pub struct NodeSettings {
    /// The name, creation, cookie and capabilities.
    pub identity: Identity,
    /// Connects to other nodes.
    pub dialer: Dialer,
    /// The scopes of process groups.
    pub scopes: Vec<Atom>,
    /// The groups of peers that are shown in the view.
    pub watched: Watched,
    /// The functions that peers can call.
    pub functions: Box<dyn Functions>,
    /// The program that runs the node, as tools show it.
    pub program: Program,
    /// A connection without input for this long is closed.
    pub tick_time: Duration,
    /// The memory limit for all peers, in bytes.
    pub peer_memory: usize,
}

/// Starts the node, which accepts connections from `listener`. The task ends after
/// [`Handle::stop`].
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
    let (inbox, commands) = mpsc::channel(limits::NODE_INBOX);
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
        attempts: Attempts::default(),
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
        task.run(commands).await;
        acceptor.abort();
    });
    (Handle { inbox, view, groups, tokens: Arc::default() }, running)
}

/// The task's end of a connection.
struct Link {
    sender: LinkSender,
    peer: NodeName,
    flags: Flags,
    /// The user that runs the peer, if it is on this host and its user is known.
    owner: Option<u32>,
    /// The source that its memory counts for.
    source: Source,
    holding: Arc<Holding>,
    /// The memory that the machine uses for the peer.
    kept: Charge,
    /// The gathered signals.
    frames: Frames,
    /// The permits of batches with unhandled messages.
    permits: Vec<Permit>,
    /// The name that this node assigned to the peer, if the peer had none. Dropping it frees the
    /// name.
    _given: Option<GivenName>,
}

/// Receives the result of an attempt to connect.
type Waiting = oneshot::Sender<Result<(), Arc<DialError>>>;

struct Task {
    machine: Machine,
    local: Arc<Identity>,
    dialer: Arc<Dialer>,
    /// Bounds the attempts to connect to other hosts.
    dials: Arc<Semaphore>,
    /// Bounds the attempts to connect to this host, which do not wait for those to other hosts.
    dials_here: Arc<Semaphore>,
    attempts: Attempts,
    tick_time: Duration,
    /// The memory budget of all connections.
    budget: Arc<Budget>,
    inbox: mpsc::Sender<NodeCommand>,
    links: BTreeMap<LinkId, Link>,
    /// The number of connections whose tasks have not ended.
    open: usize,
    last_link: u64,
    connecting: HashMap<NodeName, Vec<Waiting>>,
    replies: Replies,
    memberships: Memberships,
    view: watch::Sender<Arc<View>>,
    /// Whether the view has changed since it was last shown.
    is_stale: bool,
    pace: Pace,
    /// Separate from the view, so that a process that joins a group does not wake the view's
    /// readers.
    groups: watch::Sender<Arc<Groups>>,
    stopping: Option<oneshot::Sender<()>>,
    /// Always empty; keeps its memory for reuse.
    effects: Vec<NodeEffect>,
    /// The size of all signals that wait in `links`.
    gathered: Gathered,
    /// The number of signals since the start.
    signals: u64,
    /// The time of the current batch.
    now: Now,
}

#[derive(Default)]
struct Gathered {
    signals: usize,
    bytes: usize,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<NodeCommand>) {
        let mut batch = Vec::new();
        let budget = self.budget.clone();
        loop {
            let shown_at = self.pace.due().filter(|_| self.is_stale);
            let deadlines = [self.machine.next_deadline(), shown_at, self.memberships.next_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                received = commands.recv_many(&mut batch, limits::NODE_BATCH) => {
                    if received == 0 {
                        return;
                    }
                    let begun = Instant::now();
                    loop {
                        let before = self.signals;
                        self.handle_batch(&mut batch);
                        // After many signals or an answer, more commands usually follow soon. One
                        // large write costs a peer far less than many small ones.
                        let more = self.replies.has_ready() || self.signals - before >= MANY_SIGNALS;
                        if !more || begun.elapsed() >= GATHERING_TIME {
                            break;
                        }
                        self.show();
                        yield_now().await;
                        if commands.is_empty() {
                            break;
                        }
                        commands.recv_many(&mut batch, limits::NODE_BATCH).await;
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

    fn handle_batch(&mut self, commands: &mut Vec<NodeCommand>) {
        self.now = now();
        for command in commands.drain(..) {
            self.handle_command(command);
            self.keep_to_budget();
            self.send_if_much();
        }
    }

    fn handle_command(&mut self, command: NodeCommand) {
        let input = match command {
            NodeCommand::Link(id, arrival, permit) => return self.handle_arrival(id, arrival, permit),
            NodeCommand::Accepting { name, answer } => {
                let status =
                    if self.stopping.is_some() { Status::NotAllowed } else { self.machine.accept_status(&name) };
                if status == Status::OkSimultaneous {
                    self.attempts.give_way(&name);
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

    /// Passes an input to the machine and carries out the effects. Signals are gathered, not sent.
    fn handle(&mut self, input: NodeInput) {
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.handle(self.now, input, &mut effects);
        self.carry_out(effects);
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now() }
}
