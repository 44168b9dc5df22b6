//! The functions that describe the node. The tools of Erlang/OTP call them on every node of
//! `nodes()`. One table serves `erpc`, `rpc`, `spawn` and `rex`. Pure.
//!
//! An answer describes this node, or reports that the node has nothing of the kind. No code runs.
//! The cost is proportional to the size of the answer, which the state of the machine bounds. All
//! other functions are undefined, except those of [`Functions`](crate::node::process::Functions).
//! `docs/tools.md` has the same table. The results match the modules `erlang`, `code`,
//! `application` and `net_kernel` (ERTS and kernel reference manuals).

use std::time::Duration;

use crate::etf::{Atom, Pid, Term};
use crate::limits;
use crate::node::process::{BadArg, Process, Processes};

/// The oldest release of OTP whose protocol we speak, as `erlang:system_info(otp_release)` returns
/// it.
const OTP_RELEASE: &str = "25";

/// The highest arity in the table.
const MAX_ARITY: usize = 3;

/// The functions of `observer_backend` that the tabs "Ports" and "Sockets" of `observer` call.
const OBSERVER_LISTS: [&str; 3] = ["get_port_list", "get_socket_list", "socket_info"];

/// The program that runs the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name, as `erlang:system_info(machine)` returns it; Erlang/OTP returns `BEAM`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The facts about the node from which the answers are made.
pub struct Known<'a> {
    /// Returns the connected nodes that are not hidden, in any order.
    pub nodes: &'a dyn Fn() -> Vec<Atom>,
    /// Its processes.
    pub processes: &'a Processes,
    /// The program.
    pub program: Program,
    /// Its `net_ticktime`.
    pub tick_time: Duration,
    /// Returns the resident memory of the operating system's process, in bytes.
    pub memory: fn() -> Option<u64>,
}

/// Why a function that exists has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It does not accept these arguments.
    BadArg,
    /// The node does not know the answer.
    Unknown,
    /// The node does not attempt it.
    NotTried,
}

impl From<BadArg> for Refused {
    fn from(_: BadArg) -> Self {
        Self::BadArg
    }
}

