//! The plugins of other hosts, as their hecate-daemons report them.
//!
//! [`tracker`] decides which daemon to ask, and finds the changes. [`reports`] reads the reports.
//! Both are pure. [`listener`] executes the tracker's decisions.

pub mod listener;
pub mod reports;
pub mod tracker;
