//! What the node is used for: plugins and their proxies, membership and status, finding peers and introducing them.
//!
//! ```text
//! registry view  -> proxies    -> node: a proxy for each running plugin, in pg
//! node view      -> membership -> registry: nodes up and down, announcements
//! peers' calls   -> orders     -> registry, layout: what takes longer than the node may wait
//! EPMD, DNS, ... -> strategies -> discovery -> node: whom to dial, and when
//! peers' nodes() -> introduce  -> node: who is asked to connect to whom
//! ```
//!
//! [`strategies`], [`discovery`], [`introduce`] and [`membership`] are pure. [`finder`] runs the first three and [`task`] the rest; what they
//! keep can all be derived anew from the registry and the node, which own the state. Nothing here speaks the distribution protocol.

pub mod discovery;
pub mod finder;
pub mod introduce;
pub mod join;
pub mod membership;
pub mod orders;
pub mod plugins_server;
pub mod proxy;
pub mod shared_paths;
pub mod strategies;
pub mod task;
pub mod view;
