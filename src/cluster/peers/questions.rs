//! Asks a connected node about itself over the existing connection: with calls to its `net_kernel`,
//! and with `erpc` for what only Erlang functions return.
//!
//! Keeps no state. It is not a failure if a node cannot answer: a hecate-daemon has no OTP release,
//! and nodes in C or Java accept no calls.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use beam::dist::flags::Flags;
use beam::etf::{Atom, Atoms, DecodeError, Raw, Reader, Term};
use beam::name::NodeName;
use beam::node::Program;
use beam::node::handle::{Handle, Stopped};
use beam::node::view::PeerState;
use beam::node::{CallError, Function};

use crate::cluster::peers::strategies::learned;
use crate::limits;

/// The program that runs our node, as Erlang's tools show it.
pub const PROGRAM: Program = Program { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The node did not answer in time, or the connection is gone.
    Silent,
    /// The node answered that it has no such function, or does not run it for us.
    Unable,
    /// The node was not asked, because it accepts no calls, such as a node in C or Java.
    NotCallable,
    /// The node was not asked, because too many calls await an answer.
    NotAsked,
}

/// An answer, or why there is none.
pub type Answered<T> = Result<T, Unanswered>;

/// Returns the OTP release of a node, such as `25`. A hecate-daemon has no release, so the result
/// is [`Unanswered::Unable`]. To tools, it reports the oldest release whose protocol it speaks.
///
/// # Errors
/// See [`Unanswered`].
pub async fn otp_release(node: &Handle, peer: &NodeName) -> Answered<String> {
    let machine = ask(node, peer, "erlang", "system_info", vec![Term::atom("machine")]).await?;
    if short_text(&machine).is_ok_and(|machine| machine == PROGRAM.name) {
        return Err(Unanswered::Unable);
    }
    let answer = ask(node, peer, "erlang", "system_info", vec![Term::atom("otp_release")]).await?;
    short_text(&answer).map_err(|_| Unanswered::Unable)
}

/// Returns the `net_ticktime` of a node.
///
/// # Errors
/// See [`Unanswered`].
pub async fn tick_time(node: &Handle, peer: &NodeName) -> Answered<Duration> {
    milliseconds(&ask_net_kernel(node, peer, Term::atom("ticktime")).await?).map_err(|_| Unanswered::Unable)
}

/// Returns the nodes that a node is connected to, including hidden ones. A hecate-daemon reports
/// only the visible ones.
///
/// # Errors
/// See [`Unanswered`].
pub async fn nodes(node: &Handle, peer: &NodeName) -> Answered<BTreeSet<NodeName>> {
    let answer = match ask(node, peer, "erlang", "nodes", vec![Term::atom("connected")]).await {
        Err(Unanswered::Unable) => ask(node, peer, "erlang", "nodes", vec![]).await?,
        answered => answered?,
    };
    learned::nodes(&answer).map_err(|_| Unanswered::Unable)
}

/// Returns whether a process is registered under this name on a node.
///
/// # Errors
/// See [`Unanswered`].
pub async fn is_registered(node: &Handle, peer: &NodeName, name: &Atom) -> Answered<bool> {
    let answer = ask(node, peer, "erlang", "whereis", vec![Term::Atom(name.clone())]).await?;
    // `undefined`, or a pid.
    Ok(Reader::new(answer.bytes(), &mut Atoms::new()).atom().is_err())
}

/// Returns the round-trip time of a ping, which is the request that `net_adm:ping/1` sends.
///
/// # Errors
/// See [`Unanswered`].
pub async fn round_trip(node: &Handle, peer: &NodeName) -> Answered<Duration> {
    let us = node.watch().borrow().name.clone();
    let us = Atom::new(&us).unwrap_or_else(|_| Atom::literal("hecate"));
    let asked = Instant::now();
    ask_net_kernel(node, peer, Term::tuple([Term::atom("is_auth"), Term::Atom(us)])).await?;
    Ok(asked.elapsed())
}

async fn ask(
    node: &Handle,
    peer: &NodeName,
    module: &'static str,
    function: &'static str,
    args: Vec<Term>,
) -> Answered<Raw> {
    check_callable(node, peer)?;
    answered(
        node.call(peer.clone(), Function { module: Atom::literal(module), function: Atom::literal(function), args })
            .await,
    )
}

async fn ask_net_kernel(node: &Handle, peer: &NodeName, request: Term) -> Answered<Raw> {
    check_callable(node, peer)?;
    answered(node.gen_call(peer.clone(), Atom::literal("net_kernel"), request).await)
}

/// Returns an error if a node accepts no calls, or is not connected.
fn check_callable(node: &Handle, peer: &NodeName) -> Answered<()> {
    match node.watch().borrow().peers.get(peer).map(|peer| &peer.state) {
        // Such a node has no `net_kernel` either, and would not answer a ping.
        Some(PeerState::Up { flags, .. }) if !flags.contains(Flags::SPAWN) => Err(Unanswered::NotCallable),
        Some(PeerState::Up { .. }) => Ok(()),
        Some(PeerState::Down { .. }) | None => Err(Unanswered::Silent),
    }
}

fn answered(result: Result<Result<Raw, CallError>, Stopped>) -> Answered<Raw> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(CallError::Failed | CallError::Refused(_) | CallError::NoProcess)) => Err(Unanswered::Unable),
        Ok(Err(CallError::TooMany)) => Err(Unanswered::NotAsked),
        Ok(Err(CallError::NoConnection | CallError::TimedOut)) | Err(Stopped) => Err(Unanswered::Silent),
    }
}

/// Returns the text of a short string, such as a release.
fn short_text(answer: &Raw) -> Result<String, DecodeError> {
    let Term::List(characters) = answer.term(&mut Atoms::new())? else { return Err(DecodeError::OtherArity) };
    let character = |term: Term| match term {
        Term::Int(code) => u8::try_from(code).ok().filter(u8::is_ascii_graphic).map(char::from),
        _ => None,
    };
    let text: Option<String> = characters.into_iter().map(character).collect();
    text.filter(|text| text.len() <= limits::OTP_RELEASE).ok_or(DecodeError::OtherArity)
}

/// Reads `Milliseconds`, or `{ongoing_change_to, Milliseconds}`.
fn milliseconds(answer: &Raw) -> Result<Duration, DecodeError> {
    let milliseconds = match answer.term(&mut Atoms::new())? {
        Term::Int(milliseconds) => milliseconds,
        Term::Tuple(change) => match change.as_slice() {
            [Term::Atom(_), Term::Int(milliseconds)] => *milliseconds,
            _ => return Err(DecodeError::OtherArity),
        },
        _ => return Err(DecodeError::OtherArity),
    };
    u64::try_from(milliseconds).map(Duration::from_millis).map_err(|_| DecodeError::OtherArity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_answers_are_read_and_others_are_refused() {
        let text = |text: &str| short_text(&Raw::encode(&Term::string(text))).ok();
        assert_eq!(text("25").as_deref(), Some("25"));
        assert_eq!(text("\u{1b}[2J"), None, "it could control a terminal");
        assert_eq!(text(&"9".repeat(limits::OTP_RELEASE + 1)), None);
        let time = |term: Term| milliseconds(&Raw::encode(&term)).ok();
        assert_eq!(time(Term::Int(60_000)), Some(Duration::from_secs(60)));
        let change = Term::tuple([Term::atom("ongoing_change_to"), Term::Int(8_000)]);
        assert_eq!(time(change), Some(Duration::from_secs(8)));
        assert_eq!(time(Term::atom("ignored")), None);
        assert_eq!(time(Term::Int(-1)), None);
    }
}
