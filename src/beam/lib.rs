//! A BEAM node for Rust programs. It joins a cluster of Erlang, Elixir or Gleam nodes over the
//! distribution protocol, calls their processes and functions, and offers its own processes and
//! functions.
//!
//! # Quick start
//!
//! In `Cargo.toml`, the package is `beam-node`, its library is `beam`, and the program runs on tokio:
//!
//! ```toml
//! [dependencies]
//! beam-node = { path = "…/src/beam" }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```
//!
//! A program starts a node with [`Node::builder`] and keeps its handle, [`Node`]. The node runs
//! until [`Node::stop`]. This program runs two nodes; the second could also be an Erlang node,
//! started with `erl -sname caller@localhost -setcookie secret`.
//!
//! ```
//! use beam::{Answer, BadArg, Caller, GenServer, Node, Term};
//!
//! /// A process that answers each call with the request.
//! struct Echo;
//!
//! impl GenServer for Echo {
//!     fn handle_call(&mut self, request: Term, _from: &Caller) -> Answer {
//!         Answer::Now(request)
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let epmd = 28_000 + u16::try_from(std::process::id() % 2_000)?;
//!     let builder = Node::builder("echo@localhost", "secret").function("echo", "size", 1, |args| match args {
//!         [Term::Binary(bytes)] => i64::try_from(bytes.len()).map(Term::Int).map_err(|_| BadArg),
//!         _ => Err(BadArg),
//!     });
//! #     let builder = builder.epmd_port(epmd);
//!     let node = builder.start().await?;
//!     node.process(Echo).name("echo").group(Term::atom("echoes")).spawn().await?;
//!
//!     // In Erlang: gen_server:call({echo, 'echo@localhost'}, hello).
//!     let builder = Node::builder("caller@localhost", "secret");
//! #     let builder = builder.epmd_port(epmd);
//!     let caller = builder.start().await?;
//!     caller.connect("echo@localhost").await?;
//!     assert_eq!(caller.call("echo@localhost", "echo", Term::atom("hello")).await?, Term::atom("hello"));
//!     // In Erlang: erpc:call('echo@localhost', echo, size, [<<"hello">>]).
//!     assert_eq!(caller.erpc("echo@localhost", "echo", "size", [Term::binary("hello")]).await?, Term::Int(5));
//!
//!     node.stop().await;
//!     caller.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! A callback must return at once, because it runs in the node's task. A process that needs longer
//! returns [`Answer::Later`], and the program replies when it has the result:
//!
//! ```
//! use beam::{Answer, CallId, Caller, GenServer, Node, Term};
//! use tokio::sync::mpsc;
//!
//! /// A process that passes each call to a task.
//! struct Slow(mpsc::Sender<(CallId, Term)>);
//!
//! impl GenServer for Slow {
//!     fn handle_call(&mut self, request: Term, from: &Caller) -> Answer {
//!         match self.0.try_send((from.call, request)) {
//!             Ok(()) => Answer::Later,
//!             Err(_) => Answer::Now(Term::tuple([Term::atom("error"), Term::atom("busy")])),
//!         }
//!     }
//! }
//!
//! async fn serve(node: Node) -> Result<(), Box<dyn std::error::Error>> {
//!     let (calls, mut waiting) = mpsc::channel(16);
//!     node.process(Slow(calls)).name("slow").spawn().await?;
//!     while let Some((call, request)) = waiting.recv().await {
//!         // Work that takes long, such as a query.
//!         node.reply(call, request).await?;
//!     }
//!     Ok(())
//! }
//! #
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let epmd = 30_000 + u16::try_from(std::process::id() % 2_000)?;
//! #     let node = Node::builder("slow@localhost", "secret").epmd_port(epmd).start().await?;
//! #     let caller = Node::builder("asker@localhost", "secret").epmd_port(epmd).start().await?;
//! #     caller.connect("slow@localhost").await?;
//! #     tokio::spawn(async move { serve(node).await.map_err(|e| e.to_string()) });
//! #     // The process may not run yet.
//! #     let answer = loop {
//! #         match caller.call("slow@localhost", "slow", Term::atom("hello")).await {
//! #             Err(beam::RequestError::Call(beam::CallError::NoProcess)) => tokio::task::yield_now().await,
//! #             answer => break answer?,
//! #         }
//! #     };
//! #     assert_eq!(answer, Term::atom("hello"));
//! #     Ok(())
//! # }
//! ```
//!
//! The directory `examples` has programs for use with Erlang nodes: `ping`, `gen_server`, `pg` and `erpc`.
//!
//! # Names, processes, errors and logs
//!
//! - **Names**: a host part without a dot makes a short name, as `erl -sname` does. A host part
//!   that has a dot or is an address makes a long name, as `erl -name` does. Nodes with short names
//!   and nodes with long names never connect, so use the kind that the other nodes of the cluster
//!   have. To run beside `erl -sname x`, use the short host name (`hostname -s`) as the host part.
//! - **Environment**: the crate reads neither `ERL_EPMD_PORT` nor `~/.erlang.cookie`. If the other
//!   nodes run with `ERL_EPMD_PORT`, pass its value to [`Builder::epmd_port`].
//! - **Processes**: [`Node::call`] reaches a process by its registered name only. [`Node::send`] and
//!   [`Node::monitor`] also accept a pid; [`Node::link`] accepts only a pid.
//! - **Errors**: every error type implements [`Display`](std::fmt::Display) and
//!   [`Error`](std::error::Error). Its text is one line that names the cause. Print errors with
//!   `{e}`: a `main` that returns them prints their `Debug` form.
//! - **Logs**: the node logs through the crate `tracing`, so the program must install a subscriber, for
//!   instance `tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).init()`. The level
//!   `TRACE` adds each frame, handshake packet and EPMD message; [`trace::subscribe`] returns the same
//!   for one peer.
//!
//! # Supported releases and services
//!
//! It connects to nodes of OTP 25 to 29. The tests run it against OTP 25, 27, 28 and 29.
//!
//! | service | from Erlang | from Rust |
//! | --- | --- | --- |
//! | EPMD | `net_adm:names/0` shows the node | registered by [`Builder::start`], which serves an EPMD where none answers |
//! | `net_kernel` | `net_adm:ping/1`, `nodes/0`, `monitor_nodes/1` | [`Node::connect`], [`Node::nodes`], [`Node::watch`] |
//! | `gen_server` | `call`, `cast`, messages with `!` | [`GenServer`], [`Node::call`] |
//! | `sys` | `get_state/1`, `get_status/1`, `terminate/2` | [`GenServer::state`] |
//! | `erpc`, `rpc`, `spawn` | calls of offered functions, and of the few of OTP that tools such as `observer` need | [`Builder::function`], [`Builder::functions`], [`Node::erpc`] |
//! | `pg`, versions 0 and 1 | members and monitors of groups | [`Spawn::group`], [`Node::members`], [`Node::publish`] |
//! | messages, monitors and links | to processes of this node | [`Node::send`], [`Node::monitor`], [`Node::link`] |
//! | `global` | its initial exchange, so that no node waits for this one | |
//!
//! # Deliberate omissions
//!
//! - It runs no code that a peer names. Peers can call only the functions that the program offers,
//!   and the few functions in `node::services::functions` that describe the node to tools. For any
//!   other function, `node::machine::served` answers `undef`.
//! - It is not a global name server, and does not take part in `global` locks.
//! - It has no mailboxes and no scheduler: the callbacks of a process run in the node's task.
//! - It has no TLS. The cookie authenticates both nodes, but the connection is not encrypted. Use a
//!   network that you trust, or a tunnel. A node listens on loopback unless [`Builder::listen`]
//!   sets another address.
//! - It does not start nodes, load code, or take part in `dist_ac`, `mnesia` or `inet` boot protocols.
//!
//! # Limits
//!
//! Everything that arrives from outside is bounded: the depth and size of terms, the members of
//! groups, monitors and links, waiting calls, unfinished handshakes, and the memory for all peers
//! together. [`limits`] lists every limit. A peer that exceeds a limit loses a request or its
//! connection, and no other peer is affected. [`cookie::Cookie`] is never printed. On this host,
//! the node proves the cookie only to ports of the user that it runs as, of root, and of users that
//! [`Builder::allow_user`] names.
//!
//! # Modules
//!
//! Most programs need only the types above. The modules below are for a program that needs more
//! than [`Node`] offers, for example its own rules about which node to dial and when. The feature
//! `internals` makes the other modules public for tests, benches and fuzzing.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`node`] | the node: peers, processes, monitors, links, process groups, and the services that Erlang nodes expect |
//! | [`connect`] | resolves hosts, dials nodes, and checks who owns a port of this host |
//! | [`dist`] | one connection: its flags, and the handshake with its errors |
//! | [`epmd`] | a client of EPMD |
//! | [`etf`] | the external term format, within bounds |
//! | [`limits`] | every bound, with its unit and the test that crosses it |
//! | [`log_limit`] | limits on log lines that outsiders can trigger |
//! | [`name`], [`cookie`] | node names, parsed once; the cookie, which is never printed |
//! | [`stats`] | counters of traffic |
//! | [`trace`] | each frame, handshake packet and EPMD message as text, for the log and for subscribers |

