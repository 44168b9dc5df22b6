//! The handshake as a chain of awaited messages with one type each, so that no code can handle a
//! message in the wrong phase.
//!
//! ```text
//! we dial      AwaitStatus -> (AwaitStatus::alive ->) AwaitChallenge -> AwaitAck   -> Established
//! they dial    Named -> (Named::receive_alive ->) AwaitReply                       -> Established
//! ```
//!
//! Pure. The arguments are the bytes of one packet, without its length, and the challenge. The
//! results are the bytes to send. Between [`Named`] and the answer to it, the caller decides who
//! may connect and which of two connections wins. Follows "Distribution Handshake" in OTP's erts
//! documentation and `dist_util.erl`. Accepts the name messages of version 6 (`N`) and version 5
//! (`n`).

use subtle::ConstantTimeEq;

use super::challenges::Challenges;
use super::flags::{self, Flags};
use super::given_names::{self, GivenName};
use crate::cookie::Cookie;
use crate::name::{NodeName, NodeNameError};

/// The identity of this node: what it sends about itself, and the secret that it proves.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The full name of this node.
    pub name: NodeName,
    /// Distinguishes this incarnation of the name from earlier ones.
    pub creation: u32,
    /// The offered capabilities.
    pub flags: Flags,
    /// The cluster's secret.
    pub cookie: Cookie,
    /// The challenges that this process issued and must not answer. Shared by all identities with
    /// this cookie.
    pub challenges: Challenges,
}

/// A completed handshake: both sides have proved the cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The full name of the peer.
    pub name: NodeName,
    /// The creation of the peer.
    pub creation: u32,
    /// The capabilities that both nodes have.
    pub flags: Flags,
    /// Whether `nodes()` shows the peer.
    pub published: bool,
}

/// The origin of a connection, which decides between two connections to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This node dialled.
    Dialled,
    /// The peer dialled.
    Accepted,
    /// The accepting node sent `alive`, because it still had an older connection. The dialling node
    /// chose to replace that connection.
    Replacing,
}

/// Why a handshake ended without a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The packet does not match the protocol in this phase. The peer is at fault.
    #[error("the peer sent a malformed {0}")]
    Malformed(&'static str),
    /// The peer is not the node that was dialled.
    #[error("the node calls itself {0}")]
    NameMismatch(NodeName),
    /// The peer's name is not a valid node name.
    #[error("the peer sent an invalid node name: {NodeNameError}")]
    BadName,
    /// The peer lacks capabilities that every node since OTP 23 has. Holds the missing bits.
    #[error("the peer lacks mandatory distribution flags ({0:#x})")]
    FlagsMissing(u64),
    /// The peer's own attempt to connect continues instead of this one.
    #[error("the peer is connecting to this node at the same time")]
    Simultaneous,
    /// The peer refuses this node.
    #[error("the peer does not allow this node to connect")]
    NotAllowed,
    /// The peer proved a different cookie.
    #[error("the peer has another cookie")]
    CookieMismatch,
    /// The peer sent a challenge of this process back, to obtain the proof of the cookie.
    #[error("the peer sent this node's own challenge back")]
    Reflected,
    /// The peer still had an older connection, and one of the two nodes chose to keep it.
    #[error("an older connection to this node is still alive")]
    AlreadyAlive,
    /// The peer sent a status that is unknown.
    #[error("the peer sent an unknown status")]
    UnexpectedStatus,
}

/// The status with which the accepting node answers a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The handshake continues.
    Ok,
    /// The handshake continues, and this node's own attempt to connect ends.
    OkSimultaneous,
    /// This node's own attempt to connect continues instead.
    Nok,
    /// This node still has a connection to the peer, and asks whether to replace it.
    Alive,
    /// The peer may not connect.
    NotAllowed,
}

/// Reads fields from the front of a packet. Returns `None` if the packet is too short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
}

/// Reads the host of a node that requests a name (`is_name_ok/2` for `dynamic`). Returns a
/// placeholder name on that host, of the same length as the name that the node will get.
fn host_name(bytes: &[u8]) -> Result<NodeName, HandshakeError> {
    let host = str::from_utf8(bytes).map_err(|_| HandshakeError::BadName)?;
    NodeName::new(&given_names::short_name(0), host).map_err(|_| HandshakeError::BadName)
}

/// Reads the name of a node. Only characters that `erl` allows for `-sname` and `-name`
/// (`create_name/2` in `net_kernel.erl`) are valid, because the name is logged, shown and sent to
/// peers.
fn node_name(bytes: &[u8]) -> Result<NodeName, HandshakeError> {
    str::from_utf8(bytes).ok().and_then(|name| NodeName::parse(name).ok()).ok_or(HandshakeError::BadName)
}

