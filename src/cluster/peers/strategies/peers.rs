//! Nodes that were configured, by their full names; a bare host has been read as its `hecate` already, which is the name that
//! its EPMD will be asked for. They are looked for as long as we run. Pure.

use beam::name::NodeName;

/// The nodes to look for. All hosts may have the same list, so that we are on it too, by whatever name of ours `is_us` knows.
#[must_use]
pub fn found(configured: &[NodeName], is_us: impl Fn(&NodeName) -> bool) -> Vec<NodeName> {
    configured.iter().filter(|name| !is_us(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_no_peer_of_ours() {
        let configured = ["hecate@a", "hecate@b", "trader@b"].map(|name| name.parse().unwrap());
        assert_eq!(found(&configured, |name| *name == "hecate@a"), ["hecate@b", "trader@b"]);
    }
}
