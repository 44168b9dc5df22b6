//! The decoded payload of a control message. Pure.
//!
//! A large payload takes time to decode, so it can be decoded elsewhere and passed to the machine
//! by [`NodeInput::Read`](super::NodeInput::Read).

use bytes::Bytes;

use crate::dist::control::Control;
use crate::etf::{Atoms, DecodeError, Raw, Reader};
use crate::limits;
use crate::node::services::gen_server::{self, From, Message};

/// A decoded payload.
#[derive(Debug)]
pub enum Content {
    /// A message to a process.
    Message(Message),
    /// The arguments of a function.
    Arguments(Raw),
    /// Invalid, or too large.
    Unreadable {
        /// Why.
        error: DecodeError,
        /// The process that waits for an answer, if known.
        from: Option<From>,
        /// Whether it exceeds the limit for calls.
        is_large: bool,
    },
}

impl Content {
    /// Returns the number of bytes that are examined, approximately.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Message(
                Message::Call(_, term) | Message::System(_, term) | Message::Cast(term) | Message::Info(term),
            )
            | Self::Arguments(term) => term.bytes().len(),
            Self::Message(Message::Foreign(_)) | Self::Unreadable { .. } => 0,
        }
    }
}

/// Decodes the payload of a control message.
#[must_use]
pub fn read(control: &Control, payload: Bytes, atoms: &mut Atoms) -> Content {
    match (whole_term(&payload, atoms), control) {
        (Ok(arguments), Control::SpawnRequest { .. }) => Content::Arguments(arguments),
        (Ok(message), _) => Content::Message(gen_server::parse(message, atoms)),
        (Err(error), _) => {
            let from = gen_server::caller(&payload, atoms).ok();
            Content::Unreadable { error, from, is_large: payload.len() > limits::CALL_ARGUMENTS }
        }
    }
}

/// Decodes a payload that is exactly one term.
fn whole_term(payload: &Bytes, atoms: &mut Atoms) -> Result<Raw, DecodeError> {
    let mut r = Reader::new(payload, atoms);
    let message = r.raw()?;
    r.finish()?;
    Ok(message)
}