pub(super) fn name_message(name: &str, creation: u32, flags: Flags, challenge: Option<u32>) -> Vec<u8> {
    let mut packet = vec![b'N'];
    packet.extend_from_slice(&flags.bits().to_be_bytes());
    if let Some(challenge) = challenge {
        packet.extend_from_slice(&challenge.to_be_bytes());
    }
    packet.extend_from_slice(&creation.to_be_bytes());
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(name.as_bytes());
    packet
}

/// The peer's identity, which both chains keep from its name message.
#[derive(Debug)]
struct PeerIdentity {
    name: NodeName,
    creation: u32,
    flags: Flags,
}

impl PeerIdentity {
    fn check_flags(&self) -> Result<(), HandshakeError> {
        match flags::missing(self.flags) {
            Some(missing) => Err(HandshakeError::FlagsMissing(missing.bits())),
            None => Ok(()),
        }
    }

    fn established(self, ours: Flags) -> Established {
        // The agreed flags are those that both nodes have set (`adjust_flags/2`). Only the peer
        // decides whether it is published.
        let theirs = flags::expand(self.flags);
        Established {
            name: self.name,
            creation: self.creation,
            flags: theirs & ours,
            published: theirs.contains(Flags::PUBLISHED),
        }
    }
}

// ---- This node dials --------------------------------------------------------------------------

/// This node has sent its name. The peer's status comes next.
#[derive(Debug)]
pub struct AwaitStatus {
    dialled: NodeName,
}

/// The next step, as the peer's status requires.
#[derive(Debug)]
pub enum StatusReceived {
    /// The challenge comes next.
    Proceed(AwaitChallenge),
    /// The peer has an older connection from this node. Answer with `alive_reply`; after `true`,
    /// the challenge comes next.
    Alive(AwaitChallenge),
}

/// Begins a handshake with the node `dialled`. Returns the first packet to send.
#[must_use]
pub fn dial(local: &Identity, dialled: NodeName) -> (AwaitStatus, Vec<u8>) {
    (AwaitStatus { dialled }, name_message(&local.name, local.creation, local.flags, None))
}

/// Returns the answer to `alive`. `still_wanted` is true if this node no longer has the older
/// connection.
#[must_use]
pub(crate) fn alive_reply(still_wanted: bool) -> &'static [u8] {
    if still_wanted { b"strue" } else { b"sfalse" }
}

impl AwaitStatus {
    /// Handles the peer's status.
    ///
    /// # Errors
    /// The peer refuses, or the packet is not a status.
    pub fn receive(self, packet: &[u8]) -> Result<StatusReceived, HandshakeError> {
        let Some((b's', status)) = packet.split_first() else {
            return Err(HandshakeError::Malformed("status"));
        };
        let next = AwaitChallenge { dialled: self.dialled };
        match status {
            b"ok" | b"ok_simultaneous" => Ok(StatusReceived::Proceed(next)),
            b"alive" => Ok(StatusReceived::Alive(next)),
            b"nok" => Err(HandshakeError::Simultaneous),
            b"not_allowed" => Err(HandshakeError::NotAllowed),
            _ => Err(HandshakeError::UnexpectedStatus),
        }
    }
}

/// The peer's name and challenge come next.
#[derive(Debug)]
pub struct AwaitChallenge {
    dialled: NodeName,
}

impl AwaitChallenge {
    /// Handles the peer's challenge. Returns the packet that answers it and challenges the peer
    /// with `our_challenge`, which must be random, and recorded in [`Identity::challenges`].
    ///
    /// # Errors
    /// The packet is malformed, or the peer is not the node that was dialled, lacks mandatory
    /// flags, or sent back a challenge of this process. In each case, nothing that proves the
    /// cookie has been sent.
    pub fn receive(
        self,
        packet: &[u8],
        local: &Identity,
        our_challenge: u32,
    ) -> Result<(AwaitAck, Vec<u8>), HandshakeError> {
        let malformed = HandshakeError::Malformed("challenge");
        let mut fields = Fields(packet);
        if fields.take() != Some([b'N']) {
            return Err(malformed);
        }
        let parsed = (|| {
            let flags = fields.u64()?;
            let challenge = fields.u32()?;
            let creation = fields.u32()?;
            let length = fields.u16()?;
            Some((flags, challenge, creation, fields.bytes(length.into())?))
        })();
        let (flags, challenge, creation, name) = parsed.ok_or(malformed)?;
        let name = node_name(name)?;
        if name != self.dialled {
            return Err(HandshakeError::NameMismatch(name));
        }
        let peer = PeerIdentity { name, creation, flags: Flags::from_bits_truncate(flags) };
        peer.check_flags()?;
        refuse_reflection(local, challenge)?;
        let mut reply = vec![b'r'];
        reply.extend_from_slice(&our_challenge.to_be_bytes());
        reply.extend_from_slice(&local.cookie.digest(challenge));
        Ok((AwaitAck { peer, our_challenge }, reply))
    }
}

