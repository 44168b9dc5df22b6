//! What to do about each failure. Pure: a failure in, a sentence out.

use std::io;

use beam::connect::dial::DialError;
use beam::dist::HandshakeError;
use beam::dist::setup::SetupError;
use beam::name::NodeName;

use super::report::Failure;

/// What advice depends on, beside the failure.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The node that can't be reached.
    pub node: &'a NodeName,
    /// Our own.
    pub us: &'a NodeName,
    /// The port of every host's EPMD.
    pub epmd_port: u16,
    /// The hash of our cookie.
    pub cookie_hash: &'a str,
}

/// What prints the hash of an Erlang node's cookie, to compare with ours.
const HASH: &str = "base64:encode(erlang:md5(atom_to_list(erlang:get_cookie())))";

/// The code of a failed attempt to connect, and what to do.
#[must_use]
pub fn of(error: &DialError, about: &About<'_>) -> Failure {
    let About { node, us, epmd_port, cookie_hash } = about;
    let (host, short) = (node.host(), node.short_name());
    let advice = match error {
        DialError::Mixed { .. } => mix(node, us),
        DialError::HostUnresolved(_, error) if error.kind() == io::ErrorKind::NotFound => {
            format!(
                "add {host} to this host's /etc/hosts or to the DNS, or call the node by a host name that resolves here"
            )
        }
        DialError::HostUnresolved(..) => format!(
            "this host's name service did not answer, so {host} may exist: check the DNS servers in /etc/resolv.conf, then \
             retry; or add {host} to /etc/hosts"
        ),
        DialError::Epmd(_) => format!(
            "start the node, which brings an EPMD up; is {host} the right host, and its TCP port {epmd_port} open from here? \
             If EPMD has another port there, ERL_EPMD_PORT must say so here and there"
        ),
        DialError::NotRegistered => {
            format!("start a node named {short} there, or ask for one of the names that are registered")
        }
        DialError::Refused(address, _) => format!(
            "EPMD knows the name, but nobody listens at {address}: does the node listen at another address \
             (HECATE_LISTEN, or inet_dist_use_interface of kernel), or a firewall reject the port?"
        ),
        DialError::TcpTimedOut(address) => format!(
            "open {address} in whatever firewall is between the hosts; a node keeps to one port with ERL_DIST_PORT, or with \
             inet_dist_listen_min and inet_dist_listen_max of kernel"
        ),
        DialError::ForeignOwner { owner: Some(uid), .. } => format!(
            "another user's node is left alone: if uid {uid} is meant to be in this cluster, add it to HECATE_ALLOWED_UIDS; \
             else start the node as our own user"
        ),
        DialError::ForeignOwner { owner: None, .. } => {
            "whose it is can't be told, and so it is left alone: start the node in this network namespace".to_owned()
        }
        DialError::Setup(error) => setup(error, node, us, cookie_hash),
    };
    Failure { code: error.code().name(), advice }
}

fn setup(error: &SetupError, node: &NodeName, us: &NodeName, cookie_hash: &str) -> String {
    match error {
        SetupError::ProofRefused | SetupError::Handshake(HandshakeError::CookieMismatch) => format!(
            "give both the same cookie, and restart the one that is changed. The hash of ours is {cookie_hash}; there, {HASH} \
             tells another"
        ),
        SetupError::Handshake(HandshakeError::NameMismatch(other)) if other.is_mixed_with(us) => mix(other, us),
        SetupError::Handshake(HandshakeError::NameMismatch(other)) => {
            format!("ask for {other}, or restart that node as {node}")
        }
        SetupError::Handshake(HandshakeError::FlagsMissing(_)) => {
            "it is older than OTP 23, or no Erlang node: run it on OTP 25 or later".to_owned()
        }
        SetupError::Handshake(HandshakeError::NotAllowed) => {
            format!("there, net_kernel:allow/1 names those who may connect: add '{us}', or let the node run without")
        }
        SetupError::Handshake(HandshakeError::AlreadyAlive) => format!(
            "it has not noticed yet that an older connection of ours is gone, or another node calls itself {us}: the older one \
             ends with its net_ticktime, or at once by erlang:disconnect_node('{us}') there"
        ),
        SetupError::Handshake(HandshakeError::Reflected) => format!(
            "do not trust the program that listens there: it may try to connect as {node} without the cookie. Find out who runs it, \
             and block it if you do not know it"
        ),
        SetupError::Handshake(HandshakeError::Simultaneous) => {
            "it is connecting to us at this moment: ask again in a second".to_owned()
        }
        SetupError::TimedOut => {
            "something takes the connection and says nothing: is the node stopped or overloaded, or its port another program's?"
                .to_owned()
        }
        SetupError::TlsExpected => format!(
            "this daemon doesn't support TLS: start {node} without -proto_dist inet_tls, and protect the distribution with a VPN; or \
             exclude it from the names that HECATE_EPMD_NAMES and HECATE_CLUSTER_PEERS match"
        ),
        SetupError::Random(_) => "this host has no random numbers: mend that first".to_owned(),
        SetupError::Handshake(_) | SetupError::Io(_) | SetupError::PacketTooLarge(_) => {
            "the program at this port does not speak the distribution protocol: is it a node at all?".to_owned()
        }
    }
}

