//! Decides what to report to the registry about nodes of this host that are running but refuse to
//! connect. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use beam::connect::dial::DialCode;
use beam::name::NodeName;

use crate::limits;
use crate::registry::Membership;

/// A refusal of the last attempt to connect to a node of this host, after the owner of its port was
/// checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The node's port in this host's EPMD.
    pub port: u16,
    /// The stable code.
    pub code: DialCode,
}

/// The state of a node that refused to connect at an earlier attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is connected.
    Connected,
    /// EPMD has its name, and no later attempt has shown whether it still refuses.
    Registered,
    /// EPMD lacks its name.
    Missing,
    /// Nothing listens on its port, or the process that does belongs to a user who is not allowed.
    Ended,
}

/// The nodes that refused to connect, as reported to the registry.
#[derive(Debug, Default)]
pub struct Refusing(BTreeMap<NodeName, Known>);

#[derive(Debug)]
struct Known {
    refusal: Refusal,
    /// Whether it belongs to the home of another user, and so is not reported to the registry.
    is_neighbours: bool,
    missing_since: Option<Instant>,
}

impl Refusing {
    /// Returns the nodes of `refusing` whose owners must be looked up before [`Self::news`], each
    /// with its port.
    #[must_use]
    pub fn strangers(&self, refusing: &BTreeMap<NodeName, Refusal>) -> Vec<(NodeName, u16)> {
        let is_known = |name: &NodeName, port: u16| self.0.get(name).is_some_and(|known| known.refusal.port == port);
        let new = refusing.iter().filter(|(name, refusal)| !is_known(name, refusal.port));
        new.map(|(name, refusal)| (name.clone(), refusal.port)).collect()
    }

    /// Returns the changes since the last call. `refusing` contains the nodes of registered plugins
    /// that refuse to connect now. `neighbours` contains the nodes of [`Self::strangers`] that
    /// belong to the home of another user. `seen` returns the state of a node that is not in
    /// `refusing`.
    pub fn news(
        &mut self,
        now: Instant,
        refusing: &BTreeMap<NodeName, Refusal>,
        neighbours: &BTreeSet<NodeName>,
        seen: impl Fn(&NodeName) -> Seen,
    ) -> Vec<Membership> {
        let mut news = Vec::new();
        let ended = |name: &NodeName| Membership::NodeEnded { node: name.clone() };
        self.0.retain(|name, known| {
            if refusing.contains_key(name) {
                return true;
            }
            let has_ended = match seen(name) {
                Seen::Connected => return false,
                Seen::Registered => {
                    known.missing_since = None;
                    false
                }
                // An EPMD that was restarted has no names until the nodes register again.
                Seen::Missing => now - *known.missing_since.get_or_insert(now) >= limits::EPMD_ABSENCE,
                Seen::Ended => true,
            };
            if has_ended && !known.is_neighbours {
                news.push(ended(name));
            }
            !has_ended
        });
        for (name, &refusal) in refusing {
            let before = self.0.get(name);
            let is_neighbours = match before {
                Some(known) if known.refusal.port == refusal.port => known.is_neighbours,
                _ => neighbours.contains(name),
            };
            let reported = before.filter(|known| !known.is_neighbours).map(|known| known.refusal.code);
            if is_neighbours {
                news.extend(reported.map(|_| ended(name)));
            } else if reported != Some(refusal.code) {
                news.push(Membership::NodeRefused { node: name.clone(), code: refusal.code.name() });
            }
            self.0.insert(name.clone(), Known { refusal, is_neighbours, missing_since: None });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NODE: &str = "hecate_traderd@h";

    /// The nodes that refuse, with a clock.
    struct World(Refusing, Instant);

    impl World {
        fn new() -> Self {
            Self(Refusing::default(), Instant::now())
        }

        fn pass(&mut self, time: Duration) -> &mut Self {
            self.1 += time;
            self
        }

        fn refuses(&mut self, port: u16, code: DialCode, neighbours: &[&str]) -> Vec<Membership> {
            let refusing = BTreeMap::from([(NODE.parse().unwrap(), Refusal { port, code })]);
            let neighbours = neighbours.iter().map(|name| name.parse().unwrap()).collect();
            self.0.news(self.1, &refusing, &neighbours, |name| unreachable!("{name}"))
        }

        fn seen(&mut self, seen: Seen) -> Vec<Membership> {
            self.0.news(self.1, &BTreeMap::new(), &BTreeSet::new(), |_| seen)
        }

        fn strangers(&self, port: u16) -> usize {
            let refusing = BTreeMap::from([(NODE.parse().unwrap(), Refusal { port, code: DialCode::CookieMismatch })]);
            self.0.strangers(&refusing).len()
        }
    }

    fn refused(code: DialCode) -> Membership {
        Membership::NodeRefused { node: NODE.parse().unwrap(), code: code.name() }
    }

    fn ended() -> Membership {
        Membership::NodeEnded { node: NODE.parse().unwrap() }
    }

    #[test]
    fn a_refusal_is_reported_once_for_each_code() {
        let mut world = World::new();
        assert_eq!(world.refuses(1, DialCode::CookieMismatch, &[]), [refused(DialCode::CookieMismatch)]);
        assert_eq!(world.refuses(1, DialCode::CookieMismatch, &[]), []);
        assert_eq!(world.refuses(1, DialCode::NotAllowed, &[]), [refused(DialCode::NotAllowed)]);
        assert_eq!(world.refuses(2, DialCode::NotAllowed, &[]), [], "it was restarted");
        assert_eq!(world.seen(Seen::Registered), []);
        assert_eq!(world.seen(Seen::Ended), [ended()]);
        assert_eq!(world.refuses(2, DialCode::NotAllowed, &[]), [refused(DialCode::NotAllowed)]);
        assert_eq!(world.seen(Seen::Connected), [], "the registry learns that separately");
        assert_eq!(world.refuses(2, DialCode::NotAllowed, &[]), [refused(DialCode::NotAllowed)]);
    }

    #[test]
    fn a_name_must_be_absent_for_a_while_before_its_node_has_ended() {
        let mut world = World::new();
        let almost = Duration::from_millis(4999);
        world.refuses(1, DialCode::CookieMismatch, &[]);
        for back in [Seen::Registered, Seen::Missing] {
            assert_eq!(world.seen(Seen::Missing), []);
            assert_eq!(world.pass(almost).seen(back), [], "EPMD was restarted");
        }
        world.refuses(1, DialCode::CookieMismatch, &[]);
        assert_eq!(world.seen(Seen::Missing), []);
        assert_eq!(world.pass(almost).seen(Seen::Missing), []);
        assert_eq!(world.pass(Duration::from_millis(1)).seen(Seen::Missing), [ended()]);
        assert_eq!(world.pass(Duration::from_secs(5)).seen(Seen::Missing), []);
    }

    #[test]
    fn a_node_of_another_home_is_not_reported_and_its_owner_is_looked_up_once_per_port() {
        let mut world = World::new();
        assert_eq!(world.strangers(1), 1);
        assert_eq!(world.refuses(1, DialCode::CookieMismatch, &[NODE]), []);
        assert_eq!(world.strangers(1), 0);
        assert_eq!(world.refuses(1, DialCode::CookieMismatch, &[]), [], "it still belongs there");
        assert_eq!(world.strangers(2), 1, "another process has the name");
        assert_eq!(world.refuses(2, DialCode::CookieMismatch, &[]), [refused(DialCode::CookieMismatch)]);
        assert_eq!(world.refuses(3, DialCode::CookieMismatch, &[NODE]), [ended()]);
        assert_eq!(world.seen(Seen::Ended), []);
    }
}
