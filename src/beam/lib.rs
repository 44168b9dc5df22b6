//! A BEAM node for Rust programs: it joins a cluster of Erlang, Elixir or Gleam nodes over the
//! distribution protocol, calls their processes and functions, and offers its own.
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
//! A program starts a node with [`Node::builder`] and keeps its handle, [`Node`]. The node runs until
//! [`Node::stop`]. This program runs two nodes; the second could as well be one that
//! `erl -sname caller@localhost -setcookie secret` started.
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
//! The directory `examples` has programs for use with Erlang nodes: `ping`, `gen_server`, `pg` and `erpc`.
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
//! | `global` | the greeting of each node, so that none waits for it | |
//!
//! # Deliberate omissions
//!
//! - It runs no code that a peer names. Only functions that the program offers, and those of
//!   [`node::services::functions`], can be called.
//!   Calls of all others fail with `undef`, which `node::machine::served` answers.
//! - It is not a global name server, and does not take part in `global` locks.
//! - It has no mailboxes and no scheduler: the callbacks of a process run in the node's task.
//! - It has no TLS. The cookie authenticates both nodes, but the connection is not encrypted, so use
//!   a network that you trust, or a tunnel. A node listens on loopback unless [`Builder::listen`] sets another
//!   address.
//! - It doesn't start nodes, load code, or take part in `dist_ac`, `mnesia` or `inet` boot protocols.
//!
//! # Limits
//!
//! Everything that arrives from outside is bounded: the depth and size of terms, members of groups,
//! monitors and links, calls that wait, unfinished handshakes, and the memory for all peers together.
//! [`limits`] lists every bound. A peer that exceeds one loses a request or its connection, and no
//! other peer is affected. [`cookie::Cookie`] is never printed. On this host, the node proves the
//! cookie only to ports of the user that it runs as, of root, and of users that
//! [`Builder::allow_user`] names.
//!
//! # Modules
//!
//! Most programs need only the types above. The modules below are for a program that needs more than
//! [`Node`] offers, for instance its own rules about which node to dial and when. The feature
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
pub use node::process::{Address, Answer, BadArg, CallId, Caller, Functions, ProcessId, Source};
pub use node::services::rpc::CallError;
