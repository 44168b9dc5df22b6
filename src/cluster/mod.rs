//! What the node is used for: plugins and their proxies, membership and status, finding peers and introducing them.
//!
//! ```text
//! registry view  -> proxies    -> node: a proxy for each running plugin, in pg
//! node view      -> membership -> registry: nodes up and down, announcements
//! peers' calls   -> orders     -> registry, layout: what takes longer than the node may wait
//! EPMD, DNS, ... -> strategies -> redial -> node: whom to dial, and when
//! peers' nodes() -> introduce  -> node: who is asked to connect to whom
//! other daemons  -> hosts      -> api: what they have registered, and since when they are lost
//! a client       -> diagnosis  -> a node: why it is, or isn't, connected
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
