//! The encoding of server-sent events (the WHATWG's HTML standard, section 9.2).

use bytes::Bytes;
use serde::Serialize;

use crate::wire;

/// Encodes an event, with one line of JSON as its data.
pub(super) fn encode(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data = wire::encode(data);
    // JSON has no newline outside of its strings, and in them it is written `\n`.
    let head = format!("event: {name}\n{id}data: ");
    [head.as_bytes(), &data, b"\n\n"].concat().into()
}
