//! Decides which nodes to dial, and when to dial each again: every node that one of
//! [`super::strategies`] names, until none does any more.
//!
//! Pure. It trusts nobody: whether the name may be dialled at all is checked where the connection is made
//! ([`beam::connect::dial`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use beam::connect::dial::{DialCode, DialError};
use beam::name::NodeName;

use crate::limits;

/// The first attempt comes within this time, except where EPMD has just said that the node is there: nodes that start
/// together don't all dial at the same moment.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// First pause after a failed attempt; doubled at each further one. Of each pause between a half and the whole is waited.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a node has closed its connection in order and still runs, because its administrator
/// may have wanted that. Each further such close doubles it.
const LEFT_PAUSE: Duration = Duration::from_secs(10);
/// Longest such pause. After a connection that lasted this long, the next pause is the first one
/// again.
const LONGEST_LEFT_PAUSE: Duration = Duration::from_secs(60);
/// "After a wrong cookie a name rests until its EPMD port changes, one try in 5 minutes at most."
pub const REST: Duration = Duration::from_secs(300);
/// A name that only peers know is given up after this many failures in a row.
const PATIENCE: u32 = 8;

/// Who names a node.
#[derive(Debug, Clone, Copy, Default)]
struct NamedBy {
    /// This host's EPMD, with the port that it tells.
    epmd: Option<u16>,
    /// The configuration.
    configured: bool,
    /// DNS.
    dns: bool,
    /// Peers, who never say that they have forgotten it.
    peers: bool,
}

impl NamedBy {
    fn peers_at_most(self) -> bool {
        self.epmd.is_none() && !self.configured && !self.dns
    }

    fn nobody(self) -> bool {
        self.peers_at_most() && !self.peers
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

/// A node that is to be connected.
#[derive(Debug)]
struct Target {
    named_by: NamedBy,
    state: State,
    failures: u32,
    /// How many times in a row the node has closed its connection in order.
    times_left: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be dialled at this time.
    Due(Instant),
    Connecting,
    /// Connected since this time.
    Connected(Instant),
}

/// How an attempt to connect ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is a connection.
    Connected,
    /// There is none; another attempt may succeed.
    Failed,
    /// Another attempt makes sense only when something has changed there: the cookie, the owner, the release.
    Refused,
    /// The node answers, but under this name: the same node of the same host.
    CallsItself(NodeName),
}

impl Outcome {
    /// Returns how an attempt to connect to the node `dialled` ended, which failed with this error.
    /// `is_alias` tells whether a name can be another one of a node of this short name.
    #[must_use]
    pub fn of(error: &DialError, dialled: &NodeName, is_alias: impl Fn(&NodeName) -> bool) -> Self {
        match (error.calls_itself(), error.code()) {
            (Some(other), _) if other.has_short_name_of(dialled) && is_alias(other) => Self::CallsItself(other.clone()),
            // Nothing changes until the node or its owner does.
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

/// What it is told.
#[derive(Debug)]
pub enum RedialInput {
    /// The names, of those that we look for, in this host's EPMD, as full names, each with its port.
    Epmd(Vec<(NodeName, u16)>),
    /// Names from the configuration.
    Configured(Vec<NodeName>),
    /// The nodes that DNS names now.
    Dns(Vec<NodeName>),
    /// Names that connected peers know.
    Learned(Vec<NodeName>),
    /// EPMD could not be asked, or DNS: what was named so far stays.
    Unanswered(Asked),
    /// A node has connected, whoever dialled.
    Up {
        /// Which.
        name: NodeName,
        /// Whether it is to be seen in `nodes()`.
        published: bool,
    },
    /// A node is no longer connected.
    Down {
        /// The name of the node.
        name: NodeName,
        /// Whether the node itself closed the connection in order.
        left: bool,
    },
    /// All nodes that our node remembers although they are not connected. The flag is true if the
    /// node itself closed the connection in order.
    Absent(Vec<(NodeName, bool)>),
    /// An attempt has ended.
    Dialled {
        /// Whom.
        name: NodeName,
        /// With what result.
        outcome: Outcome,
    },
    /// Nothing but the passing of time.
    Tick,
}

/// Who is asked for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// This host's EPMD.
    Epmd,
    /// DNS.
    Dns,
}

/// All nodes that are to be connected.
#[derive(Debug)]
pub struct Redialer {
    targets: BTreeMap<NodeName, Target>,
    /// Nodes that were found to call themselves otherwise: the name by which they were found, and the one they gave.
    aliases: BTreeMap<NodeName, NodeName>,
    /// Nodes that our node remembers though they are not connected, each with the time when it may forget it.
    absent: BTreeMap<NodeName, Instant>,
    /// Who has not been asked yet, successfully or not.
    unasked: BTreeSet<Asked>,
    spread: Spread,
}

impl Default for Redialer {
    /// One that is told of EPMD's names alone, and always spreads alike.
    fn default() -> Self {
        Self::new([Asked::Epmd], 0)
    }
}

impl Redialer {
    /// One that will hear from these. `random` spreads the attempts of many nodes.
    #[must_use]
    pub fn new(asked: impl IntoIterator<Item = Asked>, random: u64) -> Self {
        Self {
            targets: BTreeMap::new(),
            aliases: BTreeMap::new(),
            absent: BTreeMap::new(),
            unasked: asked.into_iter().collect(),
            spread: Spread(random),
        }
    }

    /// Takes an input; the nodes that are to be dialled now are added to `dial`.
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
                // A hidden node connects when it wants to, and one that had its name from us comes under another.
                None => {}
            },
            RedialInput::Down { name, left } => self.down(now, &name, left),
            RedialInput::Absent(names) => {
                // One that came and went between two looks at the view was told of by nobody.
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

    /// When [`RedialInput::Tick`] and [`Self::forgotten`] are due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = |target: &Target| match target.state {
            State::Due(at) => Some(at),
            State::Connecting | State::Connected(_) => None,
        };
        self.targets.values().filter_map(due).chain(self.absent.values().copied()).min()
    }

