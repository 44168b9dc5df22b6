//! Our processes: their pids, names, groups, monitors and links. Pure.
//!
//! A process is a behaviour that runs when a message arrives; there are no mailboxes and no
//! scheduling. A process that a peer ends (`exit(Pid, kill)`, `gen_server:stop/1`) restarts at
//! once, as under a supervisor, with a new pid and the same name and groups.

use std::collections::{HashMap, HashSet};

use crate::dist::control::Proc;
use crate::etf::{Atom, AtomTooLong, Atoms, Pid, Raw, Reference, Term};
use crate::node::link_id::LinkId;

/// Identifies one of our processes, also after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub(super) u64);

/// Identifies a peer's call until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub(super) u64);

impl From<u64> for CallId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// The caller of one of our processes or functions.
///
/// It has no pid: the node sends the answer itself. After [`Answer::Later`], pass `call` to
/// [`Node::reply`](crate::Node::reply).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Identifies the call in a later answer.
    pub call: CallId,
    /// The node of the calling process.
    pub node: Atom,
}

/// A process of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// The process with this pid.
    Pid(Pid),
    /// The process that has this registered name when a signal arrives, as `{Name, Node}`.
    Name {
        /// The name.
        name: Atom,
        /// The full name of the node.
        node: Atom,
    },
}

impl Address {
    /// Returns the address `{Name, Node}`.
    ///
    /// # Errors
    /// A name is too long for an atom.
    pub fn name(name: &str, node: &str) -> Result<Self, AtomTooLong> {
        Ok(Self::Name { name: Atom::new(name)?, node: Atom::new(node)? })
    }

    /// Returns the node, and the process on it.
    pub(super) fn into_parts(self) -> (Atom, Proc) {
        match self {
            Self::Pid(pid) => (pid.node.clone(), Proc::Pid(pid)),
            Self::Name { name, node } => (node, Proc::Name(name)),
        }
    }
}

impl From<Pid> for Address {
    fn from(pid: Pid) -> Self {
        Self::Pid(pid)
    }
}

/// The origin of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The node.
    pub node: Atom,
    /// The number of the connection to it.
    pub connection: u64,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The answer.
    Now(Term),
    /// The answer follows later, with the caller's [`CallId`], because the node's task cannot wait.
    Later,
}

/// The code of a process, which the program passes when it spawns one.
pub trait Behaviour: Send {
    /// Answers a `gen_server:call`. Runs in the node's task, so it must return at once.
    fn call(&mut self, request: &Raw, caller: &Caller, atoms: &mut Atoms) -> Answer;

    /// Handles a message that is neither a call nor a cast, and ignores it by default. Runs in the
    /// node's task, so it must return at once.
    fn message(&mut self, _message: &Raw, _from: &Source, _atoms: &mut Atoms) {}

    /// Handles a `gen_server:cast`, and ignores it by default. Runs in the node's task, so it must
    /// return at once.
    fn cast(&mut self, _request: &Raw, _from: &Source, _atoms: &mut Atoms) {}

    /// Returns the state that `sys:get_state/1` shows.
    fn state(&self) -> Term;
}

/// The functions that peers can call by `erpc`, `rpc` and `spawn`, in addition to the functions
/// that describe the node (`node::services::functions`). Peers can call no other functions.
pub trait Functions: Send {
    /// Calls `Module:Function(Args)`. Returns `None` if there is no function with this name and
    /// arity. Runs in the node's task, so it must return at once.
    ///
    /// # Errors
    /// [`BadArg`] if the function does not accept these arguments.
    fn call(
        &mut self,
        module: &Atom,
        function: &Atom,
        args: &[Term],
        caller: &Caller,
    ) -> Option<Result<Answer, BadArg>>;
}

/// A function was called with arguments that it does not accept (`badarg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the function does not accept these arguments")]
pub struct BadArg;

/// The kind of a process.
pub(crate) enum Role {
    /// `net_kernel`.
    NetKernel,
    /// `rex`.
    Rex,
    /// `global_group`.
    GlobalGroup,
    /// The scope of process groups with this name.
    Scope(Atom),
    /// A process that the program has spawned.
    Behaviour(Box<dyn Behaviour>),
}

/// A peer's process that monitors a process of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watcher {
    /// The monitoring process.
    pub pid: Pid,
    /// Our process, by the pid or name that the monitor was created with.
    pub watched: Proc,
}

/// One process.
pub struct Process {
    /// Its pid.
    pub pid: Pid,
    /// Stays the same after a restart.
    pub id: ProcessId,
    /// Its registered name.
    pub name: Option<Atom>,
    /// The groups that it is in, in every scope.
    pub groups: Vec<Term>,
    /// Its kind and code.
    pub(crate) role: Role,
    /// The processes that monitor it, by connection and monitor reference.
    pub(crate) watchers: HashMap<(LinkId, Reference), Watcher>,
    /// The processes that are linked to it, each with its connection.
    pub links: HashSet<(LinkId, Pid)>,
}

