//! The DNS name of the cluster: when to resolve it again, and what an answer means.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use beam::limited;
use beam::name::NodeName;

use crate::cluster::peers::redial::{Asked, RedialInput};
use crate::cluster::peers::strategies::dns::Dns;
use crate::limits;
use crate::log::limit;

/// A DNS name that is resolved at intervals.
pub(super) struct DnsQuery {
    host: String,
    strategy: Dns,
    /// When to resolve it next; none while it is being resolved.
    due: Option<Instant>,
    /// Whether the last attempt failed.
    failed: bool,
}

impl DnsQuery {
    /// Returns the query for `host` of the node `ours`, which is due now.
    pub(super) fn new(host: String, ours: NodeName, now: Instant) -> Self {
        Self { host, strategy: Dns::new(ours, now), due: Some(now), failed: false }
    }

    /// Returns when [`Self::begin`] is due; none while the name is being resolved.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the name if it is to be resolved now, once for each time.
    pub(super) fn begin(&mut self, now: Instant) -> Option<String> {
        self.due.take_if(|due| *due <= now).map(|_| self.host.clone())
    }

    /// Returns what an answer means, and plans the next attempt.
    pub(super) fn answered(&mut self, now: Instant, result: io::Result<Vec<IpAddr>>) -> RedialInput {
        self.ask_again(now);
        let host = &self.host;
        match result {
            Ok(addresses) => {
                if std::mem::take(&mut self.failed) {
                    limited!(limit::DIALS, info, host, "the DNS name of the cluster has addresses again");
                }
                // The nodes at our own addresses are found in EPMD, with their real names.
                let others = addresses.into_iter().filter(|address| !is_ours(*address));
                RedialInput::Dns(self.strategy.found(now, others))
            }
            Err(e) => {
                if !std::mem::replace(&mut self.failed, true) {
                    limited!(
                        limit::DIALS,
                        warn,
                        host,
                        "the DNS name of the cluster has no address: {e}; retrying every {} s",
                        limits::DNS_POLL.as_secs()
                    );
                }
                match self.strategy.has_nothing(now) {
                    true => RedialInput::Dns(Vec::new()),
                    false => RedialInput::Unanswered(Asked::Dns),
                }
            }
        }
    }

    /// Plans the next attempt, if none is planned. The delay is jittered, so that daemons do not all
    /// query at once.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let later = limits::DNS_POLL / 4 * (getrandom::u32().unwrap_or_default() % 256) / 256;
        self.due.get_or_insert(now + limits::DNS_POLL + later);
    }
}

/// Returns whether this is an address of this host. The system binds no socket to other addresses.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_resolved_again_only_after_its_answer_and_the_interval() {
        let now = Instant::now();
        let mut query = DnsQuery::new("cluster.lab".to_owned(), "us@h".parse().unwrap(), now);
        assert_eq!(query.begin(now).as_deref(), Some("cluster.lab"));
        assert_eq!((query.begin(now), query.next_deadline()), (None, None), "it is being resolved");
        let failed = query.answered(now, Err(io::Error::other("no such name")));
        assert!(matches!(failed, RedialInput::Unanswered(Asked::Dns)));
        assert_eq!(query.begin(now + limits::DNS_POLL.mul_f32(0.99)), None);
        assert!(query.begin(now + limits::DNS_POLL * 5 / 4).is_some());
    }
}
