//! Tries the stages up to the cookie on a node that is not connected, in the order of an attempt to
//! connect.
//!
//! The cookie is proved only after the owner of the port, the name of the node and its flags have
//! been checked. The proof is made as a hidden node with another name. So the node does not mistake
//! the trial for our node, and does not report that our node came and went.

use std::net::{IpAddr, SocketAddr};

use beam::connect::dial::{DialError, Dialer, Reached};
use beam::dist::flags;
use beam::dist::setup::{self, SetupError};
use beam::dist::{HandshakeError, Identity};
use beam::epmd::client as epmd;
use beam::name::{NodeName, NodeNameError};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::report::{Report, Stage};

/// The attempt to reach the node at one address of its host.
struct Attempt {
    ip: IpAddr,
    names: Result<Vec<(String, u16)>, epmd::Error>,
    /// The address of the node's port, and the connection to it.
    reached: Option<(SocketAddr, Result<Reached, DialError>)>,
}

impl Attempt {
    /// Returns how far the attempt went; more is further.
    fn progress(&self) -> u8 {
        match (&self.names, &self.reached) {
            (_, Some((_, Ok(_)))) => 4,
            (_, Some((_, Err(DialError::ForeignOwner { .. })))) => 3,
            (_, Some(_)) => 2,
            (Ok(_), None) => 1,
            (Err(_), None) => 0,
        }
    }
}

/// Connects to the node's port over TCP, if the port belongs to an allowed user. Sends nothing over
/// the connection.
///
/// # Errors
/// The failure of the first stage that failed.
pub(super) async fn reach(
    dialer: &Dialer,
    node: &NodeName,
    us: &NodeName,
    report: &mut Report,
) -> Result<(SocketAddr, TcpStream), DialError> {
    let here = dialer.is_here(node);
    let addresses = dialer.resolve(node.host(), here).await?;
    let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    report.passed(Stage::Resolve, format!("{} is {}", node.host(), shown.join(", ")));

    let Some(attempt) = best_attempt(dialer, node, here, &addresses).await else {
        return Err(DialError::NotRegistered);
    };
    let others = match (attempt.names, &attempt.reached) {
        (Ok(names), _) => {
            let address = SocketAddr::new(attempt.ip, dialer.epmd_port);
            report.passed(Stage::Epmd, format!("EPMD answers at {address}"));
            others(&names, node.short_name())
        }
        (Err(error), None) => return Err(error.into()),
        (Err(error), Some((address, _))) => {
            report.skipped(Stage::Epmd, format!("{error}; trying {address} instead (ERL_DIST_PORT)"));
            "other names unknown".to_owned()
        }
    };
    let Some((address, connected)) = attempt.reached else {
        // The name may be misspelled, so the detail lists the registered names, which the error
        // lacks.
        let failure = super::advice_for(&DialError::NotRegistered, dialer, node, us, report);
        report.failed(Stage::Registered, format!("{} is not registered there; {others}", node.short_name()), failure);
        return Err(DialError::NotRegistered);
    };
    report.passed(Stage::Registered, format!("{} has port {}; {others}", node.short_name(), address.port()));
    let (stream, owner) = connected.inspect_err(|error| {
        if Stage::of(error) == Stage::Owner {
            report.skipped(Stage::Tcp, "not checked: the daemon connects only to ports of allowed users");
        }
    })?;
    report.passed(Stage::Tcp, format!("{address} accepts connections"));
    if owner.is_some() {
        report.passed(Stage::Owner, "the port belongs to an allowed user");
    } else {
        report.skipped(Stage::Owner, "not checked: the node is on another host");
    }
    Ok((address, stream))
}

/// Tries all addresses at once. Returns the attempt that went furthest; of equals, the first.
async fn best_attempt(dialer: &Dialer, node: &NodeName, here: bool, addresses: &[IpAddr]) -> Option<Attempt> {
    let mut running = JoinSet::new();
    for (index, ip) in addresses.iter().copied().enumerate() {
        let (dialer, short) = (dialer.clone(), node.short_name().to_owned());
        running.spawn(async move { (index, try_address(&dialer, ip, &short, here).await) });
    }
    let mut attempts = running.join_all().await;
    attempts.sort_by_key(|(index, attempt)| (u8::MAX - attempt.progress(), *index));
    attempts.into_iter().next().map(|(_, attempt)| attempt)
}

