//! Decides which nodes to dial, and when to dial each again: every node as long as one of
//! [`super::strategies`] names it.
//!
//! Pure. [`beam::connect::dial`] checks whether a name may be dialled at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use beam::connect::dial::{DialCode, DialError};
use beam::name::NodeName;

use crate::limits;

/// The longest wait before the first attempt, which is random so that nodes that start together do
/// not dial at the same moment. A node that EPMD has just reported is dialled at once.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The pause after the first failed attempt. Each further failure doubles it. Each pause is
/// jittered to 50–100 % of its length.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a node that still runs has closed its connection cleanly, because its
/// administrator may have wanted that. Each further such close doubles it.
const LEFT_PAUSE: Duration = Duration::from_secs(10);
/// The longest such pause. A connection that lasted this long resets the pause.
const LONGEST_LEFT_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a refusal, such as one because of the cookie. It ends early if the node's port
/// in EPMD changes.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// A name that only peers have reported is dropped after this many failures in a row.
const PATIENCE: u32 = 8;

/// The sources that name a node.
#[derive(Debug, Clone, Copy, Default)]
struct NamedBy {
    /// This host's EPMD, with the node's port.
    epmd: Option<u16>,
    /// The configuration.
    configured: bool,
    /// DNS.
    dns: bool,
    /// Peers, which do not report when they forget a name.
    peers: bool,
}

impl NamedBy {
    fn at_most_peers(self) -> bool {
        self.epmd.is_none() && !self.configured && !self.dns
    }

    fn is_empty(self) -> bool {
        self.at_most_peers() && !self.peers
    }

    fn and(self, other: Self) -> Self {
        Self {
            epmd: self.epmd.or(other.epmd),
            configured: self.configured || other.configured,
            dns: self.dns || other.dns,
            peers: self.peers || other.peers,
        }
    }
}

/// A node to connect to.
#[derive(Debug)]
struct Target {
    named_by: NamedBy,
    state: State,
    failures: u32,
    /// How many times in a row the node has closed its connection cleanly.
    times_left: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Dial it at this time.
    Due(Instant),
    Connecting,
    /// Connected since this time.
    Connected(Instant),
}

/// The outcome of an attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The node is connected.
    Connected,
    /// The attempt failed, and the next one may succeed.
    Failed,
    /// The attempt failed. The next one can succeed only if something changes on the node, such as
    /// its cookie, its user or its OTP release.
    Refused,
    /// It is the right node, but it has this name.
    CallsItself(NodeName),
}

impl Outcome {
    /// Returns the outcome of an attempt to connect to `dialled` that failed with this error.
    /// `is_alias` returns whether a name with the same short name can belong to the same node.
    #[must_use]
    pub fn of(error: &DialError, dialled: &NodeName, is_alias: impl Fn(&NodeName) -> bool) -> Self {
        match (error.calls_itself(), error.code()) {
            (Some(other), _) if other.has_short_name_of(dialled) && is_alias(other) => Self::CallsItself(other.clone()),
            (
                _,
                DialCode::CookieMismatch
                | DialCode::FlagsMissing
                | DialCode::ForeignOwner
                | DialCode::NameMismatch
                | DialCode::NotAllowed
                | DialCode::ShortnameLongnameMix
                | DialCode::TlsExpected,
            ) => Self::Refused,
            (
                _,
                DialCode::AlreadyAlive
                | DialCode::ChallengeReflected
                | DialCode::EpmdUnreachable
                | DialCode::HandshakeFailed
                | DialCode::HostUnresolved
                | DialCode::NotRegistered
                | DialCode::Simultaneous
                | DialCode::TcpRefused
                | DialCode::TcpTimeout,
            ) => Self::Failed,
        }
    }
}

