//! `healthcheck`: checks that the daemon answers, for probes. An unhealthy daemon that answers is
//! alive.

use hyper::Method;

use crate::cli::support::client::Call;
use crate::cli::support::page::plain;
use crate::wire::Health;

pub(in crate::cli) fn call() -> Call {
    Call::new(Method::GET, "/health", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let health: Health = serde_json::from_slice(body)?;
    Ok(format!("{}\n", plain(&health.status.to_string())))
}
