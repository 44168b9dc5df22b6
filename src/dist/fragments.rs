//! Messages that come in fragments, several at once, each put together as it comes. Pure.
//!
//! A sender's fragments form a sequence: the first has the header and the number of fragments, the others count down to 1. It is
//! delivered with its last fragment; signals between two processes keep their order since a sender waits until its own are sent.
//!
//! A fragment is copied once, with the atoms of its header in their places, so that the last one leaves nothing to be done for those before it.
//!
//! Spec: "Protocol between Connected Nodes" in the "Distribution Protocol" chapter of the ERTS user's guide; `erts_net_message` in
//! `erts/emulator/beam/dist.c`.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::header::HeaderError;
use crate::etf::{ExpandError, Expander};
use crate::limits;

/// The messages of a connection that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: BTreeMap<u64, Message>,
    /// Bytes that they take.
    bytes: usize,
}

#[derive(Debug)]
struct Message {
    /// The fragment that comes next.
    next: u64,
    expander: Expander,
    terms: BytesMut,
    /// Bytes of the atoms that it refers to.
    atoms: usize,
}

impl Fragments {
    /// A sequence begins, with this fragment.
    pub(super) fn begin(&mut self, sequence: u64, fragment: u64, expander: Expander) -> Result<(), HeaderError> {
        if self.open.contains_key(&sequence) {
            return Err(HeaderError::BegunAgain(sequence));
        }
        if self.open.len() == limits::FRAGMENTED {
            return Err(HeaderError::TooMany);
        }
        let atoms = expander.size();
        self.bytes += atoms;
        self.open.insert(sequence, Message { next: fragment, expander, terms: BytesMut::new(), atoms });
        Ok(())
    }

    /// A fragment's part of the terms, of a sequence that has begun; with the last all of them.
    pub(super) fn go_on(&mut self, sequence: u64, fragment: u64, part: &[u8]) -> Result<Option<Bytes>, HeaderError> {
        let message = self.open.get_mut(&sequence).ok_or(HeaderError::NotBegun { sequence, fragment })?;
        // There is no fragment 0, and none that the first could be the beginning of.
        if message.next != fragment || fragment == 0 {
            return Err(HeaderError::OutOfOrder { sequence, fragment, expected: message.next.max(1) });
        }
        message.next -= 1;
        let before = message.terms.len();
        let room = before + limits::FRAGMENTED_BYTES.saturating_sub(self.bytes);
        let max = room.min(limits::FRAME);
        let pushed = message.expander.push(part, &mut message.terms, max).and_then(|()| match message.next {
            0 => message.expander.finish(&mut message.terms, max),
            _ => Ok(()),
        });
        pushed.map_err(|e| match e {
            ExpandError::TooLong if room < limits::FRAME => HeaderError::TooMuch,
            e => e.into(),
        })?;
        self.bytes += message.terms.len() - before;
        if message.next > 0 {
            return Ok(None);
        }
        let ended = self.open.remove(&sequence).map(|message| {
            self.bytes -= message.terms.len() + message.atoms;
            message.terms.freeze()
        });
        debug_assert!(self.bytes == 0 || !self.open.is_empty());
        Ok(ended)
    }
}