/// An input of [`Redialer::handle`].
#[derive(Debug)]
pub enum RedialInput {
    /// The names in this host's EPMD to connect to, each with its port.
    Epmd(Vec<(NodeName, u16)>),
    /// The configured nodes.
    Configured(Vec<NodeName>),
    /// The nodes that DNS names now.
    Dns(Vec<NodeName>),
    /// Nodes that connected peers have reported.
    Learned(Vec<NodeName>),
    /// EPMD or DNS did not answer. The nodes that it named before are kept.
    Unanswered(Asked),
    /// A node has connected; either side may have dialled.
    Up {
        /// The name of the node.
        name: NodeName,
        /// Whether it is visible in `nodes()`.
        published: bool,
    },
    /// A node is no longer connected.
    Down {
        /// The name of the node.
        name: NodeName,
        /// Whether the node itself closed the connection cleanly.
        left: bool,
    },
    /// All nodes that our node remembers although they are not connected. The flag is true if the
    /// node itself closed the connection cleanly.
    Absent(Vec<(NodeName, bool)>),
    /// An attempt has ended.
    Dialled {
        /// The name that was dialled.
        name: NodeName,
        /// The outcome.
        outcome: Outcome,
    },
    /// Time has passed.
    Tick,
}

/// A source that is asked for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// This host's EPMD.
    Epmd,
    /// DNS.
    Dns,
}

/// All nodes to connect to.
#[derive(Debug)]
pub struct Redialer {
    targets: BTreeMap<NodeName, Target>,
    /// The real name of each node whose name differs from the dialled name.
    aliases: BTreeMap<NodeName, NodeName>,
    /// Nodes that our node remembers although they are not connected, each with the time at which
    /// it may be forgotten.
    absent: BTreeMap<NodeName, Instant>,
    /// The sources whose first request is not finished.
    unasked: BTreeSet<Asked>,
    jitter: Jitter,
}

impl Default for Redialer {
    /// Returns a redialer whose only source is EPMD, with fixed jitter.
    fn default() -> Self {
        Self::new([Asked::Epmd], 0)
    }
}

impl Redialer {
    /// Returns a redialer with these sources. `random` is the seed of the jitter.
    #[must_use]
    pub fn new(asked: impl IntoIterator<Item = Asked>, random: u64) -> Self {
        Self {
            targets: BTreeMap::new(),
            aliases: BTreeMap::new(),
            absent: BTreeMap::new(),
            unasked: asked.into_iter().collect(),
            jitter: Jitter(random),
        }
    }

    /// Handles an input, and appends the nodes to dial now to `dial`.
    pub fn handle(&mut self, now: Instant, input: RedialInput, dial: &mut Vec<NodeName>) {
        match input {
            RedialInput::Epmd(names) => self.epmd(now, names),
            RedialInput::Configured(names) => {
                names.into_iter().for_each(|name| self.add(now, name, |by| by.configured = true));
            }
            RedialInput::Dns(names) => self.dns(now, names),
            RedialInput::Learned(names) => names.into_iter().for_each(|name| self.add(now, name, |by| by.peers = true)),
            RedialInput::Unanswered(asked) => {
                self.unasked.remove(&asked);
            }
            RedialInput::Up { name, published } => match self.targets.get_mut(&name) {
                Some(target) => (target.state, target.failures) = (State::Connected(now), 0),
                None if published => {
                    let named_by = NamedBy { peers: true, ..NamedBy::default() };
                    self.insert(name, named_by, State::Connected(now));
                }
                // A hidden node connects when it needs to. A node that got its name from ours has
                // another name the next time.
                None => {}
            },
            RedialInput::Down { name, left } => self.down(now, &name, left),
            RedialInput::Absent(names) => {
                // Includes nodes that connected and disconnected between two views.
                for (name, left) in &names {
                    self.down(now, name, *left);
                }
                let before = std::mem::take(&mut self.absent);
                let at = |name: &NodeName| before.get(name).copied().unwrap_or(now + limits::PEER_MEMORY);
                self.absent = names.into_iter().map(|(name, _)| (name.clone(), at(&name))).collect();
            }
            RedialInput::Dialled { name, outcome } => self.dialled(now, &name, outcome),
            RedialInput::Tick => {}
        }
        for (name, target) in &mut self.targets {
            if matches!(target.state, State::Due(at) if at <= now) {
                target.state = State::Connecting;
                dial.push(name.clone());
            }
        }
    }