/// Short names and long ones: of which kind a node is, its host part tells.
fn mix(node: &NodeName, us: &NodeName) -> String {
    if node.is_long() {
        format!(
            "start that node with a short name (-sname), or us with a long one: set HECATE_HOSTNAME to this host's full name or \
             address, as {} is there",
            node.host()
        )
    } else {
        format!("start that node with a long name (-name), or us with a host part that has no dot; now we are {us}")
    }
}

/// We have no name.
#[must_use]
pub fn no_node() -> Failure {
    let advice =
        "until we are a node ourselves none can be connected: /health and `hecate-daemon cluster` say why, and \
                  `hecate-daemon doctor` what to do"
            .to_owned();
    Failure { code: "no_node", advice }
}

/// We were asked for ourselves.
#[must_use]
pub fn ourselves() -> Failure {
    Failure { code: "ourselves", advice: "ask for another node".to_owned() }
}

/// A connected node is silent.
#[must_use]
pub fn tick_timeout(node: &NodeName, tick_time: std::time::Duration) -> Failure {
    let advice = format!(
        "{node} is stopped, overloaded or cut off: look at its process and at the network; if nothing comes from it for {} s \
         (net_ticktime), the connection is given up, and made again once it answers",
        tick_time.as_secs()
    );
    Failure { code: "tick_timeout", advice }
}

/// A connected node lacks a scope of process groups.
#[must_use]
pub fn scope_absent(scope: &str) -> Failure {
    let start = if scope == "pg" { "pg:start_link()".to_owned() } else { format!("pg:start_link('{scope}')") };
    let advice = format!(
        "start it there, under a supervisor: {start} (for scope pg, `-kernel start_pg true` does); or leave it out of \
         HECATE_PG_SCOPES here"
    );
    Failure { code: "scope_absent", advice }
}

/// The whole took too long.
#[must_use]
pub fn too_slow() -> Failure {
    let advice = "what is asked answers too slowly: ask again, and look at the network and the name service".to_owned();
    Failure { code: "diagnosis_timeout", advice }
}

#[cfg(test)]
mod tests {
    use super::super::report::Stage;
    use super::*;

    #[test]
    fn each_failure_has_its_code_its_stage_and_something_to_do() {
        let about = About {
            node: &NodeName::parse("x@there").unwrap(),
            us: &NodeName::parse("hecate@here").unwrap(),
            epmd_port: 4369,
            cookie_hash: "HASH",
        };
        let io = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let address = ([127, 0, 0, 1], 9).into();
        let handshake = |error| DialError::Setup(SetupError::Handshake(error));
        let table = [
            (
                DialError::Mixed { theirs: "x@::1".parse().unwrap(), ours: "hecate@here".parse().unwrap() },
                "shortname_longname_mix",
                Stage::Name,
                "-name",
            ),
            (
                DialError::HostUnresolved("there".to_owned(), io::ErrorKind::NotFound.into()),
                "host_unresolved",
                Stage::Resolve,
                "add there to this host's /etc/hosts or to the DNS",
            ),
            (
                DialError::HostUnresolved("there".to_owned(), io::ErrorKind::TimedOut.into()),
                "host_unresolved",
                Stage::Resolve,
                "/etc/resolv.conf",
            ),
            (
                DialError::Epmd(beam::epmd::client::Error::TimedOut(address)),
                "epmd_unreachable",
                Stage::Epmd,
                "ERL_EPMD_PORT",
            ),
            (DialError::NotRegistered, "not_registered", Stage::Registered, "named x"),
            (DialError::Refused(address, io()), "tcp_refused", Stage::Tcp, "HECATE_LISTEN"),
            (DialError::TcpTimedOut(address), "tcp_timeout", Stage::Tcp, "firewall"),
            (DialError::ForeignOwner { address, owner: Some(7) }, "foreign_owner", Stage::Owner, "uid 7"),
            (DialError::ForeignOwner { address, owner: None }, "foreign_owner", Stage::Owner, "namespace"),
            (
                handshake(HandshakeError::NameMismatch("y@there".parse().unwrap())),
                "name_mismatch",
                Stage::Handshake,
                "y@there",
            ),
            (
                handshake(HandshakeError::NameMismatch("x@there.lab".parse().unwrap())),
                "name_mismatch",
                Stage::Handshake,
                "HECATE_HOSTNAME",
            ),
            (handshake(HandshakeError::NotAllowed), "not_allowed", Stage::Handshake, "'hecate@here'"),
            (handshake(HandshakeError::AlreadyAlive), "already_alive", Stage::Handshake, "disconnect_node"),
            (handshake(HandshakeError::FlagsMissing(1)), "flags_missing", Stage::Flags, "OTP 25"),
            (handshake(HandshakeError::CookieMismatch), "cookie_mismatch", Stage::Cookie, "HASH"),
            (handshake(HandshakeError::Reflected), "challenge_reflected", Stage::Cookie, "do not trust"),
            (DialError::Setup(SetupError::ProofRefused), "cookie_mismatch", Stage::Cookie, "HASH"),
            (DialError::Setup(SetupError::TimedOut), "handshake_failed", Stage::Handshake, "stopped"),
            (DialError::Setup(SetupError::TlsExpected), "tls_expected", Stage::Handshake, "inet_tls"),
            (handshake(HandshakeError::Malformed("status")), "handshake_failed", Stage::Handshake, "a node at all"),
        ];
        for (error, code, stage, words) in table {
            let failure = of(&error, &about);
            assert_eq!((failure.code, Stage::of(&error)), (code, stage), "{error}");
            assert!(failure.advice.contains(words), "{error}: {}", failure.advice);
        }
    }
}
