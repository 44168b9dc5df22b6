//! Finds, dials and introduces the nodes of the cluster, and describes each.
//!
//! [`strategies`] name nodes, [`redial`] decides when to dial each, [`introduce`] decides which
//! pairs to introduce, and [`records`] remembers the results of the attempts. All four are pure,
//! and [`finder`] runs them. [`questions`] asks one connected node about itself. [`answers`] asks
//! all connected nodes at intervals. [`views`] builds the description of each node.

pub mod answers;
pub mod finder;
pub mod introduce;
pub mod pg_protocol;
pub mod questions;
pub mod records;
pub mod redial;
pub mod strategies;
pub mod views;