    /// Returns when [`RedialInput::Tick`] and [`Self::forgotten`] are due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = |target: &Target| match target.state {
            State::Due(at) => Some(at),
            State::Connecting | State::Connected(_) => None,
        };
        self.targets.values().filter_map(due).chain(self.absent.values().copied()).min()
    }

    /// Returns the nodes that our node may forget, because they have not been connected for
    /// [`limits::PEER_MEMORY`] and no source names them. Nodes that a source names are checked
    /// again after the same time.
    pub fn forgotten(&mut self, now: Instant) -> Vec<NodeName> {
        let targets = &self.targets;
        for (_, at) in self.absent.iter_mut().filter(|(name, at)| **at <= now && targets.contains_key(*name)) {
            *at = now + limits::PEER_MEMORY;
        }
        self.absent.extract_if(.., |_, at| *at <= now).map(|(name, _)| name).collect()
    }

    /// Returns whether every node that could be found at the start has been tried once.
    #[must_use]
    pub fn settled(&self) -> bool {
        let tried = |target: &Target| target.failures > 0 || matches!(target.state, State::Connected(_));
        self.unasked.is_empty() && self.targets.values().all(tried)
    }

    /// Returns whether the last attempt to connect to this node failed.
    #[must_use]
    pub fn has_failed(&self, name: &str) -> bool {
        self.targets.get(name).is_some_and(|target| target.failures > 0)
    }

    /// Returns whether this is a node to connect to.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.targets.contains_key(name)
    }

    /// Returns whether DNS names this node.
    #[must_use]
    pub fn is_in_dns(&self, name: &str) -> bool {
        self.targets.get(name).is_some_and(|target| target.named_by.dns)
    }

    fn insert(&mut self, name: NodeName, named_by: NamedBy, state: State) {
        if self.targets.len() < beam::limits::KNOWN_NODES {
            self.targets.insert(name, Target { named_by, state, failures: 0, times_left: 0 });
        }
    }

    /// Adds a node, and records with `mark` which source names it.
    fn add(&mut self, now: Instant, name: NodeName, mark: impl FnOnce(&mut NamedBy)) {
        if let Some(target) = self.targets.get_mut(&name) {
            return mark(&mut target.named_by);
        }
        let mut named_by = NamedBy::default();
        mark(&mut named_by);
        let at = now + self.jitter.part(FIRST_WAIT);
        self.insert(name, named_by, State::Due(at));
    }

    fn alias(&self, name: NodeName) -> NodeName {
        self.aliases.get(&name).cloned().unwrap_or(name)
    }

    /// Drops the nodes that no source names. An attempt that is under way ends first.
    fn drop_unnamed(&mut self) {
        self.targets.retain(|_, target| !target.named_by.is_empty() || target.state == State::Connecting);
    }

    fn epmd(&mut self, now: Instant, names: Vec<(NodeName, u16)>) {
        self.unasked.remove(&Asked::Epmd);
        let named: BTreeMap<NodeName, u16> = names.into_iter().map(|(name, port)| (self.alias(name), port)).collect();
        for (_, target) in self.targets.iter_mut().filter(|(name, _)| !named.contains_key(*name)) {
            // The node has ended, even if peers still name it. If EPMD was restarted instead, the
            // node registers again.
            if target.named_by.epmd.take().is_some() {
                target.named_by.peers = false;
            }
        }
        self.drop_unnamed();
        for (name, port) in named {
            if !self.targets.contains_key(&name) {
                self.insert(name.clone(), NamedBy::default(), State::Due(now));
            }
            let Some(target) = self.targets.get_mut(&name) else { continue };
            // The name was registered again by another process, which is dialled at once.
            if target.named_by.epmd.replace(port) != Some(port) && matches!(target.state, State::Due(_)) {
                (target.state, target.failures, target.times_left) = (State::Due(now), 0, 0);
            }
        }
    }

    fn dns(&mut self, now: Instant, names: Vec<NodeName>) {
        self.unasked.remove(&Asked::Dns);
        let found: BTreeSet<NodeName> = names.into_iter().collect();
        // Drops the aliases of addresses that are gone, because another node may get them later.
        let (targets, was_found) = (&self.targets, |name: &NodeName| found.contains(name));
        self.aliases.retain(|name, to| {
            let by_dns = targets.get(to).is_some_and(|target| target.named_by.dns && target.named_by.epmd.is_none());
            !by_dns || was_found(name)
        });
        let named: BTreeSet<NodeName> = found.iter().map(|name| self.alias(name.clone())).collect();
        for (_, target) in self.targets.iter_mut().filter(|(name, _)| !named.contains(*name)) {
            target.named_by.dns = false;
        }
        self.drop_unnamed();
        named.into_iter().for_each(|name| self.add(now, name, |by| by.dns = true));
    }

    fn down(&mut self, now: Instant, name: &str, left: bool) {
        let Some(target) = self.targets.get_mut(name) else { return };
        let State::Connected(since) = target.state else { return };
        let is_first = !left || now.saturating_duration_since(since) >= LONGEST_LEFT_PAUSE;
        let before = if is_first { 0 } else { target.times_left };
        target.times_left = before.saturating_add(u32::from(left));
        let pause = match left {
            true => {
                LEFT_PAUSE.saturating_mul(1 << before.min(10)).min(LONGEST_LEFT_PAUSE) + self.jitter.part(FIRST_WAIT)
            }
            false => self.jitter.pause(FIRST_PAUSE),
        };
        target.state = State::Due(now + pause);
    }

    fn dialled(&mut self, now: Instant, name: &NodeName, outcome: Outcome) {
        let Some(target) = self.targets.get_mut(name) else {
            return;
        };
        // The peer has connected in the meantime.
        if target.state != State::Connecting {
            return;
        }
        target.failures += 1;
        let given_up = target.named_by.is_empty() || (target.named_by.at_most_peers() && target.failures >= PATIENCE);
        match outcome {
            Outcome::Connected => (target.state, target.failures) = (State::Connected(now), 0),
            Outcome::Failed | Outcome::Refused if given_up => {
                self.targets.remove(name);
            }
            Outcome::Failed => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << target.failures.saturating_sub(1).min(10));
                target.state = State::Due(now + self.jitter.pause(doubled.min(LONGEST_PAUSE)));
            }
            Outcome::Refused => target.state = State::Due(now + REFUSED_PAUSE),
            Outcome::CallsItself(other) => {
                let named_by = target.named_by;
                self.targets.remove(name);
                // If the node has its first name again, its alias is removed. Two aliases that
                // refer to each other would cause an endless series of attempts.
                if self.aliases.remove(&other).is_none() && self.aliases.len() < beam::limits::KNOWN_NODES {
                    self.aliases.insert(name.clone(), other.clone());
                }
                match self.targets.get_mut(&other) {
                    Some(target) => target.named_by = target.named_by.and(named_by),
                    None => self.insert(other, named_by, State::Due(now)),
                }
            }
        }
    }
}

/// Random jitter, so that many nodes do not act at the same moment (SplitMix64).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// Returns a random part of this time.
    fn part(&mut self, of: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [low, high, ..] = (mixed ^ (mixed >> 31)).to_le_bytes();
        of * u32::from(u16::from_le_bytes([low, high])) / (1 << 16)
    }

    /// Returns 50–100 % of this time.
    fn pause(&mut self, longest: Duration) -> Duration {
        longest / 2 + self.part(longest / 2)
    }
}

#[cfg(test)]
mod tests;
