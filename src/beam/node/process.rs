//! Our processes: who lives under which pid and name, who is told when one ends.
//!
//! Pure. A process is a behaviour that is run when a call comes; there are no mailboxes and no scheduling. What ends a
//! process from outside (`exit(Pid, kill)`, `gen_server:stop/1`) ends that life of it only: as under a supervisor, another
//! begins at once, with a pid of its own, under the same name and in the same groups.

use std::collections::{HashMap, HashSet};

use crate::dist::control::Proc;
use crate::etf::{Atom, AtomTooLong, Atoms, Pid, Raw, Reference, Term};
use crate::node::link_id::LinkId;

/// Names a process to our own side, through all its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub(super) u64);

/// Names a call that a peer makes, until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub(super) u64);

impl From<u64> for CallId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// Who calls one of our processes, or one of our functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What to give with a later answer.
    pub call: CallId,
    /// The node of the process that calls.
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
    /// One of them is too long for an atom.
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

/// Where a message comes from.
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
    /// This.
    Now(Term),
    /// It takes longer than the node's task may wait: it comes by the caller's [`CallId`].
    Later,
}

/// What a process of ours does, given by whoever had it spawned.
pub trait Behaviour: Send {
    /// Answers a `gen_server:call`. Runs in the node's task: it must return at once.
    fn call(&mut self, request: &Raw, caller: &Caller, atoms: &mut Atoms) -> Answer;

    /// Takes a message that is neither a call nor a cast; without a care for it, it is lost. Runs in the node's task: it must return
    /// at once.
    fn message(&mut self, _message: &Raw, _from: &Source, _atoms: &mut Atoms) {}

    /// Handles a `gen_server:cast`, and ignores it by default. Runs in the node's task: it must return at once.
    fn cast(&mut self, _request: &Raw, _from: &Source, _atoms: &mut Atoms) {}

    /// What `sys:get_state/1` shows.
    fn state(&self) -> Term;
}

/// The functions that peers can call by `erpc`, `rpc` and `spawn`, besides those that the node
/// answers about itself (`node::services::functions`). The node has no others.
pub trait Functions: Send {
    /// Calls `Module:Function(Args)`: none if there is no such function of so many arguments, an error if it doesn't take
    /// these (`badarg`). Runs in the node's task: it must return at once.
    fn call(
        &mut self,
        module: &Atom,
        function: &Atom,
        args: &[Term],
        caller: &Caller,
    ) -> Option<Result<Answer, BadArg>>;
}

/// A function was called with arguments that it doesn't take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the function does not take these arguments")]
pub struct BadArg;

/// What stands behind a pid.
pub(crate) enum Role {
    /// `net_kernel`.
    NetKernel,
    /// `rex`.
    Rex,
    /// `global_group`.
    GlobalGroup,
    /// The scope of process groups with this name.
    Scope(Atom),
    /// A process that was asked for.
    Behaviour(Box<dyn Behaviour>),
}

/// A peer's process that wants to know when one of ours ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watcher {
    /// Who asked.
    pub pid: Pid,
    /// Our process, in the words in which it asked for it.
    pub watched: Proc,
}

/// One process.
pub struct Process {
    /// Its pid.
    pub pid: Pid,
    /// The same for all its lives.
    pub id: ProcessId,
    /// The name that it is registered under.
    pub name: Option<Atom>,
    /// The groups that it is in, in every scope.
    pub groups: Vec<Term>,
    /// What it does.
    pub(crate) role: Role,
    /// Who monitors it, by the connection over which it asked, and its monitor.
    pub(crate) watchers: HashMap<(LinkId, Reference), Watcher>,
    /// Who is linked to it.
    pub links: HashSet<(LinkId, Pid)>,
}

/// All processes of the node.
pub struct Processes {
    node: Atom,
    creation: u32,
    /// Number of the last pid and of the last reference.
    last_pid: u64,
    last_reference: u64,
    last_id: u64,
    alive: HashMap<Pid, Process>,
    names: HashMap<Atom, Pid>,
    ids: HashMap<ProcessId, Pid>,
}

impl Processes {
    /// None yet, of this incarnation of the node.
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

    /// A new process, registered under `name` if that is given; a former holder of the name loses it.
    pub(crate) fn spawn(&mut self, role: Role, name: Option<Atom>, groups: Vec<Term>) -> &Process {
        self.last_id += 1;
        self.begin(ProcessId(self.last_id), role, name, groups)
    }

    /// The next life of a process that has ended.
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

    /// A pid of this node that was never given before. A process need not stand behind it for long, or at all.
    pub(crate) fn new_pid(&mut self) -> Pid {
        self.last_pid += 1;
        // As erts counts: 28 bits of the number, then the serial. Both fit every release's pids.
        let id = u32::try_from(self.last_pid & 0x0FFF_FFFF).unwrap_or(0);
        let serial = u32::try_from((self.last_pid >> 28) & 0x1FFF).unwrap_or(0);
        Pid { node: self.node.clone(), id, serial, creation: self.creation }
    }

    /// A process that has ended: its last words are for its watchers and links.
    pub fn end(&mut self, pid: &Pid) -> Option<Process> {
        let process = self.alive.remove(pid)?;
        // Another process may have registered the name.
        if let Some(name) = process.name.as_ref().filter(|name| self.names.get(*name) == Some(pid)) {
            self.names.remove(name);
        }
        self.ids.remove(&process.id);
        Some(process)
    }

    /// The pid of the life that a process has now.
    #[must_use]
    pub fn pid(&self, id: ProcessId) -> Option<&Pid> {
        self.ids.get(&id)
    }

    /// The process, if it lives. Pids of another incarnation of our name differ in their creation, so they are dead.
    pub fn get(&mut self, to: &Proc) -> Option<&mut Process> {
        match to {
            Proc::Pid(pid) => self.alive.get_mut(pid),
            Proc::Name(name) => self.alive.get_mut(self.names.get(name)?),
        }
    }

    /// The pid registered under a name.
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

    /// A reference of this node that was never given before.
    pub(crate) fn new_reference(&mut self) -> Reference {
        self.last_reference += 1;
        let word = |shift: u32, mask: u64| u32::try_from((self.last_reference >> shift) & mask).unwrap_or(0);
        // The first word has 18 bits in the releases before OTP 24.
        let ids = [word(0, 0x3_FFFF), word(18, 0xFFFF_FFFF), word(50, 0x3FFF)];
        Reference { node: self.node.clone(), creation: self.creation, ids: ids.into() }
    }
}
