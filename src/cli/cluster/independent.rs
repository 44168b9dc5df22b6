//! Calls a node from the process of the command, without the daemon and with the protocol
//! implementation of `erl_rpc`.
//!
//! `eetf`, which decodes its terms, ends the process on some bytes and has no size limit, so the
//! daemon never uses it. Here one timeout bounds everything. `erl_rpc` checks neither the owner of
//! a port nor another EPMD port than the default, so this module does, before the crate proves the
//! cookie.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use beam::connect::owners::owners;
use beam::epmd::client as epmd;
use beam::name::NodeName;
use erl_dist::handshake::HandshakeError;
use erl_dist::term::{Atom, List, Term};

use erl_rpc::{CallError, ConnectError, RpcClient, RpcClientHandle};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::cli::support::exit::Exit;
use crate::config::{self, Environment, Flags, Places};
use crate::limits;
use crate::wire::{OwnScope, OwnView};

/// Why a node has not answered.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("no cookie found; set HECATE_ERLANG_COOKIE, or run this as the owner of the ~/.erlang.cookie")]
    NoCookie,
    #[error("host_unresolved: the host {0} has no address ({1}); add it to /etc/hosts or DNS")]
    Unresolved(String, std::io::Error),
    #[error(transparent)]
    Epmd(#[from] epmd::Error),
    #[error("not_registered: {1} is not registered in the EPMD of {0}; start it")]
    NotRegistered(String, String),
    #[error(
        "foreign_owner: the port at {0} belongs to {uid}, who is not allowed to receive a proof of the cookie; if that \
         user belongs to this cluster, add it to HECATE_ALLOWED_UIDS",
        uid = .1.map_or("an unknown user".to_owned(), |uid| format!("uid {uid}"))
    )]
    ForeignOwner(SocketAddr, Option<u32>),
    #[error(
        "tcp_refused: {0}, the address of the node in EPMD, does not accept connections ({1}); check that the node runs"
    )]
    Refused(SocketAddr, std::io::Error),
    #[error(
        "{0} closed the connection during the handshake: probably it has another cookie than this command, whose cookie \
         has the hash {1}, or it does not accept this connection; set HECATE_ERLANG_COOKIE to the cookie of the node"
    )]
    Closed(NodeName, String),
    #[error("cannot connect to {0} ({1}); run `hecate-daemon diagnose {0}` to see why")]
    Unconnected(NodeName, String),
    #[error(
        "{0} did not answer within {max} s; run `hecate-daemon diagnose {0}` to see why",
        max = limits::INDEPENDENT_TIME.as_secs()
    )]
    Silent(NodeName),
}

impl Error {
    pub(in crate::cli) fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::NoCookie => Exit::Usage,
            _ => Exit::Refused,
        }
    }
}

/// Connects to a node with the given settings, and calls it.
pub(in crate::cli) async fn ask(node: &NodeName, flags: &Flags) -> Result<OwnView, Error> {
    let environment = Environment::of_process();
    let places = Places::find(flags, &environment)?;
    let asked = timeout(limits::INDEPENDENT_TIME, connect_and_ask(node, &places));
    asked.await.unwrap_or_else(|_| Err(Error::Silent(node.clone())))
}

