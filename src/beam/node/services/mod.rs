//! What every Erlang node runs under a registered name and expects another to run, one file each. None knows another;
//! all of them are pure and answer at once, since nothing that is aimed at us may wait for a time limit.

pub mod functions;
pub mod gen_server;
pub mod global;
pub(crate) mod global_group;
pub(crate) mod net_kernel;
pub mod pg;
pub mod rpc;
pub(crate) mod sys;