/// All processes of the node.
pub struct Processes {
    node: Atom,
    creation: u32,
    /// The numbers of the last pid, the last reference and the last id.
    last_pid: u64,
    last_reference: u64,
    last_id: u64,
    alive: HashMap<Pid, Process>,
    names: HashMap<Atom, Pid>,
    ids: HashMap<ProcessId, Pid>,
}

impl Processes {
    /// Creates an empty table for this incarnation of the node.
    #[must_use]
    pub fn new(node: Atom, creation: u32) -> Self {
        Self {
            node,
            creation,
            last_pid: 0,
            last_reference: 0,
            last_id: 0,
            alive: HashMap::new(),
            names: HashMap::new(),
            ids: HashMap::new(),
        }
    }

    /// Spawns a process and registers it under `name`, if any. A process that has the name loses
    /// it.
    pub(crate) fn spawn(&mut self, role: Role, name: Option<Atom>, groups: Vec<Term>) -> &Process {
        self.last_id += 1;
        self.begin(ProcessId(self.last_id), role, name, groups)
    }

    /// Restarts a process that has ended.
    pub(crate) fn respawn(&mut self, ended: Process) -> &Process {
        self.begin(ended.id, ended.role, ended.name, ended.groups)
    }

    fn begin(&mut self, id: ProcessId, role: Role, name: Option<Atom>, groups: Vec<Term>) -> &Process {
        let pid = self.new_pid();
        if let Some(name) = &name {
            self.names.insert(name.clone(), pid.clone());
        }
        self.ids.insert(id, pid.clone());
        let (watchers, links) = (HashMap::new(), HashSet::new());
        let process = Process { pid: pid.clone(), id, name, groups, role, watchers, links };
        self.alive.entry(pid).insert_entry(process).into_mut()
    }

    /// Returns a new pid of this node. It need not belong to a process.
    pub(crate) fn new_pid(&mut self) -> Pid {
        self.last_pid += 1;
        // As in ERTS, the number has 28 bits, and the rest is the serial. Both fit the pids of
        // every release.
        let id = u32::try_from(self.last_pid & 0x0FFF_FFFF).unwrap_or(0);
        let serial = u32::try_from((self.last_pid >> 28) & 0x1FFF).unwrap_or(0);
        Pid { node: self.node.clone(), id, serial, creation: self.creation }
    }

    /// Removes a process and returns it, so that its watchers and links can be notified.
    pub fn end(&mut self, pid: &Pid) -> Option<Process> {
        let process = self.alive.remove(pid)?;
        // Another process may have registered the name.
        if let Some(name) = process.name.as_ref().filter(|name| self.names.get(*name) == Some(pid)) {
            self.names.remove(name);
        }
        self.ids.remove(&process.id);
        Some(process)
    }

    /// Returns the current pid of a process.
    #[must_use]
    pub fn pid(&self, id: ProcessId) -> Option<&Pid> {
        self.ids.get(&id)
    }

    /// Returns the process, if it is alive. A pid of another incarnation of the node has another
    /// creation and is never found.
    pub fn get(&mut self, to: &Proc) -> Option<&mut Process> {
        match to {
            Proc::Pid(pid) => self.alive.get_mut(pid),
            Proc::Name(name) => self.alive.get_mut(self.names.get(name)?),
        }
    }

    /// Returns the pid that is registered under a name.
    #[must_use]
    pub fn whereis(&self, name: &str) -> Option<&Pid> {
        self.names.get(name)
    }

    /// Returns all registered names, in any order.
    pub fn names(&self) -> impl Iterator<Item = &Atom> {
        self.names.keys()
    }

    /// Returns the name of the node.
    #[must_use]
    pub fn node(&self) -> &Atom {
        &self.node
    }

    /// Returns the pids of all processes, in any order.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        self.alive.keys().cloned().collect()
    }

    /// Returns the number of processes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.alive.len()
    }

    /// Returns the process with this pid, if it is alive.
    #[must_use]
    pub fn find(&self, pid: &Pid) -> Option<&Process> {
        self.alive.get(pid)
    }

    /// Returns a new reference of this node.
    pub(crate) fn new_reference(&mut self) -> Reference {
        self.last_reference += 1;
        let word = |shift: u32, mask: u64| u32::try_from((self.last_reference >> shift) & mask).unwrap_or(0);
        // The first word has 18 bits in the releases before OTP 24.
        let ids = [word(0, 0x3_FFFF), word(18, 0xFFFF_FFFF), word(50, 0x3FFF)];
        Reference { node: self.node.clone(), creation: self.creation, ids: ids.into() }
    }
}
