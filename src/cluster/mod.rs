//! What the node is used for: plugins and their proxies, membership and status, finding peers and introducing them.
//!
//! ```text
//! registry view  -> proxies    -> node: a proxy for each running plugin, in pg
//! node view      -> membership -> registry: nodes up and down, announcements
//! peers' calls   -> orders     -> registry, layout: what takes longer than the node may wait
//! EPMD, DNS, ... -> strategies -> discovery -> node: whom to dial, and when
//! peers' nodes() -> introduce  -> node: who is asked to connect to whom
//! other daemons  -> hosts      -> api: what they have registered, and since when they are lost
//! a client       -> diagnosis  -> a node: why it is, or isn't, connected
//! ```
//!
//! [`attempts`], [`strategies`], [`discovery`], [`introduce`], [`membership`], [`refusing`], [`peer_views`], [`hosts`], [`said`] and
//! [`diagnosis::report`] are pure. [`finder`] runs the first four, [`listener`] runs [`hosts`] and [`said`], and [`task`] the rest;
//! what they keep can all be derived anew from the registry, the node and its peers, which own the state, but for what a lost
//! daemon said last. Nothing here speaks the distribution protocol.

pub mod attempts;
mod changes;
pub mod diagnosis;
pub mod discovery;
pub mod facts;
pub mod finder;
pub mod hosts;
pub mod introduce;
pub mod join;
pub mod listener;
pub mod membership;
pub mod orders;
pub mod peer_views;
pub mod plugin_nodes;
pub mod plugins_server;
pub mod proxy;
pub mod questions;
pub mod refusing;
pub mod running;
pub mod said;
pub mod shared_paths;
pub mod strategies;
pub mod task;
pub mod view;