async fn connect_and_ask(node: &NodeName, places: &Places<'_>) -> Result<OwnView, Error> {
    let cookie = places.existing_cookie()?.ok_or(Error::NoCookie)?;
    let scopes = places.pg_scopes()?;
    let port = find(node, places).await?;
    let unconnected = |error: String| Error::Unconnected(node.clone(), error);
    let client = RpcClient::connect_with_port(node.as_str(), port, cookie.secret());
    let client = client.await.map_err(|error| match error {
        ConnectError::HandshakeError(HandshakeError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
            Error::Closed(node.clone(), cookie.hash())
        }
        error => unconnected(error.to_string()),
    })?;
    let own_name = client.local_node().name.name().to_owned();
    let mut handle = client.handle();
    // The task ends with this process at the latest. Waiting calls return its errors.
    let running = tokio::spawn(client.run());

    let release = call(&mut handle, "erlang", "system_info", vec![atom("otp_release")]).await;
    // Terminated: the node has closed the connection, or sent a message that the crate does not
    // know.
    if let Err(error @ (CallError::Terminated | CallError::Full)) = release {
        return Err(unconnected(error.to_string()));
    }
    let ticktime = call(&mut handle, "net_kernel", "get_net_ticktime", vec![]).await;
    let nodes = match call(&mut handle, "erlang", "nodes", vec![atom("connected")]).await {
        // A hecate-daemon serves only this function.
        Err(CallError::ErrorResponse { .. }) => call(&mut handle, "erlang", "nodes", vec![]).await,
        answered => answered,
    };
    let mut own_scopes = Vec::new();
    for name in scopes {
        let whereis = call(&mut handle, "erlang", "whereis", vec![atom(&name)]).await;
        let runs = whereis.ok().map(|term| !matches!(term, Term::Atom(_)));
        own_scopes.push(OwnScope { name, runs });
    }
    handle.terminate();
    running.abort();
    Ok(OwnView {
        otp_release: release.ok().and_then(|term| text(&term)),
        net_ticktime: ticktime.ok().and_then(|term| integer(&term)),
        // Not measured: the crate sends each call in pieces, which adds up to 40 ms.
        round_trip_ms: None,
        nodes: nodes.ok().and_then(|term| others(&term, &own_name)),
        scopes: own_scopes,
    })
}

/// Returns the port of a node. On this host, it must belong to an allowed user.
async fn find(node: &NodeName, places: &Places<'_>) -> Result<u16, Error> {
    let unresolved = |error| Error::Unresolved(node.host().to_owned(), error);
    let found = lookup_host((node.host(), places.epmd_port()?)).await.map_err(unresolved)?;
    let allowed: Vec<u32> = places.allowed_uids()?.into_iter().chain([rustix::process::getuid().as_raw(), 0]).collect();
    let mut last = Error::NotRegistered(node.host().to_owned(), node.short_name().to_owned());
    let mut port = None;
    // The crate may connect to any of the addresses, so all are checked.
    for address in found.take(beam::limits::ADDRESSES) {
        match epmd::port(address, node.short_name()).await {
            Ok(Some(found)) => {
                check_owner(SocketAddr::new(address.ip(), found), &allowed).await?;
                port = Some(found);
            }
            Ok(None) => {}
            Err(error) => last = error.into(),
        }
    }
    port.ok_or(last)
}

/// Checks that a port of this host belongs to this user, root, or a user in `HECATE_ALLOWED_UIDS`.
/// An address belongs to this host if a process can listen there.
async fn check_owner(address: SocketAddr, allowed: &[u32]) -> Result<(), Error> {
    if TcpListener::bind((address.ip(), 0)).is_err() {
        return Ok(());
    }
    let owners = owners(address);
    match owners.iter().find(|uid| !allowed.contains(uid)) {
        Some(&uid) => Err(Error::ForeignOwner(address, Some(uid))),
        None if owners.is_empty() => match TcpStream::connect(address).await {
            Ok(_) => Err(Error::ForeignOwner(address, None)),
            Err(error) => Err(Error::Refused(address, error)),
        },
        None => Ok(()),
    }
}

async fn call(handle: &mut RpcClientHandle, module: &str, function: &str, args: Vec<Term>) -> Result<Term, CallError> {
    handle.call(Atom::from(module), Atom::from(function), List::from(args)).await
}

fn atom(name: &str) -> Term {
    Atom::from(name).into()
}

/// Returns a short string of bytes.
fn text(term: &Term) -> Option<String> {
    match term {
        Term::ByteList(bytes) => String::from_utf8(bytes.bytes.clone()).ok(),
        _ => None,
    }
}

fn integer(term: &Term) -> Option<u64> {
    match term {
        Term::FixInteger(integer) => u64::try_from(integer.value).ok(),
        _ => None,
    }
}

/// Returns the node names in a list, without the node of this process, whose short name is `own`.
fn others(term: &Term, own: &str) -> Option<Vec<String>> {
    let Term::List(list) = term else { return None };
    let name = |term: &Term| match term {
        Term::Atom(atom) => Some(atom.name.clone()),
        _ => None,
    };
    let mut names: Vec<String> = list.elements.iter().map(name).collect::<Option<_>>()?;
    names.retain(|name| NodeName::parse(name).map_or(true, |name| name.short_name() != own));
    names.sort();
    Some(names)
}