    /// The nodes that our node may forget: for [`limits::PEER_MEMORY`] they have not been connected, and now nobody names
    /// them. Those that somebody names are looked at again after as long.
    pub fn forgotten(&mut self, now: Instant) -> Vec<NodeName> {
        let targets = &self.targets;
        for (_, at) in self.absent.iter_mut().filter(|(name, at)| **at <= now && targets.contains_key(*name)) {
            *at = now + limits::PEER_MEMORY;
        }
        self.absent.extract_if(.., |_, at| *at <= now).map(|(name, _)| name).collect()
    }

    /// Whether everything that could be found at the start has been tried once.
    #[must_use]
    pub fn settled(&self) -> bool {
        let tried = |target: &Target| target.failures > 0 || matches!(target.state, State::Connected(_));
        self.unasked.is_empty() && self.targets.values().all(tried)
    }

    /// Whether the last attempt to reach this node failed as well.
    #[must_use]
    pub fn has_failed(&self, name: &str) -> bool {
        self.targets.get(name).is_some_and(|target| target.failures > 0)
    }

    /// Whether this node is to be connected.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.targets.contains_key(name)
    }

    /// Whether DNS names this node.
    #[must_use]
    pub fn is_in_dns(&self, name: &str) -> bool {
        self.targets.get(name).is_some_and(|target| target.named_by.dns)
    }

    fn insert(&mut self, name: NodeName, named_by: NamedBy, state: State) {
        if self.targets.len() < beam::limits::KNOWN_NODES {
            self.targets.insert(name, Target { named_by, state, failures: 0, times_left: 0 });
        }
    }

    /// Somebody names a node, which `mark` notes.
    fn add(&mut self, now: Instant, name: NodeName, mark: impl FnOnce(&mut NamedBy)) {
        if let Some(target) = self.targets.get_mut(&name) {
            return mark(&mut target.named_by);
        }
        let mut named_by = NamedBy::default();
        mark(&mut named_by);
        let at = now + self.spread.part(FIRST_WAIT);
        self.insert(name, named_by, State::Due(at));
    }

    fn alias(&self, name: NodeName) -> NodeName {
        self.aliases.get(&name).cloned().unwrap_or(name)
    }

    /// What nobody names any more is not dialled. An attempt that is under way ends first.
    fn drop_unnamed(&mut self) {
        self.targets.retain(|_, target| !target.named_by.nobody() || target.state == State::Connecting);
    }

    fn epmd(&mut self, now: Instant, names: Vec<(NodeName, u16)>) {
        self.unasked.remove(&Asked::Epmd);
        let named: BTreeMap<NodeName, u16> = names.into_iter().map(|(name, port)| (self.alias(name), port)).collect();
        for (_, target) in self.targets.iter_mut().filter(|(name, _)| !named.contains_key(*name)) {
            // Gone from EPMD, the node has ended, whoever knew it. (Or EPMD has: then the node registers again.)
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
            // Registered anew: another life of the name, which deserves an attempt at once.
            if target.named_by.epmd.replace(port) != Some(port) && matches!(target.state, State::Due(_)) {
                (target.state, target.failures, target.times_left) = (State::Due(now), 0, 0);
            }
        }
    }

    fn dns(&mut self, now: Instant, names: Vec<NodeName>) {
        self.unasked.remove(&Asked::Dns);
        let found: BTreeSet<NodeName> = names.into_iter().collect();
        // An address that has left may come back as another node's.
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
                LEFT_PAUSE.saturating_mul(1 << before.min(10)).min(LONGEST_LEFT_PAUSE) + self.spread.part(FIRST_WAIT)
            }
            false => self.spread.pause(FIRST_PAUSE),
        };
        target.state = State::Due(now + pause);
    }

    fn dialled(&mut self, now: Instant, name: &NodeName, outcome: Outcome) {
        let Some(target) = self.targets.get_mut(name) else {
            return;
        };
        // A connection that the peer made meanwhile is one too.
        if target.state != State::Connecting {
            return;
        }
        target.failures += 1;
        let given_up = target.named_by.nobody() || (target.named_by.peers_at_most() && target.failures >= PATIENCE);
        match outcome {
            Outcome::Connected => (target.state, target.failures) = (State::Connected(now), 0),
            Outcome::Failed | Outcome::Refused if given_up => {
                self.targets.remove(name);
            }
            Outcome::Failed => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << target.failures.saturating_sub(1).min(10));
                target.state = State::Due(now + self.spread.pause(doubled.min(LONGEST_PAUSE)));
            }
            Outcome::Refused => target.state = State::Due(now + REST),
            Outcome::CallsItself(other) => {
                let named_by = target.named_by;
                self.targets.remove(name);
                // A node that went back to its first name has none any more: two that point at each other would have us
                // dial for ever.
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

/// Numbers that differ from node to node, so that what many of them do is spread over time (SplitMix64).
#[derive(Debug)]
struct Spread(u64);

impl Spread {
    /// Anything from none of this time to all of it.
    fn part(&mut self, of: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [low, high, ..] = (mixed ^ (mixed >> 31)).to_le_bytes();
        of * u32::from(u16::from_le_bytes([low, high])) / (1 << 16)
    }

    /// Between a half of this time and all of it.
    fn pause(&mut self, longest: Duration) -> Duration {
        longest / 2 + self.part(longest / 2)
    }
}

#[cfg(test)]
mod tests;
