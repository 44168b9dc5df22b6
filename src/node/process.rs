//! Our processes: who lives under which pid and name, who is told when one ends.
//!
//! Pure. A process is a behaviour that answers calls at once; there are no mailboxes, no scheduling and nothing to wait
//! for.

use std::collections::{HashMap, HashSet};

use crate::dist::control::Proc;
use crate::etf::{Atom, Atoms, Pid, Raw, Reference, Term};
use crate::node::machine::LinkId;

/// What a process of ours does, given by whoever had it spawned.
pub trait Behaviour: Send {
    /// Answers a `gen_server:call`. Runs in the node's task: it must return at once.
    fn call(&mut self, request: &Raw, atoms: &mut Atoms) -> Term;
}

/// What stands behind a pid.
pub enum Role {
    /// `net_kernel`.
    NetKernel,
    /// `rex`.
    Rex,
    /// The scope of process groups with this name.
    Scope(Atom),
    /// A process that was asked for.
    Behaviour(Box<dyn Behaviour>),
}

/// A peer's process that wants to know when one of ours ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Who asked.
    pub pid: Pid,
    /// Our process, in the words in which it asked for it.
    pub watched: Proc,
}

/// One process.
pub struct Process {
    /// Its pid.
    pub pid: Pid,
    /// What it does.
    pub role: Role,
    /// Who monitors it, by the connection over which it asked, and its monitor.
    pub watchers: HashMap<(LinkId, Reference), Watcher>,
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
    alive: HashMap<Pid, Process>,
    names: HashMap<Atom, Pid>,
}

impl Processes {
    /// None yet, of this incarnation of the node.
    #[must_use]
    pub fn new(node: Atom, creation: u32) -> Self {
        Self { node, creation, last_pid: 0, last_reference: 0, alive: HashMap::new(), names: HashMap::new() }
    }

    /// A new process.
    pub fn spawn(&mut self, role: Role) -> Pid {
        self.last_pid += 1;
        // As erts counts: 28 bits of the number, then the serial. Both fit every release's pids.
        let id = u32::try_from(self.last_pid & 0x0FFF_FFFF).unwrap_or(0);
        let serial = u32::try_from((self.last_pid >> 28) & 0x1FFF).unwrap_or(0);
        let pid = Pid { node: self.node.clone(), id, serial, creation: self.creation };
        let process = Process { pid: pid.clone(), role, watchers: HashMap::new(), links: HashSet::new() };
        self.alive.insert(pid.clone(), process);
        pid
    }

    /// Registers a name for a process that lives; the name's former process loses it.
    pub fn register(&mut self, name: Atom, pid: Pid) {
        self.names.insert(name, pid);
    }

    /// A process that has ended: its last words are for its watchers and links.
    pub fn end(&mut self, pid: &Pid) -> Option<Process> {
        self.names.retain(|_, named| named != pid);
        self.alive.remove(pid)
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

    /// All processes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.alive.values_mut()
    }

    /// The pids of all processes.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        self.alive.keys().cloned().collect()
    }

    /// A reference of this node that was never given before.
    pub fn new_reference(&mut self) -> Reference {
        self.last_reference += 1;
        let word = |shift: u32, mask: u64| u32::try_from((self.last_reference >> shift) & mask).unwrap_or(0);
        // The first word has 18 bits in the releases before OTP 24.
        let ids = [word(0, 0x3_FFFF), word(18, 0xFFFF_FFFF), word(50, 0x3FFF)];
        Reference { node: self.node.clone(), creation: self.creation, ids: ids.into() }
    }
}
