//! The policy of the cluster: the proxies of plugins, the status of plugins according to their
//! nodes, and which peers to find and to introduce.
//!
//! ```text
//! registry view  -> proxies    -> node: a proxy for each running plugin, in pg
//! node view      -> membership -> registry: nodes up and down, announcements
//! peers' calls   -> orders     -> registry, layout: requests that take longer than the node may wait
//! EPMD, DNS, ... -> strategies -> redial -> node: which nodes to dial, and when
//! peers' nodes() -> introduce  -> node: which peers to connect to each other
//! other daemons  -> hosts      -> api: their plugins, and since when a daemon is lost
//! a client       -> diagnosis  -> a node: why it is not connected
//! ```
//!
//! [`task`] runs these modules. The registry, the node and its peers own the state. `task` keeps
//! only values that it can derive from them again, except for the last report of a lost daemon. No
//! module here speaks the distribution protocol.

pub mod diagnosis;
pub mod hosts;

pub mod machine;
pub mod own_name;
pub mod peers;
pub mod plugins;
pub mod running;
pub mod task;
pub mod terms;
pub mod view;
