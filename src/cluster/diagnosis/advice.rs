//! Returns what to do about each failure of a diagnosis. Pure.

use std::io;

use beam::connect::dial::DialError;
use beam::dist::HandshakeError;
use beam::dist::setup::SetupError;
use beam::name::NodeName;

use super::report::Failure;

/// The names and numbers that advice refers to.
#[derive(Debug, Clone, Copy)]
pub struct AdviceContext<'a> {
    /// The node that is not connected.
    pub node: &'a NodeName,
    /// The daemon's own node.
    pub us: &'a NodeName,
    /// The port of EPMD, the same on all hosts.
    pub epmd_port: u16,
    /// The hash of the daemon's cookie.
    pub cookie_hash: &'a str,
}

/// The default short name of a hecate-daemon, which cannot evaluate Erlang.
const DAEMON: &str = "hecate";

/// The Erlang expression that returns the hash of a node's cookie.
const COOKIE_HASH: &str = "base64:encode(erlang:md5(atom_to_list(erlang:get_cookie())))";

/// Returns the code of a failed attempt to connect, and what to do.
#[must_use]
pub fn of(error: &DialError, context: &AdviceContext<'_>) -> Failure {
    let AdviceContext { node, us, epmd_port, cookie_hash } = context;
    let (host, short) = (node.host(), node.short_name());
    let advice = match error {
        DialError::Mixed { .. } => mixed_names(node, us),
        DialError::HostUnresolved(_, error) if error.kind() == io::ErrorKind::NotFound => format!(
            "add {host} to this host's /etc/hosts or to the DNS, or use a host name of the node that resolves here"
        ),
        DialError::HostUnresolved(..) => format!(
            "the name service did not answer, so {host} may exist: check the DNS servers in /etc/resolv.conf and \
             try again, or add {host} to /etc/hosts"
        ),
        DialError::Epmd(_) => format!(
            "start the node, which also starts EPMD on its host. Check that {host} is the right host, and that its TCP \
             port {epmd_port} is open from here. If EPMD uses another port, set ERL_EPMD_PORT to it on both hosts"
        ),
        DialError::NotRegistered => {
            format!("start a node named {short} on {host}, or diagnose one of the names that are registered there")
        }
        DialError::Refused(address, _) => format!(
            "EPMD has the name, but {address} refuses connections: check the address on which the node listens \
             (`inet_dist_use_interface` of kernel; HECATE_LISTEN for a hecate-daemon), and whether a firewall rejects \
             the port"
        ),
        DialError::TcpTimedOut(address) => format!(
            "open {address} in the firewalls between the hosts. To give the node a fixed port, set ERL_DIST_PORT, or \
             `inet_dist_listen_min` and `inet_dist_listen_max` of kernel"
        ),
        DialError::ForeignOwner { owner: Some(uid), .. } => format!(
            "if uid {uid} may run nodes of this cluster and call this daemon's API, add it to HECATE_ALLOWED_UIDS; \
             otherwise start the node as the daemon's user"
        ),
        DialError::ForeignOwner { owner: None, .. } => {
            "start the node in the daemon's network namespace: the daemon cannot see who owns the port, and connects \
             only to nodes of allowed users"
                .to_owned()
        }
        DialError::Setup(error) => setup(error, node, us, cookie_hash),
    };
    Failure { code: error.code().name(), advice }
}