async fn try_address(dialer: &Dialer, ip: IpAddr, short: &str, here: bool) -> Attempt {
    let names = epmd::names(SocketAddr::new(ip, dialer.epmd_port)).await;
    let known = names.iter().flatten().find(|(name, _)| name == short).map(|(_, port)| *port);
    let reached = match known.or(dialer.default_port.filter(|_| !here)) {
        Some(port) => {
            let address = SocketAddr::new(ip, port);
            Some((address, dialer.connect(address, here).await))
        }
        None => None,
    };
    Attempt { ip, names, reached }
}

/// Describes the names in an EPMD except `but`: at most `SHOWN`, and the number of the rest.
fn others(names: &[(String, u16)], but: &str) -> String {
    const SHOWN: usize = 20;
    let valid = |name: &&str| *name != but && NodeName::new(name, "host").is_ok();
    let others: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).filter(valid).collect();
    match others.len() {
        0 => "no other names".to_owned(),
        1..=SHOWN => format!("other names: {}", others.join(", ")),
        many => format!("other names: {} and {} more", others[..SHOWN].join(", "), many - SHOWN),
    }
}

/// Begins a handshake as `us` to get the node's name and flags. Then completes a trial handshake as
/// a hidden node with another name, and closes the connection. `one_trial` allows one trial at a
/// time, because all trials have the same name.
///
/// # Errors
/// The failure of the first stage that failed.
pub(super) async fn try_handshake(
    dialer: &Dialer,
    (address, stream): (SocketAddr, TcpStream),
    node: &NodeName,
    us: &Identity,
    one_trial: &Semaphore,
    report: &mut Report,
) -> Result<(), DialError> {
    setup::sound_out(stream, us, node.clone()).await.inspect_err(|error| {
        if matches!(error, SetupError::Handshake(HandshakeError::FlagsMissing(_))) {
            report.passed(Stage::Handshake, format!("the node is {node} and accepts this daemon"));
        }
    })?;
    report.passed(Stage::Handshake, format!("the node is {node} and accepts this daemon"));

    // The semaphore is never closed.
    let _permit = one_trial.acquire().await;
    // Checks the owner of the port again, because another process may have it now.
    let here = dialer.is_here(node);
    let (stream, _) = dialer.connect(address, here).await?;
    let Ok(name) = trial_name(&us.name) else {
        for stage in [Stage::Flags, Stage::Cookie] {
            report.skipped(stage, "not checked: the daemon's node name is too long for a trial under another name");
        }
        return Ok(());
    };
    let trial = Identity { name, flags: flags::ours(true), ..us.clone() };
    // The node may still have the connection of an earlier trial, which this one replaces.
    match setup::dial(stream, &trial, node.clone(), async || true).await {
        Ok(connection) => {
            let agreed = flags::names(connection.peer.flags).join(" ");
            report.passed(Stage::Flags, format!("both have {agreed}"));
            report.passed(Stage::Cookie, "both nodes have the same");
        }
        Err(SetupError::Handshake(HandshakeError::NotAllowed)) => {
            report.passed(Stage::Flags, "the node has all mandatory flags");
            report.skipped(Stage::Cookie, "not checked: the node accepts this daemon, but no trial under another name");
        }
        Err(error) => {
            report.passed(Stage::Flags, "the node has all mandatory flags");
            return Err(error.into());
        }
    }
    Ok(())
}

/// Returns the name for trials. It is always the same, because an Erlang node never frees an atom.
fn trial_name(us: &NodeName) -> Result<NodeName, NodeNameError> {
    NodeName::new(&format!("{}_diagnosis", us.short_name()), us.host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_other_names_only_the_first_are_shown() {
        let names = |n: usize| (0..n).map(|i| (format!("n{i}"), 1)).collect::<Vec<_>>();
        assert_eq!(others(&names(0), "n0"), "no other names");
        assert_eq!(others(&names(3), "n0"), "other names: n1, n2");
        let odd = [("n1\u{1b}[2J".to_owned(), 1), ("n2".to_owned(), 2)];
        assert_eq!(others(&odd, "n0"), "other names: n2");
        assert!(others(&names(30), "n0").ends_with("n20 and 9 more"));
    }
}
