//! The nodes of the cluster: which are found, dialled and introduced to each other, and what is
//! known of each.
//!
//! [`strategies`] name nodes, [`discovery`] decides when each is dialled, [`introduce`] which are
//! introduced, and [`attempts`] remembers how the attempts went: all pure. [`finder`] runs them.
//! [`questions`] asks a connected node about itself, [`facts`] keeps the answers, and [`views`] puts
//! together what is shown of each node.

pub mod attempts;
pub mod discovery;
pub mod facts;
pub mod finder;
pub mod introduce;
pub mod questions;
pub mod strategies;
pub mod views;
