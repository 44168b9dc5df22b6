//! The registry on disk: a SQLite database with an append-only `events` table, keyed by revision, and the `plugins`
//! table projected from it in the same transaction.
//!
//! Owns `plugins.db` and what SQLite keeps beside it. All calls block. A commit that has returned
//! is durable (WAL with `synchronous=FULL`). Never deletes a database that it cannot read, but sets
//! it aside under a dated name and recovers its readable rows (`salvage`).

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
