//! Nodes that were configured, by their full names; a bare host has been read as its `hecate` already, which is the name that
//! its EPMD will be asked for. They are looked for as long as we run. Pure.

use std::sync::Arc;

/// The nodes to look for. All hosts may have the same list, so that we are on it too, by whatever name `is_here` knows this
/// host: its EPMD has each short name once.
#[must_use]
pub fn found(us: &str, configured: &[String], is_here: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
    let short = |name: &str| name.split('@').next().map(str::to_owned);
    let is_us = |name: &str| name == us || (is_here(name) && short(name) == short(us));
    configured.iter().filter(|name| !is_us(name)).map(|name| Arc::from(name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nor_are_we_by_another_name_of_this_host() {
        let configured = ["hecate@localhost", "trader@localhost", "hecate@b"].map(str::to_owned);
        let is_here = |name: &str| name.ends_with("@localhost");
        assert_eq!(found("hecate@a", &configured, is_here), ["trader@localhost".into(), "hecate@b".into()]);
    }

    #[test]
    fn we_are_no_peer_of_ours() {
        let configured = ["hecate@a", "hecate@b", "trader@b"].map(str::to_owned);
        assert_eq!(found("hecate@a", &configured, |_| false), ["hecate@b".into(), "trader@b".into()]);
    }
}
