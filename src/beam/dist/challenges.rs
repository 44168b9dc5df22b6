//! The challenges that this process has issued and must never answer, shared by its handshakes.
//!
//! The proof of the cookie is the same in both directions (`gen_digest/2` in `dist_util.erl`). A
//! reflection attack could exploit this: a peer without the cookie sends our own challenge back
//! over another connection, and then returns our answer as its own. All handshakes with one cookie
//! share one [`Challenges`], including the handshakes of diagnoses.
//!
//! A process cannot detect that a challenge is relayed to another process with the same cookie.

mod known;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use known::Known;

/// The challenges of all unfinished handshakes and of the handshakes that ended last. Clones share
/// them.
#[derive(Debug, Clone, Default)]
pub struct Challenges(Arc<Mutex<Known>>);

impl Challenges {
    /// Records a challenge, which must be random, before it is sent. It is outstanding until the
    /// guard is dropped.
    #[must_use]
    pub(crate) fn issue(&self, challenge: u32) -> Issued {
        self.lock().issue(challenge);
        Issued { challenge, challenges: self.clone() }
    }

    /// Returns whether this process issued a challenge that is outstanding or among the last
    /// [`CHALLENGES_ENDED`](crate::limits::CHALLENGES_ENDED).
    #[must_use]
    pub fn is_ours(&self, challenge: u32) -> bool {
        self.lock().contains(challenge)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A challenge that was issued for one handshake.
#[derive(Debug)]
pub(crate) struct Issued {
    challenge: u32,
    challenges: Challenges,
}

impl Issued {
    /// Returns the challenge.
    #[must_use]
    pub(crate) fn challenge(&self) -> u32 {
        self.challenge
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.challenges.lock().end(self.challenge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn an_outstanding_challenge_is_never_forgotten_and_ended_ones_are_bounded() {
        let challenges = Challenges::default();
        let outstanding = challenges.clone().issue(0);
        let many = u32::try_from(limits::CHALLENGES_ENDED).unwrap() + 1;
        for challenge in 1..=many {
            assert!(!challenges.is_ours(challenge));
            let issued = challenges.issue(challenge);
            assert!(challenges.is_ours(issued.challenge()), "its handshake is unfinished");
            drop(issued);
            assert!(challenges.is_ours(challenge), "its handshake has ended");
        }
        assert!(!challenges.is_ours(1), "the oldest ended challenge is forgotten");
        assert!(challenges.is_ours(2));
        assert!(challenges.is_ours(outstanding.challenge()));
    }

    #[test]
    fn one_of_two_equal_challenges_may_end_before_the_other() {
        let challenges = Challenges::default();
        let (first, second) = (challenges.issue(7), challenges.issue(7));
        drop(first);
        for challenge in 0..u32::try_from(limits::CHALLENGES_ENDED).unwrap() {
            drop(challenges.issue(100 + challenge));
        }
        assert!(challenges.is_ours(second.challenge()));
    }
}
