//! `deregister NAME`: takes a plugin off the registry. Its data is never touched.

use hyper::Method;

use crate::cli::support::client::{Call, encode};
use crate::wire::Done;

pub(in crate::cli) fn call(name: &str) -> Call {
    Call::new(Method::DELETE, format!("/api/plugins/{}", encode(name)), show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let _: Done = serde_json::from_slice(body)?;
    Ok("deregistered; its data is kept, until `hecate-daemon purge` removes it\n".to_owned())
}
