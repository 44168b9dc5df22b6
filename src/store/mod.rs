//! The registry on disk: a SQLite database with an append-only `events` table, keyed by revision,
//! and a `plugins` table that is updated in the same transaction.
//!
//! Owns `plugins.db` and the files that SQLite keeps next to it. All functions block. A commit is
//! durable when it returns (WAL with `synchronous=FULL`). A database that cannot be read is never
//! deleted, but renamed with the date, and its readable rows are recovered (`salvage`).

mod backoff;
mod contents;
mod database;
mod draft;
mod error;
mod files;
mod reason;
mod row;
mod salvage;
mod schema;
mod vanished;

pub use database::{Opened, Store};
pub use error::{CommitError, OpenError, ReadError};
pub use salvage::Salvaged;
