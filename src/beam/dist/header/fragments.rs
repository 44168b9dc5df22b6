//! Messages that come in fragments, several at once, each put together as it comes. Pure.
//!
//! A sender's fragments form a sequence: the first has the header and the number of fragments, the others count down to 1. It is
//! delivered with its last fragment; signals between two processes keep their order since a sender waits until its own are sent.
//!
//! A fragment is copied once, with the atoms of its header in their places, so that the last one leaves nothing to be done for those before it.
//!
//! Nothing tells that a sequence won't go on: where its sender was killed, an Erlang node sends the rest of nothing. So there is no
//! telling a peer that breaks off from one that takes its time, and where room is wanted, the sequence that has waited
//! longest is given up. If it goes on all the same, the connection ends.
//!
//! Spec: "Protocol between Connected Nodes" in the "Distribution Protocol" chapter of the ERTS user's guide; `erts_net_message` and
//! `erts_dsig_send` in `erts/emulator/beam/dist.c`.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::HeaderError;
use crate::etf::Expander;
use crate::limits;

/// The messages of a connection that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: BTreeMap<u64, Message>,
    /// Their sequences, in the order in which they last went on.
    waiting: BTreeMap<u64, u64>,
    /// How many fragments have come.
    come: u64,
    /// Bytes that they take.
    bytes: usize,
}

/// Memory of an unfinished message in bytes, without its terms and atoms.
const MESSAGE: usize = 512;

#[derive(Debug)]
struct Message {
    /// The fragment that comes next.
    next: u64,
    expander: Expander,
    terms: BytesMut,
    /// When it last went on.
    waits_since: u64,
    /// Bytes that it takes, with the atoms that it refers to.
    bytes: usize,
}

impl Fragments {
    /// A sequence begins, with this fragment.
    pub(super) fn begin(&mut self, sequence: u64, fragment: u64, expander: Expander) -> Result<(), HeaderError> {
        if self.open.contains_key(&sequence) {
            return Err(HeaderError::BegunAgain(sequence));
        }
        self.come += 1;
        let (bytes, waits_since) = (expander.memory(), self.come);
        self.bytes += bytes;
        self.waiting.insert(waits_since, sequence);
        self.open.insert(sequence, Message { next: fragment, expander, terms: BytesMut::new(), waits_since, bytes });
        Ok(())
    }

    /// A fragment's part of the terms, of a sequence that has begun; with the last all of them.
    pub(super) fn append(&mut self, sequence: u64, fragment: u64, part: &[u8]) -> Result<Option<Bytes>, HeaderError> {
        let message = self.open.get_mut(&sequence).ok_or(HeaderError::NotBegun { sequence, fragment })?;
        // There is no fragment 0, and none that the first could be the beginning of.
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
        self.come += 1;
        message.waits_since = self.come;
        self.waiting.insert(self.come, sequence);
        self.bytes += grown;
        self.make_room();
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

    /// Gives up those that have waited longest. One alone is never too much.
    fn make_room(&mut self) {
        while self.open.len() > limits::FRAGMENTED || self.bytes > limits::FRAGMENTED_BYTES {
            let Some((_, sequence)) = self.waiting.pop_first() else { return };
            self.end(sequence);
        }
    }
}
