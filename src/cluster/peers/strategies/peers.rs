//! Finds the configured nodes, by their full names. The configuration has already turned a bare
//! host into `hecate@HOST`. Pure.

use beam::name::NodeName;

/// Returns the configured nodes except our own. All hosts may have the same list, so it may contain
/// one of our names, for which `is_us` returns true.
#[must_use]
pub fn found(configured: &[NodeName], is_us: impl Fn(&NodeName) -> bool) -> Vec<NodeName> {
    configured.iter().filter(|name| !is_us(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_node_is_not_a_peer() {
        let configured = ["hecate@a", "hecate@b", "trader@b"].map(|name| name.parse().unwrap());
        assert_eq!(found(&configured, |name| *name == "hecate@a"), ["hecate@b", "trader@b"]);
    }
}
