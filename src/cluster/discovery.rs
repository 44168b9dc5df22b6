//! Whom to dial, and when: the names of this host's EPMD, those that were configured, and those that peers know.
//!
//! Pure. It trusts nobody: whether the name may be dialled at all is checked where the connection is made
//! ([`crate::node::dial`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits;

/// First pause after a failed attempt; doubled at each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// "After a wrong cookie a name rests until its EPMD port changes, one try in 5 minutes at most."
const REST: Duration = Duration::from_secs(300);
/// A name that only peers know is given up after this many failures in a row.
const PATIENCE: u32 = 8;

/// Where a name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This host's EPMD has it.
    Epmd,
    /// It was configured.
    Configured,
    /// A connected peer knows it.
    Learned,
}

/// A node that is to be connected.
#[derive(Debug)]
struct Target {
    origin: Origin,
    /// Its port in this host's EPMD, as it was last.
    port: Option<u16>,
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be dialled at this time.
    Due(Instant),
    Dialling,
    Connected,
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
    /// The node answers, but under this name of the same host.
    CallsItself(Arc<str>),
}

/// What it is told.
#[derive(Debug)]
pub enum Input {
    /// The names, of those that we look for, in this host's EPMD, as full names, each with its port.
    Epmd(Vec<(Arc<str>, u16)>),
    /// Names from the configuration.
    Configured(Vec<Arc<str>>),
    /// Names that connected peers know.
    Learned(Vec<Arc<str>>),
    /// A node has connected, whoever dialled.
    Up {
        /// Which.
        name: Arc<str>,
        /// Whether it is to be seen in `nodes()`.
        published: bool,
    },
    /// A node is no longer connected.
    Down(Arc<str>),
    /// An attempt has ended. `jitter` is random, and spreads the next attempts of many nodes.
    Dialled {
        /// Whom.
        name: Arc<str>,
        /// With what result.
        outcome: Outcome,
        /// A random number.
        jitter: u8,
    },
    /// Nothing but the passing of time.
    Tick,
}

/// All nodes that are to be connected.
#[derive(Debug, Default)]
pub struct Discovery {
    targets: BTreeMap<Arc<str>, Target>,
    /// Nodes of this host that were found to call themselves otherwise: the name by EPMD, and the one they gave.
    aliases: BTreeMap<Arc<str>, Arc<str>>,
    /// Whether EPMD has been asked, successfully or not.
    asked: bool,
}

impl Discovery {
    /// Takes an input; the nodes that are to be dialled now are added to `dial`.
    pub fn handle(&mut self, now: Instant, input: Input, dial: &mut Vec<Arc<str>>) {
        match input {
            Input::Epmd(names) => self.epmd(now, names),
            Input::Configured(names) => names.into_iter().for_each(|name| self.add(now, name, Origin::Configured)),
            Input::Learned(names) => names.into_iter().for_each(|name| self.add(now, name, Origin::Learned)),
            Input::Up { name, published } => match self.targets.get_mut(&name) {
                Some(target) => (target.state, target.failures) = (State::Connected, 0),
                None if published => self.insert(name, Origin::Learned, State::Connected),
                // A hidden node connects when it wants to, and one that had its name from us comes under another.
                None => {}
            },
            Input::Down(name) => {
                if let Some(target) = self.targets.get_mut(&name)
                    && target.state == State::Connected
                {
                    target.state = State::Due(now + FIRST_PAUSE);
                }
            }
            Input::Dialled { name, outcome, jitter } => self.dialled(now, &name, outcome, jitter),
            Input::Tick => {}
        }
        for (name, target) in &mut self.targets {
            if matches!(target.state, State::Due(at) if at <= now) {
                target.state = State::Dialling;
                dial.push(name.clone());
            }
        }
    }

    /// When [`Input::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = |target: &Target| match target.state {
            State::Due(at) => Some(at),
            State::Dialling | State::Connected => None,
        };
        self.targets.values().filter_map(due).min()
    }

    /// Whether everything that could be found at the start has been tried once.
    #[must_use]
    pub fn settled(&self) -> bool {
        let tried = |target: &Target| target.failures > 0 || target.state == State::Connected;
        self.asked && self.targets.values().all(tried)
    }

    /// Whether the last attempt to reach this node failed as well.
    #[must_use]
    pub fn has_failed(&self, name: &str) -> bool {
        self.targets.get(name).is_some_and(|target| target.failures > 0)
    }

    /// EPMD can't be asked: nothing is to be found on this host.
    pub fn epmd_unavailable(&mut self) {
        self.asked = true;
    }

    fn insert(&mut self, name: Arc<str>, origin: Origin, state: State) {
        if self.targets.len() < limits::KNOWN_NODES {
            self.targets.insert(name, Target { origin, port: None, state, failures: 0 });
        }
    }

    fn add(&mut self, now: Instant, name: Arc<str>, origin: Origin) {
        match self.targets.get_mut(&name) {
            None => self.insert(name, origin, State::Due(now)),
            Some(target) if origin == Origin::Configured => target.origin = origin,
            Some(_) => {}
        }
    }

    fn epmd(&mut self, now: Instant, names: Vec<(Arc<str>, u16)>) {
        self.asked = true;
        let named: BTreeMap<Arc<str>, u16> =
            names.into_iter().map(|(name, port)| (self.aliases.get(&name).cloned().unwrap_or(name), port)).collect();
        // Gone from EPMD, the node has ended, and there is nothing to dial. (Or EPMD has: then the node registers again.)
        self.targets.retain(|name, target| {
            target.origin != Origin::Epmd || target.state == State::Dialling || named.contains_key(name)
        });
        for (name, port) in named {
            if !self.targets.contains_key(&name) {
                self.insert(name.clone(), Origin::Epmd, State::Due(now));
            }
            let Some(target) = self.targets.get_mut(&name) else { continue };
            let another = target.port.is_some_and(|before| before != port);
            target.port = Some(port);
            if target.origin == Origin::Learned {
                target.origin = Origin::Epmd;
            }
            // Another port: another life of the name, which deserves an attempt at once.
            if another && matches!(target.state, State::Due(_)) {
                (target.state, target.failures) = (State::Due(now), 0);
            }
        }
    }

    fn dialled(&mut self, now: Instant, name: &Arc<str>, outcome: Outcome, jitter: u8) {
        let Some(target) = self.targets.get_mut(name) else {
            return;
        };
        // A connection that the peer made meanwhile is one too.
        if target.state != State::Dialling {
            return;
        }
        target.failures += 1;
        match outcome {
            Outcome::Connected => (target.state, target.failures) = (State::Connected, 0),
            Outcome::Failed => {
                if target.origin == Origin::Learned && target.failures >= PATIENCE {
                    self.targets.remove(name);
                    return;
                }
                let doubled = FIRST_PAUSE.saturating_mul(1 << target.failures.saturating_sub(1).min(10));
                let pause = doubled.min(LONGEST_PAUSE);
                target.state = State::Due(now + pause + pause.mul_f32(f32::from(jitter) / 1024.0));
            }
            Outcome::Refused => target.state = State::Due(now + REST),
            Outcome::CallsItself(other) => {
                let origin = target.origin;
                self.targets.remove(name);
                // A node that went back to its first name has none any more: two that point at each other would have us
                // dial for ever.
                if self.aliases.remove(&other).is_none() && self.aliases.len() < limits::KNOWN_NODES {
                    self.aliases.insert(name.clone(), other.clone());
                }
                self.add(now, other, origin);
            }
        }
    }
}

#[cfg(test)]
mod tests;