impl Known<'_> {
    /// Calls `Module:Function(Args)`. Returns `None` if there is no such function.
    #[must_use]
    pub fn call(&self, module: &Atom, function: &Atom, args: &[Term]) -> Option<Result<Term, Refused>> {
        Some(match (module.as_str(), function.as_str(), args) {
            ("erlang", "node", []) => Ok(Term::Atom(self.processes.node().clone())),
            // Daemons find each other's peers with this call.
            ("erlang", "nodes", []) => Ok(sorted((self.nodes)())),
            ("erlang", "registered", []) => Ok(sorted(self.processes.names().cloned().collect())),
            ("erlang", "processes", []) => Ok(self.pids()),
            ("erlang", "whereis", [name]) => self.whereis(name),
            ("erlang", "is_process_alive", [pid]) => self.local(pid).map(|process| boolean(process.is_some())),
            ("erlang", "process_info", [pid]) => self.local(pid).map(|process| or_undefined(process.map(summary))),
            ("erlang", "process_info", [pid, items]) => self.process_info(pid, items),
            ("erlang", "system_info", [item]) => self.system_info(item),
            ("erlang", "memory", []) => self.memory(),
            ("net_kernel", "get_net_ticktime", []) => Ok(integer(self.tick_time.as_secs())),
            // The node has no code. This answer ends a remote shell.
            ("code", "ensure_loaded", [Term::Atom(_)]) => Ok(pair("error", Term::atom("nofile"))),
            ("code", "ensure_loaded", [_]) => Err(Refused::BadArg),
            ("code", "all_loaded", []) => Ok(Term::List(Vec::new())),
            // Without a pid, no shell starts. This exit reason is not reported as a crash.
            ("shell", "start", []) => Ok(pair("shutdown", Term::atom("nofile"))),
            ("erlang", "function_exported", [module, function, arity]) => self.is_exported(module, function, arity),
            // The node has no ports and no sockets of Erlang.
            ("observer_backend", function, []) if OBSERVER_LISTS.contains(&function) => Ok(Term::List(Vec::new())),
            ("observer_backend", "get_table_list", [kind, _]) => self.tables(kind),
            ("observer_backend", "sys_info", []) => self.sys_info(),
            // Its callers handle a refused call, and crash if the function is undefined.
            ("observer_backend", _, _) => Err(Refused::NotTried),
            ("application", "which_applications", []) => Ok(Term::List(Vec::new())),
            ("application", "get_env", [_, _]) => Ok(Term::atom("undefined")),
            ("application", "get_env", [_, _, default]) => Ok(default.clone()),
            _ => return None,
        })
    }

    /// Returns whether a function is in the table. `observer` calls this for the functions that
    /// list ports and sockets, and exits unless the result is a boolean.
    fn is_exported(&self, module: &Term, function: &Term, arity: &Term) -> Result<Term, Refused> {
        let (Term::Atom(module), Term::Atom(function), Term::Int(arity @ 0..)) = (module, function, arity) else {
            return Err(Refused::BadArg);
        };
        // For these functions, only the number of arguments matters here.
        let args = [const { Term::List(Vec::new()) }; MAX_ARITY];
        let args = usize::try_from(*arity).ok().and_then(|arity| args.get(..arity));
        let answer = args.and_then(|args| self.call(module, function, args));
        Ok(boolean(!matches!(answer, None | Some(Err(Refused::NotTried)))))
    }

    fn pids(&self) -> Term {
        let mut pids = self.processes.pids();
        pids.sort_unstable();
        Term::List(pids.into_iter().map(Term::Pid).collect())
    }

    fn whereis(&self, name: &Term) -> Result<Term, Refused> {
        let Term::Atom(name) = name else { return Err(Refused::BadArg) };
        Ok(or_undefined(self.processes.whereis(name.as_str()).cloned().map(Term::Pid)))
    }

    /// Returns the process, or `None` if it has ended. Returns an error if the term is not a pid of
    /// this node.
    fn local(&self, pid: &Term) -> Result<Option<&Process>, Refused> {
        match pid {
            Term::Pid(pid) if pid.node == *self.processes.node() => Ok(self.processes.find(pid)),
            _ => Err(Refused::BadArg),
        }
    }

    fn process_info(&self, pid: &Term, items: &Term) -> Result<Term, Refused> {
        let process = self.local(pid)?;
        let of = |item: &Term| match process {
            Some(process) => Ok(Term::tuple([item.clone(), value(process, item)?])),
            None => Ok(Term::atom("undefined")),
        };
        match (items, process) {
            (Term::List(_), None) => Ok(Term::atom("undefined")),
            (Term::List(items), Some(_)) if items.len() <= limits::PROCESS_ITEMS => {
                Ok(Term::List(items.iter().map(of).collect::<Result<_, Refused>>()?))
            }
            // For a process without a name, a single `registered_name` returns `[]`, not a pair.
            (item, Some(process)) if *item == Term::atom("registered_name") && process.name.is_none() => {
                Ok(Term::List(Vec::new()))
            }
            (item, _) => of(item),
        }
    }

    fn system_info(&self, item: &Term) -> Result<Term, Refused> {
        let Term::Atom(item) = item else { return Err(Refused::BadArg) };
        Ok(match item.as_str() {
            "otp_release" => Term::string(OTP_RELEASE),
            "machine" => Term::string(self.program.name),
            "system_version" => {
                let Program { name, version } = self.program;
                Term::string(&format!("{name} {version}, which runs no Erlang code\n"))
            }
            "process_count" => integer(u64::try_from(self.processes.count()).unwrap_or(u64::MAX)),
            "port_count" | "ets_count" => Term::Int(0),
            "wordsize" => integer(u64::from(usize::BITS / 8)),
            _ => return Err(Refused::BadArg),
        })
    }

    /// Returns what `observer_backend:get_table_list/2` returns on a node without tables.
    fn tables(&self, kind: &Term) -> Result<Term, Refused> {
        match kind {
            Term::Atom(kind) if kind.as_str() == "ets" => Ok(Term::List(Vec::new())),
            Term::Atom(kind) if kind.as_str() == "mnesia" => {
                let text = format!("Mnesia is not running on: {}", self.processes.node().as_str());
                Ok(Term::tuple([Term::atom("error"), Term::string(&text)]))
            }
            _ => Err(Refused::BadArg),
        }
    }

    /// Returns those items of `observer_backend:sys_info/0` that apply to this node.
    fn sys_info(&self) -> Result<Term, Refused> {
        let Term::List(memory) = self.memory()? else { return Err(Refused::Unknown) };
        // `observer` divides by the total size of the allocators, which is 0 if the list is empty.
        // It skips an allocator that is disabled.
        let mut items = vec![pair("alloc_info", Term::List(vec![pair("eheap_alloc", Term::atom("false"))]))];
        for item in ["otp_release", "process_count", "port_count", "ets_count"] {
            items.push(pair(item, self.system_info(&Term::atom(item))?));
        }
        for item in ["wordsize_internal", "wordsize_external"] {
            items.push(pair(item, self.system_info(&Term::atom("wordsize"))?));
        }
        items.extend(memory);
        Ok(Term::List(items))
    }

    /// Returns the result of `erlang:memory/0`. All memory counts as `system`, because no code
    /// runs.
    fn memory(&self) -> Result<Term, Refused> {
        let total = integer((self.memory)().ok_or(Refused::Unknown)?);
        let none = ["processes", "processes_used", "atom", "atom_used", "binary", "code", "ets"];
        let mut kinds = vec![pair("total", total.clone()), pair("system", total)];
        kinds.extend(none.map(|kind| pair(kind, Term::Int(0))));
        Ok(Term::List(kinds))
    }
}

