//! The issued challenges, which must never be answered. Pure.

use std::collections::VecDeque;

use crate::limits;

/// The challenges of all unfinished handshakes, and of the ones that ended last.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// One for each unfinished handshake. Their number is bounded where they begin.
    outstanding: Vec<u32>,
    /// Oldest first.
    ended: VecDeque<u32>,
}

impl Known {
    /// Adds the challenge of a handshake that begins.
    pub(super) fn issue(&mut self, challenge: u32) {
        self.outstanding.push(challenge);
    }

    /// Moves a challenge to the ended ones when its handshake ends.
    pub(super) fn end(&mut self, challenge: u32) {
        if let Some(place) = self.outstanding.iter().position(|outstanding| *outstanding == challenge) {
            self.outstanding.swap_remove(place);
        }
        if self.ended.len() >= limits::CHALLENGES_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(challenge);
    }

    /// Returns whether a challenge is outstanding, or among the last
    /// [`limits::CHALLENGES_ENDED`].
    pub(super) fn contains(&self, challenge: u32) -> bool {
        self.outstanding.contains(&challenge) || self.ended.contains(&challenge)
    }
}