/// The peer's proof comes last.
#[derive(Debug)]
pub struct AwaitAck {
    peer: PeerIdentity,
    our_challenge: u32,
}

impl AwaitAck {
    /// Handles the peer's proof.
    ///
    /// # Errors
    /// The proof is wrong, or the packet is not an acknowledgement. A peer that received a wrong
    /// proof from this node sends nothing and closes the connection.
    pub fn receive(self, packet: &[u8], local: &Identity) -> Result<Established, HandshakeError> {
        let Some((b'a', digest)) = packet.split_first() else {
            return Err(HandshakeError::Malformed("challenge acknowledgement"));
        };
        check_digest(digest, local, self.our_challenge)?;
        Ok(self.peer.established(local.flags))
    }
}

// ---- The peer dials ---------------------------------------------------------------------------

/// Handles the first packet of a peer that dialled.
///
/// # Errors
/// The packet is not a name message, or the name is invalid. Nothing is sent to the peer.
pub fn receive_name(packet: &[u8]) -> Result<Named, HandshakeError> {
    let malformed = HandshakeError::Malformed("name");
    let mut fields = Fields(packet);
    match fields.take() {
        Some([b'N']) => {
            let parsed = (|| {
                let (flags, creation, length) = (fields.u64()?, fields.u32()?, fields.u16()?);
                Some((flags, creation, fields.bytes(length.into())?))
            })();
            let (flags, creation, name) = parsed.ok_or(malformed)?;
            let flags = Flags::from_bits_truncate(flags);
            let nameless = flags.contains(Flags::NAME_ME);
            let name = if nameless { host_name(name)? } else { node_name(name)? };
            Ok(Named { peer: PeerIdentity { name, creation, flags }, complement: false, nameless })
        }
        // Version 5: `n`, Version:16, Flags:32, Name. The upper flags and the creation follow in a
        // complement.
        Some([b'n']) => {
            let parsed = (|| {
                let (_version, flags) = (fields.u16()?, fields.u32()?);
                Some((u64::from(flags), fields.0))
            })();
            let (flags, name) = parsed.ok_or(malformed)?;
            let peer = PeerIdentity { name: node_name(name)?, creation: 0, flags: Flags::from_bits_truncate(flags) };
            Ok(Named { peer, complement: true, nameless: false })
        }
        _ => Err(malformed),
    }
}

/// The peer has sent its name and waits for a status.
#[derive(Debug)]
pub struct Named {
    peer: PeerIdentity,
    complement: bool,
    nameless: bool,
}

