//! The plugins of other hosts, as their hecate-daemons report them.
//!
//! [`tracker`] decides whom to ask and what changed, and [`said`] reads what was reported: both pure.
//! [`listener`] carries out what the tracker decides.

pub mod listener;
pub mod said;
pub mod tracker;
