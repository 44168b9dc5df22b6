//! A BEAM node: peers, processes, monitors, links, process groups and the services that every
//! Erlang node expects of its peers.
//!
//! ```text
//! accept, connect -> dist::setup -> task -> machine -> services::{functions, gen_server, pg, ...}
//! handle, dist::link -> intake ---^  ^-- owns the state; carries out the machine's effects
//! ```
//!
//! `machine` and its submodules are pure: they turn inputs and the time into effects. [`task`] owns
//! the machine. This module does not depend on the program, which spawns processes through
//! [`handle::Handle`] and follows the node through [`view::View`]. Each change replaces the view.

pub mod accept;
pub(crate) mod event;
pub(crate) mod giving_way;
pub mod handle;
pub(crate) mod intake;
#[cfg(not(feature = "internals"))]
pub(crate) mod link_id;
#[cfg(feature = "internals")]
pub mod link_id;
#[cfg(not(feature = "internals"))]
pub(crate) mod machine;
#[cfg(feature = "internals")]
pub mod machine;
mod memberships;
pub(crate) mod memory;
pub mod now;
pub(crate) mod pace;
#[cfg(not(feature = "internals"))]
pub(crate) mod process;
#[cfg(feature = "internals")]
pub mod process;
pub mod registrar;
pub(crate) mod replies;
#[cfg(not(feature = "internals"))]
pub(crate) mod services;
#[cfg(feature = "internals")]
pub mod services;
pub mod task;
pub mod view;

pub use process::{Address, Answer, BadArg, Behaviour, CallId, Caller, Functions, ProcessId, Source};
pub use services::functions::Program;
pub use services::gen_server::refusal;
pub use services::pg::Watched;
pub use services::rpc::{CallError, Function};
