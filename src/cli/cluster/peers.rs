//! The table of peers of `cluster`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::cli::support::page::{self, Cell, table};
use crate::wire::PeerEntry;

const HEADS: [&str; 10] =
    ["PEER", "STATE", "SINCE", "INTRODUCED BY", "OTP", "TICKTIME", "ROUND TRIP", "ATTEMPTS", "LAST FAILURE", "REASON"];

/// Shows a row per peer, and then the number of agreed flags once for all peers that have the same.
pub(in crate::cli) fn shown(peers: Vec<PeerEntry>, now: SystemTime) -> String {
    let mut flags: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    let mut rows = vec![HEADS.map(Cell::head).to_vec()];
    for peer in peers {
        if let Some(agreed) = &peer.flags {
            flags.entry(agreed.clone()).or_default().push(peer.name.clone());
        }
        rows.push(row(peer, now));
    }
    let mut text = table(&rows);
    for (agreed, peers) in flags {
        text.push('\n');
        let line = format!("agreed on {} with {} (names: --json)", agreed.len(), peers.join(", "));
        text.push_str(&table(&[vec![Cell::head("flags"), Cell::from(line)]]));
    }
    text
}

fn row(peer: PeerEntry, now: SystemTime) -> Vec<Cell> {
    let hidden = peer.hidden == Some(true);
    let state = if hidden { Cell::good("connected (hidden)") } else { Cell::state(&peer.state) };
    let optional = |text: Option<String>| Cell::optional(text.as_deref());
    vec![
        Cell::from(peer.name),
        state,
        Cell::from(page::since(&peer.since, now)),
        optional(peer.introduced_by),
        optional(peer.otp_release),
        optional(peer.net_ticktime.map(|seconds| format!("{seconds} s"))),
        optional(peer.round_trip_ms.map(|time| format!("{time} ms"))),
        Cell::from(peer.attempts.to_string()),
        optional(peer.last_failure.map(|failure| format!("{} {}", failure.code, page::since(&failure.at, now)))),
        Cell::from(peer.reason),
    ]
}
