//! What the node is used for: plugins and their proxies, membership and status, finding peers and introducing them.
//!
//! ```text
//! registry view  -> proxies    -> node: a proxy for each running plugin, in pg
//! node view      -> membership -> registry: nodes up and down, announcements
//! peers' calls   -> orders     -> registry, layout: what takes longer than the node may wait
//! EPMD, DNS, ... -> strategies -> discovery -> node: whom to dial, and when
//! peers' nodes() -> introduce  -> node: who is asked to connect to whom
//! other daemons  -> hosts      -> api: what they have registered, and since when they are lost
//! ```
//!
//! [`strategies`], [`discovery`], [`introduce`], [`membership`], [`hosts`] and [`said`] are pure. [`finder`] runs the first three,
//! [`listener`] the last two and [`task`] the rest; what they keep can all be derived anew from the registry, the node and its
//! peers, which own the state, but for what a lost daemon said last. Nothing here speaks the distribution protocol.

pub mod discovery;
pub mod finder;
pub mod hosts;
pub mod introduce;
pub mod join;
pub mod listener;
pub mod membership;
pub mod orders;
pub mod plugins_server;
pub mod proxy;
pub mod said;
pub mod shared_paths;
pub mod strategies;
pub mod task;
pub mod view;