fn setup(error: &SetupError, node: &NodeName, us: &NodeName, cookie_hash: &str) -> String {
    match error {
        SetupError::ProofRefused | SetupError::Handshake(HandshakeError::CookieMismatch) => {
            let command = match node.short_name() {
                DAEMON => format!("`hecate-daemon diagnose {us}` there"),
                _ => COOKIE_HASH.to_owned(),
            };
            format!(
                "set the same cookie on both nodes, and restart the node that you change. The daemon's cookie has the \
                 hash {cookie_hash}; to get the hash on {node}, run {command}"
            )
        }
        SetupError::Handshake(HandshakeError::NameMismatch(other)) if other.is_mixed_with(us) => mixed_names(other, us),
        SetupError::Handshake(HandshakeError::NameMismatch(other)) => {
            format!("use the name {other} (`hecate-daemon diagnose {other}`), or restart that node as {node}")
        }
        SetupError::Handshake(HandshakeError::FlagsMissing(_)) => {
            "the node is older than OTP 23, or is not an Erlang node: run it on OTP 25 or later".to_owned()
        }
        SetupError::Handshake(HandshakeError::NotAllowed) => format!(
            "the node accepts only the nodes that its net_kernel:allow/1 lists, or it is stopping. To add this daemon, \
             run net_kernel:allow(['{us}']) on {node}"
        ),
        SetupError::Handshake(HandshakeError::AlreadyAlive) => format!(
            "{node} still has an older connection of {us}, or another node uses that name. Wait until its net_ticktime \
             is over, or run erlang:disconnect_node('{us}') on {node}"
        ),
        SetupError::Handshake(HandshakeError::Reflected) => format!(
            "do not trust the program that listens there: it may be trying to connect as {node} without the cookie. \
             Find out who runs it, and block it if you do not know it"
        ),
        SetupError::Handshake(HandshakeError::Simultaneous) => format!(
            "{node} is connecting to this daemon at the same time: run `hecate-daemon diagnose {node}` again in a second"
        ),
        SetupError::TimedOut => {
            "the program at this port accepts connections, but does not answer: check whether the node is stopped or \
             overloaded, and whether another program has the port"
                .to_owned()
        }
        SetupError::TlsExpected => format!(
            "this daemon does not support TLS: start {node} without `-proto_dist inet_tls`, and protect the \
             distribution with a VPN; or change HECATE_EPMD_NAMES and HECATE_CLUSTER_PEERS so that they exclude it"
        ),
        SetupError::Random(_) => "this host cannot provide random numbers: fix that first".to_owned(),
        SetupError::Handshake(_) | SetupError::Io(_) | SetupError::PacketTooLarge(_) => {
            "the program at this port does not speak the distribution protocol: check which program it is".to_owned()
        }
    }
}

/// Returns what to do if only one of the two names is short.
fn mixed_names(node: &NodeName, us: &NodeName) -> String {
    if node.is_long() {
        "start the node with a short name (`-sname`), or give this daemon a long one: set HECATE_HOSTNAME to this \
         host's full name or address"
            .to_owned()
    } else {
        format!(
            "start the node with a long name (`-name`), or give this daemon a short one: set HECATE_HOSTNAME to a name \
             without dots. This daemon is {us} now"
        )
    }
}

/// The daemon has no node yet.
#[must_use]
pub fn no_node() -> Failure {
    let advice = "`hecate-daemon cluster` shows why this daemon's node is not ready, and `hecate-daemon doctor` what \
                  to do"
        .to_owned();
    Failure { code: "no_node", advice }
}

/// The node to diagnose is the daemon's own.
#[must_use]
pub fn ourselves() -> Failure {
    Failure { code: "ourselves", advice: "diagnose another node".to_owned() }
}

/// A connected node does not answer.
#[must_use]
pub fn tick_timeout(node: &NodeName, tick_time: std::time::Duration) -> Failure {
    let advice = format!(
        "check whether {node} is stopped or overloaded, and check the network. After {} s without data from it \
         (net_ticktime), the daemon closes the connection, and connects again when the node answers",
        tick_time.as_secs()
    );
    Failure { code: "tick_timeout", advice }
}

/// A scope of process groups does not run on a connected node.
#[must_use]
pub fn scope_absent(scope: &str) -> Failure {
    let start = if scope == "pg" {
        "call pg:start_link() in a supervisor there, or start the node with `-kernel start_pg true`".to_owned()
    } else {
        format!("call pg:start_link('{scope}') in a supervisor there")
    };
    let advice = format!("{start}; if the cluster does not use the scope, remove it from HECATE_PG_SCOPES");
    Failure { code: "scope_absent", advice }
}

/// The diagnosis was not finished in time.
#[must_use]
pub fn diagnosis_timeout() -> Failure {
    let advice = "this stage took too long: check the network and the name service, and diagnose again".to_owned();
    Failure { code: "diagnosis_timeout", advice }
}

#[cfg(test)]
mod tests {
    use super::super::report::Stage;
    use super::*;

    #[test]
    fn each_failure_has_a_code_a_stage_and_advice() {
        let context = AdviceContext {
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
            (handshake(HandshakeError::Malformed("status")), "handshake_failed", Stage::Handshake, "protocol"),
        ];
        for (error, code, stage, words) in table {
            let failure = of(&error, &context);
            assert_eq!((failure.code, Stage::of(&error)), (code, stage), "{error}");
            assert!(failure.advice.contains(words), "{error}: {}", failure.advice);
        }
        let daemon = AdviceContext { node: &NodeName::parse("hecate@there").unwrap(), ..context };
        let advice = of(&DialError::Setup(SetupError::ProofRefused), &daemon).advice;
        assert!(advice.ends_with("to get the hash on hecate@there, run `hecate-daemon diagnose hecate@here` there"));
    }
}
