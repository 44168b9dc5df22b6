//! Outgoing frames: collected by the owner of a connection, then queued for the socket.
//!
//! Small frames share one buffer. Large binaries are never copied: they are written to the socket
//! from their own memory. Pure.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::control::{self, Control};
use super::flags::Flags;
use crate::etf::Iovec;

// ---- Tuning constants -----------------------------------------------------------------------

/// Bytes that are sent immediately, without the connection's own task, if the socket accepts them.
/// More means fewer wakes of tasks; less means that the node's task spends less time in system
/// calls.
const SENT_AT_ONCE: usize = 64 * 1024;

/// Parts of the queue that one write passes to the socket. More means fewer system calls; less means
/// less work for a write that the socket accepts only in part.
const PARTS_WRITTEN: usize = 64;

/// Frames to send together.
#[derive(Debug, Default)]
pub struct Frames {
    parts: Vec<Bytes>,
    /// The bytes after the parts. Its memory is kept when it is sent immediately.
    last: Vec<u8>,
}

impl Frames {
    /// Returns whether there are no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.last.is_empty()
    }

    /// Adds the frame of a signal, see [`control::encode`], and returns its length in bytes.
    pub fn push(&mut self, control: &Control, payload: Option<&Iovec>, flags: Flags) -> usize {
        let begin = self.last.len();
        let payload = control::encode_head(control, payload, flags, &mut self.last);
        let head = self.last.len() - begin;
        let Some(payload) = payload else { return head };
        for (small, large) in payload.pieces() {
            self.last.extend_from_slice(small);
            if let Some(large) = large {
                self.parts.push(std::mem::take(&mut self.last).into());
                self.parts.push(large.clone());
            }
        }
        head + payload.size()
    }

    /// Returns all frames, if they are one piece of at most [`SENT_AT_ONCE`] bytes.
    pub(super) fn few(&mut self) -> Option<&mut Vec<u8>> {
        (self.parts.is_empty() && self.last.len() <= SENT_AT_ONCE).then_some(&mut self.last)
    }
}

impl From<Bytes> for Frames {
    fn from(frames: Bytes) -> Self {
        Self { parts: vec![frames], last: Vec::new() }
    }
}

/// The bytes that wait for a socket.
#[derive(Debug, Default)]
pub(super) struct Queue {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the number of queued bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves frames to the end of the queue.
    pub(super) fn append(&mut self, frames: &mut Frames) {
        let last = Bytes::from(std::mem::take(&mut frames.last));
        for part in frames.parts.drain(..).chain([last]).filter(|part| !part.is_empty()) {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Returns the first parts, for one write.
    pub(super) fn first(&self) -> Vec<Bytes> {
        self.parts.iter().take(PARTS_WRITTEN).cloned().collect()
    }

    /// Removes this many bytes from the front, which have been written.
    pub(super) fn written(&mut self, mut bytes: usize) {
        self.bytes -= bytes;
        while let Some(part) = self.parts.front_mut() {
            if bytes < part.len() {
                part.advance(bytes);
                break;
            }
            bytes -= part.len();
            self.parts.pop_front();
        }
    }
}

/// Returns the arguments of one write.
pub(super) fn slices(parts: &[Bytes]) -> Vec<IoSlice<'_>> {
    parts.iter().map(|part| IoSlice::new(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::flags;
    use crate::etf::{Atom, Pid, Term};
    use crate::limits;

    fn to() -> Control {
        Control::Send { from: None, to: Pid { node: Atom::literal("a@h"), id: 1, serial: 0, creation: 1 } }
    }

    #[test]
    fn queued_frames_keep_their_bytes_and_large_binaries_are_not_copied() {
        let sizes = [1, limits::SENT_UNCOPIED, 0, limits::SENT_UNCOPIED - 10, 3 * limits::SENT_UNCOPIED, 5];
        let payloads = sizes.map(|size| Iovec::encode(&Term::binary(vec![7; size])));
        let (mut frames, mut expected) = (Frames::default(), Vec::new());
        for payload in payloads.iter().map(Some).chain([None]) {
            frames.push(&to(), payload, flags::ours(false));
            control::encode(&to(), payload, flags::ours(false), &mut expected);
        }
        let (_, large) = payloads[1].pieces().next().unwrap();
        assert_eq!(frames.parts[1].as_ptr(), large.unwrap().as_ptr(), "it is not copied");
        assert_eq!(frames.parts.len(), 4);
        for at_a_time in [1, 1000, limits::SENT_UNCOPIED, usize::MAX] {
            let mut queue = Queue::default();
            let mut copy = Frames { parts: frames.parts.clone(), last: frames.last.clone() };
            queue.append(&mut copy);
            assert!(copy.is_empty());
            let mut seen = Vec::new();
            while !queue.is_empty() {
                assert_eq!(queue.bytes(), expected.len() - seen.len());
                let first = queue.first().concat();
                let written = at_a_time.min(first.len());
                seen.extend_from_slice(&first[..written]);
                queue.written(written);
            }
            assert_eq!(seen, expected, "{at_a_time} at a time");
            assert_eq!(queue.bytes(), 0);
        }
    }

    #[test]
    fn one_write_is_bounded_and_few_bytes_are_sent_immediately() {
        let mut queue = Queue::default();
        for _ in 0..PARTS_WRITTEN + 1 {
            queue.append(&mut Bytes::from_static(b"x").into());
        }
        assert_eq!(queue.first().len(), PARTS_WRITTEN);
        assert_eq!(slices(&queue.first()).len(), PARTS_WRITTEN);
        let of = |size| Frames { parts: Vec::new(), last: vec![0; size] };
        assert!(of(SENT_AT_ONCE).few().is_some());
        assert!(of(SENT_AT_ONCE + 1).few().is_none());
        assert!(Frames::from(Bytes::from_static(b"x")).few().is_none());
    }
}
