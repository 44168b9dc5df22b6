//! Finds nodes in DNS. A DNS name, for example of a headless service, has an A or AAAA record for
//! each host (or pod). Each address is dialled as the node `hecate@ADDRESS`, and under no other name.
//! Pure.

use std::fmt::Display;
use std::time::Instant;

use beam::name::NodeName;

use super::NODE;
use crate::limits;

/// The strategy for one DNS name.
#[derive(Debug)]
pub struct Dns {
    us: NodeName,
    /// The time of the last answer; before the first, the time of the first request.
    since: Instant,
}

impl Dns {
    /// Returns the strategy of the node `us`.
    #[must_use]
    pub fn new(us: NodeName, now: Instant) -> Self {
        Self { us, since: now }
    }

    /// Returns the nodes at these addresses, except our own.
    pub fn found(&mut self, now: Instant, addresses: impl IntoIterator<Item = impl Display>) -> Vec<NodeName> {
        self.since = now;
        let names = addresses.into_iter().filter_map(|address| NodeName::new(NODE, &address.to_string()).ok());
        names.filter(|name| *name != self.us).take(limits::DNS_ADDRESSES).collect()
    }

    /// Returns whether to forget the nodes that were found last, after DNS failed or had no address
    /// for the name. They are kept for [`limits::DNS_MEMORY`], because a service that restarts has
    /// no address for a moment.
    #[must_use]
    pub fn has_nothing(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= limits::DNS_MEMORY
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    fn addresses(addresses: &[&str]) -> Vec<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_is_a_node_except_our_own() {
        let now = Instant::now();
        let mut dns = Dns::new("hecate@10.1.2.3".parse().unwrap(), now);
        let found = dns.found(now, addresses(&["10.1.2.3", "10.1.2.4", "fd00::4"]));
        assert_eq!(found, ["hecate@10.1.2.4", "hecate@fd00::4"]);
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let now = Instant::now();
        let many = (0..limits::DNS_ADDRESSES + 10).map(|i| format!("10.0.{}.{}", i / 256, i % 256));
        assert_eq!(Dns::new("hecate@h".parse().unwrap(), now).found(now, many).len(), limits::DNS_ADDRESSES);
    }

    #[test]
    fn the_last_answer_is_kept_for_a_while_when_dns_fails() {
        let mut now = Instant::now();
        let mut dns = Dns::new("hecate@h".parse().unwrap(), now);
        now += limits::DNS_MEMORY;
        dns.found(now, addresses(&["10.1.2.4"]));
        now += limits::DNS_MEMORY.saturating_sub(Duration::from_millis(1));
        assert!(!dns.has_nothing(now));
        assert!(dns.has_nothing(now + Duration::from_millis(1)));
    }
}