impl Named {
    /// Returns the name that the peer sent, which is not proved yet. For a peer that [is
    /// nameless](Self::is_nameless), the short name has no meaning before [`Self::give_name`].
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.peer.name
    }

    /// Returns the name that the peer sent, or the host on which it requests a name.
    #[must_use]
    pub(crate) fn claimed(&self) -> &str {
        if self.nameless { self.peer.name.host() } else { &self.peer.name }
    }

    /// Returns whether the peer requests a name (`DFLAG_NAME_ME`, as `erl -sname undefined` sends
    /// it).
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        self.nameless
    }

    /// Gives a nameless peer a name on its host.
    pub fn give_name(&mut self, given: &GivenName) {
        self.peer.name = given.name().clone();
        self.peer.creation = given.creation();
    }

    /// Returns the packet with the name that a nameless peer gets, in place of [`Status::Ok`]
    /// (`send_status/2` in `dist_util.erl`).
    #[must_use]
    pub fn name_packet(&self) -> Vec<u8> {
        let name = self.peer.name.as_bytes();
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        [b"snamed:", &length.to_be_bytes()[..], name, &self.peer.creation.to_be_bytes()].concat()
    }

    /// Returns the packet with a status.
    #[must_use]
    pub fn status_packet(status: Status) -> &'static [u8] {
        match status {
            Status::Ok => b"sok",
            Status::OkSimultaneous => b"sok_simultaneous",
            Status::Nok => b"snok",
            Status::Alive => b"salive",
            Status::NotAllowed => b"snot_allowed",
        }
    }

    /// Checks the flags that are known before a status is sent.
    ///
    /// # Errors
    /// [`HandshakeError::FlagsMissing`]. The caller then sends [`Status::NotAllowed`], as OTP does.
    pub fn check_flags(&self) -> Result<(), HandshakeError> {
        if self.complement {
            // A name message of version 5 has 32 bits of flags. They show that the peer can do the
            // new handshake.
            return match self.peer.flags.contains(Flags::HANDSHAKE_23) {
                true => Ok(()),
                false => Err(HandshakeError::FlagsMissing(Flags::HANDSHAKE_23.bits())),
            };
        }
        self.peer.check_flags()
    }

    /// Handles the peer's answer to [`Status::Alive`].
    ///
    /// # Errors
    /// The peer keeps the old connection, or the packet is malformed.
    pub fn receive_alive(&self, packet: &[u8]) -> Result<(), HandshakeError> {
        match packet {
            b"strue" => Ok(()),
            b"sfalse" => Err(HandshakeError::AlreadyAlive),
            _ => Err(HandshakeError::Malformed("answer to alive")),
        }
    }

    /// Returns the packet that challenges the peer with `our_challenge`, which must be random, and
    /// recorded in [`Identity::challenges`].
    #[must_use]
    pub fn challenge(self, local: &Identity, our_challenge: u32) -> (AwaitReply, Vec<u8>) {
        // A nameless peer requires that both nodes send the flag (`do_setnode/1`).
        let ours = if self.nameless { local.flags | Flags::NAME_ME } else { local.flags };
        let packet = name_message(&local.name, local.creation, ours, Some(our_challenge));
        (AwaitReply { peer: self.peer, ours, complement: self.complement, our_challenge }, packet)
    }
}

/// The peer's proof and its challenge come next.
#[derive(Debug)]
pub struct AwaitReply {
    peer: PeerIdentity,
    ours: Flags,
    complement: bool,
    our_challenge: u32,
}

/// The result of a packet in this phase.
#[derive(Debug)]
pub enum ReplyReceived {
    /// It was the complement of a version 5 name. The reply comes next.
    Complemented(AwaitReply),
    /// The peer has proved the cookie. Send the packet, which proves the cookie of this node, and
    /// the handshake is complete.
    Done(Established, Vec<u8>),
}

impl AwaitReply {
    /// Handles the peer's reply, or the complement that precedes it.
    ///
    /// # Errors
    /// The proof is wrong, flags are missing, the challenge is one of this process, or the packet
    /// is malformed. In each case, this node has proved nothing.
    pub fn receive(mut self, packet: &[u8], local: &Identity) -> Result<ReplyReceived, HandshakeError> {
        let mut fields = Fields(packet);
        if self.complement {
            // `c`, the upper half of the flags, and the creation.
            let parsed = (|| match fields.take()? {
                [b'c'] => Some((u64::from(fields.u32()?), fields.u32()?)),
                _ => None,
            })();
            let (high, creation) = parsed.ok_or(HandshakeError::Malformed("complement"))?;
            self.peer.flags = Flags::from_bits_truncate(self.peer.flags.bits() | (high << 32));
            self.peer.creation = creation;
            self.complement = false;
            self.peer.check_flags()?;
            return Ok(ReplyReceived::Complemented(self));
        }
        let parsed = (|| match fields.take()? {
            [b'r'] => fields.u32(),
            _ => None,
        })();
        let their_challenge = parsed.ok_or(HandshakeError::Malformed("challenge reply"))?;
        check_digest(fields.0, local, self.our_challenge)?;
        refuse_reflection(local, their_challenge)?;
        let mut ack = vec![b'a'];
        ack.extend_from_slice(&local.cookie.digest(their_challenge));
        Ok(ReplyReceived::Done(self.peer.established(self.ours), ack))
    }
}

/// Refuses a challenge of this process, because the answer to it is the proof that this node
/// expects from the peer.
fn refuse_reflection(local: &Identity, challenge: u32) -> Result<(), HandshakeError> {
    if local.challenges.is_ours(challenge) { Err(HandshakeError::Reflected) } else { Ok(()) }
}

/// Compares the digest in constant time, so that the duration reveals nothing about it.
fn check_digest(theirs: &[u8], local: &Identity, challenge: u32) -> Result<(), HandshakeError> {
    if bool::from(theirs.ct_eq(&local.cookie.digest(challenge))) { Ok(()) } else { Err(HandshakeError::CookieMismatch) }
}

#[cfg(test)]
mod tests;
