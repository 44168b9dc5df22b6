//! Messages that arrive in fragments, several of them at the same time. Pure.
//!
//! The fragments of a message form a sequence: the first has the header and the number of
//! fragments, and the others count down to 1. The last one completes the message. Signals between
//! two processes keep their order, because a sender waits until its own fragments are sent.
//!
//! Each fragment is copied once, when it arrives, with its references replaced by atoms. So the
//! last fragment costs no more than the others.
//!
//! An Erlang node sends nothing when the sender of a sequence is killed, so an abandoned sequence
//! looks like a slow one. When memory is short, the sequence without a new fragment for the longest
//! time is dropped. If another fragment of it arrives, the connection ends.
//!
//! Spec: "Protocol between Connected Nodes" in the "Distribution Protocol" chapter of the ERTS user's guide; `erts_net_message` and
//! `erts_dsig_send` in `erts/emulator/beam/dist.c`.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::HeaderError;
use crate::etf::Expander;
use crate::limits;

/// The unfinished messages of a connection.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: BTreeMap<u64, Message>,
    /// Their sequences, in the order of their last fragments.
    waiting: BTreeMap<u64, u64>,
    /// The number of fragments that have arrived.
    arrived: u64,
    /// The memory of their terms and atoms in bytes.
    bytes: usize,
}

/// Memory of an unfinished message in bytes, without its terms and atoms.
const MESSAGE: usize = 512;

#[derive(Debug)]
struct Message {
    /// The number of the next fragment.
    next: u64,
    expander: Expander,
    terms: BytesMut,
    /// The value of `Fragments::arrived` at its last fragment.
    waits_since: u64,
    /// The memory of its terms and atoms in bytes.
    bytes: usize,
}

impl Fragments {
    /// Begins a sequence with its first fragment.
    pub(super) fn begin(&mut self, sequence: u64, fragment: u64, expander: Expander) -> Result<(), HeaderError> {
        if self.open.contains_key(&sequence) {
            return Err(HeaderError::BegunAgain(sequence));
        }
        self.arrived += 1;
        let (bytes, waits_since) = (expander.memory(), self.arrived);
        self.bytes += bytes;
        self.waiting.insert(waits_since, sequence);
        self.open.insert(sequence, Message { next: fragment, expander, terms: BytesMut::new(), waits_since, bytes });
        Ok(())
    }

    /// Appends the terms of a fragment to its sequence, which must have begun. Returns all terms of
    /// the message after the last fragment.
    pub(super) fn append(&mut self, sequence: u64, fragment: u64, part: &[u8]) -> Result<Option<Bytes>, HeaderError> {
        let message = self.open.get_mut(&sequence).ok_or(HeaderError::NotBegun { sequence, fragment })?;
        // Fragment 0 does not exist, so a sequence cannot begin with it either.
        if message.next != fragment || fragment == 0 {
            return Err(HeaderError::OutOfOrder { sequence, fragment, expected: message.next.max(1) });
        }
        let before = message.terms.len();
        message.expander.push(part, &mut message.terms, limits::FRAME)?;
        if fragment == 1 {
            message.expander.finish(&mut message.terms, limits::FRAME)?;
            return Ok(self.end(sequence));
        }
        let grown = message.terms.len() - before;
        message.bytes += grown;
        message.next -= 1;
        self.waiting.remove(&message.waits_since);
        self.arrived += 1;
        message.waits_since = self.arrived;
        self.waiting.insert(self.arrived, sequence);
        self.bytes += grown;
        self.drop_oldest();
        Ok(None)
    }

    /// Returns the memory of all unfinished messages in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.open.len() * MESSAGE
    }

    fn end(&mut self, sequence: u64) -> Option<Bytes> {
        let message = self.open.remove(&sequence)?;
        self.waiting.remove(&message.waits_since);
        self.bytes -= message.bytes;
        debug_assert!(!self.open.is_empty() || self.bytes == 0 && self.waiting.is_empty());
        Some(message.terms.freeze())
    }

    /// Drops the sequences that have waited longest, until the limits hold. A single message never
    /// exceeds them.
    fn drop_oldest(&mut self) {
        while self.open.len() > limits::FRAGMENTED || self.bytes > limits::FRAGMENTED_BYTES {
            let Some((_, sequence)) = self.waiting.pop_first() else { return };
            self.end(sequence);
        }
    }
}
