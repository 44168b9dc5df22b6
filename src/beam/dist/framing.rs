//! Frames of an established connection: a length of four bytes, followed by that many bytes. A
//! length of zero is a tick.
//!
//! Pure. A frame is a slice of the read buffer and is not copied. The length is checked before the
//! frame arrives, and memory grows only with bytes that have arrived.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A frame without content: the peer shows that it is alive.
    Tick,
    /// A control message, with or without a payload.
    Message(Bytes),
}

/// The peer announced a frame of more than [`limits::FRAME`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer announced a frame of {0} bytes, which exceeds the limit of {max} bytes", max = limits::FRAME)]
pub struct FrameTooLarge(pub usize);

/// Removes the next whole frame from the front of `buf`. Returns `None` if more bytes must arrive
/// first.
///
/// # Errors
/// [`FrameTooLarge`]. The connection cannot be used afterwards.
pub fn next(buf: &mut BytesMut) -> Result<Option<Frame>, FrameTooLarge> {
    let Some(length) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > limits::FRAME {
        return Err(FrameTooLarge(length));
    }
    if buf.len() - 4 < length {
        return Ok(None);
    }
    buf.advance(4);
    if length == 0 {
        return Ok(Some(Frame::Tick));
    }
    Ok(Some(Frame::Message(buf.split_to(length).freeze())))
}

/// Returns the number of bytes that the frame at the front of `buf` lacks, or 0 if it is whole or
/// its length has not arrived.
#[must_use]
pub fn missing(buf: &[u8]) -> usize {
    let Some(length) = buf.first_chunk::<4>() else {
        return 0;
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    length.saturating_sub(buf.len() - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_in_whatever_pieces_they_arrive() {
        let wire = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0], &[0, 0, 0, 1], b"z"].concat();
        let whole = [Frame::Message(Bytes::from_static(b"abc")), Frame::Tick, Frame::Message(Bytes::from_static(b"z"))];
        for piece in 1..=wire.len() {
            let (mut buf, mut seen) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(piece) {
                buf.extend_from_slice(part);
                while let Some(frame) = next(&mut buf).expect("within bounds") {
                    seen.push(frame);
                }
                assert!(missing(&buf) <= 3 && (missing(&buf) == 0) == (buf.len() < 4));
            }
            assert_eq!(seen, whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_arrives() {
        let over = u32::try_from(limits::FRAME + 1).expect("fits");
        let mut buf = BytesMut::from(&over.to_be_bytes()[..]);
        assert_eq!(next(&mut buf), Err(FrameTooLarge(limits::FRAME + 1)));
        let mut buf = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(next(&mut buf).is_err());
        let at = u32::try_from(limits::FRAME).expect("fits");
        assert_eq!(next(&mut BytesMut::from(&at.to_be_bytes()[..])), Ok(None));
    }
}
