//! Our BEAM node: peers, processes, monitors, links, process groups and the services that every Erlang node expects
//! of another.
//!
//! ```text
//! accept, connect -> dist::setup -> task -> machine -> services::{functions, gen_server, pg, global, global_group, net_kernel, rpc}
//! handle, dist::link -> intake ---^  ^-- the only owner of the state; carries out the machine's effects
//! ```
//!
//! `machine` and all below it is pure: inputs and the time come in, effects go out. [`task`] owns it. The module knows
//! nothing of the program: whoever wants a process in a group asks for it through [`handle::Handle`] and learns what
//! happened from the [`view::View`], which is replaced as a whole at each change.

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
