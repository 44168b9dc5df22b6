//! `deregister NAME`: deregisters a plugin. Its data stays.

use hyper::Method;

use crate::cli::support::client::Call;
use crate::wire::Done;

pub(in crate::cli) fn call(name: &str) -> Call {
    Call::about_plugin(Method::DELETE, name, "", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let _: Done = serde_json::from_slice(body)?;
    Ok("deregistered; its data stays until you delete it with `hecate-daemon purge`\n".to_owned())
}