// Where to look first, for maintainers:
//
// | what happens | file |
// | --- | --- |
// | a peer joins a process group | node/services/pg.rs |
// | a peer calls a process or a function | node/machine/served.rs, node/services/functions.rs |
// | a connection comes up, goes down or is replaced | node/machine.rs, node/machine/connections.rs |
// | a peer has a wrong cookie or refuses our name | dist/handshake.rs |
// | a frame is malformed or too large | dist/framing.rs, dist/frames.rs |
// | a term is too deep or malformed | etf/walk.rs, etf/reader.rs |
// | EPMD does not answer, or another program has our name | node/registrar.rs |
// | a node of this host belongs to another user | connect/owners.rs |

#![deny(missing_docs)]
// With `internals`, tests reach every module that they need: an item that is unreachable even then
// must not be `pub`.
#![cfg_attr(feature = "internals", warn(unreachable_pub))]

#[warn(clippy::indexing_slicing)]
mod api;
#[warn(clippy::indexing_slicing)]
pub mod connect;
#[warn(clippy::indexing_slicing)]
pub mod dist;
#[warn(clippy::indexing_slicing)]
pub mod epmd;
#[warn(clippy::indexing_slicing)]
pub mod etf;
#[warn(clippy::indexing_slicing)]
pub mod node;

pub mod cookie;
#[cfg(not(feature = "internals"))]
mod fair;
#[cfg(feature = "internals")]
pub mod fair;
pub mod limits;
pub mod log_limit;
pub mod name;
pub mod stats;
pub mod trace;

pub use api::{Builder, ConnectError, GenServer, Members, Monitor, Node, RequestError, Spawn, StartError};
pub use etf::{Atom, Map, Pid, Reference, Term};
pub use node::handle::Stopped;
pub use node::{Address, Answer, BadArg, CallError, CallId, Caller, Functions, ProcessId, Source};
