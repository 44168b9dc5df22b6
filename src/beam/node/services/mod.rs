//! The services that every Erlang node expects of its peers, one module each. Pure.
//!
//! The modules are independent, except that several use `gen_server`. Each request is answered at
//! once, so that callers never wait for a timeout.

pub mod functions;
pub mod gen_server;
pub mod global;
pub(crate) mod global_group;
pub(crate) mod net_kernel;
pub mod pg;
pub mod rpc;
pub(crate) mod sys;
