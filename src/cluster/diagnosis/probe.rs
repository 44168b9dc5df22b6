//! The stages up to the cookie, tried out: what a node's own attempt to connect would meet, one after the other.
//!
//! Nothing of the cookie is proved before it is known whose port it is, who answers there and what it can do; and then
//! under a hidden name of its own, so that no node takes the trial for us, or believes that we have come and gone.

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

/// How far one address of the node's host has led.
struct Way {
    ip: IpAddr,
    names: Result<Vec<(String, u16)>, epmd::Error>,
    /// Where the node is said to be, and the connection to there.
    reached: Option<(SocketAddr, Result<Reached, DialError>)>,
}

impl Way {
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

/// Goes from the node's name to a port of it that takes a connection, over which nothing has been sent, and may be.
///
/// # Errors
/// What is in the way.
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

    let Some(way) = best(dialer, node, here, &addresses).await else { return Err(DialError::NotRegistered) };
    let others = match (way.names, &way.reached) {
        (Ok(names), _) => {
            report.passed(Stage::Epmd, format!("it answers at {}", SocketAddr::new(way.ip, dialer.epmd_port)));
            others(&names, node.short_name())
        }
        (Err(error), None) => return Err(error.into()),
        (Err(error), Some((address, _))) => {
            report.skipped(Stage::Epmd, format!("{error}; so {address} is tried, as ERL_DIST_PORT says"));
            String::new()
        }
    };
    let Some((address, connected)) = way.reached else {
        // The error has no room for them, and whoever has misspelt a name needs them.
        let failure = super::advice_for(&DialError::NotRegistered, dialer, node, us, report);
        report.failed(Stage::Registered, format!("{} is not registered there; {others}", node.short_name()), failure);
        return Err(DialError::NotRegistered);
    };
    report.passed(Stage::Registered, format!("{} is at port {}; {others}", node.short_name(), address.port()));
    let (stream, owner) = connected.inspect_err(|error| {
        if Stage::of(error) == Stage::Owner {
            report.skipped(Stage::Tcp, "not tried: another user's node need not hear of us");
        }
    })?;
    report.passed(Stage::Tcp, format!("{address} takes connections"));
    if owner.is_some() {
        report.passed(Stage::Owner, "the port belongs to one of the allowed users");
    } else {
        report.skipped(Stage::Owner, "it is on another host, where that can't be told");
    }
    Ok((address, stream))
}

/// Of the ways over all addresses, which are tried at once, the first that leads furthest.
async fn best(dialer: &Dialer, node: &NodeName, here: bool, addresses: &[IpAddr]) -> Option<Way> {
    let mut looks = JoinSet::new();
    for (place, ip) in addresses.iter().copied().enumerate() {
        let (dialer, short) = (dialer.clone(), node.short_name().to_owned());
        looks.spawn(async move { (place, look(&dialer, ip, &short, here).await) });
    }
    let mut ways = looks.join_all().await;
    ways.sort_by_key(|(place, way)| (u8::MAX - way.progress(), *place));
    ways.into_iter().next().map(|(_, way)| way)
}

async fn look(dialer: &Dialer, ip: IpAddr, short: &str, here: bool) -> Way {
    let names = epmd::names(SocketAddr::new(ip, dialer.epmd_port)).await;
    let known = names.iter().flatten().find(|(name, _)| name == short).map(|(_, port)| *port);
    let reached = match known.or(dialer.default_port.filter(|_| !here)) {
        Some(port) => {
            let address = SocketAddr::new(ip, port);
            Some((address, dialer.connect(address, here).await))
        }
        None => None,
    };
    Way { ip, names, reached }
}

/// The other names that an EPMD has, as a sentence; not all of them if there are many.
fn others(names: &[(String, u16)], but: &str) -> String {
    const SHOWN: usize = 20;
    let valid = |name: &&str| *name != but && NodeName::new(name, "host").is_ok();
    let others: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).filter(valid).collect();
    match others.len() {
        0 => "no other name is".to_owned(),
        1..=SHOWN => format!("others there are {}", others.join(", ")),
        many => format!("others there are {} and {} more", others[..SHOWN].join(", "), many - SHOWN),
    }
}

/// Shakes hands as `us` until the node has said who it is and what it can do, and then, as a hidden node of another name, to
/// the end, by `one_trial` at a time, since they all have that name. The connection is closed at once.
///
/// # Errors
/// What is in the way.
pub(super) async fn shake(
    dialer: &Dialer,
    (address, stream): (SocketAddr, TcpStream),
    node: &NodeName,
    us: &Identity,
    one_trial: &Semaphore,
    report: &mut Report,
) -> Result<(), DialError> {
    setup::sound_out(stream, us, node.clone()).await.inspect_err(|error| {
        if matches!(error, SetupError::Handshake(HandshakeError::FlagsMissing(_))) {
            report.passed(Stage::Handshake, format!("it is {node}, and takes us"));
        }
    })?;
    report.passed(Stage::Handshake, format!("it is {node}, and takes us"));

    // Never closed, so there is always a permit in the end.
    let _permit = one_trial.acquire().await;
    // Asked again whose it is: it need not be the same any more.
    let here = dialer.is_here(node);
    let (stream, _) = dialer.connect(address, here).await?;
    let Ok(name) = trial_name(&us.name) else {
        for stage in [Stage::Flags, Stage::Cookie] {
            report.skipped(stage, "our own name is too long for a trial by another name: only connecting will tell");
        }
        return Ok(());
    };
    let trial = Identity { name, flags: flags::ours(true), ..us.clone() };
    // An older trial that the node still believes in is of no use to anybody.
    match setup::dial(stream, &trial, node.clone(), async || true).await {
        Ok(connection) => {
            let agreed = flags::names(connection.peer.flags).join(" ");
            report.passed(Stage::Flags, format!("both have {agreed}"));
            report.passed(Stage::Cookie, "both have proved the same");
        }
        Err(SetupError::Handshake(HandshakeError::NotAllowed)) => {
            report.passed(Stage::Flags, "it has all that are mandatory");
            report.skipped(Stage::Cookie, "it takes us, and not a trial by another name: only connecting will tell");
        }
        Err(error) => {
            report.passed(Stage::Flags, "it has all that are mandatory");
            return Err(error.into());
        }
    }
    Ok(())
}

/// The name of a trial, always the same: an Erlang node never forgets an atom.
fn trial_name(us: &NodeName) -> Result<NodeName, NodeNameError> {
    NodeName::new(&format!("{}_diagnosis", us.short_name()), us.host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_told_and_not_all_of_many() {
        let names = |n: usize| (0..n).map(|i| (format!("n{i}"), 1)).collect::<Vec<_>>();
        assert_eq!(others(&names(0), "n0"), "no other name is");
        assert_eq!(others(&names(3), "n0"), "others there are n1, n2");
        let odd = [("n1\u{1b}[2J".to_owned(), 1), ("n2".to_owned(), 2)];
        assert_eq!(others(&odd, "n0"), "others there are n2");
        assert!(others(&names(30), "n0").ends_with("n20 and 9 more"));
    }
}
