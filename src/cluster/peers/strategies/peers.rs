//! Nodes that were configured, by their full names; a bare host has been read as its `hecate` already, which is the name that
//! its EPMD will be asked for. They are looked for as long as we run. Pure.

use std::sync::Arc;

/// The nodes to look for. All hosts may have the same list, so that we are on it too, by whatever name of ours `is_us` knows.
#[must_use]
pub fn found(configured: &[String], is_us: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
    configured.iter().filter(|name| !is_us(name)).map(|name| Arc::from(name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_no_peer_of_ours() {
        let configured = ["hecate@a", "hecate@b", "trader@b"].map(str::to_owned);
        assert_eq!(found(&configured, |name| name == "hecate@a"), ["hecate@b".into(), "trader@b".into()]);
    }
}
