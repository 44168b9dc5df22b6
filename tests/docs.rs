//! The reference pages in `docs/`, compared with the code. Generated text is current, examples are
//! real responses, and no code, setting, metric or limit is missing or out of date.
//!
//! `HECATE_WRITE_DOCS=1 cargo test --test docs` rewrites the generated parts.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;

#[path = "docs/beam.rs"]
mod beam_page;
#[path = "docs/codes.rs"]
mod codes;
#[path = "docs/examples.rs"]
mod examples;
#[path = "docs/json.rs"]
mod json;
#[path = "docs/openapi.rs"]
mod openapi;
#[path = "docs/operations.rs"]
mod operations;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/reference.rs"]
mod reference;
#[path = "docs/security.rs"]
mod security;
#[path = "docs/settings.rs"]
mod settings;
