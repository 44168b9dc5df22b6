//! Names for peers without one (`erl -sname undefined`). Pure.
//!
//! Such a peer loses its name with its last connection, and asks for one again when it reconnects.
//! It then gets the name that a peer on its host released last, with the next creation, as in
//! `generate_node_name/2` and `delete_connection/3` of OTP's `net_kernel.erl`. So a peer that
//! reconnects keeps its name.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits;
use crate::name::{NodeName, NodeNameError};

/// The released names. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct GivenNames(Arc<Mutex<VecDeque<Free>>>);

/// A released name.
#[derive(Debug)]
struct Free {
    name: NodeName,
    creation: u32,
}

/// Random numbers for a new name.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    /// Becomes the short name.
    pub name: u64,
    /// Becomes the creation.
    pub creation: u32,
}

impl GivenNames {
    /// Returns the name that a peer on `host` released last, or else a new one. No other peer gets
    /// it until the guard is dropped.
    ///
    /// # Errors
    /// The host is invalid.
    pub fn give(&self, host: &str, random: Random) -> Result<GivenName, NodeNameError> {
        let mut free = self.lock();
        let place = free.iter().rposition(|free| free.name.host() == host);
        match place.and_then(|place| free.remove(place)) {
            Some(Free { name, creation }) => Ok(GivenName { name, creation, is_remembered: true, names: self.clone() }),
            None => self.give_new(host, random),
        }
    }

    /// Returns a new name on `host`.
    ///
    /// # Errors
    /// The host is invalid.
    pub(crate) fn give_new(&self, host: &str, random: Random) -> Result<GivenName, NodeNameError> {
        let name = NodeName::new(&short_name(random.name), host)?;
        Ok(GivenName { name, creation: valid(random.creation), is_remembered: false, names: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Free>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a short name that contains 64 random bits.
pub(super) fn short_name(random: u64) -> String {
    format!("d{random:016x}")
}

/// Returns a creation of at least 4, because older releases used the smaller ones
/// (`wrap_creation/1`).
fn valid(creation: u32) -> u32 {
    if creation < 4 { creation + 4 } else { creation }
}

/// A name that one peer has. Dropping it releases the name.
#[derive(Debug)]
pub struct GivenName {
    name: NodeName,
    creation: u32,
    is_remembered: bool,
    names: GivenNames,
}

impl GivenName {
    /// Returns the full name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Returns the creation that goes with the name.
    #[must_use]
    pub fn creation(&self) -> u32 {
        self.creation
    }

    /// Keeps the name after its release, because the peer has proved the cookie. Without this call,
    /// a released name is forgotten, so that a stranger cannot displace others.
    pub(crate) fn remember(&mut self) {
        self.is_remembered = true;
    }
}

impl Drop for GivenName {
    fn drop(&mut self) {
        if !self.is_remembered {
            return;
        }
        let mut free = self.names.lock();
        if free.len() >= limits::GIVEN_NAMES {
            free.pop_front();
        }
        free.push_back(Free { name: self.name.clone(), creation: valid(self.creation.wrapping_add(1)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(number: u32) -> Random {
        Random { name: number.into(), creation: number }
    }

    fn remembered(names: &GivenNames, host: &str, number: u32) -> GivenName {
        let mut given = names.give(host, random(number)).unwrap();
        given.remember();
        given
    }

    #[test]
    fn a_name_is_given_again_with_the_next_creation() {
        let names = GivenNames::default();
        let first = remembered(&names, "h", u32::MAX).name().clone();
        assert_eq!(first, "d00000000ffffffff@h");
        for creation in [4, 5, 6] {
            let again = names.give("h", random(0)).unwrap();
            assert_eq!((again.name(), again.creation()), (&first, creation));
        }
        assert_ne!(names.give("g", random(1)).unwrap().name(), &first, "another host");
    }

    #[test]
    fn a_name_that_a_peer_has_is_not_given_to_another() {
        let names = GivenNames::default();
        let one = remembered(&names, "h", 1);
        let two = remembered(&names, "h", 2);
        assert_ne!(one.name(), two.name());
        assert_eq!((one.creation(), two.creation()), (5, 6));
        let (first, second) = (one.name().clone(), two.name().clone());
        drop((one, two));
        assert_eq!(names.give("h", random(3)).unwrap().name(), &second, "the name that was released last");
        let again = names.give_new("h", random(3)).unwrap();
        assert!(*again.name() != first && *again.name() != second);
    }

    #[test]
    fn a_peer_that_proved_nothing_leaves_no_name() {
        let names = GivenNames::default();
        let known = remembered(&names, "h", 1).name().clone();
        for number in 2..10 {
            let _held = names.give("h", random(0)).unwrap();
            drop(names.give("h", random(number)).unwrap());
        }
        assert_eq!(names.give("h", random(10)).unwrap().name(), &known);
        let _held = names.give("h", random(0)).unwrap();
        assert_eq!(*names.give("h", random(11)).unwrap().name(), "d000000000000000b@h");
    }

    #[test]
    fn released_names_are_bounded() {
        let names = GivenNames::default();
        for number in 0..=u32::try_from(limits::GIVEN_NAMES).unwrap() {
            drop(remembered(&names, &format!("h{number}"), number));
        }
        let is_known =
            |number: u32| names.give(&format!("h{number}"), random(u32::MAX)).unwrap().name().starts_with("d00000000f");
        assert!(is_known(0), "the oldest is forgotten");
        assert!(!is_known(1) && !is_known(u32::try_from(limits::GIVEN_NAMES).unwrap()));
    }
}