/// Returns the result of `process_info/1`.
fn summary(process: &Process) -> Term {
    const ITEMS: [&str; 16] = [
        "current_function",
        "initial_call",
        "status",
        "message_queue_len",
        "links",
        "dictionary",
        "trap_exit",
        "error_handler",
        "priority",
        "group_leader",
        "total_heap_size",
        "heap_size",
        "stack_size",
        "reductions",
        "garbage_collection",
        "suspending",
    ];
    let name = process.name.as_ref().map(|name| pair("registered_name", Term::Atom(name.clone())));
    let item = |item| Some(pair(item, value(process, &Term::atom(item)).ok()?));
    Term::List(name.into_iter().chain(ITEMS.into_iter().filter_map(item)).collect())
}

/// Returns one item of `process_info/2`. Our processes have no code, no heap and no mailbox.
fn value(process: &Process, item: &Term) -> Result<Term, Refused> {
    let item = match item {
        Term::Atom(item) => item.as_str(),
        Term::Tuple(of) => match of.as_slice() {
            [dictionary, _] if *dictionary == Term::atom("dictionary") => return Ok(Term::atom("undefined")),
            _ => return Err(Refused::BadArg),
        },
        _ => return Err(Refused::BadArg),
    };
    let pids = |pids: &mut dyn Iterator<Item = &Pid>| {
        Term::List(pids.take(limits::PROCESS_TIES).cloned().map(Term::Pid).collect())
    };
    Ok(match item {
        "registered_name" => process.name.clone().map_or(Term::List(Vec::new()), Term::Atom),
        "initial_call" => match &process.name {
            Some(name) => Term::tuple([Term::Atom(name.clone()), Term::atom("init"), Term::Int(1)]),
            None => Term::tuple([Term::atom("gen_server"), Term::atom("init_it"), Term::Int(6)]),
        },
        "status" => Term::atom("waiting"),
        "priority" => Term::atom("normal"),
        "trap_exit" => Term::atom("true"),
        "last_calls" => Term::atom("false"),
        // Each process is its own group leader, and declines I/O requests as all of our processes
        // do.
        "group_leader" => Term::Pid(process.pid.clone()),
        "links" => pids(&mut process.links.iter().map(|(_, pid)| pid)),
        "monitored_by" => pids(&mut process.watchers.values().map(|watcher| &watcher.pid)),
        "current_function" | "error_handler" | "label" | "parent" => Term::atom("undefined"),
        "messages"
        | "dictionary"
        | "monitors"
        | "suspending"
        | "binary"
        | "current_stacktrace"
        | "garbage_collection"
        | "sequential_trace_token" => Term::List(Vec::new()),
        "message_queue_len" | "heap_size" | "total_heap_size" | "stack_size" | "memory" | "reductions"
        | "catchlevel" | "trace" => Term::Int(0),
        _ => return Err(Refused::BadArg),
    })
}

/// Returns whether to refuse to spawn this function. `dbg` waits for a message from the process. It
/// notices a refusal, but not the end of the process.
#[must_use]
pub(crate) fn is_never_spawned(module: &Atom, function: &Atom) -> bool {
    (module.as_str(), function.as_str()) == ("dbg", "do_relay")
}

fn sorted(mut atoms: Vec<Atom>) -> Term {
    atoms.sort_unstable();
    Term::List(atoms.into_iter().map(Term::Atom).collect())
}

fn pair(key: &'static str, value: Term) -> Term {
    Term::tuple([Term::atom(key), value])
}

fn or_undefined(term: Option<Term>) -> Term {
    term.unwrap_or_else(|| Term::atom("undefined"))
}

fn boolean(value: bool) -> Term {
    Term::atom(if value { "true" } else { "false" })
}

fn integer(number: u64) -> Term {
    Term::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
